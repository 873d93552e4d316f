//! The actors as the HTTP layer sees them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, oneshot};

use super::{Deps, relay, slot_supervisor, webhooks};
use crate::bus::Depth;
use crate::cluster::{Control, ControlError, NodeView, Progress, Readiness};
use crate::job::{JobId, Lane};
use crate::store::{LedgerError, NodeWish};

/// Bound on the answer of an actor.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The actors of this node.
pub struct NodeControl(pub Arc<Deps>);

impl NodeControl {
    /// The other node makes the change with its next renewal.
    async fn change_other(
        &self,
        id: &str,
        slots: Option<u32>,
        draining: Option<bool>,
    ) -> Result<NodeView, ControlError> {
        let limit = self.0.config.slots.count_max;
        if slots.is_some_and(|slots| slots > limit) {
            return Err(ControlError::TooManySlots { limit });
        }
        let unavailable = |error: LedgerError| ControlError::Unavailable(error.to_string());
        let known = self.nodes().await?.into_iter().find(|node| node.id == id);
        let mut view = known.ok_or(ControlError::NoSuchNode)?;
        if !self.0.ledger.wish(id, NodeWish { slots, draining }).await.map_err(unavailable)? {
            return Err(ControlError::NoSuchNode);
        }
        view.slots_count = slots.unwrap_or(view.slots_count);
        view.draining = draining.unwrap_or(view.draining);
        Ok(view)
    }
}

#[async_trait]
impl Control for NodeControl {
    fn work_arrived(&self) {
        self.0.links.relay.send(relay::Msg::Wake);
    }

    fn webhooks_asked(&self) {
        self.0.links.webhooks.send(webhooks::Msg::Wake);
    }

    fn stop_job(&self, job: JobId) {
        self.0.links.slots.send(slot_supervisor::Msg::StopJob(job));
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ControlError> {
        let own = self.0.shared.view();
        let rows = self.0.ledger.nodes().await.map_err(|error| ControlError::Unavailable(error.to_string()))?;
        // A view of another version of the program that cannot be read is left out.
        let others = rows.into_iter().filter(|row| row.name != own.id);
        let mut nodes: Vec<NodeView> = others.filter_map(|row| serde_json::from_value(row.view).ok()).collect();
        nodes.push(own);
        nodes.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(nodes)
    }

    async fn change_node(
        &self,
        id: &str,
        slots: Option<u32>,
        draining: Option<bool>,
    ) -> Result<NodeView, ControlError> {
        if id != self.0.node {
            return self.change_other(id, slots, draining).await;
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
