//! Uploads that come in pieces.

use super::*;
use crate::job::UploadId;
use crate::store::resumable::{Begun, Held, NewResumable, Piece, ResumableBounds, ResumableUpload};

const DAY: Duration = Duration::from_secs(86_400);
const LEASE: Duration = Duration::from_secs(60);
const BOUNDS: ResumableBounds =
    ResumableBounds { open_max: 10, owner_open_max: 5, owner_bytes_max: 1 << 40, quota: None };

pub(crate) fn new(owner: OwnerId, size_bytes: u64) -> NewResumable {
    let id = UploadId::fresh();
    NewResumable {
        id,
        owner,
        filename: "scan.png".to_owned(),
        metadata: "filename c2Nhbi5wbmc=".to_owned(),
        preset: "photo".to_owned(),
        set: [("quality".to_owned(), "70".to_owned())].into(),
        lane: Some(Lane::Bulk),
        size_bytes,
        key: format!("tus {id}"),
        lasts: DAY,
    }
}

async fn begin(ledger: &Arc<dyn Ledger>, new: NewResumable) -> ResumableUpload {
    let begun = ledger.begin_resumable(new, BOUNDS).await.unwrap();
    let Begun::Created(upload) = begun else { panic!("{begun:?}") };
    upload
}

fn piece(start_bytes: u64, size_bytes: u64) -> Piece {
    Piece { id: Uuid::now_v7(), start_bytes, size_bytes }
}

async fn hold(ledger: &Arc<dyn Ledger>, upload: &ResumableUpload) -> Uuid {
    let holder = Uuid::now_v7();
    let held = ledger.hold_resumable(upload.owner, upload.id, holder, LEASE).await.unwrap();
    assert!(matches!(held, Held::Yes(_)), "{held:?}");
    holder
}

pub(crate) async fn a_resumable_upload_is_the_owners(ledger: &Arc<dyn Ledger>) {
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let wanted = new(owner, 1 << 33);
    let made = begin(ledger, wanted.clone()).await;
    assert_eq!((made.id, made.size_bytes, made.offset_bytes), (wanted.id, 1 << 33, 0));
    assert_eq!((&made.metadata, &made.set, made.lane), (&wanted.metadata, &wanted.set, wanted.lane));
    assert_eq!(ledger.resumable(owner, made.id).await.unwrap().unwrap().key, wanted.key);
    assert_eq!(ledger.resumable(other, made.id).await.unwrap(), None);
    assert_eq!(ledger.hold_resumable(other, made.id, Uuid::now_v7(), LEASE).await.unwrap(), Held::Gone);
    assert!(ledger.resumable_open(made.id).await.unwrap());
    assert!(!ledger.resumable_open(UploadId::fresh()).await.unwrap());
}

pub(crate) async fn one_request_adds_to_an_upload(ledger: &Arc<dyn Ledger>) {
    let upload = begin(ledger, new(OwnerId::fresh(), 100)).await;
    let first = hold(ledger, &upload).await;
    let second = Uuid::now_v7();
    let busy = ledger.hold_resumable(upload.owner, upload.id, second, LEASE).await.unwrap();
    assert!(matches!(busy, Held::Busy { .. }), "{busy:?}");
    let (one, two) = (piece(0, 10), piece(10, 5));
    assert!(ledger.extend_resumable(upload.id, first, vec![one, two], LEASE).await.unwrap());
    for (holder, pieces) in [
        (second, vec![piece(15, 5)]),
        (second, vec![]),
        (first, vec![piece(10, 5)]),
        (first, vec![piece(20, 5)]),
        // The last byte is acknowledged with the image alone.
        (first, vec![piece(15, 85)]),
        (first, vec![piece(15, 86)]),
    ] {
        assert!(!ledger.extend_resumable(upload.id, holder, pieces.clone(), LEASE).await.unwrap(), "{pieces:?}");
    }
    assert!(ledger.extend_resumable(upload.id, first, vec![], LEASE).await.unwrap());
    let now = ledger.resumable(upload.owner, upload.id).await.unwrap().unwrap();
    assert_eq!((now.offset_bytes, now.pieces_count), (15, 2));
    assert_eq!(ledger.pieces(upload.id).await.unwrap(), [one, two]);
    // Given back, it is another's, and the first adds nothing more.
    ledger.release_resumable(upload.id, second).await.unwrap();
    assert!(matches!(ledger.hold_resumable(upload.owner, upload.id, second, LEASE).await.unwrap(), Held::Busy { .. }));
    ledger.release_resumable(upload.id, first).await.unwrap();
    assert!(!ledger.extend_resumable(upload.id, first, vec![piece(15, 5)], LEASE).await.unwrap());
    let third = hold(ledger, &upload).await;
    assert!(!ledger.extend_resumable(upload.id, first, vec![piece(15, 5)], LEASE).await.unwrap());
    assert!(ledger.extend_resumable(upload.id, third, vec![piece(15, 5)], LEASE).await.unwrap());
    ledger.release_resumables().await.unwrap();
    hold(ledger, &upload).await;
}

