//! Bounds of owners, bytes that are there already, failed jobs of all.

use futures::future::join_all;

use super::uploads::announced;
use super::*;
use crate::store::quotas::{DAY_MS, Demand, MINUTE_MS, Measure, Override, Quota, QuotaReached, Usage};
use crate::store::resumable::{Begun, ResumableBounds};

/// An image of 100 bytes and 20 × 10 pixels, two pages.
fn small(owner: OwnerId) -> (NewImage, NewJob) {
    let (image, job) = item(owner);
    (NewImage { size_bytes: 100, pixels: Some(400), sha256: image.id.to_string(), ..image }, job)
}

fn bounded(bytes: u64, pixels: u64, jobs: u64) -> QueueLimits {
    let some = |bound: u64| (bound > 0).then_some(bound);
    let quota = Quota { stored_bytes_max: some(bytes), pixels_per_day_max: some(pixels), jobs_queued_max: some(jobs) };
    QueueLimits { quota: Some(quota), ..limits() }
}

async fn ask(ledger: &Arc<dyn Ledger>, items: Vec<(NewImage, NewJob)>, limits: QueueLimits) -> Accepted {
    let owner = items[0].1.owner;
    ledger.accept(Submission { limits, ..request(owner, items) }).await.unwrap()
}

async fn take(ledger: &Arc<dyn Ledger>, owner: OwnerId, limits: QueueLimits) -> JobRow {
    match ask(ledger, vec![small(owner)], limits).await {
        Accepted::Created(mut created) => created.remove(0).1,
        refused @ (Accepted::Replayed(_) | Accepted::QueueFull(_) | Accepted::QuotaReached(_)) => panic!("{refused:?}"),
    }
}

async fn refused(ledger: &Arc<dyn Ledger>, owner: OwnerId, limits: QueueLimits) -> QuotaReached {
    match ask(ledger, vec![small(owner)], limits).await {
        Accepted::QuotaReached(reached) => reached,
        taken @ (Accepted::Replayed(_) | Accepted::QueueFull(_) | Accepted::Created(_)) => panic!("{taken:?}"),
    }
}

async fn usage(ledger: &Arc<dyn Ledger>, owner: OwnerId) -> Usage {
    ledger.standing(owner).await.unwrap().usage
}

pub(crate) async fn sums_follow_what_is_stored(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    assert_eq!(usage(ledger, owner).await, Usage::default());
    let first = take(ledger, owner, limits()).await;
    let second = take(ledger, owner, limits()).await;
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 200, reserved_bytes: 0, pixels: 800, jobs: 2 });
    bring(ledger, &first, State::Succeeded).await;
    // Two files of twelve bytes, as suite::success says.
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 224, reserved_bytes: 0, pixels: 800, jobs: 1 });
    let again = NewJob { image_id: first.image_id, ..item(owner).1 };
    assert!(matches!(ledger.process_again(again, limits()).await.unwrap(), Some(Admission::Created(_))));
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 224, reserved_bytes: 0, pixels: 1200, jobs: 2 });
    ledger.delete_image(owner, first.image_id).await.unwrap().unwrap();
    // What was processed was processed.
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 100, reserved_bytes: 0, pixels: 1200, jobs: 1 });
    ledger.delete_image(owner, second.image_id).await.unwrap().unwrap();
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 0, reserved_bytes: 0, pixels: 1200, jobs: 0 });
    assert_eq!(usage(ledger, OwnerId::fresh()).await, Usage::default());
}

