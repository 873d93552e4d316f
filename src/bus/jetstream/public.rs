//! The streams of programs outside, on the connection of the job bus. They are looked after apart: what is wrong with them
//! holds up no job.

use std::sync::Arc;

use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, stream};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::public::{EventStream, Outgoing, PublicBus, PublicSettings, Stored};
use super::super::{BusError, BusSettings};
use super::{Link, closed, ensure};

/// Name of the stream of events.
pub(super) const EVENTS_STREAM: &str = "INKPOOL_EVENTS";
/// Its subjects.
pub(super) const EVENTS_SUBJECTS: &str = "inkpool.events.>";

/// [`PublicBus`] on NATS.
pub(super) struct PublicStreams {
    pub(super) link: Arc<Link>,
    pub(super) context: Context,
    pub(super) settings: PublicSettings,
    pub(super) bus: BusSettings,
    pub(super) replicas: usize,
    /// The generation in which the streams were last looked at.
    pub(super) seen: Mutex<Option<u64>>,
    pub(super) closed: CancellationToken,
}

impl PublicStreams {
    async fn ensure(&self) -> Result<stream::Info, BusError> {
        self.link.check_version()?;
        ensure::stream(&self.context, ensure::events(self.settings, self.bus, self.replicas)).await
    }

    async fn ready(&self) -> Result<(), BusError> {
        if self.closed.is_cancelled() {
            return Err(closed());
        }
        self.link.check()?;
        let look = async {
            let mut seen = self.seen.lock().await;
            let generation = self.link.generation();
            if *seen != Some(generation) {
                self.ensure().await?;
                *seen = Some(generation);
            }
            Ok(())
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
            let stored = |ack: async_nats::jetstream::publish::PublishAck| Stored {
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            };
            acknowledged.map(stored).map_err(|error| refusal(&error))
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

    fn generation(&self) -> u64 {
        self.link.generation()
    }
}
