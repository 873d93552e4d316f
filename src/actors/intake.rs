//! Intake: pulls from the bus only as many jobs as the scheduler asks for, and hands them to it.
//!
//! 1. One pull for each lane at a time, of at most the present demand.
//! 2. A new demand replaces the old one; zero pulls nothing further.
//! 3. While the bus does not answer, jobs are taken from the ledger, see [`super::blind`]; pulls go on as its probe.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::blind::{self, Look};
use super::{Deps, effect, scheduler};
use crate::bus::{BusError, Delivery};
use crate::job::Lane;
use crate::scheduling::fair::Turns;

/// A pull waits this long for a first message, then is made anew; it bounds how long a drained node holds a pull.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// Wait after a pull that failed.
const ERROR_WAIT: Duration = Duration::from_secs(1);
/// Wait between two looks into the ledger while the bus is away.
const LOOK_WAIT: Duration = Duration::from_millis(200);

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
    /// A look into the ledger ended.
    Looked(Option<Look>),
    /// The wait after a look is over.
    LookAgain,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    demand: usize,
    pulling: [bool; 2],
    /// The bus did not answer the last pull.
    away: bool,
    /// A look is on its way, or the wait after it.
    looking: bool,
    turns: Turns,
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
        Ok(State {
            deps,
            demand: 0,
            pulling: [false; 2],
            away: false,
            looking: false,
            turns: Turns::default(),
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
            Msg::Demand(demand) => {
                state.demand = demand;
                state.pull(&myself);
                state.look(&myself);
            }
            Msg::Pulled(lane, result) => {
                crate::fault::hit("intake-actor");
                state.pulled(&myself, lane, result);
            }
            Msg::Resume(lane) => {
                state.pulling[lane as usize] = false;
                state.pull(&myself);
            }
            Msg::Looked(look) => {
                if let Some(look) = look {
                    state.looked(look);
                }
                effect::send_after(myself, LOOK_WAIT, || Msg::LookAgain);
            }
            Msg::LookAgain => {
                state.looking = false;
                state.look(&myself);
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

    fn look(&mut self, myself: &ActorRef<Msg>) {
        if !self.away || self.looking || self.draining || self.demand == 0 {
            return;
        }
        self.looking = true;
        let work = blind::look(self.deps.clone(), self.demand, std::mem::take(&mut self.turns));
        effect::spawn(myself.clone(), work, Msg::Looked);
    }

    fn looked(&mut self, look: Look) {
        self.turns = look.turns;
        match look.found {
            Ok(found) => {
                self.demand = self.demand.saturating_sub(found.len());
                for (lane, delivery) in found {
                    self.deps.links.scheduler.send(scheduler::Msg::Arrived(lane, vec![delivery]));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot take jobs from the ledger"),
        }
    }

    fn pulled(&mut self, myself: &ActorRef<Msg>, lane: Lane, result: Option<Result<Vec<Delivery>, BusError>>) {
        match result {
            Some(Ok(deliveries)) => {
                self.pulling[lane as usize] = false;
                if std::mem::take(&mut self.away) {
                    tracing::info!("the bus is back");
                }
                self.demand = self.demand.saturating_sub(deliveries.len());
                if !deliveries.is_empty() {
                    // Dropped when the scheduler is away: the bus delivers them again.
                    self.deps.links.scheduler.send(scheduler::Msg::Arrived(lane, deliveries));
                }
                self.pull(myself);
            }
            Some(Err(error)) => {
                // Said once: while the bus is away every pull fails.
                if !self.draining && !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(%error, %lane, "cannot pull from the bus; jobs are taken from the ledger");
                }
                self.look(myself);
                effect::send_after(myself.clone(), ERROR_WAIT, move || Msg::Resume(lane));
            }
            None => effect::send_after(myself.clone(), ERROR_WAIT, move || Msg::Resume(lane)),
        }
    }
}
