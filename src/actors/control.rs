//! The actors as the HTTP layer sees them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, oneshot};

use super::{Deps, relay, slot_supervisor};
use crate::bus::Depth;
use crate::cluster::{Control, ControlError, NodeView, Progress, Readiness};
use crate::job::{JobId, Lane};

/// Bound on the answer of an actor.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The actors of this node.
pub struct NodeControl(pub Arc<Deps>);

#[async_trait]
impl Control for NodeControl {
    fn work_arrived(&self) {
        self.0.links.relay.send(relay::Msg::Wake);
    }

    fn stop_job(&self, job: JobId) {
        self.0.links.slots.send(slot_supervisor::Msg::StopJob(job));
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ControlError> {
        Ok(vec![self.0.shared.view()])
    }

    async fn change_node(
        &self,
        id: &str,
        slots: Option<u32>,
        draining: Option<bool>,
    ) -> Result<NodeView, ControlError> {
        if id != self.0.node {
            return Err(ControlError::NoSuchNode);
        }
        let (ask, answer) = oneshot::channel();
        let away = || ControlError::Unavailable("its slots are being started again".to_owned());
        if !self.0.links.slots.send(slot_supervisor::Msg::Change(slots, draining, ask)) {
            return Err(away());
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(away()),
        }
    }

    async fn readiness(&self) -> Readiness {
        self.0.shared.readiness()
    }

    async fn bus_depth(&self) -> Vec<(Lane, Depth)> {
        let mut depths = Vec::new();
        for lane in Lane::ALL {
            // A lane that cannot be asked is left out rather than shown as empty.
            if let Ok(depth) = self.0.bus.depth(lane).await {
                depths.push((lane, depth));
            }
        }
        depths
    }

    fn watch_progress(&self) -> broadcast::Receiver<Progress> {
        self.0.progress.subscribe()
    }
}
