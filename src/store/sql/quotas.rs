//! What owners use and may use. Sums are kept, not made: what a commit adds to them is written as the last thing before it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::SqlLedger;
use super::owners;
use super::query::{Conn, On, Readers, Row, Sql, Value, query, signed};
use super::rows::{self, now_ms};
use super::writer::Tx;
use crate::job::{ImageId, JobId, OwnerId};
use crate::store::quotas::{
    DAY_MS, Demand, FailedJob, MINUTE_MS, Measure, Override, Quota, QuotaReached, Quotas, Standing, Usage, room_at_ms,
};
use crate::store::{LedgerResult, QueueLimits, Retried};

/// One owner at a time, by the lower half of a key of our own. SQLite has one writer anyway.
const LOCK: Sql = Sql::each("SELECT 1", "SELECT pg_advisory_xact_lock(1768648555, $1::int)");

/// All figures of an owner at once: what was set, what is stored, what is announced or coming in pieces (`$2`: what has
/// expired by then does not count; `$4`: nor does this one), pixels since `$3`, unfinished jobs.
pub(in crate::store) const STANDING: &str = "
    SELECT owner_quotas.stored_bytes_max, owner_quotas.pixels_per_day_max, owner_quotas.jobs_queued_max,
        coalesce((SELECT stored_bytes FROM owner_usage WHERE owner = $1), 0) AS stored_bytes,
        CAST(coalesce((SELECT sum(reserved_bytes) FROM uploads WHERE owner = $1 AND expires_at_ms > $2
            AND id <> $4), 0) + coalesce((SELECT sum(size_bytes) FROM resumable_uploads WHERE owner = $1
            AND offset_bytes < size_bytes AND expires_at_ms > $2 AND id <> $4), 0) AS BIGINT) AS reserved_bytes,
        CAST(coalesce((SELECT sum(pixels) FROM owner_pixels WHERE owner = $1 AND minute_ms > $3), 0) AS BIGINT) AS pixels,
        (SELECT count(*) FROM jobs WHERE owner = $1 AND state IN ('queued', 'released', 'running')) AS jobs
    FROM (SELECT 1 AS one) AS always LEFT JOIN owner_quotas ON owner_quotas.owner = $1";

/// The minutes that count.
pub(in crate::store) const TAKEN: &str =
    "SELECT minute_ms, pixels FROM owner_pixels WHERE owner = $1 AND minute_ms > $2 ORDER BY minute_ms";

/// Pixels of a middling one of the owner's last images.
pub(in crate::store) const TYPICAL: &str = "
    SELECT CAST(avg(page.pixels) AS BIGINT) FROM (
        SELECT contents.pixels FROM images JOIN contents ON contents.image_id = images.id
        WHERE images.owner = $1 ORDER BY images.id DESC LIMIT 20) AS page";

/// The newest job of an owner on these bytes with this spec that has succeeded or is on its way. Where a job with another spec
/// has come to the image, its files are others than asked for.
pub(in crate::store) const KNOWN: &str = "
    SELECT jobs.image_id, jobs.id FROM contents JOIN jobs ON jobs.image_id = contents.image_id
    WHERE contents.owner = $1 AND contents.sha256 = $2 AND jobs.owner = $1 AND jobs.spec = $3
        AND (jobs.state = 'succeeded' OR jobs.state IN ('queued', 'released', 'running') AND NOT jobs.cancel_requested)
        AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.image_id = jobs.image_id AND other.spec <> jobs.spec
            AND other.state NOT IN ('failed', 'cancelled'))
    ORDER BY jobs.id DESC LIMIT 1";

/// Failed jobs of whoever has an account, and of the one local user: by the index that each owner's lists have.
const FAILED: &str = "
    SELECT jobs.*, images.filename, accounts.username
    FROM (SELECT id FROM jobs WHERE owner IN (SELECT owner FROM accounts UNION SELECT $3)
            AND state = 'failed' AND id < $1 ORDER BY id DESC LIMIT $2) AS page
    JOIN jobs ON jobs.id = page.id JOIN images ON images.id = jobs.image_id
    LEFT JOIN accounts ON accounts.owner = jobs.owner
    ORDER BY jobs.id DESC";

