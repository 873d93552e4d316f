//! Events on their way to programs outside: who publishes, and what is left to publish.

use std::collections::BTreeMap;

use super::*;
use crate::job::DeadLetterId;
use crate::store::producers::{NewDeadLetter, StreamMark, Submitted, Unpublished};

const LEASE: Duration = Duration::from_secs(60);

fn mark(last: u64) -> StreamMark {
    StreamMark { made: "once".to_owned(), last }
}

fn numbers(events: &[Unpublished], owner: OwnerId) -> Vec<i64> {
    events.iter().filter(|event| event.event.owner == owner).map(|event| event.event.seq).collect()
}

pub(crate) async fn one_process_publishes_at_a_time(fresh: &Fresh) {
    let (one, other) = (&fresh.ledger, &fresh.peers[0]);
    let (me, you) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(one.lead_publishing(me, LEASE).await.unwrap(), Some(None));
    assert_eq!(other.lead_publishing(you, LEASE).await.unwrap(), None);
    assert!(one.published(me, LEASE, BTreeMap::new(), mark(7)).await.unwrap());
    assert!(!other.published(you, LEASE, BTreeMap::new(), mark(9)).await.unwrap());
    assert_eq!(one.lead_publishing(me, LEASE).await.unwrap(), Some(Some(mark(7))));
    other.leave_publishing(you).await.unwrap();
    assert_eq!(other.lead_publishing(you, LEASE).await.unwrap(), None);
    one.leave_publishing(me).await.unwrap();
    assert_eq!(other.lead_publishing(you, Duration::ZERO).await.unwrap(), Some(Some(mark(7))));
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Its lease has run out.
    assert_eq!(one.lead_publishing(me, LEASE).await.unwrap(), Some(Some(mark(7))));
}

pub(crate) async fn events_are_left_until_they_are_published(fresh: &Fresh) {
    let ledger = &fresh.ledger;
    let (owner, other, me) = (OwnerId::fresh(), OwnerId::fresh(), Uuid::new_v4());
    ledger.lead_publishing(me, LEASE).await.unwrap();
    in_state(ledger, owner, State::Succeeded).await;
    in_state(ledger, other, State::Cancelled).await;
    let all = ledger.unpublished(1000).await.unwrap();
    let (mine, others) = (numbers(&all, owner), numbers(&all, other));
    assert_eq!((mine.len(), others.len()), (3, 2));
    assert!(mine.is_sorted());
    assert!(ledger.published(me, LEASE, BTreeMap::from([(owner, mine[1])]), mark(2)).await.unwrap());
    // A late word of what was published before takes nothing back.
    assert!(ledger.published(me, LEASE, BTreeMap::from([(owner, mine[0])]), mark(2)).await.unwrap());
    assert_eq!(numbers(&ledger.unpublished(1000).await.unwrap(), owner), mine[2..]);
    let heads = BTreeMap::from([(owner, mine[2]), (other, others[1])]);
    assert!(ledger.published(me, LEASE, heads, mark(5)).await.unwrap());
    assert_eq!(numbers(&ledger.unpublished(1000).await.unwrap(), other), [0; 0]);
    // Whoever does not publish cannot start it over.
    ledger.publish_again(Uuid::new_v4(), mark(0)).await.unwrap();
    assert!(ledger.unpublished(1000).await.unwrap().is_empty());
    ledger.publish_again(me, mark(0)).await.unwrap();
    let again = ledger.unpublished(1000).await.unwrap();
    assert_eq!((numbers(&again, owner), numbers(&again, other)), (mine, others));
    assert_eq!(ledger.lead_publishing(me, LEASE).await.unwrap(), Some(Some(mark(0))));
}

pub(crate) async fn events_say_what_their_image_was_submitted_as(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let known = Submitted { object_key: "incoming/x/a".to_owned(), idempotency_key: Some("k".to_owned()) };
    let submission = Submission { submitted: Some(known.clone()), ..request(owner, vec![item(owner)]) };
    let Accepted::Created(created) = ledger.accept(submission).await.unwrap() else { panic!("not taken") };
    submit(ledger, owner).await;
    let events = ledger.unpublished(1000).await.unwrap();
    let of = |job| events.iter().find(|event| event.event.job == job).unwrap().submitted.clone();
    assert_eq!(of(created[0].1.id), Some(known));
    assert_eq!(events.iter().filter(|event| event.submitted.is_none()).count(), 1);
    assert!(ledger.delete_image(owner, created[0].0.id).await.unwrap().is_some());
    assert!(ledger.unpublished(1000).await.unwrap().iter().all(|event| event.submitted.is_none()));
}

pub(crate) async fn dead_letters_are_kept_within_bounds(fresh: &Fresh) {
    let ledger = &fresh.ledger;
    let letter = |deliveries| NewDeadLetter {
        id: DeadLetterId::fresh(),
        subject: "inkpool.submit.x".to_owned(),
        payload: "\u{0}{".to_owned(),
        deliveries,
        problem: json!({"code": "unavailable"}),
    };
    let first = letter(8);
    assert!(ledger.bury(first.clone(), 3).await.unwrap());
    assert!(ledger.bury(first.clone(), 3).await.unwrap(), "the same again is there once");
    assert!(ledger.bury(letter(9), 3).await.unwrap());
    assert!(ledger.bury(letter(10), 3).await.unwrap());
    assert!(!ledger.bury(letter(11), 3).await.unwrap(), "no more than three");
    let all = ledger.dead_letters(None, 10).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(ledger.dead_letters(Some(all[0].id), 1).await.unwrap(), all[1..2]);
    let kept = ledger.dead_letter(first.id).await.unwrap().unwrap();
    assert_eq!((kept.deliveries, &kept.problem), (8, &first.problem));
    assert!(ledger.unbury(first.id).await.unwrap() && !ledger.unbury(first.id).await.unwrap());
    assert_eq!(ledger.dead_letter(first.id).await.unwrap(), None);
    assert_eq!(ledger.prune_dead_letters(Duration::from_secs(60)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(ledger.prune_dead_letters(Duration::ZERO).await.unwrap(), 2);
    assert!(!ledger.owner_known(OwnerId::fresh()).await.unwrap());
}
