//! Two nodes on one PostgreSQL and one NATS: one publishes, the other takes over; what is released is for the slots of both.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::nats::Nats;
use crate::common::pages;
use crate::common::postgres::Postgres;
use crate::common::server::{Options, PATIENCE, Server, data_directory};
use crate::outside::{kinds, until_told};

fn options(database: &Postgres, nats: &Nats) -> Options {
    crate::events::options(nats)
        .slots(1)
        .set("INKPOOL_STORE__URL", database.url())
        .set("INKPOOL_NODES__LEASE_S", 4)
        .set("INKPOOL_NODES__FENCE_S", 3)
        .set("INKPOOL_NODES__RENEW_EVERY_S", 1)
        .set("INKPOOL_NODES__RESCUE_EVERY_S", 1)
        .set("INKPOOL_PRODUCERS__PUBLISHER_LEASE_S", 2)
}

/// A node whose objects are those of all.
fn node(directory: &Path, name: &str, options: &Options) -> Server {
    let (data, objects) = (directory.join(name), directory.join("objects"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    symlink(&objects, data.join("objects")).unwrap();
    Server::start(&data, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_publishing() {
    let (database, nats) = (Postgres::start().await, Nats::start());
    let directory = data_directory();
    let mut first = node(directory.path(), "first", &options(&database, &nats));
    let second = node(directory.path(), "second", &options(&database, &nats));
    let mut ids = Vec::new();
    for seed in 0..3 {
        ids.push(first.submit(pages::png(64, 64, seed), "photo").await);
        ids.push(second.submit(pages::png(64, 64, seed + 10), "photo").await);
    }
    for id in &ids {
        first.wait_final(id).await;
    }
    first.kill();
    let last = second.submit(pages::png(64, 64, 99), "photo").await;
    second.wait_final(&last).await;
    ids.push(last);
    let is_told = |told: &[_]| ids.iter().all(|id| kinds(told, id).contains(&"succeeded".to_owned()));
    let all = until_told(&nats, "all ends", is_told).await;
    for id in &ids {
        assert_eq!(kinds(&all, id), ["accepted", "queued", "running", "succeeded"], "each once, in order");
    }
    let publishers = [first.log(), second.log()].map(|log| log.matches("this node publishes events").count());
    assert_eq!(publishers, [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_much_is_released_as_the_slots_of_all_nodes_take() {
    let (database, nats) = (Postgres::start().await, Nats::start());
    let directory = data_directory();
    let first = node(directory.path(), "first", &options(&database, &nats));
    let _second = node(directory.path(), "second", &options(&database, &nats));
    for seed in 0..8 {
        first.submit(pages::png_with_text("inkpool-fault", "hang", seed), "document").await;
    }
    let waits = async {
        loop {
            let queues = first.get("/api/v1/cluster").await["queues"].clone();
            let sum = |name: &str| queues.as_array().unwrap().iter().map(|queue| queue[name].as_u64().unwrap()).sum();
            let (running, released): (u64, u64) = (sum("running"), sum("released"));
            if running == 2 && released >= 2 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("two are never released beside the two that run");
}
