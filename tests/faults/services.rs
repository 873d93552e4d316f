//! Faults of PostgreSQL, NATS and S3, and of the cables between one node and each.

use super::cluster::SLOTS;
use super::run::Run;
use super::s3_server::Mode;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_postgres() {
    let Some(mut run) = Run::begin("kill_postgres").await else { return };
    run.until_busy(0).await;
    run.cluster.postgres.kill();
    run.hold(10, 2).await;
    run.cluster.postgres.start_again().await;
    run.mark();
    run.hold(30, 5).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn kill_nats() {
    let Some(mut run) = Run::begin("kill_nats").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nats.kill();
    run.hold(30, 5).await;
    run.cluster.nats.run();
    run.hold(20, 3).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wipe_nats() {
    let Some(mut run) = Run::begin("wipe_nats").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nats.kill();
    run.cluster.nats.wipe();
    run.cluster.nats.run();
    run.hold(30, 5).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn roll_back_nats() {
    let Some(mut run) = Run::begin("roll_back_nats").await else { return };
    run.until_busy(0).await;
    run.cluster.nats.keep_copy();
    run.hold(60, 5).await;
    run.until_busy(0).await;
    run.mark();
    run.cluster.nats.kill();
    run.cluster.nats.roll_back();
    run.cluster.nats.run();
    run.hold(30, 5).await;
    run.end(0).await;
}

async fn store(name: &'static str, mode: Mode) {
    let Some(mut run) = Run::begin(name).await else { return };
    run.until_busy(0).await;
    run.cluster.s3.set(mode);
    run.hold(60, 5).await;
    run.cluster.s3.set(Mode::Well);
    run.mark();
    run.hold(20, 3).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn s3_unavailable() {
    store("s3_unavailable", Mode::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn s3_hangs() {
    store("s3_hangs", Mode::Hanging).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn cut_from_postgres() {
    let Some(mut run) = Run::begin("cut_from_postgres").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nodes[0].postgres.cut(true);
    run.hold(60, 10).await;
    run.cluster.nodes[0].postgres.cut(false);
    run.hold(20, 3).await;
    // Its lease ran out: what it worked on was started elsewhere.
    run.end(SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn cut_from_nats() {
    let Some(mut run) = Run::begin("cut_from_nats").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nodes[0].nats.cut(true);
    run.hold(60, 5).await;
    run.cluster.nodes[0].nats.cut(false);
    run.hold(20, 3).await;
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: scripts/faults"]
async fn cut_from_s3() {
    let Some(mut run) = Run::begin("cut_from_s3").await else { return };
    run.until_busy(0).await;
    run.mark();
    run.cluster.nodes[0].s3.cut(true);
    run.hold(60, 5).await;
    run.cluster.nodes[0].s3.cut(false);
    run.hold(20, 3).await;
    run.end(0).await;
}
