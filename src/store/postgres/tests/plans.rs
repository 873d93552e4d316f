//! What the server does for each question when there are many jobs.

use sqlx::Row;

use super::*;
use crate::store::sql::{accept, events, housekeeping, moves, nodes, owners, quotas, relay, running};

/// As many as make a walk through the table the worst of all plans, and quick to write.
const JOBS: i64 = 20_000;
/// Half of them wait, of ten owners, in both lanes; the rest, of ten others, has ended.
const FILL: &str = "
    INSERT INTO images (id, owner, filename, content_type, size_bytes, sha256, created_at_ms, name_folded)
    SELECT ('10000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        ('00000000-0000-7000-8000-' || lpad(to_hex(n % 20), 12, '0'))::uuid, 'page.png', 'image/png', 9, md5(n::text), n, 'page.png'
    FROM generate_series(1, $1) AS n;
    INSERT INTO contents (image_id, owner, sha256) SELECT id, owner, sha256 FROM images;
    INSERT INTO jobs (id, owner, image_id, preset, spec, lane, state, starts, attempt, attempts_max, crashes, crashes_max,
        run_at_ms, cancel_requested, progress, created_at_ms, started_at_ms, finished_at_ms)
    SELECT id, owner, id, 'photo', '{}', CASE WHEN created_at_ms % 3 = 0 THEN 'bulk' ELSE 'interactive' END,
        CASE WHEN created_at_ms % 2 = 0 THEN 'queued' ELSE 'succeeded' END, 0, 0, 5, 0, 3, created_at_ms, FALSE, 0, created_at_ms,
        created_at_ms, CASE WHEN created_at_ms % 2 = 0 THEN NULL ELSE created_at_ms END
    FROM images;
    INSERT INTO outbox (job_id, owner, lane, run_at_ms) SELECT id, owner, lane, run_at_ms FROM jobs WHERE state = 'queued';
    INSERT INTO events (owner, seq, job_id, kind, body, at_ms) SELECT owner, run_at_ms, id, state, '{}', run_at_ms FROM jobs;
    INSERT INTO idempotency (owner, idempotency_key, fingerprint, answer, created_at_ms)
    SELECT owner, id::text, '', '{}', run_at_ms FROM jobs;
    ANALYZE";
/// Tables that grow with the jobs.
const LARGE: [&str; 6] = ["jobs", "images", "contents", "outbox", "events", "idempotency"];

/// As a connection has it that has asked before: a plan for all values.
async fn plan(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let values = (1..30).take_while(|number| sql.contains(&format!("${number}"))).count();
    let nulls = vec!["NULL"; values].join(", ");
    let values = if values == 0 { String::new() } else { format!("({nulls})") };
    for statement in ["DEALLOCATE ALL".to_owned(), format!("PREPARE question AS {sql}")] {
        conn.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    explain(conn, &format!("EXECUTE question{values}")).await
}

async fn explain(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Tables that a plan walks through from one end to the other.
fn scanned(plan: &[String]) -> Vec<&str> {
    let tables = plan.iter().filter_map(|step| step.split_once("Seq Scan on ")?.1.split(' ').next());
    tables.filter(|table| LARGE.contains(table)).collect()
}

/// However many jobs there are, neither a claim nor another question looks at all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_scans_a_table() {
    let database = Database::fresh().await;
    let mut conn = database.connect().await;
    conn.execute(AssertSqlSafe(FILL.replace("$1", &JOBS.to_string()))).await.unwrap();
    // The test can tell: this one has no index.
    assert_eq!(scanned(&explain(&mut conn, "SELECT * FROM jobs WHERE preset = 'other'").await), ["jobs"]);
    conn.execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let mut questions = vec![relay::WAITING.postgres, relay::NEXT_DUE, relay::RELEASED, relay::RELEASED_BY_ANY];
    questions.extend([moves::LOAD.postgres, moves::WRITE, moves::NO_LONGER_WAITS, owners::IMAGE_BY_ID.postgres]);
    questions.extend([running::HELD, running::LOST, accept::RECALL, accept::UNFINISHED_OF_OWNER]);
    questions.extend([
        events::OF_OWNER,
        events::OF_JOB,
        quotas::STANDING,
        quotas::TAKEN,
        quotas::KNOWN,
        quotas::TYPICAL,
    ]);
    questions.extend([housekeeping::THROUGHPUT, housekeeping::DURATIONS, housekeeping::START_KNOWN]);
    questions.extend([nodes::RUNNING.postgres, nodes::RELEASED.postgres, nodes::ASKED_TO_STOP]);
    for sql in questions {
        let plan = plan(&mut conn, sql).await;
        assert!(scanned(&plan).is_empty(), "{sql}\n{}", plan.join("\n"));
    }
}

/// One owner's large upload came before everybody else's page: whose turn it is must not be found by walking past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_behind_a_large_upload_is_found_at_once() {
    let database = Database::fresh().await;
    let mut conn = database.connect().await;
    conn.execute(AssertSqlSafe(FILL.replace("$1", &JOBS.to_string()))).await.unwrap();
    // As it is in a queue that moves: known in outline, and not swept since.
    for sql in [
        "ALTER TABLE outbox SET (autovacuum_enabled = off)",
        "UPDATE outbox SET owner = '00000000-0000-7000-8000-000000000001' WHERE run_at_ms < 19600",
        "ANALYZE outbox",
    ] {
        conn.execute(sql).await.unwrap();
    }
    // A server plans for the values themselves, or once for all.
    for mode in ["force_custom_plan", "force_generic_plan"] {
        conn.execute(AssertSqlSafe(format!("SET plan_cache_mode = {mode}; DEALLOCATE ALL"))).await.unwrap();
        conn.execute(AssertSqlSafe(format!(
            "PREPARE waiting (text, bigint, bigint, bigint) AS {}",
            relay::WAITING.postgres
        )))
        .await
        .unwrap();
        let plan = explain(&mut conn, "(ANALYZE, BUFFERS) EXECUTE waiting('interactive', 1000000, 8, 256)").await;
        let removed = plan.iter().filter_map(|step| step.split_once("Rows Removed by Filter: ")?.1.parse::<u64>().ok());
        let walked_past = removed.max().unwrap_or(0);
        assert!(walked_past < 100, "{mode}: {walked_past} rows\n{}", plan.join("\n"));
    }
}
