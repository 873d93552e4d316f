//! `kill -9` of the real server at every step of a job's way, under load; of its workers; SIGTERM; two servers on one
//! data directory. After the restart every accepted upload reaches one final state with one visible result, and nothing
//! is left over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::pages;
use common::server::{Options, Server, data_directory, files_below, signal, until, workers_of};
use serde_json::Value;
use sqlx::Connection;

const UPLOADS: u32 = 12;
const FILES: [&str; 4] = ["clean.png", "clean.webp", "manifest.json", "thumb.webp"];

/// Uploads from four clients at once until the server is gone or all are through; the ids that were answered 2xx.
async fn load(server: &Server) -> BTreeSet<String> {
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let mut clients = Vec::new();
    for client in 0..4 {
        let (accepted, http, url) = (accepted.clone(), server.client().clone(), server.url("/api/v1/images"));
        clients.push(tokio::spawn(async move {
            for upload in 0..UPLOADS / 4 {
                let bytes = pages::png(96, 64, client * 100 + upload);
                let sent = http.post(&url).query(&[("preset", "document")]).body(bytes).send().await;
                let Ok(answer) = sent else { return };
                let status = answer.status();
                let Ok(body) = answer.json::<Value>().await else { return };
                assert_eq!(status, 202, "{body}");
                let id = body["items"][0]["job"]["id"].as_str().unwrap().to_owned();
                accepted.lock().unwrap().insert(id);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    Arc::into_inner(accepted).unwrap().into_inner().unwrap()
}

/// All jobs the server knows, over all pages of the list.
async fn all_jobs(server: &Server) -> Vec<Value> {
    let mut jobs = Vec::new();
    let mut path = "/api/v1/jobs?limit=100".to_owned();
    loop {
        let page = server.get(&path).await;
        jobs.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/jobs?limit=100&cursor={cursor}"),
            None => return jobs,
        }
    }
}

/// Every accepted upload ended well; what was committed without an answer ended as well.
async fn all_end_well(server: &Server, accepted: &BTreeSet<String>) -> Vec<Value> {
    for id in accepted {
        let job = server.wait_final(id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
    }
    for job in all_jobs(server).await {
        let job = server.wait_final(job["id"].as_str().unwrap()).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        let image = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
        let names: BTreeSet<_> =
            image["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert_eq!(names, FILES.into_iter().chain(["original"]).collect(), "{image}");
    }
    all_jobs(server).await
}

/// After an ordered stop: no process, no slot directory, no outbox row, and exactly the objects that rows point to.
async fn nothing_left_over(data: &Path, jobs: &[Value]) {
    assert_eq!(workers_of(data), Vec::<u32>::new());
    let slots = files_below(&data.join("slots"));
    assert!(slots.is_empty(), "{slots:?}");
    let mut expected = BTreeSet::new();
    let mut ledger =
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", data.join("inkpool.sqlite").display())).await.unwrap();
    let outbox: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&mut ledger).await.unwrap();
    assert_eq!(outbox, 0);
    let objects = files_below(&data.join("objects"));
    let mut starts = std::collections::BTreeMap::<&str, BTreeSet<String>>::new();
    for job in jobs {
        expected.insert(format!("img/{}/original", job["image_id"].as_str().unwrap()));
        let id = job["id"].as_str().unwrap();
        for object in objects.iter().filter(|object| object.starts_with(&format!("out/{id}/"))) {
            let start = object.split('/').nth(2).unwrap();
            starts.entry(id).or_default().insert(start.to_owned());
        }
        assert_eq!(starts[id].len(), 1, "outputs of one start are visible, of no other left: {:?}", starts[id]);
        expected.extend(FILES.map(|file| format!("out/{id}/{}/{file}", starts[id].first().unwrap())));
    }
    assert_eq!(objects, expected);
}

async fn killed_at(point: &str) {
    let directory = data_directory();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &Options::default().set("INKPOOL_FAULT", point));
    let accepted = load(&server).await;
    let status = server.wait();
    assert_eq!(status.signal(), Some(9), "the server passed {point} unharmed\n{}", server.log());
    until("its workers are gone", || workers_of(&data).is_empty()).await;

    let mut server = Server::start(&data, &Options::default());
    let jobs = all_end_well(&server, &accepted).await;
    for job in &jobs {
        assert!(job["attempt"].as_u64().unwrap() <= 2, "{job}");
    }
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    nothing_left_over(&data, &jobs).await;
}

macro_rules! killed {
    ($($name:ident: $point:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            killed_at($point).await;
        })*
    };
}

killed! {
    killed_with_bytes_on_their_way: "upload-began:5";
    killed_with_bytes_and_no_row: "upload-durable:5";
    killed_with_a_row_and_no_answer: "upload-committed:5";
    killed_between_publish_and_release: "relay-published:3";
    killed_after_the_release: "relay-released:3";
    killed_after_the_claim: "claimed:3";
    killed_with_the_input_staged: "staged:3";
    killed_after_the_worker_ended: "executed:3";
    killed_between_two_outputs: "output-put:6";
    killed_with_all_outputs_stored: "published:3";
    killed_between_finish_and_ack: "finished:3";
    killed_at_the_last_finish: "finished:12";
}

/// An actor of the real server panics under load: it is started again, and every job ends well.
async fn panicked_at(point: &str) {
    let directory = data_directory();
    let data = directory.path().join("data");
    // What the dead actor held comes back after the ack wait, or by the janitor.
    let options = Options::default()
        .set("INKPOOL_FAULT", format!("panic:{point}"))
        .set("INKPOOL_BUS__ACK_WAIT_S", 3)
        .set("INKPOOL_BUS__IN_PROGRESS_EVERY_S", 1)
        .set("INKPOOL_JANITOR__EVERY_S", 1);
    let mut server = Server::start(&data, &options);
    let accepted = load(&server).await;
    assert_eq!(accepted.len(), UPLOADS as usize);
    let jobs = all_end_well(&server, &accepted).await;
    assert!(server.log().contains("is started again"), "no actor died at {point}\n{}", server.log());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    // A start that lost its actor may have stored outputs: they go with the clean-up of the next start.
    let mut server = Server::start(&data, &Options::default());
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    nothing_left_over(&data, &jobs).await;
}

macro_rules! panicked {
    ($($name:ident: $point:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            panicked_at($point).await;
        })*
    };
}

panicked! {
    a_relay_that_panics_loses_no_job: "relay-actor:4";
    an_intake_that_panics_loses_no_job: "intake-actor:6";
    a_scheduler_that_panics_loses_no_job: "scheduler-actor:4";
    a_slot_that_panics_loses_no_job: "slot-actor:4";
    a_slot_supervisor_that_panics_loses_no_job: "slots-actor:20";
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_from_outside() {
    let directory = data_directory();
    let data = directory.path().join("data");
    let mut accepted = BTreeSet::new();
    for round in 0..4u64 {
        let mut server = Server::start(&data, &Options::default());
        let pid = server.pid();
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(80 + 130 * round)).await;
            signal(pid, "KILL");
        });
        accepted.extend(load(&server).await);
        killer.await.unwrap();
        server.wait();
    }
    let mut server = Server::start(&data, &Options::default());
    let jobs = all_end_well(&server, &accepted).await;
    assert_eq!(server.terminate(), Some(0));
    nothing_left_over(&data, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_an_attempt_and_no_job() {
    let directory = data_directory();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &Options::default());
    let mut ids = Vec::new();
    for seed in 0..6 {
        ids.push(server.submit(pages::png(700, 900, seed), "document").await);
    }
    for id in ids.iter().take(2) {
        server.wait_for(id, &["running", "succeeded"]).await;
        for worker in server.workers() {
            signal(worker, "KILL");
        }
    }
    let jobs = all_end_well(&server, &ids.into_iter().collect()).await;
    assert_eq!(server.terminate(), Some(0));
    nothing_left_over(&data, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_spends_no_attempt() {
    let directory = data_directory();
    let data = directory.path().join("data");
    // No time to finish: what runs is handed back.
    let mut server = Server::start(&data, &Options::default().set("INKPOOL_SLOTS__DRAIN_S", 0));
    let mut ids = BTreeSet::new();
    for seed in 0..8 {
        ids.insert(server.submit(pages::png(1400, 1800, seed), "document").await);
    }
    let first = ids.first().unwrap().clone();
    server.wait_for(&first, &["running"]).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    assert_eq!(workers_of(&data), Vec::<u32>::new());
    assert!(files_below(&data.join("slots")).is_empty());
    assert!(server.log().contains("handed back"), "{}", server.log());

    let mut server = Server::start(&data, &Options::default());
    let jobs = all_end_well(&server, &ids).await;
    for job in &jobs {
        assert_eq!(job["attempt"], 1, "{job}");
    }
    assert_eq!(server.terminate(), Some(0));
    nothing_left_over(&data, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_is_refused() {
    let directory = data_directory();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &Options::default());
    let log = Server::try_start(&data, &Options::default()).err().expect("the second server started");
    assert!(log.contains("data directory") && log.contains(&server.pid().to_string()), "{log}");
    let id = server.submit(pages::png(64, 64, 0), "document").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
    assert_eq!(server.terminate(), Some(0));
}
