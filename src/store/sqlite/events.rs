//! Replay of events.

use sqlx::SqlitePool;

use super::rows::{self, database_error};
use crate::job::{JobId, OwnerId};
use crate::store::{EventRow, LedgerResult};

/// Of an owner.
pub(super) const OF_OWNER: &str = "SELECT * FROM events WHERE owner = $1 AND seq > $2 ORDER BY seq LIMIT $3";
/// Of one job; the owner is checked as well.
pub(super) const OF_JOB: &str =
    "SELECT * FROM events WHERE job_id = $4 AND seq > $2 AND owner = $1 ORDER BY seq LIMIT $3";

/// See [`crate::store::Ledger::events_after`].
pub(super) async fn events_after(
    readers: &SqlitePool,
    owner: OwnerId,
    job: Option<JobId>,
    seq: i64,
    limit: u32,
) -> LedgerResult<Vec<EventRow>> {
    let query =
        sqlx::query(if job.is_some() { OF_JOB } else { OF_OWNER }).bind(owner.0).bind(seq).bind(i64::from(limit));
    let query = match job {
        Some(job) => query.bind(job.0),
        None => query,
    };
    let rows = query.fetch_all(readers).await.map_err(database_error)?;
    rows.iter().map(rows::event).collect()
}
