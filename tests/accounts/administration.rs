//! What administrators do with accounts, and with what failed.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};

use super::cli::admin;
use super::people::{Answer, PASSWORD, Person, Place, options};
use crate::common::pages;

async fn patch(person: &Person<'_>, id: &Value, change: Value) -> Answer {
    let path = format!("/api/v1/accounts/{}", id.as_str().unwrap());
    Answer::of(person.request("PATCH", &path).json(&change).send().await.unwrap()).await
}

/// How long until an event stream that stands has ended.
async fn ended(stream: reqwest::Response) -> Duration {
    let began = Instant::now();
    let mut pieces = stream.bytes_stream();
    while let Some(Ok(_)) = pieces.next().await {}
    began.elapsed()
}

async fn stream(person: &Person<'_>) -> reqwest::Response {
    let mut stream = person.request("GET", "/api/v1/events").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    stream.chunk().await.unwrap();
    stream
}

#[tokio::test]
async fn whoever_is_disabled_is_out() {
    let place = Place::start(&options().set("INKPOOL_AUTH__LOOK_AGAIN_S", 300)).await;
    let (root, ada) = (place.log_in("root").await, place.person("ada").await);
    let id = ada.get("/api/v1/session").await.json["id"].clone();
    let token = ada.token(&["read"]).await["secret"].as_str().unwrap().to_owned();
    let program = place.nobody().with("authorization", format!("Bearer {token}"));
    ada.upload().await;
    let streams = (stream(&ada).await, stream(&program).await);
    let changed = patch(&root, &id, json!({"disabled": true})).await;
    assert_eq!((changed.status, &changed.json["disabled"]), (200, &json!(true)));
    let (one, other) = futures::join!(ended(streams.0), ended(streams.1));
    assert!(one.max(other) < Duration::from_secs(5), "{one:?} {other:?}");
    ada.get("/api/v1/session").await.assert_problem(401, "login_required");
    program.get("/api/v1/images").await.assert_problem(401, "login_required");
    // Whoever does not know the password learns nothing.
    place.try_log_in("ada", "not her password").await.assert_problem(401, "wrong_login");
    place.try_log_in("ada", PASSWORD).await.assert_problem(403, "account_disabled");
    assert_eq!(patch(&root, &id, json!({"disabled": false})).await.json["disabled"], false);
    let ada = place.log_in("ada").await;
    assert_eq!(ada.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 1, "her images have stayed");
    program.get("/api/v1/images").await.assert_problem(401, "login_required");
}

/// As by another node: this one hears nothing of it, and looks.
#[tokio::test]
async fn an_event_stream_elsewhere_ends_in_time() {
    let place = Place::start(&options().set("INKPOOL_AUTH__LOOK_AGAIN_S", 1)).await;
    let ada = place.person("ada").await;
    let stream = stream(&ada).await;
    assert!(admin(place.data.path(), &["user", "disable", "ADA"], "").status.success());
    ada.get("/api/v1/session").await.assert_problem(401, "login_required");
    let after = ended(stream).await;
    assert!(after < Duration::from_secs(5), "{after:?}");
    assert!(admin(place.data.path(), &["user", "enable", "ada"], "").status.success());
    place.log_in("ada").await;
}

#[tokio::test]
async fn one_administrator_is_left() {
    let place = Place::start(&options()).await;
    let (root, ada) = (place.log_in("root").await, place.person("ada").await);
    let (root_id, ada_id) =
        (root.get("/api/v1/session").await.json["id"].clone(), ada.get("/api/v1/session").await.json["id"].clone());
    for change in [json!({"role": "user"}), json!({"disabled": true}), json!({"role": "user", "disabled": true})] {
        patch(&root, &root_id, change).await.assert_problem(409, "last_administrator");
    }
    assert_eq!(patch(&root, &ada_id, json!({"role": "admin"})).await.json["role"], "admin");
    // At once, without another login.
    assert_eq!(ada.get("/api/v1/cluster").await.status, 200);
    assert_eq!(patch(&ada, &root_id, json!({"role": "user"})).await.json["role"], "user");
    root.get("/api/v1/cluster").await.assert_problem(403, "administrators_only");
    patch(&ada, &ada_id, json!({"role": "user"})).await.assert_problem(409, "last_administrator");
    let by_hand = admin(place.data.path(), &["user", "role", "ada", "user"], "");
    assert_eq!(by_hand.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("one administrator"));
    patch(&ada, &json!("0199a3f0-1a2b-7c52-9d6c-000000000001"), json!({})).await.assert_problem(404, "not_found");
    patch(&ada, &root_id, json!({"role": "king"})).await.assert_problem(400, "invalid_json");
}

