//! docker-compose.yml brought up for real: the server in a container, its workers in others.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::docker::{Cluster, image};
use common::pages;
use common::server::PATIENCE;
use serde_json::Value;

/// The services of one test, taken down with the value.
struct Compose {
    project: String,
    environment: Vec<(&'static str, String)>,
}

impl Compose {
    fn run(&self, arguments: &[&str]) -> Output {
        let plugin = Command::new("docker").args(["compose", "version"]).output().is_ok_and(|it| it.status.success());
        let mut command = Command::new(if plugin { "docker" } else { "docker-compose" });
        command.args(plugin.then_some("compose")).args(["-p", &self.project]).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.output().expect("docker-compose")
    }

    fn up(&self) {
        let up = self.run(&["up", "-d"]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    }

    fn logs(&self) -> String {
        String::from_utf8_lossy(&self.run(&["logs"]).stdout).into_owned()
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.run(&["down", "--volumes", "--timeout", "30"]);
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_without_services_works_from_its_image() {
    let cluster = Cluster::new();
    let slots = tempfile::Builder::new().prefix("inkpool-slots-").tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let environment = vec![
        ("INKPOOL_IMAGE", image()),
        ("INKPOOL_LISTEN", listen.clone()),
        ("INKPOOL_SLOTS", "1".to_owned()),
        ("INKPOOL_CLUSTER", cluster.name.clone()),
        ("INKPOOL_SLOTS_DIRECTORY", slots.path().display().to_string()),
    ];
    let compose = Compose { project: cluster.name.clone(), environment };
    compose.up();
    let client = reqwest::Client::new();
    let began = Instant::now();
    let ask = async |path: &str| -> Value {
        loop {
            if let Ok(answer) = client.get(format!("http://{listen}{path}")).send().await {
                return answer.json().await.unwrap_or(Value::Null);
            }
            assert!(began.elapsed() < PATIENCE, "no answer\n{}", compose.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    while ask("/readyz").await["ready"] != true {
        assert!(began.elapsed() < PATIENCE, "not ready\n{}", compose.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let url = format!("http://{listen}/api/v1/images?preset=document&filename=page.png");
    let answer = client.post(url).body(pages::png(320, 240, 1)).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.unwrap();
    let job = format!("/api/v1/jobs/{}", answer["items"][0]["job"]["id"].as_str().unwrap());
    loop {
        let job = ask(&job).await;
        if job["state"] == "succeeded" {
            break;
        }
        assert_ne!(job["state"], "failed", "{job}\n{}", compose.logs());
        assert!(began.elapsed() < PATIENCE, "{job}\n{}", compose.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.running().len(), 1, "a worker in a container of its own");
    let server = compose.run(&["ps", "-q"]);
    let server = String::from_utf8_lossy(&server.stdout).trim().to_owned();
    loop {
        let health = cluster.docker(&["inspect", "--format", "{{.State.Health.Status}}", &server]);
        if health == "healthy" {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{health}\n{}", compose.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(compose);
    assert_eq!(cluster.containers(None), Vec::<String>::new(), "nothing is left of a node that was stopped");
}
