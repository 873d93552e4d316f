//! `POST /tus`: the beginning of an upload, perhaps with its first bytes.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::headers::{bytes, metadata, one};
use super::patch::{Taken, is_bytes, take};
use super::{UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, bytes_max, check_version, forget, told};
use crate::http::AppState;
use crate::http::extract::Owner;
use crate::http::filename::sanitise;
use crate::http::problem::{Kind, Problem};
use crate::http::quota;
use crate::http::upload::{admit, enough_room, idempotency_key};
use crate::job::{OwnerId, RefusalCode, UploadId};
use crate::store::quotas::{Demand, Quota};
use crate::store::resumable::{Begun, NewResumable, ResumableBounds, ResumableUpload};

/// Keys of uploads that came without one. With a space, so that it is no key that a client can send.
const NAMELESS: &str = "tus ";

/// Begins an upload that comes in pieces (tus 1.0.0). Its bytes follow by PATCH to the `Location`.
///
/// `Upload-Metadata` knows `filename`, `preset`, `lane`, `dedup` and `set.<key>`. With an `Idempotency-Key` the same key gives the same
/// upload, with what is there of it, and is the key of the image later. The first bytes may come with this request.
#[utoipa::path(post, path = "/tus", operation_id = "begin_tus_upload", tag = "uploads",
    params(("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Length" = u64, Header, description = "Bytes"),
        ("Upload-Metadata" = Option<String>, Header, description = "Names and values in Base64",
         example = "filename c2Nhbi5wbmc=,preset ZG9jdW1lbnQ="),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters")),
    responses(
    (status = 201, description = "It has begun, or had", headers(("Location" = String, description = "The upload"),
        ("Upload-Offset" = u64, description = "What is there, bytes"), ("Upload-Expires" = String))),
    (status = 400, description = "`empty_body`, `incomplete_body`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`, `too_many_parts`, `too_many_pixels`, `side_too_long`, `too_many_pages`",
     body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_format`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`unknown_preset`, `invalid_setting`, `idempotency_key_reused`, `malformed`", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`storage_quota_reached`; `pixel_quota_reached`, `job_quota_reached`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 460, description = "`checksum_differs`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`too_many_uploads`, `queue_full`, `overloaded`, `unavailable`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(State(state): State<AppState>, Owner(owner): Owner, request: Request) -> Result<Response, Problem> {
    check_version(request.headers())?;
    let new = wanted(&state, owner, request.headers())?;
    enough_room(&state, new.size_bytes)?;
    let is_known = admit(&state, owner, &HeaderMap::new(), u64::MAX, Some(&new.key)).await?;
    // Its bytes are reserved by the beginning itself; of the rest there must be some room. All of it is looked at once more
    // when the upload is whole.
    if !is_known {
        quota::admit(&state, owner, Demand { pixels: 1, jobs: 1, ..Demand::default() }).await?;
    }
    let asked = new.clone();
    let (row, is_new) = match state.ledger.begin_resumable(new, bounds(&state)).await? {
        Begun::Created(row) => (row, true),
        Begun::There(row) => {
            same(&row, &asked)?;
            (row, false)
        }
        Begun::QuotaReached(full) => return Err(quota::reached(&state, &full).await),
        Begun::TooMany { unit, limit, measured, room_at_ms } => {
            return Err(too_many(unit, limit, measured, room_at_ms));
        }
    };
    let mut taken = Taken { offset_bytes: row.offset_bytes, item: None };
    if is_new && is_bytes(request.headers()) {
        let id = row.id;
        taken = match take(&state, owner, &row, 0, request).await {
            Ok(taken) => taken,
            Err(problem) => {
                // Without a key of its own the client does not know it by any name.
                if asked.key.starts_with(NAMELESS) {
                    forget(&state, id).await?;
                }
                return Err(problem);
            }
        };
    }
    let mut headers = told(taken.offset_bytes, &row, taken.item.as_ref());
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/tus/{}", row.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok((StatusCode::CREATED, headers).into_response())
}

fn bounds(state: &AppState) -> ResumableBounds {
    let tus = &state.config.tus;
    let (open_max, owner_open_max, owner_bytes_max) = (tus.open_max, tus.owner_open_max, tus.owner_bytes_max);
    ResumableBounds { open_max, owner_open_max, owner_bytes_max, quota: Quota::usual(&state.config) }
}

/// What the headers ask for, if it can ever be taken.
fn wanted(state: &AppState, owner: OwnerId, headers: &HeaderMap) -> Result<NewResumable, Problem> {
    if one(headers, &UPLOAD_DEFER_LENGTH)?.is_some() {
        return Err(Problem::invalid("The length must be known at the beginning.").remedy("Send Upload-Length."));
    }
    let size_bytes = bytes(headers, &UPLOAD_LENGTH)?;
    if size_bytes == 0 {
        return Err(Problem::new(Kind::Refused(RefusalCode::EmptyBody), "The image has no bytes."));
    }
    let most = bytes_max(state);
    if size_bytes > most {
        return Err(Problem::body_too_large(most, format!("{size_bytes} bytes")));
    }
    let (metadata, asked) = metadata(headers)?;
    state.presets.resolve(&asked.preset, &asked.set)?;
    let id = UploadId::fresh();
    let key = idempotency_key(headers)?.unwrap_or_else(|| format!("{NAMELESS}{id}"));
    Ok(NewResumable {
        id,
        owner,
        filename: sanitise(asked.filename.as_deref().unwrap_or_default()),
        metadata,
        preset: asked.preset,
        set: asked.set,
        lane: asked.lane,
        size_bytes,
        key,
        lasts: state.config.tus.expires(),
    })
}

/// A key stands for one upload.
fn same(row: &ResumableUpload, asked: &NewResumable) -> Result<(), Problem> {
    let is_same = row.size_bytes == asked.size_bytes
        && row.filename == asked.filename
        && (&row.preset, &row.set, row.lane) == (&asked.preset, &asked.set, asked.lane);
    if is_same {
        return Ok(());
    }
    Err(Problem::new(Kind::IdempotencyKeyReused, "This key was used for another upload.")
        .remedy("Use a fresh key for each upload, and the same one only to go on with it."))
}

fn too_many(unit: &'static str, limit: u64, measured: u64, room_at_ms: i64) -> Problem {
    let now_ms = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let wait_ms = u64::try_from(i128::from(room_at_ms) - now_ms).unwrap_or(0);
    Problem::new(Kind::TooManyUploads, "Too many uploads were begun and are not finished.")
        .figures(format!("{limit} {unit}"), format!("{measured} {unit}"))
        .remedy("Finish them, or give them up by DELETE; the first of them expires after the time in Retry-After.")
        .retry_after(wait_ms.div_ceil(1000))
}