pub(crate) async fn every_bound_refuses(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let first = take(ledger, owner, bounded(100, 400, 1)).await;
    let reached = refused(ledger, owner, bounded(199, 0, 0)).await;
    let expected = QuotaReached { measure: Measure::StoredBytes, limit: 199, used: 100, wanted: 100, room_in_ms: None };
    assert_eq!(reached, expected);
    let reached = refused(ledger, owner, bounded(200, 799, 0)).await;
    assert_eq!((reached.measure, reached.limit, reached.used, reached.wanted), (Measure::PixelsPerDay, 799, 400, 400));
    let room_in_ms = reached.room_in_ms.unwrap();
    assert!((DAY_MS - MINUTE_MS..=DAY_MS + MINUTE_MS).contains(&room_in_ms), "{room_in_ms}");
    assert_eq!(refused(ledger, owner, bounded(0, 399, 0)).await.room_in_ms, None, "it never fits");
    // Before its pixels are known it is taken for one like the last: one pixel has room, and that does not help.
    let full = |pixels| {
        ledger.has_room(owner, bounded(0, pixels, 0).quota.unwrap(), Demand { pixels: 1, ..Demand::default() })
    };
    assert_eq!(full(401).await.unwrap(), None);
    assert!((DAY_MS - MINUTE_MS..=DAY_MS + MINUTE_MS).contains(&full(400).await.unwrap().unwrap().room_in_ms.unwrap()));
    let reached = refused(ledger, owner, bounded(200, 800, 1)).await;
    assert_eq!((reached.measure, reached.used, reached.wanted), (Measure::JobsQueued, 1, 1));
    let again = || NewJob { image_id: first.image_id, ..item(owner).1 };
    for limits in [bounded(0, 799, 0), bounded(0, 0, 1)] {
        let admission = ledger.process_again(again(), limits).await.unwrap();
        assert!(matches!(admission, Some(Admission::QuotaReached(_))), "{admission:?}");
    }
    bring(ledger, &first, State::Failed).await;
    let retried = ledger.retry(owner, first.id, bounded(0, 799, 0)).await.unwrap();
    assert!(matches!(retried, Some(Retried::QuotaReached(_))), "{retried:?}");
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 100, reserved_bytes: 0, pixels: 400, jobs: 0 });
    assert!(matches!(ledger.retry(owner, first.id, bounded(1, 800, 1)).await.unwrap(), Some(Retried::Now(_))));
    assert_eq!(usage(ledger, owner).await.pixels, 800);
    // Others are not touched, and a request counts as a whole.
    take(ledger, OwnerId::fresh(), bounded(100, 400, 1)).await;
    let other = OwnerId::fresh();
    let two = vec![small(other), small(other)];
    assert!(matches!(ask(ledger, two.clone(), bounded(199, 0, 0)).await, Accepted::QuotaReached(_)));
    assert!(matches!(ask(ledger, two, bounded(200, 800, 2)).await, Accepted::Created(_)));
}

pub(crate) async fn announced_bytes_are_reserved(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let upload = || AnnouncedUpload { size_bytes: 100, ..announced(owner, FAR) };
    let (first, bound) = (upload(), bounded(250, 0, 0));
    let announce = async |uploads, quota| ledger.announce(uploads, 10, quota).await.unwrap();
    assert_eq!(announce(vec![first.clone(), upload()], bound.quota).await, Announced::Created);
    let full = announce(vec![upload()], bound.quota).await;
    assert!(
        matches!(full, Announced::QuotaReached(reached) if reached.used == 200 && reached.wanted == 100),
        "{full:?}"
    );
    assert_eq!(usage(ledger, owner).await.reserved_bytes, 200);
    // What was announced by one way leaves no room for another, but for itself.
    assert_eq!(refused(ledger, owner, bound).await.used, 200);
    let submission = Submission { upload: Some(first.id), limits: bound, ..request(owner, vec![small(owner)]) };
    assert!(matches!(ledger.accept(submission).await.unwrap(), Accepted::Created(_)));
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 100, reserved_bytes: 100, pixels: 400, jobs: 1 });
    // What comes in pieces is reserved likewise.
    let bounds = ResumableBounds { open_max: 10, owner_open_max: 5, owner_bytes_max: 1 << 40, quota: bound.quota };
    let begin = async |bytes| ledger.begin_resumable(resumable::new(owner, bytes), bounds).await.unwrap();
    assert!(matches!(begin(51).await, Begun::QuotaReached(reached) if reached.used == 200), "100 stored, 100 reserved");
    let Begun::Created(pieces) = begin(50).await else { panic!("there is room") };
    assert_eq!(usage(ledger, owner).await.reserved_bytes, 150);
    ledger.finish_resumable(pieces.id).await.unwrap();
    assert_eq!(usage(ledger, owner).await.reserved_bytes, 100);
    // What has expired reserves nothing.
    let late = AnnouncedUpload { expires_at_ms: 1, ..upload() };
    let other = OwnerId::fresh();
    assert_eq!(announce(vec![AnnouncedUpload { owner: other, ..late }], bound.quota).await, Announced::Created);
    assert_eq!(usage(ledger, other).await.reserved_bytes, 0);
}

