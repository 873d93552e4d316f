//! The one place where a job's row changes its state: [`apply`] decides, the row is written by compare-and-set, and the
//! outbox row and the event row go with it.

use super::query::{Sql, Value, query};
use super::rows;
use super::writer::Tx;
use crate::job::state::{Rejected, apply};
use crate::job::{Event, JobId, State};
use crate::store::{EventRow, JobRow, LedgerError, LedgerResult, job_object};

/// One job, for a change: whoever else wants to change it waits for this commit. SQLite has one writer anyway.
pub(in crate::store) const LOAD: Sql =
    Sql::each("SELECT * FROM jobs WHERE id = $1", "SELECT * FROM jobs WHERE id = $1 FOR UPDATE");

/// Compare-and-set on state and start.
pub(in crate::store) const WRITE: &str = "
    UPDATE jobs SET state = $4, starts = $5, attempt = $6, crashes = $7, run_at_ms = $8, cancel_requested = $9, stage = $10,
        progress = $11, started_at_ms = $12, finished_at_ms = $13, node = $14, incarnation = $15, slot = $16, error = $17,
        gate = $18
    WHERE id = $1 AND state = $2 AND starts = $3";
/// A job that waits no longer.
pub(in crate::store) const NO_LONGER_WAITS: &str = "DELETE FROM outbox WHERE job_id = $1";

/// One job, whoever owns it.
pub(in crate::store) async fn load(tx: &mut Tx, id: JobId) -> LedgerResult<Option<JobRow>> {
    let row = query(LOAD).bind(id.0).fetch_optional(&mut tx.conn).await?;
    row.as_ref().map(rows::job).transpose()
}

/// Moves `before` by `event`; `edit` fills in what comes with the new state. Nothing is written when the table rejects it.
pub(in crate::store) async fn shift(
    tx: &mut Tx,
    before: &JobRow,
    event: Event,
    edit: impl FnOnce(&mut JobRow) + Send,
) -> LedgerResult<Result<JobRow, Rejected>> {
    let moved = match apply(rows::core(before), event) {
        Ok(moved) => moved,
        Err(rejected) => return Ok(Err(rejected)),
    };
    let mut after = JobRow {
        state: moved.state,
        starts: moved.starts,
        attempt: moved.attempt,
        crashes: moved.crashes,
        finished_at_ms: moved.state.is_final().then_some(tx.now_ms),
        ..before.clone()
    };
    edit(&mut after);
    if !write(tx, before, &after).await? {
        return Err(LedgerError::Unavailable(format!("job {} was changed by another writer", before.id)));
    }
    match (before.state, after.state) {
        (State::Queued, State::Queued) => {}
        (State::Queued, _) => remove_from_outbox(tx, after.id).await?,
        (_, State::Queued) => add_to_outbox(tx, &after).await?,
        _ => {}
    }
    // Release and its opposite are the relay's own business: to the owner the job waits before and after.
    if !matches!(event, Event::Release | Event::Unrelease) {
        emit(tx, &after);
    }
    Ok(Ok(after))
}

/// False when the row is no longer what `before` says.
pub(in crate::store) async fn write(tx: &mut Tx, before: &JobRow, after: &JobRow) -> LedgerResult<bool> {
    let done = query(WRITE)
        .bind(before.id.0)
        .bind(before.state.as_str())
        .bind(before.starts)
        .bind(after.state.as_str())
        .bind(after.starts)
        .bind(after.attempt)
        .bind(after.crashes)
        .bind(after.run_at_ms)
        .bind(after.cancel_requested)
        .bind(after.stage.as_deref())
        .bind(after.progress)
        .bind(after.started_at_ms)
        .bind(after.finished_at_ms)
        .bind(after.node.as_deref())
        .bind(after.incarnation.as_deref())
        .bind(after.slot)
        .bind(Value::json_or_null(after.error.as_ref())?)
        .bind(Value::json_or_null(after.gate.as_ref())?)
        .execute(&mut tx.conn)
        .await?;
    Ok(done == 1)
}

/// A queued job waits here for the relay.
pub(in crate::store) async fn add_to_outbox(tx: &mut Tx, job: &JobRow) -> LedgerResult<()> {
    query("INSERT INTO outbox (job_id, owner, lane, run_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(job.id.0)
        .bind(job.owner.0)
        .bind(job.lane.as_str())
        .bind(job.run_at_ms)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

async fn remove_from_outbox(tx: &mut Tx, job: JobId) -> LedgerResult<()> {
    query(NO_LONGER_WAITS).bind(job.0).execute(&mut tx.conn).await.map(drop)
}

/// The event of a job as it is now; it is written and numbered last before the commit.
pub(in crate::store) fn emit(tx: &mut Tx, job: &JobRow) {
    tx.events.push(EventRow {
        seq: 0,
        owner: job.owner,
        job: job.id,
        kind: job.state.as_str().to_owned(),
        body: job_object(job),
        at_ms: tx.now_ms,
    });
}
