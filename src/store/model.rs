//! Rows and arguments of the ledger. Times are milliseconds since 1970 (UTC).

use serde::{Deserialize, Serialize};

use super::quotas::{QueueFull, QueueLimits, QuotaReached};
use crate::job::{ImageId, JobError, JobId, Lane, OwnerId, State, UploadId};
use crate::pipeline::spec::Overrides;

pub use crate::scheduling::fair::Waiting;

/// One request: its images and jobs are accepted together or not at all.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Whose.
    pub owner: OwnerId,
    /// At least one.
    pub items: Vec<(NewImage, NewJob)>,
    /// When the request carried a key.
    pub idempotency: Option<Idempotency>,
    /// What its sender knows it by, when it came over the bus; then it has one image.
    pub submitted: Option<super::producers::Submitted>,
    /// The announced upload whose bytes these are: what it has reserved becomes free.
    pub upload: Option<UploadId>,
    /// Whether an image that is there already, with a job of the same spec that has succeeded or is on its way, will do. Its
    /// ids then take the place of the new ones in [`Idempotency::answer`].
    pub dedup: bool,
    /// Bounds.
    pub limits: QueueLimits,
}

/// An idempotency key with what it stands for.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// At most 255 bytes.
    pub key: String,
    /// SHA-256 over everything that makes the request what it is, hex.
    pub fingerprint: String,
    /// The answer to give again (image and job ids, refused parts).
    pub answer: serde_json::Value,
}

/// An earlier answer.
#[derive(Debug, Clone)]
pub struct Recalled {
    /// Of the earlier request.
    pub fingerprint: String,
    /// As stored.
    pub answer: serde_json::Value,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// Committed. An image with another id than was asked for was there already.
    Created(Vec<(ImageRow, JobRow)>),
    /// A request with this key was faster; nothing was written.
    Replayed(Recalled),
    /// The queue is full; nothing was written.
    QueueFull(QueueFull),
    /// The owner has used up a bound of theirs; nothing was written.
    QuotaReached(QuotaReached),
}

/// What became of a further job on an image.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "made once for a request and moved once")]
pub enum Admission {
    /// Committed.
    Created(JobRow),
    /// The queue is full; nothing was written.
    QueueFull(QueueFull),
    /// The owner has used up a bound of theirs; nothing was written.
    QuotaReached(QuotaReached),
}

/// An upload that was announced: its bytes go past this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedUpload {
    /// Chosen by the caller, since the object's key holds it.
    pub id: UploadId,
    /// Whose.
    pub owner: OwnerId,
    /// Sanitised.
    pub filename: String,
    /// What the bytes must be.
    pub content_type: String,
    /// Exact length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    /// As asked.
    pub preset: String,
    /// As asked.
    pub set: Overrides,
    /// As asked.
    pub lane: Option<Lane>,
    /// As [`Submission::dedup`].
    pub dedup: bool,
    /// From then on no PUT may begin.
    pub expires_at_ms: i64,
}

/// What became of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Committed.
    Created,
    /// There are enough; nothing was written.
    TooMany {
        /// Announced and not yet swept.
        measured: u64,
        /// When the first of them expires.
        room_at_ms: i64,
    },
    /// The owner has used up a bound of theirs; nothing was written.
    QuotaReached(QuotaReached),
}

/// An upload whose bytes are durable.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Chosen by the caller, since the object's key holds it.
    pub id: ImageId,
    /// Sanitised.
    pub filename: String,
    /// As sniffed.
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    /// From the header, if it could be read cheaply.
    pub width_px: Option<u32>,
    /// Likewise.
    pub height_px: Option<u32>,
    /// Likewise.
    pub pages_count: Option<u32>,
    /// Of all pages together; `None` takes width, height and pages for it.
    pub pixels: Option<u64>,
}

/// A job to queue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Chosen by the caller.
    pub id: JobId,
    /// Whose.
    pub owner: OwnerId,
    /// On which image.
    pub image_id: ImageId,
    /// Name of the preset.
    pub preset: String,
    /// The resolved spec.
    pub spec: serde_json::Value,
    /// As asked; `None` lets the ledger choose by the owner's unfinished jobs.
    pub lane: Option<Lane>,
}

/// An image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRow {
    /// Key.
    pub id: ImageId,
    /// Whose.
    pub owner: OwnerId,
    /// Sanitised.
    pub filename: String,
    /// As sniffed.
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    /// Upright, once known.
    pub width_px: Option<u32>,
    /// Upright, once known.
    pub height_px: Option<u32>,
    /// Once known.
    pub pages_count: Option<u32>,
    /// Time of the commit.
    pub created_at_ms: i64,
    /// Its jobs, oldest first.
    pub job_ids: Vec<JobId>,
    /// Of the youngest of them.
    pub state: Option<State>,
    /// What the gate says of its files: of the job that succeeded last, if anything was judged.
    pub verdict: Option<String>,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Key.
    pub id: JobId,
    /// Whose.
    pub owner: OwnerId,
    /// On which image.
    pub image_id: ImageId,
    /// Name of the preset.
    pub preset: String,
    /// Resolved spec.
    pub spec: serde_json::Value,
    /// Lane.
    pub lane: Lane,
    /// State.
    pub state: State,
    /// Starts ever made: the fence.
    pub starts: u32,
    /// Attempts spent.
    pub attempt: u32,
    /// Bound.
    pub attempts_max: u32,
    /// Workers lost.
    pub crashes: u32,
    /// Bound.
    pub crashes_max: u32,
    /// Not before.
    pub run_at_ms: i64,
    /// Whether the owner asked a running job to stop.
    pub cancel_requested: bool,
    /// Last reported step.
    pub stage: Option<String>,
    /// 0..1.
    pub progress: f32,
    /// Time of the commit.
    pub created_at_ms: i64,
    /// Of the last start.
    pub started_at_ms: Option<i64>,
    /// Of the end.
    pub finished_at_ms: Option<i64>,
    /// Who holds or held it.
    pub node: Option<String>,
    /// Incarnation of that node.
    pub incarnation: Option<String>,
    /// Slot index there.
    pub slot: Option<u32>,
    /// Why the last attempt did not succeed.
    pub error: Option<JobError>,
    /// Verdict.
    pub gate: Option<serde_json::Value>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobFilter {
    /// Only those.
    pub state: Option<State>,
}

