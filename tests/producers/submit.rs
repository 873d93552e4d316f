//! Submissions: what is put and said becomes an image once, what is wrong is rejected, what fails can be replayed.

use std::path::Path;

use async_nats::jetstream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::nats::Nats;
use crate::common::pages;
use crate::common::server::{Options, Server, data_directory};
use crate::events::options;
use crate::outside::{Told, against_schemas, kinds, python, schema_of, told, until_told};
use crate::s3::{ACCESS_KEY, BUCKET, Mode, S3Server, SECRET_KEY};

pub const OWNER: &str = "00000000-0000-0000-0000-000000000001";

/// Puts bytes as a program on the same machine does; the message that says so.
pub fn put(objects: &Path, name: &str, bytes: &[u8]) -> Value {
    let key = format!("incoming/{OWNER}/{name}");
    let path = objects.join(&key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    json!({
        "schema": "inkpool.submit/1", "object_key": key, "sha256": hex::encode(Sha256::digest(bytes)),
        "size_bytes": bytes.len(), "filename": "page.png", "preset": "document"
    })
}

pub fn with(mut message: Value, field: &str, value: impl Into<Value>) -> Value {
    message[field] = value.into();
    message
}

pub async fn publish(nats: &Nats, owner: &str, payload: impl Into<Vec<u8>>) {
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let payload = bytes::Bytes::from(payload.into());
    // The server answers before it has made the streams; a producer tries again until it is told that the message is kept.
    let sent = async {
        loop {
            let stored = context.publish(format!("inkpool.submit.{owner}"), payload.clone()).await.unwrap();
            if stored.await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::common::server::PATIENCE, sent).await.expect("no stream takes the message");
}

pub async fn submit(nats: &Nats, message: &Value) {
    publish(nats, OWNER, message.to_string()).await;
}

fn of_object<'t>(told: &'t [Told], message: &Value) -> Vec<&'t Told> {
    told.iter().filter(|told| told.header("Inkpool-Object-Key") == message["object_key"].as_str()).collect()
}

/// Messages that wait to be taken, or are being worked on.
pub async fn waiting(nats: &Nats) -> u64 {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("INKPOOL_SUBMIT").await.unwrap();
    stream.cached_info().state.messages
}

