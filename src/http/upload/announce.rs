//! `POST /uploads`: uploads are announced first, then their bytes go past this server, or to a signed path of it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accept::accepted;
use super::enough_room;
use crate::blobs::{Key, Written, bound_headers};
use crate::http::AppState;
use crate::http::extract::{Json, Owner, whole};
use crate::http::filename::sanitise;
use crate::http::images::view;
use crate::http::problem::{Kind, Problem};
use crate::http::quota;
use crate::http::shapes::Item;
use crate::job::{Lane, OwnerId, RefusalCode, UploadId};
use crate::pipeline::probe::Format;
use crate::pipeline::spec::Overrides;
use crate::store::quotas::{Demand, Quota};
use crate::store::{Announced, AnnouncedUpload, rfc3339};

/// What is to come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Name of the preset; the first one if left out.
    #[serde(default)]
    #[schema(example = "document")]
    preset: String,
    /// Settings that differ from the preset's.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    set: Overrides,
    /// `interactive` or `bulk`; chosen by the number of unfinished jobs if left out.
    #[schema(value_type = Option<String>)]
    lane: Option<Lane>,
    /// Whether the same image, made into the same, will do if it is there: then nothing is to be put.
    #[serde(default)]
    dedup: bool,
    /// One or more.
    files: Vec<AnnouncedFile>,
}

/// One file that is to come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnouncedFile {
    /// Its name.
    #[schema(example = "scan.jpg")]
    filename: String,
    /// Its exact length, bytes.
    #[serde(deserialize_with = "whole")]
    size_bytes: u64,
    /// SHA-256 of its bytes, hex.
    #[schema(example = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    sha256: String,
    /// Media type, which the bytes must be of.
    #[schema(example = "image/jpeg")]
    content_type: String,
}

/// Where the bytes of one file go.
#[derive(Debug, Serialize, ToSchema)]
pub struct Target {
    /// To complete it. With `dedup` this, method, URL and time are `null` where `known` has what was there.
    #[schema(value_type = Option<String>, format = Uuid)]
    id: Option<UploadId>,
    /// `PUT`.
    method: Option<&'static str>,
    /// On the object store, or a path of this server.
    url: Option<String>,
    /// Exactly these must be sent; a browser sets the length by itself.
    headers: BTreeMap<&'static str, String>,
    /// RFC 3339, UTC. The PUT must have begun by then.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Image and job that were there already, where `dedup` was asked for: nothing is to be put, and nothing to complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<Item>,
}

/// The answer, in the order of the files.
#[derive(Debug, Serialize, ToSchema)]
pub struct Targets {
    /// One for each file.
    items: Vec<Target>,
}

