//! What the relay asks: which jobs wait, and what became of those that it brought to the bus.

use uuid::Uuid;

use super::moves::{load, shift};
use super::query::{Readers, Row, Sql, query};
use super::rows;
use super::writer::Tx;
use crate::job::{Event, JobError, JobId, Lane, OwnerId};
use crate::store::{LedgerResult, Released, Waiting};

/// Owners that have jobs of lane `$1` due at `$2`, at most `$4`. Goes from owner to owner by index, so that an owner with
/// 100,000 jobs costs no more than one with ten. Owners with the least in flight come first: a newcomer is seen even if
/// there are more owners than are looked at.
///
/// An owner's first job is the first row from the owner on, in the order of that index. Asked for by `owner = ` PostgreSQL may
/// walk along the times of all owners instead, which for a newcomer behind 100,000 jobs is all of them.
macro_rules! chosen_owners {
    () => {
        "WITH RECURSIVE owners (owner) AS (
            SELECT (SELECT owner FROM outbox WHERE lane = $1 ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT (SELECT later.owner FROM outbox AS later
                    WHERE later.lane = $1 AND later.owner > owners.owner ORDER BY later.owner LIMIT 1)
            FROM owners WHERE owners.owner IS NOT NULL
        ), heads AS (
            SELECT owners.owner,
                (SELECT first.run_at_ms FROM outbox AS first WHERE first.lane = $1 AND first.owner >= owners.owner
                 ORDER BY first.owner, first.run_at_ms LIMIT 1) AS since_ms,
                (SELECT count(*) FROM jobs AS held
                 WHERE held.owner = owners.owner AND held.state IN ('released', 'running')) AS in_flight
            FROM owners WHERE owners.owner IS NOT NULL
        ), chosen AS (
            SELECT owner, in_flight FROM heads WHERE since_ms <= $2 ORDER BY in_flight, since_ms LIMIT $4
        )
        SELECT due.job_id, due.owner, due.run_at_ms, jobs.starts, jobs.error, chosen.in_flight FROM chosen "
    };
}

/// The `$3` oldest jobs of each of [`chosen_owners`].
pub(in crate::store) const WAITING: Sql = Sql::each(
    concat!(
        chosen_owners!(),
        "CROSS JOIN outbox AS due ON due.job_id IN (
            SELECT oldest.job_id FROM outbox AS oldest
            WHERE oldest.lane = $1 AND oldest.owner = chosen.owner AND oldest.run_at_ms <= $2
            ORDER BY oldest.run_at_ms, oldest.job_id LIMIT $3)
        CROSS JOIN jobs ON jobs.id = due.job_id
        ORDER BY due.run_at_ms, due.job_id"
    ),
    concat!(
        chosen_owners!(),
        "CROSS JOIN LATERAL (
            SELECT oldest.job_id, oldest.owner, oldest.run_at_ms FROM outbox AS oldest
            WHERE oldest.lane = $1 AND oldest.owner >= chosen.owner
            ORDER BY oldest.owner, oldest.run_at_ms, oldest.job_id LIMIT $3) AS due
        JOIN jobs ON jobs.id = due.job_id
        WHERE due.owner = chosen.owner AND due.run_at_ms <= $2
        ORDER BY due.run_at_ms, due.job_id"
    ),
);

/// The first of what is not due yet.
pub(in crate::store) const NEXT_DUE: &str = "SELECT min(run_at_ms) FROM outbox WHERE run_at_ms > $1";
/// What a node has brought to the bus; one without a node was released by a program that had no others.
pub(in crate::store) const RELEASED: &str =
    "SELECT id FROM jobs WHERE state = 'released' AND (node = $1 OR node IS NULL) ORDER BY id";

/// What any node has brought to the bus.
pub(in crate::store) const RELEASED_BY_ANY: &str =
    "SELECT id, lane, starts FROM jobs WHERE state = 'released' ORDER BY id LIMIT $1";

/// See [`crate::store::Ledger::waiting`].
pub(in crate::store) async fn waiting(
    readers: &Readers,
    now_ms: i64,
    per_owner: u32,
    owners_max: u32,
) -> LedgerResult<Vec<Waiting>> {
    let mut waiting = Vec::new();
    for lane in Lane::ALL {
        let rows = query(WAITING)
            .bind(lane.as_str())
            .bind(now_ms)
            .bind(i64::from(per_owner))
            .bind(i64::from(owners_max))
            .fetch_all(readers)
            .await?;
        for row in &rows {
            let error: Option<JobError> = row.json_or_null("error")?;
            waiting.push(Waiting {
                job: JobId(row.get("job_id")?),
                owner: OwnerId(row.get("owner")?),
                lane,
                starts: row.number("starts")?,
                since_ms: row.get("run_at_ms")?,
                owner_in_flight: row.number("in_flight")?,
                memory_needed_bytes: error.as_ref().and_then(JobError::memory_needed_bytes),
            });
        }
    }
    Ok(waiting)
}

/// See [`crate::store::Ledger::next_due`].
pub(in crate::store) async fn next_due(readers: &Readers, now_ms: i64) -> LedgerResult<Option<i64>> {
    query(NEXT_DUE).bind(now_ms).scalar(readers).await
}

/// `Release` by a node, or `Unrelease`; false when the job had moved on.
pub(in crate::store) async fn step(tx: &mut Tx, id: JobId, event: Event, node: Option<String>) -> LedgerResult<bool> {
    let Some(before) = load(tx, id).await? else { return Ok(false) };
    Ok(shift(tx, &before, event, |job| job.node = node).await?.is_ok())
}

/// See [`crate::store::Ledger::released`].
pub(in crate::store) async fn released(readers: &Readers, limit: u32) -> LedgerResult<Vec<Released>> {
    let rows = query(RELEASED_BY_ANY).bind(limit).fetch_all(readers).await?;
    let released =
        |row: &Row| Ok(Released { job: JobId(row.get("id")?), lane: rows::lane(row)?, starts: row.number("starts")? });
    rows.iter().map(released).collect()
}

/// See [`crate::store::Ledger::unrelease_all`].
pub(in crate::store) async fn unrelease_all(tx: &mut Tx, node: &str) -> LedgerResult<u64> {
    let released: Vec<Uuid> = query(RELEASED).bind(node).scalars(&mut tx.conn).await?;
    let mut moved = 0;
    for id in released {
        moved += u64::from(step(tx, JobId(id), Event::Unrelease, None).await?);
    }
    Ok(moved)
}
