//! The table written out, and what must hold on every way through it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const START: u32 = 7;

/// Every event, with this fence.
fn events(start: u32) -> [Event; 12] {
    [
        Event::Release,
        Event::Unrelease,
        Event::Claim,
        Event::Cancel,
        Event::OwnerRetry,
        Event::Succeed { start },
        Event::Fail { start },
        Event::CancelRunning { start },
        Event::Retry { start },
        Event::Lose { start, crash: true },
        Event::Lose { start, crash: false },
        Event::HandBack { start },
    ]
}

fn job(state: State) -> JobCore {
    JobCore { state, starts: START, attempt: 2, crashes: 1, attempts_max: 5, crashes_max: 3 }
}

/// What becomes of a job with attempts and crashes to spare. A row for each state, a column for each of [`events`]; `.` is
/// a move that is not allowed.
#[test]
fn the_whole_table() {
    let table = "
        event       release  unrelease claim   cancel    retry  succeed   fail   stop      again  crash  lost   back
        queued      released .         .       cancelled .      .         .      .         .      .      .      .
        released    .        queued    running cancelled .      .         .      .         .      .      .      .
        running     .        .         .       .         .      succeeded failed cancelled queued queued queued queued
        succeeded   .        .         .       .         .      .         .      .         .      .      .      .
        failed      .        .         .       .         queued .         .      .         .      .      .      .
        cancelled   .        .         .       .         queued .         .      .         .      .      .      .
    ";
    let mut states = BTreeSet::new();
    for line in table.trim().lines().skip(1) {
        let mut cells = line.split_whitespace();
        let state = State::parse(cells.next().unwrap()).unwrap();
        states.insert(state);
        for (event, cell) in events(START).into_iter().zip(cells.by_ref()) {
            let moved = apply(job(state), event);
            match cell {
                "." => assert_eq!(moved, Err(Rejected::WrongState(state)), "{event:?} on {state}"),
                name => assert_eq!(moved.unwrap().state, State::parse(name).unwrap(), "{event:?} on {state}"),
            }
        }
        assert_eq!(cells.next(), None);
    }
    assert_eq!(states, BTreeSet::from(State::ALL));
}

/// What a move does to the numbers.
#[test]
fn what_each_event_counts() {
    let counts = |job: JobCore| (job.starts, job.attempt, job.crashes);
    let running = |event| counts(apply(job(State::Running), event).unwrap());
    let start = START;
    assert_eq!(counts(apply(job(State::Queued), Event::Release).unwrap()), (7, 2, 1));
    assert_eq!(counts(apply(job(State::Released), Event::Unrelease).unwrap()), (7, 2, 1));
    assert_eq!(counts(apply(job(State::Released), Event::Claim).unwrap()), (8, 3, 1), "counted before the slot starts");
    assert_eq!(counts(apply(job(State::Released), Event::Cancel).unwrap()), (7, 2, 1));
    assert_eq!(counts(apply(job(State::Failed), Event::OwnerRetry).unwrap()), (7, 0, 0), "a fresh budget");
    assert_eq!(running(Event::Succeed { start }), (7, 2, 1));
    assert_eq!(running(Event::Fail { start }), (7, 2, 1));
    assert_eq!(running(Event::CancelRunning { start }), (7, 2, 1));
    assert_eq!(running(Event::Retry { start }), (7, 2, 1));
    assert_eq!(running(Event::Lose { start, crash: true }), (7, 2, 2));
    assert_eq!(running(Event::Lose { start, crash: false }), (7, 2, 1), "nobody is to blame");
    assert_eq!(running(Event::HandBack { start }), (7, 1, 1), "the attempt is given back, the start is not");
}

#[test]
fn budgets_end_a_job() {
    let start = START;
    let last_attempt = JobCore { attempt: 5, ..job(State::Running) };
    let third_crash = JobCore { crashes: 2, ..job(State::Running) };
    let state = |job, event| apply(job, event).unwrap().state;
    assert_eq!(state(last_attempt, Event::Retry { start }), State::Failed);
    assert_eq!(state(last_attempt, Event::Lose { start, crash: false }), State::Failed);
    assert_eq!(state(last_attempt, Event::HandBack { start }), State::Queued, "not the job's fault");
    assert_eq!(state(third_crash, Event::Lose { start, crash: true }), State::Failed);
    assert_eq!(state(third_crash, Event::Lose { start, crash: false }), State::Queued);
    assert_eq!(state(third_crash, Event::Retry { start }), State::Queued);
}

#[test]
fn another_start_changes_nothing() {
    for given in [START - 1, START + 1] {
        for event in events(given).into_iter().skip(5) {
            let rejected = Err(Rejected::StaleStart { held: START, given });
            assert_eq!(apply(job(State::Running), event), rejected, "{event:?}");
        }
    }
}

#[test]
fn names_come_back() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert_eq!(State::parse("Queued"), None);
}

