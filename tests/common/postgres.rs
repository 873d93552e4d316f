//! A PostgreSQL server of a test's own, to be killed.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::server::PATIENCE;

/// Killed when dropped.
pub struct Postgres {
    directory: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Postgres {
    /// A fresh one.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("inkpool-postgres-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(directory.path(), port);
        let mut server = Self { directory, port, child };
        server.answers().await;
        server
    }

    pub fn url(&self) -> String {
        Self::url_at(self.address())
    }

    /// The same server by another address.
    pub fn url_at(address: SocketAddr) -> String {
        format!("postgres://inkpool@{address}/postgres")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same data on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), self.port);
        self.answers().await;
    }

    async fn answers(&mut self) {
        let began = Instant::now();
        while PgConnection::connect(&self.url()).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "PostgreSQL does not start; `scripts/services postgres` says why");
            // It does not start while a process of a killed one is still about to end.
            if self.child.try_wait().unwrap().is_some() {
                self.child = spawn(self.directory.path(), self.port);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether there is one to start: where Debian and PostgreSQL's own packages have their programs, as `scripts/lib.sh` looks.
pub fn is_installed() -> bool {
    let versions = ["/usr/lib/postgresql", "/usr"].into_iter().filter_map(|path| std::fs::read_dir(path).ok());
    let found = versions.flatten().filter_map(Result::ok).any(|entry| entry.path().join("bin/initdb").is_file());
    found || Command::new("initdb").arg("--version").output().is_ok()
}

/// The script becomes the server, so this child is the server itself.
fn spawn(directory: &Path, port: u16) -> Child {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services"));
    command.arg("postgres").arg(directory).arg(port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
