//! Relay: the only door from the ledger to the bus. Releases waiting jobs in fair order, a short window at a time.
//!
//! 1. A round looks at what waits, publishes as much as the window has room for, and notes each release after the bus
//!    acknowledged it.
//! 2. One round at a time; a wake during a round causes another.
//! 3. Nothing is kept here but whose turn it is: a relay that restarts loses no job.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Deps, effect};
use crate::bus::BusError;
use crate::job::{JobId, Lane};
use crate::scheduling::fair::{Turns, Waiting, release_order};

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

/// What the relay is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Stop releasing.
    Drain(oneshot::Sender<()>),
    /// Something may have become releasable.
    Wake,
    /// A round ended.
    RoundDone(Option<Round>),
}

/// What a round gives back.
pub struct Round {
    turns: Turns,
    wait: Option<Duration>,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    turns: Turns,
    busy: bool,
    again: bool,
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
        Ok(State { deps, turns: Turns::default(), busy: false, again: false, draining: false })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                effect::reply(answer, ());
            }
            Msg::Wake if state.busy => state.again = true,
            Msg::Wake => state.start_round(&myself),
            Msg::RoundDone(round) => {
                crate::fault::hit("relay-actor");
                state.busy = false;
                let poll = Duration::from_secs(state.deps.config.relay.poll_s);
                let wait = round.as_ref().and_then(|round| round.wait).unwrap_or(poll).min(poll);
                if let Some(round) = round {
                    state.turns = round.turns;
                }
                if std::mem::take(&mut state.again) {
                    state.start_round(&myself);
                } else {
                    effect::send_after(myself, wait, || Msg::Wake);
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn start_round(&mut self, myself: &ActorRef<Msg>) {
        if self.draining {
            return;
        }
        self.busy = true;
        let (deps, turns) = (self.deps.clone(), std::mem::take(&mut self.turns));
        effect::spawn(myself.clone(), round(deps, turns), Msg::RoundDone);
    }
}

async fn round(deps: Arc<Deps>, mut turns: Turns) -> Round {
    match release(&deps, &mut turns).await {
        Ok(wait) => Round { turns, wait },
        Err(error) => {
            tracing::warn!(%error, "the relay could not release jobs");
            Round { turns, wait: None }
        }
    }
}

/// Releases what fits; says how long until the next job becomes due.
async fn release(deps: &Deps, turns: &mut Turns) -> Result<Option<Duration>, Box<dyn std::error::Error + Send + Sync>> {
    let mut pending = 0;
    for lane in Lane::ALL {
        pending += deps.bus.depth(lane).await?.pending;
    }
    let window = deps.config.bus.window_per_slot * deps.shared.usable_slots();
    let room = window.saturating_sub(pending);
    let now = effect::wall_ms();
    if room > 0 {
        let settings = &deps.config.relay;
        let waiting = deps.ledger.waiting(now, settings.waiting_per_owner, settings.owners_max).await?;
        for job in release_order(&waiting, room, settings.interactive_per_bulk, turns) {
            let Some(job) = waiting.iter().find(|waiting| waiting.job == job) else { continue };
            match publish(deps, job).await {
                Ok(()) => {}
                Err(BusError::Full { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            crate::fault::hit("relay-published");
            deps.ledger.release(job.job, &deps.node).await?;
            crate::fault::hit("relay-released");
        }
    }
    let due = deps.ledger.next_due(now).await?;
    Ok(due.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(10))))
}

async fn publish(deps: &Deps, waiting: &Waiting) -> Result<(), BusError> {
    let message = JobMessage { schema: JOB_SCHEMA.to_owned(), job: waiting.job, starts: waiting.starts };
    let payload = serde_json::to_vec(&message).map_err(|error| BusError::Unavailable(error.to_string()))?;
    let id = format!("{}:{}", waiting.job, waiting.starts + 1);
    deps.bus.publish(waiting.lane, &id, payload.into()).await
}
