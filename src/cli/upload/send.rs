//! One image to the server, once: by a key made of what is sent, a second try, or a second call, changes nothing.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use http_client::{Body, Method, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncSeekExt;
use tokio_util::io::ReaderStream;

use super::pieces::RESUMABLE_FROM_BYTES;

use super::report::Bar;
use super::{Answer, AnswerItem, Batch, Input};
use crate::cli::place::hash;
use crate::cli::remote::{RemoteError, SILENCE_MAX, is_absent};
use crate::http::Problem;
use crate::http::problem::Kind;
use crate::job::{Refusal, RefusalCode};
use crate::pipeline::probe::{SNIFF_BYTES, sniff};

/// Pieces in which a file is read and sent.
const PIECE_BYTES: usize = 64 * 1024;
/// Uploads of the same image that were deleted on the server; each needs a key of its own.
const DELETED_MAX: u32 = 64;

/// An upload that the server has.
pub struct Sent {
    /// Its job, as it was then.
    pub job: Value,
    /// Whether an earlier call had sent it.
    pub before: bool,
}

/// A file as it is to be sent.
pub struct Source {
    path: PathBuf,
    /// Last component of the path.
    pub filename: String,
    /// Length, bytes.
    pub size_bytes: u64,
    sha256: String,
}

/// Why a file could not be read to its end; the error of the request does not say.
#[derive(Clone, Default)]
pub struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    fn note(&self, error: &std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// An error if there was one.
    pub fn check(&self) -> Result<(), RemoteError> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        noted.map_or(Ok(()), |why| Err(RemoteError::Failed(why)))
    }
}

/// A file on its way.
pub struct Stream {
    /// Its bytes.
    pub body: Body,
    /// How far it is.
    pub sent: Arc<AtomicU64>,
    /// Whether it could be read.
    pub fault: Fault,
}

impl Stream {
    /// From `offset` to its end.
    pub async fn of(source: &Source, offset: u64, bar: &Bar) -> Result<Self, RemoteError> {
        let failed = |error: std::io::Error| RemoteError::Failed(error.to_string());
        let mut file = tokio::fs::File::open(&source.path).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failed)?;
        let (sent, fault) = (Arc::new(AtomicU64::new(offset)), Fault::default());
        let (counter, told, bar) = (sent.clone(), fault.clone(), bar.clone());
        let pieces = ReaderStream::with_capacity(file, PIECE_BYTES).map(move |piece| {
            match &piece {
                Ok(piece) => {
                    let before = counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    bar.sent(before + piece.len() as u64);
                }
                Err(error) => told.note(error),
            }
            piece
        });
        Ok(Self { body: Body::wrap_stream(pieces), sent, fault })
    }
}

