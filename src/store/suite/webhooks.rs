//! Webhooks and what they are to be brought.

use super::*;
use crate::job::{DeliveryId, WebhookId};
use crate::store::webhooks::*;

const LEASE: Duration = Duration::from_secs(60);
const MAKING: Making = Making { events_max: 100, pending_max: 1000, body_bytes_max: 100_000 };
const AT_ONCE: AtOnce = AtOnce { all: 100, per_host: 100, per_owner: 100, lease: LEASE };
/// Rows that were made before this one are younger than an hour.
const HOUR: Duration = Duration::from_secs(3600);

fn new(owner: OwnerId, host: &str) -> NewWebhook {
    NewWebhook {
        id: WebhookId::fresh(),
        owner,
        name: "archive".to_owned(),
        url: format!("https://{host}/hook"),
        host: format!("{host}:443"),
        kinds: EventKind::ENDS.to_vec(),
        secret: "first".to_owned(),
    }
}

async fn create(ledger: &Arc<dyn Ledger>, owner: OwnerId, host: &str) -> WebhookId {
    ledger.create_webhook(new(owner, host), 10).await.unwrap().unwrap().id
}

async fn make(ledger: &Arc<dyn Ledger>) {
    while ledger.make_deliveries(MAKING).await.unwrap() {}
}

