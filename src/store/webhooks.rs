//! Webhooks: addresses that are told what becomes of jobs, and what was and is to be brought there. A port of its own
//! beside the ledger.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{EventRow, LedgerResult, rfc3339};
use crate::job::{DeliveryId, OwnerId, State, WebhookId};

/// Name of the schema of what is sent: `docs/events/webhook.json`.
pub const SCHEMA: &str = "inkpool.webhook/1";
/// The kind of a delivery that an owner asks for to see whether the address answers.
pub const PING: &str = "ping";
/// Attempts of one delivery that are kept; the first ones go.
pub const TRIES_KEPT: usize = 20;

/// The kinds under which a row of the ledger is told outside, in this order. A job that has just been made is `accepted`
/// before it is `queued`, and one that succeeded with pages to look at is up for `review` as well.
#[must_use]
pub fn kinds_of(event: &EventRow) -> Vec<&str> {
    let is = |state: State| event.kind == state.as_str();
    // Nothing else queues a job at the very time at which it was made.
    let is_new = event.body["created_at"] == rfc3339(event.at_ms).as_str() && event.body["attempt"] == 0;
    if is(State::Queued) && is_new {
        return vec!["accepted", event.kind.as_str()];
    }
    if is(State::Succeeded) && event.body["gate"]["verdict"] == "review" {
        return vec![event.kind.as_str(), "review"];
    }
    // Between relay and slot a job waits as before.
    if is(State::Released) { Vec::new() } else { vec![event.kind.as_str()] }
}

/// What a webhook can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A job was made.
    Accepted,
    /// It waits, the first time or again.
    Queued,
    /// A slot works on it.
    Running,
    /// Its files are there.
    Succeeded,
    /// It ended without.
    Failed,
    /// Its owner ended it.
    Cancelled,
    /// It succeeded, and somebody should look at pages.
    Review,
}

impl EventKind {
    /// The ends of jobs: what is told unless something else is asked for.
    pub const ENDS: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Cancelled];

    /// As in [`kinds_of`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Review => "review",
        }
    }
}

/// A webhook to be.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Key.
    pub id: WebhookId,
    /// Whose.
    pub owner: OwnerId,
    /// For people; may be empty.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Host and port of it.
    pub host: String,
    /// What it is told of.
    pub kinds: Vec<EventKind>,
    /// Signs.
    pub secret: String,
}

/// A webhook, without what signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// Key.
    pub id: WebhookId,
    /// Whose.
    pub owner: OwnerId,
    /// For people; may be empty.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Host and port of it.
    pub host: String,
    /// What it is told of.
    pub kinds: Vec<EventKind>,
    /// Whether it is told anything.
    pub enabled: bool,
    /// Why it was switched off, when nobody asked for it.
    pub off_reason: Option<String>,
    /// When, milliseconds since 1970.
    pub off_at_ms: Option<i64>,
    /// Attempts that failed one after the other up to now.
    pub failures: u32,
    /// When the first of them did, milliseconds since 1970.
    pub failing_since_ms: Option<i64>,
    /// Until when the secret before this one signs as well, milliseconds since 1970.
    pub secret_before_until_ms: Option<i64>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
}

/// What to change; what is left out stays.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// For people.
    pub name: Option<String>,
    /// Where to: URL, and its host and port.
    pub target: Option<(String, String)>,
    /// What it is told of.
    pub kinds: Option<Vec<EventKind>>,
    /// Whether it is told anything. Switched on again it begins with what happens then.
    pub enabled: Option<bool>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be brought, perhaps again.
    Pending,
    /// Answered with a status of 200 to 299.
    Delivered,
    /// Tried as often as it may be.
    Dead,
}

impl DeliveryState {
    const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// From its stored form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// One attempt at a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Try {
    /// Which one, from 1; a redelivery starts anew.
    pub attempt: u32,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, for programs: `timeout`, `unreachable`, `address_not_allowed`, `status`, ….
    pub code: Option<String>,
    /// The same for people.
    pub detail: Option<String>,
    /// First bytes of the answer, as far as they are text.
    pub answer: String,
}

