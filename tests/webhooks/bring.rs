//! What is brought, how it is signed, and that it comes however often the server is killed.

use std::collections::BTreeSet;

use serde_json::json;

use crate::common::pages;
use crate::common::server::{Server, data_directory};
use crate::receiver::*;

const ALL: [&str; 7] = ["accepted", "queued", "running", "succeeded", "failed", "cancelled", "review"];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_from_its_beginning_to_its_end_and_signed() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options());
    let (id, secret) = create(&server, &receiver.url(), &ALL).await;
    assert!(secret.starts_with("whsec_"), "{secret}");
    let job = server.submit(pages::png(64, 64, 1), "document").await;
    let ended = server.wait_final(&job).await;
    let got = receiver.until("the end", |got| got.len() == 4).await;
    let mut kinds: Vec<_> = got.iter().map(|got| (got.body["number"].as_i64().unwrap(), got.kind())).collect();
    kinds.sort_unstable();
    assert_eq!(kinds.iter().map(|kind| kind.1).collect::<Vec<_>>(), ["accepted", "queued", "running", "succeeded"]);
    for got in &got {
        assert_eq!((got.path.as_str(), got.header("content-type")), ("/hook?from=inkpool", "application/json"));
        assert_eq!(got.body["id"], got.id());
        assert_eq!(got.body["job"]["id"], job.as_str());
        assert!(got.is_signed_by(&secret), "{got:?}");
        assert!(!got.is_signed_by("whsec_AAAA"));
        assert_eq!(example_takes(got, &secret).as_deref(), Ok(got.kind()));
        assert!(example_takes(got, "whsec_AAAA").unwrap_err().contains("ValueError"));
    }
    let end = got.iter().find(|got| got.kind() == "succeeded").unwrap();
    assert_eq!(end.body["job"], ended, "the job is what HTTP gives");
    let mut changed = end.clone();
    changed.text = changed.text.replace("succeeded", "failed");
    assert!(example_takes(&changed, &secret).is_err() && !changed.is_signed_by(&secret));
    let mut old = end.clone();
    old.headers.insert("webhook-timestamp", "1600000000".parse().unwrap());
    old.headers.insert("webhook-signature", old.signature_by(&secret).parse().unwrap());
    assert!(example_takes(&old, &secret).unwrap_err().contains("old"));
    let ping = ping(&server, &id).await;
    let got = receiver.until("the ping", |got| got.len() == 5).await;
    assert_eq!((got[4].kind(), &got[4].body["job"], got[4].id()), ("ping", &json!(null), ping["id"].as_str().unwrap()));
    assert_eq!(against_schema(&got), Ok(String::new()));
    let line = until_logged(&server, &id, |line| line["state"] == "delivered").await;
    assert_eq!((&line["tries"][0]["status"], &line["attempt"]), (&json!(204), &json!(1)));
    let whole = server.get(&format!("/api/v1/webhooks/{id}/deliveries/{}", ping["id"].as_str().unwrap())).await;
    assert_eq!(whole["body"], got[4].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_what_is_wrong() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options());
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    ping(&server, &id).await;
    let mut got = receiver.until("the ping", |got| got.len() == 1).await;
    got[0].body["kind"] = "lost".into();
    assert!(against_schema(&got).unwrap_err().contains("kind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_comes_and_only_while_it_is_on() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options());
    let (id, secret) = create(&server, &receiver.url(), &["succeeded"]).await;
    let path = format!("/webhooks/{id}");
    let one = server.submit(pages::png(64, 64, 1), "photo").await;
    server.wait_final(&one).await;
    receiver.until("one", |got| got.len() == 1).await;
    let (status, body) = send(&server, "PATCH", &path, Some(json!({"enabled": false}))).await;
    assert_eq!((status, &body["enabled"]), (200, &json!(false)));
    let (status, problem) = send(&server, "POST", &format!("{path}/ping"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("webhook_off")));
    let two = server.submit(pages::png(64, 64, 2), "photo").await;
    server.wait_final(&two).await;
    send(&server, "PATCH", &path, Some(json!({"enabled": true}))).await;
    // The secret changes; for a while both sign.
    let (status, rotated) = send(&server, "POST", &format!("{path}/secret"), None).await;
    assert_eq!(status, 200);
    let next = rotated["secret"].as_str().unwrap();
    let three = server.submit(pages::png(64, 64, 3), "photo").await;
    server.wait_final(&three).await;
    let got = receiver.until("the third", |got| got.len() == 2).await;
    assert_eq!(got.iter().map(|got| got.body["job"]["id"].as_str().unwrap()).collect::<Vec<_>>(), [one, three]);
    assert!(got[1].is_signed_by(&secret) && got[1].is_signed_by(next) && !got[0].is_signed_by(next));
    assert!(!serde_json::to_string(&show(&server, &id).await).unwrap().contains("whsec_"));
    assert_eq!(send(&server, "DELETE", &path, None).await.0, 204);
    assert_eq!(send(&server, "GET", &path, None).await.0, 404);
}

/// At each place on the way from an event to its line in the log.
async fn killed_at(fault: &str) {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let mut server = Server::start(directory.path(), &options());
    let (id, secret) = create(&server, &receiver.url(), &ALL).await;
    assert_eq!(server.terminate(), Some(0));
    let mut server = Server::start(directory.path(), &options().set("INKPOOL_FAULT", fault));
    let _ = server.upload(pages::png(64, 64, 1), "photo").await;
    server.wait();
    let server = Server::start(directory.path(), &options());
    let wanted = BTreeSet::from(["accepted", "queued", "running", "succeeded"]);
    let got = receiver
        .until(&format!("everything, {fault}"), |got| wanted.is_subset(&got.iter().map(Got::kind).collect()))
        .await;
    assert!(got.iter().all(|got| got.is_signed_by(&secret)));
    if fault == "webhook-sent" {
        // What came of it was not written, so it comes again when the claim has run out.
        receiver
            .until("one twice", |got| got.iter().any(|one| got.iter().filter(|it| it.id() == one.id()).count() == 2))
            .await;
    }
    // The job may have begun twice: what both told must have come, not just one of each kind.
    let told = loop {
        let told: Vec<_> = log(&server, &id).await;
        if told.iter().all(|delivery| delivery["state"] == "delivered") {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let got = receiver.got();
    // The same event has the same id and the same body, however often it comes.
    let events: BTreeSet<_> = got.iter().map(|got| (got.body["number"].as_i64(), got.kind())).collect();
    let ids: BTreeSet<_> = got.iter().map(|got| (got.id(), got.text.as_str())).collect();
    assert_eq!(events.len(), ids.len(), "{fault}: {got:#?}");
    assert_eq!(told.len(), ids.len(), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_before_it_claims_tells_everything() {
    killed_at("webhooks-made").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_before_it_sends_tells_everything() {
    killed_at("webhook-claimed:2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_after_it_sent_tells_everything() {
    killed_at("webhook-sent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_with_a_bug_loses_nothing() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options().set("INKPOOL_FAULT", "panic:webhooks-made"));
    create(&server, &receiver.url(), &["succeeded"]).await;
    let job = server.submit(pages::png(64, 64, 1), "photo").await;
    receiver.until("the end", |got| got.iter().any(|got| got.body["job"]["id"] == job.as_str())).await;
    assert!(server.log().contains("panicked"), "{}", server.log());
}