pub(crate) async fn an_override_wins(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let own = Override { stored_bytes_max: Some(100), pixels_per_day_max: Some(0), jobs_queued_max: None };
    ledger.set_quota(owner, own).await.unwrap();
    assert_eq!(ledger.standing(owner).await.unwrap().own, own);
    take(ledger, owner, bounded(1, 1, 5)).await;
    assert_eq!(refused(ledger, owner, bounded(500, 1, 5)).await.limit, 100);
    let room = |quota: Quota| {
        let demand = Demand { bytes: 1, ..Demand::default() };
        async move { ledger.has_room(owner, quota, demand).await.unwrap() }
    };
    assert_eq!(room(Quota::default()).await.unwrap().limit, 100);
    ledger.set_quota(owner, Override::default()).await.unwrap();
    assert_eq!(room(Quota::default()).await, None);
    assert_eq!(refused(ledger, owner, bounded(150, 0, 0)).await.limit, 150);
}

/// Many at once on all nodes: as many are taken as have room, and no more.
pub(crate) async fn the_last_room_is_taken_once(fresh: &Fresh) {
    const ROOM: usize = 7;
    let nodes: Vec<_> = std::iter::once(&fresh.ledger).chain(&fresh.peers).collect();
    for bound in [bounded(700, 0, 0), bounded(0, 2800, 0), bounded(0, 0, 7)] {
        // Two owners in changing order, so that their batches meet.
        let owners = [OwnerId::fresh(), OwnerId::fresh()];
        let asked = (0..40).map(|number: usize| {
            let (node, owner) = (nodes[number % nodes.len()], owners[number / 2 % 2]);
            ask(node, vec![small(owner)], bound)
        });
        let taken = join_all(asked).await;
        assert_eq!(taken.iter().filter(|taken| matches!(taken, Accepted::Created(_))).count(), 2 * ROOM, "{bound:?}");
        for owner in owners {
            assert_eq!(usage(&fresh.ledger, owner).await.jobs, ROOM as u64);
        }
    }
}

pub(crate) async fn what_failed_costs_nothing(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let taken = take(ledger, owner, limits()).await;
    let (image, job) = small(owner);
    // Its job's id is taken: the whole request is undone.
    let spoiled = request(owner, vec![(image, NewJob { id: taken.id, ..job })]);
    assert!(ledger.accept(spoiled).await.is_err());
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 100, reserved_bytes: 0, pixels: 400, jobs: 1 });
}

fn known(owner: OwnerId, sha256: &str) -> Submission {
    let (image, job) = small(owner);
    let items = vec![(NewImage { sha256: sha256.to_owned(), ..image }, job)];
    Submission { dedup: true, ..request(owner, items) }
}

async fn created(ledger: &Arc<dyn Ledger>, submission: Submission) -> Vec<(ImageRow, JobRow)> {
    match ledger.accept(submission).await.unwrap() {
        Accepted::Created(created) => created,
        other @ (Accepted::Replayed(_) | Accepted::QueueFull(_) | Accepted::QuotaReached(_)) => panic!("{other:?}"),
    }
}

pub(crate) async fn known_bytes_are_found_again(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let first = created(ledger, known(owner, "aa")).await.remove(0);
    // On its way, then done: the same, and nothing is used for it.
    for state in [State::Queued, State::Succeeded] {
        bring(ledger, &first.1, state).await;
        let before = usage(ledger, owner).await;
        let tight = Submission { limits: bounded(1, 1, 1), ..known(owner, "aa") };
        let again = created(ledger, tight).await.remove(0);
        assert_eq!((again.0.id, again.1.id, again.1.state), (first.0.id, first.1.id, state));
        assert_eq!(usage(ledger, owner).await, before);
    }
    let spec = json!({"preset": "document", "keep_colour": true});
    let found = ledger.known_content(owner, "aa", &spec).await.unwrap();
    assert_eq!(found, Some((first.0.id, first.1.id)));
    assert_eq!(ledger.known_content(owner, "aa", &json!({"preset": "photo"})).await.unwrap(), None);
    // An idempotency row names what was answered.
    let asked = known(owner, "aa");
    let answer = json!([{"image": asked.items[0].0.id, "job": asked.items[0].1.id, "asked": asked.items[0].0.id}]);
    let idempotency = Some(Idempotency { key: "k".to_owned(), fingerprint: "f".to_owned(), answer });
    let asked_id = asked.items[0].0.id;
    created(ledger, Submission { idempotency, ..asked }).await;
    let kept = ledger.recall(owner, "k").await.unwrap().unwrap().answer;
    assert_eq!(kept, json!([{"image": first.0.id, "job": first.1.id, "asked": asked_id}]));
    // Without asking for it there is another image; what failed is not good enough.
    let apart = created(ledger, Submission { dedup: false, ..known(owner, "aa") }).await.remove(0);
    assert_ne!(apart.0.id, first.0.id);
    let failed = created(ledger, known(owner, "bb")).await.remove(0);
    bring(ledger, &failed.1, State::Failed).await;
    assert_ne!(created(ledger, known(owner, "bb")).await[0].0.id, failed.0.id);
    // Where something else was made of the image since, its files are not those.
    let remade = created(ledger, known(owner, "cc")).await.remove(0);
    bring(ledger, &remade.1, State::Succeeded).await;
    let other = NewJob { image_id: remade.0.id, spec: json!({"preset": "photo"}), ..item(owner).1 };
    ledger.process_again(other, limits()).await.unwrap().unwrap();
    assert_ne!(created(ledger, known(owner, "cc")).await[0].0.id, remade.0.id);
    // What is deleted is gone.
    ledger.delete_image(owner, first.0.id).await.unwrap().unwrap();
    ledger.delete_image(owner, apart.0.id).await.unwrap().unwrap();
    assert_eq!(ledger.known_content(owner, "aa", &spec).await.unwrap(), None);
}

