//! What webhooks are to be brought: made of events, claimed, settled, dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::events;
use super::query::{Readers, Row, Sql, Value, query, signed, unreadable};
use super::rows;
use super::webhooks;
use super::writer::Tx;
use crate::job::{DeliveryId, OwnerId, WebhookId};
use crate::store::webhooks::*;
use crate::store::{EventRow, LedgerResult};

/// Webhooks that one commit makes deliveries for.
const MAKE_WEBHOOKS: u32 = 16;
/// Webhooks with something due that one claim looks at.
const CLAIM_WEBHOOKS: u32 = 256;
/// Rows that one commit prunes at most: other changes wait meanwhile.
const PRUNE_ROWS: i64 = 500;

/// Webhooks that are told something: on, and not of an account that is disabled. In `open` mode there is no account.
macro_rules! told {
    () => {
        "enabled AND NOT EXISTS (
             SELECT 1 FROM accounts WHERE accounts.owner = webhooks.owner AND accounts.disabled_at_ms IS NOT NULL)"
    };
}

/// Webhooks whose owners have events that they were not told of. One with as many pending as there may be waits, and its
/// events with it, in the ledger. In any order: whoever comes first must not come first each time.
macro_rules! behind {
    () => {
        concat!(
            "FROM webhooks WHERE ",
            told!(),
            " AND EXISTS (SELECT 1 FROM events WHERE events.owner = webhooks.owner AND events.seq > webhooks.seq)
             AND (SELECT count(*) FROM webhook_deliveries WHERE webhook_id = webhooks.id AND state = 'pending') < $1"
        )
    };
}
const BEHIND: Sql = Sql::each(
    concat!("SELECT * ", behind!(), " ORDER BY random() LIMIT $2"),
    concat!("SELECT * ", behind!(), " ORDER BY random() LIMIT $2 FOR UPDATE SKIP LOCKED"),
);
const IS_BEHIND: &str = concat!("SELECT EXISTS (SELECT 1 ", behind!(), ")");
const INSERT: &str = "
    INSERT INTO webhook_deliveries (id, webhook_id, seq, kind, body, state, attempt, due_at_ms, created_at_ms, tries)
    VALUES ($1, $2, $3, $4, $5, 'pending', 0, $6, $6, '[]')
    ON CONFLICT (webhook_id, seq, kind) DO NOTHING";

/// Webhooks with something due.
macro_rules! due {
    () => {
        concat!(
            "FROM webhooks WHERE ",
            told!(),
            " AND EXISTS (
                 SELECT 1 FROM webhook_deliveries
                 WHERE webhook_id = webhooks.id AND state = 'pending' AND due_at_ms <= $1)"
        )
    };
}
const IS_DUE: &str = concat!("SELECT EXISTS (SELECT 1 ", due!(), ")");
/// What is counted must not change while it is counted: nodes claim one after the other. Whoever finds another at it comes
/// back later and waits for nobody, so that no two transactions wait for each other.
const MY_TURN: Sql =
    Sql::each("SELECT 1", "SELECT CASE WHEN pg_try_advisory_xact_lock(8062) THEN 1 ELSE 0 END::bigint");
/// What is being brought now.
const IN_FLIGHT: &str = "
    SELECT webhooks.host, webhooks.owner FROM webhook_deliveries
    JOIN webhooks ON webhooks.id = webhook_deliveries.webhook_id WHERE claim IS NOT NULL AND due_at_ms > $1";
