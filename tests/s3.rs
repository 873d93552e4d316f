//! The real server on an S3 server: pages go through; while the store answers 503 or hangs in the middle of work nothing is
//! lost and no attempt is spent, and work goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;
#[path = "common/s3.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the unit tests of the object store")]
mod s3_server;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use common::pages;
use common::server::{Options, Server, data_directory, files_below, until};
use s3_server::{ACCESS_KEY, BUCKET, Mode, S3Server, SECRET_KEY};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// With bounds short enough to wait for.
fn on(store: &S3Server) -> Options {
    Options::default()
        .set("INKPOOL_BLOBS__URL", format!("s3://{BUCKET}/inkpool"))
        .set("INKPOOL_BLOBS__ENDPOINT", &store.endpoint)
        .set("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .set("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .set("INKPOOL_BLOBS__REQUEST_TIMEOUT_S", 3)
        .set("INKPOOL_BLOBS__RETRY_S", 2)
        .set("INKPOOL_BLOBS__PROBE_TIMEOUT_S", 1)
        .set("INKPOOL_BLOBS__PROBE_WAIT_MAX_S", 1)
}

fn objects(store: &S3Server) -> BTreeSet<String> {
    files_below(&store.bucket().join("inkpool")).into_iter().filter(|name| name != "probe").collect()
}

/// Every file of the job's image can be fetched; the keys that must be there.
async fn files_of(server: &Server, job: &Value) -> BTreeSet<String> {
    let image = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
    let mut keys = BTreeSet::new();
    for file in image["files"].as_array().unwrap() {
        let answer = server.client().get(server.url(file["url"].as_str().unwrap())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap().len() as u64, file["size_bytes"].as_u64().unwrap());
        let id = |of: &Value| of.as_str().unwrap().to_owned();
        keys.insert(match file["name"].as_str().unwrap() {
            "original" => format!("img/{}/original", id(&image["id"])),
            name => format!("out/{}/*/{name}", id(&job["id"])),
        });
    }
    keys
}

/// Keys with the start left out, which a job that was handed back has raised.
fn without_starts(keys: BTreeSet<String>) -> BTreeSet<String> {
    let without = |key: String| match key.split('/').collect::<Vec<_>>()[..] {
        ["out", job, _, ref name @ ..] => format!("out/{job}/*/{}", name.join("/")),
        _ => key,
    };
    keys.into_iter().map(without).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_through_and_outlives_the_server() {
    let (store, directory) = (S3Server::start().await, data_directory());
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &on(&store));
    let id = server.submit(pages::png(96, 64, 1), "document").await;
    let job = server.wait_final(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let keys = files_of(&server, &job).await;
    assert_eq!(without_starts(objects(&store)), keys);
    assert!(!data.join("objects").exists(), "nothing is kept on this machine");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());

    let server = Server::start(&data, &on(&store));
    assert_eq!(files_of(&server, &job).await, keys);
    let image = format!("/api/v1/images/{}", job["image_id"].as_str().unwrap());
    assert_eq!(server.client().delete(server.url(&image)).send().await.unwrap().status(), 204);
    assert!(!server.log().contains(SECRET_KEY));
}

#[tokio::test]
async fn wrong_credentials_are_named_at_the_start() {
    let (store, directory) = (S3Server::start().await, data_directory());
    let options = on(&store).set("AWS_SECRET_ACCESS_KEY", "wrong");
    let data = directory.path().join("data");
    let log = tokio::task::spawn_blocking(move || Server::try_start(&data, &options).err().unwrap()).await.unwrap();
    assert!(log.contains("cannot list objects: the secret key is wrong"), "{log}");
}

/// Sends pages until told to stop; ids of those accepted, and how many were refused for the store's sake.
async fn load(server: &Server, pages: u32) -> (Vec<String>, u32) {
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for page in 0..pages {
        let (status, body) = server.upload(pages::png(160, 120, page), "document").await.unwrap();
        match status {
            202 => accepted.push(body["items"][0]["job"]["id"].as_str().unwrap().to_owned()),
            503 => refused += 1,
            other => panic!("{other}: {body}"),
        }
    }
    (accepted, refused)
}

async fn outage_in_the_middle_of_work(mode: Mode) {
    let (store, directory) = (S3Server::start().await, data_directory());
    let server = Server::start(&directory.path().join("data"), &on(&store));
    let (mut accepted, refused) = load(&server, 12).await;
    assert_eq!(refused, 0);
    server.wait_for(&accepted[0], &["succeeded"]).await;
    store.set(mode);
    let waits = server.client().get(server.url("/readyz"));
    let reason = loop {
        let answer = waits.try_clone().unwrap().send().await.unwrap();
        let ready = answer.status() == 200;
        let body: Value = answer.json().await.unwrap();
        if !ready && body["detail"].as_str().unwrap().contains("object store") {
            break body["detail"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Refused at once, and for as long as the header says at least once more.
    let answer = server.client().post(server.url("/api/v1/images")).body(pages::png(8, 8, 0)).send().await.unwrap();
    assert_eq!(answer.status(), 503, "{reason}");
    let after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&after), "the next probe comes within a second, not {after}");
    let cluster = server.get("/api/v1/cluster").await;
    assert!(cluster["nodes"][0]["reasons"][0].as_str().unwrap().contains("object store"), "{cluster}");
    let metrics = server.client().get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("inkpool_object_store_up 0"), "{metrics}");
    // Nothing is claimed while it lasts.
    let running = async || {
        let jobs = server.get("/api/v1/jobs?state=running").await;
        jobs["items"].as_array().unwrap().len()
    };
    while running().await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.get("/api/v1/jobs?limit=100").await["items"].as_array().unwrap().len() == accepted.len());

    store.set(Mode::Well);
    while server.client().get(server.url("/readyz")).send().await.unwrap().status() != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    accepted.extend(load(&server, 2).await.0);
    assert_eq!(accepted.len(), 14);
    let mut keys = BTreeSet::new();
    for id in &accepted {
        let job = server.wait_final(id).await;
        assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
        keys.extend(files_of(&server, &job).await);
    }
    let missing: Vec<_> = keys.difference(&without_starts(objects(&store))).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_503_costs_no_attempt() {
    outage_in_the_middle_of_work(Mode::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_costs_no_attempt() {
    outage_in_the_middle_of_work(Mode::Hanging).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_reads_costs_no_attempt() {
    outage_in_the_middle_of_work(Mode::ReadOnly).await;
}

/// Peak of resident memory, bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_upload_does_not_grow_the_server() {
    let (store, directory) = (S3Server::start().await, data_directory());
    let server = Server::start(&directory.path().join("data"), &on(&store));
    let id = server.submit(pages::png(96, 64, 1), "document").await;
    server.wait_final(&id).await;
    let before = peak_bytes(&server);
    let mut page = b"P5 8191 8191 255\n".to_vec();
    page.resize(page.len() + 8191 * 8191, 200);
    let length = page.len() as u64;
    let job = server.submit(page, "document").await;
    let grown = peak_bytes(&server).saturating_sub(before);
    assert!(grown < 24 << 20, "{length} bytes grew the server by {grown}");
    let image = server.job(&job).await["image_id"].as_str().unwrap().to_owned();
    let kept = fs::metadata(store.bucket().join("inkpool/img").join(image).join("original")).unwrap();
    assert_eq!(kept.len(), length);
    assert_eq!(store.unfinished(), [""; 0]);
    server.post(&format!("/api/v1/jobs/{job}/cancel")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_removes_what_is_old_and_of_nobody() {
    let (store, directory) = (S3Server::start().await, data_directory());
    let options = on(&store)
        .set("INKPOOL_HTTP__REQUEST_TIMEOUT_S", 60)
        .set("INKPOOL_BLOBS__ORPHAN_AFTER_S", 3600)
        .set("INKPOOL_BLOBS__ORPHANS_EVERY_S", 1)
        .set("INKPOOL_JANITOR__EVERY_S", 1);
    let server = Server::start(&directory.path().join("data"), &options);
    let id = server.submit(pages::png(96, 64, 1), "document").await;
    let job = server.wait_final(&id).await;
    let old = SystemTime::now() - Duration::from_secs(7200);
    let bucket = store.bucket().join("inkpool");
    let set_old = |path: &std::path::Path| {
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    };
    // What is visible stays, however old.
    objects(&store).iter().for_each(|key| set_old(&bucket.join(key)));
    let kept = objects(&store);
    let put = |key: &str, is_old: bool| {
        let path = bucket.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"x").unwrap();
        if is_old {
            set_old(&path);
        }
    };
    let lost = format!("out/{}/77/clean.png", job["id"].as_str().unwrap());
    let nobodys = "img/00000000-0000-7000-8000-000000000000/original";
    let fresh = "img/00000000-0000-7000-8000-000000000001/original";
    put(&lost, true);
    put(nobodys, true);
    put(fresh, false);
    put("strangers/thing", true);
    until("they are removed", || !bucket.join(&lost).exists() && !bucket.join(nobodys).exists()).await;
    let mut expected = kept;
    expected.extend([fresh.to_owned(), "strangers/thing".to_owned()]);
    assert_eq!(objects(&store), expected);
}

/// Announces a page; its target.
async fn announce(server: &Server, bytes: &[u8]) -> Value {
    let file = serde_json::json!({
        "filename": "page.png", "size_bytes": bytes.len(), "content_type": "image/png",
        "sha256": hex::encode(Sha256::digest(bytes)),
    });
    let body = serde_json::json!({"preset": "document", "files": [file]});
    let answer = server.client().post(server.url("/api/v1/uploads")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.json::<Value>().await.unwrap()["items"][0].clone()
}

/// Puts bytes straight into the bucket; the length sent is theirs.
async fn put(server: &Server, target: &Value, bytes: &[u8], changed: &[(&str, &str)]) -> u16 {
    let mut request = server.client().put(target["url"].as_str().unwrap()).body(bytes.to_vec());
    for (name, value) in target["headers"].as_object().unwrap() {
        let value = changed.iter().find(|(other, _)| other == name).map_or(value.as_str().unwrap(), |(_, value)| value);
        if name != "content-length" {
            request = request.header(name, value);
        }
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_uploads_go_straight_to_the_bucket() {
    let (store, directory) = (S3Server::start().await, data_directory());
    let server = Server::start(&directory.path().join("data"), &on(&store));
    let bytes = pages::png(96, 64, 1);
    let mut swapped = bytes.clone();
    *swapped.last_mut().unwrap() ^= 1;
    let target = announce(&server, &bytes).await;
    assert!(target["url"].as_str().unwrap().starts_with(&store.endpoint), "{target}");
    assert!(!target.to_string().contains(SECRET_KEY));
    let complete = format!("/api/v1/uploads/{}/complete", target["id"].as_str().unwrap());
    assert_eq!(server.post(&complete).await.0, 409);

    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(put(&server, &target, &longer, &[]).await, 403, "the length is signed");
    assert_eq!(put(&server, &target, b"", &[]).await, 403);
    assert_eq!(put(&server, &target, &bytes, &[("content-type", "image/gif")]).await, 403);
    assert_eq!(put(&server, &target, &bytes, &[("if-none-match", "")]).await, 403);
    let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Sha256::digest(&swapped));
    assert_eq!(put(&server, &target, &swapped, &[("x-amz-checksum-sha256", &digest)]).await, 403);
    assert_eq!(server.post(&complete).await.0, 409);
    // The digest is looked at by the store. This one keeps the bytes all the same, so the completion must look again.
    assert_eq!(put(&server, &target, &swapped, &[]).await, 400);
    let (status, problem) = server.post(&complete).await;
    assert_eq!((status, &problem["code"]), (422, &"upload_differs".into()), "{problem}");

    assert_eq!(put(&server, &target, &bytes, &[]).await, 200);
    let (status, done) = server.post(&complete).await;
    assert_eq!(status, 202, "{done}");
    assert_eq!(put(&server, &target, &bytes, &[]).await, 412, "a URL is used once");
    // Whatever is done to the upload's own object changes the image no more.
    let upload = store.bucket().join("inkpool/up").join(target["id"].as_str().unwrap());
    fs::write(&upload, b"swapped").unwrap();
    assert_eq!(server.post(&complete).await.1["job"]["id"], done["job"]["id"]);
    let job = server.wait_final(done["job"]["id"].as_str().unwrap()).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let original = server.url(done["image"]["files"][0]["url"].as_str().unwrap());
    assert_eq!(server.client().get(original).send().await.unwrap().bytes().await.unwrap(), bytes);
    let content = format!("/api/v1/uploads/{}/content?expires=1&signature=00", target["id"].as_str().unwrap());
    assert_eq!(server.client().put(server.url(&content)).body(bytes).send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_expires_and_is_swept() {
    let (store, directory) = (S3Server::start().await, data_directory());
    // Rows are kept for as long as a PUT that began in time may take.
    let options = on(&store)
        .set("INKPOOL_UPLOADS__EXPIRES_S", 1)
        .set("INKPOOL_HTTP__REQUEST_TIMEOUT_S", 1)
        .set("INKPOOL_JANITOR__EVERY_S", 1);
    let server = Server::start(&directory.path().join("data"), &options);
    let bytes = pages::png(96, 64, 1);
    let (put_in_time, too_late) = (announce(&server, &bytes).await, announce(&server, &bytes).await);
    assert_eq!(put(&server, &put_in_time, &bytes, &[]).await, 200);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(put(&server, &too_late, &bytes, &[]).await, 403);
    until("the upload is swept", || !objects(&store).iter().any(|key| key.starts_with("up/"))).await;
    for target in [put_in_time, too_late] {
        let complete = format!("/api/v1/uploads/{}/complete", target["id"].as_str().unwrap());
        // The object goes before its row.
        for _ in 0..100 {
            if server.post(&complete).await.0 == 404 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(server.post(&complete).await.0, 404);
    }
}
