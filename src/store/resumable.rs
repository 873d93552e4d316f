//! Uploads that come in pieces, perhaps over days and through several nodes: a port of its own beside the ledger.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::LedgerResult;
use super::quotas::{Quota, QuotaReached};
use crate::job::{Lane, OwnerId, UploadId};
use crate::pipeline::spec::Overrides;

/// An upload that is to come.
#[derive(Debug, Clone)]
pub struct NewResumable {
    /// Chosen by the caller.
    pub id: UploadId,
    /// Whose.
    pub owner: OwnerId,
    /// Sanitised.
    pub filename: String,
    /// What the client said of it, as it came.
    pub metadata: String,
    /// As asked.
    pub preset: String,
    /// As asked.
    pub set: Overrides,
    /// As asked.
    pub lane: Option<Lane>,
    /// Exact length, bytes; at least 1.
    pub size_bytes: u64,
    /// The key under which it is accepted when it is whole; one upload of an owner has it.
    pub key: String,
    /// Kept this long from now on.
    pub lasts: Duration,
}

/// The same, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumableUpload {
    /// Key.
    pub id: UploadId,
    /// Whose.
    pub owner: OwnerId,
    /// Sanitised.
    pub filename: String,
    /// What the client said of it, as it came.
    pub metadata: String,
    /// As asked.
    pub preset: String,
    /// As asked.
    pub set: Overrides,
    /// As asked.
    pub lane: Option<Lane>,
    /// Exact length, bytes.
    pub size_bytes: u64,
    /// Acknowledged so far, bytes; all of them only after an image was made of it.
    pub offset_bytes: u64,
    /// Objects that hold these.
    pub pieces_count: u64,
    /// The key under which it is accepted.
    pub key: String,
    /// From then on it is not there any more.
    pub expires_at_ms: i64,
}

impl ResumableUpload {
    /// Whether an image was made of it.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.offset_bytes == self.size_bytes
    }
}

/// How many uploads may be unfinished.
#[derive(Debug, Clone, Copy)]
pub struct ResumableBounds {
    /// Of all owners.
    pub open_max: u64,
    /// Of one.
    pub owner_open_max: u64,
    /// Lengths of those of one owner together, bytes.
    pub owner_bytes_max: u64,
    /// What an owner may store, with what is on its way; `None`: nobody has bounds.
    pub quota: Option<Quota>,
}

/// What became of a beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Committed.
    Created(ResumableUpload),
    /// The owner began one with this key before; nothing was written.
    There(ResumableUpload),
    /// The owner has used up a bound of theirs; nothing was written.
    QuotaReached(QuotaReached),
    /// There are enough; nothing was written.
    TooMany {
        /// What there is enough of: `uploads` or `bytes`.
        unit: &'static str,
        /// The bound.
        limit: u64,
        /// Without the new one.
        measured: u64,
        /// When the first of them expires, if there is one.
        room_at_ms: i64,
    },
}

/// What became of an attempt to add to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nobody else may add to it for now.
    Yes(ResumableUpload),
    /// Somebody else does, at least until then unless they say that they are done.
    Busy {
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// There is no such upload.
    Gone,
}

/// Bytes of an upload that lie in the object store as one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Names the object; fresh for each try, so that no try meets the object of an earlier one.
    pub id: Uuid,
    /// Where it begins in the upload, bytes.
    pub start_bytes: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
}

/// Uploads that come in pieces. A request that adds to one holds it, and says so again with every piece; whoever is silent
/// for a lease, or has died, loses it, and what it says later changes nothing.
#[async_trait]
pub trait Resumables: Send + Sync + 'static {
    /// Writes an upload of which no byte is there yet.
    async fn begin_resumable(&self, new: NewResumable, bounds: ResumableBounds) -> LedgerResult<Begun>;
    /// One of them, until it expires.
    async fn resumable(&self, owner: OwnerId, id: UploadId) -> LedgerResult<Option<ResumableUpload>>;
    /// Makes `holder` the one that adds to it, if nobody is.
    async fn hold_resumable(&self, owner: OwnerId, id: UploadId, holder: Uuid, lease: Duration) -> LedgerResult<Held>;
    /// Acknowledges pieces that follow each other and what is there, and starts the lease anew; with no piece that alone.
    /// False when `holder` does not hold it any more, or they do not follow: nothing was written.
    async fn extend_resumable(
        &self,
        id: UploadId,
        holder: Uuid,
        pieces: Vec<Piece>,
        lease: Duration,
    ) -> LedgerResult<bool>;
    /// Gives it back.
    async fn release_resumable(&self, id: UploadId, holder: Uuid) -> LedgerResult<()>;
    /// Gives all back: only where no other node has any.
    async fn release_resumables(&self) -> LedgerResult<()>;
    /// What is acknowledged, in order.
    async fn pieces(&self, id: UploadId) -> LedgerResult<Vec<Piece>>;
    /// An image was made of it: its pieces are not needed any more.
    async fn finish_resumable(&self, id: UploadId) -> LedgerResult<()>;
    /// Whether its pieces are needed, whoever's it is.
    async fn resumable_open(&self, id: UploadId) -> LedgerResult<bool>;
    /// Those that expired before this time, at most `limit`, the oldest first.
    async fn expired_resumables(&self, before_ms: i64, limit: u32) -> LedgerResult<Vec<UploadId>>;
    /// Drops these rows.
    async fn forget_resumables(&self, ids: &[UploadId]) -> LedgerResult<()>;
}
