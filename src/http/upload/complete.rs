//! `POST /uploads/{id}/complete`: what was put is looked at, copied to a key of its own, and becomes an image with a job.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::asked::Asked;
use super::receive::Received;
use super::{Upload, admit};
use crate::blobs::{BlobError, Key};
use crate::http::AppState;
use crate::http::extract::{Owner, Path};
use crate::http::limits::busy;
use crate::http::problem::{Kind, Problem};
use crate::http::quota;
use crate::http::shapes::{Item, Items};
use crate::job::{RefusalCode, UploadId};
use crate::store::AnnouncedUpload;
use crate::store::quotas::Demand;
use crate::traces::Moment;

/// Turns an announced upload whose bytes were put into an image and a job.
///
/// Length, hash and type are looked at again, and what was looked at is what is kept: a later PUT changes nothing. Asked
/// again, it gives the same image and job.
#[utoipa::path(post, path = "/uploads/{id}/complete", operation_id = "complete_upload", tag = "uploads",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, description = "It was there already, as was asked for", body = Item,
     headers(("Location" = String, description = "The job"))),
    (status = 202, body = Item, headers(("Location" = String, description = "The job"))),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_uploaded`: the bytes are not there yet", body = Problem,
     content_type = "application/problem+json"),
    (status = 413, description = "`too_many_pixels`, `side_too_long`, `too_many_pages`", body = Problem,
     content_type = "application/problem+json"),
    (status = 422, description = "`upload_differs`, `malformed`", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`storage_quota_reached`; `pixel_quota_reached`, `job_quota_reached`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, `overloaded`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn complete(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<UploadId>,
) -> Result<Response, Problem> {
    let places = state.config.http.uploads_max;
    let place = Arc::clone(&state.uploads).try_acquire_owned().map_err(|_| busy("uploads", places))?;
    // With a space, so that it is no key that a client can send.
    let key = format!("upload {id}");
    admit(&state, owner, &axum::http::HeaderMap::new(), u64::MAX, Some(&key)).await?;
    let upload = Upload {
        state: state.clone(),
        owner,
        asked: Asked::default(),
        key: Some(key),
        bytes_max: 0,
        is_form: false,
        stored: Vec::new(),
        submitted: None,
        upload: Some(id),
        began: Moment::now(),
        _place: place,
    };
    let items = state.task(upload.complete(id)).await?;
    let status = items.status();
    let location = items.first_job_url().and_then(|url| HeaderValue::try_from(url).ok());
    let item = items.items.into_iter().next().ok_or_else(|| Problem::internal(&"an answer without an item"))?;
    if let Some(problem) = item.error {
        return Err(problem);
    }
    let mut response = (status, axum::Json(item)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

impl Upload {
    async fn complete(mut self, id: UploadId) -> Result<Items, Problem> {
        if let Some(earlier) = self.state.ledger.recall(self.owner, self.key.as_deref().unwrap_or_default()).await? {
            let same = earlier.fingerprint.clone();
            return Ok(self.replay(earlier, Some(&same)).await?.items);
        }
        let row = self.state.ledger.announced(self.owner, id).await?;
        let row = row.ok_or_else(|| Problem::not_found("upload"))?;
        self.asked = Asked {
            preset: row.preset.clone(),
            set: row.set.clone(),
            lane: row.lane,
            dedup: row.dedup,
            filename: None,
        };
        let demand = Demand { upload: Some(id), ..quota::upload_of(row.size_bytes) };
        if !row.dedup {
            quota::admit(&self.state, self.owner, demand).await?;
        }
        let received = self.receive_announced(&row).await;
        if let Err(problem) = &received
            && problem.status == StatusCode::UNPROCESSABLE_ENTITY.as_u16()
            && let Err(error) = self.state.blobs.delete(&Key::Upload(id)).await
        {
            tracing::warn!(upload = %id, %error, "wrong bytes are left to the janitor");
        }
        let answered = match received {
            Ok(received) => self.accept(vec![received]).await,
            Err(problem) => Err(problem),
        };
        self.settle(answered).await
    }

    /// Copies the bytes to the image's own key. They are hashed on the way, so what was looked at is what is kept.
    async fn receive_announced(&mut self, row: &AnnouncedUpload) -> Result<Received, Problem> {
        let object = match self.state.blobs.get_stream(&Key::Upload(row.id)).await {
            Ok(object) => object,
            Err(BlobError::NotFound) => {
                let problem = Problem::new(Kind::NotUploaded, "The bytes of this upload are not there yet.");
                return Err(problem.remedy("Put them to the URL first; announce the upload again if it has expired."));
            }
            Err(error) => return Err(error.into()),
        };
        if object.size_bytes != row.size_bytes {
            return Err(Problem::upload_differs(format!("{} bytes, not {}", object.size_bytes, row.size_bytes)));
        }
        let broken = |error: std::io::Error| Problem::unavailable(&error);
        let image = self.store(&row.filename, object.stream, broken).await.map_err(|problem| {
            let is_no_image = problem.code == RefusalCode::UnsupportedFormat.as_str();
            if is_no_image { Problem::upload_differs(problem.detail) } else { problem }
        })?;
        if image.sha256 != row.sha256 {
            return Err(Problem::upload_differs(format!("SHA-256 {}, not {}", image.sha256, row.sha256)));
        }
        if image.content_type != row.content_type {
            return Err(Problem::upload_differs(format!("{}, not {}", image.content_type, row.content_type)));
        }
        Ok(Received { filename: row.filename.clone(), outcome: Ok(image) })
    }
}
