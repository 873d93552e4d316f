//! The ledger moves a job exactly as [`apply`] says: every event in every state, and random walks.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::job::state::{Event, JobCore, Rejected, apply};

fn core(job: &JobRow) -> JobCore {
    JobCore {
        state: job.state,
        starts: job.starts,
        attempt: job.attempt,
        crashes: job.crashes,
        attempts_max: job.attempts_max,
        crashes_max: job.crashes_max,
    }
}

/// Every event, with the fence of this job's start moved by `offset`.
fn events(starts: u32, offset: i32) -> Vec<Event> {
    let start = starts.saturating_add_signed(offset);
    vec![
        Event::Release,
        Event::Unrelease,
        Event::Claim,
        Event::Succeed { start },
        Event::Retry { start },
        Event::Lose { start, crash: true },
        Event::Lose { start, crash: false },
        Event::HandBack { start },
        Event::Fail { start },
        Event::Cancel,
        Event::CancelRunning { start },
        Event::OwnerRetry,
    ]
}

/// The call of the port that means this event.
async fn cause(ledger: &Arc<dyn Ledger>, job: &JobRow, event: Event) {
    let end = |start, finish| async move {
        ledger.finish(job.id, start, finish).await.unwrap();
    };
    match event {
        Event::Release => drop(ledger.release(job.id, "node-a").await.unwrap()),
        Event::Unrelease => drop(ledger.unrelease(job.id).await.unwrap()),
        Event::Claim => drop(ledger.claim(job.id, job.starts, holder()).await.unwrap()),
        Event::Succeed { start } => end(start, success()).await,
        Event::Retry { start } => end(start, Finish::Retry { error: error(), run_at_ms: 7 }).await,
        Event::Lose { start, crash: true } => end(start, Finish::Lost { crash: crash(), run_at_ms: 7 }).await,
        // Recovery has no fence of its own: it takes what the row says.
        Event::Lose { start, crash: false } if start == job.starts => {
            drop(ledger.recover(&holder().node, "second").await.unwrap());
        }
        Event::Lose { crash: false, .. } => {}
        Event::HandBack { start } => end(start, Finish::HandBack).await,
        Event::Fail { start } => end(start, Finish::Failed(error())).await,
        Event::Cancel => drop(ledger.cancel(job.owner, job.id).await.unwrap()),
        Event::CancelRunning { start } => end(start, Finish::Cancelled).await,
        Event::OwnerRetry => drop(ledger.retry(job.owner, job.id, limits()).await.unwrap()),
    }
}

/// A delivery proves the release: a claim of a queued job is both.
fn table(job: JobCore, event: Event) -> Result<JobCore, Rejected> {
    match (job.state, event) {
        (State::Queued, Event::Claim) => apply(apply(job, Event::Release)?, Event::Claim),
        _ => apply(job, event),
    }
}

/// Causes `event` and compares the row, the outbox and the events with what the table says. Returns the row.
async fn check(ledger: &Arc<dyn Ledger>, before: &JobRow, event: Event) -> JobRow {
    let allowed = table(core(before), event);
    let expected = allowed.unwrap_or(core(before));
    let events_before = kinds(ledger, before.owner, before.id).await;
    cause(ledger, before, event).await;
    let after = row(ledger, before).await;
    let context = format!("{event:?} on {:?}", core(before));
    assert_eq!(core(&after), expected, "{context}");
    assert_eq!(after.finished_at_ms.is_some(), expected.state.is_final(), "{context}");
    let waits = waiting_ids(ledger).await.contains(&before.id);
    assert_eq!(waits, expected.state == State::Queued, "outbox after {context}");
    let mut events_expected = events_before;
    if allowed.is_ok() && !matches!(event, Event::Release | Event::Unrelease) {
        events_expected.push(expected.state.to_string());
    }
    assert_eq!(kinds(ledger, before.owner, before.id).await, events_expected, "events after {context}");
    if allowed.is_err() && !(matches!(event, Event::Cancel) && before.state == State::Running) {
        assert_eq!(&after, before, "{context}");
    }
    after
}

/// A past that leaves a queued job behind with these counts.
async fn with_past(ledger: &Arc<dyn Ledger>, owner: OwnerId, ends: &[Finish]) -> JobRow {
    let job = submit(ledger, owner).await;
    for end in ends {
        let start = start(ledger, &job).await;
        assert_eq!(ledger.finish(job.id, start, end.clone()).await.unwrap(), Finished::Now(State::Queued));
    }
    row(ledger, &job).await
}

pub(crate) async fn every_event_in_every_state(ledger: &Arc<dyn Ledger>) {
    let retry = Finish::Retry { error: error(), run_at_ms: 7 };
    let lost = Finish::Lost { crash: crash(), run_at_ms: 7 };
    let pasts = [
        (vec![], State::ALL.to_vec()),
        (vec![retry.clone(), Finish::HandBack], State::ALL.to_vec()),
        // The next crash, and the next attempt, are the last.
        (vec![lost.clone(), lost], vec![State::Running]),
        (vec![retry.clone(), retry.clone(), retry.clone(), retry], vec![State::Running]),
    ];
    let owner = OwnerId::fresh();
    for (past, states) in &pasts {
        for state in states {
            for (number, offset) in cases() {
                let job = with_past(ledger, owner, past).await;
                bring(ledger, &job, *state).await;
                let before = row(ledger, &job).await;
                check(ledger, &before, events(before.starts, offset)[number]).await;
                // Out of the way of what looks at all jobs.
                ledger.delete_image(owner, before.image_id).await.unwrap();
            }
        }
    }
}

/// Every event, those with a fence also with an older and a later start.
fn cases() -> Vec<(usize, i32)> {
    let (now, later) = (events(1, 0), events(1, 1));
    let moved = (0..now.len()).filter(|number| now[*number] != later[*number]);
    let moved = moved.flat_map(|number| [(number, -1), (number, 1)]);
    (0..now.len()).map(|number| (number, 0)).chain(moved).collect()
}

pub(crate) async fn random_walks(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec((0..events(0, 0).len(), prop_oneof![6 => Just(0), 1 => Just(-1)]), 40);
    for _ in 0..12 {
        let mut job = submit(ledger, owner).await;
        for (number, offset) in steps.new_tree(&mut runner).unwrap().current() {
            // A request to cancel changes what later ends mean: the tests of cancelling look at that.
            if job.state == State::Running && events(0, 0)[number] == Event::Cancel {
                continue;
            }
            job = check(ledger, &job, events(job.starts, offset)[number]).await;
        }
        ledger.delete_image(owner, job.image_id).await.unwrap();
    }
}
