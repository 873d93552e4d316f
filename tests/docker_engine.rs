//! A Docker Engine of the test's own that is killed, started again and stopped in the middle of work: no attempt is spent.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::docker::{Cluster, image};
use common::engine::Engine;
use common::pages;
use common::server::{PATIENCE, Server, data_directory};
use serde_json::Value;

async fn not_ready(server: &Server) -> String {
    let began = std::time::Instant::now();
    loop {
        let ready: Value = server.get("/readyz").await;
        if let Some(reasons) = ready["reasons"].as_array().filter(|reasons| !reasons.is_empty()) {
            return reasons.iter().map(ToString::to_string).collect();
        }
        assert!(began.elapsed() < PATIENCE, "still ready\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn ready(server: &Server) {
    let began = std::time::Instant::now();
    while server.get("/readyz").await["ready"] != true {
        assert!(began.elapsed() < PATIENCE, "not ready again\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_and_comes_back_costs_no_attempt() {
    let mut engine = Engine::start();
    engine.load(&image());
    let cluster = Cluster::on(&["-H".to_owned(), engine.host()]);
    let data = data_directory();
    let options = cluster
        .options(1)
        .set("INKPOOL_SLOTS__DOCKER__HOST", engine.host())
        .set("INKPOOL_SLOTS__DOCKER__CALL_TIMEOUT_S", 3);
    let server = Server::start(data.path(), &options);
    let hung = server.submit(pages::png_with_text("inkpool-fault", "hang", 1), "photo").await;
    server.wait_for(&hung, &["running"]).await;

    // Killed: the job runs on, and nothing further is claimed.
    engine.kill();
    let reasons = not_ready(&server).await;
    assert!(reasons.contains("Docker Engine"), "{reasons}");
    let waiting = server.submit(pages::png(64, 64, 2), "photo").await;
    assert_eq!(server.job(&hung).await["state"], "running");
    assert_ne!(server.job(&waiting).await["state"], "running");

    // Started again it ends the containers that it finds: the attempt is handed back, and the job starts once more.
    let before: Value = server.job(&hung).await["started_at"].clone();
    engine.start_again();
    let began = std::time::Instant::now();
    loop {
        let job = server.job(&hung).await;
        assert!(job["attempt"].as_u64() <= Some(1), "{job}");
        if job["state"] == "running" && job["started_at"] != before {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{job}\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(server.log().contains("handed back unspent"), "{}", server.log());
    server.post(&format!("/api/v1/jobs/{hung}/cancel")).await;
    let job = server.wait_final(&waiting).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");

    // Stopped dead: it takes connections and answers nothing.
    ready(&server).await;
    engine.signal("STOP");
    not_ready(&server).await;
    let late = server.submit(pages::png(64, 64, 3), "photo").await;
    assert_ne!(server.job(&late).await["state"], "running");
    engine.signal("CONT");
    let job = server.wait_final(&late).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}\n{}", server.log());
}
