//! Webhooks: tells owners by HTTP what becomes of their jobs.
//!
//! 1. A round makes deliveries of the events that the ledger has, and claims what is due; each claim is brought by a task of its
//!    own. What is made, claimed and settled stands in the ledger: an actor that restarts, or a node that ends, loses nothing.
//! 2. One node at a time has a claim, until its lease runs out; then another may bring the same again, with the same id.
//! 3. One round at a time; a commit, the end of a delivery, or the clock causes another.
//! 4. A drain starts nothing more and waits for what is on the way, for a while.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::{Deps, effect};
use crate::config;
use crate::store::webhooks::{AtOnce, Claimed, Making, Outcome, SwitchOff, Try};
use crate::store::{EventRow, LedgerResult, rfc3339};
use crate::webhooks::retry;
use crate::webhooks::{Parcel, Reply};

/// Commits of this time are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// Without a commit or the end of a delivery it looks all the same: something may have become due, or another node be gone.
const POLL: Duration = Duration::from_secs(1);
/// While the ledger is away.
const ERROR_WAIT: Duration = Duration::from_secs(5);
/// What a drain waits for; what is not done by then is brought again by another node, or at the next start.
const DRAIN: Duration = Duration::from_secs(4);
/// Events of one webhook that one commit makes deliveries of.
const EVENTS: u32 = 100;
/// Commits of one round that make deliveries: then something is brought.
const MAKE_ROUNDS: u32 = 8;
/// How often a result is written when the ledger is away, and the wait between.
const SETTLE_TRIES: u32 = 3;
const SETTLE_WAIT: Duration = Duration::from_secs(1);

/// What the actor is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Start nothing more; answer when what is on the way has ended.
    Drain(oneshot::Sender<()>),
    /// The drain has waited long enough.
    DrainEnds,
    /// There may be something to do.
    Wake,
    /// The clock of this number.
    Tick(u64),
    /// A round ended.
    RoundDone(Option<LedgerResult<Round>>),
    /// A delivery ended.
    Brought,
}

/// What a round gives back.
pub struct Round {
    claimed: Vec<Claimed>,
    /// There are more events than one round looks at.
    more: bool,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    busy: bool,
    again: bool,
    /// Only the last clock that was set counts.
    clock: u64,
    on_the_way: usize,
    failing: bool,
    draining: bool,
    drained: Option<oneshot::Sender<()>>,
}

/// The actor.
pub struct Webhooks;

impl Actor for Webhooks {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.webhooks.set(myself.clone());
        tokio::spawn(listen(deps.ledger.watch(), myself.clone()));
        let _ = myself.send_message(Msg::Wake);
        Ok(State {
            deps,
            busy: false,
            again: false,
            clock: 0,
            on_the_way: 0,
            failing: false,
            draining: false,
            drained: None,
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                state.drained = Some(answer);
                effect::send_after(myself, DRAIN, || Msg::DrainEnds);
                state.answer_drain(false);
            }
            Msg::DrainEnds => state.answer_drain(true),
            Msg::Tick(clock) if clock != state.clock => {}
            Msg::Tick(_) | Msg::Wake => state.start_round(&myself),
            Msg::RoundDone(round) => state.settle(&myself, round),
            Msg::Brought => {
                state.on_the_way = state.on_the_way.saturating_sub(1);
                state.answer_drain(false);
                state.start_round(&myself);
            }
        }
        Ok(())
    }
}

/// Wakes the actor after commits, as long as it lives.
async fn listen(mut commits: Receiver<EventRow>, actor: ActorRef<Msg>) {
    loop {
        match commits.recv().await {
            Ok(_) | Err(RecvError::Lagged(_)) => tokio::time::sleep(GATHER).await,
            Err(RecvError::Closed) => return,
        }
        // What was committed up to here is read from the ledger.
        commits = commits.resubscribe();
        if actor.send_message(Msg::Wake).is_err() {
            return;
        }
    }
}

impl State {
    fn start_round(&mut self, myself: &ActorRef<Msg>) {
        if self.draining {
            return;
        }
        if self.busy {
            self.again = true;
            return;
        }
        self.busy = true;
        effect::spawn(myself.clone(), round(self.deps.clone()), Msg::RoundDone);
    }

    fn settle(&mut self, myself: &ActorRef<Msg>, round: Option<LedgerResult<Round>>) {
        self.busy = false;
        let mut wait = POLL;
        match round {
            Some(Ok(Round { claimed, more })) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("webhooks are brought again");
                }
                // Something may have been left because of the bounds of one round.
                self.again |= more;
                for claimed in claimed {
                    self.on_the_way += 1;
                    effect::spawn(myself.clone(), bring(self.deps.clone(), claimed), |_| Msg::Brought);
                }
            }
            Some(Err(error)) => {
                wait = ERROR_WAIT;
                // Said once: while the ledger is away every round fails.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "webhooks cannot be brought; the ledger keeps them");
                }
            }
            None => wait = ERROR_WAIT,
        }
        if std::mem::take(&mut self.again) && !self.failing {
            self.start_round(myself);
        } else {
            self.clock += 1;
            let clock = self.clock;
            effect::send_after(myself.clone(), wait, move || Msg::Tick(clock));
        }
        self.answer_drain(false);
    }

    fn answer_drain(&mut self, now: bool) {
        let is_done = now || !self.busy && self.on_the_way == 0;
        if let Some(answer) = self.drained.take_if(|_| is_done) {
            effect::reply(answer, ());
        }
    }
}

