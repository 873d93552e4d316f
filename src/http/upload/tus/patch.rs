//! `PATCH /tus/{id}`: bytes of an upload. They are stored and acknowledged in pieces, so that what has come is not lost when
//! the line breaks or this server is killed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Duration, Instant, timeout_at};
use uuid::Uuid;

use super::headers::{Checksum, asks_for_dedup, bytes, method};
use super::{UPLOAD_OFFSET, check_version, forget, item_of, known, told};
use crate::blobs::Key;
use crate::http::AppState;
use crate::http::extract::{Owner, Path};
use crate::http::incoming::{BodyBounds, ReadFault, pieces};
use crate::http::limits::busy;
use crate::http::problem::{Kind, Problem};
use crate::http::shapes::Item;
use crate::http::upload::asked::Asked;
use crate::http::upload::{Upload, enough_room};
use crate::job::{OwnerId, UploadId};
use crate::pipeline::probe::{SNIFF_BYTES, sniff};
use crate::store::resumable::{Held, Piece, ResumableUpload};
use crate::traces::Moment;

/// The media type of bytes at an offset.
const BYTES: &str = "application/offset+octet-stream";

/// Adds bytes to an upload (tus 1.0.0); the last of them make image and job.
///
/// What has come when the line breaks is kept, and HEAD tells how much it is; with an `Upload-Checksum` all of a request or
/// nothing. One request at a time.
#[utoipa::path(patch, path = "/tus/{id}", operation_id = "patch_tus_upload", tag = "uploads",
    request_body(content((Vec<u8> = "application/offset+octet-stream"))),
    params(("id" = String, Path, format = Uuid), ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Offset" = u64, Header, description = "Where these bytes begin, as HEAD tells it"),
        ("Upload-Checksum" = Option<String>, Header, description = "`sha1` or `sha256`, and the checksum in Base64")),
    responses(
    (status = 204, description = "They are durable", headers(("Upload-Offset" = u64, description = "Bytes"),
        ("Upload-Expires" = String), ("Location" = String, description = "The job, with the last of them"),
        ("Inkpool-Image" = String, description = "With the last of them"),
        ("Inkpool-Job" = String, description = "With the last of them"))),
    (status = 400, description = "`incomplete_body`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`offset_differs`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`, `too_many_parts`, `too_many_pixels`, `side_too_long`, `too_many_pages`",
     body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`, `unsupported_format`", body = Problem,
     content_type = "application/problem+json"),
    (status = 422, description = "`malformed`, `idempotency_key_reused`", body = Problem,
     content_type = "application/problem+json"),
    (status = 423, description = "`upload_locked`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`storage_quota_reached`; `pixel_quota_reached`, `job_quota_reached`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 460, description = "`checksum_differs`: they are thrown away", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, `overloaded`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn patch(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<UploadId>,
    request: Request,
) -> Result<Response, Problem> {
    check_version(request.headers())?;
    let row = known(&state, owner, id).await?;
    if !is_bytes(request.headers()) {
        return Err(Problem::new(Kind::UnsupportedMediaType, format!("The bytes of an upload are {BYTES}.")));
    }
    let offset = bytes(request.headers(), &UPLOAD_OFFSET)?;
    let taken = take(&state, owner, &row, offset, request).await?;
    Ok((StatusCode::NO_CONTENT, told(taken.offset_bytes, &row, taken.item.as_ref())).into_response())
}

/// For clients that can only send POST: `X-HTTP-Method-Override` says `PATCH` or `DELETE`.
#[utoipa::path(post, path = "/tus/{id}", operation_id = "override_tus_method", tag = "uploads",
    request_body(content((Vec<u8> = "application/offset+octet-stream"))),
    params(("id" = String, Path, format = Uuid), ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("X-HTTP-Method-Override" = String, Header, description = "`PATCH` or `DELETE`"),
        ("Upload-Offset" = Option<u64>, Header, description = "As with PATCH")),
    responses(
    (status = 204, description = "As the method that is meant"),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`offset_differs`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`, `unsupported_format`", body = Problem,
     content_type = "application/problem+json"),
    (status = 422, description = "`malformed`", body = Problem, content_type = "application/problem+json"),
    (status = 423, description = "`upload_locked`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 460, description = "`checksum_differs`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn posted(
    state: State<AppState>,
    owner: Owner,
    path: Path<UploadId>,
    request: Request,
) -> Result<Response, Problem> {
    check_version(request.headers())?;
    known(&state, owner.0, path.0).await?;
    match method(request.headers())? {
        "PATCH" => patch(state, owner, path, request).await,
        "DELETE" => {
            let headers = request.headers().clone();
            super::terminate(state, owner, path, headers).await.map(IntoResponse::into_response)
        }
        _ => Err(Problem::invalid("X-HTTP-Method-Override is PATCH or DELETE.")),
    }
}

/// Whether a request brings bytes of an upload.
pub fn is_bytes(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BYTES)
}

/// What is there after a request.
pub struct Taken {
    /// Bytes.
    pub offset_bytes: u64,
    /// Image and job, if the upload is whole.
    pub item: Option<Item>,
}

/// Takes the bytes of a request that begin at `offset`.
pub async fn take(
    state: &AppState,
    owner: OwnerId,
    row: &ResumableUpload,
    offset: u64,
    request: Request,
) -> Result<Taken, Problem> {
    let check = Checksum::of(request.headers())?;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced: u64 = announced.unwrap_or(0);
    if offset != row.offset_bytes {
        return Err(elsewhere(row.offset_bytes, offset));
    }
    if row.is_finished() && announced == 0 {
        return Ok(Taken { offset_bytes: offset, item: item_of(state, row).await? });
    }
    let left = row.size_bytes - offset;
    if announced > left {
        return Err(Problem::body_too_large(left, format!("{announced} bytes")));
    }
    enough_room(state, announced)?;
    let places = state.config.http.uploads_max;
    let place = Arc::clone(&state.uploads).try_acquire_owned().map_err(|_| busy("uploads", places))?;
    let holder = Uuid::now_v7();
    let hold = state.config.tus.hold();
    let row = match state.ledger.hold_resumable(owner, row.id, holder, hold).await? {
        Held::Yes(row) => row,
        Held::Gone => return Err(Problem::not_found("upload")),
        Held::Busy { until_ms } => return Err(locked(until_ms, hold)),
    };
    let ResumableUpload { preset, set, lane, key, metadata, .. } = row.clone();
    let dedup = asks_for_dedup(&metadata);
    let upload = Upload {
        state: state.clone(),
        owner,
        asked: Asked { preset, set, lane, dedup, filename: None },
        key: Some(key),
        bytes_max: left,
        is_form: false,
        stored: Vec::new(),
        submitted: None,
        upload: Some(row.id),
        began: Moment::now(),
        _place: place,
    };
    let reached = row.offset_bytes;
    let adding = Adding { upload, row, holder, check, unacknowledged: Vec::new(), reached, pieces_count: 0 };
    state.task(adding.run(offset, request.into_body())).await
}

fn elsewhere(there: u64, asked: u64) -> Problem {
    Problem::new(Kind::OffsetDiffers, "The bytes of this request do not begin where the upload goes on.")
        .figures(format!("{there} bytes"), format!("{asked} bytes"))
        .remedy("Ask by HEAD how much is there, and go on from there.")
}

fn locked(until_ms: i64, hold: Duration) -> Problem {
    let now_ms = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let wait_ms = u64::try_from(i128::from(until_ms) - now_ms).unwrap_or(0);
    Problem::new(Kind::UploadLocked, "Another request adds to this upload, or has fallen silent a moment ago.")
        .remedy("Ask by HEAD again after the time in Retry-After.")
        // No longer than a hold is, whatever the clocks say.
        .retry_after(wait_ms.div_ceil(1000).min(hold.as_secs()))
}

/// One request that adds to an upload, and holds it.
pub struct Adding {
    pub(super) upload: Upload,
    pub(super) row: ResumableUpload,
    holder: Uuid,
    check: Option<Checksum>,
    /// Stored, but to count only with the rest of the request.
    pub(super) unacknowledged: Vec<Piece>,
    /// Where the next piece begins.
    pub(super) reached: u64,
    pieces_count: u64,
}

/// Why the bytes of a request ended before the upload was whole.
enum Ended {
    AsMeant,
    Broken(ReadFault),
    Stopping,
}

impl Adding {
    async fn run(mut self, offset: u64, body: Body) -> Result<Taken, Problem> {
        let added = if offset == self.row.offset_bytes {
            self.add(body).await
        } else {
            Err(elsewhere(self.row.offset_bytes, offset))
        };
        if added.is_err() {
            self.discard().await;
        }
        let (state, id) = (&self.upload.state, self.row.id);
        if let Err(error) = state.ledger.release_resumable(id, self.holder).await {
            tracing::warn!(upload = %id, %error, "an upload is held until its time is over");
        }
        added
    }

    async fn add(&mut self, body: Body) -> Result<Taken, Problem> {
        let (rest, ended) = self.receive(body).await?;
        let whole = self.reached + rest.len() as u64 == self.row.size_bytes;
        match self.check.take() {
            Some(check) => {
                ended.meant()?;
                check.verify()?;
            }
            // All bytes are there: how the transfer ended does not matter.
            None if whole => {}
            None => {
                self.keep(rest).await?;
                ended.meant()?;
                return Ok(Taken { offset_bytes: self.reached, item: None });
            }
        }
        if whole {
            let item = self.complete(rest).await?;
            return Ok(Taken { offset_bytes: self.row.size_bytes, item: Some(item) });
        }
        self.keep(rest).await?;
        let pieces = std::mem::take(&mut self.unacknowledged);
        self.acknowledge(pieces).await?;
        Ok(Taken { offset_bytes: self.reached, item: None })
    }

    /// Stores pieces as they fill up, or as time passes; what is left at the end is given back.
    async fn receive(&mut self, body: Body) -> Result<(Bytes, Ended), Problem> {
        let state = self.upload.state.clone();
        let (piece_bytes, piece_time) = (state.config.tus.piece_bytes, Duration::from_secs(state.config.tus.piece_s));
        let deadline = Instant::now() + state.request_timeout();
        let bounds = BodyBounds { bytes_max: self.upload.bytes_max, deadline, idle: state.idle_timeout() };
        let mut body = pieces(body, bounds);
        let (mut buffer, mut due) = (BytesMut::new(), Instant::now() + piece_time);
        loop {
            let next = tokio::select! {
                next = timeout_at(due, body.next()) => next,
                () = state.shutdown.cancelled() => return Ok((buffer.freeze(), Ended::Stopping)),
            };
            let chunk = match next {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(ReadFault::TooLong(_)))) => return Err(self.too_long()),
                Ok(Some(Err(fault))) => return Ok((buffer.freeze(), Ended::Broken(fault))),
                Ok(None) => return Ok((buffer.freeze(), Ended::AsMeant)),
                Err(_) => Bytes::new(),
            };
            let is_late = chunk.is_empty();
            if let Some(check) = &mut self.check {
                check.update(&chunk);
            }
            buffer.extend_from_slice(&chunk);
            // The last piece waits: it is acknowledged with image and job.
            let is_last = |buffer: &BytesMut| self.reached + buffer.len() as u64 >= self.row.size_bytes;
            if is_late && !is_last(&buffer) {
                let all = buffer.split().freeze();
                self.keep(all).await?;
            }
            while buffer.len() > piece_bytes || buffer.len() == piece_bytes && !self.ends_at(buffer.len()) {
                let piece = buffer.split_to(piece_bytes).freeze();
                self.keep(piece).await?;
                due = Instant::now() + piece_time;
            }
            if is_late {
                due = Instant::now() + piece_time;
            }
        }
    }

    const fn ends_at(&self, length: usize) -> bool {
        self.reached + length as u64 == self.row.size_bytes
    }

    fn too_long(&self) -> Problem {
        let left = self.upload.bytes_max;
        Problem::body_too_large(left, format!("more than {left} bytes"))
    }

    /// Makes a piece durable, and acknowledges it unless there is a checksum to wait for.
    async fn keep(&mut self, bytes: Bytes) -> Result<(), Problem> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (state, id) = (self.upload.state.clone(), self.row.id);
        if self.reached == 0
            && bytes.len() >= SNIFF_BYTES
            && let Err(refusal) = sniff(&bytes[..SNIFF_BYTES])
        {
            // The rest of it need not come.
            forget(&state, id).await?;
            return Err(refusal.into());
        }
        self.pieces_count += 1;
        let limit = state.config.tus.pieces_max;
        if self.row.pieces_count + self.pieces_count > limit {
            return Err(Problem::new(Kind::TooManyParts, "The upload came in too many pieces.")
                .figures(format!("{limit} pieces"), format!("more than {limit} pieces"))
                .remedy("Begin it anew, and send more bytes with each request."));
        }
        let piece = Piece { id: Uuid::now_v7(), start_bytes: self.reached, size_bytes: bytes.len() as u64 };
        state.blobs.put_bytes(&Key::Piece { upload: id, piece: piece.id }, bytes).await?;
        crate::fault::hit("piece-durable");
        self.reached += piece.size_bytes;
        self.unacknowledged.push(piece);
        let pieces = if self.check.is_some() { Vec::new() } else { std::mem::take(&mut self.unacknowledged) };
        self.acknowledge(pieces).await
    }

    /// Says to the ledger that these are there, and that this request lives.
    async fn acknowledge(&mut self, pieces: Vec<Piece>) -> Result<(), Problem> {
        let (state, id) = (&self.upload.state, self.row.id);
        let hold = state.config.tus.hold();
        let extended = state.ledger.extend_resumable(id, self.holder, pieces.clone(), hold).await;
        if !matches!(extended, Ok(true)) {
            // To be removed, unless the answer alone was lost.
            self.unacknowledged.extend(pieces);
        }
        if extended? {
            crate::fault::hit("piece-acknowledged");
            return Ok(());
        }
        known(state, self.upload.owner, id).await?;
        Err(Problem::new(Kind::OffsetDiffers, "Another request went on with this upload meanwhile.")
            .remedy("Ask by HEAD how much is there, and go on from there."))
    }

    /// Removes what was stored and does not count.
    async fn discard(&mut self) {
        let (state, id) = (&self.upload.state, self.row.id);
        if self.unacknowledged.is_empty() {
            return;
        }
        let Ok(counted) = state.ledger.pieces(id).await else { return };
        for piece in self.unacknowledged.drain(..).filter(|piece| !counted.contains(piece)) {
            if let Err(error) = state.blobs.delete(&Key::Piece { upload: id, piece: piece.id }).await {
                tracing::warn!(upload = %id, %error, "a piece is left to the janitor");
            }
        }
    }
}

impl Ended {
    fn meant(self) -> Result<(), Problem> {
        match self {
            Self::AsMeant => Ok(()),
            Self::Broken(fault) => Err(fault.into()),
            Self::Stopping => Err(Problem::new(Kind::Unavailable, "This server is stopping; what has come is kept.")
                .remedy("Ask by HEAD how much is there, and go on from there.")
                .retry_after(1)),
        }
    }
}
