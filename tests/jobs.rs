//! The way of a job through the real server: poison, deadline, cancel, retry, recycling, fairness, slot count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::time::Duration;

use common::pages;
use common::server::{Options, Server, data_directory, until};
use inkpool::config::Config;
use inkpool::job::{ImageId, JobId, OwnerId, State};
use inkpool::store::{Accepted, Claim, Holder, Ledger, NewImage, NewJob, QueueLimits, Submission};

fn poison(kind: &str, seed: u32) -> Vec<u8> {
    pages::png_with_text("inkpool-fault", kind, seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_fails_after_three_crashes_and_others_pass() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default());
    let poison = server.submit(poison("crash", 1), "document").await;
    let mut others = Vec::new();
    for seed in 0..10 {
        others.push(server.submit(pages::png(64, 64, seed), "document").await);
    }
    for other in &others {
        let job = server.wait_final(other).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert!(job["gate"]["verdict"].is_string() && job["gate"]["regions"].is_array(), "{job}");
    }
    let job = server.wait_final(&poison).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["attempt"], 3, "{job}");
    let error = &job["error"];
    assert_eq!(error["code"], "crashed", "{error}");
    assert!(error["signal"].as_str().unwrap().starts_with("SIG"), "{error}");
    assert!(error["peak_bytes"].as_u64().unwrap() > 0, "{error}");
    assert!(error["stage"].is_string(), "{error}");

    let (status, _) = server.post(&format!("/api/v1/jobs/{poison}/retry")).await;
    assert_eq!(status, 200);
    assert_eq!(server.wait_final(&poison).await["attempt"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_worker_is_killed_at_its_deadline() {
    let directory = data_directory();
    let options = Options::default()
        .set("INKPOOL_JOBS__DEADLINE_BASE_S", 1)
        .set("INKPOOL_JOBS__DEADLINE_PER_MEGAPIXEL_S", 0)
        .set("INKPOOL_JOBS__CRASHES_MAX", 1);
    let server = Server::start(directory.path(), &options);
    let id = server.submit(poison("hang", 1), "document").await;
    let job = server.wait_final(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &"deadline".into()), "{job}");
    let next = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_breaks_the_protocol_or_lies_is_not_believed() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default().set("INKPOOL_JOBS__CRASHES_MAX", 1));
    for (kind, code) in [
        ("protocol", "protocol"),
        ("lie-length", "untrusted_output"),
        ("lie-hash", "untrusted_output"),
        ("lie-size", "untrusted_output"),
        ("unannounced", "untrusted_output"),
    ] {
        let id = server.submit(poison(kind, 1), "document").await;
        let job = server.wait_final(&id).await;
        assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &code.into()), "{kind}: {job}");
        let image = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
        assert_eq!(image["files"].as_array().unwrap().len(), 1, "only the original: {image}");
    }
    let next = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_and_can_be_retried() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default().slots(1));
    let id = server.submit(poison("hang", 1), "document").await;
    server.wait_for(&id, &["running"]).await;
    let (status, _) = server.post(&format!("/api/v1/jobs/{id}/cancel")).await;
    assert!(status == 200 || status == 202, "{status}");
    let job = server.wait_final(&id).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    let next = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded");

    let (status, _) = server.post(&format!("/api/v1/jobs/{id}/retry")).await;
    assert_eq!(status, 200);
    server.wait_for(&id, &["running"]).await;
    server.post(&format!("/api/v1/jobs/{id}/cancel")).await;
    assert_eq!(server.wait_final(&id).await["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_stops_its_job_and_leaves_nothing() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default().set("INKPOOL_JANITOR__EVERY_S", 1));
    let id = server.submit(poison("hang", 1), "document").await;
    let job = server.wait_for(&id, &["running"]).await;
    let image = job["image_id"].as_str().unwrap();
    let answer = server.client().delete(server.url(&format!("/api/v1/images/{image}"))).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    let objects = directory.path().join("objects");
    until("its objects are gone", || common::server::files_below(&objects).is_empty()).await;
    let next = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_recycled_after_n_jobs() {
    let directory = data_directory();
    let options = Options::default().slots(1).set("INKPOOL_SLOTS__RECYCLE_AFTER_JOBS", 2);
    let server = Server::start(directory.path(), &options);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let id = server.submit(pages::png(64, 64, seed), "document").await;
        assert_eq!(server.wait_final(&id).await["state"], "succeeded");
        seen.extend(server.workers());
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_and_go_while_running() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default().slots(1));
    let node = server.get("/api/v1/cluster").await["nodes"][0]["id"].as_str().unwrap().to_owned();
    for count in [3u32, 1, 2] {
        let url = server.url(&format!("/api/v1/cluster/nodes/{node}"));
        let answer = server.client().patch(url).json(&serde_json::json!({"slots_count": count})).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        until("as many workers as slots", || server.workers().len() == count as usize).await;
    }
    let id = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_workers_do_not_start_says_so_and_keeps_the_jobs() {
    let directory = data_directory();
    let data = directory.path().join("data");
    let broken = Options::default()
        .set("INKPOOL_SLOTS__START_TIMEOUT_S", 0)
        .set("INKPOOL_SLOTS__QUARANTINE_STARTS", 2)
        .set("INKPOOL_SLOTS__RESTART_BACKOFF_MIN_MS", 10);
    let mut server = Server::start(&data, &broken);
    let id = server.submit(pages::png(64, 64, 1), "document").await;
    let mut reasons = serde_json::Value::Null;
    for _ in 0..600 {
        let answer = server.client().get(server.url("/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        reasons = answer.json().await.unwrap();
        if reasons.to_string().contains("quarantined") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(reasons.to_string().contains("2 of 2 slots are quarantined"), "{reasons}");
    assert_eq!(server.job(&id).await["attempt"], 0);
    assert_eq!(server.terminate(), Some(0));

    let server = Server::start(&data, &Options::default());
    assert_eq!(server.wait_final(&id).await["attempt"], 1);
}

/// Rows for `count` pages of one owner on one stored object each, as HTTP would write them.
async fn queue(app: &inkpool::app::App, owner: OwnerId, count: u32) -> Vec<JobId> {
    let deps = app.deps();
    let presets = inkpool::pipeline::spec::Presets::builtin().unwrap();
    let spec = serde_json::to_value(presets.resolve("photo", &Default::default()).unwrap()).unwrap();
    let bytes = bytes::Bytes::from(pages::png(48, 48, 7));
    let mut ids = Vec::new();
    let mut items = Vec::new();
    for _ in 0..count {
        let (image, job) = (ImageId::fresh(), JobId::fresh());
        let body = futures::stream::iter([Ok::<_, std::io::Error>(bytes.clone())]);
        let key = inkpool::blobs::Key::Original(image);
        let written = deps.blobs.put_stream(&key, body, 1 << 20).await.unwrap();
        let new_image = NewImage {
            id: image,
            filename: "page.png".to_owned(),
            content_type: "image/png".to_owned(),
            size_bytes: written.size_bytes,
            sha256: written.sha256,
            width_px: Some(48),
            height_px: Some(48),
            pages_count: Some(1),
            pixels: None,
        };
        let new_job =
            NewJob { id: job, owner, image_id: image, preset: "photo".into(), spec: spec.clone(), lane: None };
        ids.push(job);
        items.push((new_image, new_job));
    }
    let limits =
        QueueLimits { queue_jobs_max: 10_000, bulk_from_jobs: 50, attempts_max: 5, crashes_max: 3, quota: None };
    for chunk in items.chunks(100) {
        let items = chunk.to_vec();
        let submission =
            Submission { owner, items, idempotency: None, submitted: None, upload: None, dedup: false, limits };
        assert!(matches!(deps.ledger.accept(submission).await.unwrap(), Accepted::Created(_)));
    }
    ids
}

/// Jobs of `owner` that started before `moment`.
async fn started_before(ledger: &dyn Ledger, owner: OwnerId, ids: &[JobId], moment: i64) -> usize {
    let mut count = 0;
    for id in ids {
        let job = ledger.job(owner, *id).await.unwrap().unwrap();
        count += usize::from(job.started_at_ms.is_some_and(|at| at < moment));
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn one_page_of_another_owner_does_not_wait_behind_two_thousand() {
    const SLOTS: u32 = 2;
    let directory = data_directory();
    let mut config = Config::defaults().unwrap();
    config.data = directory.path().to_owned();
    config.http.listen = "127.0.0.1:0".to_owned();
    config.slots.count = SLOTS;
    let app = inkpool::app::App::start_with_program(config, env!("CARGO_BIN_EXE_inkpool").into()).await.unwrap();
    let (many, one) = (OwnerId::fresh(), OwnerId::fresh());
    let crowd = queue(&app, many, 2000).await;
    assert!(app.ready(Duration::from_secs(60)).await);
    let ledger = app.deps().ledger.clone();
    // The crowd is well under way.
    for _ in 0..4000 {
        if ledger.job(many, crowd[9]).await.unwrap().unwrap().state.is_final() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let single = queue(&app, one, 1).await[0];
    let arrived = ledger.job(one, single).await.unwrap().unwrap().created_at_ms;
    let job = loop {
        let job = ledger.job(one, single).await.unwrap().unwrap();
        if job.state.is_final() {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let started = job.started_at_ms.unwrap();
    let between =
        started_before(&*ledger, many, &crowd, started).await - started_before(&*ledger, many, &crowd, arrived).await;
    // Two job lengths: every slot may have started at most two further jobs of the crowd meanwhile.
    assert!(between <= 2 * SLOTS as usize, "{between} jobs of the crowd went first");
    app.run_until(std::future::ready(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_puts_back_a_running_job_that_has_no_slot() {
    let directory = data_directory();
    let mut config = Config::defaults().unwrap();
    config.data = directory.path().to_owned();
    config.http.listen = "127.0.0.1:0".to_owned();
    config.slots.count = 1;
    config.janitor.every_s = 1;
    // Nobody but the janitor wakes the relay, so that the claim below comes first.
    config.relay.poll_s = 600;
    let app = inkpool::app::App::start_with_program(config, env!("CARGO_BIN_EXE_inkpool").into()).await.unwrap();
    assert!(app.ready(Duration::from_secs(60)).await);
    let deps = app.deps().clone();
    let owner = OwnerId::fresh();
    let job = queue(&app, owner, 1).await[0];
    let holder = Holder {
        node: deps.node.clone(),
        incarnation: deps.shared.view().incarnation,
        slot: 0,
        memory_bytes_max: None,
    };
    assert!(matches!(deps.ledger.claim(job, 0, holder).await.unwrap(), Claim::Won { .. }));
    let ended = async {
        loop {
            let row = deps.ledger.job(owner, job).await.unwrap().unwrap();
            if row.state.is_final() {
                break row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let row = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the job is put back and ends");
    assert_eq!((row.state, row.attempt), (State::Succeeded, 2));
    app.run_until(std::future::ready(())).await.unwrap();
}
