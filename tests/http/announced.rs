//! Announced uploads on local disk: signed paths that take what was announced and nothing else.

use base64::Engine;
use inkpool::blobs::Key;
use inkpool::job::{OwnerId, UploadId};
use inkpool::store::{Announced, AnnouncedUpload};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::harness::{Answer, Server, encoded, parse, png};

/// What a client says of these bytes.
fn file(bytes: &[u8], content_type: &str) -> Value {
    let sha256 = hex::encode(Sha256::digest(bytes));
    json!({"filename": "page.png", "size_bytes": bytes.len(), "sha256": sha256, "content_type": content_type})
}

async fn announce(server: &Server, file: Value) -> Value {
    let answer = server.post_json("/api/v1/uploads", json!({"preset": "document", "files": [file]})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let target = answer.json["items"][0].clone();
    assert_eq!(target["method"], "PUT");
    target
}

/// Puts `bytes` to the target, with its headers as they are; the length is that of the bytes.
async fn put(server: &Server, target: &Value, bytes: &[u8]) -> Answer {
    put_with(server, target, bytes, &[]).await
}

async fn put_with(server: &Server, target: &Value, bytes: &[u8], changed: &[(&str, &str)]) -> Answer {
    let mut request = server.client.put(server.url(target["url"].as_str().unwrap())).body(bytes.to_vec());
    for (name, value) in target["headers"].as_object().unwrap() {
        let value = changed.iter().find(|(other, _)| other == name).map_or(value.as_str().unwrap(), |(_, value)| value);
        if name != "content-length" {
            request = request.header(name, value);
        }
    }
    Answer::of(request.send().await.unwrap()).await
}

async fn complete(server: &Server, target: &Value) -> Answer {
    server.post(&format!("/api/v1/uploads/{}/complete", target["id"].as_str().unwrap()), "").await
}

#[tokio::test]
async fn an_announced_upload_becomes_an_image_once() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let target = announce(&server, file(&bytes, "image/png")).await;
    complete(&server, &target).await.assert_problem(409, "not_uploaded");
    assert_eq!(put(&server, &target, &bytes).await.status, 200);
    let answer = complete(&server, &target).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = answer.json["job"]["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{job}"));
    let image = &answer.json["image"];
    assert_eq!((&image["filename"], &image["width_px"]), (&"page.png".into(), &40.into()));
    let again = complete(&server, &target).await;
    assert_eq!((again.status, &again.json["image"]["id"], &again.json["job"]["id"]), (202, &image["id"], &job.into()));
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 1);
    let original = server.client.get(server.url(image["files"][0]["url"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(original.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn completing_at_once_from_many_sides_makes_one_image() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let target = announce(&server, file(&bytes, "image/png")).await;
    assert_eq!(put(&server, &target, &bytes).await.status, 200);
    let answers = futures::future::join_all((0..8).map(|_| complete(&server, &target))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.json["image"]["id"]), (202, &answers[0].json["image"]["id"]), "{answer:?}");
    }
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_url_is_used_once_and_changes_nothing_later() {
    let server = Server::start().await;
    let (bytes, other) = (png(40, 30), png(30, 40));
    let target = announce(&server, file(&bytes, "image/png")).await;
    assert_eq!(put(&server, &target, &bytes).await.status, 200);
    put(&server, &target, &bytes).await.assert_problem(412, "already_uploaded");
    let image = complete(&server, &target).await.json["image"].clone();
    // A swap after the completion.
    put(&server, &target, &bytes).await.assert_problem(412, "already_uploaded");
    let changed = put(&server, &target, &other).await;
    assert!(changed.status == 403 || changed.status == 412, "{changed:?}");
    let original = server.client.get(server.url(image["files"][0]["url"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(original.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn only_the_announced_bytes_are_taken() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let mut swapped = bytes.clone();
    *swapped.last_mut().unwrap() ^= 1;
    let target = announce(&server, file(&bytes, "image/png")).await;
    put(&server, &target, &swapped).await.assert_problem(422, "upload_differs");
    put(&server, &target, &[&bytes[..], b"x"].concat()).await.assert_problem(403, "url_not_valid");
    put(&server, &target, &bytes[1..]).await.assert_problem(403, "url_not_valid");
    put(&server, &target, b"").await.assert_problem(403, "url_not_valid");
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&swapped));
    let header = [("x-amz-checksum-sha256", digest.as_str())];
    put_with(&server, &target, &swapped, &header).await.assert_problem(403, "url_not_valid");
    put_with(&server, &target, &bytes, &[("content-type", "image/gif")]).await.assert_problem(403, "url_not_valid");
    put_with(&server, &target, &bytes, &[("if-none-match", "\"x\"")]).await.assert_problem(403, "url_not_valid");
    complete(&server, &target).await.assert_problem(409, "not_uploaded");
    // None of that keeps the right bytes out.
    assert_eq!(put(&server, &target, &bytes).await.status, 200);
    assert_eq!(complete(&server, &target).await.status, 202);
}

#[tokio::test]
async fn a_url_stands_for_one_upload_and_one_time() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let target = announce(&server, file(&bytes, "image/png")).await;
    let other = announce(&server, file(&bytes, "image/png")).await;
    let url = target["url"].as_str().unwrap();
    let (path, query) = url.split_once('?').unwrap();
    let expires: i64 = query.split(['=', '&']).nth(1).unwrap().parse().unwrap();
    let forged = [
        url.replace(target["id"].as_str().unwrap(), other["id"].as_str().unwrap()),
        url.replace(&expires.to_string(), &(expires + 1).to_string()),
        format!("{path}?expires={expires}&signature={}", "00".repeat(32)),
        format!("{path}?expires={expires}&signature=x"),
    ];
    for url in forged {
        let forged = json!({"url": url, "headers": target["headers"]});
        put(&server, &forged, &bytes).await.assert_problem(403, "url_not_valid");
    }
    put(&server, &json!({"url": path, "headers": {}}), &bytes).await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn an_expired_url_takes_nothing() {
    let server = Server::start_with(|config| config.uploads.expires_s = 0).await;
    let bytes = png(40, 30);
    let target = announce(&server, file(&bytes, "image/png")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    put(&server, &target, &bytes).await.assert_problem(403, "url_expired");
    complete(&server, &target).await.assert_problem(409, "not_uploaded");
}

#[tokio::test]
async fn what_is_no_such_image_is_not_completed() {
    let server = Server::start().await;
    let text = b"This is no image, whatever its type says.".to_vec();
    let target = announce(&server, file(&text, "image/png")).await;
    assert_eq!(put(&server, &target, &text).await.status, 200);
    complete(&server, &target).await.assert_problem(422, "upload_differs");
    let gif = encoded(4, 4, image::ImageFormat::Gif);
    let target = announce(&server, file(&gif, "image/png")).await;
    assert_eq!(put(&server, &target, &gif).await.status, 200);
    complete(&server, &target).await.assert_problem(422, "upload_differs");
    let cut = &png(40, 30)[..20];
    let target = announce(&server, file(cut, "image/png")).await;
    assert_eq!(put(&server, &target, cut).await.status, 200);
    complete(&server, &target).await.assert_problem(422, "malformed");
    assert_eq!(server.get("/api/v1/images").await.json["items"], json!([]));
}

#[tokio::test]
async fn announcements_are_looked_at() {
    let server = Server::start_with(|config| config.http.body_bytes_max = 1000).await;
    let right = file(b"abc", "image/png");
    let with = |name: &str, value: Value| {
        let mut file = right.clone();
        file[name] = value;
        json!({"files": [file]})
    };
    for (body, status, code) in [
        (with("size_bytes", 0.into()), 400, "empty_body"),
        (with("size_bytes", 1001.into()), 413, "body_too_large"),
        (with("sha256", "abc".into()), 400, "invalid_parameter"),
        (with("sha256", "x".repeat(64).into()), 400, "invalid_parameter"),
        (with("content_type", "text/html".into()), 415, "unsupported_format"),
        (with("else", 1.into()), 400, "invalid_json"),
        (json!({"files": []}), 422, "missing_file"),
        (json!({"preset": "none", "files": [right]}), 422, "unknown_preset"),
        (json!({"files": vec![right.clone(); 101]}), 413, "too_many_parts"),
    ] {
        server.post_json("/api/v1/uploads", body).await.assert_problem(status, code);
    }
    assert_eq!(server.post_json("/api/v1/uploads", json!({"files": [right.clone(), right]})).await.status, 201);
}

#[tokio::test]
async fn open_uploads_are_bounded() {
    let server = Server::start_with(|config| config.uploads.open_max = 2).await;
    let right = file(b"abc", "image/png");
    let two = json!({"files": [right.clone(), right.clone()]});
    assert_eq!(server.post_json("/api/v1/uploads", two).await.status, 201);
    let refused = server.post_json("/api/v1/uploads", json!({"files": [right]})).await;
    refused.assert_problem(503, "too_many_uploads");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 901);
}

#[tokio::test]
async fn another_owners_upload_is_not_there() {
    let server = Server::start().await;
    let (bytes, id) = (png(40, 30), UploadId::fresh());
    let upload = AnnouncedUpload {
        id,
        owner: OwnerId::fresh(),
        filename: "page.png".to_owned(),
        content_type: "image/png".to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(&bytes)),
        preset: "document".to_owned(),
        set: std::collections::BTreeMap::new(),
        lane: None,
        dedup: false,
        expires_at_ms: i64::MAX,
    };
    assert_eq!(server.ledger.announce(vec![upload], 10, None).await.unwrap(), Announced::Created);
    let whole = futures::stream::iter([Ok(bytes.into())]);
    server.blobs.put_stream(&Key::Upload(id), whole, u64::MAX).await.unwrap();
    let theirs = complete(&server, &json!({"id": id.to_string()})).await;
    theirs.assert_problem(404, "not_found");
    let nobodys = complete(&server, &json!({"id": UploadId::fresh().to_string()})).await;
    assert_eq!(theirs.json, nobodys.json);
}

#[tokio::test]
async fn wrong_bytes_in_the_store_are_not_believed() {
    let server = Server::start().await;
    let (bytes, other) = (png(40, 30), png(41, 30));
    let target = announce(&server, file(&bytes, "image/png")).await;
    let key = Key::Upload(parse(&target["id"]));
    for wrong in [other, [&bytes[..], b"x"].concat(), {
        let mut swapped = bytes.clone();
        *swapped.last_mut().unwrap() ^= 1;
        swapped
    }] {
        let whole = futures::stream::iter([Ok(wrong.into())]);
        server.blobs.put_stream(&key, whole, u64::MAX).await.unwrap();
        complete(&server, &target).await.assert_problem(422, "upload_differs");
    }
    // They are gone, so that the right ones can still come.
    assert_eq!(put(&server, &target, &bytes).await.status, 200);
    assert_eq!(complete(&server, &target).await.status, 202);
}
