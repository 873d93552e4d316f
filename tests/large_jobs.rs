//! Nodes with different memory: a job that is too large for one is done by the other, and fails only when none could hold it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use common::nats::Nats;
use common::pages;
use common::postgres::Postgres;
use common::server::{Options, PATIENCE, Server, data_directory};
use serde_json::Value;

/// What all jobs of the small node may hold: a page of a few megapixels needs more, a small one less.
const SMALL_BYTES: u64 = 100 << 20;

fn options(database: &Postgres, nats: Option<&Nats>) -> Options {
    let options = Options::default()
        .slots(1)
        .set("INKPOOL_STORE__URL", database.url())
        .set("INKPOOL_NODES__LEASE_S", 4)
        .set("INKPOOL_NODES__FENCE_S", 3)
        .set("INKPOOL_NODES__RENEW_EVERY_S", 1)
        .set("INKPOOL_NODES__RESCUE_EVERY_S", 1);
    match nats {
        Some(nats) => options.set("INKPOOL_BUS__URL", nats.url()),
        None => options,
    }
}

/// A node whose objects are those of all.
fn node(directory: &Path, name: &str, options: &Options) -> Server {
    let (data, objects) = (directory.join(name), directory.join("objects"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    symlink(&objects, data.join("objects")).unwrap();
    Server::start(&data, options)
}

fn name(server: &Server) -> String {
    std::fs::read_to_string(server.data.join("node")).unwrap()
}

async fn sees_nodes(server: &Server, count: usize) {
    let began = Instant::now();
    while server.get("/api/v1/cluster").await["nodes"].as_array().unwrap().len() != count {
        assert!(began.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn figure(value: &Value) -> u64 {
    value.as_str().unwrap().strip_suffix(" bytes").unwrap().parse().unwrap()
}

/// Nobody alive has as much: the job fails and says what it needs and what there is.
async fn fails_with_figures(small: &Server, limit_at_least: u64) {
    let id = small.submit(pages::jpeg(2400, 1800), "photo").await;
    let job = small.wait_final(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &"needs_too_much_memory".into()), "{job}");
    assert!(figure(&job["error"]["measured"]) > figure(&job["error"]["limit"]), "{job}");
    assert!(figure(&job["error"]["limit"]) >= limit_at_least, "{job}");
}

async fn goes_to_the_larger_node(nats: Option<&Nats>) {
    let database = Postgres::start().await;
    let directory = data_directory();
    let options = options(&database, nats);
    let small_options = options.clone().set("INKPOOL_SLOTS__MEMORY_TOTAL_BYTES_MAX", SMALL_BYTES);
    let small = node(directory.path(), "small", &small_options);
    fails_with_figures(&small, SMALL_BYTES).await;

    let mut large = node(directory.path(), "large", &options);
    sees_nodes(&small, 2).await;
    // Uploaded and first tried wherever it happens; several, so that the small node meets some of them.
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(small.submit(pages::jpeg(2400, 1800), "photo").await);
    }
    let little = small.submit(pages::png(64, 48, 1), "photo").await;
    for id in &jobs {
        let job = small.wait_final(id).await;
        assert_eq!(job["state"], "succeeded", "{job}\n{}", small.log());
        assert_eq!((job["node"].as_str(), &job["attempt"]), (Some(name(&large).as_str()), &1.into()), "{job}");
        assert!(job["error"].is_null(), "{job}");
    }
    assert_eq!(small.wait_final(&little).await["state"], "succeeded", "small jobs pass those that wait");
    assert!(small.log().contains("handed over to a larger node"), "{}", small.log());

    large.kill();
    sees_nodes(&small, 1).await;
    fails_with_figures(&small, SMALL_BYTES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_too_large_for_a_node_is_done_by_a_larger_one() {
    goes_to_the_larger_node(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_where_nodes_share_a_bus() {
    let nats = Nats::start();
    goes_to_the_larger_node(Some(&nats)).await;
}
