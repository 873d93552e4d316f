//! Replay of events, and the numbers that they get.

use std::collections::BTreeMap;

use super::query::{Conn, On, Readers, Value, query};
use super::rows;
use crate::job::{JobId, OwnerId};
use crate::store::{EventRow, LedgerResult};

/// Of an owner.
pub(in crate::store) const OF_OWNER: &str = "SELECT * FROM events WHERE owner = $1 AND seq > $2 ORDER BY seq LIMIT $3";
/// Of one job; the owner is checked as well.
pub(in crate::store) const OF_JOB: &str =
    "SELECT * FROM events WHERE job_id = $4 AND seq > $2 AND owner = $1 ORDER BY seq LIMIT $3";

/// Takes the next `$2` numbers of an owner. Whoever else wants some waits for this commit, so that numbers become visible in
/// their order.
const TAKE_NUMBERS: &str = "
    INSERT INTO event_heads (owner, seq, moved_at_ms)
    VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    ON CONFLICT (owner) DO UPDATE SET seq = event_heads.seq + excluded.seq, moved_at_ms = excluded.moved_at_ms
    RETURNING seq";
/// All rows in one go: the numbers are held from the statement before until the commit.
const WRITE_ALL: &str = "
    INSERT INTO events (owner, seq, job_id, kind, body, at_ms)
    SELECT * FROM json_to_recordset($1::text::json)
        AS row (owner uuid, seq bigint, job_id uuid, kind text, body text, at_ms bigint)";

/// See [`crate::store::Ledger::events_after`].
pub(in crate::store) async fn events_after(
    readers: &Readers,
    owner: OwnerId,
    job: Option<JobId>,
    seq: i64,
    limit: u32,
) -> LedgerResult<Vec<EventRow>> {
    let statement = query(if job.is_some() { OF_JOB } else { OF_OWNER }).bind(owner.0).bind(seq).bind(limit);
    let statement = match job {
        Some(job) => statement.bind(job.0),
        None => statement,
    };
    statement.fetch_all(readers).await?.iter().map(rows::event).collect()
}

/// Numbers and writes what a transaction is to say, as the last thing before its commit.
pub(in crate::store) async fn write(conn: &mut Conn, events: &mut [EventRow]) -> LedgerResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Sqlite(_) => write_one_by_one(conn, events).await,
        Conn::Postgres(_) => write_together(conn, events).await,
    }
}

/// SQLite has one writer, so its own numbers become visible in their order.
async fn write_one_by_one(conn: &mut Conn, events: &mut [EventRow]) -> LedgerResult<()> {
    for event in events {
        event.seq =
            query("INSERT INTO events (owner, job_id, kind, body, at_ms) VALUES ($1, $2, $3, $4, $5) RETURNING seq")
                .bind(event.owner.0)
                .bind(event.job.0)
                .bind(event.kind.as_str())
                .bind(Value::json(&event.body)?)
                .bind(event.at_ms)
                .scalar(On::Conn(conn))
                .await?;
    }
    Ok(())
}

/// Owners in their order, so that two transactions never wait for each other.
async fn write_together(conn: &mut Conn, events: &mut [EventRow]) -> LedgerResult<()> {
    let mut counts: BTreeMap<OwnerId, i64> = BTreeMap::new();
    for event in events.iter() {
        *counts.entry(event.owner).or_default() += 1;
    }
    let mut next = BTreeMap::new();
    for (owner, count) in counts {
        let last: i64 = query(TAKE_NUMBERS).bind(owner.0).bind(count).scalar(On::Conn(conn)).await?;
        next.insert(owner, last - count);
    }
    for event in events.iter_mut() {
        let number = next.entry(event.owner).or_default();
        *number += 1;
        event.seq = *number;
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            serde_json::json!({
                "owner": event.owner,
                "seq": event.seq,
                "job_id": event.job,
                "kind": event.kind,
                "body": event.body.to_string(),
                "at_ms": event.at_ms,
            })
        })
        .collect();
    query(WRITE_ALL).bind(Value::json(&rows)?).execute(On::Conn(conn)).await.map(drop)
}
