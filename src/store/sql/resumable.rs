//! Uploads that come in pieces.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::ledger::SqlLedger;
use super::query::{Row, Value, query, signed};
use super::quotas;
use super::rows::now_ms;
use super::writer::Tx;
use crate::job::{Lane, OwnerId, UploadId};
use crate::store::quotas::Demand;
use crate::store::resumable::{Begun, Held, NewResumable, Piece, ResumableBounds, ResumableUpload, Resumables};
use crate::store::{LedgerError, LedgerResult};

const ONE: &str = "SELECT * FROM resumable_uploads WHERE id = $1 AND owner = $2 AND expires_at_ms > $3";
const BY_KEY: &str = "SELECT * FROM resumable_uploads WHERE owner = $1 AND submission_key = $2";
const OF_OWNER: &str = "
    SELECT count(*) AS n, CAST(COALESCE(sum(size_bytes), 0) AS BIGINT) AS bytes, min(expires_at_ms) AS first
    FROM resumable_uploads WHERE owner = $1 AND offset_bytes < size_bytes AND expires_at_ms > $2";
const OF_ALL: &str = "
    SELECT count(*) AS n, min(expires_at_ms) AS first
    FROM resumable_uploads WHERE offset_bytes < size_bytes AND expires_at_ms > $1";
/// Two nodes may begin the same at once.
const BEGIN: &str = "
    INSERT INTO resumable_uploads (id, owner, filename, metadata, preset, settings, lane, size_bytes, offset_bytes,
        pieces_count, submission_key, expires_at_ms, holder, held_until_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, $9, $10, $1, 0)
    ON CONFLICT (owner, submission_key) DO NOTHING";
const HOLD: &str = "
    UPDATE resumable_uploads SET holder = $1, held_until_ms = $2
    WHERE id = $3 AND owner = $4 AND held_until_ms <= $5 AND expires_at_ms > $5";
const RENEW: &str =
    "UPDATE resumable_uploads SET held_until_ms = $3 WHERE id = $1 AND holder = $2 AND held_until_ms > 0";
const EXTEND: &str = "
    UPDATE resumable_uploads SET held_until_ms = $3, offset_bytes = $5, pieces_count = pieces_count + $6
    WHERE id = $1 AND holder = $2 AND held_until_ms > 0 AND offset_bytes = $4 AND size_bytes > $5";

