//! Images, jobs, presets and the cluster.

use inkpool::http::Job;
use inkpool::job::{JobError, OwnerId};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, png};

const NOBODY: &str = "0198c000-0000-7000-8000-000000000000";

#[tokio::test]
async fn lists_are_followed_by_their_cursor() {
    let server = Server::start().await;
    let mut uploaded = Vec::new();
    for _ in 0..5 {
        uploaded.push(server.upload().await);
    }
    uploaded.reverse();
    for (path, ids) in [
        ("/api/v1/images", uploaded.iter().map(|(image, _)| image.to_string()).collect::<Vec<_>>()),
        ("/api/v1/jobs", uploaded.iter().map(|(_, job)| job.to_string()).collect()),
    ] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let answer = server.get(&format!("{path}?limit=2{cursor}")).await;
            seen.extend(
                answer.json["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()),
            );
            pages += 1;
            match answer.json["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((seen, pages), (ids, 3), "{path}");
        assert_eq!(server.get(&format!("{path}?limit=5")).await.json["next_cursor"], Value::Null);
        for wrong in ["limit=0", "limit=501", "limit=x", "cursor=x"] {
            server.get(&format!("{path}?{wrong}")).await.assert_problem(400, "invalid_parameter");
        }
    }
}

#[tokio::test]
async fn jobs_are_listed_by_state() {
    let server = Server::start().await;
    let (_, done) = server.upload().await;
    server.succeed(done, "clean.png", b"clean").await;
    let (_, waiting) = server.upload().await;
    let ids = async |state: &str| {
        let answer = server.get(&format!("/api/v1/jobs?state={state}")).await;
        answer.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("succeeded").await, [done.to_string()]);
    assert_eq!(ids("queued").await, [waiting.to_string()]);
    assert!(ids("failed").await.is_empty());
    server.get("/api/v1/jobs?state=done").await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_finished_job_shows_its_files() {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    server.succeed(job, "clean.png", b"clean").await;
    let shown = server.get(&format!("/api/v1/images/{image}")).await.json;
    let names: Vec<_> = shown["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["original", "clean.png"]);
    assert_eq!(shown["files"][1]["size_bytes"], 5);
    assert_eq!(shown["files"][1]["url"], format!("/api/v1/images/{image}/files/clean.png"));
    let job: Job = serde_json::from_value(server.get(&format!("/api/v1/jobs/{job}")).await.json).unwrap();
    assert!(job.duration_ms.is_some() && job.finished_at.is_some() && job.slot == Some(0) && job.attempt == 1);
    assert_eq!(server.get("/api/v1/images").await.json["items"][0], shown);
}

#[tokio::test]
async fn a_deleted_image_is_gone() {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    server.begin(job).await;
    let url = server.url(&format!("/api/v1/images/{image}"));
    let deleted = Answer::of(server.client.delete(&url).send().await.unwrap()).await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(*server.actors.stopped.lock().unwrap(), [job], "the slot that runs it is told");
    server.get(&format!("/api/v1/images/{image}")).await.assert_problem(404, "not_found");
    server.get(&format!("/api/v1/images/{image}/files/original")).await.assert_problem(404, "not_found");
    server.get(&format!("/api/v1/jobs/{job}")).await.assert_problem(404, "not_found");
    Answer::of(server.client.delete(&url).send().await.unwrap()).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn an_image_is_processed_again() {
    let server = Server::start().await;
    let (image, first) = server.upload().await;
    let again = format!("/api/v1/images/{image}/jobs");
    let answer = server.post_json(&again, json!({"preset": "photo", "set": {"quality": "60"}})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!((&answer.json["preset"], &answer.json["image_id"]), (&json!("photo"), &json!(image)));
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{}", answer.json["id"].as_str().unwrap()));
    assert_eq!(server.get(&format!("/api/v1/images/{image}")).await.json["job_ids"], json!([first, answer.json["id"]]));
    server.post_json(&again, json!({"preset": "nope"})).await.assert_problem(422, "unknown_preset");
    server
        .post_json(&again, json!({"preset": "photo", "set": {"x": "1"}}))
        .await
        .assert_problem(422, "invalid_setting");
    server.post_json(&again, json!({"perset": "photo"})).await.assert_problem(400, "invalid_json");
    server.post(&again, "{}").await.assert_problem(415, "unsupported_media_type");
    let large = json!({"preset": "x".repeat(100_000)});
    server.post_json(&again, large).await.assert_problem(413, "body_too_large");
    server.post_json(&format!("/api/v1/images/{NOBODY}/jobs"), json!({})).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_and_retried() {
    let server = Server::start().await;
    let (_, job) = server.upload().await;
    let (cancel, retry) = (format!("/api/v1/jobs/{job}/cancel"), format!("/api/v1/jobs/{job}/retry"));
    server.post(&retry, "").await.assert_problem(409, "wrong_state");
    let cancelled = server.post(&cancel, "").await;
    assert_eq!((cancelled.status, &cancelled.json["state"]), (200, &json!("cancelled")));
    assert_eq!(server.post(&cancel, "").await.status, 200, "cancelling twice is no error");
    assert!(server.actors.stopped.lock().unwrap().is_empty());
    let retried = server.post(&retry, "").await;
    assert_eq!((retried.status, &retried.json["state"]), (200, &json!("queued")));
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop() {
    let server = Server::start().await;
    let (_, job) = server.upload().await;
    server.begin(job).await;
    let asked = server.post(&format!("/api/v1/jobs/{job}/cancel"), "").await;
    assert_eq!(
        (asked.status, &asked.json["state"], &asked.json["cancel_requested"]),
        (200, &json!("running"), &json!(true))
    );
    assert_eq!(*server.actors.stopped.lock().unwrap(), [job]);
}

#[tokio::test]
async fn a_failed_job_says_why_and_can_be_retried() {
    let server = Server::start().await;
    let (_, job) = server.upload().await;
    let error =
        JobError { signal: Some("SIGKILL".to_owned()), ..JobError::new("crashed", "It fell.", Some("decode"), true) };
    server.fail(job, error).await;
    let shown = server.get(&format!("/api/v1/jobs/{job}")).await.json;
    assert_eq!(
        shown["error"],
        json!({"code": "crashed", "detail": "It fell.", "stage": "decode", "retryable": true, "signal": "SIGKILL"})
    );
    server.post(&format!("/api/v1/jobs/{job}/cancel"), "").await.assert_problem(409, "wrong_state");
    assert_eq!(server.post(&format!("/api/v1/jobs/{job}/retry"), "").await.json["state"], "queued");
}

#[tokio::test]
async fn what_belongs_to_another_owner_is_not_there() {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    assert!(server.ledger.image(OwnerId::fresh(), image).await.unwrap().is_none());
    assert!(server.ledger.job(OwnerId::fresh(), job).await.unwrap().is_none());
    for id in [NOBODY, "nonsense", "1"] {
        server.get(&format!("/api/v1/images/{id}")).await.assert_problem(404, "not_found");
        server.get(&format!("/api/v1/images/{id}/files/original")).await.assert_problem(404, "not_found");
        server.get(&format!("/api/v1/jobs/{id}")).await.assert_problem(404, "not_found");
        server.get(&format!("/api/v1/jobs/{id}/events")).await.assert_problem(404, "not_found");
        server.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.assert_problem(404, "not_found");
        server.post(&format!("/api/v1/jobs/{id}/retry"), "").await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn presets_and_limits_are_said() {
    let server = Server::start().await;
    let presets = server.get("/api/v1/presets").await.json;
    assert_eq!(presets["items"][0]["name"], "document");
    assert_eq!(
        presets["items"][0]["outputs"],
        json!(["original", "clean.png", "clean.webp", "thumb.webp", "clean.pdf"])
    );
    assert_eq!(presets["items"][1]["outputs"], json!(["original", "full.webp", "crop.webp", "thumb.webp"]));
    assert!(presets["items"][0]["steps"].as_array().unwrap().contains(&json!("denoise")));
    assert!(presets["items"].as_array().unwrap().iter().all(|preset| preset["title"].is_string()));
    assert_eq!(server.get("/api/v1/limits").await.json["body_bytes_max"], 67_108_864);
}

#[tokio::test]
async fn the_cluster_is_shown_and_changed() {
    let server = Server::start().await;
    let (_, running) = server.upload().await;
    server.begin(running).await;
    server.upload().await;
    let cluster = server.get("/api/v1/cluster").await.json;
    assert_eq!(cluster["nodes"][0]["slots"][1]["state"], "warm");
    let queue = &cluster["queues"][0];
    assert_eq!((&queue["lane"], &queue["queued"], &queue["running"]), (&json!("interactive"), &json!(1), &json!(1)));
    let patch = async |id: &str, body: Value| {
        let request = server.client.patch(server.url(&format!("/api/v1/cluster/nodes/{id}"))).json(&body);
        Answer::of(request.send().await.unwrap()).await
    };
    let changed = patch("node-1", json!({"slots_count": 5, "draining": true})).await;
    assert_eq!(
        (changed.status, &changed.json["slots_count"], &changed.json["draining"]),
        (200, &json!(5), &json!(true))
    );
    patch("node-9", json!({"draining": true})).await.assert_problem(404, "not_found");
    let refused = patch("node-1", json!({"slots_count": 65})).await;
    refused.assert_problem(422, "too_many_slots");
    assert_eq!(refused.json["limit"], "64 slots");
    patch("node-1", json!({"slots_count": 0})).await.assert_problem(400, "invalid_parameter");
    let same = patch("node-1", json!({"slots_count": null})).await;
    assert_eq!((same.status, &same.json), (200, &changed.json), "what is left out stays");
    patch("node-1", json!({"slots_count": -1})).await.assert_problem(400, "invalid_json");
    patch("node-1", json!([3, true])).await.assert_problem(400, "invalid_json");
}

#[tokio::test]
async fn retry_after_follows_the_work_ahead() {
    let server = Server::start_with(|config| config.jobs.queue_jobs_max = 1).await;
    let (_, first) = server.upload().await;
    let refused = server.post("/api/v1/images", png(8, 8)).await;
    assert_eq!(refused.header("retry-after"), "1");
    server.succeed(first, "clean.png", b"clean").await;
    assert_eq!(server.post("/api/v1/images", png(8, 8)).await.status, 202, "a finished job makes room");
}
