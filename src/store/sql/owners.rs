//! What owners ask for and change.

use uuid::Uuid;

use super::accept::queue_full;
use super::moves::{load, shift, write};
use super::query::{Readers, Sql, query, signed};
use super::quotas::{self, Spent};
use super::rows;
use super::writer::Tx;
use crate::job::{Event, ImageId, JobId, OwnerId, State};
use crate::store::quotas::Demand;
use crate::store::{
    Cancelled, Deleted, FileRow, ImageFilter, ImageRow, JobFilter, JobRow, LedgerResult, QueueLimits, Retried,
};

/// Images of `$from` beside their jobs, oldest job first; only the verdict is taken out of what the gate says.
macro_rules! with_jobs {
    ($from:literal, $end:literal) => {
        Sql::each(
            with_jobs!(@text "json_extract(jobs.gate, '$.verdict')", $from, $end),
            with_jobs!(@text "jobs.gate::json ->> 'verdict'", $from, $end),
        )
    };
    (@text $verdict:literal, $from:literal, $end:literal) => {
        concat!(
            "SELECT page.*, jobs.id AS job_id, jobs.state AS job_state, jobs.finished_at_ms AS job_finished_at_ms, ",
            $verdict, " AS job_verdict FROM ", $from, " AS page LEFT JOIN jobs ON jobs.image_id = page.id ", $end
        )
    };
}

/// One image.
pub(in crate::store) const IMAGE_BY_ID: Sql =
    with_jobs!("images", "WHERE page.id = $1 AND page.owner = $2 ORDER BY jobs.id");

const IMAGES: Sql = with_jobs!(
    "(SELECT * FROM images WHERE owner = $1 AND id < $2 ORDER BY id DESC LIMIT $3)",
    "ORDER BY page.id DESC, jobs.id"
);

/// The ids of the images that a filter lets through: by part of the name, by the state of the youngest job (one of
/// `,queued,,running,`), by the verdict on the files (likewise); empty lets everything through. What is asked of jobs is
/// asked of one job for each image.
const FOUND: Sql = Sql::each(
    "SELECT id FROM images WHERE owner = $1 AND id < $2
        AND ($4 = '' OR instr(coalesce(name_folded, lower(filename)), $4) > 0)
        AND ($5 = '' OR instr($5, (SELECT ',' || state || ',' FROM jobs WHERE image_id = images.id
            ORDER BY id DESC LIMIT 1)) > 0)
        AND ($6 = '' OR instr($6, (SELECT ',' || json_extract(gate, '$.verdict') || ',' FROM jobs
            WHERE image_id = images.id AND state = 'succeeded' ORDER BY finished_at_ms DESC, id DESC LIMIT 1)) > 0)
    ORDER BY id DESC LIMIT $3",
    "SELECT id FROM images WHERE owner = $1 AND id < $2
        AND ($4 = '' OR strpos(coalesce(name_folded, lower(filename)), $4) > 0)
        AND ($5 = '' OR strpos($5, (SELECT ',' || state || ',' FROM jobs WHERE image_id = images.id
            ORDER BY id DESC LIMIT 1)) > 0)
        AND ($6 = '' OR strpos($6, (SELECT ',' || (gate::json ->> 'verdict') || ',' FROM jobs
            WHERE image_id = images.id AND state = 'succeeded' ORDER BY finished_at_ms DESC, id DESC LIMIT 1)) > 0)
    ORDER BY id DESC LIMIT $3",
);

const JOBS: &str = "SELECT * FROM jobs WHERE owner = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
const JOBS_BY_STATE: &str = "SELECT * FROM jobs WHERE owner = $1 AND state = $4 AND id < $2 ORDER BY id DESC LIMIT $3";

const FILES: &str = "
    SELECT * FROM files WHERE job_id = (
        SELECT id FROM jobs WHERE image_id = $1 AND owner = $2 AND state = 'succeeded'
        ORDER BY finished_at_ms DESC, id DESC LIMIT 1)
    ORDER BY ordinal";

/// What is deleted is locked first, so that no new job comes to it meanwhile.
const IMAGE_TO_DELETE: Sql = Sql::each(
    "SELECT 1 FROM images WHERE id = $1 AND owner = $2",
    "SELECT 1 FROM images WHERE id = $1 AND owner = $2 FOR UPDATE",
);
const JOBS_TO_DELETE: Sql = Sql::each(
    "SELECT * FROM jobs WHERE image_id = $1 ORDER BY id",
    "SELECT * FROM jobs WHERE image_id = $1 ORDER BY id FOR UPDATE",
);

