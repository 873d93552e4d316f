//! Relay: the only door from the ledger to the bus. Releases waiting jobs in fair order, a short window at a time.
//!
//! 1. A round looks at what waits, publishes as much as the window has room for, and notes each release after the bus
//!    acknowledged it.
//! 2. One round at a time; a wake during a round causes another. When to begin one: [`crate::scheduling::rounds`].
//! 3. Nothing is kept here but whose turn it is: a relay that restarts loses no job.
//! 4. What the ledger calls released and a shared bus does not hold is queued again: the bus was wiped, or lost what it had
//!    acknowledged. Looked at from time to time, and first of all after a round that failed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Deps, effect, elsewhere};
use crate::bus::BusError;
use crate::cluster::NodeView;
use crate::job::{JobId, Lane};
use crate::scheduling::fair::{Turns, Waiting, release_order};
use crate::scheduling::rounds::{Next, Rounds, Timer};
use crate::traces::{self, Span};

/// The event on the bus. A pointer, never the job itself: what is true stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// `inkpool.job/1`.
    pub schema: String,
    /// Which job.
    pub job: JobId,
    /// Its starts when it was released: an older message claims nothing.
    pub starts: u32,
}

/// Schema name of [`JobMessage`].
pub const JOB_SCHEMA: &str = "inkpool.job/1";

impl JobMessage {
    /// Of a job that has started `starts` times.
    #[must_use]
    pub fn new(job: JobId, starts: u32) -> Self {
        Self { schema: JOB_SCHEMA.to_owned(), job, starts }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { schema, job, starts } = self;
        serde_json::json!({ "schema": schema, "job": job, "starts": starts }).to_string().into()
    }
}

/// What the relay is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Stop releasing.
    Drain(oneshot::Sender<()>),
    /// Something may have become releasable.
    Wake,
    /// The wait after a round is over.
    Due(Timer),
    /// A round ended.
    RoundDone(Option<Round>),
}

/// What a round gives back.
pub struct Round {
    turns: Turns,
    ended: Result<Option<Duration>, String>,
    compared: bool,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    turns: Turns,
    compared_at: Option<Instant>,
    failing: bool,
    rounds: Rounds,
    draining: bool,
}

/// The actor.
pub struct Relay;

