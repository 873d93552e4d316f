//! HTTP: the API, the page and the server loop. All routes stand in `routes.rs`, all statuses in `problem.rs`.

#![expect(clippy::result_large_err, reason = "a problem is made at most once a request, on its way out")]

mod accounts;
mod archive;
mod assets;
mod cluster;
mod dead_letters;
mod deliveries;
mod description;
mod events;
mod extract;
mod failures;
pub mod filename;
mod files;
mod guard;
mod health;
mod identity;
mod idle;
mod images;
mod incoming;
mod jobs;
mod limits;
mod observe;
mod people;
mod presets;
pub mod problem;
pub mod quota;
mod range;
mod routes;
mod server;
mod sessions;
mod shapes;
mod shell;
mod signing;
mod tokens;
mod upload;
mod webhooks;
mod zip;

pub use observe::describe_metrics;
pub use problem::Problem;
pub use routes::{openapi, router};
pub use server::serve;
pub use shapes::{File, Image, Item, Job};
pub use signing::UrlSigner;
pub use upload::submitted::{Taken, known_by, submit};

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::auth::Auth;
use crate::blobs::Blobs;
use crate::cluster::Control;
use crate::config::{Config, Runtime};
use crate::pipeline::engine::locate;
use crate::pipeline::spec::Presets;
use crate::pipeline::wire::RunLimits;
use crate::store::quotas::Quota;
use crate::store::{Ledger, QueueLimits};
use crate::webhooks::Guard;

/// JSON bodies are small: the largest has a preset and its settings.
pub const JSON_BYTES_MAX: usize = 64 * 1024;

/// What the handlers talk to.
#[derive(Clone)]
pub struct Ports {
    /// Rows.
    pub ledger: Arc<dyn Ledger>,
    /// Bytes.
    pub blobs: Blobs,
    /// Recipes.
    pub presets: Arc<Presets>,
    /// The actors.
    pub control: Arc<dyn Control>,
    /// Accounts; `None` in `open` mode.
    pub auth: Option<Arc<Auth>>,
    /// Settings.
    pub config: Arc<Config>,
    /// Signs paths for announced uploads.
    pub signer: Arc<UrlSigner>,
    /// Looks at the URLs of webhooks.
    pub guard: Guard,
    /// Renders what the recorder has counted.
    pub metrics: PrometheusHandle,
}

/// What every handler gets.
#[derive(Clone)]
pub struct AppState {
    ports: Arc<Ports>,
    requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    archives: Arc<Semaphore>,
    /// Event streams end with it; they would outlast every drain otherwise.
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl std::ops::Deref for AppState {
    type Target = Ports;
    fn deref(&self) -> &Ports {
        &self.ports
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl AppState {
    /// The state of one server; event streams end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(ports: Ports, shutdown: CancellationToken) -> Self {
        let http = &ports.config.http;
        let gate = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            requests: gate(http.requests_max),
            uploads: gate(http.uploads_max),
            streams: gate(http.event_streams_max),
            archives: gate(ports.config.archive.at_once),
            shutdown,
            tasks: TaskTracker::new(),
            ports: Arc::new(ports),
        }
    }

    /// Does `work` in a task of its own: a handler's future is dropped when its client hangs up, and work that was begun
    /// must come to an end.
    async fn task<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let running = self.tasks.spawn(work.instrument(tracing::Span::current()));
        running.await.unwrap_or_else(|error| Err(Problem::internal(&error)))
    }

    /// Waits for the work that requests have begun and that outlives them; at most `bound`.
    async fn settle(&self, bound: Duration) {
        self.tasks.close();
        if tokio::time::timeout(bound, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "uploads were still being finished");
        }
    }

    /// The accounts, where there are any.
    fn auth(&self) -> Result<&Arc<Auth>, Problem> {
        let none = || Problem::new(problem::Kind::NoAccounts, "It runs in `open` mode, for its one local user.");
        self.ports.auth.as_ref().ok_or_else(none)
    }

    /// Whether workers of this deployment read PDF. Images for Docker slots carry PDFium; a worker without it says so itself.
    fn reads_pdf(&self) -> bool {
        let setting = self.config.models.pdfium.as_str();
        let found = || locate::find_pdfium(setting).is_ok_and(|found| found.is_some());
        setting != locate::PDFIUM_OFF && (self.config.slots.runtime == Runtime::Docker || found())
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.config.http.idle_timeout_s)
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.config.http.request_timeout_s)
    }

    fn queue_limits(&self) -> QueueLimits {
        let jobs = &self.config.jobs;
        QueueLimits {
            queue_jobs_max: jobs.queue_jobs_max,
            bulk_from_jobs: jobs.bulk_from_jobs,
            attempts_max: jobs.attempts_max,
            crashes_max: jobs.crashes_max,
            quota: Quota::usual(&self.config),
        }
    }

    fn run_limits(&self) -> RunLimits {
        let limits = &self.config.limits;
        RunLimits {
            pixels_max: limits.page_pixels_max,
            side_px_max: limits.side_px_max,
            pages_max: limits.pages_max,
            memory_bytes_max: self.config.slots.memory_bytes_max,
        }
    }
}
