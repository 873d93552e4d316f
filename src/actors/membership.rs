//! Membership: keeps this node's lease, and puts back the jobs of nodes that lost theirs.
//!
//! 1. The lease is renewed several times within its length; each renewal counts from the moment it was asked for.
//! 2. A node that could not renew for `nodes.fence_s` stops its jobs, before anybody else may start them, and takes no more
//!    until it has renewed.
//! 3. Running jobs of a node without a lease are put back by whoever sees it first.
//! 4. A job that its owner cancels through another node is stopped here.
//! 5. A name that another process has taken is given up: the node ends.
//! 6. A drain gives the lease back, so that the end of a node in order is seen at once.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::{Deps, effect, relay, slot_supervisor};
use crate::job::{JobId, State as JobState};
use crate::store::{LedgerError, LedgerResult, NodeWish, Renewal};

/// What the actor looks at its clock by.
const TICK: Duration = Duration::from_secs(1);

/// What membership is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Give the lease back; answer when it is done.
    Drain(oneshot::Sender<()>),
    /// Look what is due.
    Tick,
    /// A renewal that was asked for at this time, milliseconds of the steady clock, ended.
    Renewed(i64, Option<LedgerResult<Renewal>>),
    /// A look at what other nodes left or asked for ended.
    Looked(Option<LedgerResult<Findings>>),
    /// The lease was given back, as far as possible.
    Left(oneshot::Sender<()>),
}

/// What a look found.
pub struct Findings {
    /// Jobs of lost nodes, and what became of them.
    rescued: Vec<(JobId, JobState)>,
    /// Jobs of this node that are to be stopped.
    asked_to_stop: Vec<JobId>,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    /// When the last renewal that succeeded was asked for.
    renewed_ms: i64,
    /// When the last one was asked for.
    asked_ms: i64,
    renewing: bool,
    looked_ms: i64,
    looking: bool,
    fenced: bool,
    draining: bool,
}

/// The actor.
pub struct Membership;

impl Actor for Membership {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        let _ = myself.send_message(Msg::Tick);
        let now_ms = effect::steady_ms();
        Ok(State {
            deps,
            // The process has enlisted before its actors started; an actor that was started again does not know better.
            renewed_ms: now_ms,
            asked_ms: i64::MIN,
            renewing: false,
            looked_ms: now_ms,
            looking: false,
            fenced: false,
            draining: false,
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => state.leave(&myself, answer),
            Msg::Left(answer) => effect::reply(answer, ()),
            Msg::Tick if state.draining => {}
            Msg::Tick => {
                state.tick(&myself);
                effect::send_after(myself, TICK, || Msg::Tick);
            }
            Msg::Renewed(asked_ms, Some(Ok(Renewal::Renewed(wish)))) => state.renewed(asked_ms, wish),
            Msg::Renewed(_, Some(Ok(Renewal::NameTaken))) if !state.draining => {
                return Err(format!("another process goes by the name of {}", state.deps.node).into());
            }
            Msg::Renewed(_, result) => {
                state.renewing = false;
                if let Some(Err(error)) = result {
                    tracing::warn!(%error, "the lease of this node could not be renewed");
                }
            }
            Msg::Looked(result) => state.looked(result),
        }
        Ok(())
    }
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

impl State {
    fn tick(&mut self, myself: &ActorRef<Msg>) {
        let (now_ms, nodes) = (effect::steady_ms(), self.deps.config.nodes.clone());
        let since_ms = now_ms.saturating_sub(self.renewed_ms);
        if !self.fenced && since_ms >= milliseconds(nodes.fence_s) {
            tracing::error!(since_ms, "this node could not renew its lease: its jobs are stopped");
            self.fence(true);
        }
        // One that failed is tried again with the next tick.
        let due = since_ms >= milliseconds(nodes.renew_every_s) || self.asked_ms == i64::MIN;
        if due && !self.renewing {
            self.renewing = true;
            self.asked_ms = now_ms;
            let (deps, lease) = (self.deps.clone(), Duration::from_secs(nodes.lease_s));
            let work = async move {
                let view = serde_json::to_value(deps.shared.view()).unwrap_or_default();
                deps.ledger.renew(&deps.node, deps.process, view, lease).await
            };
            effect::spawn(myself.clone(), work, move |result| Msg::Renewed(now_ms, result));
        }
        let look = now_ms.saturating_sub(self.looked_ms) >= milliseconds(nodes.rescue_every_s);
        if look && !self.looking && !self.fenced {
            self.looking = true;
            let deps = self.deps.clone();
            // What a lost node had released is on its own bus, unless all nodes share one.
            let work = async move {
                let rescued = deps.ledger.rescue(!deps.bus.is_shared()).await?;
                Ok::<_, LedgerError>(Findings { rescued, asked_to_stop: deps.ledger.asked_to_stop(&deps.node).await? })
            };
            effect::spawn(myself.clone(), work, Msg::Looked);
        }
    }

    fn fence(&mut self, fenced: bool) {
        self.fenced = fenced;
        self.deps.links.slots.send(slot_supervisor::Msg::Fence(fenced));
    }

    fn renewed(&mut self, asked_ms: i64, wish: Option<NodeWish>) {
        self.renewing = false;
        self.renewed_ms = asked_ms;
        if self.fenced {
            tracing::info!("the lease of this node is renewed: it takes jobs again");
            self.fence(false);
        }
        if let Some(NodeWish { slots, draining }) = wish {
            let (answer, _) = oneshot::channel();
            self.deps.links.slots.send(slot_supervisor::Msg::Change(slots, draining, answer));
        }
    }

    fn looked(&mut self, result: Option<LedgerResult<Findings>>) {
        self.looking = false;
        self.looked_ms = effect::steady_ms();
        match result {
            Some(Ok(Findings { rescued, asked_to_stop })) => {
                for job in asked_to_stop {
                    self.deps.links.slots.send(slot_supervisor::Msg::StopJob(job));
                }
                for (job, now) in &rescued {
                    tracing::warn!(%job, state = %now, "a job of a lost node was put back");
                }
                if !rescued.is_empty() {
                    self.deps.links.relay.send(relay::Msg::Wake);
                }
            }
            Some(Err(error)) => tracing::warn!(%error, "jobs of lost nodes could not be looked for"),
            None => {}
        }
    }

    fn leave(&mut self, myself: &ActorRef<Msg>, answer: oneshot::Sender<()>) {
        self.draining = true;
        let deps = self.deps.clone();
        let work = async move {
            if let Err(error) = deps.ledger.leave(&deps.node, deps.process).await {
                tracing::warn!(%error, "the lease of this node was not given back and runs out");
            }
        };
        effect::spawn(myself.clone(), work, |_| Msg::Left(answer));
    }
}
