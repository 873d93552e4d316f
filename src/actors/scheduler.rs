//! Scheduler: gives each delivered job to a free slot, after claiming it in the ledger.
//!
//! 1. What to do is decided by [`crate::scheduling::assign::decide`]; this file only carries it out.
//! 2. A slot is offered by itself, under its generation; a message of an older generation is dropped.
//! 3. A job is claimed before its slot hears of it. A claim that finds nothing to do acknowledges the delivery.
//! 4. When a slot actor dies with a job assigned, the job is ended as a passing fault of that start.
//! 5. A delivery that waits here is kept in progress on the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::attempt::Assignment;
use super::relay::{JOB_SCHEMA, JobMessage};
use super::{Deps, effect, elsewhere, intake, relay, slot, slot_supervisor};
use crate::bus::Delivery;
use crate::job::{JobError, JobId, Lane};
use crate::scheduling::assign::{Held, Snapshot, decide};
use crate::store::{Claim, Finish, Holder, LedgerError};
use crate::traces::{self, Span};

/// Wait before a delivery is tried again when the ledger did not answer.
const NAK_WAIT: Duration = Duration::from_secs(1);

/// What the scheduler is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Give back what is held and assign nothing more.
    Drain(oneshot::Sender<()>),
    /// The intake is new and asks for the demand.
    AskDemand,
    /// Who claims here, and whether the node takes jobs.
    Open {
        /// Stable name of the node.
        node: String,
        /// Of the present slot supervisor.
        incarnation: String,
        /// Whether the node takes jobs.
        taking: bool,
    },
    /// A slot is free.
    Offered(SlotRef),
    /// A slot is no longer free.
    Withdrawn(u32, u64),
    /// A slot actor is gone.
    SlotGone(u32),
    /// Deliveries came in.
    Arrived(Lane, Vec<Delivery>),
    /// A claim ended.
    Claimed(Box<ClaimReport>),
    /// Time to say "in progress" for what waits.
    KeepAlive,
}

/// A slot that can take a job.
#[derive(Debug, Clone)]
pub struct SlotRef {
    /// Index.
    pub slot: u32,
    /// Of the slot actor.
    pub generation: u64,
    /// Where to send the job.
    pub actor: ActorRef<slot::Msg>,
}

/// What became of a claim.
pub struct ClaimReport {
    slot: SlotRef,
    message: JobMessage,
    delivery: Delivery,
    result: Result<Claim, LedgerError>,
}

struct Waiting {
    lane: Lane,
    delivery: Delivery,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    holder: Option<(String, String)>,
    taking: bool,
    draining: bool,
    free: BTreeMap<u32, SlotRef>,
    assigned: BTreeMap<u32, (JobId, u32)>,
    held: BTreeMap<u64, Waiting>,
    next_ticket: u64,
}

/// The actor.
pub struct Scheduler;

impl Actor for Scheduler {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.scheduler.set(myself.clone());
        // A scheduler that restarts knows nothing: everybody says again where they stand.
        deps.links.slots.send(slot_supervisor::Msg::Announce);
        keep_alive_later(&myself, &deps);
        Ok(State {
            deps,
            holder: None,
            taking: false,
            draining: false,
            free: BTreeMap::new(),
            assigned: BTreeMap::new(),
            held: BTreeMap::new(),
            next_ticket: 0,
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                state.act(&myself);
                effect::reply(answer, ());
            }
            Msg::AskDemand => state.act(&myself),
            Msg::Open { node, incarnation, taking } => {
                state.holder = Some((node, incarnation));
                state.taking = taking;
                state.act(&myself);
            }
            Msg::Offered(slot) => {
                state.assigned.remove(&slot.slot);
                state.free.insert(slot.slot, slot);
                state.act(&myself);
            }
            Msg::Withdrawn(slot, generation) => {
                if state.free.get(&slot).is_some_and(|free| free.generation == generation) {
                    state.free.remove(&slot);
                }
                state.act(&myself);
            }
            Msg::SlotGone(slot) => {
                state.free.remove(&slot);
                state.rescue(slot);
                state.act(&myself);
            }
            Msg::Arrived(lane, deliveries) => {
                for delivery in deliveries {
                    state.next_ticket += 1;
                    state.held.insert(state.next_ticket, Waiting { lane, delivery });
                }
                state.act(&myself);
            }
            Msg::Claimed(report) => {
                crate::fault::hit("scheduler-actor");
                state.claimed(*report);
                state.act(&myself);
            }
            Msg::KeepAlive => {
                keep_alive_later(&myself, &state.deps);
                state.keep_alive().await;
            }
        }
        Ok(())
    }
}

fn keep_alive_later(myself: &ActorRef<Msg>, deps: &Deps) {
    let every = Duration::from_secs(deps.config.bus.in_progress_every_s);
    effect::send_after(myself.clone(), every, || Msg::KeepAlive);
}

