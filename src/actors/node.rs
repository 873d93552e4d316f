//! Starts and stops the actors of a node: the order of the specs is the order of the stop.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use tokio::sync::{oneshot, watch};

use super::supervisor::{self, Child, ChildSpec, Supervisor};
use super::{Deps, intake, janitor, membership, relay, scheduler, slot_supervisor, webhooks};

/// Bound on the drain of an actor that only has to stop.
const QUICK: Duration = Duration::from_secs(5);
/// What handing back takes beyond the drain deadline: killing workers and writing the ends of attempts.
const HAND_BACK: Duration = Duration::from_secs(10);

/// The running actors.
pub struct Node {
    supervisor: ActorRef<supervisor::Msg>,
    fatal: watch::Receiver<Option<String>>,
    stop_timeout: Duration,
}

macro_rules! child {
    ($deps:expr, $name:literal, $module:ident :: $actor:ident, $drain:expr) => {{
        let deps: Arc<Deps> = $deps.clone();
        ChildSpec {
            name: $name,
            drain_timeout: $drain,
            spawn: Box::new(move |supervisor: ActorCell| {
                let deps = deps.clone();
                async move {
                    let (actor, _) = $module::$actor::spawn_linked(None, $module::$actor, deps, supervisor).await?;
                    let (ping, drain) = (actor.clone(), actor.clone());
                    Ok(Child {
                        cell: actor.get_cell(),
                        ping: Box::new(move |ask| ping.send_message($module::Msg::Ping(ask)).is_ok()),
                        drain: Box::new(move |ask| drain.send_message($module::Msg::Drain(ask)).is_ok()),
                    })
                }
                .boxed()
            }),
        }
    }};
}

impl Node {
    /// Starts all actors.
    ///
    /// # Errors
    /// When the supervisor itself does not start.
    pub async fn start(deps: &Arc<Deps>) -> Result<Self, SpawnErr> {
        let slots_drain = Duration::from_secs(deps.config.slots.drain_s) + HAND_BACK;
        let children = vec![
            child!(deps, "intake", intake::Intake, QUICK),
            child!(deps, "scheduler", scheduler::Scheduler, QUICK),
            child!(deps, "slots", slot_supervisor::SlotSupervisor, slots_drain),
            child!(deps, "relay", relay::Relay, QUICK),
            child!(deps, "webhooks", webhooks::Webhooks, QUICK),
            child!(deps, "janitor", janitor::Janitor, QUICK),
            child!(deps, "membership", membership::Membership, QUICK),
        ];
        let (fatal_tx, fatal) = watch::channel(None);
        let arguments = supervisor::Arguments { children, settings: deps.config.actors.clone(), fatal: fatal_tx };
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await?;
        Ok(Self { supervisor, fatal, stop_timeout: slots_drain + 6 * QUICK })
    }

    /// Resolves with the reason when the node has given up.
    pub async fn gave_up(&self) -> String {
        let mut fatal = self.fatal.clone();
        let reason = fatal.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "the supervisor ended".to_owned())
    }

    /// Stops in order: no further intake, slots drained, nothing left behind. Bounded.
    pub async fn stop(&self) {
        let (ask, answer) = oneshot::channel();
        if self.supervisor.send_message(supervisor::Msg::Stop(ask)).is_err() {
            return;
        }
        if tokio::time::timeout(self.stop_timeout, answer).await.is_err() {
            tracing::error!("the actors did not stop in time and are killed");
            self.supervisor.kill();
        }
    }
}
