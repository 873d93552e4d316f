//! What the slot supervisor shows of the node: read by HTTP, relay and janitor without asking an actor.

use std::sync::{PoisonError, RwLock};

use crate::cluster::{NodeView, Readiness};
use crate::containers::RuntimeReport;

/// The node as it was last shown.
#[derive(Debug)]
pub struct Shared {
    view: RwLock<NodeView>,
    readiness: RwLock<Readiness>,
}

impl Shared {
    /// A node that has not started a slot yet.
    #[must_use]
    pub fn new(node: &str, runtime: &str, slots_count: u32) -> Self {
        let view = NodeView {
            id: node.to_owned(),
            incarnation: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots_count,
            memory_bytes_max: 0,
            draining: false,
            reasons: Vec::new(),
            slots: Vec::new(),
            runtime: RuntimeReport { runtime: runtime.to_owned(), isolation: None },
        };
        let readiness = Readiness { reasons: vec!["the node starts".to_owned()] };
        Self { view: RwLock::new(view), readiness: RwLock::new(readiness) }
    }

    /// A copy of the node's view.
    #[must_use]
    pub fn view(&self) -> NodeView {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the view.
    pub fn update(&self, change: impl FnOnce(&mut NodeView)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Why the node takes no jobs.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut readiness = self.readiness.read().unwrap_or_else(PoisonError::into_inner).clone();
        if readiness.reasons.is_empty() && self.usable_slots() == 0 {
            readiness.reasons.push("no slot has a worker yet".to_owned());
        }
        readiness
    }

    /// Replaces the reasons.
    pub fn set_reasons(&self, reasons: Vec<String>) {
        self.readiness.write().unwrap_or_else(PoisonError::into_inner).reasons = reasons;
    }

    /// Slots that have a worker, busy or not: what the relay's window is measured by.
    #[must_use]
    pub fn usable_slots(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).usable_slots()
    }
}
