//! SlotSupervisor: owns the slots of the node: starts, restarts, adds, retires and drains them.
//!
//! 1. At its start every job that an earlier incarnation of this node held is put back, before a slot is started.
//! 2. A slot actor that dies is started again after a wait; beyond its restart budget it rests for the quarantine.
//! 3. The number of slots changes while running: new ones take the lowest free index, idle ones retire first.
//! 4. With more than half of the slots out of use the node takes no jobs, and says so.
//! 5. While the object store is out of reach, the slot runtime cannot be used, or the disk of the slots is full, the node
//!    takes no jobs; what runs goes on until it needs them.
//! 6. A drain retires every slot; what still runs at the deadline is handed back unspent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::slot::{self, Slot};
use super::{Deps, effect, relay, room, scheduler};
use crate::cluster::{ControlError, NodeView, SlotState, SlotView};
use crate::job::{JobId, State as JobState};
use crate::pipeline::wire::Isolation;
use crate::scheduling::restart::{Budget, Verdict};
use crate::store::LedgerError;

/// Wait before a dead slot actor is started again.
const RESTART_WAIT: Duration = Duration::from_millis(500);
/// Wait before recovery is tried again while the ledger is out of reach.
const RECOVER_WAIT: Duration = Duration::from_secs(1);

/// What the slot supervisor is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Retire all slots; answer when the last is empty.
    Drain(oneshot::Sender<()>),
    /// The drain has taken long enough.
    DrainDeadline,
    /// Try to recover what an earlier incarnation held.
    Recover,
    /// The recovery ended.
    Recovered(Option<Result<Vec<(JobId, JobState)>, LedgerError>>),
    /// The scheduler is new: tell it everything again.
    Announce,
    /// Change the number of slots, or whether the node drains.
    Change(Option<u32>, Option<bool>, oneshot::Sender<Result<NodeView, ControlError>>),
    /// A slot changed; with the generation of its actor.
    Changed(u64, Box<SlotView>, Option<Isolation>),
    /// A slot is empty and its actor ends; with its generation.
    Retired(u32, u64),
    /// Start this slot again.
    Respawn(u32),
    /// Stop this job wherever it runs.
    StopJob(JobId),
    /// The object store went out of reach, or came back.
    StoreChanged,
    /// The node has no lease any more, or has one again: others start its jobs.
    Fence(bool),
    /// The slot runtime cannot be used, or can again.
    Obstacle(Option<String>),
    /// Why the slots have too little room on their disk, or that they have enough again.
    Room(Option<String>),
}

struct Child {
    actor: Option<ActorRef<slot::Msg>>,
    generation: u64,
    budget: Budget,
    view: SlotView,
    retiring: bool,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    incarnation: String,
    wanted: u32,
    open: bool,
    draining: bool,
    fenced: bool,
    slots: BTreeMap<u32, Child>,
    next_generation: u64,
    drained: Option<oneshot::Sender<()>>,
    isolation: Option<Isolation>,
    obstacle: Option<String>,
    shortage: Option<String>,
}

/// The actor.
pub struct SlotSupervisor;

impl Actor for SlotSupervisor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.slots.set(myself.clone());
        let _ = myself.send_message(Msg::Recover);
        follow_store(myself.clone(), &deps);
        room::watch(myself.clone(), deps.clone());
        watch_runtime(myself, &deps);
        let previous = deps.shared.view();
        let state = State {
            wanted: previous.slots_count,
            draining: previous.draining,
            deps,
            incarnation: uuid::Uuid::now_v7().to_string(),
            open: false,
            fenced: false,
            slots: BTreeMap::new(),
            next_generation: 0,
            drained: None,
            isolation: None,
            obstacle: None,
            shortage: None,
        };
        state.show();
        Ok(state)
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => state.drain(&myself, answer),
            Msg::DrainDeadline => state.tell_all(|| slot::Msg::HandBack),
            Msg::Recover => state.recover(&myself),
            Msg::Recovered(Some(Ok(jobs))) => {
                for (job, now) in jobs {
                    tracing::info!(%job, state = %now, "a job of an earlier incarnation was put back");
                }
                state.open = true;
                state.fill(&myself).await;
                state.announce();
            }
            Msg::Recovered(Some(Err(error))) => {
                tracing::error!(%error, "jobs of an earlier incarnation could not be put back yet");
                effect::send_after(myself, RECOVER_WAIT, || Msg::Recover);
            }
            Msg::Recovered(None) => effect::send_after(myself, RECOVER_WAIT, || Msg::Recover),
            Msg::Announce => {
                state.announce();
                state.tell_all(|| slot::Msg::Announce);
            }
            Msg::Change(count, draining, answer) => {
                let changed = state.change(&myself, count, draining).await;
                effect::reply(answer, changed);
            }
            Msg::Changed(generation, view, isolation) => {
                crate::fault::hit("slots-actor");
                state.changed(generation, *view, isolation);
            }
            Msg::Retired(slot, generation) => state.retired(slot, generation),
            Msg::Respawn(slot) => {
                let waits = state.slots.get(&slot).is_some_and(|child| child.actor.is_none());
                if waits && state.drained.is_none() {
                    state.start(&myself, slot).await;
                }
            }
            Msg::StopJob(job) => state.tell_all(|| slot::Msg::StopJob(job)),
            Msg::StoreChanged => {
                state.show();
                state.announce();
            }
            Msg::Fence(fenced) => {
                state.fenced = fenced;
                if fenced {
                    state.tell_all(|| slot::Msg::HandBack);
                }
                state.show();
                state.announce();
            }
            Msg::Obstacle(obstacle) => {
                state.obstacle = obstacle;
                state.show();
                state.announce();
            }
            Msg::Room(shortage) => {
                state.shortage = shortage;
                state.show();
                state.announce();
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Some((cell, why)) = effect::ended(event) else { return Ok(()) };
        let is = |child: &Child| child.actor.as_ref().is_some_and(|actor| actor.get_id() == cell.get_id());
        let dead = state.slots.iter().find(|(_, child)| is(child)).map(|(slot, _)| *slot);
        if let Some(slot) = dead {
            state.died(&myself, slot, &why);
        }
        Ok(())
    }
}

