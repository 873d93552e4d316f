//! Objects: keys as an enum, and put, get and delete over `object_store`. No other module builds a key.

mod breaker;
mod check;
mod incoming;
mod local;
mod presign;
mod read;
mod s3;
mod write;

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

pub use breaker::Outage;
pub use check::CheckError;
pub use presign::{CHECKSUM_HEADER, bound_headers};
pub use read::{ObjectBytes, ObjectReader};

use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem};
use uuid::Uuid;

use self::breaker::Breaker;
use self::s3::S3;
use crate::config;
use crate::job::{ImageId, JobId, OwnerId, UploadId};

/// Bytes collected before they are written: what one upload costs in memory.
const LOCAL_PART_BYTES: usize = 1 << 20;
/// Objects of a prefix that are removed at once.
const DELETES_AT_ONCE: usize = 8;

/// Every object there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The upload as it came: `img/<image>/original`.
    Original(ImageId),
    /// The bytes of an announced upload, until it has expired: `up/<upload>`.
    Upload(UploadId),
    /// Some bytes of an upload that comes in pieces, until it is whole: `piece/<upload>/<piece>`.
    Piece {
        /// The upload.
        upload: UploadId,
        /// Fresh for each try.
        piece: Uuid,
    },
    /// What a program outside has put: `incoming/<owner>/<name>`. Made by [`Key::incoming`].
    Incoming {
        /// Whose.
        owner: OwnerId,
        /// The rest of the key.
        name: String,
    },
    /// An output of one start: `out/<job>/<start>/<name>`.
    Output {
        /// The job.
        job: JobId,
        /// The start that made it.
        start: u32,
        /// `clean.png`, `p0002/clean.png`.
        name: String,
    },
}

/// Objects that are removed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Everything of an image that is no output.
    Image(ImageId),
    /// Pieces of an upload.
    Pieces(UploadId),
    /// Outputs of all starts of a job.
    Job(JobId),
    /// Outputs of one start.
    Outputs {
        /// The job.
        job: JobId,
        /// The start.
        start: u32,
    },
}

/// What can go wrong with objects.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No object under that key.
    #[error("no such object")]
    NotFound,
    /// More bytes than allowed.
    #[error("more than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: u64,
    },
    /// The source of the bytes failed (a client that hung up).
    #[error("the source ended early: {0}")]
    Source(String),
    /// Length or hash differ from what was announced or recorded.
    #[error("the bytes are not those that were announced: {0}")]
    Mismatch(String),
    /// The disk is full.
    #[error("no space is left in the object store")]
    NoSpace,
    /// Other bytes are under that key already; an object is written once.
    #[error("the key is taken by another object")]
    Taken,
    /// The store cannot be used at the moment.
    #[error("the object store is unavailable: {0}")]
    Unavailable(String),
    /// It failed before, and is not asked until it answers a probe.
    #[error("the object store is out of reach: {reason}")]
    Down {
        /// Why, for people.
        reason: &'static str,
        /// Time until the next probe.
        retry_after: Duration,
    },
}

/// What a put wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length, bytes.
    pub size_bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Time since it was written; zero if the clock was set back.
    pub age: Duration,
}

/// The object store of this deployment.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The same store, where it is a directory.
    local: Option<LocalFileSystem>,
    /// The same, where it is a bucket.
    s3: Option<Arc<S3>>,
    part_bytes: usize,
    /// A put on a condition that got no answer is tried again for this long.
    retry: Duration,
    breaker: Arc<Breaker>,
}

