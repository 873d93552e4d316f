//! `/jobs`: list, show, cancel, retry.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::AppState;
use super::extract::{Owner, Page, PageQuery, Path, Query, cut};
use super::limits::queue_full;
use super::problem::{Kind, Problem};
use super::quota;
use super::shapes::Job;
use crate::job::{JobId, State as JobState};
use crate::store::{Cancelled, JobFilter, JobRow, Retried, job_object};

/// Which jobs.
#[derive(Debug, Deserialize)]
pub struct StateQuery {
    /// Only those.
    state: Option<String>,
}

/// The jobs of the caller, newest first.
#[utoipa::path(get, path = "/jobs", operation_id = "list_jobs", tag = "jobs", 
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("state" = Option<JobState>, Query, description = "Only those")), responses(
    (status = 200, body = Page<Job>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Query(page): Query<PageQuery>,
    Query(wanted): Query<StateQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    let items_max = page.items_max(&state)?;
    let filter = JobFilter { state: wanted.state.as_deref().map(parse_state).transpose()? };
    let rows = state.ledger.jobs(owner, filter, page.before()?.map(JobId), items_max + 1).await?;
    let (rows, next_cursor) = cut(rows, items_max, |row| row.id.0);
    Ok(axum::Json(Page { items: rows.iter().map(job_object).collect(), next_cursor }))
}

fn parse_state(name: &str) -> Result<JobState, Problem> {
    let known = JobState::ALL.map(JobState::as_str).join(", ");
    JobState::parse(name).ok_or_else(|| Problem::invalid(format!("A job has no such state; there are {known}.")))
}

/// One job.
#[utoipa::path(get, path = "/jobs/{id}", operation_id = "show_job", tag = "jobs", params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Job),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<JobId>,
) -> Result<axum::Json<Value>, Problem> {
    let row = state.ledger.job(owner, id).await?.ok_or_else(|| Problem::not_found("job"))?;
    Ok(axum::Json(job_object(&row)))
}

/// Cancels a job. One that runs is asked to stop and is `cancelled` a moment later; cancelling twice is no error.
#[utoipa::path(post, path = "/jobs/{id}/cancel", operation_id = "cancel_job", tag = "jobs", params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Job),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`wrong_state`: it had succeeded or failed", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn cancel(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<JobId>,
) -> Result<axum::Json<Value>, Problem> {
    let task_state = state.clone();
    let cancelled = state.task(async move {
        let cancelled = task_state.ledger.cancel(owner, id).await?;
        if let Some(Cancelled::Asked(_)) = cancelled {
            task_state.control.stop_job(id);
        }
        Ok::<_, Problem>(cancelled)
    });
    match cancelled.await?.ok_or_else(|| Problem::not_found("job"))? {
        Cancelled::Now(row) | Cancelled::Asked(row) => Ok(axum::Json(job_object(&row))),
        Cancelled::TooLate(row) if row.state == JobState::Cancelled => Ok(axum::Json(job_object(&row))),
        Cancelled::TooLate(row) => Err(wrong_state(&row, "It has ended, so there is nothing to cancel.")),
    }
}

/// Queues a failed or cancelled job again, with a fresh budget of attempts.
#[utoipa::path(post, path = "/jobs/{id}/retry", operation_id = "retry_job", tag = "jobs", params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Job),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`wrong_state`: it has not failed and was not cancelled", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`pixel_quota_reached`, `job_quota_reached`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn retry(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<JobId>,
) -> Result<axum::Json<Value>, Problem> {
    let task_state = state.clone();
    let retried = state.task(async move {
        let retried = task_state.ledger.retry(owner, id, task_state.queue_limits()).await?;
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

/// The state of a job does not allow it.
pub fn wrong_state(row: &JobRow, why: &str) -> Problem {
    Problem::new(Kind::WrongState, format!("The job is {}. {why}", row.state))
}