fn after(tx: &Tx, time: Duration) -> i64 {
    tx.now_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

async fn begin(tx: &mut Tx, new: NewResumable, bounds: ResumableBounds) -> LedgerResult<Begun> {
    // What has expired and is not swept yet is not there. Its objects are without an owner then.
    query("DELETE FROM resumable_uploads WHERE owner = $1 AND submission_key = $2 AND expires_at_ms <= $3")
        .bind(new.owner.0)
        .bind(new.key.as_str())
        .bind(tx.now_ms)
        .execute(&mut tx.conn)
        .await?;
    if let Some(there) = by_key(tx, &new).await? {
        return Ok(Begun::There(there));
    }
    if let Some(full) = full(tx, &new, bounds).await? {
        return Ok(full);
    }
    let demand = Demand { bytes: new.size_bytes, ..Demand::default() };
    if let Some(reached) = quotas::reached(tx, new.owner, bounds.quota, demand).await? {
        return Ok(Begun::QuotaReached(reached));
    }
    let expires_at_ms = after(tx, new.lasts);
    let made = query(BEGIN)
        .bind(new.id.0)
        .bind(new.owner.0)
        .bind(new.filename.as_str())
        .bind(new.metadata.as_str())
        .bind(new.preset.as_str())
        .bind(Value::json(&new.set)?)
        .bind(new.lane.map(Lane::as_str))
        .bind(signed(new.size_bytes)?)
        .bind(new.key.as_str())
        .bind(expires_at_ms)
        .execute(&mut tx.conn)
        .await?;
    let there = by_key(tx, &new).await?.ok_or_else(|| LedgerError::Corrupt("an upload is missing".to_owned()))?;
    Ok(if made == 1 { Begun::Created(there) } else { Begun::There(there) })
}

async fn by_key(tx: &mut Tx, new: &NewResumable) -> LedgerResult<Option<ResumableUpload>> {
    let found = query(BY_KEY).bind(new.owner.0).bind(new.key.as_str()).fetch_optional(&mut tx.conn).await?;
    found.as_ref().map(upload).transpose()
}

async fn full(tx: &mut Tx, new: &NewResumable, bounds: ResumableBounds) -> LedgerResult<Option<Begun>> {
    let too_many = |row: &Row, unit, limit, measured| {
        let room_at_ms = row.get::<Option<i64>>("first")?.unwrap_or(0);
        Ok(Some(Begun::TooMany { unit, limit, measured, room_at_ms }))
    };
    let own = query(OF_OWNER).bind(new.owner.0).bind(tx.now_ms).fetch_one(&mut tx.conn).await?;
    let (count, bytes): (u64, u64) = (own.number("n")?, own.number("bytes")?);
    if count >= bounds.owner_open_max {
        return too_many(&own, "uploads", bounds.owner_open_max, count);
    }
    if bytes.saturating_add(new.size_bytes) > bounds.owner_bytes_max {
        return too_many(&own, "bytes", bounds.owner_bytes_max, bytes);
    }
    let all = query(OF_ALL).bind(tx.now_ms).fetch_one(&mut tx.conn).await?;
    let count: u64 = all.number("n")?;
    if count >= bounds.open_max { too_many(&all, "uploads", bounds.open_max, count) } else { Ok(None) }
}

async fn hold(tx: &mut Tx, owner: OwnerId, id: UploadId, holder: Uuid, lease: Duration) -> LedgerResult<Held> {
    let (until_ms, now_ms) = (after(tx, lease), tx.now_ms);
    let held = query(HOLD).bind(holder).bind(until_ms).bind(id.0).bind(owner.0).bind(now_ms);
    let is_held = held.execute(&mut tx.conn).await? == 1;
    let found = query(ONE).bind(id.0).bind(owner.0).bind(now_ms).fetch_optional(&mut tx.conn).await?;
    Ok(match found {
        Some(row) if is_held => Held::Yes(upload(&row)?),
        Some(row) => Held::Busy { until_ms: row.get("held_until_ms")? },
        None => Held::Gone,
    })
}

async fn extend(tx: &mut Tx, id: UploadId, holder: Uuid, pieces: &[Piece], lease: Duration) -> LedgerResult<bool> {
    let until_ms = after(tx, lease);
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return Ok(query(RENEW).bind(id.0).bind(holder).bind(until_ms).execute(&mut tx.conn).await? == 1);
    };
    let end = last.start_bytes.saturating_add(last.size_bytes);
    let count = signed(pieces.len() as u64)?;
    let extended = query(EXTEND).bind(id.0).bind(holder).bind(until_ms).bind(signed(first.start_bytes)?);
    if extended.bind(signed(end)?).bind(count).execute(&mut tx.conn).await? == 0 {
        return Ok(false);
    }
    for piece in pieces {
        query("INSERT INTO resumable_pieces (id, upload, start_bytes, size_bytes) VALUES ($1, $2, $3, $4)")
            .bind(piece.id)
            .bind(id.0)
            .bind(signed(piece.start_bytes)?)
            .bind(signed(piece.size_bytes)?)
            .execute(&mut tx.conn)
            .await?;
    }
    Ok(true)
}

async fn finish(tx: &mut Tx, id: UploadId) -> LedgerResult<()> {
    query("UPDATE resumable_uploads SET offset_bytes = size_bytes, pieces_count = 0, held_until_ms = 0 WHERE id = $1")
        .bind(id.0)
        .execute(&mut tx.conn)
        .await?;
    query("DELETE FROM resumable_pieces WHERE upload = $1").bind(id.0).execute(&mut tx.conn).await.map(drop)
}

async fn forget(tx: &mut Tx, ids: &[UploadId]) -> LedgerResult<()> {
    for id in ids {
        query("DELETE FROM resumable_uploads WHERE id = $1").bind(id.0).execute(&mut tx.conn).await?;
    }
    Ok(())
}

fn upload(row: &Row) -> LedgerResult<ResumableUpload> {
    let lane = row.get::<Option<String>>("lane")?;
    let no_lane = |name: &str| LedgerError::Corrupt(format!("lane {name}"));
    Ok(ResumableUpload {
        id: UploadId(row.get("id")?),
        owner: OwnerId(row.get("owner")?),
        filename: row.get("filename")?,
        metadata: row.get("metadata")?,
        preset: row.get("preset")?,
        set: row.json("settings")?,
        lane: lane.map(|name| Lane::parse(&name).ok_or_else(|| no_lane(&name))).transpose()?,
        size_bytes: row.number("size_bytes")?,
        offset_bytes: row.number("offset_bytes")?,
        pieces_count: row.number("pieces_count")?,
        key: row.get("submission_key")?,
        expires_at_ms: row.get("expires_at_ms")?,
    })
}

