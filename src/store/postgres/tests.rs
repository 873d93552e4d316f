//! The suite on PostgreSQL, and what only PostgreSQL has. `scripts/services run` brings a server for it.

mod plans;

use std::sync::Arc;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, Executor};

use super::*;
use crate::job::OwnerId;
use crate::store::sql::query::query;
use crate::store::suite::{self, Fresh};

mod conformance {
    crate::store::suite::ledger_suite!(crate::store::postgres::tests::open_fresh);
}

mod accounts {
    crate::store::suite::accounts_suite!(crate::store::postgres::tests::open_accounts);
}

/// Nodes that a test has on one database.
const NODES: usize = 4;

/// A database of its own on the test server; dropped with it.
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
    pub(crate) url: String,
}

fn server() -> PgConnectOptions {
    let url = config::test_postgres();
    let url = url.unwrap_or_else(|| panic!("INKPOOL_TEST_POSTGRES is not set: run this by `scripts/services run …`"));
    PgConnectOptions::from_str(&url).unwrap()
}

async fn on_server(server: &PgConnectOptions, sql: String) {
    server.connect().await.unwrap().execute(AssertSqlSafe(sql)).await.unwrap();
}

/// The name of a database with an up-to-date schema, made by the first test that asks.
async fn template(server: &PgConnectOptions) -> String {
    let mut conn = server.connect().await.unwrap();
    let checksums: Vec<_> = migrations().iter().map(|migration| hex::encode(&migration.checksum[..2])).collect();
    let name = format!("inkpool_template_{}", checksums.concat());
    // Held until this connection is closed.
    conn.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let known = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(&name);
    if known.fetch_optional(&mut conn).await.unwrap().is_none() {
        let unfinished = format!("{name}_unfinished");
        on_server(server, format!("DROP DATABASE IF EXISTS {unfinished}")).await;
        on_server(server, format!("CREATE DATABASE {unfinished}")).await;
        prepare(&server.clone().database(&unfinished), Duration::from_secs(10)).await.unwrap();
        on_server(server, format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    conn.close().await.unwrap();
    name
}

impl Database {
    /// With the schema.
    async fn fresh() -> Self {
        let template = template(&server()).await;
        Self::make(&format!("TEMPLATE {template}")).await
    }

    /// Without anything.
    async fn empty() -> Self {
        Self::make("").await
    }

    async fn make(how: &str) -> Self {
        let server = server();
        let name = format!("inkpool_test_{}", Uuid::new_v4().simple());
        on_server(&server, format!("CREATE DATABASE {name} {how}")).await;
        let url = server.clone().database(&name).to_url_lossy().to_string();
        Self { server, name, url }
    }

    async fn open(&self, change: impl FnOnce(&mut config::Store)) -> LedgerResult<Arc<SqlLedger>> {
        let mut settings = config::Config::defaults().unwrap().store;
        change(&mut settings);
        open(&self.url, &settings).await.map(Arc::new)
    }

    async fn node(&self) -> Arc<SqlLedger> {
        self.open(|_| {}).await.unwrap()
    }

    async fn connect(&self) -> PgConnection {
        self.server.clone().database(&self.name).connect().await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        self.connect().await.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A thread of its own, since this may be within a runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(on_server(&server, sql));
        });
        drop(dropped.join());
    }
}

pub(crate) async fn open_fresh() -> Fresh {
    let database = Database::fresh().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(database.node().await as Arc<dyn Ledger>);
    }
    Fresh { ledger: nodes.remove(0), peers: nodes, _keep: Box::new(database) }
}

