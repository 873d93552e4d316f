//! Submissions that failed as often as they may: kept for an administrator, within bounds.

use super::query::{Readers, Row, Value, query, signed};
use super::writer::Tx;
use crate::job::{DeadLetterId, OwnerId};
use crate::store::LedgerResult;
use crate::store::producers::{DeadLetter, NewDeadLetter, Submitted};

fn letter(row: &Row) -> LedgerResult<DeadLetter> {
    Ok(DeadLetter {
        id: DeadLetterId(row.get("id")?),
        subject: row.get("subject")?,
        payload: row.get("payload")?,
        deliveries: row.number("deliveries")?,
        problem: row.json("problem")?,
        created_at_ms: row.get("created_at_ms")?,
    })
}

/// See [`crate::store::producers::Producers::bury`].
pub(in crate::store) async fn bury(tx: &mut Tx, letter: NewDeadLetter, limit: u64) -> LedgerResult<bool> {
    let row = query("SELECT count(*) AS n FROM dead_letters").fetch_one(&mut tx.conn).await?;
    if row.number::<u64>("n")? >= limit {
        return Ok(false);
    }
    let now_ms = tx.now_ms;
    // The same delivery once: what wrote it may have been killed before it said so to the bus.
    query(
        "INSERT INTO dead_letters (id, subject, payload, deliveries, problem, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(letter.id.0)
    .bind(letter.subject)
    .bind(letter.payload)
    .bind(signed(letter.deliveries)?)
    .bind(Value::json(&letter.problem)?)
    .bind(now_ms)
    .execute(&mut tx.conn)
    .await?;
    Ok(true)
}

/// See [`crate::store::producers::Producers::dead_letters`].
pub(in crate::store) async fn list(
    readers: &Readers,
    before: Option<DeadLetterId>,
    limit: u32,
) -> LedgerResult<Vec<DeadLetter>> {
    let statement = match before {
        Some(before) => query(
            "SELECT * FROM dead_letters WHERE (created_at_ms, id) < (SELECT created_at_ms, id FROM dead_letters \
             WHERE id = $2) ORDER BY created_at_ms DESC, id DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .bind(before.0),
        None => {
            query("SELECT * FROM dead_letters ORDER BY created_at_ms DESC, id DESC LIMIT $1").bind(i64::from(limit))
        }
    };
    statement.fetch_all(readers).await?.iter().map(letter).collect()
}

/// See [`crate::store::producers::Producers::dead_letter`].
pub(in crate::store) async fn one(readers: &Readers, id: DeadLetterId) -> LedgerResult<Option<DeadLetter>> {
    let row = query("SELECT * FROM dead_letters WHERE id = $1").bind(id.0).fetch_optional(readers).await?;
    row.as_ref().map(letter).transpose()
}

/// See [`crate::store::producers::Producers::unbury`].
pub(in crate::store) async fn remove(tx: &mut Tx, id: DeadLetterId) -> LedgerResult<bool> {
    let done = query("DELETE FROM dead_letters WHERE id = $1").bind(id.0).execute(&mut tx.conn).await?;
    Ok(done == 1)
}

/// See [`crate::store::producers::Producers::prune_dead_letters`].
pub(in crate::store) async fn prune(tx: &mut Tx, before_ms: i64) -> LedgerResult<u64> {
    query("DELETE FROM dead_letters WHERE created_at_ms < $1").bind(before_ms).execute(&mut tx.conn).await
}

/// What the sender of an image knows it by, with the image.
pub(in crate::store) async fn remember(
    tx: &mut Tx,
    image: crate::job::ImageId,
    submitted: Submitted,
) -> LedgerResult<()> {
    query("INSERT INTO submissions (image_id, object_key, idempotency_key) VALUES ($1, $2, $3)")
        .bind(image.0)
        .bind(submitted.object_key)
        .bind(submitted.idempotency_key.as_deref())
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

/// See [`crate::store::producers::Producers::owner_known`].
pub(in crate::store) async fn owner_known(readers: &Readers, owner: OwnerId) -> LedgerResult<bool> {
    query("SELECT EXISTS (SELECT 1 FROM accounts WHERE owner = $1 AND disabled_at_ms IS NULL)")
        .bind(owner.0)
        .scalar(readers)
        .await
}
