//! `inkpool upload` and `inkpool jobs` as users call them, against the real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/s3.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "other tests use the rest")]
mod s3;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::nats::Nats;
use common::pages;
use common::postgres::Postgres;
use common::server::{Options, PATIENCE, Server, data_directory, files_below};
use s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A folder to work in.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(data_directory())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Pages that all differ, in folders within each other.
    fn scans(&self, count: u32) {
        for page in 0..count {
            let folder = ["", "a/", "a/deep/", "b/"][page as usize % 4];
            self.write(&format!("scans/{folder}{page:03}.png"), &pages::png(48, 32, page));
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inkpool"));
        command.args(args).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn objects(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn assert_exit(output: &Output, exit: i32) {
    assert_eq!(output.status.code(), Some(exit), "{}", errors(output));
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(std::fs::read(path).unwrap()))
}

async fn images(server: &Server) -> Vec<Value> {
    server.get("/api/v1/images?limit=500").await["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pages_come_back_in_a_folder_that_mirrors_theirs() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default());
    desk.scans(100);
    let address = server.url("");
    let args = ["upload", "scans/", "--wait", "--out", "cleaned/", "--server", &address, "--json"];
    let output = desk.run(&args);
    assert_exit(&output, 0);
    let results = objects(&output);
    assert_eq!(results.len(), 100);
    assert!(errors(&output).contains("100 succeeded"), "{}", errors(&output));
    let wanted: BTreeSet<String> = files_below(&desk.path("scans"))
        .iter()
        .flat_map(|page| {
            let folder = page.trim_end_matches(".png").to_owned();
            ["clean.png", "clean.webp", "thumb.webp", "manifest.json"].map(|name| format!("{folder}/{name}"))
        })
        .collect();
    assert_eq!(files_below(&desk.path("cleaned")), wanted);
    for file in results.iter().flat_map(|result| result["files"].as_array().unwrap()) {
        assert_eq!(sha256(&desk.path(file["path"].as_str().unwrap())), file["sha256"].as_str().unwrap(), "{file}");
    }
    // The same again sends nothing and fetches nothing.
    let (received, given) = traffic(&server).await;
    std::fs::remove_file(desk.path("cleaned/000/clean.png")).unwrap();
    let output = desk.run(&args);
    assert_exit(&output, 0);
    assert!(objects(&output).iter().all(|result| result["sent_before"] == true));
    let (received_now, given_now) = traffic(&server).await;
    assert_eq!(received_now, received);
    let restored = std::fs::metadata(desk.path("cleaned/000/clean.png")).unwrap().len();
    assert_eq!(given_now - given, restored);
    assert_eq!(images(&server).await.len(), 100);
}

/// A node of one slot that shares ledger, bus and objects.
fn shared(postgres: &Postgres, nats: &Nats, bucket: &S3Server) -> Options {
    Options::default()
        .slots(1)
        .set("INKPOOL_STORE__URL", postgres.url())
        .set("INKPOOL_BUS__URL", nats.url())
        .set("INKPOOL_BLOBS__URL", format!("s3://{BUCKET}/inkpool"))
        .set("INKPOOL_BLOBS__ENDPOINT", &bucket.endpoint)
        .set("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .set("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_gives_the_same_as_one_node() {
    let (desk, data, other_data) = (Desk::new(), data_directory(), data_directory());
    let (postgres, nats, bucket) = (Postgres::start().await, Nats::start(), S3Server::start().await);
    let options = shared(&postgres, &nats, &bucket);
    let (first, second) = (Server::start(data.path(), &options), Server::start(other_data.path(), &options));
    desk.scans(100);
    let upload = |server: &Server| {
        let args = ["upload", "scans/", "--wait", "--out", "cleaned/", "--server", &server.url(""), "--json"];
        let output = desk.run(&args);
        assert_exit(&output, 0);
        objects(&output)
    };
    let results = upload(&first);
    assert_eq!((results.len(), files_below(&desk.path("cleaned")).len()), (100, 400));
    for file in results.iter().flat_map(|result| result["files"].as_array().unwrap()) {
        assert_eq!(sha256(&desk.path(file["path"].as_str().unwrap())), file["sha256"].as_str().unwrap(), "{file}");
    }
    let nodes: BTreeSet<_> = results.iter().map(|result| result["job"]["node"].to_string()).collect();
    assert_eq!(nodes.len(), 2, "both have worked: {nodes:?}");
    // Another node knows what the first was sent.
    assert!(upload(&second).iter().all(|result| result["sent_before"] == true));
    assert_eq!(images(&first).await.len(), 100);
}

/// Bytes of images in and of files out, as the server counts them.
async fn traffic(server: &Server) -> (u64, u64) {
    let text = server.client().get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    };
    (count("inkpool_bytes_in_total"), count("inkpool_bytes_out_total"))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_interruption_nothing_is_uploaded_twice() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default());
    desk.scans(40);
    let address = server.url("");
    let args = ["upload", "scans/", "--server", &address, "--parallel", "2"];
    for signal in ["KILL", "INT"] {
        let before = images(&server).await.len();
        let mut child = desk.start(&args);
        let began = Instant::now();
        while images(&server).await.len() < before + 5 {
            assert!(began.elapsed() < PATIENCE, "nothing is uploaded");
        }
        common::server::signal(child.id(), signal);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), if signal == "INT" { Some(1) } else { None }, "{said}");
        assert!(signal == "KILL" || said.contains("the same command goes on"), "{said}");
        assert!(images(&server).await.len() < 40, "it was too fast to be interrupted");
    }
    let output = desk.run(&args);
    assert_exit(&output, 0);
    let names: BTreeSet<_> = images(&server).await.iter().map(|image| image["filename"].to_string()).collect();
    assert_eq!((names.len(), images(&server).await.len()), (40, 40));
    // What was deleted since is uploaded again, and so is everything if that is said.
    let image = images(&server).await[0]["id"].as_str().unwrap().to_owned();
    server.client().delete(server.url(&format!("/api/v1/images/{image}"))).send().await.unwrap();
    assert_exit(&desk.run(&args), 0);
    assert_eq!(images(&server).await.len(), 40);
    assert_exit(&desk.run(&["upload", "scans/b", "--server", &address, "--again"]), 0);
    assert_eq!(images(&server).await.len(), 50);
}

/// Gray noise as PNM, which nothing makes shorter: 6 MB.
#[cfg(feature = "fault-points")]
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    b"P5\n3000 2000\n255\n".iter().copied().chain(std::iter::repeat_with(next).take(6_000_000)).collect()
}

