//! Events: what is watched is what can be read again.

use super::*;

pub(crate) async fn replay_equals_watch(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut watch = ledger.watch();
    let jobs = futures::future::join_all((0..10).map(|_| in_state(ledger, owner, State::Succeeded))).await;
    let replayed = ledger.events_after(owner, None, 0, 1000).await.unwrap();
    assert_eq!(replayed.len(), 3 * jobs.len());
    assert!(replayed.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    for event in &replayed {
        assert_eq!(&watch.recv().await.unwrap(), event);
        assert_eq!(event.body["state"], event.kind.as_str());
        assert_eq!(event.body["id"], event.job.to_string());
    }
    let middle = replayed[12].seq;
    assert_eq!(ledger.events_after(owner, None, middle, 5).await.unwrap(), replayed[13..18]);
    assert_eq!(ledger.events_after(owner, None, replayed[29].seq, 5).await.unwrap(), []);
}

pub(crate) async fn only_own_and_of_one_job(ledger: &Arc<dyn Ledger>) {
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let mine = in_state(ledger, owner, State::Failed).await;
    in_state(ledger, other, State::Failed).await;
    in_state(ledger, owner, State::Cancelled).await;
    let all = ledger.events_after(owner, None, 0, 100).await.unwrap();
    assert!(all.iter().all(|event| event.owner == owner));
    assert_eq!(all.len(), 5);
    let of_one = ledger.events_after(owner, Some(mine.id), all[0].seq, 100).await.unwrap();
    assert_eq!(of_one, all[1..3]);
    assert_eq!(of_one[1].body["error"]["code"], "fault");
}
