//! A Docker Engine of a test's own, to be killed. Needs root and dockerd.

use std::process::{Child, Command, Stdio};

use super::server::{PATIENCE, signal};

/// Where an engine that starts a containerd of its own notes its number.
const CONTAINERD_PID: &str = "exec/containerd/containerd.pid";

/// An engine with a directory of its own, without networks.
pub struct Engine {
    child: Child,
    directory: tempfile::TempDir,
}

impl Engine {
    pub fn start() -> Self {
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

    pub fn host(&self) -> String {
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

    pub fn load(&self, image: &str) {
        let mut save = Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn().unwrap();
        let from = save.stdout.take().unwrap();
        let load = Command::new("docker").args(["-H", &self.host(), "load"]).stdin(from).output().unwrap();
        assert!(load.status.success(), "{load:?}");
        assert!(save.wait().unwrap().success());
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // In peace an engine removes these by itself; its containerd dies with it.
        for record in ["pid", CONTAINERD_PID] {
            let _ = std::fs::remove_file(self.directory.path().join(record));
        }
    }

    pub fn start_again(&mut self) {
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