/// A delivery as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Key, and the `webhook-id` of every attempt.
    pub id: DeliveryId,
    /// Number of the event among those of its owner.
    pub seq: Option<i64>,
    /// A kind of event, or [`PING`].
    pub kind: String,
    /// What is sent.
    pub body: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempt: u32,
    /// Of a pending one: not before, milliseconds since 1970.
    pub due_at_ms: i64,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub ended_at_ms: Option<i64>,
    /// The last attempts, oldest first.
    pub tries: Vec<Try>,
}

/// Bounds on what becomes a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Making {
    /// Events of one webhook that one commit looks at.
    pub events_max: u32,
    /// With as many pending, a webhook's further events stay in the ledger.
    pub pending_max: u64,
    /// A longer body loses what the gate says of each page.
    pub body_bytes_max: usize,
}

/// Bounds on deliveries at once, over all nodes.
#[derive(Debug, Clone, Copy)]
pub struct AtOnce {
    /// In all.
    pub all: usize,
    /// To one host and port.
    pub per_host: usize,
    /// Of one owner.
    pub per_owner: usize,
    /// Who claims and does not come back loses it after this time.
    pub lease: Duration,
}

/// A delivery that this claim, and no other, is to bring now.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Key.
    pub id: DeliveryId,
    /// To which webhook.
    pub webhook: WebhookId,
    /// Names this claim.
    pub claim: Uuid,
    /// This attempt, from 1.
    pub attempt: u32,
    /// Where to.
    pub url: String,
    /// What signs, the newest first.
    pub secrets: Vec<String>,
    /// What to send.
    pub body: String,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was answered as it should be.
    Delivered,
    /// It is tried again after this time.
    Again(Duration),
    /// It was the last attempt.
    Dead,
}

/// When a webhook is switched off by itself.
#[derive(Debug, Clone)]
pub enum SwitchOff {
    /// Now.
    Now(String),
    /// When so many attempts have failed one after the other, for so long.
    When {
        /// How many.
        failures: u32,
        /// How long.
        after: Duration,
        /// What its owner reads then.
        reason: String,
    },
}

/// Answer to what needs a webhook that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It will be brought.
    Pending(Box<DeliveryRow>),
    /// The webhook is off.
    Off,
}

/// Webhooks and deliveries. Every call that an owner can cause carries the owner; another owner's id answers as if it did
/// not exist.
#[async_trait]
pub trait Webhooks: Send + Sync + 'static {
    /// Makes one while its owner has fewer than `count_max`. It is told what happens from now on.
    async fn create_webhook(&self, new: NewWebhook, count_max: u64) -> LedgerResult<Option<WebhookRow>>;
    /// An owner's, newest first.
    async fn webhooks(&self, owner: OwnerId) -> LedgerResult<Vec<WebhookRow>>;
    /// One of them.
    async fn webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<WebhookRow>>;
    /// Changes it.
    async fn change_webhook(
        &self,
        owner: OwnerId,
        id: WebhookId,
        change: WebhookChange,
    ) -> LedgerResult<Option<WebhookRow>>;
    /// Removes it with its log. False when there is no such one.
    async fn delete_webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<bool>;
    /// Gives it another secret; the one it had signs as well for `overlap`.
    async fn rotate_webhook(
        &self,
        owner: OwnerId,
        id: WebhookId,
        secret: String,
        overlap: Duration,
    ) -> LedgerResult<Option<WebhookRow>>;
    /// A ping that is to be brought; the one that is pending already, if there is one.
    async fn ping_webhook(&self, owner: OwnerId, id: WebhookId) -> LedgerResult<Option<Asked>>;
    /// Its log, newest first, from `before` on (exclusive); `None` when there is no such webhook.
    async fn deliveries(
        &self,
        owner: OwnerId,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> LedgerResult<Option<Vec<DeliveryRow>>>;
    /// One line of it.
    async fn delivery(&self, owner: OwnerId, webhook: WebhookId, id: DeliveryId) -> LedgerResult<Option<DeliveryRow>>;
    /// Brings it again, now, with all its attempts; one that somebody is bringing stays as it is.
    async fn redeliver(&self, owner: OwnerId, webhook: WebhookId, id: DeliveryId) -> LedgerResult<Option<Asked>>;

    /// Makes deliveries of events that webhooks have not been told of, each once whoever else does so. True when there
    /// is more.
    async fn make_deliveries(&self, making: Making) -> LedgerResult<bool>;
    /// Claims what is due, within the bounds: until the lease has run out nobody else gets it.
    async fn claim_deliveries(&self, at_once: AtOnce) -> LedgerResult<Vec<Claimed>>;
    /// Writes what became of an attempt. False, and nothing written, when the claim has run out or the webhook is gone.
    async fn settle_delivery(
        &self,
        id: DeliveryId,
        claim: Uuid,
        tried: Try,
        outcome: Outcome,
        off: SwitchOff,
    ) -> LedgerResult<bool>;
    /// Drops what is older than `keep` or beyond the newest `rows_max` of a webhook, the pending ones of a webhook that is on
    /// excepted; how many went.
    async fn prune_deliveries(&self, keep: Duration, rows_max: u64) -> LedgerResult<u64>;
}

