//! `POST /images`: bytes to the object store first, then image, job and outbox row in one transaction, then 202.

mod accept;
pub mod announce;
mod asked;
pub mod complete;
pub mod content;
pub mod recall;
mod receive;
pub mod submitted;
pub mod tus;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use self::asked::Asked;
use super::AppState;
use super::extract::{Owner, Query};
use super::limits::{busy, queue_full};
use super::problem::{Kind, Problem};
use super::quota;
use super::shapes::Items;
use crate::job::{ImageId, OwnerId, RefusalCode, UploadId};
use crate::store::QueueFull;
use crate::store::producers::Submitted;
use crate::traces::Moment;

/// What boundaries and part headers of a form may add to its files, bytes a part: usual ones take 200.
const PART_OVERHEAD_BYTES: u64 = 4096;
/// Longest idempotency key, bytes.
const KEY_BYTES_MAX: usize = 255;

/// The form of an upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read as a stream; this says what may be in it")]
struct Form {
    /// One or more.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<Vec<u8>>,
    /// Name of the preset; the first one if empty.
    preset: Option<String>,
    /// A setting that differs from the preset's, as `key=value`; may be repeated. `set.<key>` is the same.
    set: Option<Vec<String>>,
    /// `interactive` or `bulk`; chosen by the number of unfinished jobs if left out.
    lane: Option<String>,
    /// `true`: the same image, made into the same, will do if it is there; it is not stored again.
    dedup: Option<bool>,
}

/// One request on its way.
struct Upload {
    state: AppState,
    owner: OwnerId,
    asked: Asked,
    key: Option<String>,
    /// The whole body.
    bytes_max: u64,
    is_form: bool,
    /// What has been stored so far: it is removed unless a row comes to own it.
    stored: Vec<ImageId>,
    /// What its sender knows it by, when it came over the bus.
    submitted: Option<Submitted>,
    /// The announced upload that it completes.
    upload: Option<UploadId>,
    /// When its request came.
    began: Moment,
    _place: OwnedSemaphorePermit,
}

