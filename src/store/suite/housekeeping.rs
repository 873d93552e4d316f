//! Counts, garbage, pruning, the end.

use std::time::Duration;

use super::*;

pub(crate) async fn counts_unfinished(ledger: &Arc<dyn Ledger>) {
    assert_eq!(ledger.counts().await.unwrap(), BTreeMap::new());
    let owner = OwnerId::fresh();
    for state in State::ALL {
        in_state(ledger, owner, state).await;
    }
    let (image, job) = item(owner);
    ledger.accept(request(owner, vec![(image, NewJob { lane: Some(Lane::Bulk), ..job })])).await.unwrap();
    submit(ledger, OwnerId::fresh()).await;
    let expected = BTreeMap::from([
        ((Lane::Interactive, State::Queued), 2),
        ((Lane::Interactive, State::Released), 1),
        ((Lane::Interactive, State::Running), 1),
        ((Lane::Bulk, State::Queued), 1),
    ]);
    assert_eq!(ledger.counts().await.unwrap(), expected);
    ledger.ping().await.unwrap();
}

pub(crate) async fn garbage_goes_when_removed(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut images = Vec::new();
    for _ in 0..3 {
        let job = submit(ledger, owner).await;
        ledger.delete_image(owner, job.image_id).await.unwrap();
        images.push(GarbageTarget::Original(job.image_id));
    }
    let first = ledger.garbage(2).await.unwrap();
    assert_eq!(first.iter().map(|garbage| garbage.target).collect::<Vec<_>>(), images[..2]);
    assert_eq!(ledger.garbage(2).await.unwrap(), first, "until it is removed");
    ledger.garbage_removed(&first.iter().map(|garbage| garbage.id).collect::<Vec<_>>()).await.unwrap();
    let rest = ledger.garbage(2).await.unwrap();
    assert_eq!(rest.iter().map(|garbage| garbage.target).collect::<Vec<_>>(), images[2..]);
    ledger.garbage_removed(&[]).await.unwrap();
}

pub(crate) async fn objects_are_listed_by_key(ledger: &Arc<dyn Ledger>) {
    assert_eq!(ledger.originals(None, 10).await.unwrap(), []);
    let mut done = Vec::new();
    for _ in 0..3 {
        done.push(in_state(ledger, OwnerId::fresh(), State::Succeeded).await);
    }
    submit(ledger, OwnerId::fresh()).await;
    let first = ledger.originals(None, 3).await.unwrap();
    let images: Vec<_> = done.iter().map(|job| Stored::Original(job.image_id)).collect();
    assert_eq!(first.iter().map(|listed| listed.stored.clone()).collect::<Vec<_>>(), images);
    assert_eq!((first[0].size_bytes, first[0].sha256.as_str()), (5_000_000_000, "ab".repeat(32).as_str()));
    assert_eq!(ledger.originals(Some(done[2].image_id), 3).await.unwrap().len(), 1);
    let output = |job: &JobRow, ordinal: i64, name: &str| {
        let stored = Stored::Output { job: job.id, start: job.starts, ordinal, name: name.to_owned() };
        Listed { stored, size_bytes: 12, sha256: "cd".repeat(32) }
    };
    let all: Vec<_> = done.iter().flat_map(|job| [output(job, 0, "clean.png"), output(job, 1, "clean.webp")]).collect();
    assert_eq!(ledger.outputs(None, 10).await.unwrap(), all);
    assert_eq!(ledger.outputs(Some((done[0].id, 0)), 2).await.unwrap(), all[1..3]);
}

