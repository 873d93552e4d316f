//! `/images/archive`: several images as one ZIP, made while it is sent. Nothing is compressed again: pictures are already.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, future, stream};
use serde::Deserialize;
use tokio::io::DuplexStream;
use tokio_util::io::ReaderStream;

use super::AppState;
use super::extract::{Owner, Query};
use super::filename::{content_disposition, of_output};
use super::limits::busy;
use super::problem::{Kind, Problem};
use super::zip;
use crate::blobs::{Blobs, Key};
use crate::job::ImageId;
use crate::store::{FileRow, ImageRow, NewFile};

/// Bytes that wait for a slow client; the objects wait beyond.
const WINDOW_BYTES: usize = 256 << 10;
/// What is the result, by the base name of its file; without either the first picture that is no thumbnail.
const RESULTS: [&str; 2] = ["clean.png", "full.webp"];
const NO_RESULTS: [&str; 2] = ["thumb.webp", "before.webp"];

/// What to pack.
#[derive(Debug, Deserialize)]
pub struct ArchiveQuery {
    /// Ids, separated by commas.
    #[serde(default)]
    ids: String,
    /// `results` or `all`.
    files: Option<String>,
}

/// One file of the archive.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    name: String,
    key: Key,
    size_bytes: u64,
    dos: (u16, u16),
}