impl State {
    fn act(&mut self, myself: &ActorRef<Msg>) {
        let snapshot = Snapshot {
            taking: self.taking && !self.draining && self.holder.is_some(),
            free_slots: self.free.keys().copied().collect(),
            held: self.held.iter().map(|(ticket, waiting)| Held { ticket: *ticket, lane: waiting.lane }).collect(),
        };
        let decision = decide(&snapshot);
        for ticket in decision.give_back {
            if let Some(waiting) = self.held.remove(&ticket) {
                answer(async move { waiting.delivery.acker.nak(Duration::ZERO).await });
            }
        }
        for (ticket, slot) in decision.assign {
            let (Some(waiting), Some(slot)) = (self.held.remove(&ticket), self.free.remove(&slot)) else { continue };
            self.claim(myself, waiting.delivery, slot);
        }
        self.deps.links.intake.send(intake::Msg::Demand(decision.pull));
    }

    fn claim(&mut self, myself: &ActorRef<Msg>, delivery: Delivery, slot: SlotRef) {
        let Some((node, incarnation)) = self.holder.clone() else { return };
        let message = match serde_json::from_slice::<JobMessage>(&delivery.payload) {
            Ok(message) if message.schema == JOB_SCHEMA => message,
            Ok(_) | Err(_) => {
                tracing::error!("a message on the bus cannot be read and is dropped");
                answer(async move { delivery.acker.term().await });
                self.free.insert(slot.slot, slot);
                return;
            }
        };
        let memory_bytes_max = Some(elsewhere::plan_bytes_max(&self.deps.config, &self.deps.memory));
        let holder = Holder { node, incarnation, slot: slot.slot, memory_bytes_max };
        let deps = self.deps.clone();
        let myself = myself.clone();
        // Not `effect::spawn`: a claim that panics is a bug of the ledger, and the delivery comes back by itself.
        tokio::spawn(async move {
            let claiming = Span::begin(message.job, traces::root(message.job), "claim");
            let result = elsewhere::claim(&deps, message.job, message.starts, holder).await;
            match &result {
                Ok(Claim::Won { job, .. }) => {
                    drop(claiming);
                    Span::waited(job.id, traces::root(job.id), "wait", job.run_at_ms);
                }
                Ok(Claim::Gone(_) | Claim::TooLarge(_)) | Err(_) => claiming.forget(),
            }
            crate::fault::hit("claimed");
            let _ = myself.send_message(Msg::Claimed(Box::new(ClaimReport { slot, message, delivery, result })));
        });
    }

    fn claimed(&mut self, report: ClaimReport) {
        let ClaimReport { slot, message, delivery, result } = report;
        match result {
            Ok(Claim::Won { job, image }) => {
                let start = job.starts;
                let assignment = Assignment { job: *job, image: *image, delivery };
                self.assigned.insert(slot.slot, (message.job, start));
                self.deps.links.relay.send(relay::Msg::Wake);
                if slot.actor.send_message(slot::Msg::Run(Box::new(assignment))).is_err() {
                    self.rescue(slot.slot);
                }
            }
            Ok(Claim::Gone(job_state)) => {
                tracing::debug!(job = %message.job, ?job_state, "a delivered job had moved on");
                answer(async move { delivery.acker.ack().await });
                self.free.insert(slot.slot, slot);
                self.deps.links.relay.send(relay::Msg::Wake);
            }
            Ok(Claim::TooLarge(needed)) => {
                tracing::debug!(job = %message.job, needed, "a job is left to a larger node");
                elsewhere::leave(&self.deps, message.job, delivery);
                self.free.insert(slot.slot, slot);
            }
            Err(error) => {
                tracing::warn!(job = %message.job, %error, "a job could not be claimed");
                answer(async move { delivery.acker.nak(NAK_WAIT).await });
                self.free.insert(slot.slot, slot);
            }
        }
    }

    /// Ends the start that a vanished slot held. Harmless when the slot had ended it: the ledger says stale.
    fn rescue(&mut self, slot: u32) {
        let Some((job, start)) = self.assigned.remove(&slot) else { return };
        let (ledger, links) = (self.deps.ledger.clone(), self.deps.links.clone());
        tokio::spawn(async move {
            let error = JobError::new("slot_lost", "the slot that worked on the job was restarted", None, true);
            let finish = Finish::Retry { error, run_at_ms: effect::wall_ms() };
            if let Err(error) = ledger.finish(job, start, finish).await {
                tracing::error!(%job, %error, "a job of a lost slot could not be put back; the janitor will");
            }
            links.relay.send(relay::Msg::Wake);
        });
    }

    async fn keep_alive(&self) {
        for waiting in self.held.values() {
            // In-process this is immediate; over a network it only queues a message.
            if let Err(error) = waiting.delivery.acker.in_progress().await {
                tracing::debug!(%error, "a waiting delivery is no longer ours");
            }
        }
    }
}

/// Answers the bus beside the mailbox. An answer that fails costs a redelivery, which the claim makes harmless.
fn answer(work: impl Future<Output = Result<(), crate::bus::BusError>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::debug!(%error, "an answer to the bus was not taken");
        }
    });
}
