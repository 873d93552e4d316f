//! What comes back from a worker: real jobs on real workers, and outputs that lie.
#![cfg(feature = "fault-points")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/worker.rs"]
mod common;

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use common::{FILE_BYTES_MAX, Place, limits, page, run, spec};
use inkpool::containers::collect::{Collected, OutputLimits, collect};
use inkpool::containers::session::{Session, Verdict, execute};
use inkpool::containers::slot_dir::SlotDir;
use inkpool::job::{Crash, RefusalCode};
use inkpool::pipeline::spec::{Denoise, Spec};
use inkpool::pipeline::wire::Done;
use tokio_util::sync::CancellationToken;

const OUTPUTS: OutputLimits = OutputLimits { file_bytes_max: FILE_BYTES_MAX, total_bytes_max: 2 * FILE_BYTES_MAX };

async fn work(place: &Place, bytes: &[u8], spec: Spec) -> (SlotDir, Session) {
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, bytes, spec);
    let session = execute(worker.as_mut(), run, Duration::from_secs(60), CancellationToken::new(), |_, _| {}).await;
    (slot, session)
}

fn done(session: Session) -> Done {
    let Verdict::Done(done) = session.verdict else { panic!("{session:?}") };
    *done
}

fn checked(slot: &SlotDir, done: &Done) -> Result<Vec<Collected>, Box<Crash>> {
    collect(slot.path(), &spec(), done, &limits(), OUTPUTS)
}

fn why(slot: &SlotDir, done: &Done) -> String {
    let crash = checked(slot, done).unwrap_err();
    assert_eq!(crash.code, "untrusted_output");
    crash.detail
}

#[tokio::test]
async fn a_page_is_cleaned_by_the_network_behind_the_sandbox() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    let spec = Spec { denoise: Denoise::Gray, ..spec() };
    let mut stages = Vec::new();
    let run = run(&slot, &page(None), spec.clone());
    let session =
        execute(worker.as_mut(), run, Duration::from_secs(60), CancellationToken::new(), |stage, fraction| {
            stages.push((stage.to_owned(), fraction));
        })
        .await;
    assert!(session.reusable);
    let done = done(session);
    assert_eq!((done.width_px, done.height_px, done.pages_count), (64, 48, 1));
    assert!(done.peak_bytes > 1_000_000);
    assert!(stages.iter().any(|(stage, _)| stage == "denoise"), "{stages:?}");
    assert!(stages.iter().all(|(_, fraction)| (0.0..=1.0).contains(fraction)));
    let collected = collect(slot.path(), &spec, &done, &limits(), OUTPUTS).unwrap();
    assert_eq!(collected.len(), 2);
    for mut output in collected {
        let mut bytes = Vec::new();
        output.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, output.facts.size_bytes, "the file stands at its first byte");
    }
}

#[tokio::test]
async fn a_worker_takes_one_job_after_another() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    for _ in 0..3 {
        let run = run(&slot, &page(None), spec());
        let deadline = Duration::from_secs(60);
        let done = done(execute(worker.as_mut(), run, deadline, CancellationToken::new(), |_, _| {}).await);
        assert_eq!(checked(&slot, &done).unwrap().len(), 2);
        slot.clear().unwrap();
        let broken = b"\x89PNG\r\n\x1a\nand nothing more";
        let run = common::run(&slot, broken, spec());
        let session = execute(worker.as_mut(), run, deadline, CancellationToken::new(), |_, _| {}).await;
        let Verdict::Refused { refusal, .. } = session.verdict else { panic!("{session:?}") };
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(session.reusable);
        slot.clear().unwrap();
    }
}

#[tokio::test]
async fn a_plan_above_the_memory_of_the_worker_is_refused_with_figures() {
    let place = Place::new();
    let (slot, mut worker) = place.start(0).await;
    let mut run = run(&slot, &page(None), spec());
    run.limits.memory_bytes_max = 4096;
    let session = execute(worker.as_mut(), run, Duration::from_secs(60), CancellationToken::new(), |_, _| {}).await;
    let Verdict::Refused { refusal, .. } = session.verdict else { panic!("{session:?}") };
    assert_eq!(refusal.code, RefusalCode::NeedsTooMuchMemory);
    assert!(refusal.limit.is_some() && refusal.measured.is_some() && refusal.remedy.is_some(), "{refusal:?}");
}

