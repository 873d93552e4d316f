//! Events on their way to programs outside: who publishes, and what is left to publish.

use std::collections::BTreeMap;

use super::*;
use crate::store::producers::{StreamMark, Unpublished};

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
