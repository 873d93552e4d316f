//! `PUT /uploads/{id}/content`: the bytes of an announced upload, where objects live on the disk of this server.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use serde::Deserialize;
use tokio::time::Instant;

use super::enough_room;
use crate::blobs::{BlobError, CHECKSUM_HEADER, Key, Written};
use crate::http::AppState;
use crate::http::extract::{Path, Query};
use crate::http::incoming::{BodyBounds, pieces};
use crate::http::limits::busy;
use crate::http::problem::{Kind, Problem};
use crate::job::UploadId;

/// What the path was signed with.
#[derive(Debug, Deserialize)]
pub struct Signed {
    /// Seconds since 1970.
    expires: i64,
    /// Hex.
    signature: String,
}

/// Takes the bytes of an announced upload at a signed path; the signature is all that is asked for.
#[utoipa::path(put, path = "/uploads/{id}/content", operation_id = "put_upload", tag = "uploads",
    request_body(content((Vec<u8> = "application/octet-stream"))),
    params(("id" = String, Path, format = Uuid), ("expires" = i64, Query), ("signature" = String, Query),
        ("x-amz-checksum-sha256" = String, Header, description = "Base64"), ("if-none-match" = String, Header)),
    responses(
    (status = 200, description = "The bytes are there"),
    (status = 400, description = "`incomplete_body`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 403, description = "`url_not_valid`, `url_expired`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`already_uploaded`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`upload_differs`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    State(state): State<AppState>,
    Path(id): Path<UploadId>,
    Query(signed): Query<Signed>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let not_valid = || {
        Problem::new(Kind::UrlNotValid, "The URL does not stand for these headers.")
            .remedy("Send exactly the headers that came with the URL.")
    };
    let (expected, content_type) = announced(request.headers()).ok_or_else(not_valid)?;
    if !state.signer.verifies(&signed.signature, id, &expected, &content_type, signed.expires) {
        return Err(not_valid());
    }
    if time::OffsetDateTime::now_utc().unix_timestamp() > signed.expires {
        return Err(Problem::new(Kind::UrlExpired, "The URL has expired.").remedy("Announce the upload again."));
    }
    let places = state.config.http.uploads_max;
    let place = Arc::clone(&state.uploads).try_acquire_owned().map_err(|_| busy("uploads", places))?;
    enough_room(&state, expected.size_bytes)?;
    let work = state.clone();
    let taken = async move {
        let _place = place;
        take(&work, id, &expected, request).await
    };
    state.task(taken).await?;
    Ok(StatusCode::OK)
}

async fn take(state: &AppState, id: UploadId, expected: &Written, request: Request) -> Result<(), Problem> {
    let used = || Problem::new(Kind::AlreadyUploaded, "The bytes are there already.").remedy("Complete the upload.");
    let key = Key::Upload(id);
    match state.blobs.head(&key).await {
        Err(BlobError::NotFound) => {}
        Ok(_) => return Err(used()),
        Err(error) => return Err(error.into()),
    }
    let bounds = BodyBounds {
        bytes_max: expected.size_bytes,
        deadline: Instant::now() + state.request_timeout(),
        idle: state.idle_timeout(),
    };
    let mut broken = None;
    let body = pieces(request.into_body(), bounds).map(|piece| {
        piece.map_err(|fault| {
            let reason = fault.to_string();
            broken = Some(Problem::from(fault));
            std::io::Error::other(reason)
        })
    });
    let put = state.blobs.put_exactly(&key, body, expected).await;
    match put {
        Ok(()) => Ok(()),
        Err(BlobError::Mismatch(why)) => Err(Problem::upload_differs(why)),
        Err(BlobError::Taken) => Err(used()),
        Err(error) => Err(broken.unwrap_or_else(|| error.into())),
    }
}

/// What the headers say the body is, which is what was signed, or nothing.
fn announced(headers: &HeaderMap) -> Option<(Written, String)> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    };
    one(header::IF_NONE_MATCH.as_str()).filter(|condition| *condition == "*")?;
    let size_bytes = one(header::CONTENT_LENGTH.as_str())?.parse().ok()?;
    let sha256 = hex::encode(BASE64.decode(one(CHECKSUM_HEADER)?).ok()?);
    Some((Written { size_bytes, sha256 }, one(header::CONTENT_TYPE.as_str())?.to_owned()))
}
