//! Counts, garbage and pruning.

use std::collections::BTreeMap;

use sqlx::SqlitePool;
use uuid::Uuid;

use super::rows::{self, database_error, get, number};
use super::writer::Tx;
use crate::job::{ImageId, JobId, Lane, State};
use crate::store::{Garbage, GarbageTarget, LedgerError, LedgerResult};

/// Looks at unfinished rows alone, by their own index.
pub(super) const COUNTS: &str =
    "SELECT lane, state, count(*) AS n FROM jobs WHERE finished_at_ms IS NULL GROUP BY lane, state";
/// Durations of the last hundred.
pub(super) const DURATIONS: &str = "
    SELECT finished_at_ms - started_at_ms FROM jobs
    WHERE state = 'succeeded' AND started_at_ms IS NOT NULL ORDER BY finished_at_ms DESC LIMIT 100";

/// See [`start_known`].
pub(super) const START_KNOWN: &str =
    "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND starts = $2 AND state IN ('running', 'succeeded'))";

/// Rows that one commit prunes at most: other changes wait meanwhile.
const PRUNE_ROWS: i64 = 500;

/// See [`crate::store::Ledger::counts`].
pub(super) async fn counts(readers: &SqlitePool) -> LedgerResult<BTreeMap<(Lane, State), u64>> {
    let rows = sqlx::query(COUNTS).fetch_all(readers).await.map_err(database_error)?;
    rows.iter().map(|row| Ok(((rows::lane(row)?, rows::state(row)?), number(row, "n")?))).collect()
}

/// See [`crate::store::Ledger::typical_duration_ms`].
pub(super) async fn typical_duration_ms(readers: &SqlitePool) -> LedgerResult<Option<u64>> {
    let mut durations: Vec<i64> = sqlx::query_scalar(DURATIONS).fetch_all(readers).await.map_err(database_error)?;
    durations.sort_unstable();
    // A clock that was set back makes a negative one.
    Ok(durations.get(durations.len() / 2).map(|median| u64::try_from(*median).unwrap_or(0)))
}

/// See [`crate::store::Ledger::garbage`].
pub(super) async fn garbage(readers: &SqlitePool, limit: u32) -> LedgerResult<Vec<Garbage>> {
    let rows = sqlx::query("SELECT id, kind, target FROM garbage ORDER BY id LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await
        .map_err(database_error)?;
    rows.iter()
        .map(|row| {
            let target: Uuid = get(row, "target")?;
            let target = match get::<String>(row, "kind")?.as_str() {
                "original" => GarbageTarget::Original(ImageId(target)),
                "outputs" => GarbageTarget::Outputs(JobId(target)),
                other => return Err(LedgerError::Corrupt(format!("garbage of kind {other}"))),
            };
            Ok(Garbage { id: get(row, "id")?, target })
        })
        .collect()
}

/// See [`crate::store::Ledger::garbage_removed`].
pub(super) async fn garbage_removed(tx: &mut Tx, ids: &[i64]) -> LedgerResult<()> {
    for id in ids {
        sqlx::query("DELETE FROM garbage WHERE id = $1")
            .bind(id)
            .execute(&mut tx.conn)
            .await
            .map_err(database_error)?;
    }
    Ok(())
}

/// See [`crate::store::Ledger::image_known`].
pub(super) async fn image_known(readers: &SqlitePool, id: ImageId) -> LedgerResult<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM images WHERE id = $1)")
        .bind(id.0)
        .fetch_one(readers)
        .await
        .map_err(database_error)
}

/// See [`crate::store::Ledger::start_known`].
pub(super) async fn start_known(readers: &SqlitePool, job: JobId, start: u32) -> LedgerResult<bool> {
    sqlx::query_scalar(START_KNOWN).bind(job.0).bind(i64::from(start)).fetch_one(readers).await.map_err(database_error)
}

/// One bounded round of pruning; returns how many rows went, 0 when nothing old is left.
pub(super) async fn prune(tx: &mut Tx, before_ms: i64) -> LedgerResult<u64> {
    let mut pruned = 0;
    // Events are numbered as time goes, so only the lowest numbers need a look.
    for sql in [
        "DELETE FROM events WHERE at_ms < $1 AND seq IN (SELECT seq FROM events ORDER BY seq LIMIT $2)",
        "DELETE FROM idempotency WHERE (owner, idempotency_key) IN \
         (SELECT owner, idempotency_key FROM idempotency WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT $2)",
    ] {
        let done =
            sqlx::query(sql).bind(before_ms).bind(PRUNE_ROWS).execute(&mut tx.conn).await.map_err(database_error)?;
        pruned += done.rows_affected();
    }
    Ok(pruned)
}
