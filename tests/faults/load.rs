//! Clients: small pages at a steady rate, each sent again with its key until it is accepted, and one who watches all events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::common::pages;
use super::evidence::{Answer, Event};

/// Five uploads a second.
const EVERY: Duration = Duration::from_millis(200);
/// One page in so many keeps its slot for three seconds, so that a fault finds jobs that run.
const SLOW_EVERY: u32 = 10;
/// A client waits this long for an answer, then asks another node: impatience would only add to the load of a slow machine.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// An upload that is not accepted by then is given up, and the row fails.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Log {
    pub answers: Mutex<Vec<Answer>>,
    pub sent: Mutex<BTreeMap<u32, String>>,
    pub watched: Mutex<Vec<Event>>,
    /// Jobs of pages that keep their slot.
    pub slow: Mutex<Vec<String>>,
}

/// The clients of one run.
pub struct Load {
    pub log: Arc<Log>,
    addresses: Arc<Vec<String>>,
    next: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    client: reqwest::Client,
    uploads: tokio::task::JoinHandle<Vec<u32>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Load {
    pub fn start(addresses: Vec<String>) -> Self {
        let log = Arc::new(Log::default());
        let addresses = Arc::new(addresses);
        // A connection for each request: one that a dead node leaves behind says nothing about the next.
        let client = reqwest::Client::builder().timeout(ANSWER_MAX).pool_max_idle_per_host(0).build().unwrap();
        let (next, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let watcher = tokio::spawn(watch(addresses.clone(), log.clone()));
        let clients = (log.clone(), addresses.clone(), next.clone(), stop.clone(), client.clone());
        let uploads = tokio::spawn(async move {
            let (log, addresses, next, stop, client) = clients;
            let mut tasks = tokio::task::JoinSet::new();
            let mut ticks = tokio::time::interval(EVERY);
            while !stop.load(Ordering::SeqCst) {
                ticks.tick().await;
                let number = next.fetch_add(1, Ordering::SeqCst);
                let slow = number.is_multiple_of(SLOW_EVERY);
                tasks.spawn(upload(number, slow, client.clone(), addresses.clone(), log.clone()));
            }
            tasks.join_all().await.into_iter().flatten().collect()
        });
        Self { log, addresses, next, stop, client, uploads, watcher }
    }

    /// A page that keeps its slot for three seconds, beside the steady ones; accepted when this returns.
    pub async fn slow_page(&self) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let done = upload(number, true, self.client.clone(), self.addresses.clone(), self.log.clone());
        assert_eq!(done.await, None, "an upload was never accepted");
    }

    /// No further uploads; waits until all are accepted.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let given_up = (&mut self.uploads).await.unwrap();
        assert_eq!(given_up, Vec::<u32>::new(), "uploads were never accepted");
    }

    /// Tries that were not accepted.
    pub fn tried_again(&self) -> usize {
        self.log.answers.lock().unwrap().iter().filter(|answer| answer.status != Some(202)).count()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.uploads.abort();
        self.watcher.abort();
    }
}

/// A page unlike all others.
fn page(number: u32, slow: bool) -> Vec<u8> {
    if slow {
        pages::png_with_text("inkpool-fault", &format!("slow {number}"), number)
    } else {
        pages::png_with_text("page", &number.to_string(), number)
    }
}

/// Sends one page until it is accepted; its number if it never is.
async fn upload(
    number: u32,
    slow: bool,
    client: reqwest::Client,
    addresses: Arc<Vec<String>>,
    log: Arc<Log>,
) -> Option<u32> {
    let bytes = page(number, slow);
    log.sent.lock().unwrap().insert(number, hex::encode(Sha256::digest(&bytes)));
    // A document now and then: the network costs more than the rest together.
    let preset = if number % 20 == 1 { "document" } else { "photo" };
    let began = Instant::now();
    for attempt in 0.. {
        let node = (number as usize + attempt) % addresses.len();
        let url = format!("http://{}/api/v1/images?preset={preset}&filename=page.png", addresses[node]);
        let request = client.post(url).header("Idempotency-Key", format!("upload-{number}")).body(bytes.clone());
        let (status, wait, body) = match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                // An answer that breaks off is none.
                match answer.json::<Value>().await {
                    Ok(body) => (Some(status), after.unwrap_or(1u64), body),
                    Err(_) => (None, 1, Value::Null),
                }
            }
            Err(_) => (None, 1, Value::Null),
        };
        let job = body["items"][0]["job"]["id"].as_str().map(str::to_owned);
        let accepted = status == Some(202);
        if accepted && slow {
            log.slow.lock().unwrap().extend(job.clone());
        }
        log.answers.lock().unwrap().push(Answer { upload: number, node, status, job });
        if accepted {
            return None;
        }
        if began.elapsed() > ACCEPTED_WITHIN {
            return Some(number);
        }
        // More patient with each try, as a client should be: what was refused is not sent again all at once.
        let patience = 1u64 << attempt.min(4);
        tokio::time::sleep(Duration::from_millis(wait.max(patience).min(16) * (750 + u64::from(number % 10) * 50)))
            .await;
    }
    None
}

/// Reads all events from the first on; after a break it goes on with the next node where it was.
async fn watch(addresses: Arc<Vec<String>>, log: Arc<Log>) {
    let client = reqwest::Client::builder().read_timeout(Duration::from_secs(20)).build().unwrap();
    let mut last = 0;
    for attempt in 0.. {
        let url = format!("http://{}/api/v1/events", addresses[attempt % addresses.len()]);
        if let Ok(mut answer) = client.get(url).header("Last-Event-ID", last.to_string()).send().await {
            let mut text = Vec::new();
            while let Ok(Some(bytes)) = answer.chunk().await {
                text.extend_from_slice(&bytes);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let message: Vec<u8> = text.drain(..end + 2).collect();
                    if let Some(event) = parse(&String::from_utf8_lossy(&message)) {
                        last = event.seq;
                        log.watched.lock().unwrap().push(event);
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn parse(message: &str) -> Option<Event> {
    let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let seq = field("id:")?.parse().ok()?;
    let body: Value = serde_json::from_str(field("data:")?).ok()?;
    Some(event(String::new(), seq, &body, 0))
}

/// From the job object that an event carries.
pub fn event(owner: String, seq: i64, body: &Value, at_ms: i64) -> Event {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let attempt = u32::try_from(body["attempt"].as_u64().unwrap_or(0)).unwrap();
    let node = body["node"].as_str().map(str::to_owned);
    Event { owner, seq, job: text("id"), state: text("state"), attempt, node, at_ms }
}
