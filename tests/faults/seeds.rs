//! Bugs of the real program, switched on by its fault points: the checker must find each of them from outside, and nothing else.

use std::collections::BTreeSet;

use super::checker::{Allowed, Finding, check};
use super::run::Run;

/// A short run with the bug in all nodes; what is found.
async fn run_with(bug: &'static str, fault: impl AsyncFnOnce(&mut Run)) -> Option<BTreeSet<Finding>> {
    let shape = |_, options: super::common::server::Options| {
        options.set("INKPOOL_FAULT", format!("wrong:{bug}")).set("INKPOOL_SLOTS__DRAIN_S", 0)
    };
    let mut run = Run::begin_with(bug, shape, |_| {}).await?;
    fault(&mut run).await;
    let evidence = run.settle().await;
    Some(check(&evidence, Allowed::default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_upload_is_found() {
    let Some(found) = run_with("forget-accepted", async |_| {}).await else { return };
    assert!(found.iter().any(|finding| matches!(finding, Finding::Lost(_))), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_hash_is_found() {
    let Some(found) = run_with("other-hash", async |_| {}).await else { return };
    assert!(!found.is_empty() && found.iter().all(|finding| matches!(finding, Finding::Bytes(_))), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attempt_that_a_drain_spends_is_found() {
    let drain = async |run: &mut Run| {
        run.until_busy(0).await;
        run.cluster.nodes[0].stop().await;
        run.cluster.nodes[0].start();
    };
    let Some(found) = run_with("spend-hand-back", drain).await else { return };
    assert!(!found.is_empty() && found.iter().all(|finding| matches!(finding, Finding::Spent(_))), "{found:#?}");
}
