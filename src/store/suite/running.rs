//! Claims, ends and losses of attempts.

use super::*;

pub(crate) async fn one_claim_wins(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    for _ in 0..10 {
        let job = in_state(ledger, owner, State::Released).await;
        let claims = futures::future::join_all((0..8).map(|_| ledger.claim(job.id, 0, holder()))).await;
        let won = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Won { .. }))).count();
        let gone = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Gone(Some(State::Running))))).count();
        assert_eq!((won, gone), (1, 7));
        assert_eq!(row(ledger, &job).await.starts, 1);
    }
    assert!(matches!(ledger.claim(JobId::fresh(), 0, holder()).await.unwrap(), Claim::Gone(None)));
}

/// The delivery may come before the relay has noted the release.
pub(crate) async fn a_claim_may_overtake_the_release(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    assert!(matches!(ledger.claim(job.id, 0, holder()).await.unwrap(), Claim::Won { .. }));
    assert_eq!(waiting_ids(ledger).await, []);
    assert!(!ledger.release(job.id, "node-a").await.unwrap());
    assert_eq!(row(ledger, &job).await.state, State::Running);
    assert_eq!(kinds(ledger, owner, job.id).await, ["queued", "running"]);
}

pub(crate) async fn a_message_of_an_earlier_start_claims_nothing(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    let first = start(ledger, &job).await;
    ledger.finish(job.id, first, Finish::Retry { error: error(), run_at_ms: FAR }).await.unwrap();
    // Delivered once more; the job waits for its time.
    assert!(matches!(ledger.claim(job.id, 0, holder()).await.unwrap(), Claim::Gone(Some(State::Queued))));
    ledger.release(job.id, "node-a").await.unwrap();
    assert!(matches!(ledger.claim(job.id, 0, holder()).await.unwrap(), Claim::Gone(Some(State::Released))));
    assert!(matches!(ledger.claim(job.id, 2, holder()).await.unwrap(), Claim::Gone(Some(State::Released))));
    assert!(matches!(ledger.claim(job.id, 1, holder()).await.unwrap(), Claim::Won { .. }));
}

pub(crate) async fn a_claim_starts_clean(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    let first = start(ledger, &job).await;
    ledger.finish(job.id, first, Finish::Lost { crash: crash(), run_at_ms: 0 }).await.unwrap();
    let between = row(ledger, &job).await;
    assert_eq!(between.error.as_ref().unwrap().signal.as_deref(), Some("SIGSEGV"), "why it waits again");
    ledger.release(job.id, "node-a").await.unwrap();
    let holder = Holder { node: "node-b".to_owned(), incarnation: "x".to_owned(), slot: 0, memory_bytes_max: None };
    let Claim::Won { job: won, image } = ledger.claim(job.id, 1, holder).await.unwrap() else { panic!("gone") };
    assert_eq!((won.state, won.starts, won.attempt, won.crashes), (State::Running, 2, 2, 1));
    assert_eq!((won.node.as_deref(), won.incarnation.as_deref(), won.slot), (Some("node-b"), Some("x"), Some(0)));
    assert_eq!((&won.error, &won.stage, won.progress), (&None, &None, 0.0));
    assert!(won.started_at_ms.unwrap() >= job.created_at_ms);
    assert_eq!(*won, row(ledger, &job).await);
    assert_eq!(Some(*image), ledger.image(owner, job.image_id).await.unwrap());
}

pub(crate) async fn success_publishes(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    let start = start(ledger, &job).await;
    assert_eq!(ledger.files(owner, job.image_id).await.unwrap(), []);
    assert_eq!(ledger.finish(job.id, start, success()).await.unwrap(), Finished::Now(State::Succeeded));
    let files = ledger.files(owner, job.image_id).await.unwrap();
    let expected = ["clean.png", "clean.webp"].map(|name| FileRow { job: job.id, start, file: new_file(name) });
    assert_eq!(files, expected);
    let image = ledger.image(owner, job.image_id).await.unwrap().unwrap();
    assert_eq!((image.width_px, image.height_px, image.pages_count), (Some(20), Some(10), Some(2)));
    let done = row(ledger, &job).await;
    assert_eq!((done.progress, &done.error, &done.gate), (1.0, &None, &Some(json!({"verdict": "pass"}))));
    assert!(done.finished_at_ms.unwrap() >= done.started_at_ms.unwrap());
    let events = ledger.events_after(owner, Some(job.id), 0, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["queued", "running", "succeeded"]);
    assert_eq!(events[2].body, job_object(&done));
}

