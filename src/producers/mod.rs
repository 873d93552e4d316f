//! Programs outside, over NATS: they submit images and are told what becomes of jobs.
//!
//! 1. What is done here stands beside the jobs: when NATS is away, or a part of this fails, no job waits for it.
//! 2. Nothing is kept here that could be lost: what is published stands in the ledger, what was submitted on the bus.
//! 3. Each part is a task that is started again when it panics, and ends when it is told to.

mod events;
mod progress;
mod subject;
mod submissions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::bus::public::PublicBus;
use crate::cluster::Progress;
use crate::config::Config;
use crate::http::AppState;
use crate::store::Ledger;

/// Wait before a task that panicked is started again.
const AGAIN: Duration = Duration::from_secs(1);
/// What the tasks get to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What the tasks work with.
pub struct Parts {
    /// Settings.
    pub config: Arc<Config>,
    /// What is true.
    pub ledger: Arc<dyn Ledger>,
    /// What carries it outside.
    pub bus: Arc<dyn PublicBus>,
    /// How an image comes in.
    pub door: AppState,
    /// Progress of this node's running jobs.
    pub progress: broadcast::Sender<Progress>,
    /// Fresh at every start of the program.
    pub process: Uuid,
}

/// The running tasks.
pub struct Producers {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Producers {
    /// Starts them; without a bus that others can reach there is nothing to do.
    #[must_use]
    pub fn start(parts: Option<Parts>) -> Self {
        let running = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        if let Some(parts) = parts.map(Arc::new) {
            running.keep("events", &parts, events::run);
            running.keep("progress", &parts, progress::run);
            running.keep("submissions", &parts, submissions::run);
        }
        running.tasks.close();
        running
    }

    fn keep<F>(&self, name: &'static str, parts: &Arc<Parts>, work: fn(Arc<Parts>, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (parts, stop) = (parts.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                if let Err(error) = tokio::spawn(work(parts.clone(), stop.clone())).await {
                    tracing::error!(task = name, %error, "a task ended and is started again");
                    let _ = tokio::time::timeout(AGAIN, stop.cancelled()).await;
                }
            }
        });
    }

    /// Ends them, after what happened last was told. Bounded.
    pub async fn stop(&self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("programs outside are told the rest at the next start");
        }
    }
}