impl Blobs {
    /// The store that the settings name: a bucket, or the local `directory`. A bucket is not asked yet, see
    /// [`Self::check`].
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] for settings that make no sense, or as [`Self::local`].
    pub fn connect(settings: &config::Blobs, aws: &config::Aws, directory: &FilePath) -> Result<Self, BlobError> {
        if settings.url.is_empty() {
            return Self::local(settings, directory);
        }
        let s3 = s3::connect(settings, aws)?;
        Ok(Self {
            store: Arc::new(PrefixStore::new(Arc::clone(&s3.store), s3.prefix.clone())),
            local: None,
            s3: Some(Arc::new(s3)),
            part_bytes: settings.part_bytes,
            retry: Duration::from_secs(settings.retry_s),
            breaker: Arc::new(Breaker::new(settings)),
        })
    }

    /// A local directory, every object and directory flushed to disk before it counts.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] when the directory cannot be made or used.
    pub fn local(settings: &config::Blobs, directory: &FilePath) -> Result<Self, BlobError> {
        local::prepare(directory).map_err(|error| from_io(&error))?;
        let store = LocalFileSystem::new_with_prefix(directory).map_err(from_store)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store.clone()),
            local: Some(store),
            s3: None,
            part_bytes: LOCAL_PART_BYTES,
            retry: Duration::ZERO,
            breaker: Arc::new(Breaker::new(settings)),
        })
    }

    /// Whether other nodes may write here as well.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.s3.is_some()
    }

    /// Removes one object; one that is not there is no error.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn delete(&self, key: &Key) -> Result<(), BlobError> {
        self.delete_path(&key.path()).await
    }

    /// Removes all objects of a prefix; returns how many there were.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`]; some may be removed already, the call can be repeated.
    pub async fn delete_prefix(&self, prefix: Prefix) -> Result<u64, BlobError> {
        self.in_reach()?;
        let found = self.store.list(Some(&prefix.path())).map_err(|error| self.failed(error));
        let removed = AtomicU64::new(0);
        let remove = async |path: Path| {
            removed.fetch_add(1, Ordering::Relaxed);
            self.delete_path(&path).await
        };
        found.try_for_each_concurrent(DELETES_AT_ONCE, |object| remove(object.location)).await?;
        Ok(removed.into_inner())
    }

    async fn delete_path(&self, path: &Path) -> Result<(), BlobError> {
        self.in_reach()?;
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(error)),
        }
        self.tidy(path);
        Ok(())
    }

    /// Directories exist for the objects in them: empty ones go. Does nothing where there are no directories.
    fn tidy(&self, path: &Path) {
        // Those below `incoming` are not ours.
        if path.as_ref().starts_with(incoming::INCOMING) {
            return;
        }
        if let Some(file) = self.local.as_ref().and_then(|local| local.path_to_filesystem(path).ok()) {
            local::remove_empty_parents(&file);
        }
    }

    /// Every object with its age, for the janitor. What is not one of ours is left out.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, BlobError>> {
        if let Err(error) = self.in_reach() {
            return futures::stream::iter([Err(error)]).boxed();
        }
        let now_ms = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let blobs = self.clone();
        self.store
            .list(None)
            .map_err(move |error| blobs.failed(error))
            .try_filter_map(move |object| {
                let age_ms = now_ms - i128::from(object.last_modified.timestamp_millis());
                let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
                let listed = Key::parse(&object.location).map(|key| Listed { key, size_bytes: object.size, age });
                std::future::ready(Ok(listed))
            })
            .boxed()
    }

    /// Free bytes where objects go; `None` where that is unknown (S3).
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub fn free_bytes(&self) -> Result<Option<u64>, BlobError> {
        let Some(local) = &self.local else { return Ok(None) };
        let root = local.path_to_filesystem(&Path::from("img")).map_err(from_store)?;
        let room = rustix::fs::statvfs(&root).map_err(|error| from_io(&error.into()))?;
        Ok(Some(room.f_bavail.saturating_mul(room.f_frsize)))
    }

    /// Removes what a crash left of uploads under way, and empty directories; returns how many files went. Only before the
    /// first put, and only where no other node writes.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn sweep_staging(&self) -> Result<u64, BlobError> {
        let Some(local) = &self.local else { return Ok(0) };
        let mut swept = 0;
        for area in AREAS {
            let root = local.path_to_filesystem(&Path::from(area)).map_err(from_store)?;
            let done = tokio::task::spawn_blocking(move || local::sweep(&root)).await;
            swept +=
                done.map_err(|error| BlobError::Unavailable(error.to_string()))?.map_err(|error| from_io(&error))?;
        }
        Ok(swept)
    }
}

