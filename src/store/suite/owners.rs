//! What owners see and change, and that it is theirs alone.

use super::*;

pub(crate) async fn others_see_nothing(ledger: &Arc<dyn Ledger>) {
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let done = in_state(ledger, owner, State::Succeeded).await;
    let failed = in_state(ledger, owner, State::Failed).await;
    let queued = submit(ledger, owner).await;
    assert!(ledger.image(other, done.image_id).await.unwrap().is_none());
    assert!(ledger.job(other, done.id).await.unwrap().is_none());
    assert_eq!(ledger.files(other, done.image_id).await.unwrap(), []);
    assert_eq!(ledger.images(other, None, 10).await.unwrap(), []);
    assert_eq!(ledger.jobs(other, JobFilter::default(), None, 10).await.unwrap(), []);
    assert!(ledger.cancel(other, queued.id).await.unwrap().is_none());
    assert!(ledger.retry(other, failed.id, limits()).await.unwrap().is_none());
    assert!(ledger.delete_image(other, done.image_id).await.unwrap().is_none());
    assert_eq!(ledger.events_after(other, Some(done.id), 0, 10).await.unwrap(), []);
    assert_eq!(ledger.events_after(other, None, 0, 10).await.unwrap(), []);
    assert_eq!(row(ledger, &queued).await, queued);
    assert_eq!(ledger.files(owner, done.image_id).await.unwrap().len(), 2);
}

pub(crate) async fn lists_by_key_set(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut jobs = Vec::new();
    for index in 0..7 {
        jobs.push(in_state(ledger, owner, if index % 2 == 0 { State::Queued } else { State::Failed }).await);
    }
    jobs.reverse();
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = ledger.jobs(owner, JobFilter::default(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        assert!(page.len() <= 3);
        pages.extend(page);
        // What comes meanwhile does not move the pages.
        submit(ledger, owner).await;
    }
    assert_eq!(pages, jobs);
    let failed = JobFilter { state: Some(State::Failed) };
    let ids = |jobs: &[JobRow]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(&ledger.jobs(owner, failed, None, 2).await.unwrap()), [jobs[1].id, jobs[3].id]);
    assert_eq!(ids(&ledger.jobs(owner, failed, Some(jobs[3].id), 2).await.unwrap()), [jobs[5].id]);

    let images = ledger.images(owner, Some(jobs[0].image_id), 4).await.unwrap();
    let expected: Vec<ImageId> = jobs[1..5].iter().map(|job| job.image_id).collect();
    assert_eq!(images.iter().map(|image| image.id).collect::<Vec<_>>(), expected);
    assert!(images.iter().zip(&jobs[1..]).all(|(image, job)| image.job_ids == [job.id]));
    assert_eq!(ledger.images(owner, None, 1).await.unwrap().len(), 1);
    assert_eq!(ledger.jobs(owner, JobFilter::default(), None, 0).await.unwrap(), []);
}

pub(crate) async fn images_are_found(ledger: &Arc<dyn Ledger>) {
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let mut ids = Vec::new();
    for (name, state) in [("Ärger 1.PNG", State::Succeeded), ("ärger%.png", State::Failed), ("b.png", State::Queued)]
    {
        let (image, job) = item(owner);
        ids.push(image.id);
        let image = NewImage { filename: name.to_owned(), ..image };
        let Accepted::Created(created) = ledger.accept(request(owner, vec![(image, job)])).await.unwrap() else {
            panic!("refused")
        };
        bring(ledger, &created[0].1, state).await;
    }
    in_state(ledger, other, State::Failed).await;
    let find = async |owner, name: &str, states: &[State], verdicts: &[&str], before| {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        let verdicts = verdicts.iter().map(|&verdict| verdict.to_owned()).collect();
        let filter = ImageFilter { name, states: states.to_vec(), verdicts };
        let found = ledger.find_images(owner, filter, before, 10).await.unwrap();
        found.iter().map(|image| image.id).collect::<Vec<_>>()
    };
    assert_eq!(find(owner, "ÄRGER", &[], &[], None).await, [ids[1], ids[0]]);
    assert_eq!(find(owner, "ÄRGER", &[], &[], Some(ids[1])).await, [ids[0]]);
    assert_eq!(find(owner, "%", &[], &[], None).await, [ids[1]]);
    assert_eq!(find(owner, "", &[State::Failed, State::Queued], &[], None).await, [ids[2], ids[1]]);
    assert_eq!(find(owner, "r", &[State::Succeeded], &[], None).await, [ids[0]]);
    assert_eq!(find(owner, "", &[], &["review", "pass"], None).await, [ids[0]], "as suite::success says");
    assert_eq!(find(owner, "", &[], &["review"], None).await, []);
    assert_eq!(find(owner, "", &[], &[], None).await.len(), 3);
    assert_eq!(find(other, "ärger", &[], &[], None).await, []);
    let images = ledger.images(owner, None, 10).await.unwrap();
    let shown: Vec<_> = images.iter().map(|image| (image.state, image.verdict.as_deref())).collect();
    assert_eq!(
        shown,
        [(Some(State::Queued), None), (Some(State::Failed), None), (Some(State::Succeeded), Some("pass"))]
    );
}

