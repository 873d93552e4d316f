//! Several real servers on one PostgreSQL and one object store: a killed node's jobs run elsewhere, a node that cannot renew
//! its lease stops, and each sees and changes the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;

use common::pages;
use common::postgres::Postgres;
use common::server::{Options, Server, data_directory, until};
use serde_json::{Value, json};

/// Leases of a few seconds, so that a test need not wait for those of the defaults.
fn options(database: &Postgres) -> Options {
    Options::default()
        .slots(1)
        .set("INKPOOL_STORE__URL", database.url())
        .set("INKPOOL_NODES__LEASE_S", 4)
        .set("INKPOOL_NODES__FENCE_S", 3)
        .set("INKPOOL_NODES__RENEW_EVERY_S", 1)
        .set("INKPOOL_NODES__RESCUE_EVERY_S", 1)
}

/// A node whose objects are those of all.
fn node(directory: &Path, name: &str, options: &Options) -> Server {
    let data = directory.join(name);
    let objects = directory.join("objects");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    if !data.join("objects").exists() {
        symlink(&objects, data.join("objects")).unwrap();
    }
    Server::start(&data, options)
}

async fn nodes(server: &Server) -> Vec<Value> {
    server.get("/api/v1/cluster").await["nodes"].as_array().unwrap().clone()
}

async fn sees_nodes(server: &Server, count: usize) {
    let mut seen = nodes(server).await;
    while seen.len() != count {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        seen = nodes(server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_killed_node_run_elsewhere() {
    let database = Postgres::start().await;
    let directory = data_directory();
    // This one dies with an attempt begun, and with further jobs on its own bus.
    let dying = options(&database).set("INKPOOL_FAULT", "staged");
    let mut first = node(directory.path(), "first", &dying);
    let mut jobs = Vec::new();
    for seed in 0..4 {
        let Ok((202, body)) = first.upload(pages::png(64, 48, seed), "photo").await else { break };
        jobs.push(body["items"][0]["job"]["id"].as_str().unwrap().to_owned());
    }
    first.wait();
    assert!(!jobs.is_empty());
    let second = node(directory.path(), "second", &options(&database));
    for id in &jobs {
        let job = second.wait_final(id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert!(job["attempt"].as_u64().unwrap() <= 2, "{job}");
    }
    assert_eq!(nodes(&second).await.len(), 1, "the dead node is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_renew_stops_and_comes_back() {
    let mut database = Postgres::start().await;
    let directory = data_directory();
    let server = node(directory.path(), "first", &options(&database));
    let fenced = |log: &str| log.contains("could not renew its lease: its jobs are stopped");
    assert!(!fenced(&server.log()));
    database.kill();
    until("the node stops its jobs", || fenced(&server.log())).await;
    database.start_again().await;
    until("the node goes on", || server.log().contains("the lease of this node is renewed")).await;
    // The lease has a connection of its own: the others may find out only now that theirs are gone, and say so.
    let id = loop {
        match server.upload(pages::png(64, 48, 1), "photo").await.unwrap() {
            (202, body) => break body["items"][0]["job"]["id"].as_str().unwrap().to_owned(),
            (503, _) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_see_and_change_each_other() {
    let database = Postgres::start().await;
    let directory = data_directory();
    let first = node(directory.path(), "first", &options(&database));
    let mut second = node(directory.path(), "second", &options(&database));
    sees_nodes(&first, 2).await;
    sees_nodes(&second, 2).await;
    let name = std::fs::read_to_string(directory.path().join("second/node")).unwrap();
    let url = first.url(&format!("/api/v1/cluster/nodes/{name}"));
    let changed = first.client().patch(url).json(&json!({"slots_count": 3})).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    loop {
        let seen = nodes(&first).await;
        let other = seen.iter().find(|node| node["id"] == name.as_str()).unwrap();
        if other["slots"].as_array().unwrap().len() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let unknown = first.url("/api/v1/cluster/nodes/node-nowhere");
    let refused = first.client().patch(unknown).json(&json!({"slots_count": 3})).send().await.unwrap();
    assert_eq!(refused.status(), 404);
    // A job of one is seen by the other.
    let id = second.submit(pages::png(64, 48, 1), "photo").await;
    assert_eq!(first.wait_final(&id).await["state"], "succeeded");
    assert_eq!(second.terminate(), Some(0), "{}", second.log());
    assert_eq!(nodes(&first).await.len(), 1, "a node that ends in order is gone at once");
}
