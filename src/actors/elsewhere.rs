//! Jobs that are too large for this node: what the others could hold, and how a job gets there.
//!
//! 1. A worker that refuses a job for its memory has computed what it needs. If a live node gives its workers as much, the
//!    attempt is handed over, unspent; if none does, the job fails with the figures.
//! 2. A job that was handed over carries what it needs. A node that has less does not claim it, nor bring it to a bus of its
//!    own, as long as a node that has enough lives.
//! 3. Each hand-over is to a node with more than the last: it ends.

use std::time::Duration;

use super::Deps;
use super::relay;
use crate::bus::Delivery;
use crate::cluster::NodeView;
use crate::config::Config;
use crate::containers::memory::MemoryBudget;
use crate::job::{JobError, JobId, Outcome, Refusal, RefusalCode, bytes_figure, figure_bytes};
use crate::pipeline::wire::SLACK_BYTES;
use crate::scheduling::fair::Waiting;
use crate::store::{Claim, Holder, LedgerError, LedgerResult};

/// A delivery that is left to another node comes back after this: that one may be busy for as long, and each return costs a
/// claim.
const LEFT_WAIT: Duration = Duration::from_secs(2);

/// What the plan of one job may ask for on this node, bytes.
#[must_use]
pub fn plan_bytes_max(config: &Config, memory: &MemoryBudget) -> u64 {
    config.slots.memory_bytes_max.saturating_sub(SLACK_BYTES).min(memory.total_bytes())
}

/// The most that a plan may ask for on another live node, bytes; 0 without one. A node that drains counts: it may be back
/// sooner than whoever is told that nobody can do it.
async fn most(deps: &Deps) -> LedgerResult<u64> {
    let others = deps.ledger.nodes().await?.into_iter().filter(|row| row.name != deps.node);
    // A view that cannot be read is of another version of the program.
    let views = others.filter_map(|row| serde_json::from_value::<NodeView>(row.view).ok());
    Ok(views.map(|view| view.memory_bytes_max).max().unwrap_or(0))
}

/// What a worker's refusal means for the job.
pub async fn refused<T>(deps: &Deps, refusal: Refusal, stage: &str) -> Outcome<T> {
    let needed = refusal.measured.as_deref().and_then(figure_bytes);
    let (RefusalCode::NeedsTooMuchMemory, Some(needed)) = (refusal.code, needed) else {
        return Outcome::Permanent(JobError::refused(refusal, stage));
    };
    let own = plan_bytes_max(&deps.config, &deps.memory);
    match most(deps).await {
        // What asks for no more than this node has was refused by something else.
        Ok(most) if needed > own && most >= needed => Outcome::HandedOver(JobError::too_large_here(needed, own, stage)),
        Ok(most) => {
            let limit = refusal.limit.as_deref().and_then(figure_bytes).unwrap_or(0).max(most);
            Outcome::Permanent(JobError::refused(Refusal { limit: Some(bytes_figure(limit)), ..refusal }, stage))
        }
        Err(error) => Outcome::HandedBack(format!("whether another node could hold the job is not known: {error}")),
    }
}

/// Claims a job; one that is too large for this node only if no live node could hold it, to end it with that reason.
///
/// # Errors
///
/// The ledger's.
pub async fn claim(deps: &Deps, job: JobId, starts: u32, holder: Holder) -> Result<Claim, LedgerError> {
    let claim = deps.ledger.claim(job, starts, holder.clone()).await?;
    match claim {
        Claim::TooLarge(needed) if most(deps).await? < needed => {
            deps.ledger.claim(job, starts, Holder { memory_bytes_max: None, ..holder }).await
        }
        Claim::TooLarge(_) | Claim::Won { .. } | Claim::Gone(_) => Ok(claim),
    }
}

/// Gives a delivery to another node: back to the bus that all share, or from this node's own back to the ledger.
pub fn leave(deps: &Deps, job: JobId, delivery: Delivery) {
    let (ledger, links, shared) = (deps.ledger.clone(), deps.links.clone(), deps.bus.is_shared());
    tokio::spawn(async move {
        let answered = if shared {
            delivery.acker.nak(LEFT_WAIT).await
        } else {
            if let Err(error) = ledger.unrelease(job).await {
                tracing::warn!(%job, %error, "a job stays on a bus that nobody else reads; it is tried again");
            }
            links.relay.send(relay::Msg::Wake);
            delivery.acker.ack().await
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "an answer to the bus was not taken");
        }
    });
}

/// Takes away what another live node could hold, and this one not.
///
/// # Errors
/// When the ledger cannot be asked.
pub async fn leave_larger(deps: &Deps, waiting: &mut Vec<Waiting>) -> LedgerResult<()> {
    let own = plan_bytes_max(&deps.config, &deps.memory);
    let too_large = |job: &Waiting| job.memory_needed_bytes.is_some_and(|needed| needed > own);
    if waiting.iter().any(too_large) {
        let most = most(deps).await?;
        waiting.retain(|job| !too_large(job) || job.memory_needed_bytes.is_some_and(|needed| needed > most));
    }
    Ok(())
}