/// What one change adds to the sums of an owner.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Spent {
    /// Whose.
    pub(in crate::store) owner: OwnerId,
    /// Stored, or removed.
    pub(in crate::store) bytes: i64,
    /// Taken.
    pub(in crate::store) pixels: u64,
}

/// The owners that a batch accepts for, each once, in an order that is the same everywhere.
pub(in crate::store) async fn lock(conn: &mut Conn, owners: BTreeSet<OwnerId>) -> LedgerResult<()> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    // The lower bits are the random ones. Two owners that share a key wait for each other without need.
    let key = |OwnerId(id): OwnerId| {
        let [.., a, b, c, d] = id.into_bytes();
        i32::from_be_bytes([a, b, c, d])
    };
    let keys: BTreeSet<i32> = owners.into_iter().map(key).collect();
    for key in keys {
        query(LOCK).bind(i64::from(key)).execute(On::Conn(conn)).await?;
    }
    Ok(())
}

/// Writes the sums, as one of the last things before a commit: owners in their order, so that two transactions never wait for
/// each other.
pub(in crate::store) async fn write(conn: &mut Conn, now_ms: i64, spent: &[Spent]) -> LedgerResult<()> {
    let mut sums: BTreeMap<OwnerId, (i64, u64)> = BTreeMap::new();
    for one in spent {
        let sum = sums.entry(one.owner).or_default();
        *sum = (sum.0.saturating_add(one.bytes), sum.1.saturating_add(one.pixels));
    }
    for (owner, (bytes, pixels)) in sums {
        if bytes != 0 {
            query(
                "INSERT INTO owner_usage (owner, stored_bytes) VALUES ($1, $2) \
                 ON CONFLICT (owner) DO UPDATE SET stored_bytes = owner_usage.stored_bytes + excluded.stored_bytes",
            )
            .bind(owner.0)
            .bind(bytes)
            .execute(On::Conn(conn))
            .await?;
        }
        if pixels > 0 {
            query(
                "INSERT INTO owner_pixels (owner, minute_ms, pixels) VALUES ($1, $2, $3) ON CONFLICT (owner, minute_ms) \
                 DO UPDATE SET pixels = owner_pixels.pixels + excluded.pixels",
            )
            .bind(owner.0)
            .bind(now_ms - now_ms.rem_euclid(MINUTE_MS))
            .bind(signed(pixels)?)
            .execute(On::Conn(conn))
            .await?;
        }
    }
    Ok(())
}

fn standing(row: &Row) -> LedgerResult<Standing> {
    // A program of the release before does not count what it removes.
    let stored_bytes = u64::try_from(row.get::<i64>("stored_bytes")?).unwrap_or(0);
    Ok(Standing {
        usage: Usage {
            stored_bytes,
            reserved_bytes: row.number("reserved_bytes")?,
            pixels: row.number("pixels")?,
            jobs: row.number("jobs")?,
        },
        own: Override {
            stored_bytes_max: row.number_or_null("stored_bytes_max")?,
            pixels_per_day_max: row.number_or_null("pixels_per_day_max")?,
            jobs_queued_max: row.number_or_null("jobs_queued_max")?,
        },
    })
}

/// Minutes from this one on count: it has ended less than a day ago.
const fn since_ms(now_ms: i64) -> i64 {
    now_ms - DAY_MS - MINUTE_MS
}

async fn stands(on: On<'_>, owner: OwnerId, now_ms: i64, but: Option<Uuid>) -> LedgerResult<Standing> {
    let row = query(STANDING).bind(owner.0).bind(now_ms).bind(since_ms(now_ms)).bind(but.unwrap_or_default());
    standing(&row.fetch_one(on).await?)
}