/// Which images to list; all of it must hold.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Part of the name, in small letters or large ones.
    pub name: Option<String>,
    /// The youngest job is in one of these states; empty: whatever its state.
    pub states: Vec<State>,
    /// The gate says one of these of its files; empty: whatever it says.
    pub verdicts: Vec<String>,
}

impl ImageFilter {
    /// Whether it lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.states.is_empty() && self.verdicts.is_empty()
    }
}

/// A job that was brought to the bus and not claimed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Which.
    pub job: JobId,
    /// Its lane.
    pub lane: Lane,
    /// Starts so far, as in its message.
    pub starts: u32,
}

/// Who claims.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Stable name of the node.
    pub node: String,
    /// Fresh at every start of the node's process.
    pub incarnation: String,
    /// Slot index.
    pub slot: u32,
    /// What the plan of a job may ask for there, bytes; `None` takes a job that is known to ask for more as well, if only to
    /// say so.
    pub memory_bytes_max: Option<u64>,
}

/// What a claim gave.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Ours: `job.starts` is the fence.
    Won {
        /// After the claim.
        job: Box<JobRow>,
        /// Its image.
        image: Box<ImageRow>,
    },
    /// Nothing to do: the job moved on, or is gone. The delivery can be acknowledged.
    Gone(Option<State>),
    /// Not for this node: its plan asks for as many bytes. Nothing was changed.
    TooLarge(u64),
}

/// What a finish gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// Written; the job is now in this state.
    Now(State),
    /// Another start holds the job, or it is gone: outputs of this start must be removed.
    Stale,
}

/// What a cancel gave.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// Done.
    Now(JobRow),
    /// It runs: the slot must be told.
    Asked(JobRow),
    /// It had ended before.
    TooLate(JobRow),
}

/// What a retry gave.
#[derive(Debug, Clone)]
pub enum Retried {
    /// Queued.
    Now(JobRow),
    /// Only `failed` and `cancelled` jobs can be retried.
    WrongState(JobRow),
    /// The queue is full.
    QueueFull(QueueFull),
    /// The owner has used up a bound of theirs.
    QuotaReached(QuotaReached),
}

/// What a deletion left to do.
#[derive(Debug, Clone, Default)]
pub struct Deleted {
    /// Slots that run these must stop.
    pub running: Vec<JobId>,
}

/// An output to make visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// `clean.png`, `p0002/clean.png`, `manifest.json`.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    /// Pixels; `None` for what is no image.
    pub width_px: Option<u32>,
    /// Pixels.
    pub height_px: Option<u32>,
}

/// A visible output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// The job that made it.
    pub job: JobId,
    /// The start that made it: part of the object's key.
    pub start: u32,
    /// The file.
    pub file: NewFile,
}

/// Upright size of the first page, and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Pixels.
    pub width_px: u32,
    /// Pixels.
    pub height_px: u32,
    /// Pages.
    pub pages_count: u32,
}

/// An event of an owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Monotonic.
    pub seq: i64,
    /// Whose.
    pub owner: OwnerId,
    /// About which job.
    pub job: JobId,
    /// `queued`, `running`, `succeeded`, ….
    pub kind: String,
    /// The job object as the API shows it.
    pub body: serde_json::Value,
    /// When.
    pub at_ms: i64,
}

/// Objects to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Row.
    pub id: i64,
    /// What.
    pub target: GarbageTarget,
}

/// What is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbageTarget {
    /// The upload of a deleted image.
    Original(ImageId),
    /// All outputs of a deleted job.
    Outputs(JobId),
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lease runs on; with what another node asked for.
    Renewed(Option<NodeWish>),
    /// Another process goes by the name now.
    NameTaken,
}

/// What a node is asked to change; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWish {
    /// Slots.
    pub slots: Option<u32>,
    /// Whether it takes no new jobs.
    pub draining: Option<bool>,
}

/// A node that has a lease.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Stable name.
    pub name: String,
    /// What it last showed of itself; null before the first renewal.
    pub view: serde_json::Value,
}

/// What one job looks like to its owner: the `job` object of the API, kept here because events carry it as well.
#[must_use]
pub fn job_object(job: &JobRow) -> serde_json::Value {
    serde_json::json!({
        "id": job.id,
        "image_id": job.image_id,
        "preset": job.preset,
        "state": job.state,
        "stage": job.stage,
        // Rounded, since a third of something is no reason to print 17 digits.
        "progress": (f64::from(job.progress) * 1000.0).round() / 1000.0,
        "attempt": job.attempt,
        "attempts_max": job.attempts_max,
        "created_at": rfc3339(job.created_at_ms),
        "started_at": job.started_at_ms.map(rfc3339),
        "finished_at": job.finished_at_ms.map(rfc3339),
        "duration_ms": job.started_at_ms.zip(job.finished_at_ms).map(|(start, end)| (end - start).max(0)),
        "node": job.node,
        "slot": job.slot,
        "lane": job.lane,
        "cancel_requested": job.cancel_requested,
        "error": job.error,
        "gate": job.gate,
    })
}

/// A time as RFC 3339 with milliseconds, UTC.
#[must_use]
pub fn rfc3339(at_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
