//! What the relay asks: which jobs wait, and what became of those that it brought to the bus.

use sqlx::SqlitePool;
use uuid::Uuid;

use super::moves::{load, shift};
use super::rows::{database_error, get, number};
use super::writer::Tx;
use crate::job::{Event, JobId, Lane, OwnerId};
use crate::store::{LedgerResult, Waiting};

/// Jobs of lane `$1` that are due at `$2`: the `$3` oldest of each of `$4` owners. Goes from owner to owner by index, so
/// that an owner with 100,000 jobs costs no more than one with ten. Owners with the least in flight come first: a newcomer
/// is seen even if there are more owners than are looked at.
pub(super) const WAITING: &str = "
    WITH RECURSIVE owners (owner) AS (
        SELECT (SELECT owner FROM outbox WHERE lane = $1 ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT later.owner FROM outbox AS later
                WHERE later.lane = $1 AND later.owner > owners.owner ORDER BY later.owner LIMIT 1)
        FROM owners WHERE owners.owner IS NOT NULL
    ), heads AS (
        SELECT owners.owner,
            (SELECT min(first.run_at_ms) FROM outbox AS first
             WHERE first.lane = $1 AND first.owner = owners.owner AND first.run_at_ms <= $2) AS since_ms,
            (SELECT count(*) FROM jobs AS held
             WHERE held.owner = owners.owner AND held.state IN ('released', 'running')) AS in_flight
        FROM owners WHERE owners.owner IS NOT NULL
    ), chosen AS (
        SELECT owner, in_flight FROM heads WHERE since_ms IS NOT NULL ORDER BY in_flight, since_ms LIMIT $4
    )
    SELECT due.job_id, due.owner, due.run_at_ms, jobs.starts, chosen.in_flight
    FROM chosen
    CROSS JOIN outbox AS due ON due.job_id IN (
        SELECT oldest.job_id FROM outbox AS oldest
        WHERE oldest.lane = $1 AND oldest.owner = chosen.owner AND oldest.run_at_ms <= $2
        ORDER BY oldest.run_at_ms, oldest.job_id LIMIT $3)
    CROSS JOIN jobs ON jobs.id = due.job_id
    ORDER BY due.run_at_ms, due.job_id";

/// The first of what is not due yet.
pub(super) const NEXT_DUE: &str = "SELECT min(run_at_ms) FROM outbox WHERE run_at_ms > $1";
/// What is on the bus.
pub(super) const RELEASED: &str = "SELECT id FROM jobs WHERE state = 'released' ORDER BY id";

/// See [`crate::store::Ledger::waiting`].
pub(super) async fn waiting(
    readers: &SqlitePool,
    now_ms: i64,
    per_owner: u32,
    owners_max: u32,
) -> LedgerResult<Vec<Waiting>> {
    let mut waiting = Vec::new();
    for lane in Lane::ALL {
        let rows = sqlx::query(WAITING)
            .bind(lane.as_str())
            .bind(now_ms)
            .bind(i64::from(per_owner))
            .bind(i64::from(owners_max))
            .fetch_all(readers)
            .await
            .map_err(database_error)?;
        for row in &rows {
            waiting.push(Waiting {
                job: JobId(get(row, "job_id")?),
                owner: OwnerId(get(row, "owner")?),
                lane,
                starts: number(row, "starts")?,
                since_ms: get(row, "run_at_ms")?,
                owner_in_flight: number(row, "in_flight")?,
            });
        }
    }
    Ok(waiting)
}

/// See [`crate::store::Ledger::next_due`].
pub(super) async fn next_due(readers: &SqlitePool, now_ms: i64) -> LedgerResult<Option<i64>> {
    sqlx::query_scalar(NEXT_DUE).bind(now_ms).fetch_one(readers).await.map_err(database_error)
}

/// `Release` or `Unrelease`; false when the job had moved on.
pub(super) async fn step(tx: &mut Tx, id: JobId, event: Event) -> LedgerResult<bool> {
    let Some(before) = load(tx, id).await? else { return Ok(false) };
    Ok(shift(tx, &before, event, |_| {}).await?.is_ok())
}

/// See [`crate::store::Ledger::unrelease_all`].
pub(super) async fn unrelease_all(tx: &mut Tx) -> LedgerResult<u64> {
    let released: Vec<Uuid> = sqlx::query_scalar(RELEASED).fetch_all(&mut tx.conn).await.map_err(database_error)?;
    let mut moved = 0;
    for id in released {
        moved += u64::from(step(tx, JobId(id), Event::Unrelease).await?);
    }
    Ok(moved)
}
