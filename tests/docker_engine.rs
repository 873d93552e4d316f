//! A Docker Engine of the test's own that is killed, started again and stopped in the middle of work: no attempt is spent.
#![cfg(feature = "fault-points")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::{Child, Command, Stdio};

use common::docker::{Cluster, image};
use common::pages;
use common::server::{PATIENCE, Server, data_directory, signal};
use serde_json::Value;

/// Where an engine that starts a containerd of its own notes its number.
const CONTAINERD_PID: &str = "exec/containerd/containerd.pid";

/// An engine with a directory of its own, without networks.
struct Engine {
    child: Child,
    directory: tempfile::TempDir,
}

impl Engine {
    fn start() -> Self {
        // The paths of its sockets are bounded: not below a deep directory.
        let directory = tempfile::Builder::new().prefix("ink").tempdir_in("/tmp").unwrap();
        let driver = Command::new("docker").args(["info", "--format", "{{.Driver}}"]).output().unwrap();
        let driver = String::from_utf8(driver.stdout).unwrap();
        let settings = serde_json::json!({ "storage-driver": driver.trim() });
        std::fs::write(directory.path().join("engine.json"), settings.to_string()).unwrap();
        let child = Self::spawn(directory.path());
        let engine = Self { child, directory };
        engine.wait();
        engine
    }

    fn spawn(directory: &std::path::Path) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        // In a network of its own: an engine without a bridge takes docker0 away from the one that is there.
        Command::new("unshare")
            .args(["--net", "dockerd", "-H"])
            .arg(format!("unix://{}", directory.join("s").display()))
            .arg("--data-root")
            .arg(directory.join("root"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("--config-file")
            .arg(directory.join("engine.json"))
            .args(["--bridge", "none", "--iptables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("s").display())
    }

    fn wait(&self) {
        let began = std::time::Instant::now();
        loop {
            let asked = Command::new("docker").args(["-H", &self.host(), "version"]).output().unwrap();
            if asked.status.success() {
                return;
            }
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "the engine does not start:\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn load(&self, image: &str) {
        let mut save = Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn().unwrap();
        let from = save.stdout.take().unwrap();
        let load = Command::new("docker").args(["-H", &self.host(), "load"]).stdin(from).output().unwrap();
        assert!(load.status.success(), "{load:?}");
        assert!(save.wait().unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // In peace an engine removes these by itself; its containerd dies with it.
        for record in ["pid", CONTAINERD_PID] {
            let _ = std::fs::remove_file(self.directory.path().join(record));
        }
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(self.directory.path());
        self.wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        signal(self.child.id(), "CONT");
        signal(self.child.id(), "TERM");
        for _ in 0..300 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Where it had to start a containerd of its own, that may outlive it.
        if let Ok(pid) = std::fs::read_to_string(self.directory.path().join(CONTAINERD_PID)) {
            pid.trim().parse().into_iter().for_each(|pid: u32| signal(pid, "KILL"));
        }
        // An engine mounts its own data, and one that was killed leaves it so.
        let _ = Command::new("umount").arg("--lazy").arg(self.directory.path().join("root")).output();
    }
}

async fn not_ready(server: &Server) -> String {
    let began = std::time::Instant::now();
    loop {
        let ready: Value = server.get("/readyz").await;
        if let Some(reasons) = ready["reasons"].as_array().filter(|reasons| !reasons.is_empty()) {
            return reasons.iter().map(ToString::to_string).collect();
        }
        assert!(began.elapsed() < PATIENCE, "still ready\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn ready(server: &Server) {
    let began = std::time::Instant::now();
    while server.get("/readyz").await["ready"] != true {
        assert!(began.elapsed() < PATIENCE, "not ready again\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_and_comes_back_costs_no_attempt() {
    let mut engine = Engine::start();
    engine.load(&image());
    let cluster = Cluster::on(&["-H".to_owned(), engine.host()]);
    let data = data_directory();
    let options = cluster
        .options(1)
        .set("INKPOOL_SLOTS__DOCKER__HOST", engine.host())
        .set("INKPOOL_SLOTS__DOCKER__CALL_TIMEOUT_S", 3);
    let server = Server::start(data.path(), &options);
    let hung = server.submit(pages::png_with_text("inkpool-fault", "hang", 1), "photo").await;
    server.wait_for(&hung, &["running"]).await;

    // Killed: the job runs on, and nothing further is claimed.
    engine.kill();
    let reasons = not_ready(&server).await;
    assert!(reasons.contains("Docker Engine"), "{reasons}");
    let waiting = server.submit(pages::png(64, 64, 2), "photo").await;
    assert_eq!(server.job(&hung).await["state"], "running");
    assert_ne!(server.job(&waiting).await["state"], "running");

    // Started again it ends the containers that it finds: the attempt is handed back, and the job starts once more.
    let before: Value = server.job(&hung).await["started_at"].clone();
    engine.start_again();
    let began = std::time::Instant::now();
    loop {
        let job = server.job(&hung).await;
        assert!(job["attempt"].as_u64() <= Some(1), "{job}");
        if job["state"] == "running" && job["started_at"] != before {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{job}\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(server.log().contains("handed back unspent"), "{}", server.log());
    server.post(&format!("/api/v1/jobs/{hung}/cancel")).await;
    let job = server.wait_final(&waiting).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");

    // Stopped dead: it takes connections and answers nothing.
    ready(&server).await;
    signal(engine.child.id(), "STOP");
    not_ready(&server).await;
    let late = server.submit(pages::png(64, 64, 3), "photo").await;
    assert_ne!(server.job(&late).await["state"], "running");
    signal(engine.child.id(), "CONT");
    let job = server.wait_final(&late).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}\n{}", server.log());
}
