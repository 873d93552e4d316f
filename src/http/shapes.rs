//! What clients see: the objects of the API.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::job::{ImageId, JobError, JobId, Lane, State};
use crate::pipeline::gate::Report;
use crate::store::{FileRow, ImageRow, rfc3339};

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// `original`, `clean.png`, `p0002/clean.png`.
    #[schema(example = "clean.png")]
    pub name: String,
    /// Media type.
    #[schema(example = "image/png")]
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex; also the `ETag`.
    pub sha256: String,
    /// Pixels; `null` for what is no image, or not known yet.
    pub width_px: Option<u32>,
    /// Pixels.
    pub height_px: Option<u32>,
    /// Where its bytes are.
    pub url: String,
}

/// An upload with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    pub id: ImageId,
    /// The last component of the name it came with, without control characters.
    #[schema(example = "scan.jpg")]
    pub filename: String,
    /// By content, never by name.
    #[schema(example = "image/jpeg")]
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
    /// Width of the first page, upright, pixels.
    pub width_px: Option<u32>,
    /// Height of the first page, upright, pixels.
    pub height_px: Option<u32>,
    /// Pages.
    pub pages_count: Option<u32>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// `original` first, then what the last succeeded job made.
    pub files: Vec<File>,
    /// Oldest first.
    #[schema(value_type = Vec<String>)]
    pub job_ids: Vec<JobId>,
    /// Of its youngest job.
    pub state: Option<State>,
    /// What the gate says of its files: `clean`, `review`, `kept_original`; `null` if nothing was cleaned.
    pub verdict: Option<String>,
}

/// The shape of a job. The object itself is made by [`crate::store::job_object`], since events carry it as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    pub id: JobId,
    /// On which image.
    #[schema(value_type = String, format = Uuid)]
    pub image_id: ImageId,
    /// Name of the preset.
    #[schema(example = "document")]
    pub preset: String,
    /// Where it stands.
    pub state: State,
    /// The step it is in, or ended in.
    pub stage: Option<String>,
    /// 0 to 1.
    pub progress: f32,
    /// Attempts spent.
    pub attempt: u32,
    /// Bound.
    pub attempts_max: u32,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Of the last start.
    pub started_at: Option<String>,
    /// Of the end.
    pub finished_at: Option<String>,
    /// From the last start to the end.
    pub duration_ms: Option<i64>,
    /// The node that runs or ran it.
    pub node: Option<String>,
    /// The slot there.
    pub slot: Option<u32>,
    /// `interactive` goes first, `bulk` never starves.
    #[schema(value_type = String, example = "interactive")]
    pub lane: Lane,
    /// Whether a running job was asked to stop.
    pub cancel_requested: bool,
    /// Why the last attempt did not succeed.
    pub error: Option<JobError>,
    /// What the gate says of the cleaned pages; `null` if nothing was cleaned.
    #[schema(value_type = Option<Report>)]
    pub gate: Option<serde_json::Value>,
}

/// One upload of a request: an image with its job, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// `null` when it was refused.
    pub image: Option<Image>,
    /// Its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Job>)]
    pub job: Option<serde_json::Value>,
    /// In place of the job when it was refused: which of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// In place of the job when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Whether image and job were there already, as was asked for; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deduplicated: bool,
}

/// The answer to an upload.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Items {
    /// One for each file of the request, in its order.
    pub items: Vec<Item>,
}

impl Items {
    /// 200 where nothing new was stored, else 202.
    pub fn status(&self) -> StatusCode {
        let nothing_new = !self.items.is_empty() && self.items.iter().all(|item| item.deduplicated);
        if nothing_new { StatusCode::OK } else { StatusCode::ACCEPTED }
    }

    /// Where the first job is.
    pub fn first_job_url(&self) -> Option<String> {
        self.items.iter().find_map(|item| item.job.as_ref()?.get("id")?.as_str()?.parse().ok()).map(job_url)
    }
}

/// The path of a job.
pub fn job_url(id: JobId) -> String {
    format!("/api/v1/jobs/{id}")
}

/// An image as its owner sees it; `files` without the original.
pub fn image(row: &ImageRow, files: Vec<FileRow>) -> Image {
    let url = |name: &str| format!("/api/v1/images/{}/files/{name}", row.id);
    let original = File {
        name: "original".to_owned(),
        content_type: row.content_type.clone(),
        size_bytes: row.size_bytes,
        sha256: row.sha256.clone(),
        width_px: row.width_px,
        height_px: row.height_px,
        url: url("original"),
    };
    let outputs = files.into_iter().map(|row| File {
        url: url(&row.file.name),
        name: row.file.name,
        content_type: row.file.content_type,
        size_bytes: row.file.size_bytes,
        sha256: row.file.sha256,
        width_px: row.file.width_px,
        height_px: row.file.height_px,
    });
    Image {
        id: row.id,
        filename: row.filename.clone(),
        content_type: row.content_type.clone(),
        size_bytes: row.size_bytes,
        sha256: row.sha256.clone(),
        width_px: row.width_px,
        height_px: row.height_px,
        pages_count: row.pages_count,
        created_at: rfc3339(row.created_at_ms),
        files: std::iter::once(original).chain(outputs).collect(),
        job_ids: row.job_ids.clone(),
        state: row.state,
        verdict: row.verdict.clone(),
    }
}
