//! Uploads that were announced and are not completed.

use uuid::Uuid;

use super::query::{Readers, Row, Value, query, signed};
use super::quotas;
use super::writer::Tx;
use crate::job::{Lane, OwnerId, UploadId};
use crate::store::quotas::{Demand, Quota};
use crate::store::{Announced, AnnouncedUpload, LedgerError, LedgerResult};

/// See [`crate::store::Ledger::announce`].
pub(in crate::store) async fn announce(
    tx: &mut Tx,
    uploads: Vec<AnnouncedUpload>,
    limit: u64,
    quota: Option<Quota>,
) -> LedgerResult<Announced> {
    let row = query("SELECT count(*) AS n, min(expires_at_ms) AS first FROM uploads").fetch_one(&mut tx.conn).await?;
    let measured: u64 = row.number("n")?;
    if measured.saturating_add(uploads.len() as u64) > limit {
        return Ok(Announced::TooMany { measured, room_at_ms: row.get::<Option<i64>>("first")?.unwrap_or(0) });
    }
    if let (Some(quota), Some(first)) = (quota, uploads.first()) {
        let bytes = uploads.iter().map(|upload| upload.size_bytes).sum();
        let demand = Demand { bytes, ..Demand::default() };
        if let Some(reached) = quotas::reached(tx, first.owner, Some(quota), demand).await? {
            return Ok(Announced::QuotaReached(reached));
        }
    }
    for upload in uploads {
        query(
            "INSERT INTO uploads (id, owner, filename, content_type, size_bytes, sha256, preset, settings, lane, \
             expires_at_ms, dedup, reserved_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $5)",
        )
        .bind(upload.id.0)
        .bind(upload.owner.0)
        .bind(upload.filename)
        .bind(upload.content_type)
        .bind(signed(upload.size_bytes)?)
        .bind(upload.sha256)
        .bind(upload.preset)
        .bind(Value::json(&upload.set)?)
        .bind(upload.lane.map(Lane::as_str))
        .bind(upload.expires_at_ms)
        .bind(upload.dedup)
        .execute(&mut tx.conn)
        .await?;
    }
    Ok(Announced::Created)
}

/// See [`crate::store::Ledger::announced`].
pub(in crate::store) async fn announced(
    readers: &Readers,
    owner: OwnerId,
    id: UploadId,
) -> LedgerResult<Option<AnnouncedUpload>> {
    let found = query("SELECT * FROM uploads WHERE id = $1 AND owner = $2").bind(id.0).bind(owner.0);
    found.fetch_optional(readers).await?.as_ref().map(upload).transpose()
}

fn upload(row: &Row) -> LedgerResult<AnnouncedUpload> {
    let lane = row.get::<Option<String>>("lane")?;
    let no_lane = |name: &str| LedgerError::Corrupt(format!("lane {name}"));
    Ok(AnnouncedUpload {
        id: UploadId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        filename: row.get("filename")?,
        content_type: row.get("content_type")?,
        size_bytes: row.number("size_bytes")?,
        sha256: row.get("sha256")?,
        preset: row.get("preset")?,
        set: row.json("settings")?,
        lane: lane.map(|name| Lane::parse(&name).ok_or_else(|| no_lane(&name))).transpose()?,
        dedup: row.get("dedup")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}

/// See [`crate::store::Ledger::upload_known`].
pub(in crate::store) async fn known(readers: &Readers, id: UploadId) -> LedgerResult<bool> {
    query("SELECT EXISTS (SELECT 1 FROM uploads WHERE id = $1)").bind(id.0).scalar(readers).await
}

/// See [`crate::store::Ledger::expired_uploads`].
pub(in crate::store) async fn expired(readers: &Readers, before_ms: i64, limit: u32) -> LedgerResult<Vec<UploadId>> {
    let ids: Vec<Uuid> = query("SELECT id FROM uploads WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2")
        .bind(before_ms)
        .bind(i64::from(limit))
        .scalars(readers)
        .await?;
    Ok(ids.into_iter().map(UploadId).collect())
}

/// See [`crate::store::Ledger::forget_uploads`].
pub(in crate::store) async fn forget(tx: &mut Tx, ids: &[UploadId]) -> LedgerResult<()> {
    for id in ids {
        query("DELETE FROM uploads WHERE id = $1").bind(id.0).execute(&mut tx.conn).await?;
    }
    Ok(())
}
