//! The composition root: the only file that names every concrete type. Start order is the reverse of the stop.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::{Deps, control::NodeControl, elsewhere, janitor, links::Links, node::Node, shared::Shared};
use crate::auth::{Auth, AuthError};
use crate::blobs::Blobs;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::jetstream::{JetStreamBus, NatsSettings};
use crate::bus::public::PublicSettings;
use crate::bus::{BusSettings, JobBus};
use crate::cluster::Control;
use crate::config::{AuthMode, Config, Runtime};
use crate::containers::docker::{self, DockerRuntime, DockerSettings};
use crate::containers::memory::MemoryBudget;
use crate::containers::process::{ProcessRuntime, ProcessSettings};
use crate::containers::{SlotId, SlotRuntime, StartOrder};
use crate::pipeline::engine::locate;
use crate::pipeline::spec::Presets;
use crate::producers::{self, Producers};
use crate::store::accounts::{Accounts, Role};
use crate::store::lock::{DataDir, DataLock};
use crate::store::{Ledger, SqlLedger, postgres, sqlite};
use crate::webhooks::{Guard, Outlet};
use crate::{http, telemetry, traces};

/// Progress messages a slow watcher may fall behind before it misses some; nobody counts on them.
const PROGRESS_BUFFER: usize = 1024;
/// The value of `bus.url` that stands for the in-process bus.
pub(crate) const EMBEDDED: &str = "embedded";
/// The ledger in the data directory, where it is SQLite.
pub(crate) const SQLITE_FILE: &str = "inkpool.sqlite";
/// What handlers get to end after the actors have stopped.
const HTTP_GRACE: Duration = Duration::from_secs(10);
/// What the collector of traces gets for the last of them.
const TRACES_GRACE: Duration = Duration::from_secs(3);

/// A running server.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    deps: Arc<Deps>,
    node: Node,
    server: JoinHandle<std::io::Result<()>>,
    producers: Producers,
    shutdown: CancellationToken,
    _lock: DataLock,
}

impl App {
    /// Starts everything: data directory, ledger, objects, clean-up of the last start, bus, actors, HTTP.
    ///
    /// # Errors
    /// What cannot be started, in words for people.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        Self::start_with_program(config, program).await
    }

    /// The same with another program as `worker`, for those who embed the server.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_with_program(mut config: Config, program: PathBuf) -> anyhow::Result<Self> {
        // Workers run in their slot's directory: a relative path would mean another place there.
        config.data = std::path::absolute(&config.data).context("the data directory")?;
        let config = Arc::new(config);
        check_access(&config)?;
        let data = &config.data;
        std::fs::create_dir_all(data).with_context(|| format!("data directory {}", data.display()))?;
        let lock = DataDir::lock(data)?;
        let deps = Arc::new(dependencies(&config, program).await?);
        traces::start(&config.traces, &deps.node).map_err(anyhow::Error::msg)?;
        clean_up(&deps).await?;
        check_runtime(&deps).await?;
        let auth = auth(&deps).await?;
        let listener = TcpListener::bind(&config.http.listen)
            .await
            .with_context(|| format!("cannot listen on http.listen = {}", config.http.listen))?;
        let address = listener.local_addr().context("the address of the listener")?;
        let metrics = telemetry::metrics_handle()?;
        http::describe_metrics();
        // Before a job is claimed: one whose node has no lease is taken away.
        let lease = Duration::from_secs(config.nodes.lease_s);
        deps.ledger.enlist(&deps.node, deps.process, lease).await.context("the lease of this node")?;
        let node = Node::start(&deps).await.context("the actors did not start")?;
        let shutdown = CancellationToken::new();
        let control: Arc<dyn Control> = Arc::new(NodeControl(deps.clone()));
        let ports = http::Ports {
            ledger: deps.ledger.clone(),
            blobs: deps.blobs.clone(),
            presets: Arc::new(Presets::builtin()?),
            control,
            auth,
            config: config.clone(),
            signer: Arc::new(http::UrlSigner::new(&secret(data)?)),
            guard: Guard::system(&config.webhooks),
            metrics,
        };
        let state = http::AppState::new(ports, shutdown.clone());
        let producers = Producers::start(outside(&deps, &state));
        let server = tokio::spawn(http::serve(listener, state, shutdown.clone()));
        Ok(Self { address, deps, node, server, producers, shutdown, _lock: lock })
    }

    /// Waits until a slot has a worker, at most `bound`. False when none has by then.
    pub async fn ready(&self, bound: Duration) -> bool {
        let ready = async {
            while !self.deps.shared.readiness().reasons.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(bound, ready).await.is_ok()
    }

    /// What the server works with, for those who embed it.
    #[must_use]
    pub fn deps(&self) -> &Arc<Deps> {
        &self.deps
    }

    /// Serves until `stop` resolves or the node gives up; then drains and stops.
    ///
    /// # Errors
    /// When the node gave up or the listener failed.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let ended = tokio::select! {
            () = stop => Ok(()),
            reason = self.node.gave_up() => Err(anyhow::anyhow!("the node gave up: {reason}")),
            result = &mut self.server => Err(anyhow::anyhow!("the HTTP server ended: {result:?}")),
        };
        tracing::info!("stopping: no further requests, running jobs get until the drain deadline");
        self.shutdown.cancel();
        self.node.stop().await;
        if !self.server.is_finished() && tokio::time::timeout(HTTP_GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
        self.producers.stop().await;
        self.deps.bus.close().await;
        self.deps.ledger.close().await;
        if tokio::time::timeout(TRACES_GRACE, traces::flush()).await.is_err() {
            tracing::warn!("the last traces were not taken in time");
        }
        tracing::info!("stopped");
        ended
    }
}

