//! The bus as other programs see it: events go out, submissions come in. A port beside that of jobs; only a bus that others can reach has it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BusError, Delivery};

/// How much of it is kept.
#[derive(Debug, Clone, Copy)]
pub struct PublicSettings {
    /// Events older than this go.
    pub events_keep: Duration,
    /// The oldest events beyond this number go.
    pub events_max: usize,
    /// Submissions that may wait.
    pub submissions_max: usize,
}

impl Default for PublicSettings {
    fn default() -> Self {
        Self { events_keep: Duration::from_secs(72 * 3600), events_max: 1_000_000, submissions_max: 100_000 }
    }
}

/// A message to programs outside.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub subject: String,
    /// Stored once within the duplicate window; `None` for what may come twice.
    pub id: Option<String>,
    /// What is no part of the body.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
}

/// What a publish gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream.
    pub sequence: u64,
    /// It was there already.
    pub duplicate: bool,
}

/// The stream of events as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStream {
    /// Tells one making from another.
    pub made: String,
    /// The last number that was given.
    pub last: u64,
}

/// A submission.
#[derive(Debug)]
pub struct Incoming {
    /// Where it was published.
    pub subject: String,
    /// The same for each delivery of one message, and no other.
    pub id: String,
    /// The message; each is delivered until somebody ends it.
    pub delivery: Delivery,
}

/// Events to programs outside, and what they submit.
#[async_trait]
pub trait PublicBus: Send + Sync + 'static {
    /// Stores a message; returns once it is stored. [`BusError::Unfit`] for one that can never be.
    async fn publish(&self, message: Outgoing) -> Result<Stored, BusError>;
    /// The stream of events, made or set right if need be.
    async fn event_stream(&self) -> Result<EventStream, BusError>;
    /// The next submission; waits at most `wait` for it.
    async fn pull(&self, wait: Duration) -> Result<Option<Incoming>, BusError>;
    /// Changes whenever what is known of the streams may have become wrong.
    fn generation(&self) -> u64;
}
