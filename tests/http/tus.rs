//! Uploads that come in pieces: the protocol tus 1.0.0, header by header.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inkpool::job::OwnerId;
use inkpool::store::resumable::Held;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::harness::{Answer, PATIENCE, Server, encoded, parse};

const BYTES: &str = "application/offset+octet-stream";

/// A picture of many pieces: 4096 bytes each, as the tests have it.
fn large() -> Vec<u8> {
    encoded(120, 90, image::ImageFormat::Bmp)
}

async fn start() -> Server {
    Server::start_with(|config| config.tus.piece_bytes = 4096).await
}

async fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = server.client.request(Method::from_bytes(method.as_bytes()).unwrap(), server.url(path));
    if !headers.iter().any(|(name, _)| *name == "tus-resumable") {
        request = request.header("tus-resumable", "1.0.0");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = Answer::of(request.body(body.to_vec()).send().await.unwrap()).await;
    assert_eq!(answer.header("tus-resumable"), "1.0.0", "{method} {path}: {answer:?}");
    answer
}

fn metadata(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name} {}", BASE64.encode(value))).collect::<Vec<_>>().join(",")
}

/// Begins one; its path.
async fn begin(server: &Server, size_bytes: usize) -> String {
    let said = metadata(&[("filename", "скан.bmp"), ("preset", "photo"), ("filetype", "image/bmp")]);
    let size = size_bytes.to_string();
    let headers = [("upload-length", size.as_str()), ("upload-metadata", said.as_str())];
    let answer = send(server, "POST", "/api/v1/tus", &headers, b"").await;
    assert_eq!((answer.status, answer.header("upload-offset")), (201, "0"), "{answer:?}");
    assert!(answer.header("upload-expires").ends_with(" GMT"), "{answer:?}");
    answer.header("location").to_owned()
}

async fn patch(server: &Server, path: &str, offset: usize, bytes: &[u8]) -> Answer {
    patch_with(server, path, offset, bytes, &[]).await
}

async fn patch_with(server: &Server, path: &str, offset: usize, bytes: &[u8], more: &[(&str, &str)]) -> Answer {
    let offset = offset.to_string();
    let mut headers = vec![("upload-offset", offset.as_str()), ("content-type", BYTES)];
    headers.extend(more);
    send(server, "PATCH", path, &headers, bytes).await
}

async fn offset(server: &Server, path: &str) -> usize {
    let answer = send(server, "HEAD", path, &[], b"").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    answer.header("upload-offset").parse().unwrap()
}

/// The image is what was sent, and is there once; the image's id.
async fn assert_whole(server: &Server, path: &str, bytes: &[u8]) -> String {
    let shown = server.get(path).await;
    assert_eq!((shown.status, &shown.json["offset_bytes"]), (200, &bytes.len().into()), "{shown:?}");
    let image = shown.json["item"]["image"]["id"].as_str().unwrap();
    let original = server.client.get(server.url(&format!("/api/v1/images/{image}/files/original"))).send().await;
    assert_eq!(original.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.objects().len(), 1, "{:?}", server.objects());
    image.to_owned()
}

#[tokio::test]
async fn what_is_spoken_is_told() {
    let server = Server::start().await;
    let answer = send(&server, "OPTIONS", "/api/v1/tus", &[], b"").await;
    assert_eq!((answer.status, answer.header("tus-version")), (204, "1.0.0"));
    assert_eq!(answer.header("tus-extension"), "creation,creation-with-upload,expiration,checksum,termination");
    assert_eq!((answer.header("tus-max-size"), answer.header("tus-checksum-algorithm")), ("67108864", "sha1,sha256"));
    // Other versions, and none.
    let path = begin(&server, 10).await;
    for version in ["0.2.2", "1.0.1", ""] {
        for (method, path) in [("POST", "/api/v1/tus"), ("PATCH", &path), ("DELETE", &path), ("POST", &path)] {
            let answer = send(&server, method, path, &[("tus-resumable", version)], b"").await;
            answer.assert_problem(412, "tus_version");
            assert_eq!(answer.header("tus-version"), "1.0.0");
        }
        assert_eq!(send(&server, "HEAD", &path, &[("tus-resumable", version)], b"").await.status, 412);
    }
}