fn fresh() -> impl Strategy<Value = JobCore> {
    (1u32..6, 1u32..4).prop_map(|(attempts_max, crashes_max)| JobCore {
        state: State::Queued,
        starts: 0,
        attempt: 0,
        crashes: 0,
        attempts_max,
        crashes_max,
    })
}

/// Numbers of events, and whose start they carry: mostly the one that holds the job.
fn steps() -> impl Strategy<Value = Vec<(usize, i32)>> {
    let offset = prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)];
    proptest::collection::vec((0..events(0).len(), offset), 0..200)
}

/// Every move of a walk: before, event, after. Events that are not allowed are tried as well.
fn walk(mut job: JobCore, steps: Vec<(usize, i32)>) -> Vec<(JobCore, Event, Result<JobCore, Rejected>)> {
    let mut moves = Vec::new();
    for (number, offset) in steps {
        let event = events(job.starts.saturating_add_signed(offset))[number];
        let moved = apply(job, event);
        moves.push((job, event, moved));
        job = moved.unwrap_or(job);
    }
    moves
}

fn fence(event: Event) -> Option<u32> {
    match event {
        Event::Succeed { start }
        | Event::Retry { start }
        | Event::Lose { start, .. }
        | Event::HandBack { start }
        | Event::Fail { start }
        | Event::CancelRunning { start } => Some(start),
        Event::Release | Event::Unrelease | Event::Claim | Event::Cancel | Event::OwnerRetry => None,
    }
}

proptest! {
    #[test]
    fn what_has_ended_is_left_only_by_its_owner(job in fresh(), steps in steps()) {
        for (before, event, moved) in walk(job, steps) {
            if before.state.is_final() {
                prop_assert!(moved.is_err() || event == Event::OwnerRetry);
                prop_assert!(moved.is_err() || before.state != State::Succeeded);
            }
        }
    }

    #[test]
    fn starts_count_claims_and_nothing_else(job in fresh(), steps in steps()) {
        for (before, event, moved) in walk(job, steps) {
            if let Ok(after) = moved {
                prop_assert_eq!(after.starts, before.starts + u32::from(event == Event::Claim));
            }
        }
    }

    #[test]
    fn only_the_start_that_holds_a_job_ends_it(job in fresh(), steps in steps()) {
        for (before, event, moved) in walk(job, steps) {
            if let Some(start) = fence(event) {
                prop_assert_eq!(moved.is_ok(), before.state == State::Running && start == before.starts);
            } else if moved.is_ok() {
                prop_assert!(before.state != State::Running, "a running job is left only by its start");
            }
        }
    }

    #[test]
    fn budgets_hold(job in fresh(), steps in steps()) {
        for (_, _, moved) in walk(job, steps) {
            let Ok(job) = moved else { continue };
            prop_assert!(job.attempt <= job.attempts_max && job.attempt <= job.starts);
            prop_assert!(job.crashes <= job.crashes_max && job.crashes <= job.attempt.max(job.starts));
            let waits = matches!(job.state, State::Queued | State::Released);
            prop_assert!(!waits || job.attempt < job.attempts_max && job.crashes < job.crashes_max, "{:?}", job);
        }
    }

    #[test]
    fn handing_back_spends_nothing(job in fresh(), times in 1u32..50) {
        let mut now = job;
        for _ in 0..times {
            now = apply(apply(now, Event::Release).unwrap(), Event::Claim).unwrap();
            now = apply(now, Event::HandBack { start: now.starts }).unwrap();
        }
        prop_assert_eq!(now, JobCore { starts: times, ..job });
    }

    /// Without an owner who asks again, a job cannot go on for ever: each start is spent or handed back.
    #[test]
    fn attempts_run_out(job in fresh(), crashes in proptest::collection::vec(any::<Option<bool>>(), 20)) {
        let mut now = job;
        let mut spent = 0;
        for crash in crashes {
            if now.state.is_final() {
                break;
            }
            now = apply(apply(now, Event::Release).unwrap(), Event::Claim).unwrap();
            spent += 1;
            let start = now.starts;
            now = apply(now, crash.map_or(Event::Retry { start }, |crash| Event::Lose { start, crash })).unwrap();
        }
        prop_assert_eq!(now.state, State::Failed);
        prop_assert!(spent <= job.attempts_max);
    }
}

#[test]
fn every_state_can_be_reached() {
    let first = JobCore { state: State::Queued, starts: 0, attempt: 0, crashes: 0, attempts_max: 1, crashes_max: 1 };
    let mut reached = vec![first];
    let mut next = 0;
    while let Some(job) = reached.get(next).copied() {
        next += 1;
        for event in events(job.starts) {
            // A few starts show all there is.
            let moved = apply(job, event).ok().filter(|moved| moved.starts <= 3 && !reached.contains(moved));
            reached.extend(moved);
        }
    }
    let states: BTreeSet<State> = reached.iter().map(|job| job.state).collect();
    assert_eq!(states, BTreeSet::from(State::ALL));
}
