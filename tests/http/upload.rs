//! `POST /images` against a real server, ledger and object store.

use std::sync::atomic::Ordering;

use crate::harness::{Answer, Server, encoded, parse, png};
use inkpool::blobs::Key;
use inkpool::http::Job;
use inkpool::job::{ImageId, JobId, OwnerId};
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn part(bytes: Vec<u8>, filename: &str) -> Part {
    Part::bytes(bytes).file_name(filename.to_owned())
}

async fn send_form(server: &Server, form: Form) -> Answer {
    Answer::of(server.client.post(server.url("/api/v1/images")).multipart(form).send().await.unwrap()).await
}

async fn send_with_key(server: &Server, key: &str, query: &str, bytes: Vec<u8>) -> Answer {
    let request = server.client.post(server.url(&format!("/api/v1/images{query}"))).header("idempotency-key", key);
    Answer::of(request.body(bytes).send().await.unwrap()).await
}

#[tokio::test]
async fn raw_bytes_become_an_image_and_a_job() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let answer = server.post("/api/v1/images?preset=photo&filename=Seite%201.png", bytes.clone()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let (image, job) = (&answer.json["items"][0]["image"], &answer.json["items"][0]["job"]);
    assert_eq!(image["filename"], "Seite 1.png");
    assert_eq!(image["content_type"], "image/png");
    assert_eq!(image["size_bytes"], bytes.len());
    assert_eq!(image["sha256"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!((&image["width_px"], &image["height_px"], &image["pages_count"]), (&40.into(), &30.into(), &1.into()));
    assert_eq!(image["job_ids"], serde_json::json!([job["id"]]));
    assert_eq!(image["files"][0]["name"], "original");
    assert_eq!(job["state"], "queued");
    assert_eq!(job["preset"], "photo");
    serde_json::from_value::<Job>(job.clone()).expect("the documented shape is the real one");
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!(server.actors.arrivals.load(Ordering::SeqCst), 1);
    let same = server.get(image["files"][0]["url"].as_str().unwrap()).await;
    assert_eq!(same.body, bytes);
    assert_eq!(server.get(answer.header("location")).await.json, *job);
}

#[tokio::test]
async fn a_form_takes_several_files_and_settings() {
    let server = Server::start().await;
    let form = Form::new()
        .part("file", part(png(40, 30), "a.png"))
        .part("file", part(encoded(20, 10, image::ImageFormat::Jpeg), "b.jpg"))
        .text("preset", "photo")
        .text("set.quality", "55")
        .text("lane", "bulk");
    let answer = send_form(&server, form).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let items = answer.json["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|item| item["image"]["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.jpg"]);
    for item in items {
        assert_eq!((&item["job"]["preset"], &item["job"]["lane"]), (&"photo".into(), &"bulk".into()));
        let row = server.ledger.job(OwnerId::LOCAL, parse::<JobId>(&item["job"]["id"])).await.unwrap().unwrap();
        assert!(row.spec.to_string().contains("\"quality\":55"), "{}", row.spec);
    }
    assert!(answer.header("location").ends_with(items[0]["job"]["id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_refused_part_does_not_stop_the_others() {
    let server = Server::start().await;
    let large_and_wrong = vec![b'x'; 3 << 20];
    let form = Form::new()
        .part("file", part(large_and_wrong, "notes.txt"))
        .part("file", part(png(40, 30), "a.png"))
        .part("file", part(Vec::new(), "nothing.png"));
    let answer = send_form(&server, form).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let items = answer.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(items[0]["error"]["code"], "unsupported_format");
    assert_eq!(items[0]["error"]["status"], 415);
    assert_eq!((&items[0]["filename"], &items[0]["image"]), (&"notes.txt".into(), &Value::Null));
    assert!(items[0].get("job").is_none() && items[1].get("error").is_none());
    assert_eq!(items[1]["image"]["filename"], "a.png");
    assert_eq!(items[2]["error"]["code"], "empty_body");
    assert_eq!(server.objects().len(), 1);
}

#[tokio::test]
async fn if_all_parts_are_refused_the_first_gives_the_status() {
    let server = Server::start().await;
    let form =
        Form::new().part("file", part(b"%!PS-Adobe ...".to_vec(), "a.ps")).part("file", part(Vec::new(), "b.png"));
    send_form(&server, form).await.assert_problem(415, "unsupported_format");
    send_form(&server, Form::new().text("preset", "photo")).await.assert_problem(422, "missing_file");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_form_has_a_bounded_number_of_parts_and_short_fields() {
    let server = Server::start_with(|config| config.http.parts_max = 2).await;
    let three = (0..3).fold(Form::new(), |form, _| form.part("file", part(png(8, 8), "a.png")));
    send_form(&server, three).await.assert_problem(413, "too_many_parts");
    let many = (0..70).fold(Form::new(), |form, _| form.text("set", "quality=70"));
    send_form(&server, many).await.assert_problem(413, "too_many_parts");
    send_form(&server, Form::new().text("preset", "x".repeat(5000))).await.assert_problem(400, "invalid_parameter");
    send_form(&server, Form::new().part("image", part(png(8, 8), "a"))).await.assert_problem(400, "invalid_parameter");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_asked_for_must_exist() {
    let server = Server::start().await;
    server.post("/api/v1/images?preset=nope", png(8, 8)).await.assert_problem(422, "unknown_preset");
    server.post("/api/v1/images?set=nope%3D1", png(8, 8)).await.assert_problem(422, "invalid_setting");
    server.post("/api/v1/images?colour=1", png(8, 8)).await.assert_problem(400, "invalid_parameter");
    server.post("/api/v1/images?lane=fast", png(8, 8)).await.assert_problem(400, "invalid_parameter");
    let form = Form::new().part("file", part(png(8, 8), "a.png")).text("preset", "nope");
    send_form(&server, form).await.assert_problem(422, "unknown_preset");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn filenames_are_made_harmless() {
    let server = Server::start().await;
    for (claimed, kept) in [
        ("..%2F..%2Fetc%2Fpasswd", "passwd".to_owned()),
        ("a%00b%0D%0ASet-Cookie:%20x.png", "abSet-Cookie: x.png".to_owned()),
        ("photo%E2%80%AEgnp.exe", "photognp.exe".to_owned()),
        (&"n".repeat(300), "n".repeat(255)),
        ("", "image".to_owned()),
    ] {
        let answer = server.post(&format!("/api/v1/images?filename={claimed}"), png(8, 8)).await;
        assert_eq!(answer.json["items"][0]["image"]["filename"], kept, "{answer:?}");
        let url = answer.json["items"][0]["image"]["files"][0]["url"].as_str().unwrap();
        let file = server.get(&format!("{url}?download=1")).await;
        let disposition = file.header("content-disposition");
        assert!(disposition.starts_with("attachment; filename=\"") && !file.headers.contains_key("set-cookie"));
        assert!(disposition.len() < 1200);
    }
    // Keys of objects never hold a name that a client chose.
    assert!(server.objects().iter().all(|path| path.ends_with("original")));
}

#[tokio::test]
async fn the_same_key_and_bytes_have_one_effect() {
    let server = Server::start().await;
    let first = send_with_key(&server, "k1", "?filename=a.png", png(40, 30)).await;
    let second = send_with_key(&server, "k1", "?filename=a.png", png(40, 30)).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json, second.json);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(server.objects().len(), 1);
    for (query, bytes) in [
        ("?filename=a.png", png(40, 31)),
        ("?filename=b.png", png(40, 30)),
        ("?filename=a.png&preset=photo", png(40, 30)),
    ] {
        let other = send_with_key(&server, "k1", query, bytes).await;
        other.assert_problem(422, "idempotency_key_reused");
    }
    assert_eq!(server.objects().len(), 1);
    assert_eq!(server.ledger.images(OwnerId::LOCAL, None, 10).await.unwrap().len(), 1);
    for wrong in ["", "two words", &"k".repeat(256)] {
        send_with_key(&server, wrong, "", png(40, 30)).await.assert_problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn requests_with_one_key_at_the_same_time_have_one_effect() {
    let server = Server::start().await;
    let requests = (0..8).map(|_| send_with_key(&server, "k", "", png(40, 30)));
    let answers = futures::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.json == answers[0].json), "{answers:?}");
    assert_eq!(server.objects().len(), 1);
}

#[tokio::test]
async fn a_replayed_answer_says_what_was_deleted() {
    let server = Server::start().await;
    let first = send_with_key(&server, "k", "", png(40, 30)).await;
    let image: ImageId = parse(&first.json["items"][0]["image"]["id"]);
    server.ledger.delete_image(OwnerId::LOCAL, image).await.unwrap();
    let second = send_with_key(&server, "k", "", png(40, 30)).await;
    assert_eq!(second.status, 202);
    assert_eq!(second.json["items"][0]["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_full_queue_is_said_before_a_byte_is_read() {
    let server = Server::start_with(|config| config.jobs.queue_jobs_max = 2).await;
    let keyed = send_with_key(&server, "k", "", png(40, 30)).await;
    server.upload().await;
    let refused = server.raw(b"POST /api/v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\"code\":\"queue_full\""), "{refused}");
    let answer = server.post("/api/v1/images", png(40, 30)).await;
    answer.assert_problem(503, "queue_full");
    assert_eq!((&answer.json["limit"], &answer.json["measured"]), (&"2 jobs".into(), &"2 jobs".into()));
    assert_eq!(server.objects().len(), 2);
    // What was answered before is answered again.
    assert_eq!(send_with_key(&server, "k", "", png(40, 30)).await.json, keyed.json);
    assert_eq!(server.objects().len(), 2);
    let again = serde_json::json!({"preset": "photo"});
    let url = format!("/api/v1/images/{}/jobs", keyed.json["items"][0]["image"]["id"].as_str().unwrap());
    server.post_json(&url, again).await.assert_problem(503, "queue_full");
}

#[tokio::test]
async fn a_batch_that_does_not_fit_leaves_nothing() {
    let server = Server::start_with(|config| config.jobs.queue_jobs_max = 2).await;
    let three = (0..3).fold(Form::new(), |form, _| form.part("file", part(png(8, 8), "a.png")));
    send_form(&server, three).await.assert_problem(503, "queue_full");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_disk_below_its_watermark_takes_nothing() {
    let server = Server::start_with(|config| config.blobs.free_bytes_min = u64::MAX / 2).await;
    let answer = server.post("/api/v1/images", png(40, 30)).await;
    answer.assert_problem(507, "storage_full");
    assert!(answer.json["limit"].is_string() && answer.json["remedy"].is_string());
    server.get("/readyz").await.assert_problem(503, "not_ready");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn uploads_at_once_are_bounded() {
    let server = Server::start_with(|config| config.http.uploads_max = 0).await;
    server.post("/api/v1/images", png(40, 30)).await.assert_problem(503, "overloaded");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_large_upload_goes_to_disk_piece_by_piece() {
    let server = Server::start().await;
    // 20 MB that no buffer of the server could hold by accident: a BMP, whose size the header says.
    let bytes = encoded(3000, 2200, image::ImageFormat::Bmp);
    let size = bytes.len();
    let pieces: Vec<_> = bytes.chunks(7919).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let answer = server.post("/api/v1/images", body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let image: ImageId = parse(&answer.json["items"][0]["image"]["id"]);
    assert_eq!(server.blobs.head(&Key::Original(image)).await.unwrap(), size as u64);
    assert_eq!(answer.json["items"][0]["image"]["sha256"], hex::encode(Sha256::digest(&bytes)));
}

#[tokio::test]
async fn an_upload_is_recalled_by_its_key() {
    let server = Server::start().await;
    server.get("/api/v1/submissions/k1").await.assert_problem(404, "not_found");
    let sent = send_with_key(&server, "k1", "?preset=photo&filename=a.png", png(40, 30)).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let job: JobId = parse(&sent.json["items"][0]["job"]["id"]);
    server.succeed(job, "full.webp", b"whole").await;
    let told = server.get("/api/v1/submissions/k1").await;
    assert_eq!(told.status, 200, "{told:?}");
    let item = &told.json["items"][0];
    assert_eq!(item["image"]["id"], sent.json["items"][0]["image"]["id"]);
    assert_eq!((&item["job"]["id"], &item["job"]["state"]), (&sent.json["items"][0]["job"]["id"], &"succeeded".into()));
    assert_eq!(item["image"]["files"].as_array().unwrap().len(), 2, "as it is now");
    let image = item["image"]["id"].as_str().unwrap();
    server.client.delete(server.url(&format!("/api/v1/images/{image}"))).send().await.unwrap();
    let deleted = server.get("/api/v1/submissions/k1").await;
    assert_eq!(deleted.json["items"][0]["error"]["code"], "not_found");
    // Keys of the server's own, and what can be none, are nobody's.
    for key in ["upload%20x", "%20", "a%20b", &"k".repeat(256)] {
        server.get(&format!("/api/v1/submissions/{key}")).await.assert_problem(404, "not_found");
    }
}
