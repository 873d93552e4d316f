//! The real program as a child process, and what a test asks of it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Bound on every wait of a test: it only keeps a red test from hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A server on a free port. Killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
    pub data: PathBuf,
    pub log: Arc<Mutex<String>>,
    client: reqwest::Client,
}

/// How to start it.
#[derive(Clone)]
pub struct Options {
    pub slots: u32,
    pub listen: String,
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { slots: 2, listen: "127.0.0.1:0".to_owned(), environment: Vec::new() }
    }
}

impl Options {
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.push((key.to_owned(), value.to_string()));
        self
    }
}

/// The program with a clean environment on a data directory, not started yet.
pub fn command(data: &Path, options: &Options) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inkpool"));
    command.args(["serve", "--listen", &options.listen, "--slots", &options.slots.to_string(), "--data"]).arg(data);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(data);
    command.envs(options.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts it and waits for its address.
    pub fn start(data: &Path, options: &Options) -> Self {
        Self::try_start(data, options).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts it; the log if it ends before it is ready.
    pub fn try_start(data: &Path, options: &Options) -> Result<Self, String> {
        std::fs::create_dir_all(data).unwrap();
        let mut child = command(data, options).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), log.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok()?.split_once("http://").map(|(_, address)| address.to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        match ready {
            Some(address) => {
                let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
                Ok(Self { child, address, data: data.to_owned(), log, client })
            }
            None => {
                child.wait().unwrap();
                reader.join().unwrap();
                let log = log.lock().unwrap().clone();
                Err(log)
            }
        }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Uploads one image by raw body; the answer's status and JSON, or the error of the connection.
    pub async fn upload(&self, bytes: Vec<u8>, preset: &str) -> reqwest::Result<(u16, Value)> {
        let url = self.url(&format!("/api/v1/images?preset={preset}&filename=page.png"));
        let answer = self.client.post(url).body(bytes).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// Uploads and expects 202; the job's id.
    pub async fn submit(&self, bytes: Vec<u8>, preset: &str) -> String {
        let (status, body) = self.upload(bytes, preset).await.unwrap();
        assert_eq!(status, 202, "{body}");
        body["items"][0]["job"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn post(&self, path: &str) -> (u16, Value) {
        let answer = self.client.post(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    /// Waits until the job is in one of the states.
    pub async fn wait_for(&self, id: &str, states: &[&str]) -> Value {
        let began = Instant::now();
        loop {
            let job = self.job(id).await;
            if states.contains(&job["state"].as_str().unwrap_or("")) {
                return job;
            }
            assert!(began.elapsed() < PATIENCE, "{id} is not {states:?} but {job}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits for the end of a job, asking by requests that `ask` makes of a path.
    pub async fn wait_final_as(&self, id: &str, ask: impl Fn(&str) -> reqwest::RequestBuilder) -> Value {
        let began = Instant::now();
        loop {
            let job: Value = ask(&format!("/api/v1/jobs/{id}")).send().await.unwrap().json().await.unwrap();
            if ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap_or("")) {
                return job;
            }
            assert!(began.elapsed() < PATIENCE, "{id} has not ended but is {job}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn wait_final(&self, id: &str) -> Value {
        self.wait_for(id, &["succeeded", "failed", "cancelled"]).await
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processes that this server started and that still live.
    pub fn workers(&self) -> Vec<u32> {
        workers_of(&self.data)
    }

    /// Sends a signal by its name, such as `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the server does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal("KILL");
        assert_eq!(self.wait().signal(), Some(9));
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}

/// Worker processes on a data directory, found by their command line.
pub fn workers_of(data: &Path) -> Vec<u32> {
    let data = data.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(" worker ") && line.contains(&data) {
            found.push(pid);
        }
    }
    found
}

/// Waits until a fact holds.
pub async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything below a directory, relative, files only.
pub fn files_below(directory: &Path) -> BTreeSet<String> {
    fn walk(directory: &Path, base: &Path, found: &mut BTreeSet<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, base, found);
            } else {
                found.insert(path.strip_prefix(base).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(directory, directory, &mut found);
    found
}

/// A directory for one test, removed with the value.
pub fn data_directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("inkpool-test-").tempdir().unwrap()
}
