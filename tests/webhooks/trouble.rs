//! Receivers that fail, are slow, never end, or send elsewhere.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::Response;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::common::pages;
use crate::common::server::{Server, data_directory};
use crate::receiver::*;

/// The code of the last attempt.
fn code(line: &Value) -> &str {
    line["tries"].as_array().unwrap().last().map_or("", |tried| tried["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_and_in_the_end_given_up_until_it_is_asked_for() {
    let receiver = Receiver::answering(|before, _| {
        if before < 5 {
            Response::builder().status(500).body("no <b>room</b>\u{7}".into()).unwrap()
        } else {
            status(200)
        }
    })
    .await;
    let directory = data_directory();
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__ATTEMPTS_MAX", 3));
    let (id, _) = create(&server, &receiver.url(), &["succeeded"]).await;
    let job = server.submit(pages::png(64, 64, 1), "photo").await;
    server.wait_final(&job).await;
    let line = until_logged(&server, &id, |line| line["state"] == "dead").await;
    assert_eq!((&line["attempt"], &line["attempts_max"]), (&json!(3), &json!(3)));
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    assert!(got.windows(2).all(|pair| pair[0].id() == pair[1].id() && pair[0].text == pair[1].text));
    let waits: Vec<_> = got.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    // One second and two, of which up to a half is taken off, and a look a second.
    assert!(waits[0] >= Duration::from_millis(450) && waits[1] >= Duration::from_millis(950), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(10)), "{waits:?}");
    let tried = &line["tries"][2];
    assert_eq!((&tried["status"], &tried["code"], &tried["attempt"]), (&json!(500), &json!("status"), &json!(3)));
    assert_eq!(tried["answer"], "no <b>room</b>\u{FFFD}");
    assert_eq!(show(&server, &id).await["failures"], 3);
    // Its owner asks for it again: it has all its attempts, and the third is taken.
    let path = format!("/webhooks/{id}/deliveries/{}/redeliver", line["id"].as_str().unwrap());
    assert_eq!(send(&server, "POST", &path, None).await.0, 202);
    let line = until_logged(&server, &id, |line| line["state"] == "delivered").await;
    assert_eq!((receiver.got().len(), line["tries"].as_array().unwrap().len()), (6, 6));
    assert_eq!((&line["due_at"], &show(&server, &id).await["failures"]), (&json!(null), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_for_long_or_says_that_it_is_gone_is_switched_off() {
    let gone = Receiver::answering(|_, _| status(410)).await;
    let failing = Receiver::answering(|_, _| status(503)).await;
    let directory = data_directory();
    let options = options().set("INKPOOL_WEBHOOKS__OFF_AFTER_H", 0).set("INKPOOL_WEBHOOKS__OFF_FAILURES_MIN", 3);
    let server = Server::start(directory.path(), &options);
    let (gone_id, _) = create(&server, &gone.url(), &["succeeded"]).await;
    let (failing_id, _) = create(&server, &failing.url(), &["succeeded"]).await;
    server.submit(pages::png(64, 64, 1), "photo").await;
    for (receiver, id, reason, count) in [(&gone, &gone_id, "gone", 1), (&failing, &failing_id, "failing", 3)] {
        let began = Instant::now();
        while show(&server, id).await["enabled"] == true {
            assert!(began.elapsed() < Duration::from_secs(60), "{reason}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let webhook = show(&server, id).await;
        assert_eq!((&webhook["off_reason"], webhook["off_at"].is_string()), (&json!(reason), true));
        assert_eq!(receiver.got().len(), count, "{reason}");
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(failing.got().len(), 3, "it is left alone");
    // Switched on again it is brought what was waiting.
    send(&server, "PATCH", &format!("/webhooks/{failing_id}"), Some(json!({"enabled": true}))).await;
    failing.until("the fourth attempt", |got| got.len() >= 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_endless_answers_cost_little() {
    let endless = Receiver::answering(|_, _| {
        let chunks = futures::stream::repeat(Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 65_536])));
        Response::new(Body::from_stream(chunks))
    })
    .await;
    let dripping = Receiver::answering(|_, _| {
        let drops = futures::stream::repeat(()).then(async |()| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, Infallible>(Bytes::from_static(b"."))
        });
        Response::builder().status(500).body(Body::from_stream(drops)).unwrap()
    })
    .await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |listener: &tokio::net::TcpListener| format!("http://{}/", listener.local_addr().unwrap());
    let (silent_url, closed_url) = (address(&silent), address(&closed));
    drop(closed);
    let talker = Receiver::answering(|_, _| {
        (0..500)
            .fold(Response::builder(), |answer, n| answer.header(format!("x-{n}"), "y"))
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let directory = data_directory();
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__ATTEMPTS_MAX", 1));
    let before = server.resident_bytes();
    let cases = [
        (endless.url(), "delivered", "", 1024),
        (dripping.url(), "dead", "status", 15),
        (silent_url, "dead", "timeout", 0),
        (closed_url, "dead", "unreachable", 0),
        (talker.url(), "dead", "broken", 0),
    ];
    for (url, state, trouble, answer_bytes_max) in cases {
        let (id, _) = create(&server, &url, &["failed"]).await;
        ping(&server, &id).await;
        let line = until_logged(&server, &id, |line| line["state"] != "pending").await;
        assert_eq!((line["state"].as_str().unwrap(), code(&line)), (state, trouble), "{line}");
        let tried = &line["tries"][0];
        assert!(tried["duration_ms"].as_u64().unwrap() < 1500, "{tried}");
        let answer = tried["answer"].as_str().unwrap();
        assert!(answer.len() <= answer_bytes_max && answer.is_empty() == (answer_bytes_max == 0), "{tried}");
    }
    assert!(server.resident_bytes() < before + (32 << 20), "{} of {before}", server.resident_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let hidden = Receiver::start().await;
    let place = hidden.url();
    let receiver = Receiver::answering(move |before, _| {
        let code = [301, 302, 303, 307, 308][before % 5];
        Response::builder().status(code).header("location", &place).body(Body::empty()).unwrap()
    })
    .await;
    let directory = data_directory();
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__ATTEMPTS_MAX", 5));
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    ping(&server, &id).await;
    let line = until_logged(&server, &id, |line| line["state"] == "dead").await;
    assert_eq!((receiver.got().len(), code(&line)), (5, "redirect"));
    assert!(line["tries"].as_array().unwrap().iter().all(|tried| tried["code"] == "redirect"), "{line}");
    assert!(hidden.got().is_empty(), "{:?}", hidden.got());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_receivers_hold_up_nobody_else() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (well, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__PARALLEL_PER_OWNER", 5));
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    create(&server, &silent_url, &["accepted", "queued", "running", "succeeded"]).await;
    create(&server, &well.url(), &["succeeded"]).await;
    for seed in 0..6 {
        server.submit(pages::png(64, 64, seed), "photo").await;
    }
    well.until("all six", |got| got.len() == 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_and_their_fields_are_bounded() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__HOOKS_MAX", 2));
    for _ in 0..2 {
        create(&server, &receiver.url(), &["failed"]).await;
    }
    let url = receiver.url();
    for (body, status, code) in [
        (json!({"url": url}), 422, "too_many"),
        (json!({"url": url, "events": []}), 400, "invalid_parameter"),
        (json!({"url": url, "events": ["progress"]}), 400, "invalid_json"),
        (json!({"url": url, "name": "x".repeat(101)}), 400, "invalid_parameter"),
        (json!({"url": url, "name": "a\nb"}), 400, "invalid_parameter"),
        (json!({"url": url, "secret": "mine"}), 400, "invalid_json"),
        (json!({}), 400, "invalid_json"),
    ] {
        let (answered, problem) = send(&server, "POST", "/webhooks", Some(body.clone())).await;
        assert_eq!((answered, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let listed = server.get("/api/v1/webhooks").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("whsec_"));
}
