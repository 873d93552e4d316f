//! What every ledger must do, as one suite over the port. An adapter brings `open`, an async function that returns a
//! [`Fresh`] empty ledger, and calls `ledger_suite!(path::to::open)` in its tests.

#![expect(clippy::cognitive_complexity, reason = "each await and assert counts; the cases are straight lines")]

pub(crate) mod accounts;
pub(crate) mod events;
pub(crate) mod housekeeping;
pub(crate) mod nodes;
pub(crate) mod owners;
pub(crate) mod producers;
pub(crate) mod quotas;
pub(crate) mod relay;
pub(crate) mod resumable;
pub(crate) mod running;
pub(crate) mod submissions;
pub(crate) mod table;
pub(crate) mod uploads;
pub(crate) mod webhooks;

use std::any::Any;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::job::state::State;

/// An empty ledger, and what must live as long as it.
pub(crate) struct Fresh {
    pub(crate) ledger: Arc<dyn Ledger>,
    /// The same database, opened again: as other nodes see it.
    pub(crate) peers: Vec<Arc<dyn Ledger>>,
    pub(crate) _keep: Box<dyn Any + Send>,
}

macro_rules! ledger_suite {
    ($open:path) => {
        $crate::store::suite::ledger_suite! { @cases $open;
            table: every_event_in_every_state, random_walks;
            submissions: one_request_is_whole, jobs_come_back_as_written, a_key_is_answered_once,
                a_key_raced_for_is_won_once, a_full_queue_refuses, lanes_follow_the_load, a_failed_request_leaves_nothing,
                a_caller_that_goes_away_leaves_nothing_half_done, process_again_needs_an_image;
            relay: oldest_of_each_owner, owners_with_least_in_flight_first, due_times, release_and_back,
                unrelease_all_takes_only_released;
            running: one_claim_wins, a_claim_may_overtake_the_release, a_message_of_an_earlier_start_claims_nothing, a_claim_starts_clean, success_publishes, a_stale_finish_changes_nothing,
                a_cancel_that_comes_first, retry_waits, crashes_end_a_job, hand_back_keeps_its_turn,
                what_is_handed_over_waits_for_a_larger_node,
                recover_takes_other_incarnations, recover_fails_spent_jobs, progress_is_seen_and_not_stored,
                held_lists_an_incarnation;
            owners: others_see_nothing, lists_by_key_set, images_are_found, files_of_the_last_success, cancel_answers,
                retry_gives_a_fresh_budget, deletion_takes_everything;
            events: replay_equals_watch, only_own_and_of_one_job;
            uploads: announced_uploads_are_the_owners, announced_uploads_are_bounded_and_expire;
            resumable: a_resumable_upload_is_the_owners, one_request_adds_to_an_upload, who_is_silent_loses_an_upload,
                a_key_begins_one_upload, resumable_uploads_are_bounded, resumable_uploads_end;
            housekeeping: counts_unfinished, garbage_goes_when_removed, objects_are_listed_by_key, known_starts,
                prune_keeps_what_is_young, typical_duration_is_a_median, throughput_counts_what_succeeded, closed_takes_nothing;
        }
        mod nodes {
            $crate::store::suite::ledger_suite! { @nodes $open;
                every_job_is_claimed_once, a_key_raced_for_is_won_once, what_is_deleted_gets_no_job, leases_are_renewed_and_run_out,
                    a_wish_is_heard_once, jobs_of_lost_nodes_are_rescued, a_cancel_reaches_the_node_that_works;
            }
        }
        mod webhooks {
            $crate::store::suite::ledger_suite! { @fresh $open; webhooks;
                others_have_no_part_in_it, webhooks_are_bounded_and_begin_now, an_event_makes_one_delivery,
                    whoever_is_behind_is_served, one_claim_brings_it, claims_keep_to_the_bounds, what_fails_waits_or_is_dead,
                    long_failure_switches_off, secrets_rotate, asked_for_by_its_owner, logs_are_swept;
            }
        }
        mod quotas {
            $crate::store::suite::ledger_suite! { @fresh $open; quotas;
                sums_follow_what_is_stored, every_bound_refuses, announced_bytes_are_reserved, an_override_wins,
                    the_last_room_is_taken_once, what_failed_costs_nothing, known_bytes_are_found_again,
                    known_bytes_of_others_are_not, one_request_holds_bytes_once, the_same_bytes_at_once_are_one_image,
                    failed_jobs_of_all_are_seen_and_begun_again;
            }
        }
        mod producers {
            $crate::store::suite::ledger_suite! { @fresh $open; producers;
                one_process_publishes_at_a_time, events_are_left_until_they_are_published,
                    events_say_what_their_image_was_submitted_as, dead_letters_are_kept_within_bounds;
            }
        }
    };
    (@fresh $open:path; $module:ident; $($case:ident),+;) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let fresh = $open().await;
            $crate::store::suite::$module::$case(&fresh).await;
        })+
    };
    (@nodes $open:path; $($case:ident),+;) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let fresh = $open().await;
            $crate::store::suite::nodes::$case(&fresh).await;
        })+
    };
    (@cases $open:path; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fresh = $open().await;
                $crate::store::suite::$module::$case(&fresh.ledger).await;
            })+
        })+
    };
}
pub(crate) use ledger_suite;