#[tokio::test]
async fn an_upload_comes_in_pieces_and_becomes_an_image_with_a_job() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let first = patch(&server, &path, 0, &bytes[..10_000]).await;
    assert_eq!((first.status, first.header("upload-offset")), (204, "10000"), "{first:?}");
    assert_eq!((first.header("inkpool-job"), first.header("location")), ("", ""));
    assert_eq!(offset(&server, &path).await, 10_000);
    let shown = server.get(&path).await.json;
    assert_eq!((&shown["filename"], &shown["item"]), (&"скан.bmp".into(), &Value::Null));
    let second = patch(&server, &path, 10_000, &bytes[10_000..10_001]).await;
    assert_eq!((second.status, second.header("upload-offset")), (204, "10001"));
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 0);

    let last = patch(&server, &path, 10_001, &bytes[10_001..]).await;
    assert_eq!((last.status, last.header("upload-offset")), (204, bytes.len().to_string().as_str()), "{last:?}");
    assert_eq!(last.header("location"), format!("/api/v1/jobs/{}", last.header("inkpool-job")));
    let image = assert_whole(&server, &path, &bytes).await;
    assert_eq!(last.header("inkpool-image"), image);
    let job = server.get(last.header("location")).await.json;
    assert_eq!((&job["preset"], &job["image_id"]), (&"photo".into(), &image.as_str().into()));
    let image = server.get(&format!("/api/v1/images/{image}")).await.json;
    assert_eq!((&image["filename"], &image["width_px"]), (&"скан.bmp".into(), &120.into()));
    assert_eq!(server.actors.arrivals.load(std::sync::atomic::Ordering::SeqCst), 1);

    // Who missed the answer is told again.
    let head = send(&server, "HEAD", &path, &[], b"").await;
    assert_eq!(
        (head.header("inkpool-job"), head.header("upload-length")),
        (last.header("inkpool-job"), last.header("upload-offset"))
    );
    let again = patch(&server, &path, bytes.len(), b"").await;
    assert_eq!((again.status, again.header("inkpool-job")), (204, last.header("inkpool-job")));
    patch(&server, &path, bytes.len(), b"x").await.assert_problem(413, "body_too_large");
}

#[tokio::test]
async fn the_first_bytes_may_come_at_once() {
    let server = start().await;
    let bytes = large();
    let size = bytes.len().to_string();
    let headers = [("upload-length", size.as_str()), ("content-type", BYTES)];
    let begun = send(&server, "POST", "/api/v1/tus", &headers, &bytes[..9000]).await;
    assert_eq!((begun.status, begun.header("upload-offset")), (201, "9000"), "{begun:?}");
    let path = begun.header("location").to_owned();
    assert_eq!(patch(&server, &path, 9000, &bytes[9000..]).await.status, 204);
    let whole = send(&server, "POST", "/api/v1/tus", &headers, &bytes).await;
    assert_eq!((whole.status, whole.header("upload-offset")), (201, size.as_str()), "{whole:?}");
    assert!(whole.header("location").starts_with("/api/v1/tus/") && !whole.header("inkpool-job").is_empty());
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 2);
    // What is refused leaves nothing.
    let refused = send(&server, "POST", "/api/v1/tus", &headers, &vec![b'x'; 9000]).await;
    refused.assert_problem(415, "unsupported_format");
    assert_eq!(server.objects().len(), 2);
}

#[tokio::test]
async fn beginnings_are_looked_at() {
    let server = Server::start_with(|config| config.http.body_bytes_max = 1000).await;
    let post = async |headers: &[(&str, &str)]| send(&server, "POST", "/api/v1/tus", headers, b"").await;
    let preset = metadata(&[("preset", "none")]);
    let quality = metadata(&[("set.quality", "700")]);
    for (headers, status, code) in [
        (&[][..], 400, "invalid_parameter"),
        (&[("upload-length", "-1")], 400, "invalid_parameter"),
        (&[("upload-length", "ten")], 400, "invalid_parameter"),
        (&[("upload-defer-length", "1")], 400, "invalid_parameter"),
        (&[("upload-length", "0")], 400, "empty_body"),
        (&[("upload-length", "1001")], 413, "body_too_large"),
        (&[("upload-length", "99999999999999999999999999")], 413, "body_too_large"),
        (&[("upload-length", "9"), ("upload-metadata", "filename %")], 400, "invalid_parameter"),
        (&[("upload-length", "9"), ("upload-metadata", &preset)], 422, "unknown_preset"),
        (&[("upload-length", "9"), ("upload-metadata", &quality)], 422, "invalid_setting"),
        (&[("upload-length", "9"), ("idempotency-key", "with a space")], 400, "invalid_parameter"),
    ] {
        let answer = post(headers).await;
        assert_eq!((answer.status, answer.json["code"].as_str()), (status, Some(code)), "{headers:?}");
        answer.assert_problem(status, code);
    }
    assert_eq!(post(&[("upload-length", "1000")]).await.status, 201);
}