#[tokio::test]
async fn a_lost_password_is_set_anew() {
    let place = Place::start(&options()).await;
    let (root, ada) = (place.log_in("root").await, place.person("ada").await);
    let id = ada.get("/api/v1/session").await.json["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/accounts/{id}/password");
    root.put(&path, json!({"new_password": "password1"})).await.assert_problem(422, "password_refused");
    assert_eq!(root.put(&path, json!({"new_password": "nine crooked lamps"})).await.status, 204);
    ada.get("/api/v1/session").await.assert_problem(401, "login_required");
    place.try_log_in("ada", PASSWORD).await.assert_problem(401, "wrong_login");
    assert_eq!(place.try_log_in("ada", "nine crooked lamps").await.status, 200);
    let own = root.get("/api/v1/session").await.json["id"].as_str().unwrap().to_owned();
    let own = format!("/api/v1/accounts/{own}/password");
    root.put(&own, json!({"new_password": "nine crooked lamps"})).await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn failed_jobs_of_all_are_seen_and_begun_again() {
    let place = Place::start(&options()).await;
    let (root, ada, bob) = (place.log_in("root").await, place.person("ada").await, place.person("bob").await);
    let whole = pages::png(400, 300, 1);
    let mut ids = Vec::new();
    for person in [&ada, &bob] {
        let cut = whole[..whole.len() / 2].to_vec();
        let request = person.request("POST", "/api/v1/images?preset=photo&filename=cut.png").body(cut);
        let answer = Answer::of(request.send().await.unwrap()).await;
        let id = answer.json["items"][0]["job"]["id"].as_str().unwrap().to_owned();
        let job = place.server.wait_final_as(&id, |path| person.request("GET", path)).await;
        assert_eq!(job["state"], "failed");
        ids.push(id);
    }
    let failed = root.get("/api/v1/failed-jobs").await.json;
    let shown: Vec<_> = failed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["job"]["id"], &one["username"], &one["filename"]))
        .collect();
    let expected = [(json!(ids[1]), json!("bob"), json!("cut.png")), (json!(ids[0]), json!("ada"), json!("cut.png"))];
    assert_eq!(shown, expected.iter().map(|(id, name, file)| (id, name, file)).collect::<Vec<_>>());
    let page = root.get("/api/v1/failed-jobs?limit=1").await.json;
    let next = root.get(&format!("/api/v1/failed-jobs?cursor={}", page["next_cursor"].as_str().unwrap())).await.json;
    assert_eq!((page["items"].as_array().unwrap().len(), &next["items"][0]["job"]["id"]), (1, &json!(ids[0])));
    let retried = root.send("POST", &format!("/api/v1/failed-jobs/{}/retry", ids[0])).await;
    assert_eq!((retried.status, &retried.json["id"]), (200, &json!(ids[0])));
    let again = place.server.wait_final_as(&ids[0], |path| ada.request("GET", path)).await;
    assert_eq!((&again["state"], &again["attempt"]), (&json!("failed"), &json!(1)));
}

#[tokio::test]
async fn bounds_are_set_by_hand() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    let run = |arguments: &[&str]| admin(place.data.path(), arguments, "");
    let set = run(&["user", "quota", "ada", "--stored", "50G", "--pixels", "none", "--json"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let shown: Value = serde_json::from_slice(&set.stdout).unwrap();
    assert_eq!(shown["stored_bytes"], json!({"used": 0, "limit": 50_000_000_000_u64, "own": true}));
    assert_eq!(shown["pixels_per_day"], json!({"used": 0, "limit": null, "own": true}));
    assert_eq!(shown["jobs_queued"], json!({"used": 0, "limit": 1000, "own": false}));
    assert_eq!(ada.get("/api/v1/quota").await.json["stored_bytes"]["limit"], 50_000_000_000_u64);
    let text = run(&["user", "quota", "ada", "--stored", "default"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.lines().next().unwrap().ends_with("of 21474836480  (by the settings)"), "{text}");
    assert!(text.contains("no bound  (set for this account)"), "{text}");
    assert_eq!(run(&["user", "quota", "nobody"]).status.code(), Some(1));
    assert_eq!(run(&["user", "quota", "ada", "--jobs", "many"]).status.code(), Some(2));
    assert!(run(&["user", "disable", "ada"]).status.success());
    let list = String::from_utf8_lossy(&run(&["user", "list"]).stdout).into_owned();
    assert!(list.lines().any(|line| line.contains("off") && line.ends_with("ada")), "{list}");
}