impl Actor for Relay {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.relay.set(myself.clone());
        let _ = myself.send_message(Msg::Wake);
        Ok(State {
            deps,
            turns: Turns::default(),
            compared_at: None,
            failing: false,
            rounds: Rounds::default(),
            draining: false,
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                effect::reply(answer, ());
            }
            Msg::Wake | Msg::Due(_) if state.draining => {}
            Msg::Wake => {
                if state.rounds.asked() {
                    state.start_round(&myself);
                }
            }
            Msg::Due(timer) => {
                if state.rounds.due(timer) {
                    state.start_round(&myself);
                }
            }
            Msg::RoundDone(round) => {
                crate::fault::hit("relay-actor");
                let poll = Duration::from_secs(state.deps.config.relay.poll_s);
                let wait = round.and_then(|round| state.settle(round)).unwrap_or(poll).min(poll);
                match state.rounds.ended() {
                    Next::Begin if state.draining => {}
                    Next::Begin => state.start_round(&myself),
                    Next::Wait(timer) => effect::send_after(myself, wait, move || Msg::Due(timer)),
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn start_round(&mut self, myself: &ActorRef<Msg>) {
        let (deps, turns) = (self.deps.clone(), std::mem::take(&mut self.turns));
        let every = Duration::from_secs(deps.config.relay.compare_every_s);
        let compare = deps.bus.is_shared() && self.compared_at.is_none_or(|at| at.elapsed() >= every);
        effect::spawn(myself.clone(), round(deps, turns, compare), Msg::RoundDone);
    }

    /// Takes over what a round gave back; says how long to wait for the next.
    fn settle(&mut self, round: Round) -> Option<Duration> {
        self.turns = round.turns;
        if round.compared {
            self.compared_at = Some(Instant::now());
        }
        match round.ended {
            Ok(wait) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the relay releases jobs again");
                }
                wait
            }
            Err(error) => {
                self.compared_at = None;
                // Said once: while the bus is away every round fails.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error, "the relay cannot release jobs");
                }
                None
            }
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn round(deps: Arc<Deps>, mut turns: Turns, compare: bool) -> Round {
    let mut compared = false;
    let work = async {
        if compare {
            put_back_lost(&deps).await?;
            compared = true;
        }
        release(&deps, &mut turns).await
    };
    let ended = work.await.map_err(|error: Failed| error.to_string());
    Round { turns, ended, compared }
}

/// Queues again what is released but not on the bus.
///
/// The ledger is asked first: whatever it calls released then was acknowledged by the bus before. If the bus does not hold
/// it afterwards, it was lost, or claimed meanwhile, and then the ledger refuses to take it back.
async fn put_back_lost(deps: &Deps) -> Result<(), Failed> {
    let limit = deps.config.bus.lane_messages_max.saturating_mul(Lane::ALL.len());
    let released = deps.ledger.released(u32::try_from(limit).unwrap_or(u32::MAX)).await?;
    if released.is_empty() {
        return Ok(());
    }
    let mut on_bus = BTreeSet::new();
    for lane in Lane::ALL {
        for payload in deps.bus.messages(lane).await? {
            if let Ok(message) = serde_json::from_slice::<JobMessage>(&payload) {
                on_bus.insert((message.job, message.starts));
            }
        }
    }
    let mut lost = 0;
    for job in released.iter().filter(|job| !on_bus.contains(&(job.job, job.starts))) {
        lost += u64::from(deps.ledger.unrelease(job.job).await?);
    }
    if lost > 0 {
        tracing::warn!(jobs = lost, "the bus had lost released jobs; they are released again");
        metrics::counter!("inkpool_bus_lost_total").increment(lost);
    }
    Ok(())
}

/// Slots that take what is on the bus: those of this node, or of all nodes that share it, as they last showed themselves.
async fn slots(deps: &Deps) -> Result<usize, Failed> {
    let own = deps.shared.usable_slots();
    if !deps.bus.is_shared() {
        return Ok(own);
    }
    let others = deps.ledger.nodes().await?.into_iter().filter(|row| row.name != deps.node);
    // A view that cannot be read is of another version of the program.
    let views = others.filter_map(|row| serde_json::from_value::<NodeView>(row.view).ok());
    Ok(views.fold(own, |sum, view| sum.saturating_add(view.usable_slots())))
}

/// Releases what fits; says how long until the next job becomes due.
async fn release(deps: &Deps, turns: &mut Turns) -> Result<Option<Duration>, Failed> {
    let mut pending = 0;
    for lane in Lane::ALL {
        pending += deps.bus.depth(lane).await?.pending;
    }
    let window = deps.config.bus.window_per_slot * slots(deps).await?;
    let room = window.saturating_sub(pending);
    let now = effect::wall_ms();
    if room > 0 {
        let settings = &deps.config.relay;
        let (shared, room_of_one) = (deps.bus.is_shared(), u32::try_from(room).unwrap_or(u32::MAX));
        // Not even one owner gets more than there is room for; where jobs are left aside, the next ones are wanted as well.
        let per_owner = if shared { settings.waiting_per_owner.min(room_of_one) } else { settings.waiting_per_owner };
        let mut waiting = deps.ledger.waiting(now, per_owner, settings.owners_max).await?;
        if !shared {
            elsewhere::leave_larger(deps, &mut waiting).await?;
        }
        for job in release_order(&waiting, room, settings.interactive_per_bulk, turns) {
            let Some(job) = waiting.iter().find(|waiting| waiting.job == job) else { continue };
            let releasing = Span::begin(job.job, traces::root(job.job), "release");
            match publish(deps, job).await {
                Ok(()) => {}
                Err(BusError::Full { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            crate::fault::hit("relay-published");
            deps.ledger.release(job.job, &deps.node).await?;
            drop(releasing);
            crate::fault::hit("relay-released");
        }
    }
    let due = deps.ledger.next_due(now).await?;
    Ok(due.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(10))))
}

async fn publish(deps: &Deps, waiting: &Waiting) -> Result<(), BusError> {
    let message = JobMessage::new(waiting.job, waiting.starts);
    let id = format!("{}:{}", waiting.job, waiting.starts + 1);
    deps.bus.publish(waiting.lane, &id, message.encode()).await
}