#[tokio::test]
async fn bytes_go_where_the_upload_goes_on() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    assert_eq!(patch(&server, &path, 0, &bytes[..5000]).await.status, 204);
    for wrong in [0, 4999, 5001, bytes.len()] {
        patch(&server, &path, wrong, &bytes[wrong.min(9000)..9000]).await.assert_problem(409, "offset_differs");
    }
    let other = [("content-type", "application/octet-stream"), ("upload-offset", "5000")];
    send(&server, "PATCH", &path, &other, b"x").await.assert_problem(415, "unsupported_media_type");
    send(&server, "PATCH", &path, &[("content-type", BYTES)], b"x").await.assert_problem(400, "invalid_parameter");
    patch(&server, &path, 5000, &vec![0; bytes.len()]).await.assert_problem(413, "body_too_large");
    // Of unknown length, and too long: what has come until then is there.
    let stream = futures::stream::iter([bytes[5000..].to_vec(), vec![0; 10]].map(Ok::<_, std::io::Error>));
    let request = server.client.patch(server.url(&path)).header("tus-resumable", "1.0.0").header("content-type", BYTES);
    let request = request.header("upload-offset", "5000").body(reqwest::Body::wrap_stream(stream));
    Answer::of(request.send().await.unwrap()).await.assert_problem(413, "body_too_large");
    let there = offset(&server, &path).await;
    assert!((5000..bytes.len()).contains(&there), "{there}");
    // For clients without PATCH.
    let there_text = there.to_string();
    let headers =
        [("x-http-method-override", "PATCH"), ("content-type", BYTES), ("upload-offset", there_text.as_str())];
    assert_eq!(send(&server, "POST", &path, &headers, &bytes[there..]).await.status, 204);
    assert_whole(&server, &path, &bytes).await;
    send(&server, "POST", &path, &[], b"").await.assert_problem(400, "invalid_parameter");
    assert_eq!(send(&server, "POST", &path, &[("x-http-method-override", "DELETE")], b"").await.status, 204);
    send(&server, "DELETE", &path, &[], b"").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn what_came_before_the_line_broke_is_there() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: {}\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\ncontent-type: {BYTES}\r\n\
         content-length: {}\r\n\r\n",
        server.address,
        bytes.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[..20_001]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let waiting = async {
        while offset(&server, &path).await < 20_001 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("what has come is not kept");
    assert_eq!(offset(&server, &path).await, 20_001);
    assert_eq!(patch(&server, &path, 20_001, &bytes[20_001..]).await.status, 204);
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn over_a_slow_line_pieces_count_as_time_passes() {
    let server = Server::start_with(|config| config.tus.piece_s = 1).await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let (sender, body) = tokio::io::duplex(1 << 20);
    let stream = tokio_util::io::ReaderStream::new(body);
    let request = server.client.patch(server.url(&path)).header("tus-resumable", "1.0.0").header("content-type", BYTES);
    let request = request.header("upload-offset", "0").body(reqwest::Body::wrap_stream(stream));
    let sending = tokio::spawn(request.send());
    let mut sender = sender;
    sender.write_all(&bytes[..3000]).await.unwrap();
    let waiting = async {
        while offset(&server, &path).await < 3000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("a piece that is not full does not count");
    // Meanwhile nobody else adds to it…
    let busy = patch(&server, &path, 3000, &bytes[3000..]).await;
    busy.assert_problem(423, "upload_locked");
    assert!((1..=10).contains(&busy.header("retry-after").parse::<u64>().unwrap()));
    sender.write_all(&bytes[3000..]).await.unwrap();
    drop(sender);
    // …and it comes to its end.
    assert_eq!(sending.await.unwrap().unwrap().status(), 204);
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn who_has_lost_an_upload_changes_nothing_more() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let id = parse(&path.rsplit('/').next().unwrap().into());
    let (sender, body) = tokio::io::duplex(1 << 20);
    let stream = tokio_util::io::ReaderStream::new(body);
    let request = server.client.patch(server.url(&path)).header("tus-resumable", "1.0.0").header("content-type", BYTES);
    let request = request.header("upload-offset", "0").body(reqwest::Body::wrap_stream(stream));
    let sending = tokio::spawn(request.send());
    let mut sender = sender;
    sender.write_all(&bytes[..4500]).await.unwrap();
    let waiting = async {
        while offset(&server, &path).await < 4096 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    // As another node does when the first is cut off from the ledger for longer than the hold.
    server.ledger.release_resumables().await.unwrap();
    let held = server.ledger.hold_resumable(OwnerId::LOCAL, id, Uuid::now_v7(), Duration::ZERO).await.unwrap();
    assert!(matches!(held, Held::Yes(_)), "{held:?}");
    sender.write_all(&bytes[4500..9000]).await.unwrap();
    let lost = Answer::of(sending.await.unwrap().unwrap()).await;
    lost.assert_problem(409, "offset_differs");
    drop(sender);
    assert_eq!(offset(&server, &path).await, 4096);
    assert_eq!(patch(&server, &path, 4096, &bytes[4096..]).await.status, 204);
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn many_at_once_add_each_byte_once() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + 7000).min(bytes.len());
        let answers = futures::future::join_all((0..6).map(|_| patch(&server, &path, at, &bytes[at..end]))).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        let taken = statuses.iter().filter(|status| **status == 204).count();
        assert_eq!(taken, 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [204, 409, 413, 423].contains(status)), "{statuses:?}");
        at = end;
    }
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn a_chunk_that_differs_from_its_checksum_is_thrown_away() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let sha256 = |bytes: &[u8]| format!("sha256 {}", BASE64.encode(Sha256::digest(bytes)));
    let sha1 = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        format!("sha1 {}", BASE64.encode(digest))
    };
    let right = sha256(&bytes[..10_000]);
    assert_eq!(patch_with(&server, &path, 0, &bytes[..10_000], &[("upload-checksum", &right)]).await.status, 204);
    let objects = server.objects().len();
    for wrong in [sha256(b"else"), sha1(b"else")] {
        let refused = patch_with(&server, &path, 10_000, &bytes[10_000..20_000], &[("upload-checksum", &wrong)]).await;
        refused.assert_problem(460, "checksum_differs");
        assert_eq!((offset(&server, &path).await, server.objects().len()), (10_000, objects));
        // The last bytes as well: no image is made of them.
        let refused = patch_with(&server, &path, 10_000, &bytes[10_000..], &[("upload-checksum", &wrong)]).await;
        refused.assert_problem(460, "checksum_differs");
        assert_eq!((offset(&server, &path).await, server.objects().len()), (10_000, objects));
    }
    for unknown in ["md5 XrY7u+Ae7tCTyyK7j1rNww==", "sha1", "sha256 AAAA"] {
        let refused = patch_with(&server, &path, 10_000, b"x", &[("upload-checksum", unknown)]).await;
        refused.assert_problem(400, "invalid_parameter");
    }
    let right = sha1(&bytes[10_000..]);
    assert_eq!(patch_with(&server, &path, 10_000, &bytes[10_000..], &[("upload-checksum", &right)]).await.status, 204);
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn what_is_no_image_is_said_early_and_leaves_nothing() {
    let server = start().await;
    let path = begin(&server, 3_000_000).await;
    let refused = patch(&server, &path, 0, &vec![b'x'; 100_000]).await;
    refused.assert_problem(415, "unsupported_format");
    send(&server, "DELETE", &path, &[], b"").await.assert_problem(404, "not_found");
    server.assert_nothing_left().await;
    // Its first bytes are those of an image, the rest is not.
    let mut bytes = super::harness::png(40, 30);
    bytes.truncate(20);
    let path = begin(&server, bytes.len()).await;
    assert_eq!(patch(&server, &path, 0, &bytes[..5]).await.status, 204);
    patch(&server, &path, 5, &bytes[5..]).await.assert_problem(422, "malformed");
    assert_eq!(send(&server, "HEAD", &path, &[], b"").await.status, 404);
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    assert_eq!(patch(&server, &path, 0, &bytes[..20_000]).await.status, 204);
    assert!(!server.objects().is_empty());
    assert_eq!(send(&server, "DELETE", &path, &[], b"").await.status, 204);
    server.assert_nothing_left().await;
    for method in ["HEAD", "PATCH", "DELETE"] {
        let headers = [("content-type", BYTES), ("upload-offset", "20000")];
        assert_eq!(send(&server, method, &path, &headers, b"").await.status, 404, "{method}");
    }
}

