//! What a worker that is locked in can still do: a worker with fault points tries, for real, and tells.
#![cfg(feature = "fault-points")]

#[path = "common/worker.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Place, page, run, spec};
use inkpool::containers::session::{Verdict, execute};
use tokio_util::sync::CancellationToken;

/// Tried by the probe; a list here too, so that an attempt that is dropped from the probe is missed.
const TRIED: [&str; 26] = [
    "open /etc/passwd",
    "open /proc/self/environ",
    "list /",
    "list the other slots",
    "open a file of the other slot",
    "write into in/",
    "write beside in/",
    "write into /tmp",
    "remove the input's directory",
    "symbolic link in out/",
    "hard link in out/",
    "FIFO in out/",
    "change a mode",
    "TCP connect",
    "UDP socket",
    "Unix socket",
    "listen",
    "socket pair",
    "start a program",
    "start a thread",
    "signal the parent",
    "trace the parent",
    "become another user",
    "new namespace",
    "raise its own limit",
    "open 10,000 files",
];

#[tokio::test]
async fn a_worker_can_do_nothing_but_its_job() {
    let place = Place::new();
    let other = place.slot(1);
    std::fs::write(other.input("secret"), b"another owner's page").unwrap();
    let (slot, mut worker) = place.start(0).await;
    let isolation = worker.hello().isolation.clone();
    let run = run(&slot, &page(Some("probe")), spec());
    let session = execute(worker.as_mut(), run, Duration::from_secs(60), CancellationToken::new(), |_, _| {}).await;
    let Verdict::Fault { detail, .. } = session.verdict else { panic!("{session:?}") };
    println!("layers: {isolation:#?}");
    let told = std::fs::read_to_string(slot.path().join("out/probe.json")).unwrap_or(detail);
    let told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    for (what, answer) in &told {
        println!("{what}: {answer}");
    }
    let done: Vec<&String> =
        told.iter().filter(|(_, answer)| !answer.starts_with("denied")).map(|(what, _)| what).collect();
    assert!(done.is_empty(), "not denied: {done:?}");
    for what in TRIED {
        assert!(told.contains_key(what), "not tried: {what}");
    }
    assert_eq!(told.len(), TRIED.len());
    // Every kernel that runs these tests has these; the others depend on the user who runs them.
    assert!(isolation.no_new_privileges && isolation.seccomp && isolation.landlock_abi >= 1, "{isolation:?}");
    assert!(!std::path::Path::new("/tmp/inkpool-probe").exists());
    assert!(slot.input("input").exists(), "the worker removed its input");
    assert!(!slot.path().join("written").exists());
}

#[tokio::test]
async fn a_file_above_the_limit_ends_the_worker() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, &page(Some("huge-file")), spec());
    let session = execute(worker.as_mut(), run, Duration::from_secs(60), CancellationToken::new(), |_, _| {}).await;
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    assert_eq!(crash.signal.as_deref(), Some("SIGXFSZ"), "{crash:?}");
    assert_eq!(crash.limit.as_deref(), Some("length of a file"));
}
