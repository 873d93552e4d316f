//! The ledger: what SQL says is true. A port; the adapters are in the files beside this one.

pub mod accounts;
mod inventory;
pub mod lock;
pub mod look;
mod model;
pub mod postgres;
pub mod producers;
pub mod quotas;
pub mod resumable;
mod sql;
pub mod sqlite;
#[cfg(test)]
pub(crate) mod suite;
pub mod webhooks;

pub use inventory::{Listed, Stored};
pub use model::*;
pub use quotas::{QueueFull, QueueLimits};
pub use sql::SqlLedger;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::job::{Crash, ImageId, JobError, JobId, Lane, OwnerId, State, UploadId};

/// What can go wrong with the ledger.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The database cannot be used at the moment.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The schema or a row is not what this program wrote.
    #[error("the ledger holds what this program cannot read: {0}")]
    Corrupt(String),
}

/// Short for results of the ledger.
pub type LedgerResult<T> = Result<T, LedgerError>;

/// The job ledger and the metadata of images. Every call that an owner can cause carries the owner; another owner's id
/// answers as if it did not exist. Every change of a job's state goes through [`crate::job::state::apply`]'s table, is one
/// transaction with its event row, and sends the event to [`Ledger::watch`] after the commit.
#[async_trait]
pub trait Ledger: producers::Producers + quotas::Quotas + resumable::Resumables + webhooks::Webhooks {
    // Submission.

    /// Writes images, jobs, outbox rows, events and the idempotency row of one request in one transaction.
    async fn accept(&self, submission: Submission) -> LedgerResult<Accepted>;
    /// What an earlier request with this key was answered, if any.
    async fn recall(&self, owner: OwnerId, key: &str) -> LedgerResult<Option<Recalled>>;
    /// A further job on an image that is there; `None` when it is not.
    async fn process_again(&self, job: NewJob, limits: QueueLimits) -> LedgerResult<Option<Admission>>;

    // Announced uploads.

    /// Writes what was announced by one owner, unless there were more than `limit` of all owners then, or more bytes than
    /// `quota` has room for: they are reserved until the upload is completed or expires.
    async fn announce(
        &self,
        uploads: Vec<AnnouncedUpload>,
        limit: u64,
        quota: Option<quotas::Quota>,
    ) -> LedgerResult<Announced>;
    /// One of them, until it is forgotten.
    async fn announced(&self, owner: OwnerId, id: UploadId) -> LedgerResult<Option<AnnouncedUpload>>;
    /// Whether there is such an upload, whoever's.
    async fn upload_known(&self, id: UploadId) -> LedgerResult<bool>;
    /// Those that expired before this time, at most `limit`, the oldest first.
    async fn expired_uploads(&self, before_ms: i64, limit: u32) -> LedgerResult<Vec<UploadId>>;
    /// Drops these rows.
    async fn forget_uploads(&self, ids: &[UploadId]) -> LedgerResult<()>;

    // Relay.

    /// Jobs that wait to be released (`run_at` passed), for fair release: per lane and owner the `per_owner` oldest.
    async fn waiting(&self, now_ms: i64, per_owner: u32, owners_max: u32) -> LedgerResult<Vec<Waiting>>;
    /// The earliest `run_at` in the future, if any.
    async fn next_due(&self, now_ms: i64) -> LedgerResult<Option<i64>>;
    /// `queued` → `released` by `node`, outbox row removed. False when the job had moved on.
    async fn release(&self, job: JobId, node: &str) -> LedgerResult<bool>;
    /// Jobs that are `released`, whoever did it, oldest first: at most `limit`. What a shared bus should hold, and perhaps
    /// does not.
    async fn released(&self, limit: u32) -> LedgerResult<Vec<Released>>;
    /// Every job that `node` has `released` goes back to `queued` with its outbox row: the bus within its process starts
    /// empty. Those of other nodes stay, and so do all where the bus is shared: then nobody calls this.
    async fn unrelease_all(&self, node: &str) -> LedgerResult<u64>;
    /// `released` → `queued`, outbox row written again.
    async fn unrelease(&self, job: JobId) -> LedgerResult<bool>;