/// What is sent of an event: what `docs/events/webhook.json` says.
#[must_use]
pub fn message(id: DeliveryId, kind: &str, event: &EventRow, bytes_max: usize) -> String {
    let whole = |job: &Value, shortened: bool| {
        let mut body = json!({
            "schema": SCHEMA,
            "id": id,
            "kind": kind,
            "number": event.seq,
            "at": rfc3339(event.at_ms),
            "job": job,
        });
        if shortened {
            body["shortened"] = true.into();
        }
        body.to_string()
    };
    let text = whole(&event.body, false);
    if text.len() <= bytes_max {
        return text;
    }
    // What the gate says of each page is what grows with the pages; it stands in the job as well.
    let mut job = event.body.clone();
    if let Some(gate) = job.get_mut("gate").filter(|gate| gate.is_object()) {
        *gate = json!({ "verdict": gate["verdict"] });
    }
    whole(&job, true)
}

/// What a ping sends.
#[must_use]
pub fn ping(id: DeliveryId, at_ms: i64) -> String {
    json!({ "schema": SCHEMA, "id": id, "kind": PING, "number": null, "at": rfc3339(at_ms), "job": null }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    fn event(kind: &str, at_ms: i64, body: Value) -> EventRow {
        EventRow { seq: 7, owner: OwnerId::LOCAL, job: JobId::fresh(), kind: kind.to_owned(), body, at_ms }
    }

    fn told(kind: &str, at_ms: i64, body: Value) -> Vec<String> {
        kinds_of(&event(kind, at_ms, body)).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_row_is_told_as_what_it_means() {
        let body = |verdict: &str| json!({"created_at": rfc3339(5000), "attempt": 0, "gate": {"verdict": verdict}});
        assert_eq!(told("queued", 5000, body("clean")), ["accepted", "queued"]);
        assert_eq!(told("queued", 9000, body("clean")), ["queued"]);
        assert_eq!(told("succeeded", 9000, body("clean")), ["succeeded"]);
        assert_eq!(told("succeeded", 9000, body("kept_original")), ["succeeded"]);
        assert_eq!(told("succeeded", 9000, body("review")), ["succeeded", "review"]);
        assert_eq!(told("released", 9000, body("clean")), [""; 0]);
    }

    #[test]
    fn a_long_body_loses_what_grows_with_the_pages() {
        let pages: Vec<_> = (0..5000).map(|page| json!({"page": page})).collect();
        let event = event("succeeded", 5000, json!({"id": "x", "gate": {"verdict": "review", "pages": pages}}));
        let read = |bytes_max| {
            let text = message(DeliveryId::fresh(), "review", &event, bytes_max);
            (text.len(), serde_json::from_str::<Value>(&text).unwrap())
        };
        let (_, whole) = read(1 << 20);
        assert_eq!((&whole["job"], whole.get("shortened")), (&event.body, None));
        let (length, short) = read(10_000);
        assert!(length < 1000, "{length}");
        assert_eq!(short["job"]["gate"], json!({"verdict": "review"}));
        assert_eq!((&short["shortened"], &short["number"]), (&json!(true), &json!(7)));
    }
}
