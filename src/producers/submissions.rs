//! Takes images that programs outside have put into the object store.
//!
//! 1. A message is acknowledged after its image is committed and its answer is out; what is killed in between comes again, and is
//!    the same image.
//! 2. What is wrong with a message is answered by `rejected`, and that is the end of it.
//! 3. What is wrong on this side is tried again later, `deliveries_max` times in all; then the message becomes a dead letter.
//! 4. A full queue or disk is no failure: the message waits here, and nothing else is pulled.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Parts;
use super::events::{KEY_HEADER, OBJECT_HEADER};
use crate::bus::BusError;
use crate::bus::public::{Incoming, Outgoing};
use crate::http::{Problem, Taken, known_by, submit};
use crate::job::DeadLetterId;
use crate::store::producers::NewDeadLetter;

/// A pull waits this long for a first message; it bounds how long a stop waits for it.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// Wait after a pull that failed, and between looks whether there is room again.
const PAUSE: Duration = Duration::from_secs(1);
/// Dead letters past their time are looked for this often.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Codes of problems that pass when there is room again.
const NO_ROOM: [&str; 3] = ["queue_full", "storage_full", "overloaded"];

/// Takes submissions until it is told to stop.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(parts.config.producers.submissions_at_once));
    let tasks = TaskTracker::new();
    let mut failing = false;
    let mut prune = tokio::time::interval(PRUNE_EVERY);
    while !stop.is_cancelled() {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            _ = prune.tick() => {
                bury_no_longer(&parts).await;
                continue;
            }
            place = places.clone().acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let pulled = tokio::select! {
            () = stop.cancelled() => break,
            pulled = parts.bus.pull(PULL_WAIT) => pulled,
        };
        match pulled {
            Ok(Some(incoming)) => {
                failing = false;
                let (parts, stop) = (parts.clone(), stop.clone());
                tasks.spawn(async move {
                    handle(&parts, incoming, &stop).await;
                    drop(place);
                });
            }
            Ok(None) => failing = false,
            Err(error) => {
                // Said once: while the bus is away every pull fails.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "submissions cannot be pulled");
                }
                let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn bury_no_longer(parts: &Parts) {
    let keep = Duration::from_secs(parts.config.producers.dead_letters_keep_h * 3600);
    if let Err(error) = parts.ledger.prune_dead_letters(keep).await {
        tracing::warn!(%error, "old dead letters could not be removed");
    }
}

async fn handle(parts: &Parts, incoming: Incoming, stop: &CancellationToken) {
    let every = Duration::from_secs(parts.config.bus.in_progress_every_s);
    let mut work = std::pin::pin!(work(parts, &incoming, stop));
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            () = tokio::time::sleep(every) => {
                if let Err(error) = incoming.delivery.acker.in_progress().await {
                    tracing::debug!(%error, "a submission could not be said to be in progress");
                }
            }
        }
    };
    if let Err(error) = ended {
        // It is delivered again after the ack wait.
        tracing::debug!(%error, "the end of a submission could not be told");
    }
}

async fn work(parts: &Parts, incoming: &Incoming, stop: &CancellationToken) -> Result<(), BusError> {
    let deliveries_max = parts.config.producers.deliveries_max;
    if incoming.delivery.deliveries > deliveries_max {
        // Whoever tried it has not lived to tell.
        return bury(parts, incoming, &Problem::internal(&"a submission was delivered again and again")).await;
    }
    let problem = loop {
        match submit(&parts.door, owner(incoming), &incoming.delivery.payload).await {
            Ok(taken) => return accepted(parts, incoming, taken).await,
            Err(problem) if problem.status < 500 => return rejected(parts, incoming, problem).await,
            Err(problem) if !NO_ROOM.contains(&problem.code.as_str()) => break problem,
            Err(_) => {
                let wait = tokio::time::timeout(PAUSE, stop.cancelled());
                if wait.await.is_ok() {
                    return incoming.delivery.acker.nak(Duration::ZERO).await;
                }
            }
        }
    };
    count("failed");
    let deliveries = incoming.delivery.deliveries;
    tracing::warn!(subject = incoming.subject, deliveries, problem = problem.code, "a submission failed");
    if deliveries >= deliveries_max {
        return bury(parts, incoming, &problem).await;
    }
    incoming.delivery.acker.nak(again_after(parts, deliveries)).await
}

