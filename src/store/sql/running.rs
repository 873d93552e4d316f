//! Claims, ends and losses of attempts.

use uuid::Uuid;

use super::moves::{load, shift};
use super::progress::Note;
use super::query::{Readers, Sql, Value, query, signed};
use super::quotas::Spent;
use super::rows;
use super::writer::Tx;
use crate::job::{Event, JobError, JobId, State};
use crate::store::{Claim, Finish, Finished, Holder, JobRow, LedgerError, LedgerResult, Measured, NewFile};

/// Running jobs of a node.
pub(in crate::store) const HELD: &str =
    "SELECT id, starts FROM jobs WHERE state = 'running' AND node = $1 AND incarnation = $2 ORDER BY id";
/// Those of its earlier incarnations.
pub(in crate::store) const LOST: &str =
    "SELECT id FROM jobs WHERE state = 'running' AND node = $1 AND incarnation <> $2 ORDER BY id";

/// See [`crate::store::Ledger::claim`].
pub(in crate::store) async fn claim(tx: &mut Tx, id: JobId, starts: u32, holder: Holder) -> LedgerResult<Claim> {
    let Some(before) = load(tx, id).await? else { return Ok(Claim::Gone(None)) };
    // A message of an earlier start.
    if before.starts != starts {
        return Ok(Claim::Gone(Some(before.state)));
    }
    if let (Some(needed), Some(limit)) = (memory_needed(&before), holder.memory_bytes_max)
        && needed > limit
    {
        return Ok(Claim::TooLarge(needed));
    }
    let before = match before.state {
        State::Queued => match shift(tx, &before, Event::Release, |_| {}).await? {
            Ok(released) => released,
            Err(_) => return Ok(Claim::Gone(Some(before.state))),
        },
        State::Released | State::Running | State::Succeeded | State::Failed | State::Cancelled => before,
    };
    let now_ms = tx.now_ms;
    let moved = shift(tx, &before, Event::Claim, |job| {
        job.started_at_ms = Some(now_ms);
        job.node = Some(holder.node);
        job.incarnation = Some(holder.incarnation);
        job.slot = Some(holder.slot);
        job.error = None;
        job.stage = None;
        job.progress = 0.0;
    });
    let Ok(job) = moved.await? else { return Ok(Claim::Gone(Some(before.state))) };
    let rows = query(super::owners::IMAGE_BY_ID).bind(job.image_id.0).bind(job.owner.0).fetch_all(&mut tx.conn).await?;
    let image =
        rows::images_with_jobs(&rows)?.pop().ok_or_else(|| LedgerError::Corrupt(format!("job {id} has no image")))?;
    Ok(Claim::Won { job: Box::new(job), image: Box::new(image) })
}

/// What a waiting job is known to ask for, bytes.
fn memory_needed(job: &JobRow) -> Option<u64> {
    let waits = matches!(job.state, State::Queued | State::Released);
    job.error.as_ref().filter(|_| waits).and_then(JobError::memory_needed_bytes)
}

/// See [`crate::store::Ledger::finish`]. `note` is the last progress of this start.
pub(in crate::store) async fn finish(
    tx: &mut Tx,
    id: JobId,
    start: u32,
    finish: Finish,
    note: Option<Note>,
) -> LedgerResult<Finished> {
    let Some(before) = load(tx, id).await? else { return Ok(Finished::Stale) };
    let event = event_of(&finish, start, before.cancel_requested);
    let moved = shift(tx, &before, event, |job| {
        if let Some(note) = note {
            job.stage = Some(note.stage);
            job.progress = note.progress;
        }
        describe(job, &finish);
    });
    let Ok(job) = moved.await? else { return Ok(Finished::Stale) };
    if let Finish::Succeeded { files, measured, .. } = finish {
        publish(tx, &job, files, measured).await?;
    }
    Ok(Finished::Now(job.state))
}

/// What an end means to the table. Outputs that are durable and a permanent error stand even if the owner asked to stop
/// meanwhile; whatever would lead to another attempt ends the job instead.
fn event_of(finish: &Finish, start: u32, cancel_requested: bool) -> Event {
    match finish {
        Finish::Succeeded { .. } => Event::Succeed { start },
        Finish::Failed(_) => Event::Fail { start },
        Finish::Cancelled => Event::CancelRunning { start },
        Finish::Retry { .. } | Finish::Lost { .. } | Finish::HandBack | Finish::HandOver(_) if cancel_requested => {
            Event::CancelRunning { start }
        }
        Finish::Retry { .. } => Event::Retry { start },
        Finish::Lost { .. } => Event::Lose { start, crash: true },
        Finish::HandBack | Finish::HandOver(_) => Event::HandBack { start },
    }
}

