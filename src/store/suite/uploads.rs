//! Uploads that were announced.

use super::*;
use crate::job::UploadId;
use crate::pipeline::spec::Overrides;

pub(crate) fn announced(owner: OwnerId, expires_at_ms: i64) -> AnnouncedUpload {
    AnnouncedUpload {
        id: UploadId::fresh(),
        owner,
        filename: "scan.png".to_owned(),
        content_type: "image/png".to_owned(),
        size_bytes: 1 << 33,
        sha256: "ab".repeat(32),
        preset: "photo".to_owned(),
        set: [("quality".to_owned(), "70".to_owned())].into(),
        lane: Some(Lane::Bulk),
        dedup: true,
        expires_at_ms,
    }
}

/// The clock of the database may be set while a test runs.
fn near(one_ms: i64, other_ms: i64) -> bool {
    (one_ms - other_ms).abs() < 10_000
}

pub(crate) async fn announced_uploads_are_the_owners(ledger: &Arc<dyn Ledger>) {
    let (owner, other) = (OwnerId::fresh(), OwnerId::fresh());
    let upload = announced(owner, 500_000);
    let plain = AnnouncedUpload { lane: None, dedup: false, set: Overrides::new(), ..announced(owner, 500_000) };
    let made = ledger.announce(vec![upload.clone(), plain.clone()], 10, None).await.unwrap();
    assert_eq!(made, Announced::Created);
    for upload in [&upload, &plain] {
        let found = ledger.announced(owner, upload.id).await.unwrap().unwrap();
        assert!(near(found.expires_at_ms, upload.expires_at_ms));
        assert_eq!(AnnouncedUpload { expires_at_ms: upload.expires_at_ms, ..found }, *upload);
    }
    assert_eq!(ledger.announced(other, upload.id).await.unwrap(), None);
    assert!(ledger.upload_known(upload.id).await.unwrap());
    assert!(!ledger.upload_known(UploadId::fresh()).await.unwrap());
}

pub(crate) async fn announced_uploads_are_bounded_and_expire(ledger: &Arc<dyn Ledger>) {
    let owner = OwnerId::fresh();
    let (early, late) = (announced(owner, 100_000), announced(owner, 200_000));
    ledger.announce(vec![late.clone(), early.clone()], 2, None).await.unwrap();
    let refused = ledger.announce(vec![announced(owner, 300_000)], 2, None).await.unwrap();
    let Announced::TooMany { measured: 2, room_at_ms } = refused else { panic!("{refused:?}") };
    assert!(near(room_at_ms, early.expires_at_ms));
    assert_eq!(ledger.expired_uploads(50_000, 10).await.unwrap(), []);
    assert_eq!(ledger.expired_uploads(250_000, 10).await.unwrap(), [early.id, late.id]);
    assert_eq!(ledger.expired_uploads(250_000, 1).await.unwrap(), [early.id]);
    ledger.forget_uploads(&[early.id]).await.unwrap();
    assert_eq!(ledger.announced(owner, early.id).await.unwrap(), None);
    assert_eq!(ledger.announce(vec![announced(owner, 300_000)], 2, None).await.unwrap(), Announced::Created);
}