/// Doubled from delivery to delivery, up to the bound.
fn again_after(parts: &Parts, deliveries: u64) -> Duration {
    let settings = &parts.config.producers;
    let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait_s = settings.retry_wait_s.saturating_mul(2u64.saturating_pow(doublings));
    Duration::from_secs(wait_s.min(settings.retry_wait_max_s))
}

async fn bury(parts: &Parts, incoming: &Incoming, problem: &Problem) -> Result<(), BusError> {
    let settings = &parts.config.producers;
    let letter = NewDeadLetter {
        id: DeadLetterId(named(incoming)),
        subject: incoming.subject.clone(),
        payload: String::from_utf8_lossy(&incoming.delivery.payload).into_owned(),
        deliveries: incoming.delivery.deliveries,
        problem: serde_json::to_value(problem).unwrap_or_default(),
    };
    match parts.ledger.bury(letter, settings.dead_letters_max).await {
        Ok(true) => {
            count("dead");
            tracing::error!(subject = incoming.subject, problem = problem.code, "a submission is a dead letter now");
            crate::fault::hit("submission-buried");
            incoming.delivery.acker.term().await
        }
        // It stays on the stream: nothing is thrown away to make room.
        full_or_away => {
            if let Err(error) = full_or_away {
                tracing::warn!(%error, "a dead letter could not be written");
            }
            incoming.delivery.acker.nak(Duration::from_secs(settings.retry_wait_max_s)).await
        }
    }
}

async fn accepted(parts: &Parts, incoming: &Incoming, taken: Taken) -> Result<(), BusError> {
    count("accepted");
    crate::fault::hit("submission-committed");
    // The first answer is an event of the ledger, with a number; it was written with the image.
    if !taken.is_new {
        let job = taken.item.job.unwrap_or_default();
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        answer(parts, incoming, &id, "accepted", &job).await?;
    }
    crate::fault::hit("submission-answered");
    incoming.delivery.acker.ack().await
}

async fn rejected(parts: &Parts, incoming: &Incoming, problem: Problem) -> Result<(), BusError> {
    count("rejected");
    problem.count();
    tracing::info!(subject = incoming.subject, problem = problem.code, "a submission was rejected");
    let body = serde_json::to_value(problem).unwrap_or_default();
    answer(parts, incoming, &named(incoming).to_string(), "rejected", &body).await?;
    incoming.delivery.acker.ack().await
}

async fn answer(
    parts: &Parts,
    incoming: &Incoming,
    job: &str,
    kind: &str,
    body: &serde_json::Value,
) -> Result<(), BusError> {
    let mut headers = Vec::new();
    if let Some(known) = known_by(&incoming.delivery.payload) {
        headers.push((OBJECT_HEADER, known.object_key));
        headers.extend(known.idempotency_key.map(|key| (KEY_HEADER, key)));
    }
    let message = Outgoing {
        subject: format!("inkpool.events.{}.{job}.{kind}", owner(incoming)),
        id: Some(format!("{}:{kind}", incoming.id)),
        headers,
        body: body.to_string().into(),
    };
    match parts.bus.publish(message).await {
        // A name that no subject can hold, or too long a header: there is nobody to tell.
        Err(BusError::Unfit(why)) => {
            tracing::warn!(why, "an answer cannot be published");
            Ok(())
        }
        published => published.map(drop),
    }
}

fn owner(incoming: &Incoming) -> &str {
    incoming.subject.rsplit('.').next().unwrap_or_default()
}

/// An id for what has none: the same for each delivery of a message.
fn named(incoming: &Incoming) -> Uuid {
    let digest = Sha256::digest(format!("{} {}", incoming.id, incoming.subject));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn count(outcome: &'static str) {
    metrics::counter!("inkpool_submissions_total", "outcome" => outcome).increment(1);
}