/// Bytes of uploads that the server has read since it was started.
#[cfg(feature = "fault-points")]
async fn bytes_in(server: &Server) -> u64 {
    let text = server.client().get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("inkpool_bytes_in_total "));
    line.map_or(0, |value| value.parse().unwrap())
}

#[cfg(feature = "fault-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_long_image_goes_on_at_the_byte_where_it_was() {
    let (desk, data) = (Desk::new(), data_directory());
    let page = desk.write("long.pgm", &noise());
    let size = std::fs::metadata(&page).unwrap().len();
    // Killed when the third piece of 1 MiB is acknowledged: a call that does not try again has failed.
    let options = Options::default().set("INKPOOL_TUS__PIECE_BYTES", 1 << 20);
    let server = Server::start(data.path(), &options.clone().set("INKPOOL_FAULT", "piece-acknowledged:3"));
    let address = server.url("");
    let output = desk.run(&["upload", "long.pgm", "--server", &address, "--retry-for", "0", "--json"]);
    assert_exit(&output, 4);
    drop(server);
    // The next call sends the rest, and only that; killed once more, it goes on by itself.
    let mut again = options.clone().set("INKPOOL_FAULT", "piece-acknowledged:1");
    again.listen = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut server = Server::start(data.path(), &again);
    let call = desk.start(&["upload", "long.pgm", "--server", &address, "--json"]);
    let ended = tokio::time::timeout(PATIENCE, async {
        while server.client().get(server.url("/healthz")).send().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the server was not killed");
    drop(server);
    again.environment.retain(|(key, _)| key != "INKPOOL_FAULT");
    server = Server::start(data.path(), &again);
    let output = call.wait_with_output().unwrap();
    assert_exit(&output, 0);
    let sent = bytes_in(&server).await;
    assert!((1..=size - 4 * (1 << 20)).contains(&sent), "{sent} of {size} bytes were sent after four MiB were there");
    let images = images(&server).await;
    assert_eq!((images.len(), &images[0]["sha256"]), (1, &sha256(&page).into()));
    // A third call finds it.
    let output = desk.run(&["upload", "long.pgm", "--server", &address, "--json"]);
    assert_exit(&output, 0);
    assert_eq!((bytes_in(&server).await, &objects(&output)[0]["sent_before"]), (sent, &true.into()));
}

#[cfg(feature = "fault-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_goes_on_with_what_one_has_acknowledged() {
    let (desk, data, other_data) = (Desk::new(), data_directory(), data_directory());
    let (postgres, nats, bucket) = (Postgres::start().await, Nats::start(), S3Server::start().await);
    let page = desk.write("long.pgm", &noise());
    let size = std::fs::metadata(&page).unwrap().len();
    let options = shared(&postgres, &nats, &bucket).set("INKPOOL_TUS__PIECE_BYTES", 1 << 20);
    let mut first = Server::start(data.path(), &options.clone().set("INKPOOL_FAULT", "piece-acknowledged:3"));
    let second = Server::start(other_data.path(), &options);
    let output = desk.run(&["upload", "long.pgm", "--server", &first.url(""), "--retry-for", "0", "--json"]);
    assert_exit(&output, 4);
    first.wait();
    // The dead node still holds it for a while, which the second call waits for.
    let output = desk.run(&["upload", "long.pgm", "--server", &second.url(""), "--json"]);
    assert_exit(&output, 0);
    let sent = bytes_in(&second).await;
    assert!((1..=size - 3 * (1 << 20)).contains(&sent), "{sent} of {size} bytes were sent after three MiB were there");
    let images = images(&second).await;
    assert_eq!((images.len(), &images[0]["sha256"]), (1, &sha256(&page).into()));
    let left = files_below(&bucket.bucket());
    assert!(!left.iter().any(|object| object.contains("/piece/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_does_not_stop_the_rest() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default());
    let good = pages::png(48, 32, 1);
    desk.write("good.png", &good);
    desk.write("cut.png", &good[..good.len() / 2]);
    desk.write("bad-header.png", &good[..20]);
    desk.write("empty.png", b"");
    desk.write("notes.txt", b"no image");
    let address = server.url("");
    let names = ["cut.png", "bad-header.png", "empty.png", "notes.txt", "good.png"];
    let args: Vec<&str> =
        ["upload", "--server", &address, "--wait", "--out", "out", "--json"].into_iter().chain(names).collect();
    let output = desk.run(&args);
    assert_exit(&output, 3);
    let results = objects(&output);
    let result = |name: &str| results.iter().find(|result| result["input"] == name).unwrap();
    assert_eq!(result("good.png")["state"], "succeeded");
    for (name, code) in [
        ("cut.png", "malformed"),
        ("bad-header.png", "malformed"),
        ("empty.png", "empty_body"),
        ("notes.txt", "unsupported_format"),
    ] {
        assert_eq!(
            (result(name)["state"].as_str(), result(name)["error"]["code"].as_str()),
            (Some("refused"), Some(code))
        );
    }
    assert_eq!(files_below(&desk.path("out")).len(), 4, "{:?}", files_below(&desk.path("out")));
    // A file that is not there is a failure, and worse than nothing; a refusal is worse in the order of exit codes.
    assert_exit(&desk.run(&["upload", "good.png", "none.png", "--server", &address]), 1);
    assert_exit(&desk.run(&["upload", "notes.txt", "none.png", "--server", &address]), 3);
    let unknown = desk.run(&["upload", "good.png", "--preset", "poster", "--server", &address]);
    assert_exit(&unknown, 2);
    assert!(errors(&unknown).contains("document, photo"), "{}", errors(&unknown));
    assert_exit(&desk.run(&["upload", "good.png", "--set", "quality=900", "--server", &address]), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_that_is_reached_is_said_once_and_not_waited_for() {
    let (desk, data) = (Desk::new(), data_directory());
    let options =
        Options::default().set("INKPOOL_QUOTAS__IN_OPEN_MODE", true).set("INKPOOL_QUOTAS__STORED_BYTES_MAX", 10);
    let server = Server::start(data.path(), &options);
    desk.scans(3);
    let began = Instant::now();
    let output = desk.run(&["upload", "scans/", "--parallel", "1", "--server", &server.url("")]);
    assert_exit(&output, 1);
    let told = errors(&output);
    assert_eq!(told.matches("This does not fit into what you may store.").count(), 1, "{told}");
    assert!(told.contains("(limit 10 bytes") && told.contains("Delete images that are no longer needed"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(20), "it did not wait for what time does not change");
    assert!(images(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_has_is_not_stored_under_another_name() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default());
    for name in ["a.png", "deep/b.png", "c.png"] {
        desk.write(&format!("scans/{name}"), &pages::png(48, 32, 1));
    }
    let address = server.url("");
    let args = ["upload", "scans/", "--dedup", "--wait", "--out", "cleaned", "--json", "--server", &address];
    let output = desk.run(&args);
    assert_exit(&output, 0);
    assert_eq!(images(&server).await.len(), 1);
    assert_eq!(files_below(&desk.path("cleaned")).iter().filter(|file| file.ends_with("clean.png")).count(), 3);
    // Without it each is an image of its own.
    let output = desk.run(&["upload", "scans/", "--again", "--server", &address]);
    assert_exit(&output, 0);
    assert_eq!(images(&server).await.len(), 4);
}

#[test]
fn without_a_server_it_says_so_in_one_line() {
    let desk = Desk::new();
    desk.scans(3);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    for args in [
        vec!["upload", "scans/", "--server", &address, "--retry-for", "1"],
        vec!["jobs", "list", "--server", &address, "--retry-for", "0"],
        vec!["upload", "scans/", "--server", "http://no-such-host.invalid", "--retry-for", "0"],
    ] {
        let output = desk.run(&args);
        assert_exit(&output, 4);
        let said = errors(&output);
        assert!(said.lines().count() == 1 && said.contains("cannot reach http://"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_is_lived_through() {
    let (desk, data) = (Desk::new(), data_directory());
    let mut server = Server::start(data.path(), &Options::default());
    let listen = server.address.clone();
    desk.scans(30);
    let address = server.url("");
    let args = ["upload", "scans/", "--wait", "--out", "cleaned", "--server", &address, "--parallel", "2"];
    let child = desk.start(&args);
    let began = Instant::now();
    while images(&server).await.len() < 8 {
        assert!(began.elapsed() < PATIENCE, "nothing is uploaded");
    }
    server.kill();
    let again = Server::start(data.path(), &Options { listen, ..Options::default() });
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 0);
    assert_eq!(images(&again).await.len(), 30);
    assert_eq!(files_below(&desk.path("cleaned")).len(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_kept_only_if_it_is_what_the_ledger_says() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default());
    desk.write("page.png", &pages::png(48, 32, 1));
    let address = server.url("");
    assert_exit(&desk.run(&["upload", "page.png", "--wait", "--server", &address]), 0);
    // A disk that has gone bad under the server.
    let objects = data.path().join("objects");
    let stored = files_below(&objects).into_iter().find(|file| file.ends_with("clean.png")).unwrap();
    let whole = std::fs::read(objects.join(&stored)).unwrap();
    let mut bad = whole.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(objects.join(&stored), bad).unwrap();
    let args = ["upload", "page.png", "--wait", "--out", "out", "--server", &address];
    let output = desk.run(&args);
    assert_exit(&output, 1);
    assert!(errors(&output).contains("clean.png is not what"), "{}", errors(&output));
    assert!(!files_below(&desk.path("out")).iter().any(|file| file.ends_with("clean.png") || file.contains("tmp")));
    std::fs::write(objects.join(&stored), whole).unwrap();
    assert_exit(&desk.run(&args), 0);
    // What somebody has put there stays, unless it may be replaced.
    desk.write("out/page/clean.png", b"mine");
    let output = desk.run(&args);
    assert_exit(&output, 1);
    assert!(errors(&output).contains("--overwrite"), "{}", errors(&output));
    assert_eq!(std::fs::read(desk.path("out/page/clean.png")).unwrap(), b"mine");
    assert_exit(&desk.run(&[&args[..], &["--overwrite"]].concat()), 0);
    assert_ne!(std::fs::read(desk.path("out/page/clean.png")).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_from_a_file_that_nobody_else_reads() {
    let (desk, data) = (Desk::new(), data_directory());
    let options =
        Options::default().slots(1).set("INKPOOL_AUTH__MODE", "accounts").set("INKPOOL_AUTH__ARGON2_MEMORY_KIB", 64);
    let server = Server::start(data.path(), &options);
    desk.write("page.png", &pages::png(48, 32, 1));
    let data = data.path().to_str().unwrap();
    let mut create = desk.command(&["admin", "--data", data, "user", "create", "ada"]);
    create.env("INKPOOL_AUTH__ARGON2_MEMORY_KIB", "64");
    let mut child = create.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"seven crooked lamps\n").unwrap();
    assert_exit(&child.wait_with_output().unwrap(), 0);
    let token = desk.run(&["admin", "--data", data, "token", "create", "--user", "ada", "--name", "x"]);
    assert_exit(&token, 0);
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let address = server.url("");
    let args = ["upload", "page.png", "--server", &address];
    let nobody = desk.run(&args);
    assert_exit(&nobody, 1);
    assert!(errors(&nobody).contains("The server asks for a token. Make one"), "{}", errors(&nobody));
    let file = desk.write(".config/inkpool/tokens", format!("machine 127.0.0.1 token {token}\n").as_bytes());
    let with_mode = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        desk.run(&args)
    };
    let loose = with_mode(0o640);
    assert_exit(&loose, 2);
    assert!(errors(&loose).contains("chmod 600") && errors(&loose).lines().count() == 1, "{}", errors(&loose));
    assert_exit(&with_mode(0o600), 0);
    std::fs::remove_file(&file).unwrap();
    assert_exit(&desk.run(&[&args[..], &["--token", &token]].concat()), 0);
    let by_variable = desk.command(&args).env("INKPOOL_TOKEN", &token).output().unwrap();
    assert_exit(&by_variable, 0);
    let help =
        String::from_utf8(desk.command(&["upload", "--help"]).env("INKPOOL_TOKEN", &token).output().unwrap().stdout);
    assert!(!help.unwrap().contains(&token));
}

/// Answers every request with a redirect, and keeps what was asked.
fn redirecting_server(to: String) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(String::new()));
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}

#[test]
fn nothing_follows_a_redirect_to_another_server() {
    let desk = Desk::new();
    desk.scans(1);
    let (elsewhere, heard) = redirecting_server("http://127.0.0.1:9/".to_owned());
    let (address, asked) = redirecting_server(format!("{elsewhere}/api/v1/presets"));
    let output = desk.run(&["upload", "scans/", "--server", &address, "--token", "inkpool_geheim"]);
    assert_exit(&output, 1);
    assert!(errors(&output).contains(&format!("--server {elsewhere}")), "{}", errors(&output));
    assert!(asked.lock().unwrap().contains("inkpool_geheim"));
    assert_eq!(*heard.lock().unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_shown_watched_cancelled_and_tried_again() {
    let (desk, data) = (Desk::new(), data_directory());
    let server = Server::start(data.path(), &Options::default().slots(1));
    let good = pages::png(48, 32, 1);
    desk.write("good.png", &good);
    desk.write("cut.png", &good[..good.len() / 2]);
    desk.write("large.png", &pages::png(1800, 1400, 3));
    let address = server.url("");
    let jobs = |args: &[&str]| desk.run(&[&["jobs", "--server", &address, "--json"], args].concat());
    let output =
        desk.run(&["upload", "good.png", "cut.png", "large.png", "--server", &address, "--json", "--parallel", "1"]);
    assert_exit(&output, 0);
    let sent = objects(&output);
    let id = |name: &str| {
        let sent = sent.iter().find(|sent| sent["input"] == name).unwrap();
        sent["job_id"].as_str().unwrap().to_owned()
    };
    let (good, cut, large) = (id("good.png"), id("cut.png"), id("large.png"));
    let cancelled = jobs(&["cancel", &large]);
    assert_exit(&cancelled, 0);
    assert_exit(&jobs(&["watch", &good]), 0);
    assert_exit(&jobs(&["watch", &good, &cut]), 3);
    assert_exit(&jobs(&["watch", &large]), 1);
    assert_eq!(objects(&jobs(&["show", &large]))[0]["state"], "cancelled");
    let states = |args: &[&str]| objects(&jobs(args)).iter().map(|job| job["state"].to_string()).collect::<Vec<_>>();
    assert_eq!(states(&["list"]).len(), 3);
    assert_eq!(states(&["list", "--limit", "2"]).len(), 2);
    assert_eq!(states(&["list", "--state", "failed"]), ["\"failed\""]);
    assert_exit(&jobs(&["cancel", &good]), 1);
    let retried = jobs(&["retry", &good, &large]);
    assert_exit(&retried, 1);
    assert_eq!(objects(&retried).len(), 1, "the one that cannot be retried does not stop the other");
    assert_exit(&jobs(&["watch", &large]), 0);
    assert_exit(&jobs(&["show", "0199a3f0-5d1e-7c52-9d6c-7a3f1f0c9b11"]), 1);
    assert_exit(&jobs(&["show", "x"]), 2);
    let text = desk.run(&["jobs", "list", "--server", &address]);
    assert!(
        String::from_utf8_lossy(&text.stdout).lines().any(|line| line.contains("failed") && line.starts_with(&cut))
    );
    follows(&desk, &server, &address);
}

/// `jobs watch` without a job tells what happens until it is ended.
fn follows(desk: &Desk, server: &Server, address: &str) {
    let mut child = desk.start(&["jobs", "watch", "--server", address]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::sleep(Duration::from_millis(500));
    assert_exit(&desk.run(&["upload", "good.png", "--again", "--wait", "--server", &server.url("")]), 0);
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("succeeded")));
    common::server::signal(child.id(), "INT");
    child.wait().unwrap();
}
