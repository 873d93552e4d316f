//! Events on their way to programs outside: how far they are published, and by whom.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::dead_letters;
use super::ledger::SqlLedger;
use super::query::{Row, Sql, query, signed};
use super::rows;
use super::writer::Tx;
use crate::job::{DeadLetterId, OwnerId};
use crate::store::LedgerResult;
use crate::store::producers::{DeadLetter, NewDeadLetter, Producers, StreamMark, Submitted, Unpublished};

/// On SQLite the numbers of all owners are one row of numbers. On PostgreSQL some owners are looked at, those first that
/// have waited longest, and some events of each.
pub(in crate::store) const UNPUBLISHED: Sql = Sql::each(
    "SELECT events.*, submissions.object_key, submissions.idempotency_key FROM events
     LEFT JOIN jobs ON jobs.id = events.job_id
     LEFT JOIN submissions ON submissions.image_id = jobs.image_id
     WHERE events.seq > (SELECT COALESCE(max(seq), 0) FROM event_cursors)
     ORDER BY events.seq LIMIT $1",
    "SELECT later.*, submissions.object_key, submissions.idempotency_key
     FROM (
         SELECT heads.owner, COALESCE(cursors.seq, 0) AS seq FROM event_heads AS heads
         LEFT JOIN event_cursors AS cursors ON cursors.owner = heads.owner
         WHERE heads.seq > COALESCE(cursors.seq, 0) AND EXISTS (
             SELECT 1 FROM events WHERE events.owner = heads.owner AND events.seq > COALESCE(cursors.seq, 0))
         ORDER BY heads.moved_at_ms LIMIT 64
     ) AS behind
     CROSS JOIN LATERAL (
         SELECT * FROM events WHERE events.owner = behind.owner AND events.seq > behind.seq
         ORDER BY events.seq LIMIT $1 / 8
     ) AS later
     LEFT JOIN jobs ON jobs.id = later.job_id
     LEFT JOIN submissions ON submissions.image_id = jobs.image_id
     ORDER BY later.owner, later.seq",
);
const LEAD: &str = "
    INSERT INTO event_publisher (id, process, lease_until_ms, stream_seq) VALUES (1, $1, $2, 0)
    ON CONFLICT (id) DO UPDATE SET process = excluded.process, lease_until_ms = excluded.lease_until_ms
    WHERE event_publisher.process = excluded.process OR event_publisher.lease_until_ms < $3";
const ADVANCE: &str = "
    INSERT INTO event_cursors (owner, seq) VALUES ($1, $2)
    ON CONFLICT (owner) DO UPDATE SET seq = excluded.seq WHERE event_cursors.seq < excluded.seq";
const MARK: &str = "
    UPDATE event_publisher SET stream = $2, stream_seq = $3, lease_until_ms = $4 WHERE id = 1 AND process = $1";

fn until(tx: &Tx, lease: Duration) -> i64 {
    tx.now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

async fn lead(tx: &mut Tx, process: Uuid, lease: Duration) -> LedgerResult<Option<Option<StreamMark>>> {
    let (until_ms, now_ms) = (until(tx, lease), tx.now_ms);
    let done = query(LEAD).bind(process).bind(until_ms).bind(now_ms).execute(&mut tx.conn).await?;
    if done == 0 {
        return Ok(None);
    }
    let row = query("SELECT stream, stream_seq FROM event_publisher WHERE id = 1").fetch_one(&mut tx.conn).await?;
    let mark = |made| Ok(StreamMark { made, last: row.number("stream_seq")? });
    Ok(Some(row.get::<Option<String>>("stream")?.map(mark).transpose()?))
}

async fn leave(tx: &mut Tx, process: Uuid) -> LedgerResult<()> {
    query("UPDATE event_publisher SET lease_until_ms = 0 WHERE id = 1 AND process = $1")
        .bind(process)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

async fn published(
    tx: &mut Tx,
    process: Uuid,
    lease: Duration,
    heads: &BTreeMap<OwnerId, i64>,
    mark: StreamMark,
) -> LedgerResult<bool> {
    for (owner, seq) in heads {
        query(ADVANCE).bind(owner.0).bind(*seq).execute(&mut tx.conn).await?;
    }
    let until_ms = until(tx, lease);
    let done = query(MARK).bind(process).bind(mark.made).bind(signed(mark.last)?).bind(until_ms);
    Ok(done.execute(&mut tx.conn).await? == 1)
}

async fn again(tx: &mut Tx, process: Uuid, mark: StreamMark) -> LedgerResult<()> {
    let done = query("UPDATE event_publisher SET stream = $2, stream_seq = $3 WHERE id = 1 AND process = $1")
        .bind(process)
        .bind(mark.made)
        .bind(signed(mark.last)?)
        .execute(&mut tx.conn)
        .await?;
    if done == 1 {
        query("DELETE FROM event_cursors").execute(&mut tx.conn).await?;
    }
    Ok(())
}

fn unpublished(row: &Row) -> LedgerResult<Unpublished> {
    let idempotency_key = row.get("idempotency_key")?;
    let submitted =
        row.get::<Option<String>>("object_key")?.map(|object_key| Submitted { object_key, idempotency_key });
    Ok(Unpublished { event: rows::event(row)?, submitted })
}

#[async_trait]
impl Producers for SqlLedger {
    async fn lead_publishing(&self, process: Uuid, lease: Duration) -> LedgerResult<Option<Option<StreamMark>>> {
        self.writer.run(move |tx| Box::pin(lead(tx, process, lease))).await
    }

    async fn leave_publishing(&self, process: Uuid) -> LedgerResult<()> {
        self.writer.run(move |tx| Box::pin(leave(tx, process))).await
    }

    async fn unpublished(&self, limit: u32) -> LedgerResult<Vec<Unpublished>> {
        query(UNPUBLISHED).bind(i64::from(limit)).fetch_all(&self.readers).await?.iter().map(unpublished).collect()
    }

    async fn published(
        &self,
        process: Uuid,
        lease: Duration,
        heads: BTreeMap<OwnerId, i64>,
        mark: StreamMark,
    ) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(async move { published(tx, process, lease, &heads, mark).await })).await
    }

    async fn publish_again(&self, process: Uuid, mark: StreamMark) -> LedgerResult<()> {
        self.writer.run(move |tx| Box::pin(again(tx, process, mark))).await
    }

    async fn owner_known(&self, owner: OwnerId) -> LedgerResult<bool> {
        dead_letters::owner_known(&self.readers, owner).await
    }

    async fn bury(&self, letter: NewDeadLetter, limit: u64) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(dead_letters::bury(tx, letter, limit))).await
    }

    async fn dead_letters(&self, before: Option<DeadLetterId>, limit: u32) -> LedgerResult<Vec<DeadLetter>> {
        dead_letters::list(&self.readers, before, limit).await
    }

    async fn dead_letter(&self, id: DeadLetterId) -> LedgerResult<Option<DeadLetter>> {
        dead_letters::one(&self.readers, id).await
    }

    async fn unbury(&self, id: DeadLetterId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(dead_letters::remove(tx, id))).await
    }

    async fn prune_dead_letters(&self, keep: Duration) -> LedgerResult<u64> {
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        self.writer
            .run(move |tx| {
                let before_ms = tx.now_ms.saturating_sub(keep_ms);
                Box::pin(dead_letters::prune(tx, before_ms))
            })
            .await
    }
}