#[tokio::test]
async fn lies_of_the_worker_are_found() {
    for (lie, expected) in [
        ("lie-length", "bytes, announced"),
        ("lie-hash", "another hash"),
        ("lie-size", "px, announced"),
        ("unannounced", "was not asked for"),
    ] {
        let place = Place::new();
        let (slot, session) = work(&place, &page(Some(lie)), spec()).await;
        let detail = why(&slot, &done(session));
        assert!(detail.contains(expected), "{lie}: {detail}");
    }
}

/// What no locked-in worker can do, but one that broke out of a layer could.
#[tokio::test]
async fn files_that_are_none_are_refused() {
    let place = Place::new();
    let (slot, session) = work(&place, &page(None), spec()).await;
    let done = done(session);
    let clean = slot.path().join("out/clean.png");
    let bytes = std::fs::read(&clean).unwrap();
    let outside = slot.path().join("outside.png");
    let swap = |make: &dyn Fn(&Path)| {
        std::fs::remove_file(&clean).unwrap();
        make(&clean);
        why(&slot, &done)
    };
    std::fs::write(&outside, &bytes).unwrap();
    // Same bytes, so that nothing but the kind of the file tells.
    let linked = swap(&|path| symlink(&outside, path).unwrap());
    assert!(linked.contains("was not asked for"), "{linked}");
    let hard = swap(&|path| std::fs::hard_link(&outside, path).unwrap());
    assert!(hard.contains("not a regular file of its own"), "{hard}");
    let fifo = swap(&|path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    });
    assert!(fifo.contains("was not asked for"), "{fifo}");
    let folder = {
        std::fs::remove_file(&clean).unwrap();
        std::fs::create_dir(&clean).unwrap();
        why(&slot, &done)
    };
    assert!(folder.contains("was not asked for"), "{folder}");
    std::fs::remove_dir(&clean).unwrap();
    let missing = why(&slot, &done);
    assert!(missing.contains("No such file"), "{missing}");
    std::fs::write(&clean, &bytes).unwrap();
    assert_eq!(checked(&slot, &done).unwrap().len(), 2);
}

#[tokio::test]
async fn announcements_are_held_to_what_was_asked() {
    let place = Place::new();
    let (slot, session) = work(&place, &page(None), spec()).await;
    let honest = done(session);
    let lie = |change: &dyn Fn(&mut Done)| {
        let mut done = honest.clone();
        change(&mut done);
        why(&slot, &done)
    };
    let index = honest.files.iter().position(|file| file.name == "clean.png").unwrap();
    let other = "other files than were asked for";
    for name in ["../clean.png", "/etc/passwd", "clean.png\0", "p0001/clean.png", "clean.webp", "manifest.json"] {
        let detail = lie(&|done| done.files[index].name = name.to_owned());
        assert!(detail.contains(other), "{name}: {detail}");
    }
    assert!(lie(&|done| done.files.truncate(1)).contains(other));
    assert!(lie(&|done| done.files.push(done.files[0].clone())).contains(other));
    assert!(lie(&|done| done.pages_count = 2).contains(other));
    assert!(lie(&|done| done.pages_count = 0).contains("0 pages"));
    assert!(lie(&|done| done.pages_count = 201).contains("201 pages"));
    assert!(lie(&|done| done.files[index].content_type = "text/html".to_owned()).contains("announced text/html"));
    assert!(lie(&|done| done.files[index].size_bytes = u64::MAX).contains("bytes in all"));
    let small = OutputLimits { file_bytes_max: 10, ..OUTPUTS };
    let crash = collect(slot.path(), &spec(), &honest, &limits(), small).unwrap_err();
    assert!(crash.detail.contains("at most 10"), "{crash:?}");
    assert!(checked(&slot, &honest).is_ok());
}
