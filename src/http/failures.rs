//! `/failed-jobs`: those of all owners, for administrators.

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Page, PageQuery, Path, Query, cut};
use super::jobs::wrong_state;
use super::limits::queue_full;
use super::problem::Problem;
use super::quota;
use super::shapes::Job;
use crate::job::JobId;
use crate::store::{QueueLimits, Retried, job_object, quotas};

/// A failed job.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedJob {
    /// The job.
    #[schema(value_type = Job)]
    job: Value,
    /// Name of its image.
    #[schema(example = "scan.jpg")]
    filename: String,
    /// Whose it is; `null` without accounts.
    username: Option<String>,
}

impl From<quotas::FailedJob> for FailedJob {
    fn from(row: quotas::FailedJob) -> Self {
        Self { job: job_object(&row.job), filename: row.filename, username: row.username }
    }
}

/// Failed jobs of all owners, newest first.
#[utoipa::path(get, path = "/failed-jobs", operation_id = "list_failed_jobs", tag = "cluster",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses(
    (status = 200, body = Page<FailedJob>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<FailedJob>>, Problem> {
    let items_max = page.items_max(&state)?;
    let rows = state.ledger.failed_jobs(page.before()?.map(JobId), items_max + 1).await?;
    let (rows, next_cursor) = cut(rows, items_max, |row| row.job.id.0);
    Ok(axum::Json(Page { items: rows.into_iter().map(FailedJob::from).collect(), next_cursor }))
}

/// Queues a failed or cancelled job of whoever owns it again, with a fresh budget of attempts. The bounds of its owner do not
/// count: it is the administrator who asks.
#[utoipa::path(post, path = "/failed-jobs/{id}/retry", operation_id = "retry_failed_job", tag = "cluster",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Job),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`wrong_state`: it has not failed and was not cancelled", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn retry(State(state): State<AppState>, Path(id): Path<JobId>) -> Result<axum::Json<Value>, Problem> {
    let task_state = state.clone();
    let retried = state.task(async move {
        let limits = QueueLimits { quota: None, ..task_state.queue_limits() };
        let retried = task_state.ledger.retry_for_owner(id, limits).await?;
        task_state.control.work_arrived();
        Ok::<_, Problem>(retried)
    });
    match retried.await?.ok_or_else(|| Problem::not_found("job"))? {
        Retried::Now(row) => Ok(axum::Json(job_object(&row))),
        Retried::WrongState(row) => Err(wrong_state(&row, "Only failed and cancelled jobs can be retried.")),
        Retried::QueueFull(full) => Err(queue_full(&state, full, 1).await),
        Retried::QuotaReached(full) => Err(quota::reached(&state, &full).await),
    }
}