/// Those first that have waited longest.
const DUE_WEBHOOKS: &str = concat!(
    "SELECT webhooks.*, (
         SELECT min(due_at_ms) FROM webhook_deliveries WHERE webhook_id = webhooks.id AND state = 'pending') AS due_ms ",
    due!(),
    " ORDER BY due_ms, id LIMIT $2"
);
const CLAIM: Sql = Sql::each(
    "UPDATE webhook_deliveries SET claim = $2, due_at_ms = $3, attempt = attempt + 1 WHERE id IN (
         SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' AND due_at_ms <= $4
         ORDER BY due_at_ms, id LIMIT $5)",
    "UPDATE webhook_deliveries SET claim = $2, due_at_ms = $3, attempt = attempt + 1 WHERE id IN (
         SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' AND due_at_ms <= $4
         ORDER BY due_at_ms, id LIMIT $5 FOR UPDATE SKIP LOCKED)",
);
const SETTLE: &str = "
    UPDATE webhook_deliveries SET state = $3, claim = NULL, due_at_ms = $4, ended_at_ms = $5, tries = $6
    WHERE id = $1 AND claim = $2";
const FAILED: &str = "
    UPDATE webhooks SET failures = failures + 1, failing_since_ms = COALESCE(failing_since_ms, $2) WHERE id = $1";
const OFF: &str = "
    UPDATE webhooks SET enabled = $2, off_reason = $3, off_at_ms = $4
    WHERE id = $1 AND enabled AND failures >= $5 AND failing_since_ms <= $6";
/// What waits for a webhook that is told something is not old, however long it waits.
macro_rules! old {
    () => {
        concat!(
            "DELETE FROM webhook_deliveries WHERE id IN (
                 SELECT id FROM webhook_deliveries WHERE created_at_ms < $1
                 AND (state <> 'pending' OR webhook_id NOT IN (SELECT id FROM webhooks WHERE ",
            told!(),
            ")) ORDER BY created_at_ms LIMIT $2"
        )
    };
}
const OLD: Sql = Sql::each(concat!(old!(), ")"), concat!(old!(), " FOR UPDATE SKIP LOCKED)"));
const TOO_MANY: &str = "
    SELECT webhook_id FROM webhook_deliveries WHERE state <> 'pending' GROUP BY webhook_id HAVING count(*) > $1";
const BEYOND: Sql = Sql::each(
    "DELETE FROM webhook_deliveries WHERE id IN (
         SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND state <> 'pending'
         ORDER BY id DESC LIMIT $3 OFFSET $2)",
    "DELETE FROM webhook_deliveries WHERE id IN (
         SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND state <> 'pending'
         ORDER BY id DESC LIMIT $3 OFFSET $2 FOR UPDATE SKIP LOCKED)",
);

/// For a column.
pub(super) fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Whether [`make`] has something to do.
pub(super) async fn is_behind(readers: &Readers, making: Making) -> LedgerResult<bool> {
    query(IS_BEHIND).bind(signed(making.pending_max)?).scalar(readers).await
}

/// See [`Webhooks::make_deliveries`].
pub(super) async fn make(tx: &mut Tx, making: Making) -> LedgerResult<bool> {
    let behind = query(BEHIND).bind(signed(making.pending_max)?).bind(MAKE_WEBHOOKS).fetch_all(&mut tx.conn).await?;
    let mut more = behind.len() == MAKE_WEBHOOKS as usize;
    for row in behind {
        let (id, owner, seq) = (row.get::<Uuid>("id")?, row.get::<Uuid>("owner")?, row.get::<i64>("seq")?);
        let kinds: Vec<EventKind> = row.json("kinds")?;
        let found =
            query(events::OF_OWNER).bind(owner).bind(seq).bind(making.events_max).fetch_all(&mut tx.conn).await?;
        let found: Vec<EventRow> = found.iter().map(rows::event).collect::<LedgerResult<_>>()?;
        more |= found.len() == making.events_max as usize;
        for event in &found {
            for kind in kinds_of(event) {
                if kinds.iter().any(|wanted| wanted.as_str() == kind) {
                    insert(tx, WebhookId(id), kind, event, making.body_bytes_max).await?;
                }
            }
        }
        if let Some(last) = found.last() {
            query("UPDATE webhooks SET seq = $2 WHERE id = $1").bind(id).bind(last.seq).execute(&mut tx.conn).await?;
        }
    }
    Ok(more)
}