/// All statements that lists are made of, for the test of their plans.
#[cfg(test)]
pub(in crate::store) const LISTS: [&str; 6] =
    [IMAGE_BY_ID.sqlite, IMAGES.sqlite, FOUND.sqlite, JOBS, JOBS_BY_STATE, FILES];

/// See [`crate::store::Ledger::image`].
pub(in crate::store) async fn image(readers: &Readers, owner: OwnerId, id: ImageId) -> LedgerResult<Option<ImageRow>> {
    let rows = query(IMAGE_BY_ID).bind(id.0).bind(owner.0).fetch_all(readers).await?;
    Ok(rows::images_with_jobs(&rows)?.pop())
}

/// The same within a transaction.
pub(in crate::store) async fn image_within(tx: &mut Tx, owner: OwnerId, id: ImageId) -> LedgerResult<Option<ImageRow>> {
    let rows = query(IMAGE_BY_ID).bind(id.0).bind(owner.0).fetch_all(&mut tx.conn).await?;
    Ok(rows::images_with_jobs(&rows)?.pop())
}

/// See [`crate::store::Ledger::images`].
pub(in crate::store) async fn images(
    readers: &Readers,
    owner: OwnerId,
    before: Option<ImageId>,
    limit: u32,
) -> LedgerResult<Vec<ImageRow>> {
    let rows = query(IMAGES)
        .bind(owner.0)
        .bind(before.map_or(Uuid::max(), |id| id.0))
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await?;
    rows::images_with_jobs(&rows)
}

/// See [`crate::store::Ledger::find_images`].
pub(in crate::store) async fn find_images(
    readers: &Readers,
    owner: OwnerId,
    filter: ImageFilter,
    before: Option<ImageId>,
    limit: u32,
) -> LedgerResult<Vec<ImageRow>> {
    let states: String = filter.states.iter().map(|state| format!(",{state},")).collect();
    let verdicts: String = filter.verdicts.iter().map(|verdict| format!(",{verdict},")).collect();
    let ids: Vec<Uuid> = query(FOUND)
        .bind(owner.0)
        .bind(before.map_or(Uuid::max(), |id| id.0))
        .bind(i64::from(limit))
        .bind(filter.name.unwrap_or_default().to_lowercase())
        .bind(states)
        .bind(verdicts)
        .scalars(readers)
        .await?;
    let mut found = Vec::with_capacity(ids.len());
    // By their keys: one question with all of them would have as many shapes as there are lengths.
    for id in ids {
        found.extend(image(readers, owner, ImageId(id)).await?);
    }
    Ok(found)
}

/// See [`crate::store::Ledger::job`].
pub(in crate::store) async fn job(readers: &Readers, owner: OwnerId, id: JobId) -> LedgerResult<Option<JobRow>> {
    let row = query("SELECT * FROM jobs WHERE id = $1 AND owner = $2")
        .bind(id.0)
        .bind(owner.0)
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(rows::job).transpose()
}

/// See [`crate::store::Ledger::jobs`].
pub(in crate::store) async fn jobs(
    readers: &Readers,
    owner: OwnerId,
    filter: JobFilter,
    before: Option<JobId>,
    limit: u32,
) -> LedgerResult<Vec<JobRow>> {
    let query = query(if filter.state.is_some() { JOBS_BY_STATE } else { JOBS })
        .bind(owner.0)
        .bind(before.map_or(Uuid::max(), |id| id.0))
        .bind(i64::from(limit));
    let query = match filter.state {
        Some(state) => query.bind(state.as_str()),
        None => query,
    };
    let rows = query.fetch_all(readers).await?;
    rows.iter().map(rows::job).collect()
}

/// See [`crate::store::Ledger::files`].
pub(in crate::store) async fn files(readers: &Readers, owner: OwnerId, image: ImageId) -> LedgerResult<Vec<FileRow>> {
    let rows = query(FILES).bind(image.0).bind(owner.0).fetch_all(readers).await?;
    rows.iter().map(rows::file).collect()
}

async fn load_own(tx: &mut Tx, owner: OwnerId, id: JobId) -> LedgerResult<Option<JobRow>> {
    Ok(load(tx, id).await?.filter(|job| job.owner == owner))
}

