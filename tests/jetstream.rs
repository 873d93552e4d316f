//! The real server on a real NATS JetStream: normal work; NATS killed under uploads, wiped, silent, absent. Every accepted
//! job ends once, and none waits for NATS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use common::nats::Nats;
use common::pages;
use common::server::{Options, PATIENCE, Server, data_directory, until};

fn options(nats: &Nats) -> Options {
    Options::default().set("INKPOOL_BUS__URL", nats.url())
}

/// Messages of the stream of jobs; `None` while it cannot be asked.
async fn on_bus(nats: &Nats) -> Option<u64> {
    let client = async_nats::connect(nats.url()).await.ok()?;
    let stream = jetstream::new(client).get_stream("INKPOOL_JOBS").await.ok()?;
    Some(stream.cached_info().state.messages)
}

async fn until_on_bus(nats: &Nats, messages: u64) {
    let wait = async {
        while on_bus(nats).await != Some(messages) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the stream never held as many messages");
}

/// All end well at the first attempt, and nothing else is there.
async fn all_end_once(server: &Server, accepted: &BTreeSet<String>) {
    for id in accepted {
        let job = server.wait_final(id).await;
        assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
        let events = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
        assert_eq!(events["files"].as_array().unwrap().len(), 5, "{events}");
    }
}

/// Uploads until told to stop; what was accepted.
async fn upload_until(server: Arc<Server>, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    for seed in 0.. {
        accepted.insert(server.submit(pages::png(64, 64, seed), "document").await);
        if stop.load(Ordering::SeqCst) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_pass_through_jetstream() {
    let nats = Nats::start();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats));
    let mut accepted = BTreeSet::new();
    for seed in 0..8 {
        accepted.insert(server.submit(pages::png(64, 64, seed), "document").await);
    }
    all_end_once(&server, &accepted).await;
    until_on_bus(&nats, 0).await;
    assert!(!server.log().contains("taken from the ledger"), "{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_and_wiped_under_uploads_loses_nothing() {
    let mut nats = Nats::start();
    let directory = data_directory();
    let server = Arc::new(Server::start(directory.path(), &options(&nats)));
    let stop = Arc::new(AtomicBool::new(false));
    let uploads = tokio::spawn(upload_until(server.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    nats.kill();
    // Work goes on: a page that comes now is ready long before NATS is back.
    let id = server.submit(pages::png(64, 64, 1_000), "document").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded", "{}", server.log());
    assert!(server.log().contains("taken from the ledger"), "{}", server.log());
    nats.wipe();
    nats.run();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    let mut accepted = uploads.await.unwrap();
    accepted.insert(id);
    all_end_once(&server, &accepted).await;
    until_on_bus(&nats, 0).await;
    let mut server = Arc::into_inner(server).unwrap();
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_to_a_wiped_bus_is_released_again() {
    let mut nats = Nats::start();
    let directory = data_directory();
    let options = options(&nats).slots(1).set("INKPOOL_RELAY__COMPARE_EVERY_S", 1);
    let server = Server::start(directory.path(), &options);
    // The only slot is busy, so that nobody asks for the next page.
    let hanging = server.submit(pages::png_with_text("inkpool-fault", "hang", 1), "document").await;
    server.wait_for(&hanging, &["running"]).await;
    let next = server.submit(pages::png(64, 64, 2), "document").await;
    server.wait_for(&next, &["released"]).await;
    until_on_bus(&nats, 2).await;
    nats.kill();
    nats.wipe();
    nats.run();
    // Of the running job there is no need to know on the bus.
    until_on_bus(&nats, 1).await;
    assert!(server.log().contains("had lost released jobs"), "{}", server.log());
    server.post(&format!("/api/v1/jobs/{hanging}/cancel")).await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded");
    assert_eq!(server.wait_final(&hanging).await["state"], "cancelled");
    until_on_bus(&nats, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_nats_holds_nobody_up() {
    let nats = Nats::start();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats));
    let before = server.submit(pages::png(64, 64, 0), "document").await;
    server.wait_final(&before).await;
    nats.signal("STOP");
    let id = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&id).await["attempt"], 1);
    nats.signal("CONT");
    let log = || server.log();
    until("the bus is back", || log().contains("the bus is back")).await;
    until_on_bus(&nats, 0).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_nats_and_finds_it_later() {
    let mut nats = Nats::start();
    nats.kill();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats));
    let id = server.submit(pages::png(64, 64, 1), "document").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
    nats.run();
    until_on_bus(&nats, 0).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

/// A restarted server goes on with what the bus has kept, and with what it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_goes_on_with_the_same_bus() {
    let nats = Nats::start();
    let directory = data_directory();
    let options = options(&nats).set("INKPOOL_FAULT", "relay-published");
    let mut server = Server::start(directory.path(), &options);
    let mut accepted = BTreeSet::new();
    // The first release kills the server: this upload may get no answer.
    let _ = server.upload(pages::png(64, 64, 1), "document").await;
    server.wait();
    let mut server = Server::start(directory.path(), &self::options(&nats));
    accepted.insert(server.submit(pages::png(64, 64, 2), "document").await);
    all_end_once(&server, &accepted).await;
    for job in server.get("/api/v1/jobs?limit=100").await["items"].as_array().unwrap() {
        assert_eq!(server.wait_final(job["id"].as_str().unwrap()).await["state"], "succeeded");
    }
    until_on_bus(&nats, 0).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[test]
fn an_address_that_is_none_is_refused() {
    let directory = data_directory();
    let refused = Server::try_start(directory.path(), &Options::default().set("INKPOOL_BUS__URL", "http://a:1"));
    let log = refused.err().expect("it started");
    assert!(log.contains("bus.url"), "{log}");
}
