//! What is left over when all is quiet: each leak as a line of text.

use std::collections::BTreeSet;
use std::path::Path;

use async_nats::jetstream;

use super::cluster::{Cluster, NODES, Node, SLOTS};
use super::common::server::{files_below, workers_of};

/// Connections of a node's ledger: readers, the one that listens, writers, the one that renews the lease.
const POSTGRES_MAX: i64 = 8;
const NATS_MAX: usize = 1;
/// The client closes them when they were idle for a while; one may be probing.
const S3_MAX: usize = 2;

pub async fn look(cluster: &Cluster) -> Vec<String> {
    let mut leaks = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        processes(number, node, &mut leaks);
        directories(number, &node.data, &mut leaks);
        for (open, max, what) in [(node.nats.open(), NATS_MAX, "NATS"), (node.s3.open(), S3_MAX, "S3")] {
            if open > max {
                leaks.push(format!("node {number} holds {open} connections to {what}"));
            }
        }
    }
    rows(cluster, &mut leaks).await;
    match on_bus(cluster).await {
        Some(0) => {}
        messages => leaks.push(format!("messages on the bus: {messages:?}")),
    }
    leaks
}

/// Each worker is a child of the node that lives, and there is at most one for a slot.
fn processes(number: usize, node: &Node, leaks: &mut Vec<String>) {
    let workers = workers_of(&node.data);
    let server = node.server.as_ref().map(super::common::server::Server::pid);
    let strangers = workers.iter().filter(|worker| parent(**worker) != server).count();
    if strangers > 0 || workers.len() > SLOTS as usize {
        leaks.push(format!("node {number} has {} workers, {strangers} of them without it", workers.len()));
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// One directory for each slot of the present name, empty.
fn directories(number: usize, data: &Path, leaks: &mut Vec<String>) {
    let listed = |path: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let slots = data.join("slots");
    let nodes = listed(&slots);
    if nodes.len() > 1 {
        leaks.push(format!("node {number} has directories {nodes:?}"));
    }
    for name in &nodes {
        let node = slots.join(name);
        let wrong: Vec<_> =
            listed(&node).into_iter().filter(|slot| slot.parse::<u32>().map_or(true, |slot| slot >= SLOTS)).collect();
        let files: Vec<_> =
            files_below(&node).into_iter().filter(|file| file.contains("/in/") || file.contains("/out/")).collect();
        if !wrong.is_empty() || !files.is_empty() {
            leaks.push(format!("node {number} has slot directories {wrong:?}, files {files:?}"));
        }
    }
}

async fn rows(cluster: &Cluster, leaks: &mut Vec<String>) {
    let mut database = cluster.postgres.connect().await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inkpool'";
    let most = POSTGRES_MAX * i64::try_from(NODES).unwrap();
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inkpool' AND state LIKE 'idle in%'";
    for (what, query, max) in [
        ("connections to PostgreSQL", connections, most),
        ("open transactions", idle, 0),
        ("rows in the outbox", "SELECT count(*) FROM outbox", 0),
    ] {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut database).await.unwrap();
        if count > max {
            leaks.push(format!("{count} {what}"));
        }
    }
}

/// Messages of the stream of jobs.
async fn on_bus(cluster: &Cluster) -> Option<u64> {
    let client = async_nats::connect(cluster.nats.url()).await.ok()?;
    let stream = jetstream::new(client).get_stream("INKPOOL_JOBS").await.ok()?;
    Some(stream.cached_info().state.messages)
}