#[tokio::test]
async fn a_key_is_one_upload_and_one_image() {
    let server = start().await;
    let bytes = large();
    let size = bytes.len().to_string();
    let said = metadata(&[("filename", "a.bmp")]);
    let headers = [("upload-length", size.as_str()), ("upload-metadata", said.as_str()), ("idempotency-key", "mine")];
    let begun = send(&server, "POST", "/api/v1/tus", &headers, b"").await;
    let path = begun.header("location").to_owned();
    assert_eq!(patch(&server, &path, 0, &bytes[..6000]).await.status, 204);
    let again = send(&server, "POST", "/api/v1/tus", &headers, b"").await;
    assert_eq!((again.status, again.header("location"), again.header("upload-offset")), (201, path.as_str(), "6000"));
    let other = [("upload-length", "77"), ("upload-metadata", said.as_str()), ("idempotency-key", "mine")];
    send(&server, "POST", "/api/v1/tus", &other, b"").await.assert_problem(422, "idempotency_key_reused");
    let last = patch(&server, &path, 6000, &bytes[6000..]).await;
    assert_eq!(last.status, 204);
    let recalled = server.get("/api/v1/submissions/mine").await;
    assert_eq!(recalled.json["items"][0]["job"]["id"], last.header("inkpool-job"));
    // The same by one request.
    let request = server.client.post(server.url("/api/v1/images?filename=a.bmp")).header("idempotency-key", "mine");
    let posted = Answer::of(request.body(bytes.clone()).send().await.unwrap()).await;
    assert_eq!(posted.json["items"][0]["job"]["id"], last.header("inkpool-job"), "{posted:?}");
    assert_whole(&server, &path, &bytes).await;
}