/// `open` mode has no login: only this machine may reach it.
pub(crate) fn check_access(config: &Config) -> anyhow::Result<()> {
    if config.auth.mode == AuthMode::Accounts {
        return Ok(());
    }
    let host = config.http.listen.rsplit_once(':').map_or(config.http.listen.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback {
        bail!(
            "http.listen = {} can be reached from other machines, but auth.mode = open has no login; set \
             INKPOOL_AUTH__MODE=accounts, or listen on 127.0.0.1",
            config.http.listen
        );
    }
    Ok(())
}

/// The rules of accounts, and the administrator that the settings name; `None` in `open` mode.
async fn auth(deps: &Deps) -> anyhow::Result<Option<Arc<Auth>>> {
    let Some(accounts) = &deps.accounts else { return Ok(None) };
    let config = &deps.config;
    let auth = Auth::new(accounts.clone(), config.auth.clone()).await?;
    let admin = &config.admin;
    if !admin.username.is_empty() {
        match auth.appoint(&admin.username, admin.password.0.clone(), Role::Admin).await {
            Ok(_) | Err(AuthError::NameTaken) => {}
            Err(error) => return Err(error).context("the administrator of INKPOOL_ADMIN__USERNAME"),
        }
    }
    Ok(Some(Arc::new(auth)))
}

/// The accounts of this configuration, for the command line: beside a running server or without one.
///
/// # Errors
/// What cannot be opened, in words for people.
pub async fn open_accounts(config: &Config) -> anyhow::Result<Arc<dyn Accounts>> {
    std::fs::create_dir_all(&config.data).with_context(|| config.data.display().to_string())?;
    let database: Arc<dyn Accounts> = open_database(config).await.context("the ledger")?;
    Ok(database)
}

async fn dependencies(config: &Arc<Config>, program: PathBuf) -> anyhow::Result<Deps> {
    let data = &config.data;
    let database = open_database(config).await.context("the ledger")?;
    let accounts = (config.auth.mode == AuthMode::Accounts).then(|| database.clone() as Arc<dyn Accounts>);
    let ledger: Arc<dyn Ledger> = database;
    let blobs = Blobs::connect(&config.blobs, &config.aws, &data.join("objects")).context("the object store")?;
    blobs.check().await.with_context(|| format!("the object store {}", config.blobs.url))?;
    let bus = bus(config).await?;
    let node = node_name(data)?;
    let runtime = slot_runtime(config, &node, program).await?;
    let memory = MemoryBudget::of(config.slots.memory_total_bytes_max);
    let shared = Arc::new(Shared::new(&node, runtime.name(), config.slots_count()));
    shared.update(|view| view.memory_bytes_max = elsewhere::plan_bytes_max(config, &memory));
    let (progress, _) = broadcast::channel(PROGRESS_BUFFER);
    let links = Arc::new(Links::default());
    let process = uuid::Uuid::new_v4();
    let outlet = Outlet::new(&config.webhooks, Guard::system(&config.webhooks)).context("the client of webhooks")?;
    Ok(Deps {
        config: config.clone(),
        node,
        process,
        ledger,
        accounts,
        bus,
        blobs,
        memory,
        runtime,
        links,
        shared,
        outlet: Arc::new(outlet),
        progress,
    })
}

/// Starts workers as the settings say; `node` keeps its slots apart from those of others.
pub(crate) async fn slot_runtime(
    config: &Config,
    node: &str,
    program: PathBuf,
) -> anyhow::Result<Arc<dyn SlotRuntime>> {
    let located = locate::find(&config.models.directory, &config.models.onnxruntime, &config.models.pdfium)?;
    let slots = config.slots_directory().join(node);
    let docker = &config.slots.docker;
    let runtime: Arc<dyn SlotRuntime> = match config.slots.runtime {
        Runtime::Process => Arc::new(ProcessRuntime::new(ProcessSettings {
            program,
            network: true,
            slots,
            model: located.model,
            model_sha256: located.model_sha256,
            onnxruntime: located.onnxruntime,
            pdfium: located.pdfium,
        })?),
        Runtime::Docker => Arc::new(
            DockerRuntime::connect(DockerSettings {
                host: docker.host.clone(),
                image: docker.image.clone(),
                cluster: docker.cluster.clone(),
                node: node.to_owned(),
                runtime: docker.runtime.clone(),
                slots,
                user: docker::user(),
                cpus: docker.cpus,
                pids_max: docker.pids_max,
                tmpfs_bytes_max: docker.tmpfs_bytes_max,
                parallel_max: docker.parallel_max,
                call_timeout: Duration::from_secs(docker.call_timeout_s),
                list_every: Duration::from_secs(docker.list_every_s),
                model_sha256: located.model_sha256,
                network: true,
            })
            .await
            .with_context(|| format!("slots.docker.host = {:?}", docker.host))?,
        ),
    };
    Ok(runtime)
}

/// Shows that workers can be started, before anything is accepted for them.
async fn check_runtime(deps: &Deps) -> anyhow::Result<()> {
    let slots = &deps.config.slots;
    let order = StartOrder {
        id: SlotId { slot: 0, generation: 0 },
        directory: PathBuf::new(),
        start_timeout: Duration::from_secs(slots.start_timeout_s),
        memory_bytes_max: slots.memory_bytes_max,
        open_files_max: slots.open_files_max,
        file_bytes_max: slots.memory_bytes_max,
    };
    deps.runtime.check(order).await.context("no worker can be started")
}

/// The ledger of this configuration, for the command line as well.
pub(crate) async fn open_database(config: &Config) -> anyhow::Result<Arc<SqlLedger>> {
    let store = &config.store;
    Ok(match store.url.split_once("://") {
        None if store.url.is_empty() => Arc::new(sqlite::open(&config.data.join(SQLITE_FILE), store).await?),
        Some(("postgres" | "postgresql", _)) => Arc::new(postgres::open(&store.url, store).await?),
        // The rest may hold a password.
        _ => bail!("store.url is neither empty nor does it begin with postgres://"),
    })
}

/// The bus of this configuration.
pub(crate) async fn bus(config: &Config) -> anyhow::Result<Arc<dyn JobBus>> {
    let bus = &config.bus;
    let settings = BusSettings {
        ack_wait: Duration::from_secs(bus.ack_wait_s),
        duplicate_window: Duration::from_secs(bus.duplicate_window_s),
        messages_max: bus.lane_messages_max,
    };
    if bus.url == EMBEDDED {
        return Ok(Arc::new(EmbeddedBus::new(settings)));
    }
    if !bus.url.starts_with("nats://") && !bus.url.starts_with("tls://") {
        bail!("bus.url is `{EMBEDDED}`, `nats://host:port` or `tls://host:port`");
    }
    let nats = NatsSettings {
        url: bus.url.clone(),
        user: bus.user.clone(),
        password: bus.password.clone(),
        credentials_file: bus.credentials_file.clone(),
        ca_file: bus.ca_file.clone(),
        client_cert_file: bus.client_cert_file.clone(),
        client_key_file: bus.client_key_file.clone(),
        tls: bus.tls,
        replicas: bus.replicas,
        timeout: Duration::from_millis(bus.timeout_ms),
        public: PublicSettings {
            events_keep: config.producers.events_keep(),
            events_max: config.producers.events_messages_max,
            submissions_max: config.producers.submissions_max,
        },
    };
    Ok(Arc::new(JetStreamBus::open(&nats, settings).await.context("the bus")?))
}

/// What programs outside are served with, where they can reach the bus.
fn outside(deps: &Deps, door: &http::AppState) -> Option<producers::Parts> {
    let bus = deps.bus.public()?;
    let (config, ledger, progress) = (deps.config.clone(), deps.ledger.clone(), deps.progress.clone());
    Some(producers::Parts { config, ledger, bus, door: door.clone(), progress, process: deps.process })
}

/// Removes what the last start of this node left behind. Nobody else writes here: the data directory is locked.
async fn clean_up(deps: &Deps) -> anyhow::Result<()> {
    let processes = deps.runtime.sweep().await.context("workers of an earlier start could not be removed")?;
    let staged = deps.blobs.sweep_staging().await.context("half-written objects could not be removed")?;
    // Before objects are looked at: outputs of a start that nobody works on any more are without an owner.
    let lost = deps.ledger.recover(&deps.node, "").await.context("the ledger")?.len();
    // The embedded bus starts empty: whatever was on the old one is released again. What another bus has kept, the relay
    // finds out.
    let alone = !deps.bus.is_shared();
    let unreleased = if alone { deps.ledger.unrelease_all(&deps.node).await.context("the ledger")? } else { 0 };
    // What an upload in pieces was adding to when this node died goes on at once; where other nodes have the same ledger, after
    // `tus.hold_s`.
    if deps.config.store.url.is_empty() {
        deps.ledger.release_resumables().await.context("the ledger")?;
    }
    let slots = deps.slots_directory();
    if slots.exists() {
        std::fs::remove_dir_all(&slots).with_context(|| format!("slot directories {}", slots.display()))?;
    }
    janitor::sweep(deps, janitor::Reach::AtStart).await.context("objects without an owner could not be removed")?;
    if processes + staged + unreleased > 0 || lost > 0 {
        tracing::info!(processes, staged, unreleased, lost, "cleaned up after the last start");
    }
    Ok(())
}

/// Signs what only this server must be able to have said. Made at the first start, readable by the server alone.
fn secret(data: &Path) -> anyhow::Result<[u8; 32]> {
    let file = data.join("secret");
    let mut secret = [0; 32];
    match std::fs::read_to_string(&file) {
        Ok(text) => hex::decode_to_slice(text.trim(), &mut secret)
            .with_context(|| format!("{} does not hold 64 hexadecimal digits", file.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            secret = rand::random();
            let written = file.with_extension("new");
            let _ = std::fs::remove_file(&written);
            let mut options = std::fs::OpenOptions::new();
            let made = options.write(true).create_new(true).mode(0o600).open(&written);
            let wrote = made.and_then(|mut made| made.write_all(hex::encode(secret).as_bytes()));
            wrote.and_then(|()| std::fs::rename(&written, &file)).with_context(|| file.display().to_string())?;
        }
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    }
    Ok(secret)
}

/// A name that stays with the data directory.
fn node_name(data: &Path) -> anyhow::Result<String> {
    let file = data.join("node");
    if let Ok(name) = std::fs::read_to_string(&file) {
        let name = name.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
            return Ok(name.to_owned());
        }
        bail!("{} does not hold the name of a node", file.display());
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("node-{}", &id[..8]);
    let written = file.with_extension("new");
    std::fs::write(&written, &name).with_context(|| written.display().to_string())?;
    std::fs::rename(&written, &file).with_context(|| file.display().to_string())?;
    Ok(name)
}
