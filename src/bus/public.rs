//! The bus as other programs see it: events go out. A port beside that of jobs; only a bus that others can reach has it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::BusError;

/// How much of it is kept.
#[derive(Debug, Clone, Copy)]
pub struct PublicSettings {
    /// Events older than this go.
    pub events_keep: Duration,
    /// The oldest events beyond this number go.
    pub events_max: usize,
}

impl Default for PublicSettings {
    fn default() -> Self {
        Self { events_keep: Duration::from_secs(72 * 3600), events_max: 1_000_000 }
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

/// Events to programs outside.
#[async_trait]
pub trait PublicBus: Send + Sync + 'static {
    /// Stores a message; returns once it is stored. [`BusError::Unfit`] for one that can never be.
    async fn publish(&self, message: Outgoing) -> Result<Stored, BusError>;
    /// The stream of events, made or set right if need be.
    async fn event_stream(&self) -> Result<EventStream, BusError>;
    /// Changes whenever what is known of the streams may have become wrong.
    fn generation(&self) -> u64;
}