fn piece(row: &Row) -> LedgerResult<Piece> {
    Ok(Piece { id: row.get("id")?, start_bytes: row.number("start_bytes")?, size_bytes: row.number("size_bytes")? })
}

impl SqlLedger {
    /// With its time by this node's clock.
    fn here(&self, mut upload: ResumableUpload) -> ResumableUpload {
        upload.expires_at_ms = self.writer.node_ms(upload.expires_at_ms);
        upload
    }
}

#[async_trait]
impl Resumables for SqlLedger {
    async fn begin_resumable(&self, new: NewResumable, bounds: ResumableBounds) -> LedgerResult<Begun> {
        let owner = Some(new.owner);
        Ok(match self.writer.run_for(owner, move |tx| Box::pin(begin(tx, new, bounds))).await? {
            full @ Begun::QuotaReached(_) => full,
            Begun::Created(upload) => Begun::Created(self.here(upload)),
            Begun::There(upload) => Begun::There(self.here(upload)),
            Begun::TooMany { unit, limit, measured, room_at_ms } => {
                Begun::TooMany { unit, limit, measured, room_at_ms: self.writer.node_ms(room_at_ms) }
            }
        })
    }

    async fn resumable(&self, owner: OwnerId, id: UploadId) -> LedgerResult<Option<ResumableUpload>> {
        let now_ms = self.writer.database_ms(now_ms());
        let found = query(ONE).bind(id.0).bind(owner.0).bind(now_ms).fetch_optional(&self.readers).await?;
        found.as_ref().map(|row| upload(row).map(|upload| self.here(upload))).transpose()
    }

    async fn hold_resumable(&self, owner: OwnerId, id: UploadId, holder: Uuid, lease: Duration) -> LedgerResult<Held> {
        Ok(match self.writer.run(move |tx| Box::pin(hold(tx, owner, id, holder, lease))).await? {
            Held::Yes(upload) => Held::Yes(self.here(upload)),
            Held::Busy { until_ms } => Held::Busy { until_ms: self.writer.node_ms(until_ms) },
            Held::Gone => Held::Gone,
        })
    }

    async fn extend_resumable(
        &self,
        id: UploadId,
        holder: Uuid,
        pieces: Vec<Piece>,
        lease: Duration,
    ) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(async move { extend(tx, id, holder, &pieces, lease).await })).await
    }

    async fn release_resumable(&self, id: UploadId, holder: Uuid) -> LedgerResult<()> {
        let release = "UPDATE resumable_uploads SET held_until_ms = 0 WHERE id = $1 AND holder = $2";
        self.writer
            .run(move |tx| {
                Box::pin(async move { query(release).bind(id.0).bind(holder).execute(&mut tx.conn).await.map(drop) })
            })
            .await
    }

    async fn release_resumables(&self) -> LedgerResult<()> {
        let release = "UPDATE resumable_uploads SET held_until_ms = 0 WHERE held_until_ms > 0";
        self.writer.run(move |tx| Box::pin(async move { query(release).execute(&mut tx.conn).await.map(drop) })).await
    }

    async fn pieces(&self, id: UploadId) -> LedgerResult<Vec<Piece>> {
        let all = "SELECT id, start_bytes, size_bytes FROM resumable_pieces WHERE upload = $1 ORDER BY start_bytes";
        query(all).bind(id.0).fetch_all(&self.readers).await?.iter().map(piece).collect()
    }

    async fn finish_resumable(&self, id: UploadId) -> LedgerResult<()> {
        self.writer.run(move |tx| Box::pin(finish(tx, id))).await
    }

    async fn resumable_open(&self, id: UploadId) -> LedgerResult<bool> {
        query("SELECT EXISTS (SELECT 1 FROM resumable_uploads WHERE id = $1 AND offset_bytes < size_bytes)")
            .bind(id.0)
            .scalar(&self.readers)
            .await
    }

    async fn expired_resumables(&self, before_ms: i64, limit: u32) -> LedgerResult<Vec<UploadId>> {
        let expired = "SELECT id FROM resumable_uploads WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2";
        let before_ms = self.writer.database_ms(before_ms);
        let ids: Vec<Uuid> = query(expired).bind(before_ms).bind(i64::from(limit)).scalars(&self.readers).await?;
        Ok(ids.into_iter().map(UploadId).collect())
    }

    async fn forget_resumables(&self, ids: &[UploadId]) -> LedgerResult<()> {
        let ids = ids.to_vec();
        self.writer.run(move |tx| Box::pin(async move { forget(tx, &ids).await })).await
    }
}
