//! The breaker: while the store is out of reach nothing is asked of it but a probe, and whoever needs it is told at once.
//! Opened by any operation that failed for good, closed by a probe that passed.

use std::time::{Duration, Instant};

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::watch;

use super::{BlobError, Blobs, explain, from_store};
use crate::config;

/// Wait after the first probe that failed; doubled from there.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Written over by every probe. No key of ours, so nobody else looks at it.
const PROBE: &str = "probe";

/// Why the store cannot be used, and when it is tried again.
#[derive(Debug, Clone)]
pub struct Outage {
    /// For people, without a detail that outsiders should not see.
    pub reason: &'static str,
    retry_at: Instant,
}

impl Outage {
    /// Time until the next probe.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_at.saturating_duration_since(Instant::now())
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    outage: watch::Sender<Option<Outage>>,
    probe_timeout: Duration,
    probe_wait_max: Duration,
}

impl Breaker {
    pub(super) fn new(settings: &config::Blobs) -> Self {
        Self {
            outage: watch::Sender::new(None),
            probe_timeout: Duration::from_secs(settings.probe_timeout_s),
            probe_wait_max: Duration::from_secs(settings.probe_wait_max_s),
        }
    }
}

impl Blobs {
    /// Why the store cannot be used; `None` while it can.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        self.breaker.outage.borrow().clone()
    }

    /// The same as it changes.
    #[must_use]
    pub fn watch_outage(&self) -> watch::Receiver<Option<Outage>> {
        self.breaker.outage.subscribe()
    }

    /// Whether the store may be asked.
    ///
    /// # Errors
    /// [`BlobError::Down`] while the breaker is open.
    pub fn in_reach(&self) -> Result<(), BlobError> {
        self.outage()
            .map_or(Ok(()), |outage| Err(BlobError::Down { reason: outage.reason, retry_after: outage.retry_after() }))
    }

    /// The error of an operation; one that is the store's fault opens the breaker.
    pub(super) fn failed(&self, error: object_store::Error) -> BlobError {
        let reason = explain(&error);
        let error = from_store(error);
        if matches!(error, BlobError::Unavailable(_)) {
            self.open_breaker(reason, &error);
        }
        error
    }

    pub(super) fn open_breaker(&self, reason: &'static str, error: &dyn std::fmt::Display) {
        let opened = self.breaker.outage.send_if_modified(|outage| {
            let was_closed = outage.is_none();
            if was_closed {
                *outage = Some(Outage { reason, retry_at: Instant::now() });
            }
            was_closed
        });
        if opened {
            tracing::error!(%error, reason, "the object store is out of reach: no jobs and no uploads until it is back");
            let blobs = self.clone();
            tokio::spawn(async move { blobs.heal().await });
        }
    }

    async fn heal(&self) {
        let mut wait = PROBE_WAIT;
        loop {
            let reason = match tokio::time::timeout(self.breaker.probe_timeout, self.probe()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the object store is still out of reach");
                    explain(&error)
                }
                Err(_) => "it does not answer in time",
            };
            let retry_at = Instant::now() + wait;
            self.breaker.outage.send_modify(|outage| *outage = Some(Outage { reason, retry_at }));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.breaker.probe_wait_max);
        }
        self.breaker.outage.send_replace(None);
        tracing::info!("the object store is back");
    }

    /// Puts a small object and gets it again, whatever the breaker says.
    async fn probe(&self) -> Result<(), object_store::Error> {
        let path = Path::from(PROBE);
        self.store.put(&path, PutPayload::from_static(PROBE.as_bytes())).await?;
        self.store.get(&path).await?.bytes().await.map(drop)
    }
}
