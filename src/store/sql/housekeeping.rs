//! Counts, garbage and pruning.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::query::{Readers, Sql, query};
use super::writer::Tx;
use super::{quotas, rows};
use crate::job::{ImageId, JobId, Lane, State};
use crate::store::{Garbage, GarbageTarget, LedgerError, LedgerResult};

/// Looks at unfinished rows alone, by their own index.
pub(in crate::store) const COUNTS: &str =
    "SELECT lane, state, count(*) AS n FROM jobs WHERE finished_at_ms IS NULL GROUP BY lane, state";
/// Durations of the last hundred.
pub(in crate::store) const DURATIONS: &str = "
    SELECT finished_at_ms - started_at_ms FROM jobs
    WHERE state = 'succeeded' AND started_at_ms IS NOT NULL ORDER BY finished_at_ms DESC LIMIT 100";

/// Successes since a time, in spans of equal length: a walk along the index of what succeeded.
pub(in crate::store) const THROUGHPUT: &str = "
    SELECT (finished_at_ms - $1) / $2 AS span, count(*) AS n FROM jobs
    WHERE state = 'succeeded' AND finished_at_ms >= $1 GROUP BY 1";

/// See [`start_known`].
pub(in crate::store) const START_KNOWN: &str =
    "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND starts = $2 AND state IN ('running', 'succeeded'))";

/// On SQLite events are numbered as time goes, so only the lowest numbers need a look. Rows that another node prunes are
/// left to it.
const OLD_EVENTS: Sql = Sql::each(
    "DELETE FROM events WHERE at_ms < $1 AND seq IN (SELECT seq FROM events ORDER BY seq LIMIT $2)",
    "DELETE FROM events WHERE (owner, seq) IN (SELECT owner, seq FROM events WHERE at_ms < $1 \
     ORDER BY at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)",
);
const OLD_KEYS: Sql = Sql::each(
    "DELETE FROM idempotency WHERE (owner, idempotency_key) IN \
     (SELECT owner, idempotency_key FROM idempotency WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT $2)",
    "DELETE FROM idempotency WHERE (owner, idempotency_key) IN \
     (SELECT owner, idempotency_key FROM idempotency WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT $2 \
     FOR UPDATE SKIP LOCKED)",
);

/// Rows that one commit prunes at most: other changes wait meanwhile.
const PRUNE_ROWS: i64 = 500;

/// See [`crate::store::Ledger::counts`].
pub(in crate::store) async fn counts(readers: &Readers) -> LedgerResult<BTreeMap<(Lane, State), u64>> {
    let rows = query(COUNTS).fetch_all(readers).await?;
    rows.iter().map(|row| Ok(((rows::lane(row)?, rows::state(row)?), row.number("n")?))).collect()
}

/// See [`crate::store::Ledger::typical_duration_ms`].
pub(in crate::store) async fn typical_duration_ms(readers: &Readers) -> LedgerResult<Option<u64>> {
    let mut durations: Vec<i64> = query(DURATIONS).scalars(readers).await?;
    durations.sort_unstable();
    // A clock that was set back makes a negative one.
    Ok(durations.get(durations.len() / 2).map(|median| u64::try_from(*median).unwrap_or(0)))
}

/// See [`crate::store::Ledger::throughput`].
pub(in crate::store) async fn throughput(
    readers: &Readers,
    now_ms: i64,
    bucket: Duration,
    buckets: u32,
) -> LedgerResult<Vec<u64>> {
    let bucket_ms = i64::try_from(bucket.as_millis()).unwrap_or(i64::MAX).max(1);
    let since_ms = now_ms.saturating_sub(bucket_ms.saturating_mul(buckets.into()));
    let mut counts = vec![0; buckets as usize];
    for row in query(THROUGHPUT).bind(since_ms).bind(bucket_ms).fetch_all(readers).await? {
        let span: usize = row.number("span")?;
        // What was finished after `now_ms` was read counts as now.
        let last = counts.len().saturating_sub(1);
        if let Some(count) = counts.get_mut(span.min(last)) {
            *count += row.number::<u64>("n")?;
        }
    }
    Ok(counts)
}

/// See [`crate::store::Ledger::garbage`].
pub(in crate::store) async fn garbage(readers: &Readers, limit: u32) -> LedgerResult<Vec<Garbage>> {
    let rows = query("SELECT id, kind, target FROM garbage ORDER BY id LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await?;
    rows.iter()
        .map(|row| {
            let target: Uuid = row.get("target")?;
            let target = match row.get::<String>("kind")?.as_str() {
                "original" => GarbageTarget::Original(ImageId(target)),
                "outputs" => GarbageTarget::Outputs(JobId(target)),
                other => return Err(LedgerError::Corrupt(format!("garbage of kind {other}"))),
            };
            Ok(Garbage { id: row.get("id")?, target })
        })
        .collect()
}

/// See [`crate::store::Ledger::garbage_removed`].
pub(in crate::store) async fn garbage_removed(tx: &mut Tx, ids: &[i64]) -> LedgerResult<()> {
    for id in ids {
        query("DELETE FROM garbage WHERE id = $1").bind(*id).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// See [`crate::store::Ledger::image_known`].
pub(in crate::store) async fn image_known(readers: &Readers, id: ImageId) -> LedgerResult<bool> {
    query("SELECT EXISTS (SELECT 1 FROM images WHERE id = $1)").bind(id.0).scalar(readers).await
}

/// See [`crate::store::Ledger::start_known`].
pub(in crate::store) async fn start_known(readers: &Readers, job: JobId, start: u32) -> LedgerResult<bool> {
    query(START_KNOWN).bind(job.0).bind(start).scalar(readers).await
}

/// One bounded round of pruning; returns how many rows went, 0 when nothing old is left.
pub(in crate::store) async fn prune(tx: &mut Tx, before_ms: i64) -> LedgerResult<u64> {
    let mut pruned = 0;
    for sql in [OLD_EVENTS, OLD_KEYS] {
        pruned += query(sql).bind(before_ms).bind(PRUNE_ROWS).execute(&mut tx.conn).await?;
    }
    pruned += quotas::prune(tx, PRUNE_ROWS).await?;
    Ok(pruned)
}
