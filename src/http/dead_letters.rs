//! `/dead-letters`: submissions over NATS that failed as often as they may, for administrators.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Page, PageQuery, Path, Query, cut};
use super::problem::Problem;
use super::shapes::{Item, job_url};
use super::upload::submitted;
use crate::job::DeadLetterId;
use crate::store::producers;
use crate::store::rfc3339;

/// A submission that could not be worked on.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    id: DeadLetterId,
    /// Where it was published: the last part is the owner.
    #[schema(example = "inkpool.submit.00000000-0000-0000-0000-000000000001")]
    subject: String,
    /// The message as it came.
    payload: String,
    /// How often it was tried.
    deliveries: u64,
    /// What went wrong the last time.
    #[schema(value_type = Problem)]
    problem: serde_json::Value,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<producers::DeadLetter> for DeadLetter {
    fn from(row: producers::DeadLetter) -> Self {
        let producers::DeadLetter { id, subject, payload, deliveries, problem, created_at_ms } = row;
        Self { id, subject, payload, deliveries, problem, created_at: rfc3339(created_at_ms) }
    }
}

/// Submissions over NATS that failed as often as they may, newest first.
#[utoipa::path(get, path = "/dead-letters", operation_id = "list_dead_letters", tag = "cluster",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses(
    (status = 200, body = Page<DeadLetter>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<DeadLetter>>, Problem> {
    let items_max = page.items_max(&state)?;
    let rows = state.ledger.dead_letters(page.before()?.map(DeadLetterId), items_max + 1).await?;
    let (rows, next_cursor) = cut(rows, items_max, |row| row.id.0);
    Ok(axum::Json(Page { items: rows.into_iter().map(DeadLetter::from).collect(), next_cursor }))
}

/// Tries a submission again, now. When it is taken its row goes; else the answer is why not, and the row stays.
#[utoipa::path(post, path = "/dead-letters/{id}/replay", operation_id = "replay_dead_letter", tag = "cluster",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 202, body = Item, headers(("Location" = String, description = "The job"))),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`not_uploaded`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`upload_differs`, `malformed`", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn replay(State(state): State<AppState>, Path(id): Path<DeadLetterId>) -> Result<Response, Problem> {
    let letter = state.ledger.dead_letter(id).await?.ok_or_else(|| Problem::not_found("dead letter"))?;
    let owner = letter.subject.rsplit('.').next().unwrap_or_default();
    let taken = submitted::submit(&state, owner, letter.payload.as_bytes()).await?;
    state.ledger.unbury(id).await?;
    let job = taken.item.job.as_ref().and_then(|job| job["id"].as_str()?.parse().ok());
    let location = job.map(|job| [(header::LOCATION, job_url(job))]);
    Ok((StatusCode::ACCEPTED, location, axum::Json(taken.item)).into_response())
}

/// Gives a submission up.
#[utoipa::path(delete, path = "/dead-letters/{id}", operation_id = "delete_dead_letter", tag = "cluster",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 204, description = "Gone"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(State(state): State<AppState>, Path(id): Path<DeadLetterId>) -> Result<StatusCode, Problem> {
    let gone = state.ledger.unbury(id).await?;
    gone.then_some(StatusCode::NO_CONTENT).ok_or_else(|| Problem::not_found("dead letter"))
}
