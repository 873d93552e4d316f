//! `/images/{id}/files/{name}`: bytes.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;

use super::AppState;
use super::extract::{Owner, Path, Query};
use super::filename::{content_disposition, of_output};
use super::problem::{Kind, Problem};
use super::range::{Wanted, wanted};
use crate::blobs::Key;
use crate::job::{ImageId, OwnerId};

/// A file shown in a browser may do nothing at all: uploads are strangers' bytes.
const FILE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// How to send it.
#[derive(Debug, Deserialize)]
pub struct FileQuery {
    /// `1`: to be saved, not shown.
    download: Option<String>,
}

/// What is to be sent.
struct Found {
    key: Key,
    content_type: String,
    size_bytes: u64,
    etag: String,
    save_as: String,
}

/// The bytes of a file. `HEAD`, `If-None-Match`, `If-Range` and one `Range` are understood.
#[utoipa::path(get, path = "/images/{id}/files/{*name}", operation_id = "show_file", tag = "images",
    params(("id" = String, Path, format = Uuid), ("name" = String, Path, example = "clean.png"),
        ("download" = Option<String>, Query, description = "`1`: to be saved, not shown")), responses(
    (status = 200, description = "All of it", content_type = "application/octet-stream", body = Vec<u8>),
    (status = 206, description = "The range", content_type = "application/octet-stream", body = Vec<u8>),
    (status = 304, description = "As the client has it"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 416, description = "`range_not_satisfiable`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path((id, name)): Path<(ImageId, String)>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = find(&state, owner, id, &name).await?;
    // A browser's reader of PDF is no place for a stranger's: it is saved, and opened by whoever wants to.
    let is_pdf = found.content_type == "application/pdf";
    let save = is_pdf || query.download.as_deref().is_some_and(|value| value != "0");
    let etag = header_value(&found.etag)?;
    let common = [
        (header::ETAG, etag),
        // Processing again changes what a name stands for, so a copy is asked about, which costs a 304.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY)),
        (header::CONTENT_DISPOSITION, header_value(&content_disposition(save, &found.save_as))?),
    ];
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| matches_any(tags, &found.etag)) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let range_holds = text(header::IF_RANGE).is_none_or(|tag| tag == found.etag);
    let range = text(header::RANGE).filter(|_| range_holds);
    let size = found.size_bytes;
    let (status, part) = match wanted(range, size) {
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => return outside(size),
    };
    let content_range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
    let length = part.end - part.start;
    let mut response = (status, common, send(&state, &found.key, part).await?).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header_value(&found.content_type)?);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(header::CONTENT_RANGE, header_value(&content_range)?);
    }
    Ok(response)
}

async fn find(state: &AppState, owner: OwnerId, id: ImageId, name: &str) -> Result<Found, Problem> {
    let image = state.ledger.image(owner, id).await?.ok_or_else(|| Problem::not_found("image"))?;
    if name == "original" {
        return Ok(Found {
            key: Key::Original(id),
            content_type: image.content_type,
            size_bytes: image.size_bytes,
            etag: format!("\"{}\"", image.sha256),
            save_as: image.filename,
        });
    }
    let files = state.ledger.files(owner, id).await?;
    let row = files.into_iter().find(|row| row.file.name == name).ok_or_else(|| Problem::not_found("file"))?;
    Ok(Found {
        save_as: of_output(&image.filename, &row.file.name),
        key: Key::Output { job: row.job, start: row.start, name: row.file.name },
        content_type: row.file.content_type,
        size_bytes: row.file.size_bytes,
        etag: format!("\"{}\"", row.file.sha256),
    })
}

/// The bytes as a body that ends with the request's time, so that nobody keeps a file open for ever.
async fn send(state: &AppState, key: &Key, part: std::ops::Range<u64>) -> Result<Body, Problem> {
    if part.is_empty() {
        return Ok(Body::empty());
    }
    let deadline = tokio::time::sleep(state.request_timeout());
    let pieces = state.blobs.get_range(key, part).await?.stream;
    let counted = pieces.inspect(|piece| {
        if let Ok(piece) = piece {
            metrics::counter!("inkpool_bytes_out_total").increment(piece.len() as u64);
        }
    });
    Ok(Body::from_stream(counted.take_until(deadline)))
}

fn outside(size: u64) -> Result<Response, Problem> {
    let problem = Problem::new(Kind::RangeNotSatisfiable, "No byte of the file lies in the range.")
        .figures(format!("{size} bytes"), "a range outside of them");
    let content_range = header_value(&format!("bytes */{size}"))?;
    Ok(([(header::CONTENT_RANGE, content_range)], problem).into_response())
}

/// Weak comparison (RFC 9110, 8.8.3.2): what `If-None-Match` asks for.
fn matches_any(tags: &str, etag: &str) -> bool {
    tags.split(',').map(|tag| tag.trim()).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn header_value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text).map_err(|error| Problem::internal(&error))
}
