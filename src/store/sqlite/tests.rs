//! The suite on SQLite, and what only SQLite has.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use serde_json::json;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::*;
use crate::job::OwnerId;
use crate::store::sql::query::query;
use crate::store::sql::writer::Tx;
use crate::store::sql::{accept, events, housekeeping, moves, nodes, owners, quotas, relay, running};
use crate::store::suite::{self, Fresh, limits};

mod conformance {
    crate::store::suite::ledger_suite!(crate::store::sqlite::tests::open);
}

mod accounts {
    crate::store::suite::accounts_suite!(crate::store::sqlite::tests::open_accounts);
}

pub(crate) async fn open_accounts() -> (Arc<dyn crate::store::accounts::Accounts>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Arc::new(open_in(&directory).await), directory)
}

pub(crate) fn settings() -> config::Store {
    config::Config::defaults().unwrap().store
}

pub(crate) async fn open() -> Fresh {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_in(&directory).await;
    let peer: Arc<dyn Ledger> = Arc::new(open_in(&directory).await);
    Fresh { ledger: Arc::new(ledger), peers: vec![peer], _keep: Box::new(directory) }
}

async fn open_in(directory: &tempfile::TempDir) -> SqlLedger {
    sqlite::open(&directory.path().join("ledger.db"), &settings()).await.unwrap()
}

fn raw(tx: &mut Tx) -> &mut SqliteConnection {
    match &mut tx.conn {
        Conn::Sqlite(conn) => conn,
        Conn::Postgres(_) => panic!("not SQLite"),
    }
}

fn pool(ledger: &SqlLedger) -> &SqlitePool {
    match &ledger.readers {
        Readers::Sqlite(pool) => pool,
        Readers::Postgres(..) => panic!("not SQLite"),
    }
}

fn request(owner: OwnerId) -> Submission {
    suite::request(owner, vec![suite::item(owner)])
}

#[tokio::test]
async fn commits_reach_the_disk_and_references_hold() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_in(&directory).await;
    let pragmas = ledger
        .writer
        .run(|tx| {
            Box::pin(async move {
                let mut values = Vec::new();
                for sql in ["PRAGMA synchronous", "PRAGMA journal_mode", "PRAGMA foreign_keys"] {
                    let row = sqlx::query(sql).fetch_one(raw(tx)).await.map_err(database_error)?;
                    values
                        .push(row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string())));
                }
                Ok(values.into_iter().map(Result::unwrap).collect::<Vec<_>>())
            })
        })
        .await
        .unwrap();
    assert_eq!(pragmas, ["2", "wal", "1"], "2 is FULL");
    assert!(sqlx::query("DELETE FROM jobs").execute(pool(&ledger)).await.is_err(), "readers do not write");
}

#[tokio::test]
async fn what_is_closed_can_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let owner = OwnerId::fresh();
    let ledger = open_in(&directory).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let blocked = ledger.writer.run(|_| blocked_by(wait));
    let accepts = join_all((0..20).map(|_| ledger.accept(request(owner))));
    let end = async {
        while ledger.writer.waiting() < 20 {
            tokio::task::yield_now().await;
        }
        // They wait behind a commit that goes on; only then does the end come.
        tokio::join!(ledger.close(), async { go.send(()).unwrap() });
    };
    let (blocked, accepted, ()) = tokio::join!(blocked, accepts, end);
    blocked.unwrap();
    assert!(accepted.iter().all(|accepted| matches!(accepted, Ok(Accepted::Created(_)))));
    let ledger = open_in(&directory).await;
    assert_eq!(ledger.images(owner, None, 100).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_later_schema_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_in(&directory).await;
    ledger
        .writer
        .run(|tx| {
            Box::pin(async move {
                let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                           VALUES (9999, 'later', TRUE, x'00', 0)";
                sqlx::query(sql).execute(raw(tx)).await.map(drop).map_err(database_error)
            })
        })
        .await
        .unwrap();
    ledger.close().await;
    let again = sqlite::open(&directory.path().join("ledger.db"), &settings()).await;
    assert!(matches!(again.map(drop), Err(LedgerError::Corrupt(_))));
}

#[tokio::test]
async fn what_is_no_ledger_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    std::fs::write(&path, "this is a text and no database".repeat(100)).unwrap();
    let refused = sqlite::open(&path, &settings()).await.map(drop);
    assert!(matches!(refused, Err(LedgerError::Corrupt(_))), "{refused:?}");
    let nowhere = sqlite::open(&directory.path().join("no/such/ledger.db"), &settings()).await.map(drop);
    assert!(matches!(nowhere, Err(LedgerError::Unavailable(_))), "{nowhere:?}");
}

/// A change that keeps its commit open.
fn blocked_by(wait: tokio::sync::oneshot::Receiver<()>) -> BoxFuture<'static, LedgerResult<()>> {
    Box::pin(async move {
        wait.await.unwrap();
        Ok(())
    })
}