pub(crate) async fn open_accounts() -> (Arc<dyn crate::store::accounts::Accounts>, Database) {
    let database = Database::fresh().await;
    (database.node().await, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_take_turns() {
    let database = Database::empty().await;
    let nodes = join_all((0..NODES).map(|_| database.open(|_| {}))).await;
    for node in nodes {
        node.unwrap().ping().await.unwrap();
    }
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(usize::try_from(applied).unwrap(), migrations().iter().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expanded_schema_is_taken_and_a_contracted_one_refused() {
    let database = Database::fresh().await;
    database
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', TRUE, '\\x00', 0); ALTER TABLE jobs ADD COLUMN later TEXT",
        )
        .await;
    let ledger: Arc<dyn Ledger> = database.node().await;
    suite::in_state(&ledger, OwnerId::fresh(), State::Succeeded).await;
    ledger.close().await;
    database.execute("UPDATE schema_floor SET level = 9999").await;
    let refused = database.open(|_| {}).await.map(drop);
    assert!(matches!(&refused, Err(LedgerError::Corrupt(why)) if why.contains("9999")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_server_is_refused() {
    let settings = config::Config::defaults().unwrap().store;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("postgres://inkpool@{closed}/postgres"), "postgres://[".to_owned()] {
        let refused = open(&url, &settings).await.map(drop);
        assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{url}: {refused:?}");
    }
}

/// Eight that write events of one owner, from all nodes; a watcher on each node, and one that reads as a client does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_become_visible_in_their_order() {
    const JOBS: i64 = 200;
    let database = Database::fresh().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(database.node().await);
    }
    let owner = OwnerId::fresh();
    let mut watches: Vec<_> = nodes.iter().map(|node| node.watch()).collect();
    let reading = {
        let node = Arc::clone(&nodes[0]);
        tokio::spawn(async move {
            let mut last = 0;
            while last < JOBS {
                for event in node.events_after(owner, None, last, 1000).await.unwrap() {
                    assert_eq!(event.seq, last + 1, "a number was skipped");
                    last = event.seq;
                }
            }
        })
    };
    let writing = (0..8).map(|writer| {
        let node = Arc::clone(&nodes[writer % NODES]);
        tokio::spawn(async move {
            for _ in 0..JOBS / 8 {
                node.accept(suite::request(owner, vec![suite::item(owner)])).await.unwrap();
            }
        })
    });
    for written in join_all(writing).await {
        written.unwrap();
    }
    reading.await.unwrap();
    let stored = nodes[0].events_after(owner, None, 0, 1000).await.unwrap();
    for watch in &mut watches {
        for event in &stored {
            assert_eq!(&watch.recv().await.unwrap(), event, "every node sees every event, in order");
        }
    }
}

/// Ends every connection but this one, as a restart of the server does, and waits until they are gone.
const END_ALL: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// What waited on a connection that died was never sent, so it is sent on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_idle_fail_no_change() {
    let database = Database::fresh().await;
    let ledger = database.node().await;
    let (process, lease) = (Uuid::new_v4(), Duration::from_secs(30));
    ledger.enlist("node-a", process, lease).await.unwrap();
    for _ in 0..3 {
        database.execute(END_ALL).await;
        // More than there are writers.
        let uploads = (0..8).map(|_| {
            let (ledger, owner) = (ledger.clone(), OwnerId::fresh());
            tokio::spawn(async move { ledger.accept(suite::request(owner, vec![suite::item(owner)])).await })
        });
        let uploads = join_all(uploads).await;
        assert!(uploads.iter().all(|upload| matches!(upload, Ok(Ok(Accepted::Created(_))))), "{uploads:?}");
        let renewed = ledger.renew("node-a", process, serde_json::Value::Null, lease).await.unwrap();
        assert_eq!(renewed, Renewal::Renewed(None));
        ledger.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_found_without_notifications() {
    let database = Database::fresh().await;
    let (writes, watches) = (database.node().await, database.open(|store| store.events_poll_ms = 50).await.unwrap());
    let owner = OwnerId::fresh();
    let mut watch = watches.watch();
    // With every connection that is lost goes the one that listens.
    database.execute(END_ALL).await;
    writes.accept(suite::request(owner, vec![suite::item(owner)])).await.unwrap();
    assert_eq!(watch.recv().await.unwrap().owner, owner);
}

/// The watcher is told by the announcement: its own look is an hour away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_announced_to_other_nodes() {
    let database = Database::fresh().await;
    let (writes, watches) =
        (database.node().await, database.open(|store| store.events_poll_ms = 3_600_000).await.unwrap());
    let owner = OwnerId::fresh();
    let mut watch = watches.watch();
    for _ in 0..3 {
        writes.accept(suite::request(owner, vec![suite::item(owner)])).await.unwrap();
        assert_eq!(watch.recv().await.unwrap().owner, owner);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_stays_locked_fails_its_change_and_no_other() {
    let database = Database::fresh().await;
    let node = database.open(|store| (store.busy_timeout_ms, store.writers) = (100, 1)).await.unwrap();
    let ledger: Arc<dyn Ledger> = node.clone();
    let owner = OwnerId::fresh();
    let (locked, free) = (suite::submit(&ledger, owner).await, suite::submit(&ledger, owner).await);
    let mut other = database.connect().await;
    other.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT * FROM jobs WHERE id = $1 FOR UPDATE").bind(locked.id.0).execute(&mut other).await.unwrap();
    let (refused, cancelled) = tokio::join!(ledger.cancel(owner, locked.id), ledger.cancel(owner, free.id));
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(cancelled, Ok(Some(Cancelled::Now(_)))), "{cancelled:?}");
    other.execute("ROLLBACK").await.unwrap();
    assert!(matches!(ledger.cancel(owner, locked.id).await, Ok(Some(Cancelled::Now(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_by_the_server_as_well() {
    let database = Database::fresh().await;
    let node = database.node().await;
    let shown = node
        .writer
        .run(|tx| {
            Box::pin(async move {
                let mut shown = Vec::new();
                for sql in ["SHOW statement_timeout", "SHOW lock_timeout", "SHOW idle_in_transaction_session_timeout"] {
                    shown.push(query(sql).scalar::<String>(&mut tx.conn).await?);
                }
                Ok(shown)
            })
        })
        .await
        .unwrap();
    assert_eq!(shown, ["10s", "5s", "10s"]);
    let wrote = query("DELETE FROM jobs").execute(&node.readers).await;
    assert!(wrote.is_err(), "readers do not write");
}

/// PostgreSQL knows no NUL in a text; what a worker says must not keep its job from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_a_nul_is_written_all_the_same() {
    let database = Database::fresh().await;
    let ledger: Arc<dyn Ledger> = database.node().await;
    let owner = OwnerId::fresh();
    let job = suite::submit(&ledger, owner).await;
    let start = suite::start(&ledger, &job).await;
    let error = JobError::new("fault", "a\0b", Some("de\0code"), true);
    ledger.finish(job.id, start, Finish::Failed(error)).await.unwrap();
    let failed = suite::row(&ledger, &job).await;
    assert_eq!(failed.stage.as_deref(), Some("de\u{FFFD}code"));
    assert_eq!(failed.error.unwrap().detail, "a\0b");
    assert_eq!(ledger.events_after(owner, Some(job.id), 0, 10).await.unwrap().len(), 3);
}

/// The database is an hour ahead: by its own clock this node would see nothing that is submitted for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clock_does_no_harm() {
    const HOUR_MS: i64 = 3_600_000;
    let database = Database::fresh().await;
    let ahead = "CREATE SCHEMA ahead; CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
                 $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$";
    database.execute(ahead).await;
    let path = format!("ALTER DATABASE {} SET search_path = ahead, pg_catalog, public", database.name);
    database.execute(&path).await;
    let ledger: Arc<dyn Ledger> = database.node().await;
    let owner = OwnerId::fresh();
    let node_ms = || i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap();
    let job = suite::submit(&ledger, owner).await;
    assert!(job.created_at_ms > node_ms() + HOUR_MS / 2, "rows have the time of the database");
    let waits = async |at_ms| !ledger.waiting(at_ms, 10, 10).await.unwrap().is_empty();
    assert!(waits(node_ms() + 1000).await, "it is due now");
    let start = suite::start(&ledger, &job).await;
    let run_at_ms = node_ms() + HOUR_MS / 2;
    ledger.finish(job.id, start, Finish::Retry { error: suite::error(), run_at_ms }).await.unwrap();
    assert!(!waits(run_at_ms - 60_000).await && waits(run_at_ms + 60_000).await);
    let due_ms = ledger.next_due(node_ms()).await.unwrap().unwrap();
    assert!((due_ms - run_at_ms).abs() < 60_000, "in this node's own time");
}

/// Changes of jobs that wait for a lock, as many as there are writers and more: a node that lives can still say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_changes_of_jobs_do_not_hold_up_a_lease() {
    let database = Database::fresh().await;
    let ledger = database.open(|settings| settings.batch_max = 1).await.unwrap();
    let (process, lease) = (Uuid::new_v4(), Duration::from_secs(30));
    ledger.enlist("node-a", process, lease).await.unwrap();
    let mut lock = database.connect().await;
    lock.execute("BEGIN").await.unwrap();
    lock.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let uploads: Vec<_> = (0..20)
        .map(|_| {
            let (ledger, owner) = (ledger.clone() as Arc<dyn Ledger>, OwnerId::fresh());
            tokio::spawn(async move { ledger.accept(suite::request(owner, vec![suite::item(owner)])).await.is_ok() })
        })
        .collect();
    while ledger.writer.waiting() < 15 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Each try of an upload takes 5 s to fail; a renewal that queued behind them would come when none is left.
    let renewed =
        tokio::time::timeout(Duration::from_secs(3), ledger.renew("node-a", process, serde_json::Value::Null, lease));
    assert_eq!(renewed.await.expect("a renewal waits for uploads").unwrap(), Renewal::Renewed(None));
    lock.execute("ROLLBACK").await.unwrap();
    join_all(uploads).await;
}