/// Says when the object store changes, as long as the actor is there to hear it.
fn follow_store(myself: ActorRef<Msg>, deps: &Deps) {
    let mut outage = deps.blobs.watch_outage();
    tokio::spawn(
        async move { while outage.changed().await.is_ok() && myself.send_message(Msg::StoreChanged).is_ok() {} },
    );
}

/// Tells the actor of every change, for as long as it lives.
fn watch_runtime(myself: ActorRef<Msg>, deps: &Deps) {
    let mut obstacle = deps.runtime.obstacle();
    tokio::spawn(async move {
        loop {
            let now = obstacle.borrow_and_update().clone();
            if myself.send_message(Msg::Obstacle(now)).is_err() || obstacle.changed().await.is_err() {
                return;
            }
        }
    });
}

impl State {
    fn recover(&self, myself: &ActorRef<Msg>) {
        let (deps, incarnation) = (self.deps.clone(), self.incarnation.clone());
        let work = async move { deps.ledger.recover(&deps.node, &incarnation).await };
        effect::spawn(myself.clone(), work, Msg::Recovered);
    }

    fn tell_all(&self, message: impl Fn() -> slot::Msg) {
        for actor in self.slots.values().filter_map(|child| child.actor.as_ref()) {
            let _ = actor.send_message(message());
        }
    }

    fn active(&self) -> u32 {
        u32::try_from(self.slots.values().filter(|child| !child.retiring).count()).unwrap_or(u32::MAX)
    }

    /// Starts slots until there are as many as wanted; each takes the lowest index that is free.
    async fn fill(&mut self, myself: &ActorRef<Msg>) {
        while self.open && self.drained.is_none() && self.active() < self.wanted {
            let Some(slot) = (0..).find(|slot| !self.slots.contains_key(slot)) else { break };
            let window = i64::try_from(self.deps.config.actors.restart_window_s * 1000).unwrap_or(i64::MAX);
            let restarts = usize::try_from(self.deps.config.actors.restarts_max).unwrap_or(usize::MAX);
            let view = SlotView { slot, state: SlotState::Empty, generation: 0, job: None, jobs_done: 0, note: None };
            let budget = Budget::new(restarts, window);
            self.slots.insert(slot, Child { actor: None, generation: 0, budget, view, retiring: false });
            self.start(myself, slot).await;
        }
        self.show();
    }

    async fn start(&mut self, myself: &ActorRef<Msg>, slot: u32) {
        self.next_generation += 1;
        let generation = self.next_generation;
        let arguments = slot::Arguments { deps: self.deps.clone(), slot, generation };
        // Quick: `pre_start` of a slot only lays out its state.
        let started = Slot::spawn_linked(None, Slot, arguments, myself.get_cell()).await;
        let Some(child) = self.slots.get_mut(&slot) else { return };
        child.generation = generation;
        match started {
            Ok((actor, _)) => child.actor = Some(actor),
            Err(error) => self.died(myself, slot, &error.to_string()),
        }
    }

    fn died(&mut self, myself: &ActorRef<Msg>, slot: u32, why: &str) {
        self.deps.links.scheduler.send(scheduler::Msg::SlotGone(slot));
        let Some(child) = self.slots.get_mut(&slot) else { return };
        child.actor = None;
        child.view.job = None;
        child.view.note = Some(why.to_owned());
        if child.retiring {
            // Its last word, that it is empty, stands behind this event in the mailbox.
            let generation = child.generation;
            self.retired(slot, generation);
            return;
        }
        tracing::error!(slot, %why, "a slot actor ended and is started again");
        let wait = match child.budget.ask(effect::steady_ms()) {
            Verdict::Restart => {
                child.view.state = SlotState::Empty;
                RESTART_WAIT
            }
            Verdict::GiveUp => {
                child.view.state = SlotState::Quarantined;
                Duration::from_secs(self.deps.config.slots.quarantine_s)
            }
        };
        effect::send_after(myself.clone(), wait, move || Msg::Respawn(slot));
        self.show();
        self.announce();
    }

