//! Reads the final state past the program: rows straight from the database, bytes straight from the bucket's directory.

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row};

use super::cluster::Cluster;
use super::common::server::files_below;
use super::evidence::{Event, Evidence, File, Job};
use super::load::{Load, event};

const JOBS: &str = "
    SELECT jobs.id::text AS id, image_id::text AS image, images.sha256 AS sha256, jobs.owner::text AS owner, state,
           starts, attempt, attempts_max
    FROM jobs JOIN images ON images.id = image_id ORDER BY jobs.id";

pub async fn evidence(cluster: &Cluster, load: &Load) -> Evidence {
    let mut database = cluster.postgres.connect().await;
    let events = events(&mut database).await;
    let heads = sqlx::query_as("SELECT owner::text, seq FROM event_heads").fetch_all(&mut database).await.unwrap();
    let heads: std::collections::BTreeMap<String, i64> = heads.into_iter().collect();
    let mut watched = load.log.watched.lock().unwrap().clone();
    // There is no login: all is one owner's.
    for event in &mut watched {
        event.owner = heads.keys().next().cloned().unwrap_or_default();
    }
    let (answers, sent) = (load.log.answers.lock().unwrap().clone(), load.log.sent.lock().unwrap().clone());
    let evidence = Evidence {
        answers,
        sent,
        jobs: jobs(&mut database).await,
        files: files(&mut database).await,
        events,
        heads,
        watched,
        objects: objects(cluster),
    };
    database.close().await.unwrap();
    evidence
}

pub async fn events(database: &mut PgConnection) -> Vec<Event> {
    let rows = sqlx::query("SELECT owner::text AS owner, seq, body, at_ms FROM events ORDER BY owner, seq");
    let rows = rows.fetch_all(database).await.unwrap();
    let told = rows.iter().map(|row| {
        let body = serde_json::from_str(row.get("body")).unwrap();
        event(row.get("owner"), row.get("seq"), &body, row.get("at_ms"))
    });
    told.collect()
}

async fn jobs(database: &mut PgConnection) -> Vec<Job> {
    let rows = sqlx::query(JOBS).fetch_all(database).await.unwrap();
    let number = |row: &sqlx::postgres::PgRow, name: &str| u32::try_from(row.get::<i64, _>(name)).unwrap();
    let jobs = rows.iter().map(|row| Job {
        id: row.get("id"),
        image: row.get("image"),
        image_sha256: row.get("sha256"),
        owner: row.get("owner"),
        state: row.get("state"),
        starts: number(row, "starts"),
        attempt: number(row, "attempt"),
        attempts_max: number(row, "attempts_max"),
    });
    jobs.collect()
}

async fn files(database: &mut PgConnection) -> Vec<File> {
    let rows = sqlx::query("SELECT job_id::text AS job, start, name, sha256 FROM files ORDER BY job_id, ordinal");
    let rows = rows.fetch_all(database).await.unwrap();
    let files = rows.iter().map(|row| File {
        job: row.get("job"),
        start: u32::try_from(row.get::<i64, _>("start")).unwrap(),
        name: row.get("name"),
        sha256: row.get("sha256"),
    });
    files.collect()
}

fn objects(cluster: &Cluster) -> std::collections::BTreeMap<String, String> {
    let base = cluster.s3.bucket().join("inkpool");
    let hashed = files_below(&base).into_iter().filter(|key| key != "probe").map(|key| {
        let bytes = std::fs::read(base.join(&key)).unwrap();
        (key, hex::encode(Sha256::digest(&bytes)))
    });
    hashed.collect()
}

/// Jobs that have not ended.
pub async fn unfinished(database: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM jobs WHERE finished_at_ms IS NULL").fetch_one(database).await
}

/// Whether the node works on one of the slow pages, and will for another second.
pub async fn is_busy(database: &mut PgConnection, node: &str, slow: &[String], now_ms: i64) -> bool {
    let query = "SELECT count(*) FROM jobs WHERE state = 'running' AND node = $1 AND started_at_ms BETWEEN $2 AND $3
                 AND id::text = ANY($4)";
    let query = sqlx::query_scalar(query).bind(node).bind(now_ms - 2_000).bind(now_ms - 700).bind(slow);
    query.fetch_one(database).await.is_ok_and(|jobs: i64| jobs > 0)
}