async fn round(deps: Arc<Deps>) -> LedgerResult<Round> {
    let settings = &deps.config.webhooks;
    let making =
        Making { events_max: EVENTS, pending_max: settings.pending_max, body_bytes_max: settings.body_bytes_max };
    let mut more = true;
    for _ in 0..MAKE_ROUNDS {
        more = deps.ledger.make_deliveries(making).await?;
        if !more {
            break;
        }
    }
    let at_once = AtOnce {
        all: settings.parallel_max,
        per_host: settings.parallel_per_host,
        per_owner: settings.parallel_per_owner,
        lease: Duration::from_secs(settings.lease_s),
    };
    let claimed = deps.ledger.claim_deliveries(at_once).await?;
    Ok(Round { claimed, more })
}

/// Brings one, and writes what came of it.
async fn bring(deps: Arc<Deps>, claimed: Claimed) {
    let now_ms = effect::wall_ms();
    let (id, settings) = (claimed.id.to_string(), &deps.config.webhooks);
    let parcel = Parcel {
        url: &claimed.url,
        id: &id,
        body: &claimed.body,
        secrets: &claimed.secrets,
        timestamp_s: now_ms / 1000,
    };
    crate::fault::hit("webhook-claimed");
    let reply = deps.outlet.send(parcel).await;
    crate::fault::hit("webhook-sent");
    let (outcome, off) = (outcome(&claimed, &reply, settings, rand::random()), switch_off(&reply, settings));
    let label = match &outcome {
        Outcome::Delivered => "delivered",
        Outcome::Again(_) => "again",
        Outcome::Dead => "dead",
    };
    metrics::counter!("inkpool_webhook_attempts_total", "outcome" => label).increment(1);
    let tried = Try {
        attempt: claimed.attempt,
        at: rfc3339(now_ms),
        duration_ms: u64::try_from(reply.duration.as_millis()).unwrap_or(u64::MAX),
        status: reply.status,
        code: reply.trouble.as_ref().map(|(code, _)| (*code).to_owned()),
        detail: reply.trouble.map(|(_, detail)| detail),
        answer: reply.answer,
    };
    for _ in 0..SETTLE_TRIES {
        let settled =
            deps.ledger.settle_delivery(claimed.id, claimed.claim, tried.clone(), outcome.clone(), off.clone()).await;
        match settled {
            Ok(true) => return,
            Ok(false) => return tracing::debug!(delivery = %claimed.id, "a delivery was changed while it was brought"),
            Err(error) => tracing::warn!(%error, "what came of a delivery could not be written"),
        }
        tokio::time::sleep(SETTLE_WAIT).await;
    }
}

fn outcome(claimed: &Claimed, reply: &Reply, settings: &config::Webhooks, jitter: f64) -> Outcome {
    if reply.trouble.is_none() {
        return Outcome::Delivered;
    }
    if reply.is_gone() || claimed.attempt >= settings.attempts_max {
        return Outcome::Dead;
    }
    let longest = Duration::from_secs(settings.retry_wait_max_s);
    let wait = retry::wait(claimed.attempt, Duration::from_secs(settings.retry_wait_s), longest, jitter);
    // What the receiver asks for, if it is more, and within the same bound.
    Outcome::Again(wait.max(reply.retry_after.unwrap_or_default().min(longest)))
}

fn switch_off(reply: &Reply, settings: &config::Webhooks) -> SwitchOff {
    if reply.is_gone() {
        return SwitchOff::Now("gone".to_owned());
    }
    SwitchOff::When {
        failures: settings.off_failures_min,
        after: Duration::from_secs(settings.off_after_h * 3600),
        reason: "failing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::job::{DeliveryId, WebhookId};

    fn after(attempt: u32, status: u16, retry_after_s: Option<u64>) -> Outcome {
        let claimed = Claimed {
            id: DeliveryId::fresh(),
            webhook: WebhookId::fresh(),
            claim: uuid::Uuid::new_v4(),
            attempt,
            url: String::new(),
            secrets: Vec::new(),
            body: String::new(),
        };
        let reply = Reply {
            status: Some(status),
            trouble: (!(200..300).contains(&status)).then(|| ("status", String::new())),
            answer: String::new(),
            retry_after: retry_after_s.map(Duration::from_secs),
            duration: Duration::ZERO,
        };
        outcome(&claimed, &reply, &Config::defaults().unwrap().webhooks, 0.0)
    }

    #[test]
    fn attempts_end() {
        assert!(matches!(after(1, 204, None), Outcome::Delivered));
        assert!(matches!(after(15, 200, None), Outcome::Delivered));
        assert!(matches!(after(1, 500, None), Outcome::Again(wait) if wait.as_secs() == 10));
        assert!(matches!(after(14, 302, None), Outcome::Again(wait) if wait.as_secs() == 21_600));
        assert!(matches!(after(15, 500, None), Outcome::Dead));
        assert!(matches!(after(1, 410, None), Outcome::Dead));
        assert!(matches!(after(1, 503, Some(600)), Outcome::Again(wait) if wait.as_secs() == 600));
        assert!(matches!(after(1, 503, Some(u64::MAX)), Outcome::Again(wait) if wait.as_secs() == 21_600));
    }
}