async fn insert(
    tx: &mut Tx,
    webhook: WebhookId,
    kind: &str,
    event: &EventRow,
    body_bytes_max: usize,
) -> LedgerResult<()> {
    let id = DeliveryId::fresh();
    query(INSERT)
        .bind(id.0)
        .bind(webhook.0)
        .bind(event.seq)
        .bind(kind)
        .bind(message(id, kind, event, body_bytes_max))
        .bind(tx.now_ms)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

/// Whether [`claim`] would find something, by this time of the database.
pub(super) async fn is_due(readers: &Readers, now_ms: i64) -> LedgerResult<bool> {
    query(IS_DUE).bind(now_ms).scalar(readers).await
}

/// See [`Webhooks::claim_deliveries`].
pub(super) async fn claim(tx: &mut Tx, at_once: AtOnce, claim: Uuid) -> LedgerResult<Vec<Claimed>> {
    let is_mine: i64 = query(MY_TURN).scalar(&mut tx.conn).await?;
    if is_mine == 0 {
        return Ok(Vec::new());
    }
    let (mut hosts, mut owners): (BTreeMap<String, usize>, BTreeMap<Uuid, usize>) = Default::default();
    let in_flight = query(IN_FLIGHT).bind(tx.now_ms).fetch_all(&mut tx.conn).await?;
    let mut free = at_once.all.saturating_sub(in_flight.len());
    for row in in_flight {
        *hosts.entry(row.get("host")?).or_default() += 1;
        *owners.entry(row.get("owner")?).or_default() += 1;
    }
    let lease_ends_ms = tx.now_ms.saturating_add(milliseconds(at_once.lease));
    let mut claimed = Vec::new();
    for row in query(DUE_WEBHOOKS).bind(tx.now_ms).bind(CLAIM_WEBHOOKS).fetch_all(&mut tx.conn).await? {
        let (to_host, of_owner) =
            (hosts.entry(row.get("host")?).or_default(), owners.entry(row.get("owner")?).or_default());
        let room = free.min(at_once.per_host.saturating_sub(*to_host)).min(at_once.per_owner.saturating_sub(*of_owner));
        if room == 0 {
            continue;
        }
        let id: Uuid = row.get("id")?;
        let taken = query(CLAIM)
            .bind(id)
            .bind(claim)
            .bind(lease_ends_ms)
            .bind(tx.now_ms)
            .bind(signed(room as u64)?)
            .execute(&mut tx.conn)
            .await?;
        let taken = usize::try_from(taken).unwrap_or(room);
        (free, *to_host, *of_owner) = (free.saturating_sub(taken), *to_host + taken, *of_owner + taken);
        claimed.extend(what_was_claimed(tx, &row, id, claim).await?);
    }
    Ok(claimed)
}

async fn what_was_claimed(tx: &mut Tx, webhook: &Row, id: Uuid, claim: Uuid) -> LedgerResult<Vec<Claimed>> {
    let url: String = webhook.get("url")?;
    let mut secrets = vec![webhook.get::<String>("secret")?];
    let until_ms = webhook.get::<Option<i64>>("secret_before_until_ms")?;
    secrets.extend(webhook.get::<Option<String>>("secret_before")?.filter(|_| until_ms > Some(tx.now_ms)));
    let found = query("SELECT * FROM webhook_deliveries WHERE claim = $1 AND webhook_id = $2").bind(claim).bind(id);
    let found = found.fetch_all(&mut tx.conn).await?;
    let claimed = found.iter().map(|row| {
        Ok(Claimed {
            id: DeliveryId(row.get("id")?),
            webhook: WebhookId(id),
            claim,
            attempt: row.number("attempt")?,
            url: url.clone(),
            secrets: secrets.clone(),
            body: row.get("body")?,
        })
    });
    claimed.collect()
}

/// See [`Webhooks::settle_delivery`].
pub(super) async fn settle(
    tx: &mut Tx,
    id: DeliveryId,
    claim: Uuid,
    tried: Try,
    outcome: Outcome,
    off: SwitchOff,
) -> LedgerResult<bool> {
    let found = query("SELECT * FROM webhook_deliveries WHERE id = $1 AND claim = $2").bind(id.0).bind(claim);
    let Some(row) = found.fetch_optional(&mut tx.conn).await? else { return Ok(false) };
    let mut tries: Vec<Try> = row.json("tries")?;
    tries.push(tried);
    tries.drain(..tries.len().saturating_sub(TRIES_KEPT));
    let (state, due_at_ms, ended_at_ms) = match &outcome {
        Outcome::Delivered => (DeliveryState::Delivered, tx.now_ms, Some(tx.now_ms)),
        Outcome::Again(after) => (DeliveryState::Pending, tx.now_ms.saturating_add(milliseconds(*after)), None),
        Outcome::Dead => (DeliveryState::Dead, tx.now_ms, Some(tx.now_ms)),
    };
    let done = query(SETTLE)
        .bind(id.0)
        .bind(claim)
        .bind(state.as_str())
        .bind(due_at_ms)
        .bind(ended_at_ms)
        .bind(Value::json(&tries)?)
        .execute(&mut tx.conn)
        .await?;
    let webhook: Uuid = row.get("webhook_id")?;
    match outcome {
        Outcome::Delivered => {
            let well = "UPDATE webhooks SET failures = 0, failing_since_ms = NULL WHERE id = $1 AND failures > 0";
            query(well).bind(webhook).execute(&mut tx.conn).await?;
        }
        Outcome::Again(_) | Outcome::Dead => failed(tx, webhook, off).await?,
    }
    Ok(done == 1)
}

/// Counts it, and switches off what has failed for too long.
async fn failed(tx: &mut Tx, webhook: Uuid, off: SwitchOff) -> LedgerResult<()> {
    query(FAILED).bind(webhook).bind(tx.now_ms).execute(&mut tx.conn).await?;
    let (failures, since_ms, reason) = match off {
        SwitchOff::Now(reason) => (0, tx.now_ms, reason),
        SwitchOff::When { failures, after, reason } => {
            (failures, tx.now_ms.saturating_sub(milliseconds(after)), reason)
        }
    };
    let switched = query(OFF).bind(webhook).bind(false).bind(reason).bind(tx.now_ms).bind(failures).bind(since_ms);
    if switched.execute(&mut tx.conn).await? > 0 {
        tracing::info!(%webhook, "a webhook that does not answer is switched off");
    }
    Ok(())
}

/// See [`Webhooks::prune_deliveries`]; one round.
pub(super) async fn prune(tx: &mut Tx, keep: Duration, rows_max: u64) -> LedgerResult<u64> {
    let before_ms = tx.now_ms.saturating_sub(milliseconds(keep));
    let mut pruned = query(OLD).bind(before_ms).bind(PRUNE_ROWS).execute(&mut tx.conn).await?;
    let rows_max = signed(rows_max)?;
    let too_many: Vec<Uuid> = query(TOO_MANY).bind(rows_max).scalars(&mut tx.conn).await?;
    for webhook in too_many {
        pruned += query(BEYOND).bind(webhook).bind(rows_max).bind(PRUNE_ROWS).execute(&mut tx.conn).await?;
    }
    Ok(pruned)
}

/// See [`Webhooks::deliveries`].
pub(super) async fn list(
    readers: &Readers,
    owner: OwnerId,
    webhook: WebhookId,
    before: Option<DeliveryId>,
    limit: u32,
) -> LedgerResult<Option<Vec<DeliveryRow>>> {
    if webhooks::one(readers, owner, webhook).await?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT * FROM webhook_deliveries WHERE webhook_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    let before = before.map_or(Uuid::max(), |id| id.0);
    let rows = query(sql).bind(webhook.0).bind(before).bind(limit).fetch_all(readers).await?;
    rows.iter().map(delivery).collect::<LedgerResult<_>>().map(Some)
}

const ONE: &str = "
    SELECT webhook_deliveries.* FROM webhook_deliveries JOIN webhooks ON webhooks.id = webhook_deliveries.webhook_id
    WHERE webhook_deliveries.id = $1 AND webhooks.id = $2 AND webhooks.owner = $3";

/// See [`Webhooks::delivery`].
pub(super) async fn one(
    readers: &Readers,
    owner: OwnerId,
    webhook: WebhookId,
    id: DeliveryId,
) -> LedgerResult<Option<DeliveryRow>> {
    let row = query(ONE).bind(id.0).bind(webhook.0).bind(owner.0).fetch_optional(readers).await?;
    row.as_ref().map(delivery).transpose()
}

/// Whether a webhook of this owner is on; `None` when there is no such one.
async fn is_on(tx: &mut Tx, owner: OwnerId, webhook: WebhookId) -> LedgerResult<Option<bool>> {
    let found = query("SELECT enabled FROM webhooks WHERE id = $1 AND owner = $2").bind(webhook.0).bind(owner.0);
    found.fetch_optional(&mut tx.conn).await?.map(|row| row.get("enabled")).transpose()
}

async fn asked(tx: &mut Tx, id: Uuid) -> LedgerResult<Option<Asked>> {
    let row = query("SELECT * FROM webhook_deliveries WHERE id = $1").bind(id).fetch_optional(&mut tx.conn).await?;
    row.as_ref().map(|row| delivery(row).map(Box::new).map(Asked::Pending)).transpose()
}

/// See [`Webhooks::ping_webhook`].
pub(super) async fn ping(tx: &mut Tx, owner: OwnerId, webhook: WebhookId) -> LedgerResult<Option<Asked>> {
    match is_on(tx, owner, webhook).await? {
        None => return Ok(None),
        Some(false) => return Ok(Some(Asked::Off)),
        Some(true) => {}
    }
    let sql = "SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' AND kind = $2";
    let pending: Vec<Uuid> = query(sql).bind(webhook.0).bind(PING).scalars(&mut tx.conn).await?;
    let id = match pending.first() {
        Some(id) => *id,
        None => {
            let id = DeliveryId::fresh();
            query(INSERT)
                .bind(id.0)
                .bind(webhook.0)
                .bind(None::<i64>)
                .bind(PING)
                .bind(super::super::webhooks::ping(id, tx.now_ms))
                .bind(tx.now_ms)
                .execute(&mut tx.conn)
                .await?;
            id.0
        }
    };
    asked(tx, id).await
}

/// See [`Webhooks::redeliver`].
pub(super) async fn again(
    tx: &mut Tx,
    owner: OwnerId,
    webhook: WebhookId,
    id: DeliveryId,
) -> LedgerResult<Option<Asked>> {
    match is_on(tx, owner, webhook).await? {
        None => return Ok(None),
        Some(false) => return Ok(Some(Asked::Off)),
        Some(true) => {}
    }
    let sql = "UPDATE webhook_deliveries SET state = 'pending', attempt = 0, due_at_ms = $3, ended_at_ms = NULL, claim = NULL \
               WHERE id = $1 AND webhook_id = $2 AND (claim IS NULL OR due_at_ms <= $3)";
    query(sql).bind(id.0).bind(webhook.0).bind(tx.now_ms).execute(&mut tx.conn).await?;
    let row = query(ONE).bind(id.0).bind(webhook.0).bind(owner.0).fetch_optional(&mut tx.conn).await?;
    row.as_ref().map(|row| delivery(row).map(Box::new).map(Asked::Pending)).transpose()
}

fn delivery(row: &Row) -> LedgerResult<DeliveryRow> {
    Ok(DeliveryRow {
        id: DeliveryId(row.get("id")?),
        seq: row.get("seq")?,
        kind: row.get("kind")?,
        body: row.get("body")?,
        state: DeliveryState::parse(&row.get::<String>("state")?).ok_or_else(|| unreadable("state"))?,
        attempt: row.number("attempt")?,
        due_at_ms: row.get("due_at_ms")?,
        created_at_ms: row.get("created_at_ms")?,
        ended_at_ms: row.get("ended_at_ms")?,
        tries: row.json("tries")?,
    })
}