/// Announces uploads, whose bytes are then put to the URLs of the answer.
///
/// A URL takes exactly the announced bytes, once, for a short time. After the PUT say `complete`. Nothing is kept of an
/// upload that is not completed.
#[utoipa::path(post, path = "/uploads", operation_id = "announce_uploads", tag = "uploads", request_body = Announcement,
    responses(
    (status = 201, body = Targets),
    (status = 400, description = "`invalid_json`, `invalid_parameter`, `empty_body`", body = Problem,
     content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`, `too_many_parts`", body = Problem,
     content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_format`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`missing_file`, `unknown_preset`, `invalid_setting`", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`storage_quota_reached`; `pixel_quota_reached`, `job_quota_reached`, with Retry-After",
     body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`too_many_uploads`, `unavailable`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 507, description = "`storage_full`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn announce(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Json(announcement): Json<Announcement>,
) -> Result<(StatusCode, axum::Json<Targets>), Problem> {
    let spec = state.presets.resolve(&announcement.preset, &announcement.set)?;
    let spec = serde_json::to_value(spec).map_err(|error| Problem::internal(&error))?;
    state.blobs.in_reach()?;
    let (mut items, mut wanted) = (Vec::new(), Vec::new());
    for row in rows(&state, owner, announcement)? {
        let known = if row.dedup { known(&state, owner, &row.sha256, &spec).await? } else { None };
        match known {
            Some(known) => items.push(known),
            None => {
                items.push(target(&state, &row).await?);
                wanted.push(row);
            }
        }
    }
    if wanted.is_empty() {
        return Ok((StatusCode::CREATED, axum::Json(Targets { items })));
    }
    // Bytes are reserved by the announcement itself; of the rest there must be some room.
    quota::admit(&state, owner, Demand { pixels: 1, jobs: 1, ..Demand::default() }).await?;
    let limit = state.config.uploads.open_max;
    match state.ledger.announce(wanted, limit, Quota::usual(&state.config)).await? {
        Announced::Created => Ok((StatusCode::CREATED, axum::Json(Targets { items }))),
        Announced::QuotaReached(full) => Err(quota::reached(&state, &full).await),
        Announced::TooMany { measured, room_at_ms } => {
            let wait_ms = u64::try_from(room_at_ms - now_ms()).unwrap_or(0);
            Err(Problem::new(Kind::TooManyUploads, "Too many uploads are announced and not completed.")
                .figures(format!("{limit} uploads"), format!("{measured} uploads"))
                .remedy("Complete those that are under way, or announce fewer at a time.")
                .retry_after(wait_ms.div_ceil(1000)))
        }
    }
}

fn now_ms() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn rows(state: &AppState, owner: OwnerId, announcement: Announcement) -> Result<Vec<AnnouncedUpload>, Problem> {
    let Announcement { preset, set, lane, dedup, files } = announcement;
    let parts_max = state.config.http.parts_max;
    if files.is_empty() {
        return Err(Problem::new(Kind::MissingFile, "No file is announced."));
    }
    if files.len() > parts_max {
        return Err(Problem::new(Kind::TooManyParts, "Too many files are announced at once.")
            .figures(format!("{parts_max} files"), format!("{} files", files.len()))
            .remedy("Announce them in several requests."));
    }
    // What can never be taken comes first: of a file that is too large, nobody needs to hear that the disk is full.
    files.iter().try_for_each(|file| check(file, state.config.http.body_bytes_max))?;
    enough_room(state, files.iter().fold(0, |sum, file| file.size_bytes.saturating_add(sum)))?;
    let lasts_ms = i64::try_from(state.config.uploads.expires_s * 1000).unwrap_or(i64::MAX);
    // Whole seconds, as they stand in URLs.
    let expires_at_ms = now_ms().saturating_add(lasts_ms) / 1000 * 1000;
    let row = |file: AnnouncedFile| AnnouncedUpload {
        id: UploadId::fresh(),
        owner,
        filename: sanitise(&file.filename),
        content_type: file.content_type,
        size_bytes: file.size_bytes,
        sha256: file.sha256.to_ascii_lowercase(),
        preset: preset.clone(),
        set: set.clone(),
        lane,
        dedup,
        expires_at_ms,
    };
    Ok(files.into_iter().map(row).collect())
}

/// What can be refused before a byte is sent.
fn check(file: &AnnouncedFile, bytes_max: u64) -> Result<(), Problem> {
    let name = sanitise(&file.filename);
    if file.size_bytes == 0 {
        return Err(Problem::new(Kind::Refused(RefusalCode::EmptyBody), format!("{name} has no bytes.")));
    }
    if file.size_bytes > bytes_max {
        return Err(Problem::body_too_large(bytes_max, format!("{} bytes", file.size_bytes)));
    }
    if file.sha256.len() != 64 || !file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Problem::invalid(format!("The sha256 of {name} is not 64 hexadecimal digits.")));
    }
    if !Format::ALL.iter().any(|format| format.content_type() == file.content_type) {
        let known: Vec<_> = Format::ALL.iter().map(|format| format.content_type()).collect();
        let refused = Kind::Refused(RefusalCode::UnsupportedFormat);
        return Err(Problem::new(refused, format!("The content_type of {name} is not of an image that is read here."))
            .remedy(format!("Known are {}.", known.join(", "))));
    }
    Ok(())
}

async fn target(state: &AppState, row: &AnnouncedUpload) -> Result<Target, Problem> {
    let expected = Written { size_bytes: row.size_bytes, sha256: row.sha256.clone() };
    let lasts = Duration::from_secs(state.config.uploads.expires_s);
    let presigned = state.blobs.presign_put(&Key::Upload(row.id), &expected, &row.content_type, lasts).await?;
    let url =
        presigned.unwrap_or_else(|| state.signer.path(row.id, &expected, &row.content_type, row.expires_at_ms / 1000));
    let headers = bound_headers(&expected, &row.content_type);
    let (id, method, url) = (Some(row.id), Some("PUT"), Some(url));
    Ok(Target { id, method, url, headers, expires_at: Some(rfc3339(row.expires_at_ms)), known: None })
}

/// What is there already of these bytes, made into the same.
async fn known(
    state: &AppState,
    owner: OwnerId,
    sha256: &str,
    spec: &serde_json::Value,
) -> Result<Option<Target>, Problem> {
    let Some((image, job)) = state.ledger.known_content(owner, sha256, spec).await? else { return Ok(None) };
    let (image, job) = (state.ledger.image(owner, image).await?, state.ledger.job(owner, job).await?);
    // Deleted meanwhile: it is put again.
    let Some((image, job)) = image.zip(job) else { return Ok(None) };
    let known = Some(accepted(view(state, owner, &image).await?, &job, true));
    Ok(Some(Target { id: None, method: None, url: None, headers: BTreeMap::new(), expires_at: None, known }))
}