/// The directories at the top.
const AREAS: [&str; 4] = ["img", "out", "piece", "up"];

impl Key {
    /// The path in the store.
    #[must_use]
    pub fn path(&self) -> Path {
        match self {
            Self::Original(image) => Path::from(format!("img/{image}/original")),
            Self::Upload(upload) => Path::from(format!("up/{upload}")),
            Self::Piece { upload, piece } => Path::from(format!("piece/{upload}/{piece}")),
            Self::Incoming { owner, name } => Path::from(format!("incoming/{owner}/{name}")),
            Self::Output { job, start, name } => Path::from(format!("out/{job}/{start}/{name}")),
        }
    }

    /// The key of a path, if it is one of ours.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.as_ref().split('/').collect();
        let key = match parts.as_slice() {
            ["img", image, "original"] => Self::Original(image.parse().ok()?),
            ["up", upload] => Self::Upload(upload.parse().ok()?),
            ["piece", upload, piece] => Self::Piece { upload: upload.parse().ok()?, piece: piece.parse().ok()? },
            [incoming::INCOMING, owner, ..] => return Self::incoming(owner.parse().ok()?, path.as_ref()),
            ["out", job, start, name @ ..] if !name.is_empty() => {
                Self::Output { job: job.parse().ok()?, start: start.parse().ok()?, name: name.join("/") }
            }
            _ => return None,
        };
        // Other spellings of the same number or identifier are not ours.
        (key.path() == *path).then_some(key)
    }
}

impl Prefix {
    fn path(self) -> Path {
        match self {
            Self::Image(image) => Path::from(format!("img/{image}")),
            Self::Pieces(upload) => Path::from(format!("piece/{upload}")),
            Self::Job(job) => Path::from(format!("out/{job}")),
            Self::Outputs { job, start } => Path::from(format!("out/{job}/{start}")),
        }
    }
}

/// An error with what caused it, to its root: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let said = current.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = current.source();
    }
    text
}

/// What an error of the store means, for people who cannot see the log.
fn explain(error: &object_store::Error) -> &'static str {
    /// Codes of S3 and words of the network, the more telling first.
    const MEANINGS: [(&str, &str); 16] = [
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("InvalidAccessKeyId", "it does not know the access key"),
        ("NotSignedUp", "it does not know the access key"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("ExpiredToken", "the session token has expired"),
        ("AuthorizationHeaderMalformed", "the region is wrong"),
        ("PermanentRedirect", "the region is wrong"),
        ("without LOCATION", "the region is wrong"),
        ("NoSuchBucket", "there is no such bucket"),
        ("AccessDenied", "these credentials may not do that"),
        ("dns error", "its name cannot be resolved"),
        ("Connection refused", "nobody listens at its address"),
        ("certificate", "its certificate is not trusted"),
        ("timed out", "it does not answer in time"),
        ("503 Service Unavailable", "it says that it is unavailable"),
        ("connect", "it cannot be reached"),
    ];
    let text = chain(error);
    let known = MEANINGS.iter().find(|(sign, _)| text.contains(sign));
    known.map_or("it answers with an error, which is in the log", |(_, meaning)| meaning)
}

fn from_store(error: object_store::Error) -> BlobError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return BlobError::NotFound;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::StorageFull
        {
            return BlobError::NoSpace;
        }
        cause = current.source();
    }
    BlobError::Unavailable(chain(&error))
}

fn from_io(error: &std::io::Error) -> BlobError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        BlobError::NoSpace
    } else {
        BlobError::Unavailable(error.to_string())
    }
}
