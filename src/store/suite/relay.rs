//! What waits, in which order, and what becomes of it on the way to the bus.

use super::*;

pub(crate) async fn oldest_of_each_owner(ledger: &Arc<dyn Ledger>) {
    let (many, one) = (OwnerId::fresh(), OwnerId::fresh());
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(submit(ledger, many).await.id);
    }
    let late = submit(ledger, one).await.id;
    let (image, job) = item(many);
    let bulk = job.id;
    ledger.accept(request(many, vec![(image, NewJob { lane: Some(Lane::Bulk), ..job })])).await.unwrap();

    let waiting = ledger.waiting(FAR, 2, 10).await.unwrap();
    let of = |lane, owner| {
        let mine = waiting.iter().filter(|job| job.lane == lane && job.owner == owner);
        mine.map(|job| job.job).collect::<Vec<_>>()
    };
    assert_eq!(of(Lane::Interactive, many), jobs[..2]);
    assert_eq!(of(Lane::Interactive, one), [late]);
    assert_eq!(of(Lane::Bulk, many), [bulk]);
    assert_eq!(waiting.len(), 4);
    assert!(waiting.iter().all(|job| job.starts == 0 && job.owner_in_flight == 0));
    assert!(waiting.windows(2).all(|pair| pair[0].lane != pair[1].lane || pair[0].since_ms <= pair[1].since_ms));
}

pub(crate) async fn owners_with_least_in_flight_first(ledger: &Arc<dyn Ledger>) {
    let (busy, busier, newcomer) = (OwnerId::fresh(), OwnerId::fresh(), OwnerId::fresh());
    for (owner, in_flight) in [(busier, 3), (busy, 2)] {
        for _ in 0..in_flight {
            let job = submit(ledger, owner).await;
            ledger.release(job.id, "node-a").await.unwrap();
        }
        submit(ledger, owner).await;
    }
    let running = ledger.jobs(busy, JobFilter::default(), None, 10).await.unwrap();
    let released = running.iter().find(|job| job.state == State::Released).unwrap();
    ledger.claim(released.id, 0, holder()).await.unwrap();
    submit(ledger, newcomer).await;

    let in_flight =
        |waiting: &[Waiting], owner| waiting.iter().find(|job| job.owner == owner).map(|job| job.owner_in_flight);
    let all = ledger.waiting(FAR, 10, 10).await.unwrap();
    assert_eq!(in_flight(&all, busier), Some(3));
    assert_eq!(in_flight(&all, busy), Some(2));
    assert_eq!(in_flight(&all, newcomer), Some(0));
    // The last to come is seen even where only one owner is looked at.
    let first = ledger.waiting(FAR, 10, 1).await.unwrap();
    assert_eq!(first.iter().map(|job| job.owner).collect::<Vec<_>>(), [newcomer]);
    let two = ledger.waiting(FAR, 10, 2).await.unwrap();
    assert_eq!((in_flight(&two, busy), in_flight(&two, busier)), (Some(2), None));
}

pub(crate) async fn due_times(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    assert_eq!(ledger.next_due(0).await.unwrap(), None);
    let job = submit(ledger, owner).await;
    let start = start(ledger, &job).await;
    assert_eq!(ledger.next_due(0).await.unwrap(), None, "a job that runs is not due");
    let run_at_ms = job.created_at_ms + 1_000_000;
    ledger.finish(job.id, start, Finish::Retry { error: error(), run_at_ms }).await.unwrap();
    assert_eq!(ledger.waiting(run_at_ms - 1, 10, 10).await.unwrap(), []);
    let due = ledger.waiting(run_at_ms, 10, 10).await.unwrap();
    assert_eq!((due.len(), due[0].job, due[0].starts, due[0].since_ms), (1, job.id, 1, run_at_ms));
    assert_eq!(ledger.next_due(run_at_ms - 1).await.unwrap(), Some(run_at_ms));
    assert_eq!(ledger.next_due(run_at_ms).await.unwrap(), None, "only what lies ahead");
    // A delayed job does not stand in the way of the owner's others.
    let second = submit(ledger, owner).await;
    for per_owner in [1, 10] {
        let due = ledger.waiting(run_at_ms - 1, per_owner, 1).await.unwrap();
        assert_eq!(due.iter().map(|job| job.job).collect::<Vec<_>>(), [second.id]);
    }
}

pub(crate) async fn release_and_back(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    assert!(!ledger.unrelease(job.id).await.unwrap());
    assert!(ledger.release(job.id, "node-a").await.unwrap());
    assert!(!ledger.release(job.id, "node-a").await.unwrap(), "released once");
    let released = Released { job: job.id, lane: job.lane, starts: 0 };
    assert_eq!(ledger.released(10).await.unwrap(), [released]);
    assert_eq!(ledger.released(0).await.unwrap(), []);
    assert_eq!(row(ledger, &job).await.state, State::Released);
    assert_eq!(waiting_ids(ledger).await, []);
    assert!(ledger.unrelease(job.id).await.unwrap());
    let back = row(ledger, &job).await;
    assert_eq!(back, job, "it is as it was");
    assert_eq!(ledger.released(10).await.unwrap(), []);
    assert_eq!(waiting_ids(ledger).await, [job.id]);
    assert_eq!(kinds(ledger, owner, job.id).await, ["queued"], "the owner sees nothing of it");
    assert!(!ledger.release(JobId::fresh(), "node-a").await.unwrap());
}

pub(crate) async fn unrelease_all_takes_only_released(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut jobs = Vec::new();
    for state in State::ALL {
        jobs.push(in_state(ledger, owner, state).await);
    }
    let other = in_state(ledger, OwnerId::fresh(), State::Released).await;
    let elsewhere = submit(ledger, owner).await;
    assert!(ledger.release(elsewhere.id, "node-b").await.unwrap());
    assert_eq!(ledger.unrelease_all("node-a").await.unwrap(), 2);
    assert_eq!(row(ledger, &other).await.state, State::Queued);
    for before in &jobs {
        let expected = if before.state == State::Released { State::Queued } else { before.state };
        assert_eq!(row(ledger, before).await.state, expected);
    }
    assert_eq!(waiting_ids(ledger).await.len(), 3);
    assert_eq!(ledger.unrelease_all("node-a").await.unwrap(), 0);
    assert_eq!(row(ledger, &elsewhere).await.state, State::Released, "what another node has on its bus stays");
    assert_eq!(ledger.unrelease_all("node-b").await.unwrap(), 1);
}