/// The same for [`crate::store::accounts::Accounts`]: `open` returns the empty store and what must live as long as it.
macro_rules! accounts_suite {
    ($open:path) => {
        $crate::store::suite::accounts_suite! { @cases $open;
            the_first_account_is_the_administrator, names_differ_in_more_than_case, entries_are_checked,
            an_invitation_is_good_once, accounts_are_bounded, lists_go_on, secrets_open_one_account,
            what_is_expired_opens_nothing, sessions_rotate_and_give_way, tokens_are_bounded, others_cannot_revoke,
            a_new_password_ends_sessions, a_race_has_one_administrator, a_disabled_account_opens_nothing,
            one_administrator_is_left;
        }
    };
    (@cases $open:path; $($case:ident),+;) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (accounts, _keep) = $open().await;
            $crate::store::suite::accounts::$case(&accounts).await;
        })+
    };
}
pub(crate) use accounts_suite;

/// Later than every time in a test.
pub(crate) const FAR: i64 = i64::MAX / 2;

pub(crate) fn limits() -> QueueLimits {
    QueueLimits { queue_jobs_max: 10_000, bulk_from_jobs: 50, attempts_max: 5, crashes_max: 3, quota: None }
}

pub(crate) fn item(owner: OwnerId) -> (NewImage, NewJob) {
    let image = NewImage {
        id: ImageId::fresh(),
        filename: "page 1.png".to_owned(),
        content_type: "image/png".to_owned(),
        size_bytes: 5_000_000_000,
        sha256: "ab".repeat(32),
        width_px: None,
        height_px: None,
        pages_count: None,
        pixels: None,
    };
    let job = NewJob {
        id: JobId::fresh(),
        owner,
        image_id: image.id,
        preset: "document".to_owned(),
        spec: json!({"preset": "document", "keep_colour": true}),
        lane: Some(Lane::Interactive),
    };
    (image, job)
}

pub(crate) fn request(owner: OwnerId, items: Vec<(NewImage, NewJob)>) -> Submission {
    Submission { owner, items, idempotency: None, submitted: None, upload: None, dedup: false, limits: limits() }
}

pub(crate) async fn submit(ledger: &Arc<dyn Ledger>, owner: OwnerId) -> JobRow {
    match ledger.accept(request(owner, vec![item(owner)])).await.unwrap() {
        Accepted::Created(mut created) => created.remove(0).1,
        refused @ (Accepted::Replayed(_) | Accepted::QueueFull(_) | Accepted::QuotaReached(_)) => panic!("{refused:?}"),
    }
}

pub(crate) fn holder() -> Holder {
    Holder { node: "node-a".to_owned(), incarnation: "first".to_owned(), slot: 3, memory_bytes_max: None }
}

/// Releases and claims a queued job; returns the start.
pub(crate) async fn start(ledger: &Arc<dyn Ledger>, job: &JobRow) -> u32 {
    assert!(ledger.release(job.id, "node-a").await.unwrap());
    let starts = row(ledger, job).await.starts;
    match ledger.claim(job.id, starts, holder()).await.unwrap() {
        Claim::Won { job, .. } => job.starts,
        nothing @ (Claim::Gone(_) | Claim::TooLarge(_)) => panic!("{nothing:?}"),
    }
}

pub(crate) async fn row(ledger: &Arc<dyn Ledger>, job: &JobRow) -> JobRow {
    ledger.job(job.owner, job.id).await.unwrap().unwrap()
}

pub(crate) fn new_file(name: &str) -> NewFile {
    NewFile {
        name: name.to_owned(),
        content_type: "image/png".to_owned(),
        size_bytes: 12,
        sha256: "cd".repeat(32),
        width_px: Some(20),
        height_px: Some(10),
    }
}

pub(crate) fn success() -> Finish {
    Finish::Succeeded {
        files: vec![new_file("clean.png"), new_file("clean.webp")],
        measured: Measured { width_px: 20, height_px: 10, pages_count: 2 },
        gate: Some(json!({"verdict": "pass"})),
    }
}

pub(crate) fn error() -> JobError {
    JobError::new("fault", "something passed by", Some("decode"), true)
}

pub(crate) fn crash() -> Crash {
    Crash {
        code: "crashed".to_owned(),
        detail: "the worker died".to_owned(),
        stage: Some("denoise".to_owned()),
        signal: Some("SIGSEGV".to_owned()),
        peak_bytes: Some(123),
        limit: None,
    }
}

/// A job that was brought into this state.
pub(crate) async fn in_state(ledger: &Arc<dyn Ledger>, owner: OwnerId, state: State) -> JobRow {
    let job = submit(ledger, owner).await;
    bring(ledger, &job, state).await;
    let job = row(ledger, &job).await;
    assert_eq!(job.state, state);
    job
}

/// Brings a queued job into a state.
pub(crate) async fn bring(ledger: &Arc<dyn Ledger>, job: &JobRow, state: State) {
    let end = match state {
        State::Queued => return,
        State::Released => return assert!(ledger.release(job.id, "node-a").await.unwrap()),
        State::Cancelled => return drop(ledger.cancel(job.owner, job.id).await.unwrap().unwrap()),
        State::Running => {
            start(ledger, job).await;
            return;
        }
        State::Succeeded => success(),
        State::Failed => Finish::Failed(error()),
    };
    let start = start(ledger, job).await;
    assert_eq!(ledger.finish(job.id, start, end).await.unwrap(), Finished::Now(state));
}

/// Jobs that the relay would see, whenever they are due.
pub(crate) async fn waiting_ids(ledger: &Arc<dyn Ledger>) -> Vec<JobId> {
    ledger.waiting(FAR, 1000, 1000).await.unwrap().into_iter().map(|waiting| waiting.job).collect()
}

pub(crate) async fn kinds(ledger: &Arc<dyn Ledger>, owner: OwnerId, job: JobId) -> Vec<String> {
    let events = ledger.events_after(owner, Some(job), 0, 1000).await.unwrap();
    events.into_iter().map(|event| event.kind).collect()
}
