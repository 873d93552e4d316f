//! Progress of this node's running jobs, for whoever happens to listen: never stored in the ledger, never sent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Parts, subject};
use crate::bus::public::Outgoing;
use crate::cluster::Progress;
use crate::job::{JobId, State};
use crate::store::job_object;

/// Jobs whose last word is remembered: far more than a node has slots.
const JOBS_MAX: usize = 1024;

/// Publishes until it is told to stop.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let every = Duration::from_millis(parts.config.producers.progress_every_ms);
    let mut progress = parts.progress.subscribe();
    let mut told: HashMap<JobId, Instant> = HashMap::new();
    loop {
        let said = tokio::select! {
            () = stop.cancelled() => return,
            said = progress.recv() => said,
        };
        let Progress { owner, job, .. } = match said {
            Ok(said) => said,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return stop.cancelled().await,
        };
        let now = Instant::now();
        if told.get(&job).is_some_and(|last| now - *last < every) {
            continue;
        }
        if told.len() >= JOBS_MAX {
            told.retain(|_, last| now - *last < every);
        }
        told.insert(job, now);
        // The row with the progress in it; without one, or while the ledger is away, there is nothing to tell.
        let row = parts.ledger.job(owner, job).await;
        let Some(row) = row.ok().flatten().filter(|row| row.state == State::Running) else { continue };
        let message = Outgoing {
            subject: subject::of_event(owner, job, "progress"),
            id: None,
            headers: Vec::new(),
            body: job_object(&row).to_string().into(),
        };
        if let Err(error) = parts.bus.publish(message).await {
            tracing::debug!(%error, "progress was not published");
        }
    }
}