#[tokio::test]
async fn after_a_full_queue_the_last_bytes_come_again() {
    let server = Server::start_with(|config| {
        config.tus.piece_bytes = 4096;
        config.jobs.queue_jobs_max = 1;
    })
    .await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    let (_, job) = server.upload().await;
    let full = patch(&server, &path, 0, &bytes).await;
    full.assert_problem(503, "queue_full");
    let there = offset(&server, &path).await;
    assert!(there < bytes.len() && bytes.len() - there <= 4096, "{there}");
    server.succeed(job, "clean.png", b"x").await;
    let last = patch(&server, &path, there, &bytes[there..]).await;
    assert_eq!((last.status, last.header("inkpool-job").is_empty()), (204, false), "{last:?}");
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn unfinished_uploads_are_bounded() {
    let server = Server::start_with(|config| {
        config.tus.owner_open_max = 2;
        config.tus.owner_bytes_max = 1000;
        config.tus.pieces_max = 3;
        config.tus.piece_bytes = 4096;
    })
    .await;
    let post = async |size: &str| send(&server, "POST", "/api/v1/tus", &[("upload-length", size)], b"").await;
    let path = post("600").await.header("location").to_owned();
    let refused = post("401").await;
    refused.assert_problem(503, "too_many_uploads");
    assert_eq!((&refused.json["limit"], &refused.json["measured"]), (&"1000 bytes".into(), &"600 bytes".into()));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 170_000);
    assert_eq!(post("400").await.status, 201);
    let refused = post("1").await;
    refused.assert_problem(503, "too_many_uploads");
    assert_eq!(refused.json["limit"], "2 uploads");
    // Many pieces of one byte end somewhere as well.
    for at in 0..3 {
        assert_eq!(patch(&server, &path, at, b"B").await.status, 204);
    }
    patch(&server, &path, 3, b"B").await.assert_problem(413, "too_many_parts");
    assert_eq!(server.objects().len(), 3);
}

#[tokio::test]
async fn a_store_that_lost_the_pieces_is_named() {
    let server = start().await;
    let bytes = large();
    let path = begin(&server, bytes.len()).await;
    assert_eq!(patch(&server, &path, 0, &bytes[..9000]).await.status, 204);
    // As a node sees it whose objects are on a disk of its own.
    server.objects().iter().for_each(|object| std::fs::remove_file(object).unwrap());
    let refused = patch(&server, &path, 9000, &bytes[9000..]).await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.json["remedy"].as_str().unwrap().contains("one object store"), "{refused:?}");
    assert_eq!(server.get("/api/v1/images").await.json["items"].as_array().unwrap().len(), 0);
}
