//! Webhooks as their owners see and change them.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::deliveries;
use super::ledger::SqlLedger;
use super::query::{Readers, Row, Sql, Value, query};
use super::writer::Tx;
use crate::job::{DeliveryId, OwnerId, WebhookId};
use crate::store::LedgerResult;
use crate::store::webhooks::*;

/// The last number of an owner's events: what comes later is told.
const HEAD: Sql = Sql::each(
    "SELECT COALESCE(max(seq), 0) FROM events WHERE owner = $1",
    "SELECT COALESCE(max(seq), 0) FROM event_heads WHERE owner = $1",
);
/// One webhook, for a change.
const LOAD: Sql = Sql::each(
    "SELECT * FROM webhooks WHERE id = $1 AND owner = $2",
    "SELECT * FROM webhooks WHERE id = $1 AND owner = $2 FOR UPDATE",
);
const OF_OWNER: &str = "SELECT * FROM webhooks WHERE owner = $1 ORDER BY id DESC";
const CHANGE: &str = "
    UPDATE webhooks SET name = $2, url = $3, host = $4, kinds = $5, enabled = $6, off_reason = $7, off_at_ms = $8,
        seq = $9, failures = $10, failing_since_ms = $11
    WHERE id = $1";
const ROTATE: &str = "
    UPDATE webhooks SET secret_before = secret, secret = $3, secret_before_until_ms = $4 WHERE id = $1 AND owner = $2";

async fn head(tx: &mut Tx, owner: OwnerId) -> LedgerResult<i64> {
    query(HEAD).bind(owner.0).scalar(&mut tx.conn).await
}

async fn create(tx: &mut Tx, new: NewWebhook, count_max: u64) -> LedgerResult<Option<WebhookRow>> {
    let there: i64 =
        query("SELECT count(*) FROM webhooks WHERE owner = $1").bind(new.owner.0).scalar(&mut tx.conn).await?;
    if u64::try_from(there).unwrap_or(0) >= count_max {
        return Ok(None);
    }
    let seq = head(tx, new.owner).await?;
    query(
        "INSERT INTO webhooks (id, owner, name, url, host, kinds, secret, enabled, seq, failures, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10)",
    )
    .bind(new.id.0)
    .bind(new.owner.0)
    .bind(new.name)
    .bind(new.url)
    .bind(new.host)
    .bind(Value::json(&new.kinds)?)
    .bind(new.secret)
    .bind(true)
    .bind(seq)
    .bind(tx.now_ms)
    .execute(&mut tx.conn)
    .await?;
    load(tx, new.owner, new.id).await
}

