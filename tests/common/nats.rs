//! A `nats-server` of the test's own: free port, own store directory, ended with the value.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bound on its start.
const START_MAX: Duration = Duration::from_secs(30);

pub struct Nats {
    program: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// A started server with an empty store.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further lines of configuration.
    pub fn start_with(configuration: &str) -> Self {
        let mut nats = Self::new();
        nats.configure(configuration);
        nats.run();
        nats
    }

    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("inkpool-nats-").tempdir().unwrap();
        // The port is free again when the server takes it; another test would have to draw the same one within the moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { program: program(), directory, port, child: None }
    }

    /// Some servers that share what they store, and have chosen who leads them.
    pub fn start_cluster(count: usize) -> Vec<Self> {
        let mut servers: Vec<_> = (0..count).map(|_| Self::new()).collect();
        // All listeners at once, or one port might be drawn twice.
        let listeners: Vec<_> = servers.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let routes: Vec<_> = listeners.iter().map(|l| format!("nats://{}", l.local_addr().unwrap())).collect();
        drop(listeners);
        for (server, route) in servers.iter_mut().zip(&routes) {
            let listen = &route["nats://".len()..];
            server.configure(&format!(
                "server_name: {:?}\ncluster {{ name: test, listen: {listen:?}, routes: {routes:?} }}",
                server.name(),
            ));
            server.launch();
        }
        let began = Instant::now();
        while !servers.iter().any(|server| server.log().contains("Self is new JetStream cluster metadata leader")) {
            assert!(began.elapsed() < START_MAX, "no leader was chosen\n{}", servers[0].log());
            std::thread::sleep(Duration::from_millis(10));
        }
        servers
    }

    /// The name that it has among others.
    pub fn name(&self) -> String {
        format!("server-{}", self.port)
    }

    /// Replaces the configuration; read at the next start.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?}, max_mem: 64MB, max_file: 256MB }}\n{more}\n",
            self.port,
            self.store(),
        );
        std::fs::write(self.directory.path().join("nats.conf"), text).unwrap();
    }

    /// Starts it on the same port and store.
    pub fn run(&mut self) {
        self.launch();
        let began = Instant::now();
        while !self.log().contains("Server is ready") || TcpStream::connect(self.address()).is_err() {
            assert!(began.elapsed() < START_MAX, "nats-server did not start\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::File::create(self.log_path()).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.directory.path().join("nats.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display())));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Removes everything it stored.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "it runs");
        std::fs::remove_dir_all(self.store()).unwrap();
    }

    /// Keeps a copy of what it has stored so far, while it runs.
    pub fn keep_copy(&self) {
        let copied = Command::new("cp").arg("-a").arg(self.store()).arg(self.copy()).status().unwrap();
        assert!(copied.success());
    }

    /// Puts the copy in place of what it has stored since.
    pub fn roll_back(&self) {
        self.wipe();
        std::fs::rename(self.copy(), self.store()).unwrap();
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether there is one to start.
pub fn is_installed() -> bool {
    program().is_file()
}

/// As `scripts/test` installed it, or as `INKPOOL_TEST_NATS_SERVER` says.
#[expect(clippy::disallowed_methods, reason = "a test's own setting, not one of the program")]
fn program() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/nats-server");
    std::env::var_os("INKPOOL_TEST_NATS_SERVER").map_or_else(installed, PathBuf::from)
}
