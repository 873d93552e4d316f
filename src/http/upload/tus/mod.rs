//! `/tus`: uploads that come in pieces and go on where they were interrupted, by the protocol tus 1.0.0
//! (<https://tus.io/protocols/resumable-upload>) with creation, creation-with-upload, expiration, checksum and termination.
//!
//! What a PATCH brings is cut into pieces; each is an object in the store and then a row, and only then acknowledged. So
//! every node that shares store and ledger can go on. The last piece is acknowledged together with image and job: a
//! client that hears of no success sends it again.

mod complete;
pub mod create;
mod headers;
pub mod patch;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::accept::items_now;
use crate::blobs::Prefix;
use crate::http::AppState;
use crate::http::extract::{Owner, Path};
use crate::http::problem::{Kind, Problem};
use crate::http::shapes::Item;
use crate::job::{OwnerId, UploadId};
use crate::store::resumable::ResumableUpload;
use crate::store::rfc3339;

/// The version that is spoken.
const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const EXTENSIONS: HeaderValue =
    HeaderValue::from_static("creation,creation-with-upload,expiration,checksum,termination");

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
/// Our own: what became of an upload.
const INKPOOL_IMAGE: HeaderName = HeaderName::from_static("inkpool-image");
const INKPOOL_JOB: HeaderName = HeaderName::from_static("inkpool-job");

/// An upload that comes in pieces.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResumableState {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    id: UploadId,
    /// As it will be called.
    #[schema(example = "scan.jpg")]
    filename: String,
    /// Its whole length, bytes.
    size_bytes: u64,
    /// What is there, bytes: it goes on from here.
    offset_bytes: u64,
    /// RFC 3339, UTC: an upload that is not finished is kept until then.
    #[schema(format = DateTime)]
    expires_at: String,
    /// Image and job, once it is finished.
    item: Option<Item>,
}

/// Says the protocol's version with every answer; outermost, so that refusals have it as well.
pub fn speaking(group: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    group.route_layer(from_fn(speak))
}

async fn speak(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(TUS_RESUMABLE, VERSION);
    if response.status() == StatusCode::PRECONDITION_FAILED {
        response.headers_mut().insert(TUS_VERSION, VERSION);
    }
    response
}

/// Refuses requests in another version of the protocol, or in none.
fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get(TUS_RESUMABLE) == Some(&VERSION) {
        return Ok(());
    }
    Err(Problem::new(Kind::TusVersion, "The request does not say Tus-Resumable: 1.0.0.")
        .remedy("Use a client for tus 1.0.0; for one request without going on later there is POST /api/v1/images."))
}

/// The longest upload, bytes.
fn bytes_max(state: &AppState) -> u64 {
    state.config.http.body_bytes_max.min(state.config.tus.bytes_max())
}

async fn known(state: &AppState, owner: OwnerId, id: UploadId) -> Result<ResumableUpload, Problem> {
    state.ledger.resumable(owner, id).await?.ok_or_else(|| Problem::not_found("upload"))
}

/// Image and job of a finished upload, as they are now.
async fn item_of(state: &AppState, row: &ResumableUpload) -> Result<Option<Item>, Problem> {
    if !row.is_finished() {
        return Ok(None);
    }
    // Keys are kept as long as events, which may be shorter.
    let Some(earlier) = state.ledger.recall(row.owner, &row.key).await? else { return Ok(None) };
    Ok(items_now(state, row.owner, earlier).await?.items.into_iter().next())
}

/// What the headers of an answer say of an upload.
fn told(offset_bytes: u64, row: &ResumableUpload, item: Option<&Item>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(UPLOAD_OFFSET, offset_bytes.into());
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    put(UPLOAD_EXPIRES, headers::date(row.expires_at_ms));
    if let Some(image) = item.and_then(|item| item.image.as_ref()) {
        put(INKPOOL_IMAGE, image.id.to_string());
    }
    if let Some(job) = item.and_then(|item| item.job.as_ref()?["id"].as_str()) {
        put(INKPOOL_JOB, job.to_owned());
        put(header::LOCATION, format!("/api/v1/jobs/{job}"));
    }
    headers
}

/// What is spoken here: version, extensions and limits of the protocol tus.
#[utoipa::path(options, path = "/tus", operation_id = "tus_options", tag = "uploads", responses(
    (status = 204, description = "In headers", headers(
        ("Tus-Version" = String), ("Tus-Extension" = String), ("Tus-Max-Size" = u64, description = "Bytes"),
        ("Tus-Checksum-Algorithm" = String))),
))]
pub async fn options(State(state): State<AppState>) -> Response {
    let headers = [
        (TUS_VERSION, VERSION),
        (TUS_EXTENSION, EXTENSIONS),
        (TUS_MAX_SIZE, bytes_max(&state).into()),
        (TUS_CHECKSUM_ALGORITHM, HeaderValue::from_static(headers::ALGORITHMS)),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// How much of an upload is there, in headers.
#[utoipa::path(head, path = "/tus/{id}", operation_id = "head_tus_upload", tag = "uploads",
    params(("id" = String, Path, format = Uuid), ("Tus-Resumable" = String, Header, description = "`1.0.0`")),
    responses(
    (status = 200, description = "In headers", headers(
        ("Upload-Offset" = u64, description = "Bytes"), ("Upload-Length" = u64, description = "Bytes"),
        ("Upload-Metadata" = String), ("Upload-Expires" = String),
        ("Inkpool-Image" = String, description = "Once it is finished"),
        ("Inkpool-Job" = String, description = "Once it is finished"))),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn head(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<UploadId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    let row = known(&state, owner, id).await?;
    let item = item_of(&state, &row).await?;
    let mut headers = told(row.offset_bytes, &row, item.as_ref());
    headers.insert(UPLOAD_LENGTH, row.size_bytes.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(metadata) = HeaderValue::try_from(&row.metadata)
        && !metadata.is_empty()
    {
        headers.insert(UPLOAD_METADATA, metadata);
    }
    Ok((StatusCode::OK, headers).into_response())
}

/// An upload that comes in pieces: how much is there, and image and job once it is finished.
#[utoipa::path(get, path = "/tus/{id}", operation_id = "show_tus_upload", tag = "uploads",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = ResumableState),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<UploadId>,
) -> Result<Response, Problem> {
    let row = known(&state, owner, id).await?;
    let item = item_of(&state, &row).await?;
    let ResumableUpload { filename, size_bytes, offset_bytes, expires_at_ms, .. } = row;
    let expires_at = rfc3339(expires_at_ms);
    let shown = ResumableState { id, filename, size_bytes, offset_bytes, expires_at, item };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], axum::Json(shown)).into_response())
}

/// Gives an upload up: what is there of it is removed. An image that was made of it stays.
#[utoipa::path(delete, path = "/tus/{id}", operation_id = "end_tus_upload", tag = "uploads",
    params(("id" = String, Path, format = Uuid), ("Tus-Resumable" = String, Header, description = "`1.0.0`")),
    responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn terminate(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<UploadId>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    check_version(&headers)?;
    known(&state, owner, id).await?;
    let work = state.clone();
    state.task(async move { forget(&work, id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The row first: from then on nobody adds to it, and what is left of its objects has no owner.
async fn forget(state: &AppState, id: UploadId) -> Result<(), Problem> {
    state.ledger.forget_resumables(&[id]).await?;
    remove_pieces(state, id).await;
    Ok(())
}

async fn remove_pieces(state: &AppState, id: UploadId) {
    if let Err(error) = state.blobs.delete_prefix(Prefix::Pieces(id)).await {
        tracing::warn!(upload = %id, %error, "pieces are left to the janitor");
    }
}