async fn load(tx: &mut Tx, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<WebhookRow>> {
    let row = query(LOAD).bind(id.0).bind(owner.0).fetch_optional(&mut tx.conn).await?;
    row.as_ref().map(webhook).transpose()
}

/// One webhook, as a reader sees it.
pub(super) async fn one(readers: &Readers, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<WebhookRow>> {
    let found = query("SELECT * FROM webhooks WHERE id = $1 AND owner = $2").bind(id.0).bind(owner.0);
    found.fetch_optional(readers).await?.as_ref().map(webhook).transpose()
}

async fn change(tx: &mut Tx, owner: OwnerId, id: WebhookId, change: WebhookChange) -> LedgerResult<Option<WebhookRow>> {
    let row = query(LOAD).bind(id.0).bind(owner.0).fetch_optional(&mut tx.conn).await?;
    let Some(row) = row else { return Ok(None) };
    let mut seq = row.get::<i64>("seq")?;
    let mut after = webhook(&row)?;
    let WebhookChange { name, target, kinds, enabled } = change;
    after.name = name.unwrap_or(after.name);
    after.kinds = kinds.unwrap_or(after.kinds);
    let is_elsewhere = target.as_ref().is_some_and(|(url, _)| *url != after.url);
    if let Some((url, host)) = target {
        (after.url, after.host) = (url, host);
    }
    let is_switched_on = enabled == Some(true) && !after.enabled;
    if is_switched_on {
        seq = head(tx, owner).await?;
    }
    if is_switched_on || is_elsewhere {
        (after.failures, after.failing_since_ms) = (0, None);
    }
    if let Some(enabled) = enabled {
        after.enabled = enabled;
        (after.off_reason, after.off_at_ms) = (None, None);
    }
    query(CHANGE)
        .bind(id.0)
        .bind(after.name.as_str())
        .bind(after.url.as_str())
        .bind(after.host.as_str())
        .bind(Value::json(&after.kinds)?)
        .bind(after.enabled)
        .bind(after.off_reason.as_deref())
        .bind(after.off_at_ms)
        .bind(seq)
        .bind(after.failures)
        .bind(after.failing_since_ms)
        .execute(&mut tx.conn)
        .await?;
    Ok(Some(after))
}

async fn delete(tx: &mut Tx, owner: OwnerId, id: WebhookId) -> LedgerResult<bool> {
    let gone = query("DELETE FROM webhooks WHERE id = $1 AND owner = $2").bind(id.0).bind(owner.0);
    Ok(gone.execute(&mut tx.conn).await? > 0)
}

async fn rotate(
    tx: &mut Tx,
    owner: OwnerId,
    id: WebhookId,
    secret: String,
    overlap: Duration,
) -> LedgerResult<Option<WebhookRow>> {
    let until_ms = tx.now_ms.saturating_add(deliveries::milliseconds(overlap));
    let done = query(ROTATE).bind(id.0).bind(owner.0).bind(secret).bind(until_ms).execute(&mut tx.conn).await?;
    if done == 0 { Ok(None) } else { load(tx, owner, id).await }
}

/// A row as it is shown.
fn webhook(row: &Row) -> LedgerResult<WebhookRow> {
    Ok(WebhookRow {
        id: WebhookId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        name: row.get("name")?,
        url: row.get("url")?,
        host: row.get("host")?,
        kinds: row.json("kinds")?,
        enabled: row.get("enabled")?,
        off_reason: row.get("off_reason")?,
        off_at_ms: row.get("off_at_ms")?,
        failures: row.number("failures")?,
        failing_since_ms: row.get("failing_since_ms")?,
        secret_before_until_ms: row.get("secret_before_until_ms")?,
        created_at_ms: row.get("created_at_ms")?,
    })
}

#[async_trait]
impl Webhooks for SqlLedger {
    async fn create_webhook(&self, new: NewWebhook, count_max: u64) -> LedgerResult<Option<WebhookRow>> {
        self.writer.run(move |tx| Box::pin(create(tx, new, count_max))).await
    }

    async fn webhooks(&self, owner: OwnerId) -> LedgerResult<Vec<WebhookRow>> {
        query(OF_OWNER).bind(owner.0).fetch_all(&self.readers).await?.iter().map(webhook).collect()
    }

    async fn webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<WebhookRow>> {
        one(&self.readers, owner, id).await
    }

    async fn change_webhook(
        &self,
        owner: OwnerId,
        id: WebhookId,
        wanted: WebhookChange,
    ) -> LedgerResult<Option<WebhookRow>> {
        self.writer.run(move |tx| Box::pin(change(tx, owner, id, wanted))).await
    }

    async fn delete_webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(delete(tx, owner, id))).await
    }

    async fn rotate_webhook(
        &self,
        owner: OwnerId,
        id: WebhookId,
        secret: String,
        overlap: Duration,
    ) -> LedgerResult<Option<WebhookRow>> {
        self.writer.run(move |tx| Box::pin(rotate(tx, owner, id, secret, overlap))).await
    }

    async fn ping_webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<Asked>> {
        self.writer.run(move |tx| Box::pin(deliveries::ping(tx, owner, id))).await
    }

    async fn deliveries(
        &self,
        owner: OwnerId,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> LedgerResult<Option<Vec<DeliveryRow>>> {
        deliveries::list(&self.readers, owner, webhook, before, limit).await
    }

    async fn delivery(&self, owner: OwnerId, webhook: WebhookId, id: DeliveryId) -> LedgerResult<Option<DeliveryRow>> {
        deliveries::one(&self.readers, owner, webhook, id).await
    }

    async fn redeliver(&self, owner: OwnerId, webhook: WebhookId, id: DeliveryId) -> LedgerResult<Option<Asked>> {
        self.writer.run(move |tx| Box::pin(deliveries::again(tx, owner, webhook, id))).await
    }

    async fn make_deliveries(&self, making: Making) -> LedgerResult<bool> {
        // Looked at beside the writer: mostly there is nothing.
        if !deliveries::is_behind(&self.readers, making).await? {
            return Ok(false);
        }
        let more = self.writer.run(move |tx| Box::pin(deliveries::make(tx, making))).await?;
        crate::fault::hit("webhooks-made");
        Ok(more)
    }

    async fn claim_deliveries(&self, at_once: AtOnce) -> LedgerResult<Vec<Claimed>> {
        // A node whose clock is behind the database's finds it with its next look.
        if !deliveries::is_due(&self.readers, self.writer.database_ms(super::rows::now_ms())).await? {
            return Ok(Vec::new());
        }
        self.writer.run(move |tx| Box::pin(deliveries::claim(tx, at_once, Uuid::new_v4()))).await
    }

    async fn settle_delivery(
        &self,
        id: DeliveryId,
        claim: Uuid,
        tried: Try,
        outcome: Outcome,
        off: SwitchOff,
    ) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(deliveries::settle(tx, id, claim, tried, outcome, off))).await
    }

    async fn prune_deliveries(&self, keep: Duration, rows_max: u64) -> LedgerResult<u64> {
        let mut pruned = 0;
        loop {
            let round = self.writer.run(move |tx| Box::pin(deliveries::prune(tx, keep, rows_max))).await?;
            pruned += round;
            if round == 0 {
                return Ok(pruned);
            }
        }
    }
}