/// See [`crate::store::Ledger::cancel`].
pub(in crate::store) async fn cancel(tx: &mut Tx, owner: OwnerId, id: JobId) -> LedgerResult<Option<Cancelled>> {
    let Some(before) = load_own(tx, owner, id).await? else { return Ok(None) };
    if before.state == State::Running {
        let asked = JobRow { cancel_requested: true, ..before.clone() };
        write(tx, &before, &asked).await?;
        return Ok(Some(Cancelled::Asked(asked)));
    }
    Ok(Some(match shift(tx, &before, Event::Cancel, |_| {}).await? {
        Ok(job) => Cancelled::Now(job),
        Err(_) => Cancelled::TooLate(before),
    }))
}

/// See [`crate::store::Ledger::retry`].
pub(in crate::store) async fn retry(
    tx: &mut Tx,
    owner: OwnerId,
    id: JobId,
    limits: QueueLimits,
) -> LedgerResult<Option<Retried>> {
    let Some(before) = load_own(tx, owner, id).await? else { return Ok(None) };
    if !matches!(before.state, State::Failed | State::Cancelled) {
        return Ok(Some(Retried::WrongState(before)));
    }
    if let Some(full) = queue_full(tx, limits, 1).await? {
        return Ok(Some(Retried::QueueFull(full)));
    }
    // What an administrator has begun again is not on the owner's account.
    let pixels = match limits.quota {
        Some(_) => quotas::pixels_of(tx, before.image_id).await?,
        None => 0,
    };
    let demand = Demand { pixels, jobs: 1, ..Demand::default() };
    if let Some(reached) = quotas::reached(tx, owner, limits.quota, demand).await? {
        return Ok(Some(Retried::QuotaReached(reached)));
    }
    let now_ms = tx.now_ms;
    let moved = shift(tx, &before, Event::OwnerRetry, |job| {
        job.run_at_ms = now_ms;
        job.cancel_requested = false;
        job.error = None;
        (job.stage, job.progress) = (None, 0.0);
    });
    Ok(Some(match moved.await? {
        Ok(job) => {
            tx.spent.push(Spent { owner, bytes: 0, pixels });
            Retried::Now(job)
        }
        Err(_) => Retried::WrongState(before),
    }))
}

/// See [`crate::store::Ledger::delete_image`]. Unfinished jobs are cancelled on the way, so that whoever watches them sees
/// an end.
pub(in crate::store) async fn delete_image(tx: &mut Tx, owner: OwnerId, id: ImageId) -> LedgerResult<Option<Deleted>> {
    let known = query(IMAGE_TO_DELETE).bind(id.0).bind(owner.0).fetch_optional(&mut tx.conn).await?;
    if known.is_none() {
        return Ok(None);
    }
    let Some(image) = image_within(tx, owner, id).await? else { return Ok(None) };
    let bytes = signed(image.size_bytes)?.saturating_add(quotas::files_bytes(tx, id).await?);
    tx.spent.push(Spent { owner, bytes: bytes.saturating_neg(), pixels: 0 });
    let jobs = query(JOBS_TO_DELETE).bind(id.0).fetch_all(&mut tx.conn).await?;
    let mut deleted = Deleted::default();
    for row in &jobs {
        let job = rows::job(row)?;
        match job.state {
            State::Running => {
                deleted.running.push(job.id);
                shift(tx, &job, Event::CancelRunning { start: job.starts }, |_| {}).await?.ok();
            }
            State::Queued | State::Released => drop(shift(tx, &job, Event::Cancel, |_| {}).await?),
            State::Succeeded | State::Failed | State::Cancelled => {}
        }
        if job.starts > 0 {
            discard(tx, "outputs", job.id.0).await?;
        }
    }
    discard(tx, "original", id.0).await?;
    // Jobs, files and outbox rows go with it.
    query("DELETE FROM images WHERE id = $1").bind(id.0).execute(&mut tx.conn).await?;
    Ok(Some(deleted))
}

async fn discard(tx: &mut Tx, kind: &'static str, target: Uuid) -> LedgerResult<()> {
    query("INSERT INTO garbage (kind, target, created_at_ms) VALUES ($1, $2, $3)")
        .bind(kind)
        .bind(target)
        .bind(tx.now_ms)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}
