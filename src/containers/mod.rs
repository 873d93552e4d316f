//! Slot runtimes: who starts, watches and ends the worker of a slot. A port.

mod channel;
pub mod collect;
pub mod docker;
pub mod memory;
pub mod process;
mod procfs;
pub mod session;
pub mod slot_dir;
mod spawner;
mod stderr;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pipeline::wire::{FromWorker, Hello, Isolation, ToWorker};

/// What can go wrong with a runtime, before a job is involved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// The worker did not start or did not say hello in time.
    #[error("the worker did not start: {0}")]
    Start(String),
    /// It speaks another protocol or carries another network.
    #[error("the worker does not match this server: {0}")]
    Mismatch(String),
    /// Slot directories cannot be used.
    #[error("slot directory: {0}")]
    Directory(String),
    /// What starts workers does not answer. It comes back by itself, and the slot is not to blame.
    #[error("workers cannot be started now: {0}")]
    Away(String),
}

/// Which slot a worker is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotId {
    /// Index on this node.
    pub slot: u32,
    /// Raised with every worker of the slot.
    pub generation: u64,
}

/// What a started worker gets.
#[derive(Debug, Clone)]
pub struct StartOrder {
    /// For which slot.
    pub id: SlotId,
    /// Holds `in/` (read-only to the worker) and `out/`.
    pub directory: PathBuf,
    /// Bound on the time until hello.
    pub start_timeout: Duration,
    /// Hard cap on the worker's memory, bytes.
    pub memory_bytes_max: u64,
    /// Open files.
    pub open_files_max: u64,
    /// Largest file it may write, bytes.
    pub file_bytes_max: u64,
}

/// Starts workers.
#[async_trait]
pub trait SlotRuntime: Send + Sync + 'static {
    /// `process` or `docker`.
    fn name(&self) -> &'static str;
    /// Starts a worker and waits for its hello, which has been checked.
    async fn start(&self, order: StartOrder) -> Result<Box<dyn Worker>, RuntimeError>;
    /// Removes what earlier incarnations of this node left: processes, containers. Returns how many.
    async fn sweep(&self) -> Result<u64, RuntimeError>;
    /// Shows before the first slot that workers can be started. The order's directory is the runtime's choice.
    async fn check(&self, _order: StartOrder) -> Result<(), RuntimeError> {
        Ok(())
    }
    /// Whether workers run as another user than the server, so that slot directories must be open to others.
    fn is_other_user(&self) -> bool {
        false
    }
    /// Why no job should be started now, as it changes.
    fn obstacle(&self) -> watch::Receiver<Option<String>> {
        watch::channel(None).1
    }
}

/// One running worker. Dropping it kills it.
#[async_trait]
pub trait Worker: Send {
    /// What it said first.
    fn hello(&self) -> &Hello;
    /// Sends a message.
    async fn send(&mut self, message: &ToWorker) -> Result<(), Lost>;
    /// The next message. Cancel safe.
    async fn receive(&mut self) -> Result<FromWorker, Lost>;
    /// Peak resident memory so far, bytes, measured from outside; `None` where it cannot be.
    fn peak_bytes(&mut self) -> Option<u64>;
    /// Kills the worker and everything it started, and reaps it.
    async fn kill(&mut self) -> Exit;
    /// Cancelled when the worker has ended while nobody talked to it; `None` where only talking shows it.
    fn ended(&self) -> Option<CancellationToken> {
        None
    }
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// Name of the signal that ended it, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether it ran into its memory limit.
    pub out_of_memory: bool,
}

/// A worker that can no longer be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Its end of the channel closed.
    #[error("the worker ended: {0:?}")]
    Ended(Exit),
    /// It sent what is no message.
    #[error("the worker broke the protocol: {0}")]
    Protocol(String),
    /// What runs the worker went away and took it along: not the job's doing.
    #[error("{0}")]
    Engine(String),
}

/// What is in force around the workers of this node, for `/readyz` and the page.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RuntimeReport {
    /// `process` or `docker`.
    pub runtime: String,
    /// As the last worker reported.
    pub isolation: Option<Isolation>,
}
