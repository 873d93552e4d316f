//! The real server on a real PostgreSQL that is killed and started again under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::pages;
use common::postgres::Postgres;
use common::server::{Options, Server, data_directory, until};

type Accepted = Arc<Mutex<BTreeSet<String>>>;

/// One upload; the job's id, or what the refusal said about coming back.
async fn upload(server: &Server, seed: u32) -> Result<String, (u16, Option<u64>)> {
    let url = server.url("/api/v1/images?preset=photo&filename=page.png");
    let answer = server.client().post(url).body(pages::png(64, 48, seed)).send().await.unwrap();
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    if status != 202 {
        return Err((status, retry_after));
    }
    let body: serde_json::Value = answer.json().await.unwrap();
    Ok(body["items"][0]["job"]["id"].as_str().unwrap().to_owned())
}

/// Uploads until told to stop; a refusal must be a 503 that says when to come back.
async fn keep_uploading(server: Arc<Server>, accepted: Accepted, stop: Arc<AtomicBool>, client: u32) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        match upload(&server, client * 10_000 + number).await {
            Ok(id) => drop(accepted.lock().unwrap().insert(id)),
            Err((status, retry_after)) => {
                assert_eq!(status, 503);
                assert!(retry_after.is_some_and(|seconds| seconds > 0), "{retry_after:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_costs_no_accepted_upload() {
    let mut database = Postgres::start().await;
    let directory = data_directory();
    // What the dead database was about to say is missed by both sides: the janitor puts such jobs back.
    let options = Options::default().set("INKPOOL_STORE__URL", database.url()).set("INKPOOL_JANITOR__EVERY_S", 1);
    let server = Arc::new(Server::start(&directory.path().join("data"), &options));
    let (accepted, stop) = (Accepted::default(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..3)
        .map(|client| tokio::spawn(keep_uploading(server.clone(), accepted.clone(), stop.clone(), client)))
        .collect();
    let more_than = |count: usize| {
        let accepted = accepted.clone();
        move || accepted.lock().unwrap().len() > count
    };
    let mut before = 0;
    for _ in 0..3 {
        until("uploads are accepted", more_than(before + 5)).await;
        database.kill();
        let refused = upload(&server, 1_000_000).await;
        assert!(matches!(refused, Err((503, Some(1..)))), "{refused:?}");
        let ready = server.client().get(server.url("/readyz")).send().await.unwrap();
        assert_eq!(ready.status(), 503);
        before = accepted.lock().unwrap().len();
        database.start_again().await;
    }
    until("uploads are accepted again", more_than(before + 5)).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let accepted = std::mem::take(&mut *accepted.lock().unwrap());
    for id in &accepted {
        let job = server.wait_final(id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        let image = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
        for file in image["files"].as_array().unwrap() {
            let answer = server.client().get(server.url(file["url"].as_str().unwrap())).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{file}");
        }
        assert_eq!(image["files"].as_array().unwrap().len(), 5, "{image}");
    }
    let mut server = Arc::into_inner(server).unwrap();
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    let mut rows = database.connect().await;
    let visible: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT job_id) FROM files").fetch_one(&mut rows).await.unwrap();
    let jobs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'succeeded'").fetch_one(&mut rows).await.unwrap();
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&mut rows).await.unwrap();
    assert!(visible == jobs && jobs >= i64::try_from(accepted.len()).unwrap(), "{visible} {jobs}");
    assert_eq!(others, 0, "nothing waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_goes_on_from_the_database() {
    let database = Postgres::start().await;
    let directory = data_directory();
    let options = Options::default().slots(1).set("INKPOOL_STORE__URL", database.url());
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &options);
    let id = upload(&server, 1).await.unwrap();
    server.kill();
    let server = Server::start(&data, &options.slots(2));
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
    assert!(!data.join("inkpool.sqlite").exists(), "the ledger is elsewhere");
}
