//! Faults of nodes and of their workers.

use super::cluster::{Cluster, SLOTS};
use super::common::server::{Options, signal, workers_of};
use super::disk::Disk;
use super::run::Run;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_node() {
    let Some(mut run) = Run::begin("kill_node").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nodes[0].kill();
    // Longer than others take to notice.
    run.hold(45, 8).await;
    run.cluster.nodes[0].start();
    run.hold(15, 3).await;
    run.end(SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn stop_node() {
    let Some(mut run) = Run::begin("stop_node").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nodes[0].server().signal("STOP");
    run.hold(60, 8).await;
    run.cluster.nodes[0].server().signal("CONT");
    run.hold(15, 3).await;
    run.end(SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_worker() {
    let Some(mut run) = Run::begin("kill_worker").await else { return };
    run.until_busy(0).await;
    run.mark();
    for worker in workers_of(&run.cluster.nodes[0].data) {
        signal(worker, "KILL");
    }
    run.hold(15, 5).await;
    run.end(SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn rolling_restart() {
    let Some(mut run) = Run::begin("rolling_restart").await else { return };
    run.mark();
    for node in 0..run.cluster.nodes.len() {
        run.until_busy(node).await;
        run.cluster.nodes[node].stop().await;
        run.cluster.nodes[node].start();
        run.hold(10, 3).await;
    }
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn wrong_clock() {
    // Debian's libfaketime. The steady clock stays: it does not follow the time of day on real machines either.
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(std::path::Path::new(library).exists(), "libfaketime is not installed");
    let clock = tempfile::NamedTempFile::new().unwrap();
    let goes = |by: &str| std::fs::write(clock.path(), by).unwrap();
    goes("+0");
    let shape = |number, options: Options| match number {
        0 => options
            .set("LD_PRELOAD", library)
            .set("FAKETIME_TIMESTAMP_FILE", clock.path().display())
            .set("FAKETIME_CACHE_DURATION", 1)
            .set("FAKETIME_DONT_FAKE_MONOTONIC", 1),
        _ => options,
    };
    let Some(mut run) = Run::begin_with("wrong_clock", shape, |_| {}).await else { return };
    run.until_busy(0).await;
    run.mark();
    goes("+3600");
    // The bucket refuses what this node signs: it must leave the work to others.
    run.hold(60, 8).await;
    goes("+0");
    run.hold(20, 3).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn full_disk() {
    let mut disk = None;
    let prepare = |cluster: &mut Cluster| disk = Some(Disk::mount(&cluster.nodes[0].data.join("slots")));
    // The disk of the test is smaller than what the default keeps free.
    let shape = |_, options: Options| options.set("INKPOOL_SLOTS__FREE_BYTES_MIN", 1 << 20);
    let Some(mut run) = Run::begin_with("full_disk", shape, prepare).await else { return };
    let disk = disk.unwrap();
    run.until_busy(0).await;
    run.mark();
    disk.fill();
    run.hold(60, 8).await;
    disk.free();
    run.hold(15, 3).await;
    run.end(0).await;
}