pub(crate) async fn known_bytes_of_others_are_not(fresh: &Fresh) {
    let (ledger, owner, other) = (&fresh.ledger, OwnerId::fresh(), OwnerId::fresh());
    let first = created(ledger, known(owner, "aa")).await.remove(0);
    let theirs = created(ledger, known(other, "aa")).await.remove(0);
    assert_ne!(theirs.0.id, first.0.id);
    assert_eq!(theirs.0.owner, other);
}

pub(crate) async fn one_request_holds_bytes_once(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let mut submission = known(owner, "aa");
    submission.items.extend(known(owner, "aa").items);
    submission.items.extend(known(owner, "bb").items);
    let made = created(ledger, submission).await;
    assert_eq!(made[0].0.id, made[1].0.id);
    assert_ne!(made[0].0.id, made[2].0.id);
    assert_eq!(usage(ledger, owner).await, Usage { stored_bytes: 200, reserved_bytes: 0, pixels: 800, jobs: 2 });
}

pub(crate) async fn the_same_bytes_at_once_are_one_image(fresh: &Fresh) {
    let owner = OwnerId::fresh();
    let nodes: Vec<_> = std::iter::once(&fresh.ledger).chain(&fresh.peers).collect();
    let made = join_all((0..20).map(|number: usize| created(nodes[number % nodes.len()], known(owner, "aa")))).await;
    let first = made[0][0].0.id;
    assert!(made.iter().all(|made| made[0].0.id == first));
    assert_eq!(fresh.ledger.images(owner, None, 100).await.unwrap().len(), 1);
}

pub(crate) async fn failed_jobs_of_all_are_seen_and_begun_again(fresh: &Fresh) {
    let ledger = &fresh.ledger;
    let mut ids = Vec::new();
    for state in [State::Failed, State::Succeeded, State::Failed, State::Cancelled] {
        ids.push(in_state(ledger, OwnerId::LOCAL, state).await.id);
    }
    let shown = async |before, limit| {
        let failed = ledger.failed_jobs(before, limit).await.unwrap();
        assert!(failed.iter().all(|one| one.filename == "page 1.png" && one.username.is_none()));
        failed.iter().map(|one| one.job.id).collect::<Vec<_>>()
    };
    assert_eq!(shown(None, 10).await, [ids[2], ids[0]]);
    assert_eq!(shown(Some(ids[2]), 10).await, [ids[0]]);
    assert_eq!(shown(None, 1).await, [ids[2]]);
    let before = usage(ledger, OwnerId::LOCAL).await.pixels;
    assert!(matches!(ledger.retry_for_owner(ids[0], limits()).await.unwrap(), Some(Retried::Now(_))));
    assert!(matches!(ledger.retry_for_owner(ids[1], limits()).await.unwrap(), Some(Retried::WrongState(_))));
    assert!(ledger.retry_for_owner(JobId::fresh(), limits()).await.unwrap().is_none());
    assert_eq!(usage(ledger, OwnerId::LOCAL).await.pixels, before);
    assert_eq!(shown(None, 10).await, [ids[2]]);
}
