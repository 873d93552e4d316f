//! What stands outside: a reader of the stream of events, and Python with the schemas.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use serde_json::{Value, json};

use crate::common::nats::Nats;
use crate::common::server::PATIENCE;

/// One message of the stream of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub owner: String,
    pub job: String,
    pub kind: String,
    /// The number among the events of its owner.
    pub number: Option<i64>,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Told {
    fn of(message: &jetstream::message::StreamMessage) -> Self {
        let parts: Vec<_> = message.subject.split('.').collect();
        let ["inkpool", "events", owner, job, kind] = parts[..] else { panic!("{}", message.subject) };
        let mut headers: Vec<_> = message
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
            .collect();
        headers.sort();
        let number = headers.iter().find(|(name, _)| name == "Inkpool-Event").map(|(_, value)| value.parse().unwrap());
        let body = serde_json::from_slice(&message.payload).unwrap();
        Self { owner: owner.to_owned(), job: job.to_owned(), kind: kind.to_owned(), number, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Everything that the stream holds; nothing while it cannot be asked.
pub async fn told(nats: &Nats) -> Vec<Told> {
    let Ok(client) = async_nats::connect(nats.url()).await else { return Vec::new() };
    let Ok(stream) = jetstream::new(client).get_stream("INKPOOL_EVENTS").await else { return Vec::new() };
    let state = &stream.cached_info().state;
    let mut found = Vec::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        found.push(Told::of(&stream.get_raw_message(sequence).await.unwrap()));
    }
    found
}

/// Waits until what the stream holds is enough.
pub async fn until_told(nats: &Nats, what: &str, enough: impl Fn(&[Told]) -> bool) -> Vec<Told> {
    let began = Instant::now();
    loop {
        let told = told(nats).await;
        if enough(&told) {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "never told: {what}; but {told:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kinds of one job in their order, progress left out: it comes when it comes.
pub fn kinds(told: &[Told], job: &str) -> Vec<String> {
    let of_job = told.iter().filter(|told| told.job == job && told.kind != "progress");
    of_job.map(|told| told.kind.clone()).collect()
}

/// As `scripts/test` installed it, or as `INKPOOL_TEST_PYTHON` says.
#[expect(clippy::disallowed_methods, reason = "a test's own setting, not one of the program")]
pub fn python() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/python");
    std::env::var_os("INKPOOL_TEST_PYTHON").map_or_else(installed, PathBuf::from)
}

/// Holds documents against the schemas of `docs/events`, by a validator that is not ours; what it says.
pub fn against_schemas(documents: impl IntoIterator<Item = (&'static str, Value)>) -> Result<usize, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/producers/schemas.py");
    let mut command = Command::new(python());
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut count = 0;
    for (schema, document) in documents {
        writeln!(input, "{}", json!([schema, document])).unwrap();
        count += 1;
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(count) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The schema of a message.
pub fn schema_of(told: &Told) -> (&'static str, Value) {
    (if told.kind == "rejected" { "rejected" } else { "job" }, told.body.clone())
}