/// Uploads images: the raw bytes of one, or `multipart/form-data` with one or more `file` parts.
///
/// In the query, `set.<key>=<value>` is the same as `set=<key>=<value>`. With several files a refused one has `error`
/// in place of its job; if all are refused, the answer is the problem of the first. With an `Idempotency-Key` the same
/// key and files give the same images and jobs. With `dedup=true` a file that is there already, with a job of the same
/// preset and settings that has succeeded or is on its way, is answered with that image and job, marked `deduplicated`; the
/// status is 200 if nothing new was stored.
#[utoipa::path(post, path = "/images", operation_id = "upload_images", tag = "images",
    request_body(content((Vec<u8> = "application/octet-stream"), (Form = "multipart/form-data"))),
    params(("preset" = Option<String>, Query, example = "document"),
        ("filename" = Option<String>, Query, description = "Of raw bytes"),
        ("lane" = Option<String>, Query, description = "`interactive` or `bulk`"),
        ("dedup" = Option<bool>, Query, description = "Whether the same image, made into the same, will do if it is there"),
        ("set" = Option<Vec<String>>, Query, example = json!(["quality=70"])),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters")), responses(
    (status = 200, description = "All of it was there already", body = Items,
     headers(("Location" = String, description = "The first job"))),
    (status = 202, body = Items, headers(("Location" = String, description = "The first job"))),
    (status = 400, description = "`empty_body`, `incomplete_body`, `invalid_multipart`, `invalid_parameter`",
     body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`, `too_many_parts`, `too_many_pixels`, `side_too_long`, \
     `too_many_pages`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_format`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`malformed`, `unknown_preset`, `invalid_setting`, `missing_file`, \
     `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`storage_quota_reached`; `pixel_quota_reached`, `job_quota_reached`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, `overloaded`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::from_query(query)?;
    // What is known to be wrong is said before a byte is read; the fields of a form can add to it.
    state.presets.resolve(&asked.preset, &asked.set)?;
    let key = idempotency_key(request.headers())?;
    let places = state.config.http.uploads_max;
    let place = Arc::clone(&state.uploads).try_acquire_owned().map_err(|_| busy("uploads", places))?;
    let is_form = is_form(request.headers());
    let http = &state.config.http;
    let overhead = if is_form { PART_OVERHEAD_BYTES.saturating_mul(http.parts_max as u64) } else { 0 };
    let bytes_max = http.body_bytes_max.saturating_add(overhead);
    let is_known = admit(&state, owner, request.headers(), bytes_max, key.as_deref()).await?;
    // What is there already needs no room; whether it is, its bytes tell.
    if !is_known && !asked.dedup {
        let bytes = announced(request.headers()).unwrap_or(0).saturating_sub(overhead);
        quota::admit(&state, owner, quota::upload_of(bytes)).await?;
    }
    let stored = Vec::new();
    let upload = Upload {
        state: state.clone(),
        owner,
        asked,
        key,
        bytes_max,
        is_form,
        stored,
        submitted: None,
        upload: None,
        began: Moment::now(),
        _place: place,
    };
    let items = state.task(upload.run(request)).await?;
    let mut response = (items.status(), axum::Json(&items)).into_response();
    if let Some(location) = items.first_job_url().and_then(|url| HeaderValue::try_from(url).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

impl Upload {
    async fn run(mut self, request: Request) -> Result<Items, Problem> {
        let answered = match self.receive(request).await {
            Ok(received) => self.accept(received).await,
            Err(problem) => Err(problem),
        };
        self.settle(answered).await
    }

    /// Gives the answer, and removes what was stored for it where no row came to own it.
    async fn settle(&self, answered: Result<accept::Answered, Problem>) -> Result<Items, Problem> {
        let is_kept = answered.as_ref().is_ok_and(|answered| answered.is_new);
        if !is_kept || self.asked.dedup {
            self.discard().await;
        }
        answered.map(|answered| answered.items)
    }

    /// Removes what was stored. An object whose row is there all the same (a commit whose answer was lost) stays; one
    /// that cannot be asked about is left to the janitor.
    async fn discard(&self) {
        for &image in &self.stored {
            match self.state.ledger.image_known(image).await {
                Ok(false) => receive::remove(&self.state, image).await,
                Ok(true) => {}
                Err(error) => tracing::warn!(%image, %error, "left to the janitor"),
            }
        }
    }
}

/// The key of a request that is to have its effect once.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().filter(|text| is_key(text));
    match (key, keys.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid("An Idempotency-Key has 1 to 255 visible ASCII characters, and there is one.")),
    }
}

/// Keys of this server's own have a space.
fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}

/// The length of the body, if it is said.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Refuses what cannot be taken, before a byte of the body is read. True when the key was answered before.
async fn admit(
    state: &AppState,
    owner: OwnerId,
    headers: &HeaderMap,
    bytes_max: u64,
    key: Option<&str>,
) -> Result<bool, Problem> {
    let announced = announced(headers);
    if announced == Some(0) {
        return Err(Problem::new(Kind::Refused(RefusalCode::EmptyBody), "The body is empty."));
    }
    if let Some(announced) = announced.filter(|&announced| announced > bytes_max) {
        return Err(Problem::body_too_large(state.config.http.body_bytes_max, format!("{announced} bytes")));
    }
    state.blobs.in_reach()?;
    enough_room(state, announced.unwrap_or(0))?;
    // An answer that was given before is given again however long the queue is now.
    if let Some(key) = key
        && state.ledger.recall(owner, key).await?.is_some()
    {
        return Ok(true);
    }
    let counts = state.ledger.counts().await?;
    let unfinished: u64 = counts.values().sum();
    let limit = state.config.jobs.queue_jobs_max;
    if unfinished >= limit {
        return Err(queue_full(state, QueueFull { limit, measured: unfinished }, 1).await);
    }
    Ok(false)
}

/// Refuses what would take the disk below its watermark: finishing what was accepted needs room.
fn enough_room(state: &AppState, announced_bytes: u64) -> Result<(), Problem> {
    let needed = state.config.blobs.free_bytes_min.saturating_add(announced_bytes);
    let Some(free) = state.blobs.free_bytes()?.filter(|&free| free < needed) else { return Ok(()) };
    Err(Problem::new(Kind::StorageFull, "There is too little room on the disk for more uploads.")
        .figures(format!("{needed} bytes free"), format!("{free} bytes free"))
        .remedy("Delete images that are no longer needed, or give the server more room."))
}
