//! `GET /submissions/{key}`: what an upload with an idempotency key was answered, so that its bytes need not be sent again
//! to find out.

use axum::extract::State;

use super::accept::items_now;
use super::is_key;
use crate::http::AppState;
use crate::http::extract::{Owner, Path};
use crate::http::problem::Problem;
use crate::http::shapes::Items;

/// What `POST /images` with this Idempotency-Key was answered, with its images and jobs as they are now.
///
/// For a client that was interrupted: what is here need not be sent again. Keys are kept as long as events.
#[utoipa::path(get, path = "/submissions/{key}", operation_id = "recall_submission", tag = "images",
    params(("key" = String, Path, description = "The Idempotency-Key", example = "scan-2026-11-22-001")), responses(
    (status = 200, body = Items),
    (status = 404, description = "`not_found`: nothing was accepted with this key, or too long ago", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn recall(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(key): Path<String>,
) -> Result<axum::Json<Items>, Problem> {
    let none = || Problem::not_found("submission");
    if !is_key(&key) {
        return Err(none());
    }
    let earlier = state.ledger.recall(owner, &key).await?.ok_or_else(none)?;
    Ok(axum::Json(items_now(&state, owner, earlier).await?))
}