    fn changed(&mut self, generation: u64, view: SlotView, isolation: Option<Isolation>) {
        let taking = self.taking();
        if let Some(child) = self.slots.get_mut(&view.slot)
            && child.generation == generation
        {
            child.view = view;
            self.isolation = isolation.or(self.isolation.take());
            self.show();
        }
        if taking != self.taking() {
            self.announce();
        }
        self.deps.links.relay.send(relay::Msg::Wake);
    }

    fn retired(&mut self, slot: u32, generation: u64) {
        if self.slots.get(&slot).is_some_and(|child| child.generation == generation) {
            self.slots.remove(&slot);
        }
        self.show();
        if self.slots.is_empty()
            && let Some(answer) = self.drained.take()
        {
            effect::reply(answer, ());
        }
    }

    async fn change(
        &mut self,
        myself: &ActorRef<Msg>,
        count: Option<u32>,
        draining: Option<bool>,
    ) -> Result<NodeView, ControlError> {
        let limit = self.deps.config.slots.count_max;
        if let Some(count) = count {
            if count > limit {
                return Err(ControlError::TooManySlots { limit });
            }
            self.wanted = count;
            self.shrink();
            self.fill(myself).await;
        }
        if let Some(draining) = draining {
            self.draining = draining;
        }
        self.show();
        self.announce();
        Ok(self.deps.shared.view())
    }

    /// Retires slots beyond the wanted number: those without a job first, then the highest.
    fn shrink(&mut self) {
        let excess = self.active().saturating_sub(self.wanted);
        let mut candidates: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, child)| !child.retiring)
            .map(|(slot, child)| (child.view.job.is_some(), std::cmp::Reverse(*slot)))
            .collect();
        candidates.sort_unstable();
        for (_, std::cmp::Reverse(slot)) in candidates.into_iter().take(usize::try_from(excess).unwrap_or(usize::MAX)) {
            self.retire(slot);
        }
    }

    fn retire(&mut self, slot: u32) {
        let Some(child) = self.slots.get_mut(&slot) else { return };
        child.retiring = true;
        let told = child.actor.as_ref().is_some_and(|actor| actor.send_message(slot::Msg::Retire).is_ok());
        if !told {
            let generation = child.generation;
            self.retired(slot, generation);
        }
    }

    fn drain(&mut self, myself: &ActorRef<Msg>, answer: oneshot::Sender<()>) {
        self.wanted = 0;
        self.draining = true;
        self.drained = Some(answer);
        self.announce();
        let slots: Vec<u32> = self.slots.keys().copied().collect();
        for slot in slots {
            self.retire(slot);
        }
        if self.slots.is_empty() {
            if let Some(answer) = self.drained.take() {
                effect::reply(answer, ());
            }
            return;
        }
        let deadline = Duration::from_secs(self.deps.config.slots.drain_s);
        effect::send_after(myself.clone(), deadline, || Msg::DrainDeadline);
    }

    fn out_of_use(&self) -> usize {
        self.slots.values().filter(|child| child.view.state == SlotState::Quarantined).count()
    }

    fn taking(&self) -> bool {
        let has_slots = self.out_of_use() * 2 <= self.slots.len();
        let can_work = self.obstacle.is_none() && self.shortage.is_none() && self.deps.blobs.outage().is_none();
        self.open && !self.draining && !self.fenced && has_slots && can_work
    }

    fn announce(&self) {
        let open = scheduler::Msg::Open {
            node: self.deps.node.clone(),
            incarnation: self.incarnation.clone(),
            taking: self.taking(),
        };
        self.deps.links.scheduler.send(open);
    }

    fn show(&self) {
        let mut reasons = Vec::new();
        if !self.open {
            reasons.push("jobs of an earlier start are being put back".to_owned());
        }
        if self.draining {
            reasons.push("the node drains".to_owned());
        }
        if self.fenced {
            reasons.push("the node could not renew its lease".to_owned());
        }
        reasons.extend(self.obstacle.iter().chain(&self.shortage).cloned());
        let (out, all) = (self.out_of_use(), self.slots.len());
        if out * 2 > all {
            reasons.push(format!("{out} of {all} slots are quarantined"));
        }
        if let Some(outage) = self.deps.blobs.outage() {
            reasons.push(format!("the object store is out of reach: {}", outage.reason));
        }
        let slots = self.slots.values().map(|child| child.view.clone()).collect();
        self.deps.shared.update(|view| {
            view.incarnation.clone_from(&self.incarnation);
            view.slots_count = self.wanted;
            view.draining = self.draining;
            view.slots = slots;
            view.reasons.clone_from(&reasons);
            view.runtime.isolation.clone_from(&self.isolation);
        });
        self.deps.shared.set_reasons(reasons);
    }
}
