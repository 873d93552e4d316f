//! The root of a node's actors: one_for_one supervision with a restart budget, pings and an ordered stop.
//!
//! Contract, one test per clause in `tests/supervision.rs`:
//!
//! 1. A child that panics, or whose `handle` returns an error, is started again; its siblings are left alone.
//! 2. A child that does not answer a ping within the bound is killed and started again.
//! 3. A start that fails counts as a restart and is tried again.
//! 4. More restarts than the budget within the window: the node gives up and says why.
//! 5. On `Stop` the children are drained and stopped one after the other, in the order of their specs; a child that
//!    does not drain within its bound is killed.

use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::{oneshot, watch};

use super::effect;
use crate::config;
use crate::scheduling::restart::{Budget, Verdict};

/// Wait before a restart: long enough that a child that dies at once does not burn a core.
const RESTART_WAIT: Duration = Duration::from_millis(100);

/// A started child.
pub struct Child {
    /// Its cell, to stop and to kill it.
    pub cell: ActorCell,
    /// Asks for a sign of life.
    pub ping: Ask,
    /// Asks to end its work.
    pub drain: Ask,
}

/// Puts a question into a child's mailbox; false when it is gone.
pub type Ask = Box<dyn Fn(oneshot::Sender<()>) -> bool + Send + Sync>;
/// Starts a child under the given supervisor. Must be quick: `pre_start` of a child does no slow work.
pub type Spawn = Box<dyn Fn(ActorCell) -> BoxFuture<'static, Result<Child, SpawnErr>> + Send + Sync>;

/// How to start, and how to stop a child.
pub struct ChildSpec {
    /// For logs.
    pub name: &'static str,
    /// Starts it.
    pub spawn: Spawn,
    /// Bound on its drain.
    pub drain_timeout: Duration,
}

/// What the supervisor is told.
pub enum Msg {
    /// A ping round is due.
    PingRound,
    /// A child answered the ping of this generation.
    Pong(usize, u64),
    /// A restart was tried.
    Respawned(usize, Option<Result<Child, SpawnErr>>),
    /// Stop in order, then answer.
    Stop(oneshot::Sender<()>),
    /// The ordered stop is through.
    Stopped(oneshot::Sender<()>),
}

/// What it needs.
pub struct Arguments {
    /// In the order of the stop; started in the reverse order.
    pub children: Vec<ChildSpec>,
    /// Bounds.
    pub settings: config::Actors,
    /// Set once when the node gives up.
    pub fatal: watch::Sender<Option<String>>,
}

struct Running {
    child: Option<Child>,
    generation: u64,
    waits_since_ms: Option<i64>,
    budget: Budget,
}

/// Its state.
pub struct State {
    specs: std::sync::Arc<Vec<ChildSpec>>,
    children: Vec<Running>,
    settings: config::Actors,
    fatal: watch::Sender<Option<String>>,
    stopping: bool,
}

/// The actor.
pub struct Supervisor;

impl Actor for Supervisor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { children: specs, settings, fatal } = arguments;
        let window_ms = i64::try_from(settings.restart_window_s * 1000)?;
        let budget = Budget::new(usize::try_from(settings.restarts_max)?, window_ms);
        let mut children: Vec<Running> = Vec::new();
        children.resize_with(specs.len(), || Running {
            child: None,
            generation: 0,
            waits_since_ms: None,
            budget: budget.clone(),
        });
        let mut state = State { specs: std::sync::Arc::new(specs), children, settings, fatal, stopping: false };
        for index in (0..state.specs.len()).rev() {
            let started = (state.specs[index].spawn)(myself.get_cell()).await;
            state.settle(&myself, index, Some(started));
        }
        state.schedule_ping(&myself);
        Ok(state)
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::PingRound => {
                state.ping_all(&myself);
                state.schedule_ping(&myself);
            }
            Msg::Pong(index, generation) => {
                let child = &mut state.children[index];
                if child.generation == generation {
                    child.waits_since_ms = None;
                }
            }
            Msg::Respawned(index, result) => state.settle(&myself, index, result),
            Msg::Stop(answer) => state.stop(&myself, answer),
            Msg::Stopped(answer) => {
                effect::reply(answer, ());
                myself.stop(None);
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
        let is = |running: &Running| running.child.as_ref().is_some_and(|child| child.cell.get_id() == cell.get_id());
        if let Some(index) = state.children.iter().position(is)
            && !state.stopping
        {
            tracing::error!(actor = state.specs[index].name, %why, "an actor ended and is started again");
            state.children[index].child = None;
            state.restart(&myself, index, &why);
        }
        Ok(())
    }
}