/// The first change holds the commit up until the others wait; the last of them looks from outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_wait_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open_in(&directory).await);
    let owner = OwnerId::fresh();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (writer, readers) = (&ledger.writer, pool(&ledger).clone());
    let blocked = writer.run(|_| blocked_by(wait));
    let accepts = join_all((0..10).map(|_| ledger.accept(request(owner))));
    let look = writer.run(move |tx| {
        Box::pin(async move {
            let sql = "SELECT count(*) FROM jobs";
            let inside: i64 = sqlx::query_scalar(sql).fetch_one(raw(tx)).await.map_err(database_error)?;
            let outside: i64 = sqlx::query_scalar(sql).fetch_one(&readers).await.map_err(database_error)?;
            Ok((inside, outside))
        })
    });
    let start = async {
        while ledger.writer.waiting() < 11 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
    };
    let (blocked, accepted, seen, ()) = tokio::join!(blocked, accepts, look, start);
    blocked.unwrap();
    assert!(accepted.iter().all(|accepted| matches!(accepted, Ok(Accepted::Created(_)))));
    assert_eq!(seen.unwrap(), (10, 0), "ten rows in one transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_lasts_fails_the_commit_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let quick = config::Store { busy_timeout_ms: 50, ..settings() };
    let ledger = sqlite::open(&path, &quick).await.unwrap();
    let owner = OwnerId::fresh();
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = ledger.accept(request(owner)).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert!(matches!(ledger.accept(request(owner)).await, Ok(Accepted::Created(_))));
    assert_eq!(ledger.images(owner, None, 10).await.unwrap().len(), 1);
}

/// A reference to nothing that is looked at only by COMMIT.
#[tokio::test]
async fn a_commit_that_fails_is_told_to_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_in(&directory).await;
    let owner = OwnerId::fresh();
    let mut watch = ledger.watch();
    let spoiled = ledger.writer.run(|tx| {
        Box::pin(async move {
            for sql in [
                "PRAGMA defer_foreign_keys = ON",
                "INSERT INTO outbox (job_id, owner, lane, run_at_ms) VALUES (x'00', x'00', 'bulk', 0)",
            ] {
                sqlx::query(sql).execute(raw(tx)).await.map_err(database_error)?;
            }
            Ok(())
        })
    });
    // Both are handed over before the task of this one thread comes to them: one commit.
    let (spoiled, beside) = tokio::join!(spoiled, ledger.accept(request(owner)));
    assert!(spoiled.is_err() && beside.is_err(), "{spoiled:?} {beside:?}");
    assert_eq!(ledger.images(owner, None, 10).await.unwrap(), []);
    assert!(watch.try_recv().is_err(), "no event of what was not committed");
    assert!(matches!(ledger.accept(request(owner)).await, Ok(Accepted::Created(_))));
    assert_eq!(ledger.waiting(suite::FAR, 10, 10).await.unwrap().len(), 1);
}

/// The guard in the statement itself, below the check of the table: it is what holds between two writers.
#[tokio::test]
async fn a_row_is_written_only_from_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(open_in(&directory).await);
    let owner = OwnerId::fresh();
    let queued = suite::submit(&ledger, owner).await;
    let first = suite::start(&ledger, &queued).await;
    let of_first = suite::row(&ledger, &queued).await;
    ledger.finish(queued.id, first, Finish::HandBack).await.unwrap();
    suite::start(&ledger, &queued).await;
    let of_second = suite::row(&ledger, &queued).await;
    ledger.close().await;
    let ledger = open_in(&directory).await;
    // The same state under another start, and another state under the same start.
    let wrong_state = JobRow { state: State::Released, ..of_second.clone() };
    for before in [of_first, wrong_state, queued] {
        let after = JobRow { state: State::Failed, finished_at_ms: Some(1), ..before.clone() };
        let written =
            ledger.writer.run(move |tx| Box::pin(async move { moves::write(tx, &before, &after).await })).await;
        assert!(!written.unwrap());
    }
    assert_eq!(ledger.job(owner, of_second.id).await.unwrap().unwrap(), of_second);
}

