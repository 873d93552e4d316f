//! The bus on NATS JetStream, 2.10 or newer.
//!
//! 1. Streams and consumers are looked at before the first use, after every new connection, and after anything that was not
//!    as expected. What is missing is made: a wiped server is a usable one.
//! 2. Only a publish whose acknowledgement came back counts.
//! 3. Everything has a bound. A server that is away or silent is [`BusError::Unavailable`], never a wait.

mod answer;
mod connect;
mod ensure;
mod public;
mod pull;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use self::connect::NatsSettings;

use self::answer::Deliveries;
use self::connect::Link;
use self::public::PublicStreams;
use self::pull::Puller;
use super::public::PublicBus;
use super::{BusError, BusSettings, Delivery, Depth, JobBus};
use crate::job::Lane;

/// Name of the stream of jobs.
const JOBS_STREAM: &str = "INKPOOL_JOBS";
/// The server's code for a subject that holds as many messages as it may.
const SUBJECT_FULL: jetstream::ErrorCode = jetstream::ErrorCode::STREAM_STORE_FAILED;

fn subject_of(lane: Lane) -> String {
    format!("inkpool.jobs.{lane}")
}

fn consumer_of(lane: Lane) -> String {
    format!("inkpool-{lane}")
}

/// [`JobBus`] on NATS.
pub struct JetStreamBus {
    link: Arc<Link>,
    context: Context,
    settings: BusSettings,
    replicas: usize,
    /// By lane.
    deliveries: [Arc<Deliveries>; 2],
    seen: Mutex<Option<Seen>>,
    public: Arc<PublicStreams>,
    closed: CancellationToken,
}

/// What was found when the streams were last looked at.
#[derive(Clone, Copy)]
struct Seen {
    generation: u64,
    /// When the stream was made, nanoseconds since 1970: tells it from the one before a wipe.
    made: i128,
}

impl JetStreamBus {
    /// Connects and ensures streams and consumers. With a server that cannot be reached it starts all the same and goes on
    /// trying.
    ///
    /// # Errors
    /// [`BusError::Unfit`] when the server refuses us, is too old, or has streams that cannot be set right.
    pub async fn open(nats: &NatsSettings, settings: BusSettings) -> Result<Self, BusError> {
        let link = Arc::new(Link::open(nats).await?);
        let context = jetstream::context::ContextBuilder::new()
            .timeout(nats.timeout)
            .ack_timeout(nats.timeout)
            .build(link.client.clone());
        let closed = CancellationToken::new();
        let public = Arc::new(PublicStreams {
            link: link.clone(),
            context: context.clone(),
            settings: nats.public,
            bus: settings,
            replicas: nats.replicas,
            deliveries: Arc::default(),
            seen: Mutex::new(None),
            closed: closed.clone(),
        });
        let bus = Self {
            link,
            context,
            settings,
            replicas: nats.replicas,
            deliveries: Default::default(),
            seen: Mutex::new(None),
            public,
            closed,
        };
        match bus.ready().await {
            Err(BusError::Unavailable(why)) => tracing::warn!(why, "JetStream is not ready yet"),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(bus)
    }

    /// Whether streams and consumers are as they must be, at the cost of nothing if they were looked at before.
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
            self.link.check_version()?;
            let stream = ensure::stream(&self.context, ensure::jobs(self.settings, self.replicas)).await?;
            for lane in Lane::ALL {
                ensure::consumer(&self.context, JOBS_STREAM, ensure::of_lane(lane, self.settings)).await?;
            }
            let found = Seen { generation, made: stream.created.unix_timestamp_nanos() };
            for deliveries in &self.deliveries {
                deliveries.forget_all_but(found.made);
            }
            *seen = Some(found);
            Ok(found)
        };
        self.link.bounded(look).await
    }

    /// Passes an error on; whoever comes next looks at the streams again.
    fn doubted<T>(&self, result: Result<T, BusError>) -> Result<T, BusError> {
        if matches!(result, Err(BusError::Unavailable(_))) {
            self.link.doubt();
        }
        result
    }

    async fn send(&self, lane: Lane, message_id: &str, payload: Bytes) -> Result<(), BusError> {
        self.ready().await?;
        // Both lanes are in one stream, and ids are told apart within the stream.
        let id = format!("{lane}:{message_id}");
        let publish = PublishMessage::build().message_id(id).expected_stream(JOBS_STREAM).payload(payload);
        let sent = self.link.bounded(async {
            let acknowledged = match self.context.send_publish(subject_of(lane), publish).await {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            acknowledged.map(drop).map_err(|error| self.refusal(&error))
        });
        let sent = sent.await;
        self.doubted(sent)
    }

    fn refusal(&self, error: &jetstream::context::PublishError) -> BusError {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        if error.kind() == PublishErrorKind::Other && source.is_some_and(|source| source.error_code() == SUBJECT_FULL) {
            return BusError::Full { limit: self.settings.messages_max };
        }
        BusError::Unavailable(error.to_string())
    }

    async fn take(&self, lane: Lane, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let seen = self.ready().await?;
        let consumer = consumer_of(lane);
        let puller =
            Puller { context: &self.context, stream: JOBS_STREAM, consumer: &consumer, timeout: self.link.timeout };
        let pulled = self.doubted(puller.pull(max, wait).await)?;
        pulled
            .into_iter()
            .map(|message| answer::delivery(&self.deliveries[lane as usize], &self.link, seen.made, message))
            .collect()
    }
}