async fn room_in_ms(on: On<'_>, owner: OwnerId, now_ms: i64, reached: &QuotaReached) -> LedgerResult<Option<i64>> {
    let rows = query(TAKEN).bind(owner.0).bind(since_ms(now_ms)).fetch_all(on).await?;
    let taken: LedgerResult<Vec<(i64, u64)>> =
        rows.iter().map(|row| Ok((row.get("minute_ms")?, row.number("pixels")?))).collect();
    let mut taken = taken?;
    // What this very commit adds has no row yet.
    let noted: u64 = taken.iter().map(|(_, pixels)| pixels).sum();
    taken.push((now_ms - now_ms.rem_euclid(MINUTE_MS), reached.used.saturating_sub(noted)));
    Ok(room_at_ms(&taken, reached.limit, reached.wanted).map(|at_ms| (at_ms - now_ms).max(1)))
}

/// The bound that has no room for `demand`, if any: within the transaction that accepts, whose batch holds the owner's lock.
/// Without a quota nothing is looked at.
pub(in crate::store) async fn reached(
    tx: &mut Tx,
    owner: OwnerId,
    quota: Option<Quota>,
    demand: Demand,
) -> LedgerResult<Option<QuotaReached>> {
    let Some(usual) = quota else { return Ok(None) };
    let now_ms = tx.now_ms;
    let Standing { mut usage, own } =
        stands(On::Conn(&mut tx.conn), owner, now_ms, demand.upload.map(|upload| upload.0)).await?;
    for spent in tx.spent.iter().filter(|spent| spent.owner == owner) {
        usage.stored_bytes = usage.stored_bytes.saturating_add_signed(spent.bytes);
        usage.pixels = usage.pixels.saturating_add(spent.pixels);
    }
    let Some(mut reached) = QuotaReached::first(&own.over(usual), &usage, &demand) else { return Ok(None) };
    if reached.measure == Measure::PixelsPerDay {
        reached.room_in_ms = room_in_ms(On::Conn(&mut tx.conn), owner, now_ms, &reached).await?;
    }
    Ok(Some(reached))
}

/// See [`Quotas::known_content`].
pub(in crate::store) async fn known(
    on: On<'_>,
    owner: OwnerId,
    sha256: &str,
    spec: &serde_json::Value,
) -> LedgerResult<Option<(ImageId, JobId)>> {
    let found = query(KNOWN).bind(owner.0).bind(sha256).bind(Value::json(spec)?).fetch_optional(on).await?;
    found.map(|row| Ok((ImageId(row.get("image_id")?), JobId(row.get("id")?)))).transpose()
}

/// Pixels of all pages of an image: as its header said, or as far as they are known from its first page.
pub(in crate::store) async fn pixels_of(tx: &mut Tx, image: ImageId) -> LedgerResult<u64> {
    let sql = "SELECT coalesce(contents.pixels, images.width_px * images.height_px * coalesce(images.pages_count, 1), 0) \
               AS pixels FROM images LEFT JOIN contents ON contents.image_id = images.id WHERE images.id = $1";
    let row = query(sql).bind(image.0).fetch_optional(&mut tx.conn).await?;
    Ok(row.map(|row| row.number("pixels")).transpose()?.unwrap_or(0))
}

/// Bytes of the files of an image, without the original.
pub(in crate::store) async fn files_bytes(tx: &mut Tx, image: ImageId) -> LedgerResult<i64> {
    query(
        "SELECT CAST(coalesce(sum(files.size_bytes), 0) AS BIGINT) FROM files JOIN jobs ON jobs.id = files.job_id \
         WHERE jobs.image_id = $1",
    )
    .bind(image.0)
    .scalar(&mut tx.conn)
    .await
}

/// Drops minutes that no longer count; how many went.
pub(in crate::store) async fn prune(tx: &mut Tx, rows_max: i64) -> LedgerResult<u64> {
    let before_ms = since_ms(tx.now_ms);
    query(
        "DELETE FROM owner_pixels WHERE (owner, minute_ms) IN (SELECT owner, minute_ms FROM owner_pixels \
         WHERE minute_ms <= $1 ORDER BY minute_ms, owner LIMIT $2)",
    )
    .bind(before_ms)
    .bind(rows_max)
    .execute(&mut tx.conn)
    .await
}

