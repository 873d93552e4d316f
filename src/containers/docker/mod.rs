//! Slots as containers of the Docker Engine: one container for each slot, with every limit in [`body`], a directory of
//! the host and a Unix socket on which the slot listens.
//!
//! 1. A container belongs to a slot as long as its [`watch::Ownership`] is held; any other one of this node is an
//!    orphan and is removed. Containers of other nodes are never touched.
//! 2. A slot's earlier container is gone before the next is made: two never share a directory.
//! 3. An engine that does not answer costs no attempt: what it ended is [`Lost::Engine`], and no worker is started.

mod body;
mod door;
mod engine;
mod watch;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channel::{Channel, check_hello};
use super::slot_dir::SlotDir;
use super::stderr::{self, Log};
use super::{Lost, RuntimeError, SlotId, SlotRuntime, StartOrder, Worker, procfs};
use crate::pipeline::wire::Hello;
use door::{Connected, Door};
use engine::{Engine, EngineError};
use watch::{Ownership, Shared};
use worker::{Container, DockerWorker};

/// User and group of workers where the server itself is root.
const NOBODY: (u32, u32) = (65532, 65532);
/// A container that has not connected is looked at this often: it may have ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rounds of listing and removing before the start of a node gives up.
const SWEEPS_MAX: u32 = 5;

/// What the runtime needs to know.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// `unix://…` or `tcp://…`.
    pub host: String,
    /// Name, digest or id of the image of workers.
    pub image: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Stable name of the node.
    pub node: String,
    /// OCI runtime such as `runsc`; empty for the engine's own.
    pub runtime: String,
    /// Holds a directory for each slot, under this very path on the engine's host.
    pub slots: PathBuf,
    /// User and group of workers, see [`user`].
    pub user: (u32, u32),
    /// Processors of a worker.
    pub cpus: f64,
    /// Processes and threads of a worker.
    pub pids_max: u32,
    /// Size of its `/tmp`.
    pub tmpfs_bytes_max: u64,
    /// Containers created or removed at once.
    pub parallel_max: usize,
    /// Bound on one call to the engine.
    pub call_timeout: Duration,
    /// Containers are compared with slots this often.
    pub list_every: Duration,
    /// SHA-256 of the network that workers must have, hex.
    pub model_sha256: String,
    /// Whether jobs may ask for the network.
    pub network: bool,
}

/// Workers run as the server's own user, or as nobody where that is root.
#[must_use]
pub fn user() -> (u32, u32) {
    match (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()) {
        (0, _) => NOBODY,
        own => own,
    }
}

/// Starts workers as containers.
#[derive(Debug)]
pub struct DockerRuntime {
    settings: DockerSettings,
    image_id: String,
    incarnation: String,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl DockerRuntime {
    /// Connects, checks the engine's version, and looks up the image. Starts nothing yet.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] in words.
    pub async fn connect(settings: DockerSettings) -> Result<Self, RuntimeError> {
        let start = |error: EngineError| RuntimeError::Start(error.to_string());
        let engine = Engine::connect(&settings.host, settings.call_timeout).await.map_err(start)?;
        let image_id = engine.image_id(&settings.image).await.map_err(start)?;
        let shared = Arc::new(Shared::new(engine, body::of_node(&settings), settings.parallel_max));
        let incarnation = uuid::Uuid::now_v7().to_string();
        let tasks = vec![
            tokio::spawn(watch::reconcile(shared.clone(), settings.list_every)),
            tokio::spawn(watch::follow(shared.clone())),
        ];
        Ok(Self { settings, image_id, incarnation, shared, tasks })
    }

    fn error(error: EngineError) -> RuntimeError {
        match error {
            EngineError::Away(why) => RuntimeError::Away(why),
            EngineError::Answer { .. } => RuntimeError::Start(error.to_string()),
        }
    }

    /// Creates the container and waits until its worker is connected.
    async fn launch(&self, order: &StartOrder) -> Result<Container, RuntimeError> {
        let SlotId { slot, generation } = order.id;
        let shared = &self.shared;
        let earlier = shared.remove_all(&body::of_slot(&self.settings, slot), 1).await.map_err(Self::error)?;
        if earlier > 0 {
            tracing::info!(slot, earlier, "a slot's earlier container was still there and was removed");
        }
        let door = Door::open(&order.directory)
            .map_err(|error| RuntimeError::Directory(format!("{}: {error}", order.directory.display())))?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("inkpool-{}-{slot}-{}", self.settings.node, unique.get(..8).unwrap_or_default());
        let ownership = Ownership::of(shared, name);
        let absences = shared.absences();
        let body = body::body(&self.settings, &self.image_id, &self.incarnation, order, door.token());
        {
            let _turn = shared.turn().await;
            shared.heed(shared.engine.run(ownership.name(), body).await).map_err(Self::error)?;
        }
        ownership.started();
        let Connected { frames, log: lines } = tokio::select! {
            connected = door.admit() => connected.map_err(|error| RuntimeError::Start(error.to_string()))?,
            error = self.ended(ownership.name()) => return Err(error),
        };
        let (answers, orders) = frames.into_split();
        let log = Log::default();
        let relay = tokio::spawn(stderr::relay(lines, log.clone(), slot, generation));
        let found = shared.heed(shared.engine.inspect(ownership.name()).await).map_err(Self::error)?;
        let pid = found.and_then(|found| procfs::only_child_in(found.pid?, &found.id));
        Ok(Container {
            ownership,
            shared: shared.clone(),
            channel: Channel::new(orders, answers),
            log,
            relay: Some(relay),
            ending: None,
            lost: None,
            absences,
            pid,
            memory_bytes_max: order.memory_bytes_max,
            peak_bytes: None,
        })
    }

    /// Resolves when a container that should connect has ended.
    async fn ended(&self, name: &str) -> RuntimeError {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.shared.heed(self.shared.engine.inspect(name).await) {
                Ok(Some(found)) if found.running => {}
                Ok(Some(found)) => {
                    let code = found.exit_code.unwrap_or_default();
                    return RuntimeError::Start(format!("its container ended with code {code} before it connected"));
                }
                Ok(None) => return RuntimeError::Start("its container was removed before it connected".to_owned()),
                Err(error) => return Self::error(error),
            }
        }
    }