/// What is claimed; a node that finds another one claiming comes back.
async fn claim(ledger: &Arc<dyn Ledger>, at_once: AtOnce) -> Vec<Claimed> {
    for _ in 0..50 {
        let claimed = ledger.claim_deliveries(at_once).await.unwrap();
        if !claimed.is_empty() {
            return claimed;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Vec::new()
}

fn tried(attempt: u32) -> Try {
    let (status, code) = (Some(500), Some("status".to_owned()));
    Try { attempt, at: rfc3339(0), duration_ms: 7, status, code, detail: None, answer: "no".to_owned() }
}

fn later() -> SwitchOff {
    SwitchOff::When { failures: 3, after: HOUR, reason: "failing".to_owned() }
}

async fn settle(ledger: &Arc<dyn Ledger>, claimed: &Claimed, outcome: Outcome, off: SwitchOff) -> bool {
    ledger.settle_delivery(claimed.id, claimed.claim, tried(claimed.attempt), outcome, off).await.unwrap()
}

async fn log(ledger: &Arc<dyn Ledger>, owner: OwnerId, webhook: WebhookId) -> Vec<DeliveryRow> {
    ledger.deliveries(owner, webhook, None, 1000).await.unwrap().unwrap()
}

pub(crate) async fn others_have_no_part_in_it(fresh: &Fresh) {
    let ledger = &fresh.ledger;
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    let Some(Asked::Pending(ping)) = ledger.ping_webhook(owner, id).await.unwrap() else { panic!("no ping") };
    assert_eq!(ledger.webhooks(other).await.unwrap(), []);
    assert_eq!(ledger.webhook(other, id).await.unwrap(), None);
    assert_eq!(ledger.change_webhook(other, id, WebhookChange::default()).await.unwrap(), None);
    assert_eq!(ledger.rotate_webhook(other, id, "x".to_owned(), HOUR).await.unwrap(), None);
    assert_eq!(ledger.ping_webhook(other, id).await.unwrap(), None);
    assert_eq!(ledger.deliveries(other, id, None, 10).await.unwrap(), None);
    assert_eq!(ledger.delivery(other, id, ping.id).await.unwrap(), None);
    assert_eq!(ledger.redeliver(other, id, ping.id).await.unwrap(), None);
    assert!(!ledger.delete_webhook(other, id).await.unwrap());
    // Nor a delivery by way of another webhook of one's own.
    let mine = create(ledger, other, "b.example").await;
    assert_eq!(ledger.delivery(other, mine, ping.id).await.unwrap(), None);
    assert_eq!(ledger.redeliver(other, mine, ping.id).await.unwrap(), None);
    assert_eq!(ledger.delivery(owner, id, ping.id).await.unwrap().as_ref(), Some(&*ping));
    assert!(ledger.delete_webhook(owner, id).await.unwrap());
    assert_eq!(ledger.delivery(owner, id, ping.id).await.unwrap(), None);
}

pub(crate) async fn webhooks_are_bounded_and_begin_now(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    in_state(ledger, owner, State::Cancelled).await;
    let id = create(ledger, owner, "a.example").await;
    assert!(ledger.create_webhook(new(owner, "b.example"), 1).await.unwrap().is_none());
    assert!(ledger.create_webhook(new(OwnerId::fresh(), "b.example"), 1).await.unwrap().is_some());
    make(ledger).await;
    assert_eq!(log(ledger, owner, id).await, [], "what was before is not told");
    let off = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    assert!(!ledger.change_webhook(owner, id, off).await.unwrap().unwrap().enabled);
    in_state(ledger, owner, State::Cancelled).await;
    make(ledger).await;
    assert_eq!(ledger.ping_webhook(owner, id).await.unwrap(), Some(Asked::Off));
    let on = WebhookChange {
        enabled: Some(true),
        name: Some("b".to_owned()),
        target: Some(("https://c.example/".to_owned(), "c.example:443".to_owned())),
        kinds: Some(vec![EventKind::Accepted]),
    };
    let row = ledger.change_webhook(owner, id, on).await.unwrap().unwrap();
    assert_eq!(ledger.webhook(owner, id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(
        (row.name.as_str(), row.url.as_str(), row.kinds),
        ("b", "https://c.example/", vec![EventKind::Accepted])
    );
    make(ledger).await;
    assert_eq!(log(ledger, owner, id).await, [], "nor what was while it was off");
    submit(ledger, owner).await;
    make(ledger).await;
    assert_eq!(log(ledger, owner, id).await.len(), 1);
}

pub(crate) async fn an_event_makes_one_delivery(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let (one, other) = (create(ledger, owner, "a.example").await, create(ledger, owner, "b.example").await);
    let job = in_state(ledger, owner, State::Succeeded).await;
    in_state(ledger, owner, State::Cancelled).await;
    in_state(ledger, OwnerId::fresh(), State::Cancelled).await;
    // All nodes at once, and again.
    for _ in 0..3 {
        let nodes = fresh.peers.iter().chain([ledger]);
        futures::future::join_all(nodes.map(|node| async move { make(node).await })).await;
    }
    make(ledger).await;
    for id in [one, other] {
        let log = log(ledger, owner, id).await;
        assert_eq!(log.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["cancelled", "succeeded"]);
        let body: serde_json::Value = serde_json::from_str(&log[1].body).unwrap();
        assert_eq!((&body["schema"], &body["id"]), (&json!(SCHEMA), &json!(log[1].id)));
        assert_eq!((&body["kind"], &body["number"]), (&json!("succeeded"), &json!(log[1].seq)));
        assert_eq!(body["job"], job_object(&row(ledger, &job).await));
        assert_eq!((log[1].state, log[1].attempt, log[1].tries.len()), (DeliveryState::Pending, 0, 0));
    }
}

pub(crate) async fn whoever_is_behind_is_served(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    for _ in 0..5 {
        in_state(ledger, owner, State::Cancelled).await;
    }
    // Two jobs have four events; with two deliveries pending the rest stays in the ledger.
    let making = Making { events_max: 4, pending_max: 2, ..MAKING };
    for _ in 0..3 {
        ledger.make_deliveries(making).await.unwrap();
    }
    assert_eq!(log(ledger, owner, id).await.len(), 2);
    for claimed in claim(ledger, AT_ONCE).await {
        assert!(settle(ledger, &claimed, Outcome::Delivered, later()).await);
    }
    for _ in 0..3 {
        ledger.make_deliveries(making).await.unwrap();
    }
    assert_eq!(log(ledger, owner, id).await.len(), 4);
    make(ledger).await;
    assert_eq!(log(ledger, owner, id).await.len(), 5);
}

pub(crate) async fn one_claim_brings_it(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    for _ in 0..20 {
        in_state(ledger, owner, State::Cancelled).await;
    }
    make(ledger).await;
    let at_once = AtOnce { per_host: 3, ..AT_ONCE };
    let nodes: Vec<_> = fresh.peers.iter().chain([ledger]).collect();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 20 {
        let rounds = futures::future::join_all(nodes.iter().map(|node| node.claim_deliveries(at_once))).await;
        let claimed: Vec<Claimed> = rounds.into_iter().flat_map(Result::unwrap).collect();
        assert!(claimed.len() <= 3, "{} at once", claimed.len());
        for claimed in claimed {
            assert!(seen.insert(claimed.id), "claimed twice");
            assert_eq!((claimed.attempt, claimed.url.as_str()), (1, "https://a.example/hook"));
            assert!(settle(nodes[0], &claimed, Outcome::Delivered, later()).await);
            assert!(!settle(nodes[0], &claimed, Outcome::Dead, later()).await, "settled once");
        }
    }
    assert!(log(ledger, owner, id).await.iter().all(|row| row.state == DeliveryState::Delivered));
    // A claim that nobody settles is another's when its lease has run out.
    in_state(ledger, owner, State::Cancelled).await;
    make(ledger).await;
    let first = claim(ledger, AtOnce { lease: Duration::from_millis(50), ..AT_ONCE }).await.remove(0);
    assert_eq!(nodes[0].claim_deliveries(AT_ONCE).await.unwrap().len(), 0);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let second = claim(nodes[0], AT_ONCE).await.remove(0);
    assert_eq!((second.id, second.attempt), (first.id, 2));
    assert!(!settle(ledger, &first, Outcome::Delivered, later()).await, "a late word changes nothing");
    assert!(settle(ledger, &second, Outcome::Delivered, later()).await);
}

pub(crate) async fn claims_keep_to_the_bounds(fresh: &Fresh) {
    let ledger = &fresh.ledger;
    let (one, other) = (OwnerId::fresh(), OwnerId::fresh());
    let hosts = [(one, "a"), (one, "b"), (one, "c"), (other, "d"), (other, "e")];
    let busy = async |hosts: &[(OwnerId, &str)]| {
        let mut owners = std::collections::BTreeSet::new();
        for (owner, host) in hosts {
            create(ledger, *owner, &format!("{host}.example")).await;
            owners.insert(*owner);
        }
        for owner in owners {
            for _ in 0..6 {
                in_state(ledger, owner, State::Cancelled).await;
            }
        }
        make(ledger).await;
    };
    busy(&hosts).await;
    let at_once = AtOnce { all: 9, per_host: 3, per_owner: 6, lease: LEASE };
    let claimed = claim(ledger, at_once).await;
    assert_eq!(claimed.len(), 9);
    let mut of_hosts = BTreeMap::<&str, usize>::new();
    for claimed in &claimed {
        *of_hosts.entry(&claimed.url).or_default() += 1;
    }
    assert!(of_hosts.values().all(|count| *count <= 3), "{of_hosts:?}");
    assert_eq!(ledger.claim_deliveries(at_once).await.unwrap().len(), 0, "all are taken");
    let at_once = AtOnce { all: 100, ..at_once };
    assert_eq!(claim(ledger, at_once).await.len(), 3, "six of each owner");
    assert_eq!(ledger.claim_deliveries(at_once).await.unwrap().len(), 0, "their further ones wait");
    settle(ledger, &claimed[0], Outcome::Delivered, later()).await;
    assert_eq!(claim(ledger, at_once).await.len(), 1, "one place is free");
    busy(&[(OwnerId::fresh(), "z"), (OwnerId::fresh(), "z")]).await;
    assert_eq!(claim(ledger, at_once).await.len(), 3, "of two owners to one host");
    assert_eq!(ledger.claim_deliveries(at_once).await.unwrap().len(), 0);
}

pub(crate) async fn what_fails_waits_or_is_dead(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    in_state(ledger, owner, State::Cancelled).await;
    make(ledger).await;
    for attempt in 1..=30 {
        let claimed = claim(ledger, AT_ONCE).await.remove(0);
        assert_eq!(claimed.attempt, attempt);
        assert!(settle(ledger, &claimed, Outcome::Again(Duration::ZERO), later()).await);
    }
    let row = log(ledger, owner, id).await.remove(0);
    assert_eq!((row.state, row.attempt, row.tries.len()), (DeliveryState::Pending, 30, TRIES_KEPT));
    assert_eq!(row.tries.last(), Some(&tried(30)));
    let webhook = ledger.webhook(owner, id).await.unwrap().unwrap();
    assert_eq!((webhook.failures, webhook.enabled), (30, true), "not for long enough");
    assert!(webhook.failing_since_ms.is_some());
    let claimed = claim(ledger, AT_ONCE).await.remove(0);
    assert!(settle(ledger, &claimed, Outcome::Again(HOUR), later()).await);
    assert_eq!(ledger.claim_deliveries(AT_ONCE).await.unwrap().len(), 0, "not due");
    // Its owner may be in a hurry.
    let Some(Asked::Pending(row)) = ledger.redeliver(owner, id, claimed.id).await.unwrap() else { panic!("no row") };
    assert_eq!((row.state, row.attempt), (DeliveryState::Pending, 0));
    let claimed = claim(ledger, AT_ONCE).await.remove(0);
    // What is being brought stays with whoever brings it.
    ledger.redeliver(owner, id, claimed.id).await.unwrap();
    assert!(settle(ledger, &claimed, Outcome::Dead, later()).await);
    let row = log(ledger, owner, id).await.remove(0);
    assert_eq!((row.state, row.ended_at_ms.is_some()), (DeliveryState::Dead, true));
    ledger.redeliver(owner, id, claimed.id).await.unwrap();
    let claimed = claim(ledger, AT_ONCE).await.remove(0);
    assert_eq!((claimed.attempt, claimed.body), (1, row.body), "the same again");
    let done = ledger
        .settle_delivery(claimed.id, claimed.claim, Try { status: Some(200), ..tried(1) }, Outcome::Delivered, later())
        .await;
    assert!(done.unwrap());
    let webhook = ledger.webhook(owner, id).await.unwrap().unwrap();
    assert_eq!((webhook.failures, webhook.failing_since_ms), (0, None));
}

pub(crate) async fn long_failure_switches_off(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    for _ in 0..3 {
        in_state(ledger, owner, State::Cancelled).await;
    }
    make(ledger).await;
    let off = SwitchOff::When { failures: 3, after: Duration::ZERO, reason: "failing".to_owned() };
    let claimed = claim(ledger, AT_ONCE).await;
    assert_eq!(claimed.len(), 3);
    for (count, claimed) in claimed.iter().enumerate() {
        assert!(ledger.webhook(owner, id).await.unwrap().unwrap().enabled, "after {count}");
        settle(ledger, claimed, Outcome::Again(Duration::ZERO), off.clone()).await;
    }
    let webhook = ledger.webhook(owner, id).await.unwrap().unwrap();
    assert_eq!((webhook.enabled, webhook.off_reason.as_deref()), (false, Some("failing")));
    assert!(webhook.off_at_ms.is_some());
    assert_eq!(ledger.claim_deliveries(AT_ONCE).await.unwrap().len(), 0);
    let on = WebhookChange { enabled: Some(true), ..WebhookChange::default() };
    let webhook = ledger.change_webhook(owner, id, on).await.unwrap().unwrap();
    assert_eq!((webhook.failures, webhook.off_reason, webhook.off_at_ms), (0, None, None));
    let claimed = claim(ledger, AT_ONCE).await;
    assert_eq!(claimed.len(), 3, "what was to be brought still is");
    settle(ledger, &claimed[0], Outcome::Dead, SwitchOff::Now("gone".to_owned())).await;
    let webhook = ledger.webhook(owner, id).await.unwrap().unwrap();
    assert_eq!((webhook.enabled, webhook.off_reason.as_deref()), (false, Some("gone")));
}

pub(crate) async fn secrets_rotate(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    let secrets = async || {
        ledger.ping_webhook(owner, id).await.unwrap();
        let claimed = claim(ledger, AT_ONCE).await.remove(0);
        settle(ledger, &claimed, Outcome::Delivered, later()).await;
        claimed.secrets
    };
    assert_eq!(secrets().await, ["first"]);
    let row = ledger.rotate_webhook(owner, id, "second".to_owned(), HOUR).await.unwrap().unwrap();
    assert!(row.secret_before_until_ms.is_some());
    assert_eq!(secrets().await, ["second", "first"]);
    ledger.rotate_webhook(owner, id, "third".to_owned(), Duration::ZERO).await.unwrap();
    assert_eq!(secrets().await, ["third"]);
}

pub(crate) async fn asked_for_by_its_owner(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let id = create(ledger, owner, "a.example").await;
    let Some(Asked::Pending(one)) = ledger.ping_webhook(owner, id).await.unwrap() else { panic!("no ping") };
    let Some(Asked::Pending(two)) = ledger.ping_webhook(owner, id).await.unwrap() else { panic!("no ping") };
    assert_eq!(one.id, two.id, "one that waits is enough");
    let body: serde_json::Value = serde_json::from_str(&one.body).unwrap();
    assert_eq!((&body["kind"], &body["job"], one.seq), (&json!("ping"), &json!(null), None));
    assert_eq!(ledger.redeliver(owner, id, DeliveryId::fresh()).await.unwrap(), None);
    let claimed = claim(ledger, AT_ONCE).await.remove(0);
    settle(ledger, &claimed, Outcome::Delivered, later()).await;
    ledger.ping_webhook(owner, id).await.unwrap();
    let all = log(ledger, owner, id).await;
    assert_eq!(all.len(), 2);
    let page = ledger.deliveries(owner, id, Some(all[0].id), 10).await.unwrap().unwrap();
    assert_eq!(page, all[1..]);
}

pub(crate) async fn logs_are_swept(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let (id, other) = (create(ledger, owner, "a.example").await, create(ledger, owner, "b.example").await);
    for _ in 0..5 {
        in_state(ledger, owner, State::Cancelled).await;
    }
    make(ledger).await;
    let claimed = claim(ledger, AT_ONCE).await;
    for claimed in claimed.iter().filter(|claimed| claimed.webhook == id) {
        settle(ledger, claimed, Outcome::Delivered, later()).await;
    }
    assert_eq!(ledger.prune_deliveries(HOUR, 5).await.unwrap(), 0);
    let newest: Vec<_> = log(ledger, owner, id).await.into_iter().take(2).map(|row| row.id).collect();
    assert_eq!(ledger.prune_deliveries(HOUR, 2).await.unwrap(), 3, "the oldest of one");
    assert_eq!(log(ledger, owner, id).await.iter().map(|row| row.id).collect::<Vec<_>>(), newest);
    assert_eq!(log(ledger, owner, other).await.len(), 5, "what is to be brought stays");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(ledger.prune_deliveries(Duration::ZERO, 100).await.unwrap(), 2);
    assert_eq!(log(ledger, owner, other).await.len(), 5);
    // Unless nobody will bring it.
    let off = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    ledger.change_webhook(owner, other, off).await.unwrap();
    assert_eq!(ledger.prune_deliveries(Duration::ZERO, 100).await.unwrap(), 5);
}
