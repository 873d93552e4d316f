//! Docker slots through the real program on a real engine. Needs INKPOOL_TEST_IMAGE, see scripts/test-image.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::docker::{Cluster, image};
use common::pages;
use common::server::{Server, data_directory, until};
use serde_json::Value;

fn act(text: &str, seed: u32) -> Vec<u8> {
    pages::png_with_text("inkpool-fault", text, seed)
}

fn inspect(cluster: &Cluster, id: &str) -> Value {
    let found: Value = serde_json::from_str(&cluster.docker(&["inspect", id])).unwrap();
    found[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_through_a_container_with_every_limit() {
    let cluster = Cluster::new();
    let data = data_directory();
    let mut server = Server::start(data.path(), &cluster.options(2));
    let id = server.submit(pages::png(640, 480, 1), "document").await;
    let job = server.wait_final(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}\n{}", server.log());

    let ready = server.get("/readyz").await;
    let runtime = ready["runtimes"].as_object().unwrap().values().next().unwrap();
    assert_eq!(runtime["runtime"], "docker");
    assert!(runtime["isolation"]["seccomp"].as_bool().unwrap(), "{runtime}");
    let running = cluster.running();
    assert_eq!(running.len(), 2, "one container for each slot");
    for id in &running {
        limits_hold(&inspect(&cluster, id));
    }
    let slots: BTreeSet<_> =
        running.iter().map(|id| inspect(&cluster, id)["Config"]["Labels"]["inkpool.slot"].to_string()).collect();
    assert_eq!(slots, BTreeSet::from(["\"0\"".to_owned(), "\"1\"".to_owned()]));

    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    assert_eq!(cluster.containers(None), Vec::<String>::new(), "a drained node leaves nothing");
    let slots = common::server::files_below(&data.path().join("slots"));
    assert!(slots.is_empty(), "{slots:?}");
}

fn limits_hold(container: &Value) {
    let host = &container["HostConfig"];
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["IpcMode"], "none");
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&(512 << 20).into(), &(512 << 20).into()));
    assert_eq!(host["NanoCpus"], 1_000_000_000);
    assert_eq!(host["PidsLimit"], 64);
    assert_eq!(host["Init"], true);
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert!(host["Tmpfs"]["/tmp"].as_str().unwrap().contains("size=16777216"));
    let limits = host["Ulimits"].as_array().unwrap();
    assert!(limits.iter().any(|limit| limit["Name"] == "nofile" && limit["Hard"] == 256), "{limits:?}");
    let writable: Vec<_> =
        host["Mounts"].as_array().unwrap().iter().filter(|mount| mount["ReadOnly"] != true).collect();
    assert_eq!(writable.len(), 1, "{host}");
    assert_eq!(writable[0]["Target"], "/slot/out");
    let config = &container["Config"];
    assert_ne!(config["User"].as_str().unwrap().split(':').next(), Some("0"));
    assert!(config["Image"].as_str().unwrap().starts_with("sha256:"), "{config}");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["NONE"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_costs_its_job_one_crash_and_nobody_else() {
    let cluster = Cluster::new();
    let data = data_directory();
    let server = Server::start(data.path(), &cluster.options(1));
    let id = server.submit(act("hang", 1), "photo").await;
    server.wait_for(&id, &["running"]).await;
    until("its container works", || server.log().contains("\"executing\"") || cluster.running().len() == 1).await;
    // It is hung, so it has no other end than this.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    cluster.docker(&["kill", &cluster.running()[0]]);
    let job = server.wait_for(&id, &["queued"]).await;
    assert_eq!((&job["attempt"], &job["error"]["code"]), (&1.into(), &"crashed".into()), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("SIGKILL"), "{job}");
    assert_eq!(server.post(&format!("/api/v1/jobs/{id}/cancel")).await.0, 200);
    let next = server.submit(pages::png(64, 64, 2), "photo").await;
    assert_eq!(server.wait_final(&next).await["state"], "succeeded", "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_container_that_ends_is_replaced_before_a_job_meets_it() {
    let cluster = Cluster::new();
    let data = data_directory();
    let server = Server::start(data.path(), &cluster.options(1));
    let first = cluster.running();
    cluster.docker(&["kill", &first[0]]);
    until("another one runs", || cluster.running().iter().any(|id| *id != first[0])).await;
    let id = server.submit(pages::png(64, 64, 3), "photo").await;
    let job = server.wait_final(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_memory_is_told_from_a_crash() {
    let cluster = Cluster::new();
    let data = data_directory();
    let options = cluster.options(1).set("INKPOOL_JOBS__CRASHES_MAX", 1);
    let server = Server::start(data.path(), &options);
    for (fault, words) in [("oom", "ran out of memory"), ("crash", "SIGABRT")] {
        let id = server.submit(act(fault, 4), "photo").await;
        let job = server.wait_final(&id).await;
        assert_eq!(job["state"], "failed", "{job}");
        let error = job["error"].to_string();
        assert!(error.contains(words), "{fault}: {error}\n{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_announced_is_refused() {
    let cluster = Cluster::new();
    let data = data_directory();
    let options = cluster.options(1).set("INKPOOL_JOBS__CRASHES_MAX", 1);
    let server = Server::start(data.path(), &options);
    for (seed, fault) in ["lie-length", "lie-hash", "lie-size", "unannounced", "protocol"].into_iter().enumerate() {
        let id = server.submit(act(fault, u32::try_from(seed).unwrap()), "photo").await;
        let job = server.wait_final(&id).await;
        assert_eq!(job["state"], "failed", "{fault}: {job}");
        let code = job["error"]["code"].as_str().unwrap();
        assert!(["untrusted_output", "protocol"].contains(&code), "{fault}: {job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_recycled_and_its_container_goes() {
    let cluster = Cluster::new();
    let data = data_directory();
    let server = Server::start(data.path(), &cluster.options(1).set("INKPOOL_SLOTS__RECYCLE_AFTER_JOBS", 1));
    let first = cluster.running();
    let id = server.submit(pages::png(64, 64, 5), "photo").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
    until("it is replaced", || {
        let now = cluster.containers(None);
        now.len() == 1 && now != first
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_this_node_go_at_the_start_and_no_others() {
    let cluster = Cluster::new();
    let data = data_directory();
    let mut server = Server::start(data.path(), &cluster.options(1));
    let id = server.submit(act("hang", 6), "photo").await;
    server.wait_for(&id, &["running"]).await;
    server.kill();
    let orphans = cluster.containers(None);
    assert!(!orphans.is_empty(), "a hung worker outlives its server");
    let cluster_label = format!("inkpool.cluster={}", cluster.name);
    let create = ["create", "--label", &cluster_label, "--label", "inkpool.node=another", "--label", "inkpool.slot=0"];
    let image = image();
    let others = cluster.docker(&[&create[..], &[&image]].concat());

    let server = Server::start(data.path(), &cluster.options(1));
    let now = cluster.containers(None);
    assert!(now.contains(&others), "another node's container is not ours to remove");
    assert!(orphans.iter().all(|orphan| !now.contains(orphan)), "{orphans:?} {now:?}");
    assert_eq!(server.post(&format!("/api/v1/jobs/{id}/cancel")).await.0, 200);
    // One that turns up later, too.
    let node = std::fs::read_to_string(data.path().join("node")).unwrap();
    let node_label = format!("inkpool.node={node}");
    let late = cluster.docker(&["create", "--label", &cluster_label, "--label", &node_label, &image]);
    until("a late orphan is removed", || !cluster.containers(None).contains(&late)).await;
    assert!(cluster.containers(None).contains(&others));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_the_servers_is_refused_at_the_start() {
    let cluster = Cluster::new();
    let data = data_directory();
    let options = cluster.options(1).set("INKPOOL_SLOTS__DOCKER__IMAGE", "inkpool-nobody-made-this:1");
    let Err(log) = Server::try_start(data.path(), &options) else { panic!("it started without an image") };
    assert!(log.contains("inkpool-nobody-made-this"), "{log}");

    // The network of another image: the same program, one byte of the digest changed.
    let models = data.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::fs::copy(repository.join("denoise.onnx"), models.join("denoise.onnx")).unwrap();
    std::fs::write(models.join("denoise.onnx.sha256"), format!("{}  denoise.onnx\n", "0".repeat(64))).unwrap();
    let options = cluster.options(1).set("INKPOOL_MODELS__DIRECTORY", models.display());
    let Err(log) = Server::try_start(data.path(), &options) else { panic!("it started with another network") };
    assert!(log.contains("network is") && log.contains("does not match"), "{log}");
    assert_eq!(cluster.containers(None), Vec::<String>::new());
}
