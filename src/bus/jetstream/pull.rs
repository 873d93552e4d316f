//! One pull of a consumer. Every pull has requests and an inbox of its own, so there is nothing to go stale: an error or a
//! missed heartbeat ends it, and the next one starts from nothing.

use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::{Context, Message};
use futures::StreamExt;
use serde::Serialize;
use tokio::time::Instant;

use super::super::BusError;

/// While a pull waits, the server says at least this often that it is there.
const HEARTBEAT_MAX: Duration = Duration::from_secs(1);
/// What a busy server may be late with.
const SLACK: Duration = Duration::from_secs(1);

/// A request for one message, one after the other. A server that has fewer messages than a request asks for, or than there
/// are requests, leaves some of them without an answer.
#[derive(Serialize)]
struct Request {
    batch: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_heartbeat: Option<u64>,
    no_wait: bool,
}

/// A consumer to pull from.
#[derive(Clone, Copy)]
pub(super) struct Puller<'a> {
    pub(super) context: &'a Context,
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    /// Bound on an answer that the server does not wait with.
    pub(super) timeout: Duration,
}

impl Puller<'_> {
    /// Up to `max` messages, oldest first; waits at most `wait` for the first.
    ///
    /// Every request is answered before the next is sent, so that none is left on the server: what it would still send to an
    /// inbox that is gone, nobody would see before the ack wait is over.
    pub(super) async fn pull(self, max: usize, wait: Duration) -> Result<Vec<Message>, BusError> {
        let mut pulled = Vec::new();
        if !wait.is_zero() {
            pulled.extend(self.wait_for_one(wait).await?);
            if pulled.is_empty() {
                return Ok(pulled);
            }
        }
        while pulled.len() < max {
            match self.take_one().await {
                Ok(Some(message)) => pulled.push(message),
                Ok(None) => break,
                Err(error) if pulled.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "what came before the error is used");
                    break;
                }
            }
        }
        Ok(pulled)
    }

    async fn wait_for_one(self, wait: Duration) -> Result<Option<Message>, BusError> {
        let heartbeat = (wait / 2).min(HEARTBEAT_MAX);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).ok();
        let request = Request { batch: 1, expires: nanos(wait), idle_heartbeat: nanos(heartbeat), no_wait: false };
        self.ask(&request, heartbeat * 2 + SLACK, wait + SLACK).await
    }

    async fn take_one(self) -> Result<Option<Message>, BusError> {
        let request = Request { batch: 1, expires: None, idle_heartbeat: None, no_wait: true };
        self.ask(&request, self.timeout, self.timeout).await
    }

    /// Sends a request and reads its answer: nothing for `silence_max` is an error, and so is no answer within `wait_max`.
    async fn ask(
        self,
        request: &Request,
        silence_max: Duration,
        wait_max: Duration,
    ) -> Result<Option<Message>, BusError> {
        let client = self.context.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(away)?;
        let payload = serde_json::to_vec(request).map_err(away)?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
        client.publish_with_reply(subject, inbox, payload.into()).await.map_err(away)?;
        let ends = Instant::now() + wait_max;
        loop {
            let answer = tokio::time::timeout_at(ends.min(Instant::now() + silence_max), answers.next()).await;
            let message = answer.map_err(|_| away("a heartbeat was missed"))?;
            let message = message.ok_or_else(|| away("the connection ended"))?;
            match message.status {
                None | Some(StatusCode::OK) => return Ok(Some(Message { message, context: self.context.clone() })),
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => return Ok(None),
                Some(status) => {
                    let why = message.description.unwrap_or_default();
                    return Err(away(format!("the server ended a pull: {status} {why}")));
                }
            }
        }
    }
}

fn away(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}