impl State {
    fn schedule_ping(&self, myself: &ActorRef<Msg>) {
        effect::send_after(myself.clone(), Duration::from_secs(self.settings.ping_every_s), || Msg::PingRound);
    }

    fn settle(&mut self, myself: &ActorRef<Msg>, index: usize, started: Option<Result<Child, SpawnErr>>) {
        match started {
            Some(Ok(child)) if self.stopping => child.cell.kill(),
            Some(Ok(child)) => {
                let running = &mut self.children[index];
                running.child = Some(child);
                running.generation += 1;
                running.waits_since_ms = None;
            }
            Some(Err(error)) => {
                tracing::error!(actor = self.specs[index].name, %error, "an actor did not start");
                self.restart(myself, index, &error.to_string());
            }
            None => self.restart(myself, index, "its start panicked"),
        }
    }

    fn restart(&mut self, myself: &ActorRef<Msg>, index: usize, why: &str) {
        if self.stopping {
            return;
        }
        if self.children[index].budget.ask(effect::steady_ms()) == Verdict::GiveUp {
            let name = self.specs[index].name;
            let reason = format!(
                "actor {name} needed more than {} restarts within {} s, the last because: {why}",
                self.settings.restarts_max, self.settings.restart_window_s
            );
            tracing::error!(%reason, "the node gives up");
            self.fatal.send_replace(Some(reason));
            return;
        }
        let (specs, cell) = (self.specs.clone(), myself.get_cell());
        let spawn = async move {
            tokio::time::sleep(RESTART_WAIT).await;
            (specs[index].spawn)(cell).await
        };
        effect::spawn(myself.clone(), spawn, move |result| Msg::Respawned(index, result));
    }

    fn ping_all(&mut self, myself: &ActorRef<Msg>) {
        let now = effect::steady_ms();
        let bound = i64::try_from(self.settings.ping_timeout_s * 1000).unwrap_or(i64::MAX);
        for (index, running) in self.children.iter_mut().enumerate() {
            let Some(child) = &running.child else { continue };
            match running.waits_since_ms {
                Some(since) if now - since >= bound => {
                    tracing::error!(actor = self.specs[index].name, "an actor does not answer and is killed");
                    child.cell.kill();
                }
                Some(_) => {}
                None => {
                    let (ask, answer) = oneshot::channel();
                    running.waits_since_ms = Some(now);
                    (child.ping)(ask);
                    let (myself, generation) = (myself.clone(), running.generation);
                    tokio::spawn(async move {
                        if answer.await.is_ok() {
                            let _ = myself.send_message(Msg::Pong(index, generation));
                        }
                    });
                }
            }
        }
    }

    fn stop(&mut self, myself: &ActorRef<Msg>, answer: oneshot::Sender<()>) {
        self.stopping = true;
        let children: Vec<_> = self.children.iter_mut().map(|running| running.child.take()).collect();
        let specs = self.specs.clone();
        let work = async move {
            for (child, spec) in children.into_iter().zip(specs.iter()) {
                if let Some(child) = child {
                    stop_child(&child, spec).await;
                }
            }
        };
        effect::spawn(myself.clone(), work, move |_| Msg::Stopped(answer));
    }
}

async fn stop_child(child: &Child, spec: &ChildSpec) {
    let (ask, answer) = oneshot::channel();
    let drained = (child.drain)(ask) && matches!(tokio::time::timeout(spec.drain_timeout, answer).await, Ok(Ok(())));
    if !drained {
        tracing::warn!(actor = spec.name, "an actor did not drain in time");
    }
    let bound = Some(Duration::from_secs(5));
    if child.cell.stop_and_wait(None, bound).await.is_err() {
        child.cell.kill();
    }
}
