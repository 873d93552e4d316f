//! Submissions: image, job, outbox row, event and idempotency row in one transaction.

use sqlx::types::Json;

use super::moves::{add_to_outbox, emit};
use super::rows::{self, database_error, number, signed};
use super::writer::Tx;
use crate::job::{Lane, OwnerId, State};
use crate::store::{
    Accepted, Admission, ImageRow, JobRow, LedgerError, LedgerResult, NewImage, NewJob, QueueFull, QueueLimits,
    Recalled, Submission,
};

/// What an earlier request with this key was answered.
pub(super) const RECALL: &str = "SELECT fingerprint, answer FROM idempotency WHERE owner = $1 AND idempotency_key = $2";
/// Looks at unfinished rows alone, by their own index.
pub(super) const UNFINISHED: &str = "SELECT count(*) AS n FROM jobs WHERE finished_at_ms IS NULL";
/// Likewise for one owner.
pub(super) const UNFINISHED_OF_OWNER: &str =
    "SELECT count(*) AS n FROM jobs WHERE owner = $1 AND state IN ('queued', 'released', 'running')";

/// See [`crate::store::Ledger::accept`].
pub(super) async fn accept(tx: &mut Tx, submission: Submission) -> LedgerResult<Accepted> {
    let owner = submission.owner;
    if let Some(idempotency) = &submission.idempotency
        && let Some(row) = sqlx::query(RECALL)
            .bind(owner.0)
            .bind(&idempotency.key)
            .fetch_optional(&mut tx.conn)
            .await
            .map_err(database_error)?
    {
        return recalled(&row).map(Accepted::Replayed);
    }
    if let Some(full) = queue_full(tx, submission.limits, submission.items.len() as u64).await? {
        return Ok(Accepted::QueueFull(full));
    }
    let mut created = Vec::with_capacity(submission.items.len());
    for (image, job) in submission.items {
        if job.image_id != image.id || job.owner != owner {
            return Err(LedgerError::Corrupt(format!("job {} is not of the image and owner it came with", job.id)));
        }
        let mut image = insert_image(tx, owner, image).await?;
        let job = insert_job(tx, job, submission.limits).await?;
        image.job_ids.push(job.id);
        created.push((image, job));
    }
    if let Some(idempotency) = submission.idempotency {
        sqlx::query(
            "INSERT INTO idempotency (owner, idempotency_key, fingerprint, answer, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(owner.0)
        .bind(idempotency.key)
        .bind(idempotency.fingerprint)
        .bind(Json(idempotency.answer))
        .bind(tx.now_ms)
        .execute(&mut tx.conn)
        .await
        .map_err(database_error)?;
    }
    Ok(Accepted::Created(created))
}

/// See [`crate::store::Ledger::process_again`].
pub(super) async fn process_again(tx: &mut Tx, job: NewJob, limits: QueueLimits) -> LedgerResult<Option<Admission>> {
    let known = sqlx::query("SELECT 1 FROM images WHERE id = $1 AND owner = $2")
        .bind(job.image_id.0)
        .bind(job.owner.0)
        .fetch_optional(&mut tx.conn)
        .await
        .map_err(database_error)?;
    if known.is_none() {
        return Ok(None);
    }
    if let Some(full) = queue_full(tx, limits, 1).await? {
        return Ok(Some(Admission::QueueFull(full)));
    }
    insert_job(tx, job, limits).await.map(|job| Some(Admission::Created(job)))
}

/// A row of [`RECALL`].
pub(super) fn recalled(row: &sqlx::sqlite::SqliteRow) -> LedgerResult<Recalled> {
    Ok(Recalled { fingerprint: rows::get(row, "fingerprint")?, answer: rows::get::<Json<_>>(row, "answer")?.0 })
}

/// The refusal, if `more` jobs do not fit.
pub(super) async fn queue_full(tx: &mut Tx, limits: QueueLimits, more: u64) -> LedgerResult<Option<QueueFull>> {
    let row = sqlx::query(UNFINISHED).fetch_one(&mut tx.conn).await.map_err(database_error)?;
    let measured: u64 = number(&row, "n")?;
    let limit = limits.queue_jobs_max;
    Ok((measured.saturating_add(more) > limit).then_some(QueueFull { limit, measured }))
}

async fn insert_image(tx: &mut Tx, owner: OwnerId, image: NewImage) -> LedgerResult<ImageRow> {
    let row = sqlx::query(
        "INSERT INTO images (id, owner, filename, content_type, size_bytes, sha256, width_px, height_px, pages_count, \
         created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING *",
    )
    .bind(image.id.0)
    .bind(owner.0)
    .bind(image.filename)
    .bind(image.content_type)
    .bind(signed(image.size_bytes)?)
    .bind(image.sha256)
    .bind(image.width_px.map(i64::from))
    .bind(image.height_px.map(i64::from))
    .bind(image.pages_count.map(i64::from))
    .bind(tx.now_ms)
    .fetch_one(&mut tx.conn)
    .await
    .map_err(database_error)?;
    rows::image(&row)
}

async fn insert_job(tx: &mut Tx, job: NewJob, limits: QueueLimits) -> LedgerResult<JobRow> {
    let lane = match job.lane {
        Some(lane) => lane,
        None => lane_by_load(tx, job.owner, limits).await?,
    };
    let row = sqlx::query(
        "INSERT INTO jobs (id, owner, image_id, preset, spec, lane, state, starts, attempt, attempts_max, crashes, \
         crashes_max, run_at_ms, cancel_requested, progress, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, 0, $9, $10, FALSE, 0.0, $10) RETURNING *",
    )
    .bind(job.id.0)
    .bind(job.owner.0)
    .bind(job.image_id.0)
    .bind(job.preset)
    .bind(Json(job.spec))
    .bind(lane.as_str())
    .bind(State::Queued.as_str())
    .bind(i64::from(limits.attempts_max))
    .bind(i64::from(limits.crashes_max))
    .bind(tx.now_ms)
    .fetch_one(&mut tx.conn)
    .await
    .map_err(database_error)?;
    let job = rows::job(&row)?;
    add_to_outbox(tx, &job).await?;
    emit(tx, &job).await?;
    Ok(job)
}

/// Counted again for every job of a request, so that the tail of a large one is bulk.
async fn lane_by_load(tx: &mut Tx, owner: OwnerId, limits: QueueLimits) -> LedgerResult<Lane> {
    let row = sqlx::query(UNFINISHED_OF_OWNER).bind(owner.0).fetch_one(&mut tx.conn).await.map_err(database_error)?;
    let unfinished: u64 = number(&row, "n")?;
    Ok(if unfinished >= limits.bulk_from_jobs { Lane::Bulk } else { Lane::Interactive })
}
