//! Server-sent events: live, replayed, without gap and without repetition.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::BoxStream;
use inkpool::cluster::Progress;
use inkpool::job::{JobId, OwnerId};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<i64>,
    name: String,
    data: Value,
}

impl Event {
    fn is(&self, job: JobId, state: &str) -> bool {
        self.name == "job" && self.data["id"] == json!(job) && self.data["state"] == state
    }
}

/// The client's end of a stream.
struct Events {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
    is_greeted: bool,
    ready: VecDeque<Event>,
}

impl Events {
    async fn open(server: &Server, path: &str, last_event_id: Option<i64>) -> Self {
        let mut request = server.client.get(server.url(path));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes = response.bytes_stream().boxed();
        let mut events = Self { bytes, text: String::new(), is_greeted: false, ready: VecDeque::new() };
        while !events.is_greeted {
            assert!(events.read().await, "no greeting");
        }
        events
    }

    /// Takes in what comes next; false at the end.
    async fn read(&mut self) -> bool {
        let Some(Ok(bytes)) = tokio::time::timeout(PATIENCE, self.bytes.next()).await.expect("no event") else {
            return false;
        };
        self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some((event, rest)) = self.text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            self.is_greeted |= field(":") == Some("connected");
            if let Some(data) = field("data:") {
                self.ready.push_back(Event {
                    id: field("id:").map(|id| id.parse().unwrap()),
                    name: field("event:").unwrap().to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
            }
            self.text = rest.to_owned();
        }
        true
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            assert!(self.read().await, "the stream ended");
        }
    }
}

#[tokio::test]
async fn what_happens_is_told() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "/api/v1/events", None).await;
    let (_, job) = server.upload().await;
    server.succeed(job, "clean.png", b"clean").await;
    let mut states = Vec::new();
    let mut ids = Vec::new();
    while states.last() != Some(&json!("succeeded")) {
        let event = events.next().await;
        assert_eq!((event.name.as_str(), &event.data["id"]), ("job", &json!(job)));
        ids.push(event.id.unwrap());
        states.push(event.data["state"].clone());
    }
    assert_eq!(states[0], "queued");
    assert!(states.contains(&json!("running")));
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(server.get(&format!("/api/v1/jobs/{job}")).await.json["state"], "succeeded");
}

#[tokio::test]
async fn what_was_missed_is_replayed() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "/api/v1/events", None).await;
    let (_, first) = server.upload().await;
    let seen = events.next().await;
    assert!(seen.is(first, "queued"));
    drop(events);
    let (_, second) = server.upload().await;
    server.post(&format!("/api/v1/jobs/{first}/cancel"), "").await;
    let mut by_header = Events::open(&server, "/api/v1/events", seen.id).await;
    let query = format!("/api/v1/events?last_event_id={}", seen.id.unwrap());
    let mut by_query = Events::open(&server, &query, None).await;
    for events in [&mut by_header, &mut by_query] {
        assert!(events.next().await.is(second, "queued"));
        assert!(events.next().await.is(first, "cancelled"));
    }
    // Without a number only what comes now is told.
    let mut live = Events::open(&server, "/api/v1/events", None).await;
    server.post(&format!("/api/v1/jobs/{second}/cancel"), "").await;
    assert!(live.next().await.is(second, "cancelled"));
    assert!(by_header.next().await.is(second, "cancelled"));
    let wrong = server.client.get(server.url("/api/v1/events")).header("last-event-id", "x").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_between_replay_and_live() {
    let server = Server::start().await;
    const JOBS: usize = 40;
    let uploads = async {
        for _ in 0..JOBS {
            server.upload().await;
        }
    };
    let streams = async {
        let mut streams = Vec::new();
        for _ in 0..JOBS {
            streams.push(Events::open(&server, "/api/v1/events", Some(0)).await);
        }
        streams
    };
    let ((), streams) = tokio::join!(uploads, streams);
    let rows = server.ledger.events_after(OwnerId::LOCAL, None, 0, 1000).await.unwrap();
    let committed: Vec<_> = rows.iter().map(|row| row.seq).collect();
    assert!(committed.len() >= JOBS);
    for mut events in streams {
        let mut told = Vec::new();
        while told.len() < committed.len() {
            told.push(events.next().await.id.unwrap());
        }
        assert_eq!(told, committed);
    }
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "/api/v1/events", Some(0)).await;
    let (_, job) = server.upload().await;
    // Far more than the buffers between ledger and client hold.
    for _ in 0..1500 {
        server.ledger.cancel(OwnerId::LOCAL, job).await.unwrap();
        let limits = inkpool::store::QueueLimits {
            queue_jobs_max: 10,
            bulk_from_jobs: 10,
            attempts_max: 5,
            crashes_max: 3,
            quota: None,
        };
        server.ledger.retry(OwnerId::LOCAL, job, limits).await.unwrap();
    }
    let rows = server.ledger.events_after(OwnerId::LOCAL, None, 0, 10_000).await.unwrap();
    for row in rows {
        assert_eq!(events.next().await.id, Some(row.seq));
    }
}

#[tokio::test]
async fn one_job_is_told_from_its_beginning() {
    let server = Server::start().await;
    let (_, job) = server.upload().await;
    let (_, other) = server.upload().await;
    let mut events = Events::open(&server, &format!("/api/v1/jobs/{job}/events"), None).await;
    assert!(events.next().await.is(job, "queued"));
    server.post(&format!("/api/v1/jobs/{other}/cancel"), "").await;
    server.post(&format!("/api/v1/jobs/{job}/cancel"), "").await;
    assert!(events.next().await.is(job, "cancelled"));
}

#[tokio::test]
async fn progress_is_told_to_its_owner_only() {
    let server = Server::start().await;
    let (_, job) = server.upload().await;
    let mut events = Events::open(&server, "/api/v1/events", None).await;
    let progress = |owner, progress| Progress { owner, job, stage: "denoise".to_owned(), progress };
    server.actors.progress.send(progress(OwnerId::fresh(), 0.25)).unwrap();
    server.actors.progress.send(progress(OwnerId::LOCAL, 0.5)).unwrap();
    let event = events.next().await;
    assert_eq!((event.id, event.name.as_str()), (None, "progress"));
    assert_eq!(event.data, json!({"job": job, "stage": "denoise", "progress": 0.5}));
}

#[tokio::test]
async fn streams_at_once_are_bounded() {
    let server = Server::start_with(|config| config.http.event_streams_max = 1).await;
    let first = Events::open(&server, "/api/v1/events", None).await;
    server.get("/api/v1/events").await.assert_problem(503, "overloaded");
    drop(first);
    let place = async {
        while server.client.get(server.url("/api/v1/events")).send().await.unwrap().status() != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, place).await.expect("the place of a client that left stays taken");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_server() {
    let mut server = Server::start().await;
    let mut events = Events::open(&server, "/api/v1/events", None).await;
    server.shutdown.cancel();
    while events.read().await {}
    tokio::time::timeout(PATIENCE, &mut server.serving).await.expect("the server does not end").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}
