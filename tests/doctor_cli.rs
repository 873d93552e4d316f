//! `inkpool doctor`, and what `inkpool admin` does to nodes, slots and objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/mod.rs"]
mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::pages;
use common::server::{Options, Server, data_directory, files_below};
use serde_json::Value;

fn inkpool(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inkpool"));
    command.args(args).arg("--data").arg(data).env_clear().env("PATH", "/usr/bin:/bin").current_dir(data);
    command.env("TMPDIR", data).envs(environment.iter().copied()).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn doctor(data: &Path, more: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let output = inkpool(data, &[&["doctor", "--json"], more].concat(), environment);
    (output.status.code().unwrap(), objects(&output))
}

fn grades(items: &[Value], grade: &str) -> Vec<String> {
    let wanted = items.iter().filter(|item| item["grade"] == grade);
    wanted.map(|item| item["item"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_well_before_its_first_start_and_while_it_runs() {
    let (data, other) = (data_directory(), data_directory());
    let nowhere = [("INKPOOL_HTTP__LISTEN", "127.0.0.1:9")];
    let fresh = other.path().join("none");
    std::fs::create_dir(&fresh).unwrap();
    let (exit, items) = doctor(&fresh, &[], &nowhere);
    assert_eq!((exit, grades(&items, "fail")), (0, vec![]), "{items:#?}");
    assert_eq!(files_below(&fresh).len(), 0, "it has left something behind");
    let server = Server::start(data.path(), &Options::default().slots(1));
    let job = server.submit(pages::png(48, 32, 1), "photo").await;
    server.wait_final(&job).await;
    let listen = [("INKPOOL_HTTP__LISTEN", server.address.as_str())];
    let (exit, items) = doctor(data.path(), &["--hostile"], &listen);
    assert_eq!((exit, grades(&items, "fail")), (0, vec![]), "{items:#?}");
    assert!(items.len() > 20, "{}", items.len());
    assert!(items.iter().any(|item| item["detail"].as_str().unwrap().ends_with("is ready")), "{items:#?}");
    assert_eq!(server.workers().len(), 1, "its worker is gone, that of the server is not");
    let text = inkpool(data.path(), &["doctor"], &listen);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.lines().last().unwrap().ends_with("0 failed"), "{text}");
}

#[test]
fn each_fault_is_told_by_its_item() {
    let data = data_directory();
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("bus", &[("INKPOOL_BUS__URL", "nats://127.0.0.1:9")]),
        ("object store", &[("INKPOOL_BLOBS__URL", "s3://pages"), ("INKPOOL_BLOBS__ENDPOINT", "http://127.0.0.1:9")]),
        ("ledger", &[("INKPOOL_STORE__URL", "postgres://nobody@127.0.0.1:9/none")]),
        ("disk space", &[("INKPOOL_BLOBS__FREE_BYTES_MIN", "99999999999999")]),
        ("network and ONNX Runtime", &[("INKPOOL_MODELS__DIRECTORY", "/nowhere")]),
    ];
    let quick = [
        ("INKPOOL_BLOBS__RETRY_S", "1"),
        ("INKPOOL_BLOBS__CONNECT_TIMEOUT_S", "1"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ];
    for (item, environment) in cases {
        let (exit, items) = doctor(data.path(), &[], &[environment, &quick].concat());
        assert_eq!(exit, 1, "{item}: {items:#?}");
        assert!(grades(&items, "fail").contains(&item.to_owned()), "{item}: {items:#?}");
        let told = items.iter().find(|told| told["item"] == item).unwrap();
        assert!(told["remedy"].is_string() && told["detail"].as_str().unwrap().lines().count() == 1, "{told}");
    }
    let (exit, items) = doctor(data.path(), &[], &[("INKPOOL_SLOTS__COUNT", "1000")]);
    assert_eq!((exit, grades(&items, "fail")), (2, vec!["settings".to_owned()]));
    std::fs::write(data.path().join("inkpool.sqlite"), b"SQLite format 3\0 and then nothing of the kind").unwrap();
    std::fs::write(data.path().join("secret"), "x").unwrap();
    std::fs::set_permissions(data.path().join("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, items) = doctor(data.path(), &[], &[]);
    let failed = grades(&items, "fail");
    assert!(
        exit == 1 && failed.contains(&"ledger".to_owned()) && failed.contains(&"data directory".to_owned()),
        "{items:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_drain_and_slots_change_while_the_server_runs() {
    let data = data_directory();
    let admin = |args: &[&str]| inkpool(data.path(), &[&["admin", "--json"], args].concat(), &[]);
    assert_eq!(admin(&["node", "list"]).status.code(), Some(1), "a slip of the path makes no deployment");
    assert_eq!(files_below(data.path()).len(), 0);
    let server = Server::start(data.path(), &Options::default().slots(1).set("INKPOOL_NODES__RENEW_EVERY_S", 1));
    let node = || async { server.get("/api/v1/cluster").await["nodes"][0].clone() };
    let name = node().await["id"].as_str().unwrap().to_owned();
    let drained = admin(&["node", "drain"]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(objects(&drained)[0]["draining"], true);
    assert_eq!(node().await["draining"], true);
    assert_eq!(admin(&["node", "drain", &name, "--undo"]).status.code(), Some(0));
    assert_eq!(node().await["draining"], false);
    assert_eq!(admin(&["slots", "set", "3"]).status.code(), Some(0));
    assert_eq!(node().await["slots_count"], 3);
    for wrong in [&["slots", "set", "1000"][..], &["node", "drain", "node-none"]] {
        let output = admin(wrong);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    }
    assert_eq!(admin(&["slots", "set", "0"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_has_its_object_or_it_is_said() {
    let data = data_directory();
    let server = Server::start(data.path(), &Options::default());
    for seed in 0..3 {
        let job = server.submit(pages::png(48, 32, seed), "document").await;
        server.wait_final(&job).await;
    }
    let verify = |more: &[&str]| {
        let output = inkpool(data.path(), &[&["admin", "store", "verify", "--json"], more].concat(), &[]);
        (output.status.code().unwrap(), objects(&output))
    };
    let (exit, told) = verify(&[]);
    assert_eq!((exit, told.len()), (0, 1), "{told:?}");
    assert_eq!((&told[0]["objects"], &told[0]["faults"]), (&15.into(), &0.into()), "{told:?}");
    let objects = data.path().join("objects");
    let files: Vec<_> = files_below(&objects).into_iter().map(|file| objects.join(file)).collect();
    let ending = |name: &str, nth: usize| files.iter().filter(|file| file.ends_with(name)).nth(nth).unwrap();
    std::fs::remove_file(ending("original", 0)).unwrap();
    let mut bytes = std::fs::read(ending("clean.png", 1)).unwrap();
    bytes.reverse();
    std::fs::write(ending("clean.png", 1), &bytes).unwrap();
    std::fs::write(ending("thumb.webp", 2), b"short").unwrap();
    let faults = |told: &[Value]| {
        let mut faults: Vec<_> = told.iter().filter_map(|told| Some(told["fault"].as_str()?.to_owned())).collect();
        faults.sort();
        faults
    };
    let (exit, told) = verify(&[]);
    assert_eq!((exit, faults(&told)), (1, ["hash_differs", "missing", "size_differs"].map(str::to_owned).to_vec()));
    let (exit, told) = verify(&["--quick"]);
    assert_eq!((exit, faults(&told)), (1, ["missing", "size_differs"].map(str::to_owned).to_vec()));
}