    // Scheduler and slots.

    /// `released` (or `queued`, when the claim overtakes [`Ledger::release`]) → `running`: counts start and attempt and
    /// writes who holds it; removes the outbox row. `starts` is the number in the message and must be that of the row,
    /// so that a message of an earlier start claims nothing.
    async fn claim(&self, job: JobId, starts: u32, holder: Holder) -> LedgerResult<Claim>;
    /// Jobs that this incarnation holds as `running`, with their start.
    async fn held(&self, node: &str, incarnation: &str) -> LedgerResult<Vec<(JobId, u32)>>;
    /// Ends an attempt: compare-and-set on `(job, start)`. `Finished::Stale` leaves everything as it is.
    async fn finish(&self, job: JobId, start: u32, finish: Finish) -> LedgerResult<Finished>;
    /// The stage a running job is in, for those who look it up; never an event row.
    async fn note_progress(&self, job: JobId, start: u32, stage: &str, fraction: f32) -> LedgerResult<()>;
    /// Every `running` job that another incarnation of `node` holds is lost without blame, as after `kill -9`.
    async fn recover(&self, node: &str, incarnation: &str) -> LedgerResult<Vec<(JobId, State)>>;

    // Owners.

    /// One image.
    async fn image(&self, owner: OwnerId, id: ImageId) -> LedgerResult<Option<ImageRow>>;
    /// Images, newest first, from `before` on (exclusive).
    async fn images(&self, owner: OwnerId, before: Option<ImageId>, limit: u32) -> LedgerResult<Vec<ImageRow>>;
    /// Those that a filter lets through, newest first, from `before` on (exclusive).
    async fn find_images(
        &self,
        owner: OwnerId,
        filter: ImageFilter,
        before: Option<ImageId>,
        limit: u32,
    ) -> LedgerResult<Vec<ImageRow>>;
    /// Deletes image, jobs and files rows; queues their objects for removal; a running job is told to stop.
    async fn delete_image(&self, owner: OwnerId, id: ImageId) -> LedgerResult<Option<Deleted>>;
    /// One job.
    async fn job(&self, owner: OwnerId, id: JobId) -> LedgerResult<Option<JobRow>>;
    /// Jobs, newest first, from `before` on (exclusive).
    async fn jobs(
        &self,
        owner: OwnerId,
        filter: JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> LedgerResult<Vec<JobRow>>;
    /// Cancels, or marks a running job to be cancelled.
    async fn cancel(&self, owner: OwnerId, id: JobId) -> LedgerResult<Option<Cancelled>>;
    /// `failed` or `cancelled` → `queued` with a fresh budget.
    async fn retry(&self, owner: OwnerId, id: JobId, limits: QueueLimits) -> LedgerResult<Option<Retried>>;
    /// Files of an image: those of its last succeeded job, `original` not among them.
    async fn files(&self, owner: OwnerId, image: ImageId) -> LedgerResult<Vec<FileRow>>;

    // Events.

    /// Events of an owner after `seq`, oldest first; of one job if given.
    async fn events_after(
        &self,
        owner: OwnerId,
        job: Option<JobId>,
        seq: i64,
        limit: u32,
    ) -> LedgerResult<Vec<EventRow>>;
    /// Events as they are committed. A receiver that lags reads [`Ledger::events_after`] instead.
    fn watch(&self) -> broadcast::Receiver<EventRow>;

    // Nodes.

    /// Gives a node's name to this process, whoever had it before, with a lease from now on. `process` is fresh at every
    /// start of the program.
    async fn enlist(&self, name: &str, process: Uuid, lease: Duration) -> LedgerResult<()>;
    /// Renews the lease and writes what the node shows of itself. Gives what another node wishes this one to change, once.
    async fn renew(&self, name: &str, process: Uuid, view: serde_json::Value, lease: Duration)
    -> LedgerResult<Renewal>;
    /// Gives the lease back.
    async fn leave(&self, name: &str, process: Uuid) -> LedgerResult<()>;
    /// Asks a node to change with its next renewal; false when there is no such node with a lease.
    async fn wish(&self, name: &str, wish: NodeWish) -> LedgerResult<bool>;
    /// Nodes with a lease, by name.
    async fn nodes(&self) -> LedgerResult<Vec<NodeRow>>;
    /// Jobs of nodes without a lease: what runs is lost without blame, and with `released` what they had released goes back
    /// to `queued`. Bounded; what is left is taken by the next call.
    async fn rescue(&self, released: bool) -> LedgerResult<Vec<(JobId, State)>>;
    /// Jobs that a node runs and whose owner asked to stop them, perhaps through another node.
    async fn asked_to_stop(&self, node: &str) -> LedgerResult<Vec<JobId>>;

    // Housekeeping.

    /// Unfinished jobs per lane and state; a pair without any has no entry.
    async fn counts(&self) -> LedgerResult<BTreeMap<(Lane, State), u64>>;
    /// How many jobs of all owners succeeded in each of `buckets` spans of `bucket` up to now, the oldest first.
    async fn throughput(&self, bucket: Duration, buckets: u32) -> LedgerResult<Vec<u64>>;
    /// Object prefixes whose owner rows are gone: at most `limit`, oldest first.
    async fn garbage(&self, limit: u32) -> LedgerResult<Vec<Garbage>>;
    /// Says that these were removed.
    async fn garbage_removed(&self, ids: &[i64]) -> LedgerResult<()>;
    /// Whether an image has a row, whoever owns it.
    async fn image_known(&self, id: ImageId) -> LedgerResult<bool>;
    /// Whether outputs of this start are visible or may become so.
    async fn start_known(&self, job: JobId, start: u32) -> LedgerResult<bool>;
    /// Uploads of all owners after this one, by key, at most `limit`: what the object store should hold.
    async fn originals(&self, after: Option<ImageId>, limit: u32) -> LedgerResult<Vec<Listed>>;
    /// Visible outputs of all owners after this one (job and ordinal), by key, at most `limit`.
    async fn outputs(&self, after: Option<(JobId, i64)>, limit: u32) -> LedgerResult<Vec<Listed>>;
    /// Drops events and idempotency rows older than `keep`; returns how many rows went.
    async fn prune(&self, now_ms: i64, keep: Duration) -> LedgerResult<u64>;
    /// Median duration of recent succeeded jobs, milliseconds, for `Retry-After`; `None` before the first.
    async fn typical_duration_ms(&self) -> LedgerResult<Option<u64>>;
    /// A cheap query, for `/readyz`.
    async fn ping(&self) -> LedgerResult<()>;
    /// Ends the writer after everything handed to it is committed.
    async fn close(&self);
}

/// How an attempt ended, as written to the ledger.
#[derive(Debug, Clone)]
pub enum Finish {
    /// Outputs are durable: they become visible with this commit.
    Succeeded {
        /// Every output.
        files: Vec<NewFile>,
        /// Upright size and pages, as the worker measured and the slot checked them.
        measured: Measured,
        /// Verdict of the gate.
        gate: Option<serde_json::Value>,
    },
    /// A passing fault; queued again from `run_at_ms` on while attempts last, else `failed` with `error`.
    Retry {
        /// What happened.
        error: JobError,
        /// Not before, milliseconds since 1970.
        run_at_ms: i64,
    },
    /// The worker was lost; queued again from `run_at_ms` on while attempts and crashes last.
    Lost {
        /// What is known.
        crash: Crash,
        /// Not before, milliseconds since 1970.
        run_at_ms: i64,
    },
    /// Given back unspent.
    HandBack,
    /// Given back unspent for another node; the reason says what that must have.
    HandOver(JobError),
    /// Permanent.
    Failed(JobError),
    /// Stopped because the owner asked.
    Cancelled,
}

impl Finish {
    /// With its time, if it has one, by another clock.
    fn at_time_of(mut self, clock: impl FnOnce(i64) -> i64) -> Self {
        if let Self::Retry { run_at_ms, .. } | Self::Lost { run_at_ms, .. } = &mut self {
            *run_at_ms = clock(*run_at_ms);
        }
        self
    }
}