/// Error, progress and next time of a job that has just moved.
fn describe(job: &mut JobRow, finish: &Finish) {
    match finish {
        Finish::Succeeded { gate, .. } => {
            job.gate.clone_from(gate);
            job.progress = 1.0;
        }
        Finish::Failed(error) => blame(job, error.clone()),
        // A start that is handed back leaves no trace but the fence.
        Finish::HandBack | Finish::Cancelled => {}
        Finish::HandOver(error) => blame(job, error.clone()),
        Finish::Retry { error, run_at_ms } => {
            blame(job, error.clone());
            job.run_at_ms = *run_at_ms;
        }
        Finish::Lost { crash, run_at_ms } => {
            blame(job, JobError::from(crash.clone()));
            job.run_at_ms = *run_at_ms;
        }
    }
    if job.state == State::Queued {
        (job.stage, job.progress) = (None, 0.0);
    }
}

fn blame(job: &mut JobRow, error: JobError) {
    if job.state == State::Cancelled {
        return;
    }
    if error.stage.is_some() {
        job.stage.clone_from(&error.stage);
    }
    job.error = Some(error);
}

/// All files of a job in their order, in one go.
const ADD_FILES: Sql = Sql::each(
    "INSERT INTO files (job_id, ordinal, start, name, content_type, size_bytes, sha256, width_px, height_px)
     SELECT $1, key, $2, value ->> 'name', value ->> 'content_type', value ->> 'size_bytes', value ->> 'sha256',
            value ->> 'width_px', value ->> 'height_px'
     FROM json_each($3)",
    "INSERT INTO files (job_id, ordinal, start, name, content_type, size_bytes, sha256, width_px, height_px)
     SELECT $1, row.ordinal - 1, $2, row.name, row.content_type, row.size_bytes, row.sha256, row.width_px, row.height_px
     FROM ROWS FROM (json_to_recordset($3::text::json) AS
            (name text, content_type text, size_bytes bigint, sha256 text, width_px bigint, height_px bigint))
        WITH ORDINALITY AS row (name, content_type, size_bytes, sha256, width_px, height_px, ordinal)",
);

async fn publish(tx: &mut Tx, job: &JobRow, files: Vec<NewFile>, measured: Measured) -> LedgerResult<()> {
    let bytes = signed(files.iter().map(|file| file.size_bytes).sum())?;
    tx.spent.push(Spent { owner: job.owner, bytes, pixels: 0 });
    let rows: Vec<_> = files
        .iter()
        .map(|file| {
            serde_json::json!({
                "name": file.name,
                "content_type": file.content_type,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "width_px": file.width_px,
                "height_px": file.height_px,
            })
        })
        .collect();
    query(ADD_FILES).bind(job.id.0).bind(job.starts).bind(Value::json(&rows)?).execute(&mut tx.conn).await?;
    query("UPDATE images SET width_px = $2, height_px = $3, pages_count = $4 WHERE id = $1")
        .bind(job.image_id.0)
        .bind(measured.width_px)
        .bind(measured.height_px)
        .bind(measured.pages_count)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

/// See [`crate::store::Ledger::recover`].
pub(in crate::store) async fn recover(tx: &mut Tx, node: &str, incarnation: &str) -> LedgerResult<Vec<(JobId, State)>> {
    let lost: Vec<Uuid> = query(LOST).bind(node).bind(incarnation).scalars(&mut tx.conn).await?;
    let mut moved = Vec::with_capacity(lost.len());
    for id in lost {
        moved.extend(lose(tx, JobId(id), format!("the node {node} stopped while it worked on this job")).await?);
    }
    Ok(moved)
}

/// A running job that nobody works on any more, without blame for it; `None` when it has moved on. It keeps its place in the
/// queue: it has waited before, and what came since would make it wait for the whole backlog again.
pub(in crate::store) async fn lose(tx: &mut Tx, id: JobId, why: String) -> LedgerResult<Option<(JobId, State)>> {
    let Some(before) = load(tx, id).await? else { return Ok(None) };
    let start = before.starts;
    let event =
        if before.cancel_requested { Event::CancelRunning { start } } else { Event::Lose { start, crash: false } };
    let end = shift(tx, &before, event, |job| {
        blame(job, JobError::new("node_lost", why, None, true));
    });
    Ok(end.await?.ok().map(|job| (job.id, job.state)))
}

/// See [`crate::store::Ledger::held`].
pub(in crate::store) async fn held(
    readers: &Readers,
    node: &str,
    incarnation: &str,
) -> LedgerResult<Vec<(JobId, u32)>> {
    let rows = query(HELD).bind(node).bind(incarnation).fetch_all(readers).await?;
    rows.iter().map(|row| Ok((JobId(row.get("id")?), row.number("starts")?))).collect()
}
