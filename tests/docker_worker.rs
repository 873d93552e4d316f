//! What a worker in a container can still do: a worker with fault points tries, for real, and tells.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test may say what it found")]

#[path = "common/worker.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::{FILE_BYTES_MAX, order, page, run, spec};
use inkpool::containers::collect::{OutputLimits, collect};
use inkpool::containers::docker::{self, DockerRuntime, DockerSettings};
use inkpool::containers::session::{Session, Verdict, execute};
use inkpool::containers::slot_dir::SlotDir;
use inkpool::containers::{RuntimeError, SlotRuntime};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

/// What the container allows where the kernel or the engine's own filter gives it no Landlock: its image can be read, and
/// its own `/tmp` written. Both hold nothing.
const HARMLESS: [&str; 3] = ["open /etc/passwd", "list /", "write into /tmp"];

#[expect(clippy::disallowed_methods, reason = "where the image is comes from whoever starts the tests")]
fn image() -> String {
    std::env::var("INKPOOL_TEST_IMAGE")
        .expect("INKPOOL_TEST_IMAGE names no image: build one with scripts/test-image TAG")
}

fn settings(slots: &Path) -> DockerSettings {
    DockerSettings {
        host: "unix:///var/run/docker.sock".to_owned(),
        image: image(),
        cluster: format!("test-{}", uuid::Uuid::new_v4().simple()),
        node: "probed".to_owned(),
        runtime: String::new(),
        slots: slots.to_owned(),
        user: docker::user(),
        cpus: 1.0,
        pids_max: 64,
        tmpfs_bytes_max: 1 << 20,
        parallel_max: 2,
        call_timeout: Duration::from_secs(20),
        list_every: Duration::from_secs(1),
        model_sha256: common::settings(slots).model_sha256,
        network: false,
    }
}

/// Has a fresh container act; what came of it, and its slot directory.
async fn act(fault: &str) -> (Session, SlotDir, tempfile::TempDir) {
    let base = tempfile::tempdir().unwrap();
    let runtime = DockerRuntime::connect(settings(base.path())).await.unwrap();
    let slot = SlotDir::new(base.path(), 0).for_other_user(runtime.is_other_user());
    slot.prepare().unwrap();
    let mut worker = runtime.start(order(&slot, 0)).await.unwrap();
    println!("layers: {:?}", worker.hello().isolation);
    let run = run(&slot, &page(Some(fault)), spec());
    slot.show_input("input").unwrap();
    let session = execute(worker.as_mut(), run, LONG, CancellationToken::new(), |_, _| {}).await;
    worker.kill().await;
    drop(worker);
    assert_eq!(runtime.sweep().await.unwrap(), 0, "its container is gone");
    (session, slot, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_do_nothing_but_its_job() {
    let (session, slot, _base) = act("probe").await;
    let Verdict::Fault { detail, .. } = session.verdict else { panic!("{session:?}") };
    let told = std::fs::read_to_string(slot.path().join("out/probe.json")).unwrap_or(detail);
    let told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    for (what, answer) in &told {
        println!("{what}: {answer}");
    }
    let done = told.iter().filter(|(_, answer)| !answer.starts_with("denied")).map(|(what, _)| what.as_str());
    let done: Vec<&str> = done.filter(|what| !HARMLESS.contains(what)).collect();
    assert!(done.is_empty(), "not denied: {done:?}");
    assert!(told.len() >= 26, "{} were tried", told.len());
    assert!(slot.input("input").exists(), "the worker removed its input");
    assert!(!slot.path().join("written").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_ends_itself_alone() {
    let (session, ..) = act("oom").await;
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    assert!(crash.detail.contains("ran out of memory"), "{crash:?}");
    assert!(crash.limit.is_some_and(|limit| limit.ends_with("bytes of memory")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_above_the_limit_ends_the_worker() {
    let (session, ..) = act("huge-file").await;
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    assert_eq!(crash.signal.as_deref(), Some("SIGXFSZ"), "{crash:?}");
}

/// What a guest without its inner layers could leave, made with the container's own user and mounts.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_its_own_is_refused() {
    let make = [
        ("symbolic link", "ln -s /etc/passwd /slot/out/clean.png"),
        ("FIFO", "mkfifo /slot/out/clean.png"),
        ("hard link", "echo x > /slot/out/other && ln /slot/out/other /slot/out/clean.png && rm -f /slot/out/none"),
        ("folder", "mkdir /slot/out/clean.png"),
    ];
    for (what, line) in make {
        let base = tempfile::tempdir().unwrap();
        let slot = SlotDir::new(base.path(), 0).for_other_user(docker::user().0 != 0);
        slot.prepare().unwrap();
        let (user, group) = docker::user();
        let mount = format!("type=bind,source={},target=/slot/out", slot.path().join("out").display());
        let made = std::process::Command::new("docker")
            .args(["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--entrypoint", "sh"])
            .args(["--user", &format!("{user}:{group}"), "--mount", &mount, &image(), "-c", line])
            .output()
            .unwrap();
        assert!(made.status.success(), "{what}: {made:?}");
        let done = serde_json::json!({
            "width_px": 64, "height_px": 48, "pages_count": 1, "timings_ms": [], "peak_bytes": 1,
            "files": [
                {"name": "clean.png", "content_type": "image/png", "size_bytes": 2, "sha256": "0".repeat(64),
                 "width_px": 64, "height_px": 48},
                {"name": "manifest.json", "content_type": "application/json", "size_bytes": 2,
                 "sha256": "0".repeat(64), "width_px": 0, "height_px": 0},
            ],
        });
        std::fs::write(slot.path().join("out/manifest.json"), "{}").unwrap();
        let limits = OutputLimits { file_bytes_max: FILE_BYTES_MAX, total_bytes_max: FILE_BYTES_MAX };
        let done = serde_json::from_value(done).unwrap();
        let refused = collect(slot.path(), &spec(), &done, &common::limits(), limits).unwrap_err();
        println!("{what}: {}", refused.detail);
        assert_eq!(refused.code, "untrusted_output");
        slot.clear().unwrap();
    }
    // A device needs a capability that the container does not have.
    let made = std::process::Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--cap-drop", "ALL", "--user", "65532", "--entrypoint", "mknod"])
        .args([&image(), "/tmp/device", "c", "1", "3"])
        .output()
        .unwrap();
    assert!(!made.status.success(), "a device was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_said_so() {
    let base = tempfile::tempdir().unwrap();
    let host = format!("unix://{}", base.path().join("no.sock").display());
    let error = DockerRuntime::connect(DockerSettings { host, ..settings(base.path()) }).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("no.sock")), "{error}");
}
