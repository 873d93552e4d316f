//! The process runtime on real workers: start, deadline, cancel, crash, memory, protocol, orphans.
#![cfg(feature = "fault-points")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/worker.rs"]
mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, order, page, run, spec};
use inkpool::containers::process::{ProcessRuntime, ProcessSettings};
use inkpool::containers::session::{Session, Verdict, execute};
use inkpool::containers::{Lost, RuntimeError, SlotRuntime, Worker};
use inkpool::job::Crash;
use inkpool::pipeline::wire::{self, FromWorker};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

/// Pids of the workers that run below a directory.
fn workers(below: &std::path::Path) -> Vec<i32> {
    let below = below.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (line.contains("\0worker\0") && line.contains(&below)).then_some(pid)
    });
    processes.collect()
}

async fn act(place: &Place, fault: &str, deadline: Duration) -> (Session, Box<dyn Worker>) {
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, &page(Some(fault)), spec());
    let session = execute(worker.as_mut(), run, deadline, CancellationToken::new(), |_, _| {}).await;
    (session, worker)
}

async fn lost(fault: &str) -> Crash {
    let place = Place::new();
    let (session, _worker) = act(&place, fault, LONG).await;
    assert!(!session.reusable);
    assert!(workers(&place.slots).is_empty());
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    crash
}

#[tokio::test]
async fn it_says_who_it_is_and_ends_with_its_owner() {
    let place = Place::new();
    let (_slot, worker) = place.start(0).await;
    let hello = worker.hello().clone();
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    assert!(hello.isolation.no_new_privileges);
    assert_eq!(place.runtime.isolation(), Some(hello.isolation));
    assert_eq!(workers(&place.slots).len(), 1);
    drop(worker);
    eventually("a dropped worker ends", || workers(&place.slots).is_empty()).await;
}

#[tokio::test]
async fn workers_do_not_outlive_the_runtime() {
    let place = Place::new();
    let (_slot, mut worker) = place.start(0).await;
    drop(place.runtime);
    // The thread that started it is gone: the kernel sends the signal that the worker asked for.
    let lost = worker.receive().await.unwrap_err();
    assert!(matches!(&lost, Lost::Ended(exit) if exit.signal.as_deref() == Some("SIGKILL")), "{lost:?}");
    assert!(workers(&place.slots).is_empty());
}

#[tokio::test]
async fn a_crash_names_stage_and_signal() {
    let crash = lost("crash").await;
    assert_eq!((crash.code.as_str(), crash.stage.as_deref()), ("crashed", Some("decode")));
    assert_eq!(crash.signal.as_deref(), Some("SIGABRT"));
    assert!(crash.peak_bytes.is_some_and(|peak| peak > 1_000_000), "{crash:?}");
    assert_eq!(crash.limit, None);
}

#[tokio::test]
async fn an_exit_is_a_crash() {
    let crash = lost("exit").await;
    assert_eq!(crash.detail, "the worker exited with code 3 in stage decode");
}

#[tokio::test]
async fn broken_frames_are_a_crash() {
    let crash = lost("protocol").await;
    assert_eq!(crash.code, "protocol", "{crash:?}");
}

#[tokio::test]
async fn memory_is_bounded_and_the_limit_is_named() {
    let crash = lost("oom").await;
    assert_eq!(crash.code, "crashed");
    assert!(crash.detail.contains("ran out of memory"), "{crash:?}");
    assert!(crash.limit.as_deref().is_some_and(|limit| limit.ends_with("bytes of memory")), "{crash:?}");
    let peak = crash.peak_bytes.unwrap();
    assert!(peak > common::MEMORY_BYTES_MAX / 2 && peak < common::MEMORY_BYTES_MAX + (64 << 20), "{peak}");
}

#[tokio::test]
async fn a_hang_ends_at_the_deadline() {
    let place = Place::new();
    let before = Instant::now();
    let (session, _worker) = act(&place, "hang", Duration::from_millis(700)).await;
    assert!(before.elapsed() >= Duration::from_millis(700));
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    assert_eq!((crash.code.as_str(), crash.limit.as_deref()), ("deadline", Some("0.7 s")));
    assert_eq!(crash.signal.as_deref(), Some("SIGKILL"));
    assert!(!session.reusable);
    assert!(workers(&place.slots).is_empty());
}

#[tokio::test]
async fn a_cancel_ends_the_worker() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, &page(Some("hang")), spec());
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    // Cancelled by the first progress: the job certainly runs.
    let session = execute(worker.as_mut(), run, LONG, cancel, |_, _| stop.cancel()).await;
    assert!(matches!(session.verdict, Verdict::Cancelled), "{session:?}");
    assert!(!session.reusable);
    assert!(workers(&place.slots).is_empty());
}

