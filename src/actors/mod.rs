//! The actors of a node. One file each: the listing of this folder is the way of a job.

pub mod attempt;
pub mod blind;
pub mod control;
pub mod effect;
pub mod elsewhere;
pub mod intake;
pub mod janitor;
pub mod links;
pub mod membership;
pub mod node;
pub mod relay;
pub mod room;
pub mod scheduler;
pub mod shared;
pub mod slot;
pub mod slot_supervisor;
pub mod supervisor;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::blobs::Blobs;
use crate::bus::JobBus;
use crate::cluster::Progress;
use crate::config::Config;
use crate::containers::SlotRuntime;
use crate::containers::memory::MemoryBudget;
use crate::store::Ledger;
use crate::store::accounts::Accounts;
use crate::webhooks::Outlet;

/// What every actor of a node works with.
pub struct Deps {
    /// Settings.
    pub config: Arc<Config>,
    /// Stable name of the node.
    pub node: String,
    /// Fresh at every start of the program.
    pub process: uuid::Uuid,
    /// What is true.
    pub ledger: Arc<dyn Ledger>,
    /// Who may come in; `None` without accounts.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// What distributes.
    pub bus: Arc<dyn JobBus>,
    /// What holds bytes.
    pub blobs: Blobs,
    /// What running jobs share.
    pub memory: MemoryBudget,
    /// What runs workers.
    pub runtime: Arc<dyn SlotRuntime>,
    /// Who stands in which role.
    pub links: Arc<links::Links>,
    /// What the node shows.
    pub shared: Arc<shared::Shared>,
    /// What brings deliveries.
    pub outlet: Arc<Outlet>,
    /// Progress of running jobs.
    pub progress: broadcast::Sender<Progress>,
}

impl Deps {
    /// Where the slots of this node have their directories.
    #[must_use]
    pub fn slots_directory(&self) -> PathBuf {
        self.config.slots_directory().join(&self.node)
    }
}
