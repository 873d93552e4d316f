//! Brings the events of the ledger to the bus, each owner's in their order.
//!
//! 1. One node publishes for all, by a lease in the ledger. Up to which number each owner's events are published stands there
//!    too, so a node that takes over goes on where the last one ended.
//! 2. A number is noted after the bus has acknowledged its event. What falls between the two comes twice, with the same
//!    message id and the same number.
//! 3. A stream that was made anew, or lost its end, gets everything again that the ledger still holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Parts, subject};
use crate::bus::BusError;
use crate::bus::public::Outgoing;
use crate::job::OwnerId;
use crate::store::producers::{StreamMark, Unpublished};
use crate::store::webhooks::kinds_of;
use crate::store::{EventRow, LedgerError};

/// Number of an event among those of its owner: what comes twice, or again, has the same.
const NUMBER_HEADER: &str = "Inkpool-Event";
/// Where the bytes of a submission were put.
pub(super) const OBJECT_HEADER: &str = "Inkpool-Object-Key";
/// The key that its sender gave it.
pub(super) const KEY_HEADER: &str = "Inkpool-Idempotency-Key";
/// Events published before their numbers are noted.
const BATCH: u32 = 256;
/// Commits of this time are published together, so that a busy ledger notes numbers fifty times a second at most.
const GATHER: Duration = Duration::from_millis(20);
/// Without a commit of this node it looks all the same: another node may have committed, or published and be gone.
const POLL: Duration = Duration::from_secs(2);
/// What the last round gets when the node stops.
const LAST_ROUND: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

struct Publisher {
    parts: Arc<Parts>,
    /// This process publishes until then; asked for again before.
    leads_until: Option<Instant>,
    /// The stream as it was left.
    mark: Option<StreamMark>,
    /// When the stream was compared with that last.
    compared: Option<u64>,
    failing: bool,
}

/// Publishes until it is told to stop.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let mut commits = parts.ledger.watch();
    let mut publisher = Publisher { parts, leads_until: None, mark: None, compared: None, failing: false };
    while !stop.is_cancelled() {
        if publisher.tell().await {
            continue;
        }
        let wakes = !publisher.failing && publisher.leads();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(POLL) => {}
            () = committed(&mut commits), if wakes => {}
        }
        // What was committed up to here is read from the ledger.
        commits = commits.resubscribe();
    }
    if publisher.leads() {
        let rest = async {
            while publisher.tell().await {}
            publisher.parts.ledger.leave_publishing(publisher.parts.process).await
        };
        let _ = tokio::time::timeout(LAST_ROUND, rest).await;
    }
}

/// A commit, and what comes close behind it.
async fn committed(commits: &mut Receiver<EventRow>) {
    match commits.recv().await {
        Ok(_) | Err(RecvError::Lagged(_)) => tokio::time::sleep(GATHER).await,
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

impl Publisher {
    fn leads(&self) -> bool {
        self.leads_until.is_some_and(|until| Instant::now() < until)
    }

    /// One round; whether there is more to tell.
    async fn tell(&mut self) -> bool {
        match self.round().await {
            Ok(more) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("events are published again");
                }
                more
            }
            Err(error) => {
                // Said once: while the bus is away every round fails.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "events cannot be published; the ledger keeps them");
                }
                false
            }
        }
    }

    async fn round(&mut self) -> Result<bool, Failed> {
        if !self.lead().await? {
            return Ok(false);
        }
        self.compare().await?;
        let events = self.parts.ledger.unpublished(BATCH).await?;
        let mut heads = BTreeMap::new();
        let mut told = Ok(());
        for event in &events {
            told = self.publish(event).await;
            if told.is_err() {
                break;
            }
            heads.insert(event.event.owner, event.event.seq);
        }
        self.note(heads).await?;
        told.map(|()| !events.is_empty())
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.parts.config.producers.publisher_lease_s)
    }

    async fn lead(&mut self) -> Result<bool, LedgerError> {
        let lease = self.lease();
        let asked = Instant::now();
        if self.leads_until.is_some_and(|until| asked + lease / 2 < until) {
            return Ok(true);
        }
        let led_before = self.leads();
        self.leads_until = None;
        let Some(mark) = self.parts.ledger.lead_publishing(self.parts.process, lease).await? else { return Ok(false) };
        self.leads_until = Some(asked + lease);
        if !led_before {
            // Another node may have published meanwhile.
            self.mark = mark;
            self.compared = None;
            tracing::info!("this node publishes events");
        }
        Ok(true)
    }

    /// Looks whether the stream still holds what was published, after every new connection and every surprise.
    async fn compare(&mut self) -> Result<(), Failed> {
        let generation = self.parts.bus.generation();
        if self.compared == Some(generation) {
            return Ok(());
        }
        let stream = self.parts.bus.event_stream().await?;
        let found = StreamMark { made: stream.made, last: stream.last };
        let is_whole = self.mark.as_ref().is_none_or(|left| left.made == found.made && left.last <= found.last);
        if !is_whole {
            tracing::warn!("the stream of events has lost some; those that the ledger holds are published again");
            metrics::counter!("inkpool_event_stream_lost_total").increment(1);
            self.parts.ledger.publish_again(self.parts.process, found.clone()).await?;
        }
        self.mark = Some(found);
        // What was ensured on the way counts as a change; it is none to us.
        self.compared = Some(generation);
        Ok(())
    }

    async fn publish(&mut self, event: &Unpublished) -> Result<(), Failed> {
        let Unpublished { event, submitted } = event;
        let body = bytes::Bytes::from(event.body.to_string());
        for kind in kinds_of(event) {
            let mut headers = vec![(NUMBER_HEADER, event.seq.to_string())];
            if let Some(submitted) = submitted {
                headers.push((OBJECT_HEADER, submitted.object_key.clone()));
                headers.extend(submitted.idempotency_key.clone().map(|key| (KEY_HEADER, key)));
            }
            let message = Outgoing {
                subject: subject::of_event(event.owner, event.job, kind),
                id: Some(format!("{}:{}:{kind}", event.owner, event.seq)),
                headers,
                body: body.clone(),
            };
            let stored = match self.parts.bus.publish(message).await {
                // It would be refused for ever, and everything behind it would wait.
                Err(error @ BusError::Unfit(_)) => {
                    tracing::error!(job = %event.job, kind, %error, "an event cannot be published and is left out");
                    continue;
                }
                stored => stored?,
            };
            metrics::counter!("inkpool_events_published_total").increment(1);
            let Some(mark) = self.mark.as_mut().filter(|_| !stored.duplicate) else { continue };
            if stored.sequence <= mark.last {
                self.compared = None;
                return Err(BusError::Unavailable("the stream of events has gone back".to_owned()).into());
            }
            mark.last = stored.sequence;
        }
        Ok(())
    }

    async fn note(&mut self, heads: BTreeMap<OwnerId, i64>) -> Result<(), LedgerError> {
        let Some(mark) = self.mark.clone().filter(|_| !heads.is_empty()) else { return Ok(()) };
        crate::fault::hit("events-published");
        let (process, lease, asked) = (self.parts.process, self.lease(), Instant::now());
        let leads = self.parts.ledger.published(process, lease, heads, mark).await?;
        self.leads_until = leads.then(|| asked + lease);
        Ok(())
    }
}