pub(crate) async fn a_stale_finish_changes_nothing(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    let first = start(ledger, &job).await;
    ledger.finish(job.id, first, Finish::HandBack).await.unwrap();
    let second = start(ledger, &job).await;
    assert_eq!(second, first + 1, "the fence moves though the attempt was handed back");
    let before = row(ledger, &job).await;
    assert_eq!((before.attempt, before.starts), (1, 2));
    let ends = [
        success(),
        Finish::Retry { error: error(), run_at_ms: 0 },
        Finish::Lost { crash: crash(), run_at_ms: 0 },
        Finish::HandBack,
        Finish::Failed(error()),
        Finish::Cancelled,
    ];
    for end in ends {
        assert_eq!(ledger.finish(job.id, first, end).await.unwrap(), Finished::Stale);
        assert_eq!(row(ledger, &job).await, before);
    }
    assert_eq!(ledger.files(owner, job.image_id).await.unwrap(), []);
    assert_eq!(ledger.finish(job.id, second, success()).await.unwrap(), Finished::Now(State::Succeeded));
    assert_eq!(ledger.finish(job.id, second, success()).await.unwrap(), Finished::Stale, "only once");
    assert_eq!(ledger.finish(JobId::fresh(), 1, success()).await.unwrap(), Finished::Stale);
}

/// An outcome stands; what would lead to another attempt ends the job.
pub(crate) async fn a_cancel_that_comes_first(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let ends = [
        (success(), State::Succeeded),
        (Finish::Failed(error()), State::Failed),
        (Finish::Retry { error: error(), run_at_ms: FAR }, State::Cancelled),
        (Finish::Lost { crash: crash(), run_at_ms: FAR }, State::Cancelled),
        (Finish::HandBack, State::Cancelled),
        (Finish::Cancelled, State::Cancelled),
    ];
    for (end, expected) in ends {
        let job = submit(ledger, owner).await;
        let start = start(ledger, &job).await;
        let Some(Cancelled::Asked(asked)) = ledger.cancel(owner, job.id).await.unwrap() else { panic!("not asked") };
        assert!(asked.cancel_requested && asked.state == State::Running);
        assert_eq!(row(ledger, &job).await, asked);
        assert_eq!(kinds(ledger, owner, job.id).await, ["queued", "running"], "asking is no event");
        assert_eq!(ledger.finish(job.id, start, end).await.unwrap(), Finished::Now(expected));
        let done = row(ledger, &job).await;
        assert_eq!(done.error.is_some(), expected == State::Failed);
    }
    assert_eq!(waiting_ids(ledger).await, []);
    let job = in_state(ledger, owner, State::Running).await;
    ledger.cancel(owner, job.id).await.unwrap();
    assert_eq!(ledger.recover("node-a", "second").await.unwrap(), [(job.id, State::Cancelled)]);
}

pub(crate) async fn retry_waits(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    for attempt in 1..=5 {
        let start = start(ledger, &job).await;
        let run_at_ms = 1000 + i64::from(attempt);
        let finished = ledger.finish(job.id, start, Finish::Retry { error: error(), run_at_ms }).await.unwrap();
        let now = row(ledger, &job).await;
        assert_eq!((now.attempt, now.crashes, now.error), (attempt, 0, Some(error())));
        if attempt < 5 {
            assert_eq!((finished, now.run_at_ms), (Finished::Now(State::Queued), run_at_ms));
        } else {
            assert_eq!(finished, Finished::Now(State::Failed));
        }
    }
    assert_eq!(waiting_ids(ledger).await, []);
}

pub(crate) async fn crashes_end_a_job(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    for expected in [State::Queued, State::Queued, State::Failed] {
        let start = start(ledger, &job).await;
        let finished = ledger.finish(job.id, start, Finish::Lost { crash: crash(), run_at_ms: 0 }).await.unwrap();
        assert_eq!(finished, Finished::Now(expected));
    }
    let failed = row(ledger, &job).await;
    assert_eq!((failed.attempt, failed.crashes, failed.stage.as_deref()), (3, 3, Some("denoise")));
    assert_eq!(failed.error, Some(JobError::from(crash())));
}

pub(crate) async fn hand_back_keeps_its_turn(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let first = submit(ledger, owner).await;
    let start = start(ledger, &first).await;
    let second = submit(ledger, owner).await;
    assert_eq!(ledger.finish(first.id, start, Finish::HandBack).await.unwrap(), Finished::Now(State::Queued));
    let back = row(ledger, &first).await;
    assert_eq!((back.attempt, back.starts, back.crashes), (0, 1, 0));
    assert_eq!((&back.error, &back.stage, back.progress), (&None, &None, 0.0));
    assert_eq!(waiting_ids(ledger).await, [first.id, second.id]);
}

pub(crate) async fn recover_takes_other_incarnations(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut jobs = Vec::new();
    for (node, incarnation) in [("node-a", "first"), ("node-a", "second"), ("node-b", "first")] {
        let job = in_state(ledger, owner, State::Released).await;
        let holder =
            Holder { node: node.to_owned(), incarnation: incarnation.to_owned(), slot: 1, memory_bytes_max: None };
        ledger.claim(job.id, 0, holder).await.unwrap();
        jobs.push(job);
    }
    let recovered = ledger.recover("node-a", "second").await.unwrap();
    assert_eq!(recovered, [(jobs[0].id, State::Queued)]);
    let back = row(ledger, &jobs[0]).await;
    assert_eq!((back.attempt, back.starts, back.crashes), (1, 1, 0), "spent, but nobody is to blame");
    assert_eq!(back.error.unwrap().code, "node_lost");
    assert_eq!(back.run_at_ms, jobs[0].run_at_ms, "it keeps its place");
    assert_eq!(waiting_ids(ledger).await, [jobs[0].id]);
    for held in &jobs[1..] {
        assert_eq!(row(ledger, held).await.state, State::Running);
    }
    assert_eq!(ledger.recover("node-a", "second").await.unwrap(), []);
}

