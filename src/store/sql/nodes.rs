//! Nodes and their leases, and the jobs of those that have none.

use std::time::Duration;

use uuid::Uuid;

use super::query::{Readers, Sql, Value, query};
use super::running::lose;
use super::writer::Tx;
use crate::job::{Event, JobId, State};
use crate::store::{LedgerResult, NodeRow, NodeWish, Renewal};

/// Whoever had the name before: the data directory has one process.
const ENLIST: &str = "
    INSERT INTO nodes (name, process, view, lease_until_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE SET process = excluded.process, view = excluded.view, wish = NULL,
        lease_until_ms = excluded.lease_until_ms";
const MINE: Sql = Sql::each(
    "SELECT wish FROM nodes WHERE name = $1 AND process = $2",
    "SELECT wish FROM nodes WHERE name = $1 AND process = $2 FOR UPDATE",
);
const RENEW: &str = "UPDATE nodes SET view = $2, lease_until_ms = $3, wish = NULL WHERE name = $1";
/// Jobs of a state whose node has no lease at `$1`, at most `$2`. What another node is about to rescue is left to it. The
/// state stands in the text, since the index of such jobs is for it alone.
macro_rules! without_node {
    ($state:literal) => {
        Sql::each(
            concat!(
                "SELECT id, node FROM jobs WHERE state = '",
                $state,
                "' AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.name = jobs.node AND nodes.lease_until_ms > $1) \
                 LIMIT $2"
            ),
            concat!(
                "SELECT id, node FROM jobs WHERE state = '",
                $state,
                "' AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.name = jobs.node AND nodes.lease_until_ms > $1) \
                 LIMIT $2 FOR UPDATE OF jobs SKIP LOCKED"
            ),
        )
    };
}
/// What runs without a node.
pub(in crate::store) const RUNNING: Sql = without_node!("running");
/// What was released by a node that is gone.
pub(in crate::store) const RELEASED: Sql = without_node!("released");

/// Running jobs of node `$1` that are to be cancelled.
pub(in crate::store) const ASKED_TO_STOP: &str =
    "SELECT id FROM jobs WHERE state = 'running' AND node = $1 AND cancel_requested ORDER BY id";

/// Jobs that one commit rescues at most: other changes wait meanwhile.
const RESCUE_JOBS: i64 = 200;
/// Nodes without a lease are forgotten after this.
const FORGET: Duration = Duration::from_secs(24 * 3600);

fn after(now_ms: i64, time: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// See [`crate::store::Ledger::enlist`].
pub(in crate::store) async fn enlist(tx: &mut Tx, name: &str, process: Uuid, lease: Duration) -> LedgerResult<()> {
    let until_ms = after(tx.now_ms, lease);
    query(ENLIST).bind(name).bind(process).bind("null").bind(until_ms).execute(&mut tx.conn).await.map(drop)
}

/// See [`crate::store::Ledger::renew`].
pub(in crate::store) async fn renew(
    tx: &mut Tx,
    name: &str,
    process: Uuid,
    view: &serde_json::Value,
    lease: Duration,
) -> LedgerResult<Renewal> {
    let row = query(MINE).bind(name).bind(process).fetch_optional(&mut tx.conn).await?;
    let Some(row) = row else { return Ok(Renewal::NameTaken) };
    let wish: Option<NodeWish> = row.json_or_null("wish")?;
    let until_ms = after(tx.now_ms, lease);
    query(RENEW).bind(name).bind(Value::json(view)?).bind(until_ms).execute(&mut tx.conn).await?;
    let forgotten_ms = tx.now_ms.saturating_sub(after(0, FORGET));
    query("DELETE FROM nodes WHERE lease_until_ms < $1").bind(forgotten_ms).execute(&mut tx.conn).await?;
    Ok(Renewal::Renewed(wish))
}

/// See [`crate::store::Ledger::leave`].
pub(in crate::store) async fn leave(tx: &mut Tx, name: &str, process: Uuid) -> LedgerResult<()> {
    query("DELETE FROM nodes WHERE name = $1 AND process = $2")
        .bind(name)
        .bind(process)
        .execute(&mut tx.conn)
        .await
        .map(drop)
}

/// See [`crate::store::Ledger::wish`].
pub(in crate::store) async fn wish(tx: &mut Tx, name: &str, wish: NodeWish) -> LedgerResult<bool> {
    let now_ms = tx.now_ms;
    let done = query("UPDATE nodes SET wish = $2 WHERE name = $1 AND lease_until_ms > $3")
        .bind(name)
        .bind(Value::json(&wish)?)
        .bind(now_ms)
        .execute(&mut tx.conn)
        .await?;
    Ok(done == 1)
}

/// See [`crate::store::Ledger::nodes`].
pub(in crate::store) async fn nodes(readers: &Readers, now_ms: i64) -> LedgerResult<Vec<NodeRow>> {
    let rows = query("SELECT name, view FROM nodes WHERE lease_until_ms > $1 ORDER BY name")
        .bind(now_ms)
        .fetch_all(readers)
        .await?;
    rows.iter().map(|row| Ok(NodeRow { name: row.get("name")?, view: row.json("view")? })).collect()
}

/// See [`crate::store::Ledger::rescue`].
pub(in crate::store) async fn rescue(tx: &mut Tx, released: bool) -> LedgerResult<Vec<(JobId, State)>> {
    let mut moved = Vec::new();
    for (id, node) in without_node(tx, RUNNING).await? {
        let node = node.unwrap_or_default();
        moved.extend(lose(tx, id, format!("the node {node} was lost while it worked on this job")).await?);
    }
    if released {
        for (id, _) in without_node(tx, RELEASED).await? {
            if super::relay::step(tx, id, Event::Unrelease, None).await? {
                moved.push((id, State::Queued));
            }
        }
    }
    Ok(moved)
}

async fn without_node(tx: &mut Tx, sql: Sql) -> LedgerResult<Vec<(JobId, Option<String>)>> {
    let now_ms = tx.now_ms;
    let rows = query(sql).bind(now_ms).bind(RESCUE_JOBS).fetch_all(&mut tx.conn).await?;
    rows.iter().map(|row| Ok((JobId(row.get("id")?), row.get("node")?))).collect()
}
