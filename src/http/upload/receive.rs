//! From the body of a request to durable, recognised objects.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::time::Instant;

use super::{Upload, enough_room};
use crate::blobs::{Key, Written};
use crate::http::AppState;
use crate::http::filename::sanitise;
use crate::http::incoming::{BodyBounds, Watch, pieces, watched_pieces};
use crate::http::problem::{Kind, Problem};
use crate::job::ImageId;
use crate::pipeline::engine::no_pdf;
use crate::pipeline::probe::{Format, Probe, SNIFF_BYTES, probe, sniff};
use crate::store::NewImage;

/// A field that is no file is short: the name of a preset, a setting.
const FIELD_BYTES_MAX: usize = 4096;
/// Fields that are no files.
const FIELDS_MAX: usize = 64;

/// One file of a request.
pub struct Received {
    /// Sanitised.
    pub filename: String,
    /// Durable and recognised, or refused.
    pub outcome: Result<NewImage, Problem>,
}

impl Upload {
    /// Reads the whole body. An error is one of the request; one of a file stands with that file.
    pub async fn receive(&mut self, request: Request) -> Result<Vec<Received>, Problem> {
        let bounds = BodyBounds {
            bytes_max: self.bytes_max,
            deadline: Instant::now() + self.state.request_timeout(),
            idle: self.state.idle_timeout(),
        };
        if self.is_form { self.receive_form(request, bounds).await } else { self.receive_raw(request, bounds).await }
    }

    async fn receive_raw(&mut self, request: Request, bounds: BodyBounds) -> Result<Vec<Received>, Problem> {
        let filename = sanitise(self.asked.filename.as_deref().unwrap_or_default());
        let body = pieces(request.into_body(), bounds);
        let outcome = self.store(&filename, body, Problem::from).await;
        Ok(vec![Received { filename, outcome }])
    }

    async fn receive_form(&mut self, request: Request, bounds: BodyBounds) -> Result<Vec<Received>, Problem> {
        let (mut form, watch) = open_form(request, bounds).await?;
        let fault = |error: MultipartError| watch.fault_or(|| Problem::new(Kind::InvalidMultipart, error.body_text()));
        let (parts_max, mut fields) = (self.state.config.http.parts_max, 0);
        let mut received = Vec::new();
        while let Some(mut field) = form.next_field().await.map_err(fault)? {
            watch.consumed();
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                if received.len() == parts_max {
                    return Err(too_many_parts(parts_max));
                }
                received.push(self.receive_part(&mut field, &watch).await);
            } else {
                fields += 1;
                if fields > FIELDS_MAX {
                    return Err(too_many_parts(FIELDS_MAX));
                }
                let value = text(&mut field, &watch).await?;
                self.asked.put(&name, value)?;
            }
            // The rest of a part that was refused: thrown away piece by piece, since the library would gather it.
            while field.chunk().await.map_err(fault)?.is_some() {
                watch.consumed();
            }
        }
        if received.is_empty() {
            let problem = Problem::new(Kind::MissingFile, "The form has no part named `file`.");
            return Err(problem.remedy("Send each image as a part named `file`."));
        }
        Ok(received)
    }

    async fn receive_part(&mut self, field: &mut Field<'_>, watch: &Watch) -> Received {
        let filename = sanitise(field.file_name().unwrap_or_default());
        if let Err(problem) = enough_room(&self.state, 0) {
            return Received { filename, outcome: Err(problem) };
        }
        let body = field.map(|piece| {
            watch.consumed();
            piece
        });
        let fault = |error: MultipartError| watch.fault_or(|| Problem::new(Kind::InvalidMultipart, error.body_text()));
        let outcome = self.store(&filename, body, fault).await;
        Received { filename, outcome }
    }

    /// Recognises the first bytes, puts all of them, then reads the header. What is refused is removed.
    pub async fn store<S, E, F>(&mut self, filename: &str, mut body: S, fault: F) -> Result<NewImage, Problem>
    where
        F: Fn(E) -> Problem + Send + Sync,
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut head: Vec<Bytes> = Vec::new();
        let mut known = Vec::with_capacity(SNIFF_BYTES);
        while known.len() < SNIFF_BYTES {
            let Some(piece) = body.next().await else { break };
            let piece = piece.map_err(&fault)?;
            known.extend_from_slice(&piece[..piece.len().min(SNIFF_BYTES - known.len())]);
            head.push(piece);
        }
        if sniff(&known)? == Format::Pdf && !self.state.reads_pdf() {
            return Err(no_pdf().into());
        }
        let id = ImageId::fresh();
        // Remembered first: what a failed put leaves is removed as well.
        self.stored.push(id);
        let mut broken = None;
        let whole = stream::iter(head.into_iter().map(Ok)).chain(body).map(|piece| {
            piece.map_err(|error| {
                let reason = error.to_string();
                broken = Some(fault(error));
                std::io::Error::other(reason)
            })
        });
        let limit = self.state.config.http.body_bytes_max;
        crate::fault::hit("upload-began");
        let written = self.state.blobs.put_stream(&Key::Original(id), whole, limit).await;
        let written = written.map_err(|error| broken.unwrap_or_else(|| Problem::from(error)))?;
        match look(&self.state, id).await {
            Ok(probe) => {
                let unknown = self.state.config.jobs.deadline_unknown_megapixels.saturating_mul(1_000_000);
                Ok(new_image(id, filename, written, &probe, unknown))
            }
            Err(problem) => {
                remove(&self.state, id).await;
                self.stored.retain(|stored| *stored != id);
                Err(problem)
            }
        }
    }
}