pub(crate) async fn recover_fails_spent_jobs(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    for attempt in 1..=5 {
        start(ledger, &job).await;
        let expected = if attempt < 5 { State::Queued } else { State::Failed };
        assert_eq!(ledger.recover("node-a", "second").await.unwrap(), [(job.id, expected)]);
    }
    let failed = row(ledger, &job).await;
    assert_eq!((failed.error.unwrap().code.as_str(), failed.attempt, failed.crashes), ("node_lost", 5, 0));
}

pub(crate) async fn progress_is_seen_and_not_stored(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    ledger.note_progress(job.id, 0, "early", 0.9).await.unwrap();
    assert_eq!(row(ledger, &job).await, job, "it does not run");
    let first = start(ledger, &job).await;
    ledger.note_progress(job.id, first, "decode", 0.25).await.unwrap();
    let seen = row(ledger, &job).await;
    assert_eq!((seen.stage.as_deref(), seen.progress), (Some("decode"), 0.25));
    let listed = ledger.jobs(owner, JobFilter::default(), None, 1).await.unwrap().remove(0);
    assert_eq!(listed, seen);
    assert_eq!(kinds(ledger, owner, job.id).await, ["queued", "running"]);

    ledger.finish(job.id, first, Finish::HandBack).await.unwrap();
    let second = start(ledger, &job).await;
    ledger.note_progress(job.id, first, "late", 0.99).await.unwrap();
    assert_eq!((row(ledger, &job).await.stage, row(ledger, &job).await.progress), (None, 0.0), "stale");
    ledger.note_progress(job.id, second, "denoise", 0.5).await.unwrap();
    let failure = JobError { stage: None, ..error() };
    ledger.finish(job.id, second, Finish::Failed(failure)).await.unwrap();
    let failed = row(ledger, &job).await;
    assert_eq!((failed.stage.as_deref(), failed.progress), (Some("denoise"), 0.5), "how far it came");
}

pub(crate) async fn held_lists_an_incarnation(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    assert_eq!(ledger.held("node-a", "first").await.unwrap(), []);
    let job = in_state(ledger, owner, State::Running).await;
    in_state(ledger, owner, State::Succeeded).await;
    assert_eq!(ledger.held("node-a", "first").await.unwrap(), [(job.id, 1)]);
    assert_eq!(ledger.held("node-a", "second").await.unwrap(), []);
    assert_eq!(ledger.held("node-b", "first").await.unwrap(), []);
}

pub(crate) async fn what_is_handed_over_waits_for_a_larger_node(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let job = submit(ledger, owner).await;
    let first = start(ledger, &job).await;
    let reason = JobError::too_large_here(3000, 2000, "plan");
    let over = Finish::HandOver(reason.clone());
    assert_eq!(ledger.finish(job.id, first, over.clone()).await.unwrap(), Finished::Now(State::Queued));
    let back = row(ledger, &job).await;
    assert_eq!((back.attempt, back.starts, &back.error), (0, 1, &Some(reason)), "unspent, with its reason");
    let waiting = ledger.waiting(FAR, 10, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|waiting| waiting.memory_needed_bytes).collect::<Vec<_>>(), [Some(3000)]);
    // Waiting and released: a node that has less leaves it as it is.
    let small = || Holder { memory_bytes_max: Some(2999), ..holder() };
    for _ in 0..2 {
        let before = row(ledger, &job).await;
        assert!(matches!(ledger.claim(job.id, 1, small()).await.unwrap(), Claim::TooLarge(3000)));
        assert_eq!(row(ledger, &job).await, before);
        ledger.release(job.id, "node-b").await.unwrap();
    }
    let large = Holder { memory_bytes_max: Some(3000), ..holder() };
    let Claim::Won { job: held, .. } = ledger.claim(job.id, 1, large).await.unwrap() else { panic!("not won") };
    assert_eq!((held.attempt, held.starts, &held.error), (1, 2, &None));
    // Whoever has no bound takes it, to say that nobody can do it.
    ledger.finish(job.id, 2, over.clone()).await.unwrap();
    assert!(matches!(ledger.claim(job.id, 2, holder()).await.unwrap(), Claim::Won { .. }));
    // An owner who asked to stop is not made to wait for a larger node.
    ledger.cancel(owner, job.id).await.unwrap();
    assert_eq!(ledger.finish(job.id, 3, over).await.unwrap(), Finished::Now(State::Cancelled));
}