pub(crate) async fn known_starts(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    assert!(ledger.image_known(job.image_id).await.unwrap());
    assert!(!ledger.image_known(ImageId::fresh()).await.unwrap());
    let known = |start| ledger.start_known(job.id, start);
    assert!(!known(0).await.unwrap() && !known(1).await.unwrap());
    let first = start(ledger, &job).await;
    assert!(known(first).await.unwrap(), "its outputs are on their way");
    ledger.finish(job.id, first, Finish::Retry { error: error(), run_at_ms: 0 }).await.unwrap();
    assert!(!known(first).await.unwrap());
    let second = start(ledger, &job).await;
    assert!(!known(first).await.unwrap() && known(second).await.unwrap());
    ledger.finish(job.id, second, success()).await.unwrap();
    assert!(!known(first).await.unwrap() && known(second).await.unwrap());
    let failed = in_state(ledger, owner, State::Failed).await;
    assert!(!ledger.start_known(failed.id, failed.starts).await.unwrap());
}

pub(crate) async fn prune_keeps_what_is_young(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let items = (0..700).map(|_| item(owner)).collect();
    let idempotency = Some(Idempotency { key: "k".to_owned(), fingerprint: "f".to_owned(), answer: json!(1) });
    ledger.accept(Submission { idempotency, ..request(owner, items) }).await.unwrap();
    let at_ms = ledger.events_after(owner, None, 0, 1).await.unwrap()[0].at_ms;
    let keep = Duration::from_secs(3600);
    assert_eq!(ledger.prune(at_ms + 3_600_000, keep).await.unwrap(), 0, "exactly as old as is kept");
    assert!(ledger.recall(owner, "k").await.unwrap().is_some());
    let last = ledger.events_after(owner, None, 0, 1000).await.unwrap().last().unwrap().seq;
    assert_eq!(ledger.prune(at_ms + 3_600_001, keep).await.unwrap(), 701);
    assert_eq!(ledger.events_after(owner, None, 0, 1000).await.unwrap(), []);
    assert!(ledger.recall(owner, "k").await.unwrap().is_none());
    assert_eq!(waiting_ids(ledger).await.len(), 700, "jobs stay");
    submit(ledger, owner).await;
    assert!(ledger.events_after(owner, None, 0, 1).await.unwrap()[0].seq > last, "numbers are not given again");
}

pub(crate) async fn typical_duration_is_a_median(ledger: &Arc<dyn Ledger>) {
    assert_eq!(ledger.typical_duration_ms().await.unwrap(), None);
    let owner = OwnerId::fresh();
    in_state(ledger, owner, State::Failed).await;
    assert_eq!(ledger.typical_duration_ms().await.unwrap(), None);
    let mut durations = Vec::new();
    for wait_ms in [0, 0, 0, 400] {
        let job = in_state(ledger, owner, State::Running).await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        ledger.finish(job.id, job.starts, success()).await.unwrap();
        let job = row(ledger, &job).await;
        durations.push(u64::try_from(job.finished_at_ms.unwrap() - job.started_at_ms.unwrap()).unwrap());
    }
    durations.sort_unstable();
    assert_eq!(ledger.typical_duration_ms().await.unwrap(), Some(durations[2]));
}

pub(crate) async fn closed_takes_nothing(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    ledger.close().await;
    let refused = ledger.accept(request(owner, vec![item(owner)])).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(ledger.release(job.id, "node-a").await, Err(LedgerError::Unavailable(_))));
    assert!(matches!(ledger.ping().await, Err(LedgerError::Unavailable(_))));
    ledger.close().await;
}

pub(crate) async fn throughput_counts_what_succeeded(ledger: &Arc<dyn Ledger>) {
    let minute = Duration::from_secs(60);
    assert_eq!(ledger.throughput(minute, 3).await.unwrap(), [0, 0, 0]);
    let owner = OwnerId::fresh();
    for state in [State::Succeeded, State::Failed, State::Succeeded, State::Queued] {
        in_state(ledger, owner, state).await;
    }
    in_state(ledger, OwnerId::fresh(), State::Succeeded).await;
    let counts = ledger.throughput(minute, 3).await.unwrap();
    assert_eq!((counts.len(), counts[2]), (3, 3), "{counts:?}");
}
