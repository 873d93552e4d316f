//! The one place where a job's row changes its state: [`apply`] decides, the row is written by compare-and-set, and the
//! outbox row and the event row go with it.

use sqlx::types::Json;

use super::rows::{self, database_error};
use super::writer::Tx;
use crate::job::state::{Rejected, apply};
use crate::job::{Event, JobId, State};
use crate::store::{EventRow, JobRow, LedgerError, LedgerResult, job_object};

/// One job, whoever owns it.
pub(super) async fn load(tx: &mut Tx, id: JobId) -> LedgerResult<Option<JobRow>> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = $1")
        .bind(id.0)
        .fetch_optional(&mut tx.conn)
        .await
        .map_err(database_error)?;
    row.as_ref().map(rows::job).transpose()
}

/// Moves `before` by `event`; `edit` fills in what comes with the new state. Nothing is written when the table rejects it.
pub(super) async fn shift(
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
        emit(tx, &after).await?;
    }
    Ok(Ok(after))
}

/// Compare-and-set on state and start. False when the row is no longer what `before` says.
pub(super) async fn write(tx: &mut Tx, before: &JobRow, after: &JobRow) -> LedgerResult<bool> {
    let done = sqlx::query(
        "UPDATE jobs SET state = $4, starts = $5, attempt = $6, crashes = $7, run_at_ms = $8, cancel_requested = $9, \
         stage = $10, progress = $11, started_at_ms = $12, finished_at_ms = $13, node = $14, incarnation = $15, \
         slot = $16, error = $17, gate = $18 WHERE id = $1 AND state = $2 AND starts = $3",
    )
    .bind(before.id.0)
    .bind(before.state.as_str())
    .bind(i64::from(before.starts))
    .bind(after.state.as_str())
    .bind(i64::from(after.starts))
    .bind(i64::from(after.attempt))
    .bind(i64::from(after.crashes))
    .bind(after.run_at_ms)
    .bind(after.cancel_requested)
    .bind(after.stage.as_deref())
    .bind(f64::from(after.progress))
    .bind(after.started_at_ms)
    .bind(after.finished_at_ms)
    .bind(after.node.as_deref())
    .bind(after.incarnation.as_deref())
    .bind(after.slot.map(i64::from))
    .bind(after.error.as_ref().map(Json))
    .bind(after.gate.as_ref().map(Json))
    .execute(&mut tx.conn)
    .await
    .map_err(database_error)?;
    Ok(done.rows_affected() == 1)
}

/// A queued job waits here for the relay.
pub(super) async fn add_to_outbox(tx: &mut Tx, job: &JobRow) -> LedgerResult<()> {
    sqlx::query("INSERT INTO outbox (job_id, owner, lane, run_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(job.id.0)
        .bind(job.owner.0)
        .bind(job.lane.as_str())
        .bind(job.run_at_ms)
        .execute(&mut tx.conn)
        .await
        .map(drop)
        .map_err(database_error)
}

async fn remove_from_outbox(tx: &mut Tx, job: JobId) -> LedgerResult<()> {
    sqlx::query("DELETE FROM outbox WHERE job_id = $1")
        .bind(job.0)
        .execute(&mut tx.conn)
        .await
        .map(drop)
        .map_err(database_error)
}

/// The event row of a job as it is now.
pub(super) async fn emit(tx: &mut Tx, job: &JobRow) -> LedgerResult<()> {
    let body = job_object(job);
    let kind = job.state.as_str();
    let seq: i64 = sqlx::query_scalar(
        "INSERT INTO events (owner, job_id, kind, body, at_ms) VALUES ($1, $2, $3, $4, $5) RETURNING seq",
    )
    .bind(job.owner.0)
    .bind(job.id.0)
    .bind(kind)
    .bind(Json(&body))
    .bind(tx.now_ms)
    .fetch_one(&mut tx.conn)
    .await
    .map_err(database_error)?;
    let at_ms = tx.now_ms;
    tx.events.push(EventRow { seq, owner: job.owner, job: job.id, kind: kind.to_owned(), body, at_ms });
    Ok(())
}
