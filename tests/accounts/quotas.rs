//! What one user may use: refused before work is done, told truly, and never twice the last room.

use futures::future::join_all;
use serde_json::{Value, json};

use super::people::{Answer, Person, Place, options};
use crate::common::pages;

const DAY_S: u64 = 86_400;
/// Pixels of [`Person::upload`]'s page.
const PAGE_PX: u64 = 40 * 30;

async fn set_quota(root: &Person<'_>, id: &Value, quota: Value) -> Answer {
    let answer = root.put(&format!("/api/v1/accounts/{}/quota", id.as_str().unwrap()), quota).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Root, ada, and ada's account; the node takes no jobs, so that what is queued stays so.
async fn drained(place: &Place) -> (Person<'_>, Person<'_>, Value) {
    let (root, ada) = (place.log_in("root").await, place.person("ada").await);
    let node = root.get("/api/v1/cluster").await.json["nodes"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/cluster/nodes/{node}");
    let drain = root.request("PATCH", &path).json(&json!({"draining": true})).send().await.unwrap();
    assert_eq!(drain.status(), 200);
    let id = ada.get("/api/v1/session").await.json["id"].clone();
    (root, ada, id)
}

fn retry_after(answer: &Answer) -> Option<u64> {
    answer.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap())
}

async fn usage(person: &Person<'_>) -> Value {
    person.get("/api/v1/quota").await.json
}

async fn send(person: &Person<'_>, query: &str, bytes: Vec<u8>) -> Answer {
    // A connection of its own: it is closed when the answer comes before the body was read.
    let request = person.request("POST", &format!("/api/v1/images?preset=photo{query}")).header("connection", "close");
    Answer::of(request.body(bytes).send().await.unwrap()).await
}

#[tokio::test]
async fn bytes_pixels_and_jobs_are_bounded() {
    let place = Place::start(&options()).await;
    let (root, ada, id) = drained(&place).await;
    let usual = usage(&ada).await;
    assert_eq!(usual["stored_bytes"], json!({"used": 0, "limit": 21_474_836_480_u64}));
    let page = pages::png(40, 30, 1);
    let size = page.len() as u64;

    set_quota(&root, &id, json!({"stored_bytes_max": size + 1})).await;
    assert_eq!(ada.upload().await.status, 202);
    let refused = ada.upload().await;
    refused.assert_problem(429, "storage_quota_reached");
    assert_eq!(refused.json["limit"], format!("{} bytes", size + 1));
    assert_eq!(refused.json["measured"], format!("{} bytes", 2 * size));
    assert_eq!(retry_after(&refused), None, "time alone makes no room");
    assert!(refused.json["remedy"].as_str().unwrap().contains("Delete images"));
    assert_eq!(usage(&ada).await["stored_bytes"], json!({"used": size, "limit": size + 1}));

    let own = json!({"stored_bytes_max": null, "pixels_per_day_max": 2 * PAGE_PX});
    let shown = set_quota(&root, &id, own).await.json;
    assert_eq!(shown["quota"]["pixels_per_day"], json!({"used": PAGE_PX, "limit": 2 * PAGE_PX}));
    assert_eq!(shown["own_quota"]["pixels_per_day_max"], 2 * PAGE_PX);
    assert_eq!(ada.upload().await.status, 202);
    let refused = ada.upload().await;
    refused.assert_problem(429, "pixel_quota_reached");
    let wait_s = retry_after(&refused).unwrap();
    assert!((DAY_S - 120..=DAY_S + 60).contains(&wait_s), "{wait_s}");
    // Deleting does not give a day's pixels back.
    let images = ada.get("/api/v1/images").await.json["items"].clone();
    for image in images.as_array().unwrap() {
        ada.send("DELETE", &format!("/api/v1/images/{}", image["id"].as_str().unwrap())).await;
    }
    ada.upload().await.assert_problem(429, "pixel_quota_reached");
    let large = send(&ada, "", pages::png(80, 60, 1)).await;
    large.assert_problem(429, "pixel_quota_reached");

    set_quota(&root, &id, json!({"jobs_queued_max": 2})).await;
    assert_eq!((ada.upload().await.status, ada.upload().await.status), (202, 202));
    let refused = ada.upload().await;
    refused.assert_problem(429, "job_quota_reached");
    assert!(retry_after(&refused).unwrap() >= 1);
    assert_eq!(refused.json["limit"], "2 jobs");
    // Others go on.
    let bob = place.person("bob").await;
    assert_eq!(bob.upload().await.status, 202);
    // Nothing of what was refused is left.
    assert_eq!(usage(&ada).await["jobs_queued"]["used"], 2);
    assert_eq!(ada.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn every_way_in_is_bounded() {
    let place = Place::start(&options()).await;
    let (root, ada, id) = drained(&place).await;
    let first = ada.upload_as("first").await;
    let image = first.json["items"][0]["image"]["id"].as_str().unwrap().to_owned();
    let job = first.json["items"][0]["job"]["id"].as_str().unwrap().to_owned();
    let announcement = |bytes: u64| {
        let sha256 = "ab".repeat(32);
        let file = json!({"filename": "a.png", "size_bytes": bytes, "sha256": sha256, "content_type": "image/png"});
        json!({"preset": "photo", "files": [file]})
    };
    set_quota(&root, &id, json!({"stored_bytes_max": 100_000})).await;
    assert_eq!(ada.post("/api/v1/uploads", announcement(60_000)).await.status, 201);
    // What was announced is reserved, whichever way the next comes.
    ada.post("/api/v1/uploads", announcement(60_000)).await.assert_problem(429, "storage_quota_reached");
    send(&ada, "", vec![b'x'; 60_000]).await.assert_problem(429, "storage_quota_reached");

    set_quota(&root, &id, json!({"jobs_queued_max": 1})).await;
    ada.upload().await.assert_problem(429, "job_quota_reached");
    ada.post("/api/v1/uploads", announcement(9)).await.assert_problem(429, "job_quota_reached");
    let again = ada.post(&format!("/api/v1/images/{image}/jobs"), json!({"preset": "document"})).await;
    again.assert_problem(429, "job_quota_reached");
    let form = reqwest::multipart::Form::new()
        .part("file", reqwest::multipart::Part::bytes(pages::png(40, 30, 2)).file_name("b.png"));
    let form = ada.request("POST", "/api/v1/images").multipart(form).send().await.unwrap();
    Answer::of(form).await.assert_problem(429, "job_quota_reached");
    // An answer that was given is given again.
    assert_eq!(ada.upload_as("first").await.json["items"][0]["job"]["id"], job);

    assert_eq!(ada.send("POST", &format!("/api/v1/jobs/{job}/cancel")).await.status, 200);
    set_quota(&root, &id, json!({"pixels_per_day_max": PAGE_PX})).await;
    ada.send("POST", &format!("/api/v1/jobs/{job}/retry")).await.assert_problem(429, "pixel_quota_reached");
    set_quota(&root, &id, json!({"pixels_per_day_max": 2 * PAGE_PX})).await;
    assert_eq!(ada.send("POST", &format!("/api/v1/jobs/{job}/retry")).await.status, 200);
}

#[tokio::test]
async fn two_at_once_never_both_take_the_last_room() {
    const ROOM: usize = 3;
    let place = Place::start(&options()).await;
    let (root, ada, id) = drained(&place).await;
    let page = pages::png(40, 30, 1).len();
    for quota in [
        json!({"jobs_queued_max": ROOM}),
        json!({"jobs_queued_max": 0, "pixels_per_day_max": PAGE_PX * 2 * ROOM as u64}),
        json!({"jobs_queued_max": 0, "pixels_per_day_max": 0, "stored_bytes_max": page * 3 * ROOM}),
    ] {
        set_quota(&root, &id, quota).await;
        let answers = join_all((0..24).map(|_| ada.upload())).await;
        let taken = answers.iter().filter(|answer| answer.status == 202).count();
        assert_eq!(taken, ROOM, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        assert!(answers.iter().all(|answer| matches!(answer.status, 202 | 429)));
    }
}

#[tokio::test]
async fn the_settings_hold_for_everybody_else() {
    let place = Place::start(&options().set("INKPOOL_QUOTAS__JOBS_QUEUED_MAX", 1)).await;
    let (_, ada, _) = drained(&place).await;
    assert_eq!(ada.upload().await.status, 202);
    ada.upload().await.assert_problem(429, "job_quota_reached");
    let list = place.log_in("root").await.get("/api/v1/accounts").await.json;
    let ada = list["items"].as_array().unwrap().iter().find(|person| person["username"] == "ada").unwrap();
    assert_eq!(ada["quota"]["jobs_queued"], json!({"used": 1, "limit": 1}));
    assert_eq!(ada["own_quota"]["jobs_queued_max"], Value::Null);
}
