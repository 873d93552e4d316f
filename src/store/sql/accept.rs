//! Submissions: image, job, outbox row, event and idempotency row in one transaction.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::dead_letters;
use super::moves::{add_to_outbox, emit};
use super::owners;
use super::query::{Row, Sql, Value, query, signed};
use super::quotas::{self, Spent};
use super::rows;
use super::writer::Tx;
use crate::job::{ImageId, Lane, OwnerId, State, UploadId};
use crate::store::quotas::Demand;
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

/// Where an item of a request ends up.
enum Placed {
    /// In rows of its own.
    New(Box<(NewImage, NewJob)>),
    /// With an earlier item of the request, which has the same bytes.
    Same(usize),
    /// With what was there before.
    There(Box<(ImageRow, JobRow)>),
}

/// See [`crate::store::Ledger::accept`].
pub(in crate::store) async fn accept(tx: &mut Tx, submission: Submission) -> LedgerResult<Accepted> {
    let (owner, limits) = (submission.owner, submission.limits);
    if let Some(idempotency) = &submission.idempotency
        && let Some(row) =
            query(RECALL).bind(owner.0).bind(idempotency.key.as_str()).fetch_optional(&mut tx.conn).await?
    {
        return recalled(&row).map(Accepted::Replayed);
    }
    let (placed, ids) = place(tx, owner, submission.items, submission.dedup).await?;
    let fresh = || placed.iter().filter_map(|placed| if let Placed::New(item) = placed { Some(&item.0) } else { None });
    let demand = Demand {
        bytes: fresh().map(|image| image.size_bytes).sum(),
        pixels: fresh().map(NewImage::pixels_counted).sum(),
        jobs: fresh().count() as u64,
        upload: submission.upload,
    };
    if let Some(full) = queue_full(tx, limits, demand.jobs).await? {
        return Ok(Accepted::QueueFull(full));
    }
    if let Some(reached) = quotas::reached(tx, owner, limits.quota, demand).await? {
        return Ok(Accepted::QuotaReached(reached));
    }
    if let Some(mut idempotency) = submission.idempotency {
        rename(&mut idempotency.answer, &ids);
        if !remember(tx, owner, &idempotency).await? {
            // Another node was faster by less than its commit, for which this one has waited.
            let row = query(RECALL).bind(owner.0).bind(idempotency.key.as_str()).fetch_one(&mut tx.conn).await?;
            return recalled(&row).map(Accepted::Replayed);
        }
    }
    let mut created: Vec<(ImageRow, JobRow)> = Vec::with_capacity(placed.len());
    for placed in placed {
        let item = match placed {
            Placed::There(item) => *item,
            Placed::Same(index) => created
                .get(index)
                .cloned()
                .ok_or_else(|| LedgerError::Corrupt("an item is the same as a later one".to_owned()))?,
            Placed::New(item) => {
                let (image, job) = *item;
                let made = insert(tx, owner, image, job, limits).await?;
                if let Some(submitted) = &submission.submitted {
                    dead_letters::remember(tx, made.0.id, submitted.clone()).await?;
                }
                made
            }
        };
        created.push(item);
    }
    if let Some(upload) = submission.upload {
        release(tx, upload).await?;
    }
    Ok(Accepted::Created(created))
}

/// Finds what is there already, if that will do; with the ids that stand in place of those that were asked for.
async fn place(
    tx: &mut Tx,
    owner: OwnerId,
    items: Vec<(NewImage, NewJob)>,
    dedup: bool,
) -> LedgerResult<(Vec<Placed>, HashMap<String, String>)> {
    let (mut placed, mut ids) = (Vec::with_capacity(items.len()), HashMap::new());
    let mut before: HashMap<String, (usize, ImageId, crate::job::JobId)> = HashMap::new();
    for (index, (image, job)) in items.into_iter().enumerate() {
        if job.image_id != image.id || job.owner != owner {
            return Err(LedgerError::Corrupt(format!("job {} is not of the image and owner it came with", job.id)));
        }
        let mut rename = |to: (ImageId, crate::job::JobId)| {
            ids.insert(image.id.to_string(), to.0.to_string());
            ids.insert(job.id.to_string(), to.1.to_string());
        };
        if let Some((index, image, job)) = before.get(&image.sha256).filter(|_| dedup) {
            rename((*image, *job));
            placed.push(Placed::Same(*index));
            continue;
        }
        let there = if dedup { there(tx, owner, &image.sha256, &job.spec).await? } else { None };
        if let Some(there) = there {
            rename((there.0.id, there.1.id));
            placed.push(Placed::There(Box::new(there)));
            continue;
        }
        before.insert(image.sha256.clone(), (index, image.id, job.id));
        placed.push(Placed::New(Box::new((image, job))));
    }
    Ok((placed, ids))
}