#[tokio::test]
async fn a_flood_of_log_lines_blocks_nobody() {
    let place = Place::new();
    let (session, _worker) = act(&place, "flood", LONG).await;
    assert!(session.reusable, "{session:?}");
}

#[tokio::test]
async fn a_worker_killed_from_outside_is_lost() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, &page(Some("hang")), spec());
    let slots = place.slots.clone();
    let kill = move |_: &str, _: f32| {
        let pid = nix::unistd::Pid::from_raw(workers(&slots)[0]);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    let session = execute(worker.as_mut(), run, LONG, CancellationToken::new(), kill).await;
    let Verdict::Lost(crash) = session.verdict else { panic!("{session:?}") };
    assert_eq!((crash.code.as_str(), crash.signal.as_deref()), ("crashed", Some("SIGKILL")));
}

#[tokio::test]
async fn another_network_is_refused_at_start() {
    let place = Place::new();
    let mut settings = common::settings(&place.slots);
    settings.model_sha256 = "0".repeat(64);
    let runtime = ProcessRuntime::new(settings).unwrap();
    let slot = place.slot(0);
    let error = runtime.start(order(&slot, 0)).await.err().unwrap();
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("SHA-256")), "{error}");
    assert!(workers(&place.slots).is_empty());
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_given_up() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let slot = place.slot(0);
    // A program that never says hello, and has a child.
    let program = slot.path().join("silent");
    std::fs::write(&program, "#!/bin/sh\n/bin/sleep 60 & echo $! > child\nwait\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let settings = ProcessSettings { program, ..common::settings(&place.slots) };
    let runtime = ProcessRuntime::new(settings).unwrap();
    let mut order = order(&slot, 0);
    order.start_timeout = Duration::from_secs(1);
    let error = runtime.start(order).await.err().unwrap();
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("no hello")), "{error}");
    assert!(workers(&place.slots).is_empty());
    let child = std::fs::read_to_string(slot.path().join("child")).unwrap();
    // It may be a zombie for a moment: whoever adopted it reaps it.
    let running =
        |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    eventually("the whole group is killed", || !running(child.trim())).await;
}

/// A process of the test's own stands for a worker that survived: a real one cannot.
#[tokio::test]
async fn a_sweep_kills_what_is_recorded_and_nothing_else() {
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let (slot, worker) = place.start(0).await;
    let pid = workers(&place.slots)[0];
    let later = ProcessRuntime::new(common::settings(&place.slots)).unwrap();
    let mut sleeper = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    // A record with the number of the sleeper and the start time of another process.
    let record = std::fs::read_to_string(slot.path().join("worker.pid")).unwrap();
    let reused = place.slot(1);
    let forged = record.replacen(&pid.to_string(), &sleeper.id().to_string(), 1);
    std::fs::write(reused.path().join("worker.pid"), forged).unwrap();
    assert_eq!(later.sweep().await.unwrap(), 1);
    assert_eq!(later.sweep().await.unwrap(), 0);
    eventually("the recorded worker is killed", || workers(&place.slots).is_empty()).await;
    assert!(sleeper.try_wait().unwrap().is_none(), "a process that only has the same number was killed");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    drop(worker);
}

/// Waits until a condition holds; fails the test when it does not within ten seconds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within ten seconds");
}

/// The program as the runtime starts it, by hand.
fn by_hand(place: &Place) -> Command {
    let settings = common::settings(&place.slots);
    let slot = place.slot(0);
    let mut command = Command::new(settings.program);
    command.arg("worker").arg("--slot-dir").arg(slot.path()).arg("--model").arg(settings.model);
    command.arg("--model-sha256").arg(settings.model_sha256).arg("--onnxruntime").arg(settings.onnxruntime);
    command.args(["--memory-bytes-max", "1073741824", "--open-files-max", "256", "--file-bytes-max", "1000000"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_worker_ends_when_its_input_closes() {
    let place = Place::new();
    let mut child = by_hand(&place).env("ORT_DISABLE_TELEMETRY", "1").spawn().unwrap();
    let hello: Option<FromWorker> = wire::read_frame(child.stdout.as_mut().unwrap()).unwrap();
    assert!(matches!(hello, Some(FromWorker::Hello(_))), "{hello:?}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_worker_whose_parent_is_gone_does_not_start() {
    let place = Place::new();
    // Its input is closed from the beginning.
    let output = by_hand(&place).env("ORT_DISABLE_TELEMETRY", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the parent is gone"));
}
