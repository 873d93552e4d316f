//! `/images`: list, show, delete, and process again.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Json, Owner, Page, PageQuery, Path, Query, cut};
use super::limits::queue_full;
use super::problem::Problem;
use super::quota;
use super::shapes::{self, Image, job_url};
use crate::job::{ImageId, JobId, OwnerId, State as JobState};
use crate::pipeline::spec::Overrides;
use crate::store::{Admission, ImageFilter, ImageRow, NewJob, job_object};
use crate::traces::{self, Moment, Span};

/// Images whose files are looked up at once for a list: as many as the ledger has readers by default.
const LOOKUPS: usize = 4;

/// Longest part of a name that is searched for: as long as a name may be.
const SEARCH_BYTES_MAX: usize = super::filename::FILENAME_BYTES_MAX;
/// What the gate can say.
const VERDICTS: [&str; 3] = ["clean", "review", "kept_original"];

/// Which images.
#[derive(Debug, Default, Deserialize)]
pub struct FindQuery {
    /// Part of the name.
    #[serde(default)]
    q: String,
    /// States of the youngest job, separated by commas.
    #[serde(default)]
    state: String,
    /// What the gate says of the files, separated by commas.
    #[serde(default)]
    verdict: String,
}

impl FindQuery {
    fn filter(&self) -> Result<ImageFilter, Problem> {
        if self.q.len() > SEARCH_BYTES_MAX {
            return Err(Problem::invalid("q is longer than a name can be.")
                .figures(format!("{SEARCH_BYTES_MAX} bytes"), format!("{} bytes", self.q.len())));
        }
        let known = JobState::ALL.map(JobState::as_str).join(", ");
        let unknown = || Problem::invalid(format!("A job has no such state; there are {known}."));
        let named = self.state.split(',').filter(|name| !name.is_empty());
        let states: Result<Vec<_>, _> = named.map(|name| JobState::parse(name).ok_or_else(unknown)).collect();
        let verdicts: Vec<_> = self.verdict.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if !verdicts.iter().all(|name| VERDICTS.contains(&name.as_str())) {
            return Err(Problem::invalid(format!("The gate says one of {}.", VERDICTS.join(", "))));
        }
        let name = Some(self.q.clone()).filter(|name| !name.is_empty());
        Ok(ImageFilter { name, states: states?, verdicts })
    }
}

/// The images of the caller, newest first.
#[utoipa::path(get, path = "/images", operation_id = "list_images", tag = "images", 
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("q" = Option<String>, Query, description = "Only those with this in their name, in small letters or large ones"),
        ("state" = Option<String>, Query, description = "Only those whose youngest job is in one of these states, \
            separated by commas", example = "queued,released,running"),
        ("verdict" = Option<String>, Query, description = "Only those of whose files the gate says one of these: `clean`, \
            `review`, `kept_original`, separated by commas", example = "review,kept_original")), responses(
    (status = 200, body = Page<Image>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Query(page): Query<PageQuery>,
    Query(find): Query<FindQuery>,
) -> Result<axum::Json<Page<Image>>, Problem> {
    let (items_max, filter) = (page.items_max(&state)?, find.filter()?);
    let before = page.before()?.map(ImageId);
    let rows = if filter.is_empty() {
        state.ledger.images(owner, before, items_max + 1).await?
    } else {
        state.ledger.find_images(owner, filter, before, items_max + 1).await?
    };
    let (rows, next_cursor) = cut(rows, items_max, |row| row.id.0);
    let views = stream::iter(rows).map(|row| {
        let state = state.clone();
        async move { view(&state, owner, &row).await }
    });
    let items = views.buffered(LOOKUPS).try_collect().await?;
    Ok(axum::Json(Page { items, next_cursor }))
}

/// One image with its files.
#[utoipa::path(get, path = "/images/{id}", operation_id = "show_image", tag = "images", params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Image),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<ImageId>,
) -> Result<axum::Json<Image>, Problem> {
    let row = state.ledger.image(owner, id).await?.ok_or_else(|| Problem::not_found("image"))?;
    Ok(axum::Json(view(&state, owner, &row).await?))
}

/// Deletes an image with its jobs and files. A running job is stopped.
#[utoipa::path(delete, path = "/images/{id}", operation_id = "delete_image", tag = "images", params(("id" = String, Path, format = Uuid)), responses(
    (status = 204, description = "Gone"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<ImageId>,
) -> Result<StatusCode, Problem> {
    let task_state = state.clone();
    // A task of its own: the rows must not go without the slots being told, even if the client hangs up.
    let deleted = state.task(async move {
        let deleted = task_state.ledger.delete_image(owner, id).await?;
        for job in deleted.iter().flat_map(|deleted| &deleted.running) {
            task_state.control.stop_job(*job);
        }
        Ok::<_, Problem>(deleted)
    });
    deleted.await?.ok_or_else(|| Problem::not_found("image"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to make of an image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"preset": "photo", "set": {}}))]
pub struct Again {
    /// Name of the preset; the first one if empty.
    #[serde(default)]
    preset: String,
    /// Settings that differ from the preset's.
    #[serde(default)]
    #[schema(value_type = Object)]
    set: Overrides,
}

/// Processes an image again, with the same or another preset.
#[utoipa::path(post, path = "/images/{id}/jobs", operation_id = "process_image_again", tag = "images", request_body = Again,
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 202, body = shapes::Job, headers(("Location" = String, description = "The job"))),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`unknown_preset`, `invalid_setting`", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`pixel_quota_reached`, `job_quota_reached`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`queue_full`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn process_again(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(image_id): Path<ImageId>,
    Json(again): Json<Again>,
) -> Result<Response, Problem> {
    let spec = state.presets.resolve(&again.preset, &again.set)?;
    let preset = spec.preset.clone();
    let spec = serde_json::to_value(spec).map_err(|error| Problem::internal(&error))?;
    let job = NewJob { id: JobId::fresh(), owner, image_id, preset, spec, lane: None };
    let (task_state, began) = (state.clone(), Moment::now());
    let admission =
        state.task(async move { Ok(task_state.ledger.process_again(job, task_state.queue_limits()).await?) }).await?;
    match admission.ok_or_else(|| Problem::not_found("image"))? {
        Admission::QueueFull(full) => Err(queue_full(&state, full, 1).await),
        Admission::QuotaReached(full) => Err(quota::reached(&state, &full).await),
        Admission::Created(row) => {
            drop(Span::since(began, row.id, None, "process again").with_id(traces::root(row.id)));
            state.control.work_arrived();
            let location = [(header::LOCATION, job_url(row.id))];
            Ok((StatusCode::ACCEPTED, location, axum::Json(job_object(&row))).into_response())
        }
    }
}

/// An image with the files it has now.
pub async fn view(state: &AppState, owner: OwnerId, row: &ImageRow) -> Result<Image, Problem> {
    Ok(shapes::image(row, state.ledger.files(owner, row.id).await?))
}
