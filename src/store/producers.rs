//! What programs outside are told over the bus, and what they sent that could not be worked on: a port of its own beside the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{EventRow, LedgerResult};
use crate::job::{DeadLetterId, OwnerId};

/// The stream of events as it was last seen: whether it still holds what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMark {
    /// Tells one making of the stream from another.
    pub made: String,
    /// Its last number.
    pub last: u64,
}

/// What the sender of an image knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Where it put the bytes.
    pub object_key: String,
    /// The key it gave, if any.
    pub idempotency_key: Option<String>,
}

/// An event that is not published yet.
#[derive(Debug, Clone)]
pub struct Unpublished {
    /// As owners see it.
    pub event: EventRow,
    /// Of an image that came over the bus.
    pub submitted: Option<Submitted>,
}

/// A submission that failed as often as it may.
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
    /// The same for each delivery of one message.
    pub id: DeadLetterId,
    /// Where it was published.
    pub subject: String,
    /// As it came.
    pub payload: String,
    /// How often it was tried.
    pub deliveries: u64,
    /// What went wrong the last time: a problem document.
    pub problem: serde_json::Value,
}

/// The same, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Key.
    pub id: DeadLetterId,
    /// Where it was published.
    pub subject: String,
    /// As it came.
    pub payload: String,
    /// How often it was tried.
    pub deliveries: u64,
    /// What went wrong the last time: a problem document.
    pub problem: serde_json::Value,
    /// When it was given up.
    pub created_at_ms: i64,
}

/// Events on their way to the bus, one node at a time, and submissions that found no way in.
#[async_trait]
pub trait Producers: Send + Sync + 'static {
    /// Makes this process the one that publishes, or keeps it so, until `lease` from now. `None` when another one is; else the
    /// stream as it was left, if anybody has published before.
    async fn lead_publishing(&self, process: Uuid, lease: Duration) -> LedgerResult<Option<Option<StreamMark>>>;
    /// Gives that back.
    async fn leave_publishing(&self, process: Uuid) -> LedgerResult<()>;
    /// About `limit` events that are not published, each owner's in their order and without a gap.
    async fn unpublished(&self, limit: u32) -> LedgerResult<Vec<Unpublished>>;
    /// Notes up to which number each owner's events are on the stream, and what that is now; the lease starts anew. False
    /// when another process publishes meanwhile.
    async fn published(
        &self,
        process: Uuid,
        lease: Duration,
        heads: BTreeMap<OwnerId, i64>,
        mark: StreamMark,
    ) -> LedgerResult<bool>;
    /// Nothing counts as published any more: the stream is another one now, or has lost its end.
    async fn publish_again(&self, process: Uuid, mark: StreamMark) -> LedgerResult<()>;

    /// Whether an account that is not disabled has this owner.
    async fn owner_known(&self, owner: OwnerId) -> LedgerResult<bool>;
    /// Keeps a submission; one with the same id is there once. False when there are `limit` already: nothing was written.
    async fn bury(&self, letter: NewDeadLetter, limit: u64) -> LedgerResult<bool>;
    /// Dead letters, newest first, from `before` on (exclusive).
    async fn dead_letters(&self, before: Option<DeadLetterId>, limit: u32) -> LedgerResult<Vec<DeadLetter>>;
    /// One of them.
    async fn dead_letter(&self, id: DeadLetterId) -> LedgerResult<Option<DeadLetter>>;
    /// Drops one; false when there is none.
    async fn unbury(&self, id: DeadLetterId) -> LedgerResult<bool>;
    /// Drops those that are older.
    async fn prune_dead_letters(&self, keep: Duration) -> LedgerResult<u64>;
}
