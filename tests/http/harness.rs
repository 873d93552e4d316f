//! A real HTTP server on a random port of this machine, with a real ledger and real objects. Only the actors are played
//! by the test, so that it decides what happens when.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use inkpool::blobs::{Blobs, Key};
use inkpool::bus::Depth;
use inkpool::cluster::{Control, ControlError, NodeView, Progress, Readiness, SlotState, SlotView};
use inkpool::config::Config;
use inkpool::containers::RuntimeReport;
use inkpool::http::{AppState, Ports, serve};
use inkpool::job::{ImageId, JobError, JobId, Lane, OwnerId};
use inkpool::pipeline::spec::Presets;
use inkpool::store::sqlite;
use inkpool::store::{Claim, Finish, Finished, Holder, Ledger, Measured, NewFile};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Bound on waits in tests; generous, since it only ends tests that have failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The actors' part, played by the test.
pub struct PlayedActors {
    pub arrivals: AtomicUsize,
    pub stopped: Mutex<Vec<JobId>>,
    pub reasons: Mutex<Vec<String>>,
    pub node: Mutex<NodeView>,
    pub progress: broadcast::Sender<Progress>,
}

impl PlayedActors {
    fn new() -> Self {
        let slot = |slot| SlotView { slot, state: SlotState::Warm, generation: 1, job: None, jobs_done: 0, note: None };
        let node = NodeView {
            id: "node-1".to_owned(),
            incarnation: "one".to_owned(),
            version: "0.0.0".to_owned(),
            slots_count: 2,
            memory_bytes_max: 1 << 30,
            draining: false,
            reasons: Vec::new(),
            slots: vec![slot(0), slot(1)],
            runtime: RuntimeReport { runtime: "process".to_owned(), isolation: None },
        };
        Self {
            arrivals: AtomicUsize::new(0),
            stopped: Mutex::default(),
            reasons: Mutex::default(),
            node: Mutex::new(node),
            progress: broadcast::channel(16).0,
        }
    }
}

