//! Events out: every job is told as it goes, in order, whatever happens to NATS or the server.

use serde_json::{Value, json};

use crate::common::nats::Nats;
use crate::common::server::{Options, Server, data_directory};
use crate::common::{crafted, pages};
use crate::outside::{Told, against_schemas, kinds, schema_of, told, until_told};

pub fn options(nats: &Nats) -> Options {
    Options::default().set("INKPOOL_BUS__URL", nats.url())
}

fn has(told: &[Told], job: &str, kind: &str) -> bool {
    told.iter().any(|told| told.job == job && told.kind == kind)
}

/// The numbers of what was told, each kind of a row counted once.
fn numbers(told: &[Told]) -> Vec<i64> {
    let mut numbers: Vec<_> = told.iter().filter_map(|told| told.number).collect();
    numbers.dedup();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_as_it_goes() {
    let nats = Nats::start();
    let directory = data_directory();
    let options = options(&nats).slots(1).set("INKPOOL_PRODUCERS__PROGRESS_EVERY_MS", 0);
    let mut server = Server::start(directory.path(), &options);
    let hanging = server.submit(pages::png_with_text("inkpool-fault", "hang", 1), "document").await;
    server.wait_for(&hanging, &["running"]).await;
    server.post(&format!("/api/v1/jobs/{hanging}/cancel")).await;
    server.wait_final(&hanging).await;
    let good = server.submit(pages::png(640, 480, 2), "document").await;
    let good_job = server.wait_final(&good).await;
    let broken = server.submit(crafted::truncated(image::ImageFormat::Png), "document").await;
    assert_eq!(server.wait_final(&broken).await["state"], "failed");
    let all = until_told(&nats, "the last end", |told| has(told, &broken, "failed")).await;

    assert_eq!(kinds(&all, &good), ["accepted", "queued", "running", "succeeded"]);
    assert_eq!(kinds(&all, &hanging).first().map(String::as_str), Some("accepted"));
    assert_eq!(kinds(&all, &hanging).last().map(String::as_str), Some("cancelled"));
    let progress: Vec<_> = all.iter().filter(|told| told.kind == "progress" && told.job == good).collect();
    assert!(!progress.is_empty() && progress.iter().all(|told| told.body["state"] == "running"), "{progress:?}");
    let ends: Vec<_> = all.iter().filter(|told| told.kind == "succeeded").collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].body, good_job, "the body is what HTTP gives");
    assert!(all.iter().all(|told| told.owner == "00000000-0000-0000-0000-000000000001"));
    let numbers = numbers(&all);
    assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(against_schemas(all.iter().map(schema_of)), Ok(all.len()));
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn the_schemas_refuse_what_is_wrong() {
    let mut job = json!({
        "id": "x", "image_id": "x", "preset": "document", "state": "lost", "stage": null, "progress": 0, "attempt": 0,
        "attempts_max": 5, "created_at": "2026-01-01T00:00:00Z", "started_at": null, "finished_at": null,
        "duration_ms": null, "node": null, "slot": null, "lane": "bulk", "cancel_requested": false, "error": null,
        "gate": null
    });
    assert!(against_schemas([("job", job.clone())]).unwrap_err().contains("id must match pattern"));
    job["id"] = "01890000-0000-7000-8000-000000000000".into();
    job["image_id"] = job["id"].clone();
    assert!(against_schemas([("job", job.clone())]).unwrap_err().contains("state"));
    job["state"] = "queued".into();
    assert_eq!(against_schemas([("job", job)]), Ok(1));
    assert!(against_schemas([("rejected", json!({"detail": "no"}))]).is_err());
    assert!(against_schemas([("submit", Value::Null)]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_nats_is_away_is_told_when_it_is_back() {
    let mut nats = Nats::start();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats));
    let before = server.submit(pages::png(64, 64, 1), "document").await;
    until_told(&nats, "the first end", |told| has(told, &before, "succeeded")).await;
    nats.kill();
    let mut ids = Vec::new();
    for seed in 2..5 {
        let id = server.submit(pages::png(64, 64, seed), "document").await;
        assert_eq!(server.wait_final(&id).await["state"], "succeeded", "{}", server.log());
        ids.push(id);
    }
    nats.run();
    let all = until_told(&nats, "all ends", |told| ids.iter().all(|id| has(told, id, "succeeded"))).await;
    for id in ids {
        assert_eq!(kinds(&all, &id), ["accepted", "queued", "running", "succeeded"]);
    }
    let numbers = numbers(&all);
    assert_eq!(numbers, (numbers[0]..=numbers[numbers.len() - 1]).collect::<Vec<_>>(), "without a gap, in order");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_stream_gets_again_what_the_ledger_holds() {
    let mut nats = Nats::start();
    let directory = data_directory();
    let server = Server::start(directory.path(), &options(&nats));
    let id = server.submit(pages::png(64, 64, 1), "document").await;
    let before = until_told(&nats, "the end", |told| has(told, &id, "succeeded")).await;
    nats.kill();
    nats.wipe();
    nats.run();
    let after = until_told(&nats, "the same again", |told| has(told, &id, "succeeded")).await;
    let numbered = |told: &[Told]| told.iter().filter(|told| told.number.is_some()).cloned().collect::<Vec<_>>();
    assert_eq!(numbered(&after), numbered(&before));
    assert!(server.log().contains("published again"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_publishes_tells_everything_once() {
    let nats = Nats::start();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats).set("INKPOOL_FAULT", "events-published:2"));
    let _ = server.upload(pages::png(64, 64, 1), "document").await;
    server.wait();
    let held = told(&nats).await;
    assert!(!held.is_empty(), "something was published and not noted");
    let server = Server::start(directory.path(), &options(&nats));
    let id = held[0].job.clone();
    server.wait_final(&id).await;
    let all = until_told(&nats, "the end", |told| has(told, &id, "succeeded")).await;
    let mut told_once = kinds(&all, &id);
    told_once.dedup();
    assert_eq!(told_once, kinds(&all, &id), "what was published and not noted came twice");
    assert_eq!(told_once.last().map(String::as_str), Some("succeeded"));
    let numbers = numbers(&all);
    assert_eq!(numbers, (numbers[0]..=numbers[numbers.len() - 1]).collect::<Vec<_>>());
}
