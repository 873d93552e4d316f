//! Intake: pulls from the bus only as many jobs as the scheduler asks for, and hands them to it.
//!
//! 1. One pull for each lane at a time, of at most the present demand.
//! 2. A new demand replaces the old one; zero pulls nothing further.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::{Deps, effect, scheduler};
use crate::bus::{BusError, Delivery};
use crate::job::Lane;

/// A pull waits this long for a first message, then is made anew; it bounds how long a drained node holds a pull.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// Wait after a pull that failed.
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// What the intake is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Stop pulling.
    Drain(oneshot::Sender<()>),
    /// The scheduler can use this many jobs.
    Demand(usize),
    /// A pull ended.
    Pulled(Lane, Option<Result<Vec<Delivery>, BusError>>),
    /// The wait after a failed pull is over.
    Resume(Lane),
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    demand: usize,
    pulling: [bool; 2],
    draining: bool,
}

/// The actor.
pub struct Intake;

impl Actor for Intake {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.intake.set(myself.clone());
        deps.links.scheduler.send(scheduler::Msg::AskDemand);
        Ok(State { deps, demand: 0, pulling: [false; 2], draining: false })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                effect::reply(answer, ());
            }
            Msg::Demand(demand) => {
                state.demand = demand;
                state.pull(&myself);
            }
            Msg::Pulled(lane, result) => {
                crate::fault::hit("intake-actor");
                state.pulled(&myself, lane, result);
            }
            Msg::Resume(lane) => {
                state.pulling[lane as usize] = false;
                state.pull(&myself);
            }
        }
        Ok(())
    }
}

impl State {
    fn pull(&mut self, myself: &ActorRef<Msg>) {
        for lane in Lane::ALL {
            if self.demand == 0 || self.draining || self.pulling[lane as usize] {
                continue;
            }
            self.pulling[lane as usize] = true;
            let (bus, max) = (self.deps.bus.clone(), self.demand);
            let work = async move { bus.pull(lane, max, PULL_WAIT).await };
            effect::spawn(myself.clone(), work, move |result| Msg::Pulled(lane, result));
        }
    }

    fn pulled(&mut self, myself: &ActorRef<Msg>, lane: Lane, result: Option<Result<Vec<Delivery>, BusError>>) {
        match result {
            Some(Ok(deliveries)) => {
                self.pulling[lane as usize] = false;
                self.demand = self.demand.saturating_sub(deliveries.len());
                if !deliveries.is_empty() {
                    // Dropped when the scheduler is away: the bus delivers them again.
                    self.deps.links.scheduler.send(scheduler::Msg::Arrived(lane, deliveries));
                }
                self.pull(myself);
            }
            Some(Err(error)) => {
                if !self.draining {
                    tracing::warn!(%error, %lane, "cannot pull from the bus");
                }
                effect::send_after(myself.clone(), ERROR_WAIT, move || Msg::Resume(lane));
            }
            None => effect::send_after(myself.clone(), ERROR_WAIT, move || Msg::Resume(lane)),
        }
    }
}
