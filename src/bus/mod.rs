//! The bus: a work queue per lane with the semantics of a JetStream durable pull consumer. A port.

pub mod embedded;
pub mod jetstream;
pub mod public;

#[cfg(test)]
mod suite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::job::Lane;

/// What can go wrong on the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The stream holds as many messages as it may.
    #[error("the bus holds {limit} messages, its bound")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// The bus is shut down or cannot be reached.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The bus is there, but not as it must be: too old, not ours to use, or set up otherwise. Somebody must look.
    #[error("the bus cannot be used: {0}")]
    Unfit(String),
    /// The delivery is no longer ours: it was acknowledged, or delivered again after the ack wait.
    #[error("the delivery is no longer held")]
    NotHeld,
}

/// Settings that both adapters honour.
#[derive(Debug, Clone, Copy)]
pub struct BusSettings {
    /// A delivery that is neither acknowledged nor in progress for this long is delivered again.
    pub ack_wait: Duration,
    /// A message id seen within this window is not stored a second time.
    pub duplicate_window: Duration,
    /// Messages a lane may hold, delivered ones included.
    pub messages_max: usize,
}

/// A work queue: every message is delivered until somebody acknowledges or terminates it.
#[async_trait]
pub trait JobBus: Send + Sync + 'static {
    /// Stores a message; returns once it is stored. A duplicate id within the window is stored once and answers `Ok`.
    async fn publish(&self, lane: Lane, message_id: &str, payload: Bytes) -> Result<(), BusError>;
    /// Up to `max` messages of a lane, oldest first; waits at most `wait` for the first. May be empty.
    async fn pull(&self, lane: Lane, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError>;
    /// What a lane holds.
    async fn depth(&self, lane: Lane) -> Result<Depth, BusError>;
    /// The payload of every message that a lane holds, delivered ones included: what the ledger is compared with.
    async fn messages(&self, lane: Lane) -> Result<Vec<Bytes>, BusError>;
    /// Whether other nodes use it too, and it outlives this process. What another node has released is then on it as well.
    fn is_shared(&self) -> bool;
    /// What programs outside see, where they can reach the bus.
    fn public(&self) -> Option<Arc<dyn public::PublicBus>> {
        None
    }
    /// Ends the bus; pulls return at once.
    async fn close(&self);
}

/// What a lane holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Not delivered now.
    pub pending: usize,
    /// Delivered, not acknowledged.
    pub in_flight: usize,
}

/// One delivery of one message.
pub struct Delivery {
    /// The message.
    pub payload: Bytes,
    /// 1 for the first delivery.
    pub deliveries: u64,
    /// Answers to the bus.
    pub acker: Box<dyn Acker>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("deliveries", &self.deliveries).finish_non_exhaustive()
    }
}

/// The answers to a delivery. Only the first of ack, nak and term counts.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Done: the message is removed.
    async fn ack(&self) -> Result<(), BusError>;
    /// Deliver again after `delay`.
    async fn nak(&self, delay: Duration) -> Result<(), BusError>;
    /// Still working: the ack wait starts anew.
    async fn in_progress(&self) -> Result<(), BusError>;
    /// Never deliver again.
    async fn term(&self) -> Result<(), BusError>;
}
