//! The streams of programs outside, on the connection of the job bus. They are looked after apart: what is wrong with them
//! holds up no job.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, stream};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::public::{EventStream, Incoming, Outgoing, PublicBus, PublicSettings, Stored};
use super::super::{BusError, BusSettings};
use super::answer::{self, Deliveries};
use super::pull::Puller;
use super::{Link, Seen, closed, ensure};

/// Name of the stream of events.
pub(super) const EVENTS_STREAM: &str = "INKPOOL_EVENTS";
/// Its subjects.
pub(super) const EVENTS_SUBJECTS: &str = "inkpool.events.>";

/// Name of the stream of submissions.
pub(super) const SUBMIT_STREAM: &str = "INKPOOL_SUBMIT";
/// Its subjects: the last part is the owner.
pub(super) const SUBMIT_SUBJECTS: &str = "inkpool.submit.*";
/// Its durable pull consumer.
pub(super) const SUBMIT_CONSUMER: &str = "inkpool-submit";

/// [`PublicBus`] on NATS.
pub(super) struct PublicStreams {
    pub(super) link: Arc<Link>,
    pub(super) context: Context,
    pub(super) settings: PublicSettings,
    pub(super) bus: BusSettings,
    pub(super) replicas: usize,
    /// Submissions that this process holds.
    pub(super) deliveries: Arc<Deliveries>,
    /// The stream of submissions, when the streams were last looked at.
    pub(super) seen: Mutex<Option<Seen>>,
    pub(super) closed: CancellationToken,
}

impl PublicStreams {
    async fn ensure(&self) -> Result<stream::Info, BusError> {
        self.link.check_version()?;
        ensure::stream(&self.context, ensure::events(self.settings, self.bus, self.replicas)).await
    }

    async fn ready(&self) -> Result<Seen, BusError> {
        if self.closed.is_cancelled() {
            return Err(closed());
        }
        self.link.check()?;
        let look = async {
            let mut seen = self.seen.lock().await;
            let generation = self.link.generation();
            if let Some(seen) = *seen
                && seen.generation == generation
            {
                return Ok(seen);
            }
            self.ensure().await?;
            let submissions = ensure::submissions(self.settings, self.bus, self.replicas);
            let stream = ensure::stream(&self.context, submissions).await?;
            ensure::consumer(&self.context, SUBMIT_STREAM, ensure::of_submissions(self.bus)).await?;
            let found = Seen { generation, made: stream.created.unix_timestamp_nanos() };
            self.deliveries.forget_all_but(found.made);
            *seen = Some(found);
            Ok(found)
        };
        self.link.bounded(look).await
    }

    fn doubted<T>(&self, result: Result<T, BusError>) -> Result<T, BusError> {
        if matches!(result, Err(BusError::Unavailable(_))) {
            self.link.doubt();
        }
        result
    }
}

fn refusal(error: &PublishError) -> BusError {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => BusError::Unfit(error.to_string()),
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => BusError::Unavailable(error.to_string()),
    }
}

#[async_trait]
impl PublicBus for PublicStreams {
    async fn publish(&self, message: Outgoing) -> Result<Stored, BusError> {
        self.ready().await?;
        let mut headers = HeaderMap::new();
        for (name, value) in message.headers {
            // What cannot stand in a header (a line break) is left out rather than sent otherwise.
            if let Ok(value) = value.parse::<HeaderValue>() {
                headers.insert(name, value);
            }
        }
        let publish = PublishMessage::build().headers(headers).expected_stream(EVENTS_STREAM).payload(message.body);
        let publish = match message.id {
            Some(id) => publish.message_id(id),
            None => publish,
        };
        let sent = self.link.bounded(async {
            let acknowledged = match self.context.send_publish(message.subject, publish).await {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            acknowledged
                .map(|ack| Stored { sequence: ack.sequence, duplicate: ack.duplicate })
                .map_err(|error| refusal(&error))
        });
        let sent = sent.await;
        self.doubted(sent)
    }

    async fn event_stream(&self) -> Result<EventStream, BusError> {
        if self.closed.is_cancelled() {
            return Err(closed());
        }
        self.link.check()?;
        let looked = self.link.bounded(self.ensure()).await;
        let info = self.doubted(looked)?;
        Ok(EventStream { made: info.created.unix_timestamp_nanos().to_string(), last: info.state.last_sequence })
    }

    async fn pull(&self, wait: Duration) -> Result<Option<Incoming>, BusError> {
        let seen = self.ready().await?;
        let puller = Puller {
            context: &self.context,
            stream: SUBMIT_STREAM,
            consumer: SUBMIT_CONSUMER,
            timeout: self.link.timeout,
        };
        let pulled = tokio::select! {
            () = self.closed.cancelled() => return Err(closed()),
            pulled = puller.pull(1, wait) => self.doubted(pulled)?,
        };
        let Some(message) = pulled.into_iter().next() else { return Ok(None) };
        let sequence = message.info().map_err(|error| BusError::Unavailable(error.to_string()))?.stream_sequence;
        let subject = message.message.subject.to_string();
        let delivery = answer::delivery(&self.deliveries, &self.link, seen.made, message)?;
        Ok(Some(Incoming { subject, id: format!("{}:{sequence}", seen.made), delivery }))
    }

    fn generation(&self) -> u64 {
        self.link.generation()
    }
}
