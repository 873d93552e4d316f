//! Work while the bus is away: a node with free slots takes jobs straight from the ledger.
//!
//! 1. Released jobs first: they were chosen in fair order, and nobody else will bring them. Then waiting jobs, in fair order.
//! 2. Several nodes may find the same job. The claim is a compare-and-set: one of them gets it, the others hear that it is
//!    gone, and so does the message that the bus may still hold.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::seq::SliceRandom;

use super::Deps;
use super::relay::JobMessage;
use super::{effect, elsewhere};
use crate::bus::{Acker, BusError, Delivery};
use crate::job::{JobId, Lane};
use crate::scheduling::fair::{Turns, release_order};
use crate::store::LedgerError;

/// Released jobs looked at for each that is wanted: nodes that look at the same time mostly choose different ones.
const CHOICE: usize = 4;

/// What a look gives back.
pub struct Look {
    /// Whose turn it is.
    pub turns: Turns,
    /// Jobs to claim.
    pub found: Result<Vec<(Lane, Delivery)>, LedgerError>,
}

/// At most `max` jobs.
pub async fn look(deps: Arc<Deps>, max: usize, mut turns: Turns) -> Look {
    let found = find(&deps, max, &mut turns).await;
    Look { turns, found }
}

async fn find(deps: &Deps, max: usize, turns: &mut Turns) -> Result<Vec<(Lane, Delivery)>, LedgerError> {
    let limit = u32::try_from(max.saturating_mul(CHOICE)).unwrap_or(u32::MAX);
    let mut released = deps.ledger.released(limit).await?;
    released.shuffle(&mut rand::rng());
    let mut found: Vec<_> =
        released.into_iter().take(max).map(|job| (job.lane, delivery(job.job, job.starts))).collect();
    let room = max - found.len();
    if room > 0 {
        let settings = &deps.config.relay;
        let mut waiting =
            deps.ledger.waiting(effect::wall_ms(), settings.waiting_per_owner, settings.owners_max).await?;
        elsewhere::leave_larger(deps, &mut waiting).await?;
        for job in release_order(&waiting, room, settings.interactive_per_bulk, turns) {
            if let Some(job) = waiting.iter().find(|waiting| waiting.job == job) {
                found.push((job.lane, delivery(job.job, job.starts)));
            }
        }
    }
    Ok(found)
}

fn delivery(job: JobId, starts: u32) -> Delivery {
    Delivery { payload: JobMessage::new(job, starts).encode(), deliveries: 1, acker: Box::new(Nobody) }
}

/// Nobody waits for an answer: what becomes of the job stands in the ledger.
struct Nobody;

#[async_trait]
impl Acker for Nobody {
    async fn ack(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn nak(&self, _delay: Duration) -> Result<(), BusError> {
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn term(&self) -> Result<(), BusError> {
        Ok(())
    }
}
