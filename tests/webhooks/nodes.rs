//! Several nodes on one PostgreSQL: each message is brought by one of them, and by another when that one dies.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::common::pages;
use crate::common::postgres::Postgres;
use crate::common::server::{Options, Server, data_directory};
use crate::receiver::*;

fn node(directory: &Path, name: &str, options: &Options) -> Server {
    let (data, objects) = (directory.join(name), directory.join("objects"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    symlink(&objects, data.join("objects")).unwrap();
    Server::start(&data, options)
}

fn counts(got: &[Got]) -> BTreeMap<String, usize> {
    got.iter().fold(BTreeMap::new(), |mut counts, got| {
        *counts.entry(got.id().to_owned()).or_default() += 1;
        counts
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_brought_by_one_node() {
    let (database, receiver, directory) = (Postgres::start().await, Receiver::start().await, data_directory());
    let options = options().set("INKPOOL_STORE__URL", database.url());
    let nodes = ["a", "b", "c"].map(|name| node(directory.path(), name, &options));
    create(&nodes[0], &receiver.url(), &["accepted", "queued", "running", "succeeded"]).await;
    let mut jobs = Vec::new();
    for (seed, node) in (0..12).zip(nodes.iter().cycle()) {
        jobs.push(node.submit(pages::png(64, 64, seed), "photo").await);
    }
    for job in &jobs {
        nodes[0].wait_final(job).await;
    }
    receiver.until("four of each", |got| counts(got).len() == 48).await;
    // Whatever would come twice would come within the lease.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(counts(&receiver.got()).values().all(|count| *count == 1), "{:?}", counts(&receiver.got()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_was_bringing_is_brought_by_another() {
    let (database, receiver, directory) = (Postgres::start().await, Receiver::start().await, data_directory());
    let options = options().set("INKPOOL_STORE__URL", database.url());
    let mut first = node(directory.path(), "first", &options.clone().set("INKPOOL_FAULT", "webhook-claimed"));
    let (id, _) = create(&first, &receiver.url(), &["failed"]).await;
    // The answer may be lost with the node.
    let _ = first.client().post(first.url(&format!("/api/v1/webhooks/{id}/ping"))).send().await;
    first.wait();
    assert_eq!(receiver.got().len(), 0);
    let second = node(directory.path(), "second", &options);
    receiver.until("the ping", |got| got.len() == 1).await;
    let line = until_logged(&second, &id, |line| line["state"] == "delivered").await;
    assert_eq!(line["attempt"], 2, "{line}");
}
