//! Requests are accepted whole, once, and within the bounds.

use super::*;

fn keyed(owner: OwnerId, key: &str, fingerprint: &str) -> Submission {
    let items = vec![item(owner)];
    let answer = json!({"image": items[0].0.id});
    let idempotency = Some(Idempotency { key: key.to_owned(), fingerprint: fingerprint.to_owned(), answer });
    Submission { idempotency, ..request(owner, items) }
}

pub(crate) async fn one_request_is_whole(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let items = vec![item(owner), item(owner), item(owner)];
    let Accepted::Created(created) = ledger.accept(request(owner, items.clone())).await.unwrap() else {
        panic!("not created")
    };
    assert_eq!(created.len(), 3);
    for ((new_image, new_job), (image, job)) in items.iter().zip(&created) {
        assert_eq!((image.id, job.id, job.image_id), (new_image.id, new_job.id, new_image.id));
        assert_eq!(image.job_ids, [job.id]);
        assert_eq!(ledger.image(owner, image.id).await.unwrap().as_ref(), Some(image));
        assert_eq!(&row(ledger, job).await, job);
        let events = ledger.events_after(owner, Some(job.id), 0, 10).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].kind.as_str(), &events[0].body), ("queued", &job_object(job)));
    }
    let waiting = waiting_ids(ledger).await;
    assert_eq!(waiting, created.iter().map(|(_, job)| job.id).collect::<Vec<_>>());
}

pub(crate) async fn jobs_come_back_as_written(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let (mut image, job) = item(owner);
    image.filename = "Seite „1“ 📄.png".to_owned();
    (image.width_px, image.height_px, image.pages_count) = (Some(u32::MAX), Some(1), Some(3));
    ledger.accept(request(owner, vec![(image.clone(), job.clone())])).await.unwrap();
    let stored = ledger.image(owner, image.id).await.unwrap().unwrap();
    assert_eq!((stored.owner, &stored.filename, &stored.sha256), (owner, &image.filename, &image.sha256));
    assert_eq!((stored.size_bytes, &stored.content_type), (image.size_bytes, &image.content_type));
    assert_eq!((stored.width_px, stored.height_px, stored.pages_count), (Some(u32::MAX), Some(1), Some(3)));
    let stored = ledger.job(owner, job.id).await.unwrap().unwrap();
    assert_eq!((&stored.preset, &stored.spec, stored.lane), (&job.preset, &job.spec, Lane::Interactive));
    assert_eq!((stored.state, stored.starts, stored.attempt, stored.crashes), (State::Queued, 0, 0, 0));
    assert_eq!((stored.attempts_max, stored.crashes_max), (5, 3));
    assert_eq!((stored.started_at_ms, stored.finished_at_ms, stored.error), (None, None, None));
    assert!(!stored.cancel_requested);
}

pub(crate) async fn a_key_is_answered_once(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    assert!(ledger.recall(owner, "k").await.unwrap().is_none());
    let first = keyed(owner, "k", "f1");
    let answer = first.idempotency.as_ref().unwrap().answer.clone();
    assert!(matches!(ledger.accept(first).await.unwrap(), Accepted::Created(_)));
    let Accepted::Replayed(again) = ledger.accept(keyed(owner, "k", "f2")).await.unwrap() else {
        panic!("written twice")
    };
    assert_eq!((again.fingerprint.as_str(), &again.answer), ("f1", &answer));
    assert_eq!(ledger.recall(owner, "k").await.unwrap().unwrap().answer, answer);
    assert_eq!(waiting_ids(ledger).await.len(), 1);
    // Keys are an owner's own.
    assert!(matches!(ledger.accept(keyed(OwnerId::fresh(), "k", "f1")).await.unwrap(), Accepted::Created(_)));
    assert!(ledger.recall(OwnerId::fresh(), "k").await.unwrap().is_none());
}

pub(crate) async fn a_key_raced_for_is_won_once(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let answers = futures::future::join_all((0..16).map(|_| ledger.accept(keyed(owner, "k", "f")))).await;
    let created = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Created(_)))).count();
    let replayed = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Replayed(_)))).count();
    assert_eq!((created, replayed), (1, 15));
    assert_eq!(ledger.images(owner, None, 100).await.unwrap().len(), 1);
}

pub(crate) async fn a_full_queue_refuses(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let tight = QueueLimits { queue_jobs_max: 3, ..limits() };
    let ask = |count: usize| {
        let items = (0..count).map(|_| item(owner)).collect();
        ledger.accept(Submission { limits: tight, ..request(owner, items) })
    };
    assert!(matches!(ask(2).await.unwrap(), Accepted::Created(_)));
    let Accepted::QueueFull(full) = ask(2).await.unwrap() else { panic!("taken") };
    assert_eq!(full, QueueFull { limit: 3, measured: 2 });
    assert_eq!(waiting_ids(ledger).await.len(), 2, "all or nothing");
    assert!(matches!(ask(1).await.unwrap(), Accepted::Created(_)));

    let image = ledger.images(owner, None, 1).await.unwrap().remove(0);
    let again = NewJob { image_id: image.id, ..item(owner).1 };
    let refused = ledger.process_again(again.clone(), tight).await.unwrap().unwrap();
    assert!(matches!(refused, Admission::QueueFull(QueueFull { limit: 3, measured: 3 })));
    // What runs is unfinished, what has ended is not.
    let job = row(ledger, &ledger.job(owner, image.job_ids[0]).await.unwrap().unwrap()).await;
    let start = start(ledger, &job).await;
    assert!(matches!(ledger.process_again(again.clone(), tight).await.unwrap(), Some(Admission::QueueFull(_))));
    ledger.finish(job.id, start, Finish::Failed(error())).await.unwrap();
    assert!(matches!(ledger.process_again(again, tight).await.unwrap(), Some(Admission::Created(_))));
    assert!(matches!(ledger.retry(owner, job.id, tight).await.unwrap(), Some(Retried::QueueFull(_))));
}