    async fn hello(&self, container: &mut Container) -> Result<Hello, RuntimeError> {
        match container.receive().await {
            Ok(first) => {
                let mut hello = check_hello(first, &self.settings.model_sha256)?;
                // The container has none; the worker cannot tell.
                hello.isolation.own_network = true;
                Ok(hello)
            }
            Err(Lost::Engine(why)) => Err(RuntimeError::Away(why)),
            Err(lost) => Err(RuntimeError::Start(container.explain(&lost))),
        }
    }
}

impl Drop for DockerRuntime {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[async_trait]
impl SlotRuntime for DockerRuntime {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn is_other_user(&self) -> bool {
        self.settings.user.0 != rustix::process::geteuid().as_raw()
    }

    async fn start(&self, order: StartOrder) -> Result<Box<dyn Worker>, RuntimeError> {
        if let Some(why) = self.shared.obstacle().borrow().clone() {
            return Err(RuntimeError::Away(why));
        }
        let late = || RuntimeError::Start(format!("no hello within {} s", order.start_timeout.as_secs()));
        let start = async {
            let mut container = self.launch(&order).await?;
            match self.hello(&mut container).await {
                Ok(hello) => Ok(DockerWorker { container, hello }),
                Err(error) => {
                    container.kill().await;
                    Err(error)
                }
            }
        };
        let worker = timeout(order.start_timeout, start).await.map_err(|_| late())??;
        Ok(Box::new(worker))
    }

    /// Runs before any slot starts, so every container of this node is left over.
    async fn sweep(&self) -> Result<u64, RuntimeError> {
        let labels = body::of_node(&self.settings);
        let mut removed = 0;
        for _ in 0..SWEEPS_MAX {
            match self.shared.remove_all(&labels, self.settings.parallel_max).await.map_err(Self::error)? {
                0 => return Ok(removed),
                found => removed += found,
            }
        }
        Err(RuntimeError::Start("containers of an earlier start do not go away".to_owned()))
    }

    /// Starts one worker: shows that image, directory and limits work, and that version and network are the server's.
    async fn check(&self, mut order: StartOrder) -> Result<(), RuntimeError> {
        let directory = SlotDir::new(&self.settings.slots, order.id.slot).for_other_user(self.is_other_user());
        order.directory = directory.path().to_owned();
        directory.prepare()?;
        let mut worker = self.start(order).await.map_err(|error| match error {
            RuntimeError::Mismatch(what) => {
                RuntimeError::Mismatch(format!("slots.docker.image = {:?}: {what}", self.settings.image))
            }
            RuntimeError::Start(_) | RuntimeError::Directory(_) | RuntimeError::Away(_) => error,
        })?;
        worker.kill().await;
        drop(worker);
        directory.remove().map_err(|error: io::Error| RuntimeError::Directory(error.to_string()))
    }

    fn obstacle(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.shared.obstacle()
    }
}