pub(crate) async fn files_of_the_last_success(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let first = in_state(ledger, owner, State::Succeeded).await;
    let again = |preset: &str| NewJob { image_id: first.image_id, preset: preset.to_owned(), ..item(owner).1 };
    let Some(Admission::Created(second)) = ledger.process_again(again("photo"), limits()).await.unwrap() else {
        panic!("not created")
    };
    let files_of = || async { ledger.files(owner, first.image_id).await.unwrap() };
    assert!(files_of().await.iter().all(|file| file.job == first.id), "until the new one has ended");
    let start = start(ledger, &second).await;
    let files = vec![new_file("full.webp")];
    let measured = Measured { width_px: 1, height_px: 2, pages_count: 1 };
    // Two ends within one millisecond would leave the order to the identifiers, which is as good.
    ledger.finish(second.id, start, Finish::Succeeded { files, measured, gate: None }).await.unwrap();
    let visible = files_of().await;
    assert_eq!(visible, [FileRow { job: second.id, start, file: new_file("full.webp") }]);
    let Some(Admission::Created(third)) = ledger.process_again(again("document"), limits()).await.unwrap() else {
        panic!("not created")
    };
    bring(ledger, &third, State::Failed).await;
    assert_eq!(files_of().await, visible, "a failure takes nothing away");
}

pub(crate) async fn cancel_answers(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    for state in State::ALL {
        let job = in_state(ledger, owner, state).await;
        let answer = ledger.cancel(owner, job.id).await.unwrap().unwrap();
        let now = row(ledger, &job).await;
        match (state, answer) {
            (State::Queued | State::Released, Cancelled::Now(told)) => {
                assert_eq!((now.state, &told), (State::Cancelled, &now));
                assert!(now.finished_at_ms.is_some());
            }
            (State::Running, Cancelled::Asked(told)) => assert_eq!(told, now),
            (State::Succeeded | State::Failed | State::Cancelled, Cancelled::TooLate(told)) => {
                assert_eq!((&told, &now), (&job, &job));
            }
            (state, answer) => panic!("{state}: {answer:?}"),
        }
    }
    assert_eq!(waiting_ids(ledger).await, []);
    assert!(ledger.cancel(owner, JobId::fresh()).await.unwrap().is_none());
}

pub(crate) async fn retry_gives_a_fresh_budget(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    for _ in 0..3 {
        let start = start(ledger, &job).await;
        ledger.finish(job.id, start, Finish::Lost { crash: crash(), run_at_ms: 0 }).await.unwrap();
    }
    assert_eq!(row(ledger, &job).await.state, State::Failed);
    let Some(Retried::Now(again)) = ledger.retry(owner, job.id, limits()).await.unwrap() else { panic!("refused") };
    assert_eq!((again.state, again.attempt, again.crashes, again.starts), (State::Queued, 0, 0, 3));
    assert_eq!((&again.error, &again.stage, again.finished_at_ms), (&None, &None, None));
    assert_eq!(again, row(ledger, &job).await);
    assert_eq!(waiting_ids(ledger).await, [job.id]);
    assert_eq!(start(ledger, &job).await, 4, "starts are never given twice");
    assert!(matches!(ledger.retry(owner, job.id, limits()).await.unwrap(), Some(Retried::WrongState(_))));

    let asked = in_state(ledger, owner, State::Running).await;
    ledger.cancel(owner, asked.id).await.unwrap();
    ledger.finish(asked.id, asked.starts, Finish::Cancelled).await.unwrap();
    let Some(Retried::Now(again)) = ledger.retry(owner, asked.id, limits()).await.unwrap() else { panic!("refused") };
    assert!(!again.cancel_requested, "the old wish is forgotten");
    assert!(ledger.retry(owner, JobId::fresh(), limits()).await.unwrap().is_none());
}

pub(crate) async fn deletion_takes_everything(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let kept = in_state(ledger, owner, State::Succeeded).await;
    let done = in_state(ledger, owner, State::Succeeded).await;
    let mut more = Vec::new();
    for state in [State::Queued, State::Released, State::Running] {
        let new = NewJob { image_id: done.image_id, ..item(owner).1 };
        let Some(Admission::Created(job)) = ledger.process_again(new, limits()).await.unwrap() else {
            panic!("not created")
        };
        bring(ledger, &job, state).await;
        more.push(job);
    }
    let running = more[2].id;
    let deleted = ledger.delete_image(owner, done.image_id).await.unwrap().unwrap();
    assert_eq!(deleted.running, [running]);
    assert!(ledger.image(owner, done.image_id).await.unwrap().is_none());
    assert!(!ledger.image_known(done.image_id).await.unwrap());
    for job in more.iter().chain([&done]) {
        assert!(ledger.job(owner, job.id).await.unwrap().is_none());
        assert!(!ledger.start_known(job.id, 1).await.unwrap());
    }
    assert_eq!(ledger.files(owner, done.image_id).await.unwrap(), []);
    assert_eq!(waiting_ids(ledger).await, []);
    let targets: Vec<GarbageTarget> =
        ledger.garbage(10).await.unwrap().into_iter().map(|garbage| garbage.target).collect();
    let expected =
        [GarbageTarget::Outputs(done.id), GarbageTarget::Outputs(running), GarbageTarget::Original(done.image_id)];
    assert_eq!(targets, expected, "what never started has no outputs");
    // Whoever watches sees an end.
    assert_eq!(kinds(ledger, owner, more[0].id).await, ["queued", "cancelled"]);
    assert_eq!(kinds(ledger, owner, running).await, ["queued", "running", "cancelled"]);
    assert_eq!(kinds(ledger, owner, done.id).await, ["queued", "running", "succeeded"]);
    // The slot that still works on it is told.
    assert_eq!(ledger.finish(running, 1, success()).await.unwrap(), Finished::Stale);
    assert!(!ledger.release(more[0].id, "node-a").await.unwrap());
    assert!(matches!(ledger.claim(more[1].id, 0, holder()).await.unwrap(), Claim::Gone(None)));
    assert!(ledger.delete_image(owner, done.image_id).await.unwrap().is_none());
    assert_eq!(ledger.files(owner, kept.image_id).await.unwrap().len(), 2);
    assert_eq!(row(ledger, &kept).await, kept);
}