fn closed() -> BusError {
    BusError::Unavailable("the bus is closed".to_owned())
}

#[async_trait]
impl JobBus for JetStreamBus {
    async fn publish(&self, lane: Lane, message_id: &str, payload: Bytes) -> Result<(), BusError> {
        self.send(lane, message_id, payload).await
    }

    async fn pull(&self, lane: Lane, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        if max == 0 {
            return if self.closed.is_cancelled() { Err(closed()) } else { Ok(Vec::new()) };
        }
        tokio::select! {
            () = self.closed.cancelled() => Err(closed()),
            pulled = self.take(lane, max, wait) => pulled,
        }
    }

    async fn depth(&self, lane: Lane) -> Result<Depth, BusError> {
        self.ready().await?;
        let info = self.link.bounded(ensure::info(&self.context, JOBS_STREAM, &consumer_of(lane))).await;
        let Some(info) = self.doubted(info)? else {
            self.link.doubt();
            return Err(BusError::Unavailable("the consumer is gone".to_owned()));
        };
        // A consumer counts what was handed back as in flight until it is delivered again.
        let handed_back = self.deliveries[lane as usize].handed_back(self.settings.ack_wait).min(info.num_ack_pending);
        let pending = usize::try_from(info.num_pending).unwrap_or(usize::MAX);
        Ok(Depth { pending: pending.saturating_add(handed_back), in_flight: info.num_ack_pending - handed_back })
    }

    async fn messages(&self, lane: Lane) -> Result<Vec<Bytes>, BusError> {
        self.ready().await?;
        let listed = self.link.bounded(self.list(lane)).await;
        self.doubted(listed)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn public(&self) -> Option<Arc<dyn PublicBus>> {
        Some(self.public.clone())
    }

    async fn close(&self) {
        self.closed.cancel();
        // Answers on their way; a server that is away gets none.
        if self.link.check().is_ok() {
            let _ = tokio::time::timeout(self.link.timeout, self.link.client.flush()).await;
        }
    }
}

impl JetStreamBus {
    async fn list(&self, lane: Lane) -> Result<Vec<Bytes>, BusError> {
        let away = |error: &dyn std::fmt::Display| BusError::Unavailable(error.to_string());
        let stream = self.context.get_stream_no_info(JOBS_STREAM).await.map_err(|error| away(&error))?;
        let (subject, mut from, mut found) = (subject_of(lane), 1, Vec::new());
        // Bounded by what the lane may hold.
        while found.len() < self.settings.messages_max {
            match stream.get_first_raw_message_by_subject(&subject, from).await {
                Ok(message) => {
                    from = message.sequence + 1;
                    found.push(message.payload);
                }
                Err(error) if error.kind() == jetstream::stream::RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(away(&error)),
            }
        }
        Ok(found)
    }
}
