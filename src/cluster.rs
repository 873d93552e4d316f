//! What the HTTP layer may ask of the actors, as a port: neither imports the other.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::containers::RuntimeReport;
use crate::job::{JobId, Lane, OwnerId};

pub use crate::scheduling::slot::SlotState;

/// Progress of a running job; never stored, replayed or counted on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// Whose.
    #[serde(skip)]
    pub owner: OwnerId,
    /// Which job.
    pub job: JobId,
    /// The step.
    pub stage: String,
    /// 0..1.
    pub progress: f32,
}

/// One slot, as administrators see it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Index on its node.
    pub slot: u32,
    /// State.
    pub state: SlotState,
    /// Worker generation.
    pub generation: u64,
    /// The job it works on.
    pub job: Option<JobId>,
    /// Jobs done by the present worker.
    pub jobs_done: u32,
    /// Why it is not in use, or the last failure.
    pub note: Option<String>,
}

/// One node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Stable name.
    pub id: String,
    /// Fresh at every start.
    pub incarnation: String,
    /// Program version.
    pub version: String,
    /// Slots wanted.
    pub slots_count: u32,
    /// What the plan of one job may ask for here, bytes; 0 from a version of the program that did not say.
    #[serde(default)]
    pub memory_bytes_max: u64,
    /// Whether it takes no new jobs.
    pub draining: bool,
    /// Why it takes no jobs, one sentence for each reason; empty when it does.
    pub reasons: Vec<String>,
    /// Its slots.
    pub slots: Vec<SlotView>,
    /// Runtime and isolation in force.
    pub runtime: RuntimeReport,
}

impl NodeView {
    /// Slots that have a worker, busy or not; none while it drains.
    #[must_use]
    pub fn usable_slots(&self) -> usize {
        let usable = |state: SlotState| {
            matches!(state, SlotState::Warm | SlotState::Staging | SlotState::Executing | SlotState::Publishing)
        };
        if self.draining { 0 } else { self.slots.iter().filter(|slot| usable(slot.state)).count() }
    }
}

/// Why a node does not take jobs; empty when it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// One sentence for each reason.
    pub reasons: Vec<String>,
}

/// What can go wrong when actors are asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No node of that name.
    #[error("no such node")]
    NoSuchNode,
    /// More slots than the node may have.
    #[error("a node may have at most {limit} slots")]
    TooManySlots {
        /// The bound.
        limit: u32,
    },
    /// The actors are starting, stopping or hang.
    #[error("the node does not answer: {0}")]
    Unavailable(String),
}

/// The actors, as the HTTP layer sees them.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// A job was queued, or became due: the relay should look now.
    fn work_arrived(&self);
    /// Something is to be brought to a webhook now.
    fn webhooks_asked(&self);
    /// The job was cancelled or deleted while running: its slot must stop it.
    fn stop_job(&self, job: JobId);
    /// All nodes.
    async fn nodes(&self) -> Result<Vec<NodeView>, ControlError>;
    /// Changes the number of slots of a node, or whether it drains.
    async fn change_node(&self, id: &str, slots: Option<u32>, draining: Option<bool>)
    -> Result<NodeView, ControlError>;
    /// Whether this node takes jobs.
    async fn readiness(&self) -> Readiness;
    /// Messages on the bus, per lane.
    async fn bus_depth(&self) -> Vec<(Lane, crate::bus::Depth)>;
    /// Progress of running jobs as it is reported.
    fn watch_progress(&self) -> broadcast::Receiver<Progress>;
}