/// An image with the same bytes and its job with the same spec; it stays until the commit.
async fn there(tx: &mut Tx, owner: OwnerId, sha256: &str, spec: &Json) -> LedgerResult<Option<(ImageRow, JobRow)>> {
    let Some((image, job)) = quotas::known((&mut tx.conn).into(), owner, sha256, spec).await? else { return Ok(None) };
    if query(KEPT_IMAGE).bind(image.0).bind(owner.0).fetch_optional(&mut tx.conn).await?.is_none() {
        return Ok(None);
    }
    let image = owners::image_within(tx, owner, image).await?;
    let job = query("SELECT * FROM jobs WHERE id = $1").bind(job.0).fetch_optional(&mut tx.conn).await?;
    Ok(image.zip(job.as_ref().map(rows::job).transpose()?))
}

/// Puts other ids in place of those that were asked for, where `image` and `job` stand.
fn rename(answer: &mut Json, ids: &HashMap<String, String>) {
    match answer {
        Json::Array(items) => items.iter_mut().for_each(|item| rename(item, ids)),
        Json::Object(members) => {
            for (name, value) in members.iter_mut() {
                let known = value.as_str().filter(|_| name == "image" || name == "job").and_then(|id| ids.get(id));
                match known {
                    Some(id) => *value = Json::from(id.as_str()),
                    None => rename(value, ids),
                }
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// What an announced upload has reserved is stored now.
async fn release(tx: &mut Tx, upload: UploadId) -> LedgerResult<()> {
    query("UPDATE uploads SET reserved_bytes = 0 WHERE id = $1").bind(upload.0).execute(&mut tx.conn).await.map(drop)
}

/// Image and job, and what they add to the sums of their owner.
async fn insert(
    tx: &mut Tx,
    owner: OwnerId,
    image: NewImage,
    job: NewJob,
    limits: QueueLimits,
) -> LedgerResult<(ImageRow, JobRow)> {
    let spent = Spent { owner, bytes: signed(image.size_bytes)?, pixels: image.pixels_counted() };
    let mut image = insert_image(tx, owner, image).await?;
    let job = insert_job(tx, job, limits).await?;
    image.job_ids.push(job.id);
    image.state = Some(job.state);
    tx.spent.push(spent);
    Ok((image, job))
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
    let (owner, pixels) = (job.owner, quotas::pixels_of(tx, job.image_id).await?);
    let demand = Demand { pixels, jobs: 1, ..Demand::default() };
    if let Some(reached) = quotas::reached(tx, owner, limits.quota, demand).await? {
        return Ok(Some(Admission::QuotaReached(reached)));
    }
    let job = insert_job(tx, job, limits).await?;
    tx.spent.push(Spent { owner, bytes: 0, pixels });
    Ok(Some(Admission::Created(job)))
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
    .bind(image.sha256.as_str())
    .bind(image.width_px)
    .bind(image.height_px)
    .bind(image.pages_count)
    .bind(tx.now_ms)
    .bind(image.filename.to_lowercase())
    .fetch_one(&mut tx.conn)
    .await?;
    query("INSERT INTO contents (image_id, owner, sha256, pixels) VALUES ($1, $2, $3, $4)")
        .bind(image.id.0)
        .bind(owner.0)
        .bind(image.sha256)
        .bind(image.pixels.map(signed).transpose()?)
        .execute(&mut tx.conn)
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
