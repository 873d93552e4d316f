//! Submissions: image, job, outbox row, event and idempotency row in one transaction.

use super::dead_letters;
use super::moves::{add_to_outbox, emit};
use super::query::{Row, Sql, Value, query, signed};
use super::rows;
use super::writer::Tx;
use crate::job::{Lane, OwnerId, State};
use crate::store::{
    Accepted, Admission, Idempotency, ImageRow, JobRow, LedgerError, LedgerResult, NewImage, NewJob, QueueFull,
    QueueLimits, Recalled, Submission,
};

/// What an earlier request with this key was answered.
pub(in crate::store) const RECALL: &str =
    "SELECT fingerprint, answer FROM idempotency WHERE owner = $1 AND idempotency_key = $2";
/// Looks at unfinished rows alone, by their own index.
pub(in crate::store) const UNFINISHED: &str = "SELECT count(*) AS n FROM jobs WHERE finished_at_ms IS NULL";
/// Likewise for one owner.
pub(in crate::store) const UNFINISHED_OF_OWNER: &str =
    "SELECT count(*) AS n FROM jobs WHERE owner = $1 AND state IN ('queued', 'released', 'running')";

/// An image that must stay until the commit: whoever deletes it waits.
const KEPT_IMAGE: Sql = Sql::each(
    "SELECT 1 FROM images WHERE id = $1 AND owner = $2",
    "SELECT 1 FROM images WHERE id = $1 AND owner = $2 FOR KEY SHARE",
);

/// See [`crate::store::Ledger::accept`].
pub(in crate::store) async fn accept(tx: &mut Tx, submission: Submission) -> LedgerResult<Accepted> {
    let owner = submission.owner;
    if let Some(idempotency) = &submission.idempotency
        && let Some(row) =
            query(RECALL).bind(owner.0).bind(idempotency.key.as_str()).fetch_optional(&mut tx.conn).await?
    {
        return recalled(&row).map(Accepted::Replayed);
    }
    if let Some(full) = queue_full(tx, submission.limits, submission.items.len() as u64).await? {
        return Ok(Accepted::QueueFull(full));
    }
    if let Some(idempotency) = &submission.idempotency
        && !remember(tx, owner, idempotency).await?
    {
        // Another node was faster by less than its commit, for which this one has waited.
        let row = query(RECALL).bind(owner.0).bind(idempotency.key.as_str()).fetch_one(&mut tx.conn).await?;
        return recalled(&row).map(Accepted::Replayed);
    }
    let mut created = Vec::with_capacity(submission.items.len());
    for (image, job) in submission.items {
        if job.image_id != image.id || job.owner != owner {
            return Err(LedgerError::Corrupt(format!("job {} is not of the image and owner it came with", job.id)));
        }
        let mut image = insert_image(tx, owner, image).await?;
        let job = insert_job(tx, job, submission.limits).await?;
        image.job_ids.push(job.id);
        image.state = Some(job.state);
        if let Some(submitted) = &submission.submitted {
            dead_letters::remember(tx, image.id, submitted.clone()).await?;
        }
        created.push((image, job));
    }
    Ok(Accepted::Created(created))
}

/// False when the key is taken.
async fn remember(tx: &mut Tx, owner: OwnerId, idempotency: &Idempotency) -> LedgerResult<bool> {
    let done = query(
        "INSERT INTO idempotency (owner, idempotency_key, fingerprint, answer, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(owner.0)
    .bind(idempotency.key.as_str())
    .bind(idempotency.fingerprint.as_str())
    .bind(Value::json(&idempotency.answer)?)
    .bind(tx.now_ms)
    .execute(&mut tx.conn)
    .await?;
    Ok(done == 1)
}

/// See [`crate::store::Ledger::process_again`].
pub(in crate::store) async fn process_again(
    tx: &mut Tx,
    job: NewJob,
    limits: QueueLimits,
) -> LedgerResult<Option<Admission>> {
    let known = query(KEPT_IMAGE).bind(job.image_id.0).bind(job.owner.0).fetch_optional(&mut tx.conn).await?;
    if known.is_none() {
        return Ok(None);
    }
    if let Some(full) = queue_full(tx, limits, 1).await? {
        return Ok(Some(Admission::QueueFull(full)));
    }
    insert_job(tx, job, limits).await.map(|job| Some(Admission::Created(job)))
}

/// A row of [`RECALL`].
pub(in crate::store) fn recalled(row: &Row) -> LedgerResult<Recalled> {
    Ok(Recalled { fingerprint: row.get("fingerprint")?, answer: row.json("answer")? })
}

/// The refusal, if `more` jobs do not fit.
pub(in crate::store) async fn queue_full(
    tx: &mut Tx,
    limits: QueueLimits,
    more: u64,
) -> LedgerResult<Option<QueueFull>> {
    let row = query(UNFINISHED).fetch_one(&mut tx.conn).await?;
    let measured: u64 = row.number("n")?;
    let limit = limits.queue_jobs_max;
    Ok((measured.saturating_add(more) > limit).then_some(QueueFull { limit, measured }))
}

async fn insert_image(tx: &mut Tx, owner: OwnerId, image: NewImage) -> LedgerResult<ImageRow> {
    let row = query(
        "INSERT INTO images (id, owner, filename, content_type, size_bytes, sha256, width_px, height_px, pages_count, \
         created_at_ms, name_folded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING *",
    )
    .bind(image.id.0)
    .bind(owner.0)
    .bind(image.filename.as_str())
    .bind(image.content_type)
    .bind(signed(image.size_bytes)?)
    .bind(image.sha256)
    .bind(image.width_px)
    .bind(image.height_px)
    .bind(image.pages_count)
    .bind(tx.now_ms)
    .bind(image.filename.to_lowercase())
    .fetch_one(&mut tx.conn)
    .await?;
    rows::image(&row)
}

async fn insert_job(tx: &mut Tx, job: NewJob, limits: QueueLimits) -> LedgerResult<JobRow> {
    let lane = match job.lane {
        Some(lane) => lane,
        None => lane_by_load(tx, job.owner, limits).await?,
    };
    let row = query(
        "INSERT INTO jobs (id, owner, image_id, preset, spec, lane, state, starts, attempt, attempts_max, crashes, \
         crashes_max, run_at_ms, cancel_requested, progress, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, 0, $9, $10, FALSE, 0.0, $10) RETURNING *",
    )
    .bind(job.id.0)
    .bind(job.owner.0)
    .bind(job.image_id.0)
    .bind(job.preset)
    .bind(Value::json(&job.spec)?)
    .bind(lane.as_str())
    .bind(State::Queued.as_str())
    .bind(limits.attempts_max)
    .bind(limits.crashes_max)
    .bind(tx.now_ms)
    .fetch_one(&mut tx.conn)
    .await?;
    let job = rows::job(&row)?;
    add_to_outbox(tx, &job).await?;
    emit(tx, &job);
    Ok(job)
}

/// Counted again for every job of a request, so that the tail of a large one is bulk.
async fn lane_by_load(tx: &mut Tx, owner: OwnerId, limits: QueueLimits) -> LedgerResult<Lane> {
    let row = query(UNFINISHED_OF_OWNER).bind(owner.0).fetch_one(&mut tx.conn).await?;
    let unfinished: u64 = row.number("n")?;
    Ok(if unfinished >= limits.bulk_from_jobs { Lane::Bulk } else { Lane::Interactive })
}