async fn open_form(request: Request, bounds: BodyBounds) -> Result<(Multipart, Watch), Problem> {
    let (head, body) = request.into_parts();
    let (body, watch) = watched_pieces(body, bounds);
    let mut request = Request::from_parts(head, axum::body::Body::from_stream(body));
    DefaultBodyLimit::disable().apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let form = form.map_err(|error| Problem::new(Kind::InvalidMultipart, error.body_text()))?;
    Ok((form, watch))
}

async fn text(field: &mut Field<'_>, watch: &Watch) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    loop {
        let piece = field.chunk().await;
        let piece =
            piece.map_err(|error| watch.fault_or(|| Problem::new(Kind::InvalidMultipart, error.body_text())))?;
        watch.consumed();
        let Some(piece) = piece else { break };
        bytes.extend_from_slice(&piece);
        if bytes.len() > FIELD_BYTES_MAX {
            let problem = Problem::invalid("A field that is no file is too long.");
            return Err(
                problem.figures(format!("{FIELD_BYTES_MAX} bytes"), format!("more than {FIELD_BYTES_MAX} bytes"))
            );
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("A field that is no file is not UTF-8."))
}

/// Reads the header of a stored upload, off the threads that answer requests.
async fn look(state: &AppState, id: ImageId) -> Result<Probe, Problem> {
    let limits = state.run_limits();
    let mut file = state.blobs.open(&Key::Original(id)).await?;
    let looked = tokio::task::spawn_blocking(move || {
        let probed = probe(&mut file, &limits);
        // What the store could not give is no fault of the image.
        file.take_failure().map_or_else(|| probed.map_err(Problem::from), |failure| Err(Problem::from(failure)))
    });
    looked.await.map_err(|error| Problem::internal(&error))?
}

/// `unknown` counts as the pixels of an input whose pages only a worker finds out: a quota must not be had for nothing.
fn new_image(id: ImageId, filename: &str, written: Written, probe: &Probe, unknown: u64) -> NewImage {
    let first = probe.pages.first();
    let pixels = probe.pages.iter().map(|page| u64::from(page.width_px) * u64::from(page.height_px));
    let pixels = if probe.pages.is_empty() { unknown } else { pixels.fold(0, u64::saturating_add) };
    NewImage {
        id,
        filename: filename.to_owned(),
        content_type: probe.format.content_type().to_owned(),
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        width_px: first.map(|page| page.width_px),
        height_px: first.map(|page| page.height_px),
        pages_count: u32::try_from(probe.pages.len()).ok().filter(|pages| *pages > 0),
        pixels: Some(pixels),
    }
}

/// Removes an upload that no row owns.
pub async fn remove(state: &AppState, id: ImageId) {
    if let Err(error) = state.blobs.delete(&Key::Original(id)).await {
        tracing::warn!(image = %id, %error, "left to the janitor");
    }
}

fn too_many_parts(limit: usize) -> Problem {
    Problem::new(Kind::TooManyParts, "The form has too many parts.")
        .figures(format!("{limit} parts"), format!("more than {limit} parts"))
        .remedy("Send the files in several requests.")
}