async fn set(tx: &mut Tx, owner: OwnerId, own: Override) -> LedgerResult<()> {
    let bound = |bound: Option<u64>| bound.map(signed).transpose();
    query(
        "INSERT INTO owner_quotas (owner, stored_bytes_max, pixels_per_day_max, jobs_queued_max) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (owner) DO UPDATE SET stored_bytes_max = excluded.stored_bytes_max, \
         pixels_per_day_max = excluded.pixels_per_day_max, jobs_queued_max = excluded.jobs_queued_max",
    )
    .bind(owner.0)
    .bind(bound(own.stored_bytes_max)?)
    .bind(bound(own.pixels_per_day_max)?)
    .bind(bound(own.jobs_queued_max)?)
    .execute(&mut tx.conn)
    .await
    .map(drop)
}

async fn owner_of(readers: &Readers, id: JobId) -> LedgerResult<Option<OwnerId>> {
    let row = query("SELECT owner FROM jobs WHERE id = $1").bind(id.0).fetch_optional(readers).await?;
    row.map(|row| Ok(OwnerId(row.get("owner")?))).transpose()
}

#[async_trait]
impl Quotas for SqlLedger {
    async fn standing(&self, owner: OwnerId) -> LedgerResult<Standing> {
        stands(On::Readers(&self.readers), owner, self.writer.database_ms(now_ms()), None).await
    }

    async fn has_room(&self, owner: OwnerId, quota: Quota, demand: Demand) -> LedgerResult<Option<QuotaReached>> {
        let now_ms = self.writer.database_ms(now_ms());
        let but = demand.upload.map(|upload| upload.0);
        let Standing { usage, own } = stands(On::Readers(&self.readers), owner, now_ms, but).await?;
        let Some(mut reached) = QuotaReached::first(&own.over(quota), &usage, &demand) else { return Ok(None) };
        if reached.measure == Measure::PixelsPerDay {
            let typical: Option<i64> = query(TYPICAL).bind(owner.0).scalar(&self.readers).await?;
            let typical = u64::try_from(typical.unwrap_or(0)).unwrap_or(0).min(reached.limit);
            let like_it = QuotaReached { wanted: reached.wanted.max(typical), ..reached };
            reached.room_in_ms = room_in_ms(On::Readers(&self.readers), owner, now_ms, &like_it).await?;
        }
        Ok(Some(reached))
    }

    async fn set_quota(&self, owner: OwnerId, own: Override) -> LedgerResult<()> {
        self.writer.run_for(Some(owner), move |tx| Box::pin(set(tx, owner, own))).await
    }

    async fn owners_at_work(&self) -> LedgerResult<u64> {
        let sql = "SELECT count(*) AS n FROM (SELECT DISTINCT owner FROM jobs WHERE finished_at_ms IS NULL) AS owners";
        query(sql).fetch_one(&self.readers).await?.number("n")
    }

    async fn known_content(
        &self,
        owner: OwnerId,
        sha256: &str,
        spec: &serde_json::Value,
    ) -> LedgerResult<Option<(ImageId, JobId)>> {
        known(On::Readers(&self.readers), owner, sha256, spec).await
    }

    async fn failed_jobs(&self, before: Option<JobId>, limit: u32) -> LedgerResult<Vec<FailedJob>> {
        let rows = query(FAILED)
            .bind(before.map_or(Uuid::max(), |id| id.0))
            .bind(i64::from(limit))
            .bind(OwnerId::LOCAL.0)
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                let (job, filename, username) = (rows::job(row)?, row.get("filename")?, row.get("username")?);
                Ok(FailedJob { job, filename, username })
            })
            .collect()
    }

    async fn retry_for_owner(&self, id: JobId, limits: QueueLimits) -> LedgerResult<Option<Retried>> {
        let Some(owner) = owner_of(&self.readers, id).await? else { return Ok(None) };
        self.writer.run_for(Some(owner), move |tx| Box::pin(owners::retry(tx, owner, id, limits))).await
    }
}
