//! Janitor: owns what nobody owns. A periodic round and the start of the node take the same path; it takes no input.
//!
//! 1. Objects of deleted images and jobs are removed, as the ledger lists them.
//! 2. Objects without a row are removed: at once at the start (nobody else writes yet), later only when they are older
//!    than any request on its way can be. On a store that other nodes use as well, only after a day, and so are uploads
//!    in parts that nobody ended. What programs outside have put is left alone for `producers.incoming_keep_h`.
//! 3. Announced uploads, and those that come in pieces, are removed with their bytes when they have expired, completed or not.
//! 4. Jobs that this incarnation holds but no slot works on are put back, when two rounds in a row say so.
//! 5. Events and idempotency rows past their time are dropped, and so are expired sessions, tokens and invitations, and what
//!    the logs of webhooks have beyond their bounds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::{Deps, effect, relay};
use crate::blobs::{BlobError, Key, Prefix};
use crate::job::{JobError, JobId};
use crate::store::{Finish, GarbageTarget, LedgerError};

/// What the janitor is told.
pub enum Msg {
    /// Sign of life.
    Ping(oneshot::Sender<()>),
    /// Start no further round.
    Drain(oneshot::Sender<()>),
    /// A round is due.
    Tick,
    /// A round ended; with the jobs that no slot works on.
    RoundDone(Option<BTreeSet<(JobId, u32)>>),
}

/// How much a round looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything; of a store of our own even what is fresh.
    AtStart,
    /// Everything that is old enough.
    Whole,
    /// Not the listing of a shared store, which costs money and time.
    Rows,
}

/// What a round can fail with; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Of the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Of the objects.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    unattended: BTreeSet<(JobId, u32)>,
    draining: bool,
    /// When a shared store was last listed, or the actor started.
    listed: Instant,
}

/// The actor.
pub struct Janitor;

impl Actor for Janitor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arc<Deps>;

    async fn pre_start(&self, myself: ActorRef<Msg>, deps: Arc<Deps>) -> Result<State, ActorProcessingErr> {
        // Before anything is asked, so that no answer is lost.
        deps.links.janitor.set(myself.clone());
        later(&myself, &deps);
        Ok(State { deps, unattended: BTreeSet::new(), draining: false, listed: Instant::now() })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Ping(answer) => effect::reply(answer, ()),
            Msg::Drain(answer) => {
                state.draining = true;
                effect::reply(answer, ());
            }
            Msg::Tick if state.draining => {}
            Msg::Tick => {
                let reach = state.reach();
                let work = round(state.deps.clone(), std::mem::take(&mut state.unattended), reach);
                effect::spawn(myself, work, Msg::RoundDone);
            }
            Msg::RoundDone(unattended) => {
                state.unattended = unattended.unwrap_or_default();
                later(&myself, &state.deps);
            }
        }
        Ok(())
    }
}

impl State {
    fn reach(&mut self) -> Reach {
        let every = Duration::from_secs(self.deps.config.blobs.orphans_every_s);
        if self.deps.blobs.is_shared() && self.listed.elapsed() < every {
            return Reach::Rows;
        }
        self.listed = Instant::now();
        Reach::Whole
    }
}

fn later(myself: &ActorRef<Msg>, deps: &Deps) {
    effect::send_after(myself.clone(), Duration::from_secs(deps.config.janitor.every_s), || Msg::Tick);
}

async fn round(deps: Arc<Deps>, before: BTreeSet<(JobId, u32)>, reach: Reach) -> BTreeSet<(JobId, u32)> {
    if let Err(error) = sweep(&deps, reach).await {
        tracing::warn!(%error, "a round of the janitor ended early");
    }
    match put_back_unattended(&deps, &before).await {
        Ok(unattended) => unattended,
        Err(error) => {
            tracing::warn!(%error, "the janitor could not look for jobs without a slot");
            before
        }
    }
}

/// Removes objects nobody owns and rows past their time.
///
/// # Errors
/// Of the ledger or the object store; what was not reached is found by the next round.
pub async fn sweep(deps: &Deps, reach: Reach) -> Result<(), SweepError> {
    collect_garbage(deps).await?;
    remove_expired_uploads(deps).await?;
    remove_expired_resumables(deps).await?;
    let orphan_after = Duration::from_secs(match reach {
        _ if deps.blobs.is_shared() => deps.config.blobs.orphan_after_s,
        Reach::AtStart => 0,
        Reach::Whole | Reach::Rows => deps.config.janitor.orphan_after_s,
    });
    // A shared store is not listed at the start: that can take minutes, and nothing there is ours alone.
    if reach == Reach::Whole || reach == Reach::AtStart && !deps.blobs.is_shared() {
        remove_orphans(deps, orphan_after).await?;
        match deps.blobs.end_unfinished(orphan_after).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "uploads in parts that nobody ended are removed"),
            Err(error) => tracing::warn!(%error, "unfinished uploads could not be looked for"),
        }
    }
    let keep = Duration::from_secs(deps.config.jobs.events_keep_h * 3600);
    deps.ledger.prune(effect::wall_ms(), keep).await?;
    let webhooks = &deps.config.webhooks;
    deps.ledger.prune_deliveries(Duration::from_secs(webhooks.log_keep_h * 3600), webhooks.log_rows_max).await?;
    if let Some(accounts) = &deps.accounts {
        accounts.prune_accounts(effect::wall_ms()).await?;
    }
    Ok(())
}