pub(crate) async fn lanes_follow_the_load(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let few = QueueLimits { bulk_from_jobs: 2, ..limits() };
    let undecided = |owner| {
        let (image, job) = item(owner);
        (image, NewJob { lane: None, ..job })
    };
    let items = (0..4).map(|_| undecided(owner)).collect();
    let Accepted::Created(created) = ledger.accept(Submission { limits: few, ..request(owner, items) }).await.unwrap()
    else {
        panic!("not created")
    };
    let lanes: Vec<Lane> = created.iter().map(|(_, job)| job.lane).collect();
    assert_eq!(lanes, [Lane::Interactive, Lane::Interactive, Lane::Bulk, Lane::Bulk]);
    let chosen = Submission { limits: few, ..request(owner, vec![item(owner)]) };
    let Accepted::Created(created) = ledger.accept(chosen).await.unwrap() else { panic!("not created") };
    assert_eq!(created[0].1.lane, Lane::Interactive, "as asked");
    let other = OwnerId::fresh();
    let first = Submission { limits: few, ..request(other, vec![undecided(other)]) };
    let Accepted::Created(created) = ledger.accept(first).await.unwrap() else { panic!("not created") };
    assert_eq!(created[0].1.lane, Lane::Interactive, "the load of others does not count");
}

pub(crate) async fn a_failed_request_leaves_nothing(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let (image, job) = item(owner);
    let (other_image, other_job) = item(owner);
    let twice = (NewImage { id: ImageId::fresh(), ..other_image }, NewJob { id: job.id, ..other_job });
    let twice = (twice.0.clone(), NewJob { image_id: twice.0.id, ..twice.1 });
    let mut requests = vec![request(owner, vec![(image.clone(), job), twice])];
    // The others may share its commit.
    requests.extend((0..8).map(|_| request(owner, vec![item(owner)])));
    let mut watch = ledger.watch();
    let answers = futures::future::join_all(requests.into_iter().map(|request| ledger.accept(request))).await;
    assert!(matches!(answers[0], Err(LedgerError::Corrupt(_))), "{:?}", answers[0]);
    assert!(answers[1..].iter().all(|answer| matches!(answer, Ok(Accepted::Created(_)))));
    assert!(!ledger.image_known(image.id).await.unwrap());
    assert_eq!(waiting_ids(ledger).await.len(), 8);
    let events = ledger.events_after(owner, None, 0, 100).await.unwrap();
    assert_eq!(events.len(), 8);
    for event in events {
        assert_eq!(watch.recv().await.unwrap(), event, "an event of what was undone was sent");
    }
}

pub(crate) async fn a_caller_that_goes_away_leaves_nothing_half_done(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    for round in 0..60 {
        let items = (0..5).map(|_| item(owner)).collect();
        let accept = {
            let ledger = Arc::clone(ledger);
            tokio::spawn(async move { ledger.accept(request(owner, items)).await })
        };
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        accept.abort();
        drop(accept.await);
    }
    // The writer goes on, and each request is there whole or not at all. What was handed over is made before the end.
    ledger.accept(request(owner, vec![item(owner)])).await.unwrap();
    let mut jobs = ledger.jobs(owner, JobFilter::default(), None, 1000).await.unwrap();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let later = ledger.jobs(owner, JobFilter::default(), None, 1000).await.unwrap();
        if later.len() == std::mem::replace(&mut jobs, later).len() {
            break;
        }
    }
    assert_eq!(jobs.len() % 5, 1, "{} jobs", jobs.len());
    assert_eq!(ledger.events_after(owner, None, 0, 1000).await.unwrap().len(), jobs.len());
    assert_eq!(ledger.waiting(FAR, 1000, 10).await.unwrap().len(), jobs.len());
}

pub(crate) async fn process_again_needs_an_image(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let first = in_state(ledger, owner, State::Succeeded).await;
    let again = NewJob { image_id: first.image_id, preset: "photo".to_owned(), ..item(owner).1 };
    let Some(Admission::Created(job)) = ledger.process_again(again.clone(), limits()).await.unwrap() else {
        panic!("not created")
    };
    assert_eq!((job.preset.as_str(), job.state, job.image_id), ("photo", State::Queued, first.image_id));
    let image = ledger.image(owner, first.image_id).await.unwrap().unwrap();
    assert_eq!(image.job_ids, [first.id, job.id]);
    assert_eq!(waiting_ids(ledger).await, [job.id]);
    assert_eq!(kinds(ledger, owner, job.id).await, ["queued"]);
    let stranger = NewJob { id: JobId::fresh(), owner: OwnerId::fresh(), ..again.clone() };
    assert!(ledger.process_again(stranger, limits()).await.unwrap().is_none());
    let unknown = NewJob { id: JobId::fresh(), image_id: ImageId::fresh(), ..again };
    assert!(ledger.process_again(unknown, limits()).await.unwrap().is_none());
}