/// However many jobs there are, no question looks at all of them.
#[tokio::test]
async fn no_question_scans_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_in(&directory).await;
    let mut questions = owners::LISTS.to_vec();
    questions.extend([accept::RECALL, accept::UNFINISHED_OF_OWNER, relay::WAITING.sqlite, relay::NEXT_DUE]);
    questions.extend([running::HELD, running::LOST, events::OF_OWNER, events::OF_JOB, relay::RELEASED]);
    questions.extend([quotas::STANDING, quotas::TAKEN, quotas::KNOWN, quotas::TYPICAL]);
    questions.extend([housekeeping::THROUGHPUT, housekeeping::DURATIONS, housekeeping::START_KNOWN]);
    questions.extend([nodes::RUNNING.sqlite, nodes::RELEASED.sqlite, nodes::ASKED_TO_STOP]);
    // Results that are bounded, and indices that hold nothing but what is asked for.
    let bounded = ["CONSTANT ROW", "always", "owners", "heads", "chosen", "page"];
    let partial = ["jobs_running", "jobs_released", "jobs_succeeded"];
    for sql in questions {
        for step in plan(&ledger, sql).await {
            let Some(scanned) = step.strip_prefix("SCAN ") else { continue };
            let small = bounded.contains(&scanned) || partial.iter().any(|index| scanned.ends_with(index));
            assert!(small, "{step}\n{sql}");
        }
    }
    for sql in [accept::UNFINISHED, housekeeping::COUNTS] {
        let plan = plan(&ledger, sql).await;
        assert!(plan[0].ends_with("USING COVERING INDEX jobs_unfinished"), "{plan:?}\n{sql}");
    }
}

async fn plan(ledger: &SqlLedger, sql: &'static str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(explain).fetch_all(pool(ledger)).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

#[tokio::test]
async fn an_answer_is_given_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let owner = OwnerId::fresh();
    let answer = json!({"items": [{"image": "a", "job": 1.5}, null], "ü": "\u{1F4C4}"});
    let ledger = open_in(&directory).await;
    let idempotency = Idempotency { key: "k".repeat(255), fingerprint: "f".to_owned(), answer: answer.clone() };
    let submission = Submission { idempotency: Some(idempotency), limits: limits(), ..request(owner) };
    ledger.accept(submission).await.unwrap();
    ledger.close().await;
    let ledger = open_in(&directory).await;
    assert_eq!(ledger.recall(owner, &"k".repeat(255)).await.unwrap().unwrap().answer, answer);
}

/// One writer: a renewal comes before everything that waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_changes_of_jobs_do_not_hold_up_a_lease() {
    const CHANGES: usize = 30;
    let directory = tempfile::tempdir().unwrap();
    let settings = config::Store { batch_max: 1, ..settings() };
    let ledger = sqlite::open(&directory.path().join("ledger.db"), &settings).await.unwrap();
    let ledger = Arc::new(ledger);
    let (process, lease) = (Uuid::new_v4(), Duration::from_secs(30));
    ledger.enlist("node-a", process, lease).await.unwrap();
    let slow = || {
        let ledger = ledger.clone();
        let change = async move |ledger: Arc<SqlLedger>| {
            let work = ledger.writer.run(|_| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(())
                })
            });
            work.await
        };
        tokio::spawn(change(ledger))
    };
    let changes: Vec<_> = (0..CHANGES).map(|_| slow()).collect();
    while ledger.writer.waiting() < CHANGES - 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger.renew("node-a", process, json!(null), lease).await.unwrap(), Renewal::Renewed(None));
    assert!(ledger.writer.waiting() > CHANGES / 2, "it waited for most of them");
    for change in join_all(changes).await {
        change.unwrap().unwrap();
    }
}

/// What a change wrote before it failed is undone, whether it shares its commit with others or not.
#[tokio::test]
async fn a_change_that_fails_leaves_nothing() {
    for batch_max in [1, 8] {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::Store { batch_max, ..settings() };
        let ledger = sqlite::open(&directory.path().join("ledger.db"), &settings).await.unwrap();
        let write = |owner: Uuid, then: LedgerResult<()>| {
            ledger.writer.run(move |tx| {
                Box::pin(async move {
                    let added = query("INSERT INTO owner_usage (owner, stored_bytes) VALUES ($1, 1)").bind(owner);
                    added.execute(&mut tx.conn).await?;
                    then
                })
            })
        };
        let refused = || Err(LedgerError::Unavailable("as the test wants it".to_owned()));
        let slow = ledger.writer.run(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(())
            })
        });
        // What comes while the first one runs waits for the next commit.
        let (kept, first, second) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let (slow, one, two, three) =
            tokio::join!(slow, write(first, refused()), write(kept, Ok(())), write(second, refused()));
        assert!(slow.is_ok() && one.is_err() && two.is_ok() && three.is_err(), "{batch_max}");
        let owners = ledger
            .writer
            .run(|tx| Box::pin(async { query("SELECT owner FROM owner_usage").scalar::<Uuid>(&mut tx.conn).await }));
        assert_eq!(owners.await.unwrap(), kept, "{batch_max}");
        let count = ledger
            .writer
            .run(|tx| Box::pin(async { query("SELECT count(*) FROM owner_usage").scalar::<i64>(&mut tx.conn).await }));
        assert_eq!(count.await.unwrap(), 1, "{batch_max}");
    }
}