pub(crate) async fn who_is_silent_loses_an_upload(ledger: &Arc<dyn Ledger>) {
    let upload = begin(ledger, new(OwnerId::fresh(), 100)).await;
    let (silent, next) = (Uuid::now_v7(), Uuid::now_v7());
    let short = Duration::from_millis(30);
    assert!(matches!(ledger.hold_resumable(upload.owner, upload.id, silent, short).await.unwrap(), Held::Yes(_)));
    tokio::time::sleep(short * 2).await;
    let held = ledger.hold_resumable(upload.owner, upload.id, next, LEASE).await.unwrap();
    assert!(matches!(held, Held::Yes(_)), "{held:?}");
    assert!(!ledger.extend_resumable(upload.id, silent, vec![piece(0, 5)], LEASE).await.unwrap());
    assert_eq!(ledger.pieces(upload.id).await.unwrap(), []);
}

pub(crate) async fn a_key_begins_one_upload(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let first = NewResumable { key: "mine".to_owned(), ..new(owner, 100) };
    let made = begin(ledger, first.clone()).await;
    let again = NewResumable { id: UploadId::fresh(), ..first.clone() };
    let there = ledger.begin_resumable(again.clone(), BOUNDS).await.unwrap();
    assert!(matches!(&there, Begun::There(upload) if upload.id == made.id), "{there:?}");
    let others = NewResumable { owner: OwnerId::fresh(), id: UploadId::fresh(), ..first };
    begin(ledger, others).await;
    ledger.forget_resumables(&[made.id]).await.unwrap();
    assert_eq!(begin(ledger, again.clone()).await.id, again.id);
}

pub(crate) async fn resumable_uploads_are_bounded(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let bounds = ResumableBounds { open_max: 3, owner_open_max: 2, owner_bytes_max: 250, quota: None };
    let begin = async |owner, size_bytes| ledger.begin_resumable(new(owner, size_bytes), bounds).await.unwrap();
    let Begun::Created(first) = begin(owner, 200).await else { panic!() };
    let full = begin(owner, 51).await;
    assert!(matches!(full, Begun::TooMany { unit: "bytes", limit: 250, measured: 200, .. }), "{full:?}");
    assert!(matches!(begin(owner, 50).await, Begun::Created(_)));
    let full = begin(owner, 1).await;
    assert!(matches!(full, Begun::TooMany { unit: "uploads", limit: 2, measured: 2, .. }), "{full:?}");
    assert!(matches!(begin(OwnerId::fresh(), 1).await, Begun::Created(_)));
    let full = begin(OwnerId::fresh(), 1).await;
    assert!(matches!(full, Begun::TooMany { unit: "uploads", limit: 3, measured: 3, .. }), "{full:?}");
    // What is finished does not count.
    ledger.finish_resumable(first.id).await.unwrap();
    assert!(matches!(begin(owner, 200).await, Begun::Created(_)));
}

pub(crate) async fn resumable_uploads_end(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let upload = begin(ledger, new(owner, 100)).await;
    let holder = hold(ledger, &upload).await;
    ledger.extend_resumable(upload.id, holder, vec![piece(0, 60)], LEASE).await.unwrap();
    ledger.finish_resumable(upload.id).await.unwrap();
    let finished = ledger.resumable(owner, upload.id).await.unwrap().unwrap();
    assert!(finished.is_finished() && finished.pieces_count == 0);
    assert!(!ledger.resumable_open(upload.id).await.unwrap());
    assert_eq!(ledger.pieces(upload.id).await.unwrap(), []);
    assert!(!ledger.extend_resumable(upload.id, holder, vec![piece(100, 1)], LEASE).await.unwrap());

    let brief = NewResumable { lasts: Duration::ZERO, key: "brief".to_owned(), ..new(owner, 10) };
    let gone = begin(ledger, brief.clone()).await;
    assert_eq!(ledger.resumable(owner, gone.id).await.unwrap(), None);
    assert_eq!(ledger.hold_resumable(owner, gone.id, holder, LEASE).await.unwrap(), Held::Gone);
    let expired = ledger.expired_resumables(now_ms() + 10_000, 10).await.unwrap();
    assert_eq!(expired, [gone.id]);
    // Its key is free again, and so it is when it was swept.
    let next = begin(ledger, NewResumable { id: UploadId::fresh(), lasts: DAY, ..brief }).await;
    assert_ne!(next.id, gone.id);
    ledger.forget_resumables(&[next.id, upload.id]).await.unwrap();
    assert_eq!(ledger.resumable(owner, next.id).await.unwrap(), None);
}

fn now_ms() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap()
}
