//! Streams and consumers as they must be: made if they are missing, compared if they are there. What differs is set right
//! where the server allows it; where it does not, nobody works on it and the error says what to do.

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::{self, AckPolicy, IntoConsumerConfig, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::super::public::PublicSettings;
use super::super::{BusError, BusSettings};
use super::public::{EVENTS_STREAM, EVENTS_SUBJECTS, SUBMIT_CONSUMER, SUBMIT_STREAM, SUBMIT_SUBJECTS};
use super::{JOBS_STREAM, consumer_of, subject_of};
use crate::job::Lane;

/// Submissions that are worked on, or wait to be tried again; while so many fail, no others are looked at.
const SUBMISSIONS_PENDING_MAX: i64 = 1000;

/// The work queue of jobs.
pub(super) fn jobs(settings: BusSettings, replicas: usize) -> stream::Config {
    let lane_max = i64::try_from(settings.messages_max).unwrap_or(i64::MAX);
    stream::Config {
        name: JOBS_STREAM.to_owned(),
        description: Some("Jobs of Inkpool that are released to its slots".to_owned()),
        subjects: Lane::ALL.map(subject_of).to_vec(),
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: lane_max,
        duplicate_window: settings.duplicate_window,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// What programs outside are told.
pub(super) fn events(settings: PublicSettings, bus: BusSettings, replicas: usize) -> stream::Config {
    stream::Config {
        name: EVENTS_STREAM.to_owned(),
        description: Some("What becomes of the jobs of Inkpool".to_owned()),
        subjects: vec![EVENTS_SUBJECTS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_messages: i64::try_from(settings.events_max).unwrap_or(i64::MAX),
        max_age: settings.events_keep,
        duplicate_window: bus.duplicate_window,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// What programs outside submit.
pub(super) fn submissions(settings: PublicSettings, bus: BusSettings, replicas: usize) -> stream::Config {
    stream::Config {
        name: SUBMIT_STREAM.to_owned(),
        description: Some("Images for Inkpool, of other programs".to_owned()),
        subjects: vec![SUBMIT_SUBJECTS.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_messages: i64::try_from(settings.submissions_max).unwrap_or(i64::MAX),
        duplicate_window: bus.duplicate_window,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// Its durable pull consumer.
pub(super) fn of_submissions(bus: BusSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(SUBMIT_CONSUMER.to_owned()),
        filter_subject: SUBMIT_SUBJECTS.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: bus.ack_wait,
        // Counted by whoever works on them: a message is only given up when its dead letter is written.
        max_deliver: -1,
        max_ack_pending: SUBMISSIONS_PENDING_MAX,
        ..pull::Config::default()
    }
}

/// The durable pull consumer of one lane.
pub(super) fn of_lane(lane: Lane, settings: BusSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer_of(lane)),
        filter_subject: subject_of(lane),
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // Attempts are counted in SQL.
        max_deliver: -1,
        max_ack_pending: i64::try_from(settings.messages_max).unwrap_or(i64::MAX),
        ..pull::Config::default()
    }
}

/// One request to the JetStream API: the server's refusal is a value, everything else is [`BusError::Unavailable`].
async fn ask<T: DeserializeOwned>(
    context: &Context,
    subject: String,
    payload: Bytes,
) -> Result<Result<T, async_nats::jetstream::Error>, BusError> {
    // Not `Context::request`: it writes nothing as `null`, and the server takes that for a payload where it expects none.
    let answer = match context.client().request(format!("$JS.API.{subject}"), payload).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            return Err(BusError::Unavailable("JetStream is off or not ready on this server".to_owned()));
        }
        Err(error) => return Err(BusError::Unavailable(error.to_string())),
    };
    match serde_json::from_slice(&answer.payload) {
        Ok(Response::Ok(answer)) => Ok(Ok(answer)),
        Ok(Response::Err { error }) => Ok(Err(error)),
        Err(error) => Err(BusError::Unavailable(format!("an answer of JetStream cannot be read: {error}"))),
    }
}

fn unfit(what: &str, name: &str, error: &async_nats::jetstream::Error) -> BusError {
    BusError::Unfit(format!("{what} {name} cannot be set up: {error}; remove it with the nats tool, it is made anew"))
}

/// Answers the stream as it now is.
pub(super) async fn stream(context: &Context, wanted: stream::Config) -> Result<stream::Info, BusError> {
    let name = wanted.name.clone();
    let found = ask::<stream::Info>(context, format!("STREAM.INFO.{name}"), Bytes::new()).await?;
    let (verb, config) = match found {
        Ok(info) if fits(&info.config, &wanted) => return Ok(info),
        Ok(info) => {
            tracing::warn!(stream = name, "a stream differs from the settings and is changed");
            // What we have no opinion on (placement, compression, …) stays as the operator set it.
            let config = stream::Config {
                subjects: wanted.subjects,
                retention: wanted.retention,
                storage: wanted.storage,
                discard: wanted.discard,
                discard_new_per_subject: wanted.discard_new_per_subject,
                max_messages_per_subject: wanted.max_messages_per_subject,
                max_messages: wanted.max_messages,
                max_age: wanted.max_age,
                duplicate_window: wanted.duplicate_window,
                num_replicas: wanted.num_replicas,
                ..info.config
            };
            ("UPDATE", config)
        }
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            tracing::info!(stream = name, "a stream is made");
            ("CREATE", wanted)
        }
        Err(error) => return Err(unfit("stream", &name, &error)),
    };
    let config = serde_json::to_vec(&config).map_err(|error| BusError::Unfit(error.to_string()))?;
    let made = ask::<stream::Info>(context, format!("STREAM.{verb}.{name}"), config.into()).await?;
    made.map_err(|error| unfit("stream", &name, &error))
}

/// The server says -1 for what we call 0: no bound.
fn bounded(limit: i64) -> i64 {
    limit.max(0)
}

fn fits(there: &stream::Config, wanted: &stream::Config) -> bool {
    let sorted = |config: &stream::Config| {
        let mut subjects = config.subjects.clone();
        subjects.sort();
        subjects
    };
    there.retention == wanted.retention
        && there.storage == wanted.storage
        && there.discard == wanted.discard
        && there.discard_new_per_subject == wanted.discard_new_per_subject
        && bounded(there.max_messages_per_subject) == bounded(wanted.max_messages_per_subject)
        && bounded(there.max_messages) == bounded(wanted.max_messages)
        && there.max_age == wanted.max_age
        && there.duplicate_window == wanted.duplicate_window
        && there.num_replicas == wanted.num_replicas
        && sorted(there) == sorted(wanted)
}

/// Makes or corrects a consumer.
pub(super) async fn consumer(context: &Context, stream: &str, wanted: pull::Config) -> Result<(), BusError> {
    let name = wanted.durable_name.clone().unwrap_or_default();
    let wanted_config = wanted.clone().into_consumer_config();
    match info(context, stream, &name).await? {
        Some(there) if same(&there.config, &wanted_config) => return Ok(()),
        Some(_) => tracing::warn!(consumer = name, "a consumer differs from the settings and is changed"),
        None => tracing::info!(consumer = name, "a consumer is made"),
    }
    let made = context.create_consumer_on_stream(wanted, stream).await;
    made.map(drop).map_err(|error| {
        if let stream::ConsumerErrorKind::JetStream(refusal) = error.kind() {
            unfit("consumer", &name, &refusal)
        } else {
            BusError::Unavailable(error.to_string())
        }
    })
}

fn same(there: &consumer::Config, wanted: &consumer::Config) -> bool {
    there.ack_policy == wanted.ack_policy
        && there.ack_wait == wanted.ack_wait
        && there.max_deliver == wanted.max_deliver
        && there.max_ack_pending == wanted.max_ack_pending
        && there.filter_subject == wanted.filter_subject
        && there.deliver_subject == wanted.deliver_subject
}

/// A consumer as it is; `None` when it or its stream is missing.
pub(super) async fn info(context: &Context, stream: &str, name: &str) -> Result<Option<consumer::Info>, BusError> {
    match ask(context, format!("CONSUMER.INFO.{stream}.{name}"), Bytes::new()).await? {
        Ok(info) => Ok(Some(info)),
        Err(error) if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&error.error_code()) => {
            Ok(None)
        }
        Err(error) => Err(BusError::Unavailable(error.to_string())),
    }
}