#[async_trait]
impl Control for PlayedActors {
    fn work_arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
    }
    fn webhooks_asked(&self) {}
    fn stop_job(&self, job: JobId) {
        self.stopped.lock().unwrap().push(job);
    }
    async fn nodes(&self) -> Result<Vec<NodeView>, ControlError> {
        Ok(vec![self.node.lock().unwrap().clone()])
    }
    async fn change_node(
        &self,
        id: &str,
        slots: Option<u32>,
        draining: Option<bool>,
    ) -> Result<NodeView, ControlError> {
        let mut node = self.node.lock().unwrap();
        if id != node.id {
            return Err(ControlError::NoSuchNode);
        }
        if slots.is_some_and(|slots| slots > 64) {
            return Err(ControlError::TooManySlots { limit: 64 });
        }
        node.slots_count = slots.unwrap_or(node.slots_count);
        node.draining = draining.unwrap_or(node.draining);
        Ok(node.clone())
    }
    async fn readiness(&self) -> Readiness {
        Readiness { reasons: self.reasons.lock().unwrap().clone() }
    }
    async fn bus_depth(&self) -> Vec<(Lane, Depth)> {
        Lane::ALL.map(|lane| (lane, Depth::default())).into()
    }
    fn watch_progress(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// A server and what stands behind it.
pub struct Server {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub ledger: Arc<dyn Ledger>,
    pub blobs: Blobs,
    pub actors: Arc<PlayedActors>,
    pub shutdown: CancellationToken,
    pub serving: tokio::task::JoinHandle<std::io::Result<()>>,
    directory: tempfile::TempDir,
}

fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.blobs.free_bytes_min = 0;
        change(&mut config);
        let ledger: Arc<dyn Ledger> =
            Arc::new(sqlite::open(&directory.path().join("ledger.db"), &config.store).await.unwrap());
        let blobs = Blobs::local(&config.blobs, &directory.path().join("objects")).unwrap();
        let actors = Arc::new(PlayedActors::new());
        let ports = Ports {
            ledger: ledger.clone(),
            blobs: blobs.clone(),
            presets: Arc::new(Presets::builtin().unwrap()),
            control: actors.clone(),
            auth: None,
            guard: inkpool::webhooks::Guard::system(&config.webhooks),
            config: Arc::new(config),
            signer: Arc::new(inkpool::http::UrlSigner::new(&[7; 32])),
            metrics: metrics_handle(),
        };
        let shutdown = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = AppState::new(ports, shutdown.clone());
        let serving = tokio::spawn(serve(listener, state, shutdown.clone()));
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { address, client, ledger, blobs, actors, shutdown, serving, directory }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.client.post(self.url(path)).body(body).send().await.unwrap()).await
    }

    pub async fn post_json(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.client.post(self.url(path)).json(&body).send().await.unwrap()).await
    }

    /// Uploads a small PNG; the ids of image and job.
    pub async fn upload(&self) -> (ImageId, JobId) {
        let answer = self.post("/api/v1/images?filename=page.png", png(40, 30)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let item = &answer.json["items"][0];
        (parse(&item["image"]["id"]), parse(&item["job"]["id"]))
    }

    /// Takes the job to `running`, as relay and scheduler do; the start.
    pub async fn begin(&self, job: JobId) -> u32 {
        assert!(self.ledger.release(job, "node-a").await.unwrap());
        let starts = self.ledger.job(OwnerId::LOCAL, job).await.unwrap().unwrap().starts;
        let holder =
            Holder { node: "node-1".to_owned(), incarnation: "one".to_owned(), slot: 0, memory_bytes_max: None };
        match self.ledger.claim(job, starts, holder).await.unwrap() {
            Claim::Won { job, .. } => job.starts,
            nothing @ (Claim::Gone(_) | Claim::TooLarge(_)) => panic!("{nothing:?}"),
        }
    }

    /// Takes a queued job to `succeeded` with one output of these bytes, as a slot does.
    pub async fn succeed(&self, job: JobId, name: &str, bytes: &'static [u8]) {
        self.succeed_with(job, &[(name, "image/png")], bytes).await;
    }

    /// The same with several files of these types.
    pub async fn succeed_with(&self, job: JobId, wanted: &[(&str, &str)], bytes: &'static [u8]) {
        let start = self.begin(job).await;
        let mut files = Vec::new();
        for (name, content_type) in wanted {
            let key = Key::Output { job, start, name: (*name).to_owned() };
            let stream = futures::stream::iter([Ok(bytes::Bytes::from_static(bytes))]);
            let written = self.blobs.put_stream(&key, stream, 1 << 20).await.unwrap();
            files.push(NewFile {
                name: (*name).to_owned(),
                content_type: (*content_type).to_owned(),
                size_bytes: written.size_bytes,
                sha256: written.sha256,
                width_px: Some(40),
                height_px: Some(30),
            });
        }
        let measured = Measured { width_px: 40, height_px: 30, pages_count: 1 };
        let finish = Finish::Succeeded { files, measured, gate: None };
        assert!(matches!(self.ledger.finish(job, start, finish).await.unwrap(), Finished::Now(_)));
    }

    /// Takes a queued job to `failed`.
    pub async fn fail(&self, job: JobId, error: JobError) {
        let start = self.begin(job).await;
        self.ledger.finish(job, start, Finish::Failed(error)).await.unwrap();
    }

    /// Files below the object directory: what uploads have left.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        gather(&self.directory.path().join("objects"), &mut found);
        found
    }

    /// Waits until nothing of an upload is left: no row, no object, no part of one.
    pub async fn assert_nothing_left(&self) {
        let waiting = async {
            loop {
                let images = self.ledger.images(OwnerId::LOCAL, None, 10).await.unwrap();
                if images.is_empty() && self.objects().is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("left behind: {:?}", self.objects());
        }
    }

    /// Sends raw bytes and reads the answer to its end; the connection stays open for writing meanwhile.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_to_end(&mut stream).await
    }
}

/// Everything until the peer closes, or [`PATIENCE`].
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server does not close").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn gather(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { gather(&path, found) } else { found.push(path) }
    }
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: bytes::Bytes,
    pub json: Value,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Self { status, headers, body, json }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Checks that it is a whole problem document with this status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["type"], format!("urn:inkpool:problem:{code}"));
        for member in ["title", "detail"] {
            assert!(self.json[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {}", self.json);
        }
        if status == 503 {
            assert!(self.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
        if status == 413 {
            assert!(self.json["limit"].is_string() && self.json["measured"].is_string(), "{}", self.json);
        }
    }
}

pub fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

/// A small gray picture.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(width, height, image::ImageFormat::Png)
}

pub fn encoded(width: u32, height: u32, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        let low = |value: u32| u8::try_from(value % 256).unwrap();
        image::Rgb([low(x * 5), low(y * 7), 90])
    });
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}