async fn until_none_waits(nats: &Nats) {
    let wait = async {
        while waiting(nats).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::common::server::PATIENCE, wait).await.expect("a submission stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_and_said_is_an_image_once() {
    let nats = Nats::start();
    let directory = data_directory();
    let mut server = Server::start(directory.path(), &options(&nats));
    let objects = directory.path().join("objects");
    let page = pages::png(64, 64, 1);
    let first = with(put(&objects, "2026/a.png", &page), "idempotency_key", "one");
    submit(&nats, &first).await;
    let all = until_told(&nats, "the end", |told| told.iter().any(|told| told.kind == "succeeded")).await;
    let accepted = of_object(&all, &first);
    assert_eq!(accepted[0].kind, "accepted");
    assert_eq!(accepted[0].header("Inkpool-Idempotency-Key"), Some("one"));
    let job = accepted[0].job.clone();
    assert_eq!(kinds(&all, &job), ["accepted", "queued", "running", "succeeded"]);
    assert!(!objects.join(first["object_key"].as_str().unwrap()).exists(), "it was copied to a key of its own");
    let image = server.get(&format!("/api/v1/images/{}", accepted[0].body["image_id"].as_str().unwrap())).await;
    assert_eq!((&image["filename"], &image["sha256"]), (&"page.png".into(), &first["sha256"]));

    // The same key and bytes again, over NATS and over HTTP: the same job. The answer is given again.
    submit(&nats, &with(put(&objects, "b", &page), "idempotency_key", "one")).await;
    let all = until_told(&nats, "the answer again", |told| kinds(told, &job).len() == 5).await;
    assert_eq!(kinds(&all, &job)[4], "accepted");
    let url = server.url("/api/v1/images?preset=document&filename=page.png");
    let http = server.client().post(url).header("idempotency-key", "one").body(page.clone()).send().await.unwrap();
    let http: Value = http.json().await.unwrap();
    assert_eq!(http["items"][0]["job"]["id"], job.as_str());
    // The same key and other bytes.
    let other = with(put(&objects, "c", &pages::png(64, 64, 2)), "idempotency_key", "one");
    submit(&nats, &other).await;
    let all = until_told(&nats, "a rejection", |told| told.iter().any(|told| told.kind == "rejected")).await;
    let rejected = of_object(&all, &other);
    assert_eq!(rejected.iter().map(|told| &told.body["code"]).collect::<Vec<_>>(), ["idempotency_key_reused"]);
    // Without a key the message is the key.
    let plain = put(&objects, "d", &pages::png(64, 64, 3));
    submit(&nats, &plain).await;
    submit(&nats, &plain).await;
    until_none_waits(&nats).await;
    assert_eq!(server.get("/api/v1/images").await["items"].as_array().unwrap().len(), 2);
    let all = told(&nats).await;
    assert_eq!(against_schemas(all.iter().map(schema_of)), Ok(all.len()));
    assert_eq!(against_schemas([("submit", first), ("submit", plain)]), Ok(2));
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_rejected_and_harms_nobody() {
    let nats = Nats::start();
    let directory = data_directory();
    let options = options(&nats).set("INKPOOL_HTTP__BODY_BYTES_MAX", 100_000);
    let mut server = Server::start(directory.path(), &options);
    let objects = directory.path().join("objects");
    let page = pages::png(64, 64, 1);
    let good = || put(&objects, "good", &page);
    std::fs::write(directory.path().join("outside.png"), &page).unwrap();
    let link = objects.join(format!("incoming/{OWNER}/link"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(directory.path().join("outside.png"), &link).unwrap();
    let elsewhere = |key: &str| with(good(), "object_key", key);
    let stranger = "01890000-0000-7000-8000-000000000000";
    let wrong = [
        (OWNER, "{".to_owned(), "invalid_json"),
        (OWNER, "[1]".to_owned(), "invalid_parameter"),
        (OWNER, "\u{0}\u{0}".to_owned(), "invalid_json"),
        (OWNER, with(good(), "schema", "inkpool.submit/2").to_string(), "invalid_parameter"),
        (OWNER, with(good(), "prest", "photo").to_string(), "invalid_json"),
        (OWNER, with(good(), "size_bytes", -1).to_string(), "invalid_json"),
        (OWNER, with(good(), "size_bytes", 0).to_string(), "empty_body"),
        (OWNER, with(good(), "size_bytes", 7).to_string(), "upload_differs"),
        (OWNER, with(good(), "size_bytes", 200_000).to_string(), "body_too_large"),
        (OWNER, with(good(), "sha256", "ab").to_string(), "invalid_parameter"),
        (OWNER, with(good(), "sha256", "ab".repeat(32)).to_string(), "upload_differs"),
        (OWNER, with(good(), "preset", "none").to_string(), "unknown_preset"),
        (OWNER, with(good(), "idempotency_key", "a b").to_string(), "invalid_parameter"),
        (OWNER, put(&objects, "text", b"no image at all").to_string(), "unsupported_format"),
        (OWNER, put(&objects, "cut", &page[..20]).to_string(), "malformed"),
        (OWNER, elsewhere(&format!("incoming/{OWNER}/nothing")).to_string(), "not_uploaded"),
        (OWNER, elsewhere(&format!("incoming/{OWNER}/link")).to_string(), "not_uploaded"),
        (OWNER, elsewhere(&format!("incoming/{OWNER}/../x")).to_string(), "invalid_parameter"),
        (OWNER, elsewhere(&format!("incoming/{stranger}/good")).to_string(), "invalid_parameter"),
        (OWNER, elsewhere("img/x/original").to_string(), "invalid_parameter"),
        (OWNER, "x".repeat(100_000), "body_too_large"),
        (stranger, good().to_string(), "not_found"),
        ("nobody", good().to_string(), "not_found"),
    ];
    for (owner, payload, _) in &wrong {
        publish(&nats, owner, payload.clone()).await;
    }
    let rejected = |told: &[Told]| told.iter().filter(|told| told.kind == "rejected").count() == wrong.len();
    let all = until_told(&nats, "all rejections", rejected).await;
    let mut codes: Vec<_> = all.iter().map(|told| (told.owner.as_str(), told.body["code"].as_str().unwrap())).collect();
    let mut expected: Vec<_> = wrong.iter().map(|(owner, _, code)| (*owner, *code)).collect();
    codes.sort_unstable();
    expected.sort_unstable();
    assert_eq!(codes, expected);
    assert_eq!(against_schemas(all.iter().map(schema_of)), Ok(all.len()));
    until_none_waits(&nats).await;
    assert_eq!(server.get("/api/v1/images").await["items"], json!([]));
    assert_eq!(server.get("/api/v1/dead-letters").await["items"], json!([]));
    // And it goes on.
    submit(&nats, &good()).await;
    until_told(&nats, "the end", |told| told.iter().any(|told| told.kind == "succeeded")).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

/// Right after the commit, while the object is still there; between commit and answer; between answer and acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_before_it_acknowledges_takes_an_image_once() {
    for point in ["upload-committed", "submission-committed", "submission-answered"] {
        let nats = Nats::start();
        let directory = data_directory();
        let options = || options(&nats).set("INKPOOL_BUS__ACK_WAIT_S", 3).set("INKPOOL_BUS__IN_PROGRESS_EVERY_S", 1);
        let mut server = Server::start(directory.path(), &options().set("INKPOOL_FAULT", point));
        let message = put(&directory.path().join("objects"), "a", &pages::png(64, 64, 1));
        submit(&nats, &message).await;
        server.wait();
        assert_eq!(waiting(&nats).await, 1, "{point}: it was not acknowledged");
        let server = Server::start(directory.path(), &options());
        until_none_waits(&nats).await;
        let all = until_told(&nats, "the end", |told| told.iter().any(|told| told.kind == "succeeded")).await;
        let told = of_object(&all, &message);
        assert!(told.iter().any(|told| told.kind == "accepted"), "{point}: {told:?}");
        assert!(told.iter().all(|told| told.kind != "rejected"), "{point}: {told:?}");
        assert_eq!(server.get("/api/v1/images").await["items"].as_array().unwrap().len(), 1, "{point}");
        assert_eq!(server.get("/api/v1/jobs").await["items"].as_array().unwrap().len(), 1, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_again_at_once_is_never_rejected() {
    const IMAGES: usize = 60;
    const DELIVERIES: usize = 4;
    let nats = Nats::start();
    let directory = data_directory();
    let server = Server::start(directory.path(), &options(&nats));
    let objects = directory.path().join("objects");
    let page = pages::png(64, 64, 1);
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    // Whoever looks for an earlier one just before it is there, and for the object just after it was removed, finds neither.
    for name in 0..IMAGES {
        let message = put(&objects, &name.to_string(), &page).to_string();
        for _ in 0..DELIVERIES {
            context.publish(format!("inkpool.submit.{OWNER}"), message.clone().into()).await.unwrap().await.unwrap();
        }
    }
    until_none_waits(&nats).await;
    let rejected: Vec<_> = told(&nats).await.into_iter().filter(|told| told.kind == "rejected").collect();
    assert!(rejected.is_empty(), "{rejected:#?}");
    assert_eq!(server.get("/api/v1/images?limit=100").await["items"].as_array().unwrap().len(), IMAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_nats_takes_submissions_again() {
    let mut nats = Nats::start();
    let directory = data_directory();
    let server = Server::start(directory.path(), &options(&nats));
    let objects = directory.path().join("objects");
    submit(&nats, &put(&objects, "a", &pages::png(64, 64, 1))).await;
    let ends = |told: &[Told]| told.iter().filter(|told| told.kind == "succeeded").count();
    until_told(&nats, "the first end", |told| ends(told) == 1).await;
    nats.kill();
    nats.wipe();
    nats.run();
    until_told(&nats, "the streams again", |told| ends(told) == 1).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let made = async {
        while jetstream::new(client.clone()).get_stream("INKPOOL_SUBMIT").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::common::server::PATIENCE, made).await.expect("the stream is not made again");
    submit(&nats, &put(&objects, "b", &pages::png(64, 64, 2))).await;
    until_told(&nats, "the second end", |told| ends(told) == 2).await;
    assert_eq!(server.get("/api/v1/images").await["items"].as_array().unwrap().len(), 2);
}

fn in_bucket(nats: &Nats, s3: &S3Server) -> Options {
    options(nats)
        .set("INKPOOL_BLOBS__URL", format!("s3://{BUCKET}/ink"))
        .set("INKPOOL_BLOBS__ENDPOINT", &s3.endpoint)
        .set("INKPOOL_BLOBS__RETRY_S", 1)
        .set("INKPOOL_BLOBS__PROBE_WAIT_MAX_S", 1)
        .set("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .set("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// Poison: the store is down for all eight deliveries. Then it is mended, and the dead letter replayed.
#[tokio::test(flavor = "multi_thread")]
async fn eight_failures_make_a_dead_letter_that_can_be_replayed() {
    let (nats, s3) = (Nats::start(), S3Server::start().await);
    let directory = data_directory();
    let options = in_bucket(&nats, &s3).set("INKPOOL_PRODUCERS__RETRY_WAIT_S", 0);
    let mut server = Server::start(directory.path(), &options);
    let message = put(&s3.bucket().join("ink"), "a", &pages::png(64, 64, 1));
    s3.set(Mode::Unavailable);
    submit(&nats, &message).await;
    until_none_waits(&nats).await;
    let letters = server.get("/api/v1/dead-letters").await;
    let [letter] = &letters["items"].as_array().unwrap()[..] else { panic!("{letters}") };
    assert_eq!(letter["deliveries"], 8);
    assert_eq!(letter["subject"], format!("inkpool.submit.{OWNER}"));
    assert_eq!(serde_json::from_str::<Value>(letter["payload"].as_str().unwrap()).unwrap(), message);
    assert_eq!(letter["problem"]["code"], "unavailable");
    let replay = format!("/api/v1/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    let (status, problem) = server.post(&replay).await;
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "the cause is still there");
    assert_eq!(server.get("/api/v1/dead-letters").await["items"].as_array().unwrap().len(), 1);

    s3.set(Mode::Well);
    let began = std::time::Instant::now();
    let item = loop {
        let (status, item) = server.post(&replay).await;
        if status == 202 {
            break item;
        }
        assert!(began.elapsed() < crate::common::server::PATIENCE, "{status} {item}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    let job = item["job"]["id"].as_str().unwrap();
    assert_eq!(server.wait_final(job).await["state"], "succeeded");
    assert_eq!(server.get("/api/v1/dead-letters").await["items"], json!([]));
    assert_eq!(server.post(&replay).await.0, 404);
    let all = until_told(&nats, "the end", |told| told.iter().any(|told| told.kind == "succeeded")).await;
    assert_eq!(of_object(&all, &message)[0].kind, "accepted", "the sender hears of it all the same");
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}

async fn run_example(mut command: std::process::Command) -> (bool, Vec<String>) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line =
        |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {said}{errors}"));
    let kinds = said.lines().map(|said| line(said)["kind"].as_str().unwrap().to_owned()).collect();
    (output.status.success(), kinds)
}

/// The example in Rust, which cargo builds with the tests.
fn rust_example() -> std::process::Command {
    let program = Path::new(env!("CARGO_BIN_EXE_inkpool")).with_file_name("examples").join("producer");
    assert!(program.exists(), "cargo build --examples makes {}", program.display());
    std::process::Command::new(program)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_work_on_a_disk() {
    let nats = Nats::start();
    let directory = data_directory();
    let server = Server::start(directory.path(), &options(&nats));
    let objects = directory.path().join("objects");
    let (page, text) = (directory.path().join("page.png"), directory.path().join("text.png"));
    std::fs::write(&page, pages::png(64, 64, 1)).unwrap();
    std::fs::write(&text, "no image").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/producer.py");
    let in_python = || {
        let mut command = std::process::Command::new(python());
        command.arg(&script);
        command
    };
    for (command, preset) in [(in_python(), "document"), (rust_example(), "photo")] {
        let mut command = command;
        command.args([nats.url().as_str(), objects.to_str().unwrap(), OWNER, page.to_str().unwrap(), preset]);
        let (well, kinds) = run_example(command).await;
        assert!(well, "{kinds:?} {}", server.log());
        assert_eq!(kinds, ["accepted", "queued", "running", "succeeded"]);
    }
    for mut command in [in_python(), rust_example()] {
        command.args([nats.url().as_str(), objects.to_str().unwrap(), OWNER, text.to_str().unwrap()]);
        assert_eq!(run_example(command).await, (false, vec!["rejected".to_owned()]));
    }
    let names: Vec<_> = server.get("/api/v1/images").await["items"].as_array().unwrap().clone();
    assert!(names.len() == 2 && names.iter().all(|image| image["filename"] == "page.png"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_rust_works_on_a_bucket() {
    let (nats, s3) = (Nats::start(), S3Server::start().await);
    let directory = data_directory();
    let server = Server::start(directory.path(), &in_bucket(&nats, &s3));
    let page = directory.path().join("page.png");
    std::fs::write(&page, pages::png(64, 64, 1)).unwrap();
    let mut command = rust_example();
    command.args([nats.url().as_str(), &format!("s3://{BUCKET}/ink"), OWNER, page.to_str().unwrap()]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_ENDPOINT_URL", &s3.endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    let (well, kinds) = run_example(command).await;
    assert!(well, "{kinds:?} {}", server.log());
    assert_eq!(kinds.last().map(String::as_str), Some("succeeded"));
}