impl Batch<'_> {
    /// Sends one image, unless the server has it from an earlier call.
    pub(super) async fn send(&self, input: &Input) -> Result<Sent, RemoteError> {
        let _place = self.sending.acquire().await.map_err(|error| RemoteError::Failed(error.to_string()))?;
        let source = self.look_at(input).await?;
        let bar = self.report.begin(&input.shown(), source.size_bytes);
        for generation in 0..DELETED_MAX {
            let key =
                if self.args.again { uuid::Uuid::new_v4().to_string() } else { self.key(input, &source, generation) };
            if !self.args.again {
                match self.recall(&key).await? {
                    Recalled::Job(job) => return Ok(Sent { job, before: true }),
                    Recalled::Deleted => continue,
                    Recalled::Nothing => {}
                }
            }
            let answer = self.deliver(&source, &key, &bar).await?;
            return arrived(answer, &source).map(|job| Sent { job, before: false });
        }
        Err(RemoteError::Failed("it was uploaded and deleted again too often; use --again".to_owned()))
    }

    /// Sends it, in the way that suits its length.
    async fn deliver(&self, source: &Source, key: &str, bar: &Bar) -> Result<Answer, RemoteError> {
        if source.size_bytes >= RESUMABLE_FROM_BYTES
            && let Some(answer) = self.post_in_pieces(source, key, bar).await?
        {
            return Ok(answer);
        }
        self.server.again_while_it_helps(async || self.post(source, key, bar).await).await
    }

    /// Reads it once, and refuses what the server would refuse before it has it all.
    async fn look_at(&self, input: &Input) -> Result<Source, RemoteError> {
        let path = input.path.clone().unwrap_or_default();
        let filename = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let most = self.rules.body_bytes_max;
        let looked = tokio::task::spawn_blocking(move || {
            let unreadable = |error: std::io::Error| RemoteError::Failed(error.to_string());
            let mut head = Vec::with_capacity(SNIFF_BYTES);
            let file = File::open(&path).map_err(unreadable)?;
            let size_bytes = file.metadata().map_err(unreadable)?.len();
            file.take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
            if head.is_empty() {
                return Err(refused(Refusal::new(RefusalCode::EmptyBody, "The file is empty.")));
            }
            sniff(&head).map_err(refused)?;
            if size_bytes > most {
                return Err(RemoteError::Refused(Box::new(Problem::body_too_large(
                    most,
                    format!("{size_bytes} bytes"),
                ))));
            }
            let (size_bytes, sha256) = hash(&path).map_err(unreadable)?;
            Ok(Source { path, filename, size_bytes, sha256 })
        });
        looked.await.unwrap_or_else(|error| Err(RemoteError::Failed(error.to_string())))
    }

    /// Stands for these bytes, at this place in the folder, made into these files.
    fn key(&self, input: &Input, source: &Source, generation: u32) -> String {
        let mut hash = Sha256::new();
        let place = input.below.to_string_lossy();
        let set = self.args.set.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
        for part in [source.sha256.as_str(), &place, &self.rules.preset].into_iter().chain(set) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(generation.to_be_bytes());
        format!("upload-{}", hex::encode(hash.finalize()))
    }

    /// What the server answered to an earlier call.
    async fn recall(&self, key: &str) -> Result<Recalled, RemoteError> {
        match self.server.get::<Answer>(self.url(["submissions", key], &[])).await {
            Ok(answer) => match answer.items.into_iter().next() {
                Some(AnswerItem { image: Some(_), job: Some(job) }) => Ok(Recalled::Job(job)),
                _ => Ok(Recalled::Deleted),
            },
            Err(error) if is_absent(&error) => Ok(Recalled::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends it once.
    async fn post(&self, source: &Source, key: &str, bar: &Bar) -> Result<Answer, RemoteError> {
        let stream = Stream::of(source, 0, bar).await?;
        let mut query = vec![("preset", self.rules.preset.as_str()), ("filename", source.filename.as_str())];
        if self.args.dedup {
            query.push(("dedup", "true"));
        }
        let set: Vec<(String, &str)> =
            self.args.set.iter().map(|(key, value)| (format!("set.{key}"), value.as_str())).collect();
        query.extend(set.iter().map(|(key, value)| (key.as_str(), *value)));
        let request = self
            .server
            .request(Method::POST, self.url(["images"], &query))
            .header(header::CONTENT_LENGTH, source.size_bytes)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header("idempotency-key", key)
            .body(stream.body);
        let answered = async {
            let response = self.server.send_once(request).await?;
            self.server.body(response).await
        };
        let body = tokio::select! {
            body = answered => body,
            () = silence(&stream.sent) => Err(self.server.unreachable("it has fallen silent")),
        };
        stream.fault.check()?;
        serde_json::from_slice(&body?)
            .map_err(|error| RemoteError::Failed(format!("an answer of another kind: {error}")))
    }
}

enum Recalled {
    Job(Value),
    Deleted,
    Nothing,
}

/// Resolves when nothing more has been sent for a while: neither does the file go on, nor does the answer come.
pub async fn silence(sent: &AtomicU64) {
    let mut before = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(SILENCE_MAX).await;
    }
}

fn refused(refusal: Refusal) -> RemoteError {
    let mut problem = Problem::new(Kind::Refused(refusal.code), refusal.detail);
    (problem.limit, problem.measured, problem.remedy) = (refusal.limit, refusal.measured, refusal.remedy);
    RemoteError::Refused(Box::new(problem))
}

/// The job, if what arrived is what was read.
fn arrived(answer: Answer, source: &Source) -> Result<Value, RemoteError> {
    match answer.items.into_iter().next() {
        Some(AnswerItem { image: Some(image), job: Some(job) }) if image.sha256 == source.sha256 => Ok(job),
        Some(AnswerItem { image: Some(_), .. }) => {
            Err(RemoteError::Failed("it changed while it was being sent".to_owned()))
        }
        _ => Err(RemoteError::Failed("the answer has neither an image nor an error".to_owned())),
    }
}