async fn collect_garbage(deps: &Deps) -> Result<(), SweepError> {
    loop {
        let garbage = deps.ledger.garbage(deps.config.janitor.batch).await?;
        if garbage.is_empty() {
            return Ok(());
        }
        for row in &garbage {
            match row.target {
                GarbageTarget::Original(image) => deps.blobs.delete(&Key::Original(image)).await?,
                GarbageTarget::Outputs(job) => {
                    deps.blobs.delete_prefix(Prefix::Job(job)).await?;
                }
            }
        }
        let ids: Vec<i64> = garbage.iter().map(|row| row.id).collect();
        deps.ledger.garbage_removed(&ids).await?;
    }
}

async fn remove_expired_uploads(deps: &Deps) -> Result<(), SweepError> {
    // A PUT that began in time may take as long as a request may.
    let grace_ms = i64::try_from(deps.config.http.request_timeout_s * 1000).unwrap_or(i64::MAX);
    let before_ms = effect::wall_ms().saturating_sub(grace_ms);
    loop {
        let expired = deps.ledger.expired_uploads(before_ms, deps.config.janitor.batch).await?;
        if expired.is_empty() {
            return Ok(());
        }
        for upload in &expired {
            deps.blobs.delete(&Key::Upload(*upload)).await?;
        }
        deps.ledger.forget_uploads(&expired).await?;
    }
}

async fn remove_expired_resumables(deps: &Deps) -> Result<(), SweepError> {
    // A request that began in time may still be making an image of it.
    let grace_ms = i64::try_from(deps.config.http.request_timeout_s * 1000).unwrap_or(i64::MAX);
    let before_ms = effect::wall_ms().saturating_sub(grace_ms);
    loop {
        let expired = deps.ledger.expired_resumables(before_ms, deps.config.janitor.batch).await?;
        if expired.is_empty() {
            return Ok(());
        }
        for upload in &expired {
            deps.blobs.delete_prefix(Prefix::Pieces(*upload)).await?;
        }
        deps.ledger.forget_resumables(&expired).await?;
    }
}

async fn remove_orphans(deps: &Deps, older_than: Duration) -> Result<(), SweepError> {
    let incoming_keep = Duration::from_secs(deps.config.producers.incoming_keep_h * 3600);
    let mut listed = deps.blobs.list();
    while let Some(found) = listed.try_next().await? {
        if found.age < older_than {
            continue;
        }
        let known = match &found.key {
            Key::Original(image) => deps.ledger.image_known(*image).await?,
            Key::Upload(upload) => deps.ledger.upload_known(*upload).await?,
            Key::Piece { upload, .. } => deps.ledger.resumable_open(*upload).await?,
            // A message that names it may be on its way.
            Key::Incoming { .. } => found.age < incoming_keep,
            Key::Output { job, start, .. } => deps.ledger.start_known(*job, *start).await?,
        };
        if !known {
            tracing::info!(key = %found.key.path(), "an object without an owner is removed");
            deps.blobs.delete(&found.key).await?;
        }
    }
    Ok(())
}

/// Jobs held by this incarnation that no slot works on; those seen in the round before as well are put back.
async fn put_back_unattended(
    deps: &Deps,
    before: &BTreeSet<(JobId, u32)>,
) -> Result<BTreeSet<(JobId, u32)>, LedgerError> {
    let view = deps.shared.view();
    let held = deps.ledger.held(&deps.node, &view.incarnation).await?;
    let attended: BTreeSet<JobId> = deps.shared.view().slots.iter().filter_map(|slot| slot.job).collect();
    let unattended: BTreeSet<_> = held.into_iter().filter(|(job, _)| !attended.contains(job)).collect();
    for (job, start) in unattended.intersection(before) {
        tracing::warn!(%job, "a running job had no slot and is put back");
        let error = JobError::new("slot_lost", "no slot worked on the job", None, true);
        let finish = Finish::Retry { error, run_at_ms: effect::wall_ms() };
        deps.ledger.finish(*job, *start, finish).await?;
        deps.links.relay.send(relay::Msg::Wake);
    }
    Ok(unattended)
}