/// Images as one ZIP: the result of every page side by side, or a folder for each image with everything there is.
#[utoipa::path(get, path = "/images/archive", operation_id = "download_archive", tag = "images",
    params(("ids" = String, Query, description = "Ids of images, separated by commas"),
        ("files" = Option<String>, Query, description = "`results`: the best file of every page, and the \
            PDF of several; `all`, the default: a folder for each image with all its files", example = "results")), responses(
    (status = 200, description = "A ZIP, streamed", content_type = "application/zip", body = Vec<u8>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`wrong_state`: none of them has a result", body = Problem,
     content_type = "application/problem+json"),
    (status = 422, description = "`too_many` images, files or bytes", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Query(query): Query<ArchiveQuery>,
) -> Result<Response, Problem> {
    let all = match query.files.as_deref() {
        None | Some("all") => true,
        Some("results") => false,
        Some(_) => return Err(Problem::invalid("files is `results` or `all`.")),
    };
    let limits = &state.config.archive;
    let ids = parse(&query.ids)?;
    bounded("images", limits.images_max as u64, ids.len() as u64)?;
    let mut names = Names::default();
    let mut members = Vec::new();
    for &id in &ids {
        let image = state.ledger.image(owner, id).await?.ok_or_else(|| Problem::not_found("image"))?;
        let files = state.ledger.files(owner, id).await?;
        members.extend(members_of(&image, files, all, &mut names));
        bounded("files", limits.files_max as u64, members.len() as u64)?;
    }
    bounded("bytes", limits.bytes_max, members.iter().map(|member| member.size_bytes).sum())?;
    if members.is_empty() {
        return Err(Problem::new(Kind::WrongState, "None of these images has a result yet.")
            .remedy("Wait for their jobs, or ask for files=all."));
    }
    let place = state.archives.clone().try_acquire_owned();
    let place = place.map_err(|_| busy("archives", limits.at_once))?;
    let title = match (ids.len(), names.first) {
        (1, Some(stem)) => format!("{stem}.zip"),
        _ => "inkpool.zip".to_owned(),
    };
    let (sink, source) = tokio::io::duplex(WINDOW_BYTES);
    let (blobs, allowed) = (state.blobs.clone(), Duration::from_secs(limits.timeout_s));
    let writing = tokio::spawn(async move {
        let _place = place;
        let written = tokio::time::timeout(allowed, write(&blobs, members, sink)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    });
    let disposition = HeaderValue::from_str(&content_disposition(true, &title)).map_err(|e| Problem::internal(&e))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/zip")),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    Ok((headers, body(source, writing)).into_response())
}

/// What is written, then what became of the writing: an archive that broke off must not look like a whole one.
fn body(source: DuplexStream, writing: tokio::task::JoinHandle<io::Result<()>>) -> Body {
    let end = stream::once(writing).filter_map(|written| {
        future::ready(match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let pieces = ReaderStream::with_capacity(source, WINDOW_BYTES / 2).chain(end);
    Body::from_stream(pieces.inspect_ok(|piece: &bytes::Bytes| {
        metrics::counter!("inkpool_bytes_out_total").increment(piece.len() as u64);
    }))
}

async fn write(blobs: &Blobs, members: Vec<Member>, sink: DuplexStream) -> io::Result<()> {
    let mut archive = zip::Writer::new(sink);
    for member in members {
        let object = blobs.get_stream(&member.key).await;
        let mut bytes =
            object.inspect_err(|error| tracing::warn!(%error, "an archive broke off")).map_err(io::Error::other)?;
        archive.begin(member.name, member.dos).await?;
        while let Some(piece) = bytes.stream.try_next().await? {
            archive.write(&piece).await?;
        }
        archive.end().await?;
    }
    archive.finish().await
}

fn parse(ids: &str) -> Result<Vec<ImageId>, Problem> {
    let mut seen = HashSet::new();
    let mut parsed = Vec::new();
    for id in ids.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        // An id that is no id names nothing.
        let id: ImageId = id.parse().map_err(|_| Problem::not_found("image"))?;
        if seen.insert(id) {
            parsed.push(id);
        }
    }
    if parsed.is_empty() { Err(Problem::invalid("ids names one image at least.")) } else { Ok(parsed) }
}

fn bounded(what: &str, limit: u64, measured: u64) -> Result<(), Problem> {
    if measured <= limit {
        return Ok(());
    }
    Err(Problem::new(Kind::TooMany, format!("An archive has at most {limit} {what}."))
        .figures(format!("{limit} {what}"), format!("{measured} {what}"))
        .remedy("Ask for several archives."))
}

fn members_of(image: &ImageRow, files: Vec<FileRow>, all: bool, names: &mut Names) -> Vec<Member> {
    let result = files.iter().map(|row| base(&row.file.name)).filter(|name| *name != "manifest.json");
    let best = RESULTS.into_iter().find(|best| result.clone().any(|name| name == *best));
    let Some(best) = best.or_else(|| result.clone().find(|name| !NO_RESULTS.contains(name))).map(str::to_owned) else {
        return if all { vec![original(image, &names.stem_of(&image.filename))] } else { Vec::new() };
    };
    let stem = names.stem_of(&image.filename);
    // The PDF of several pages is the result that its owner asked for, as well as the page.
    let is_result = |file: &NewFile| base(&file.name) == best || file.content_type == "application/pdf";
    let chosen = files.into_iter().filter(|row| all || is_result(&row.file)).map(|row| Member {
        name: if all { format!("{stem}/{}", row.file.name) } else { of_output(&format!("{stem}."), &row.file.name) },
        size_bytes: row.file.size_bytes,
        dos: zip::dos_time(image.created_at_ms),
        key: Key::Output { job: row.job, start: row.start, name: row.file.name },
    });
    let first = all.then(|| original(image, &stem));
    first.into_iter().chain(chosen).collect()
}

fn original(image: &ImageRow, stem: &str) -> Member {
    let name = format!("{stem}/{}", portable(&image.filename));
    let dos = zip::dos_time(image.created_at_ms);
    Member { name, key: Key::Original(image.id), size_bytes: image.size_bytes, dos }
}

/// The name within its page.
fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

/// Without what some file systems refuse, never empty and never a way out of the folder.
fn portable(name: &str) -> String {
    let name: String =
        name.chars().map(|character| if ":*?\"<>|/\\".contains(character) { '_' } else { character }).collect();
    let name = name.trim_matches([' ', '.']);
    if name.is_empty() { "image".to_owned() } else { name.to_owned() }
}

/// One stem for each image: two pages called `scan.png` become `scan` and `scan (2)`.
#[derive(Default)]
struct Names {
    /// In small letters: not every file system tells them from large ones.
    taken: HashSet<String>,
    first: Option<String>,
}

impl Names {
    fn stem_of(&mut self, filename: &str) -> String {
        let stem = portable(filename.rsplit_once('.').map_or(filename, |(stem, _)| stem));
        let numbered = (2..).map(|number| format!("{stem} ({number})"));
        let mut free =
            std::iter::once(stem.clone()).chain(numbered).filter(|name| !self.taken.contains(&name.to_lowercase()));
        let name = free.next().unwrap_or_default();
        drop(free);
        self.taken.insert(name.to_lowercase());
        self.first.get_or_insert_with(|| name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_lead_nowhere() {
        let mut names = Names::default();
        let mut stem = |name| names.stem_of(name);
        assert_eq!([stem("scan.png"), stem("Scan.jpg"), stem("scan.tif")], ["scan", "Scan (2)", "scan (3)"]);
        assert_eq!([stem("..png"), stem(".png"), stem("a:b?.png")], ["image", "image (2)", "a_b_"]);
        assert_eq!(stem("письмо.11.png"), "письмо.11");
        assert_eq!(portable("../../x"), "_.._x");
    }

    #[test]
    fn ids_are_named_once_each() {
        let (one, two) = (ImageId::fresh(), ImageId::fresh());
        assert_eq!(parse(&format!("{one}, {two},{one},")).unwrap(), [one, two]);
        assert_eq!(parse(",").unwrap_err().status, 400);
        assert_eq!(parse("nonsense").unwrap_err().status, 404);
    }
}
