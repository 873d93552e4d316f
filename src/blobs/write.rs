//! Puts: streamed, hashed on the way, and gone without a trace when they do not come to their end.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;
use tokio::sync::oneshot;
use tokio_util::io::ReaderStream;

use super::{BlobError, Blobs, Key, Written};

/// Bytes read at once from a file.
const READ_BYTES: usize = 128 << 10;
/// Wait before a put that got no answer is tried again.
const PUT_AGAIN: Duration = Duration::from_millis(300);

impl Blobs {
    /// Writes an object from a stream, once; at most `limit_bytes`. The object appears whole and durable, or not at all: on
    /// an error, and when the future is dropped, what was written is removed. Dropped after the last byte it may still
    /// appear, and is then an object without a row for the janitor.
    ///
    /// # Errors
    /// [`BlobError::TooLong`], [`BlobError::Source`] when the stream fails, [`BlobError::Taken`], [`BlobError::NoSpace`],
    /// [`BlobError::Unavailable`], [`BlobError::Down`].
    pub async fn put_stream<S>(&self, key: &Key, stream: S, limit_bytes: u64) -> Result<Written, BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        self.put(key, stream, limit_bytes, None).await
    }

    /// Writes an object from memory, once, in one request.
    ///
    /// # Errors
    /// As [`Self::put_stream`].
    pub async fn put_bytes(&self, key: &Key, bytes: Bytes) -> Result<Written, BlobError> {
        self.in_reach()?;
        let written = Written { size_bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(&bytes)) };
        let path = key.path();
        let put = self.put_whole(&path, bytes, &written).await;
        if put.is_err() {
            self.tidy(&path);
        }
        put.map(|()| written)
    }

    /// Writes an object that must have this length and hash; otherwise nothing appears.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`]; else as [`Self::put_stream`].
    pub async fn put_file<R>(&self, key: &Key, source: R, expected: &Written) -> Result<(), BlobError>
    where
        R: AsyncRead + Send,
    {
        self.put_exactly(key, ReaderStream::with_capacity(source, READ_BYTES), expected).await
    }

    /// The same from a stream.
    ///
    /// # Errors
    /// As [`Self::put_file`].
    pub async fn put_exactly<S>(&self, key: &Key, stream: S, expected: &Written) -> Result<(), BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        match self.put(key, stream, expected.size_bytes, Some(expected)).await {
            Err(BlobError::TooLong { limit }) => Err(BlobError::Mismatch(format!("more than {limit} bytes"))),
            put => put.map(drop),
        }
    }

    async fn put<S>(&self, key: &Key, stream: S, limit: u64, expected: Option<&Written>) -> Result<Written, BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        self.in_reach()?;
        let mut upload = Upload { blobs: self.clone(), path: key.path(), inner: None };
        let filled = upload.fill(stream, limit).await.and_then(|(written, rest)| match expected {
            Some(expected) if *expected != written => Err(BlobError::Mismatch(format!(
                "{} bytes with SHA-256 {}, not {} bytes with {}",
                written.size_bytes, written.sha256, expected.size_bytes, expected.sha256
            ))),
            _ => Ok((written, rest)),
        });
        let ended = match filled {
            Ok((written, rest)) => upload.end(&written, rest).await.map(|()| written),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            upload.abort().await;
        }
        ended
    }

    /// Puts an object that fits into one request.
    async fn put_whole(&self, path: &Path, bytes: Bytes, written: &Written) -> Result<(), BlobError> {
        let began = Instant::now();
        loop {
            let put = self.store.put_opts(path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await;
            match put {
                Ok(_) => return Ok(()),
                Err(object_store::Error::AlreadyExists { .. }) => return self.must_hold(path, written).await,
                // No answer: it may be there or not, which the condition tells apart.
                Err(object_store::Error::Generic { .. }) if began.elapsed() < self.retry => {
                    tokio::time::sleep(PUT_AGAIN).await;
                }
                Err(error) => return Err(self.failed_put(error)),
            }
        }
    }

    /// A put that finds nothing has found no bucket.
    fn failed_put(&self, error: object_store::Error) -> BlobError {
        let error = self.failed(error);
        let is_missing = matches!(error, BlobError::NotFound);
        if is_missing { BlobError::Unavailable("there is no such bucket".to_owned()) } else { error }
    }

    /// Whether exactly these bytes are there: an earlier try of the same put, whose answer was lost.
    async fn must_hold(&self, path: &Path, written: &Written) -> Result<(), BlobError> {
        let mut object = self.get_path(path, GetOptions::default()).await?;
        let mut hash = Sha256::new();
        while let Some(chunk) = object.stream.next().await {
            hash.update(&chunk.map_err(|error| BlobError::Unavailable(error.to_string()))?);
        }
        if object.size_bytes == written.size_bytes && hex::encode(hash.finalize()) == written.sha256 {
            Ok(())
        } else {
            Err(BlobError::Taken)
        }
    }
}

/// An upload under way. Dropped before its end (the request was given up), it is aborted in the background.
struct Upload {
    blobs: Blobs,
    path: Path,
    /// In parts, once there is more than one part holds.
    inner: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    /// Takes the stream in and puts all but its last part.
    async fn fill<S>(&mut self, stream: S, limit: u64) -> Result<(Written, Bytes), BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        let part_bytes = self.blobs.part_bytes;
        let (mut size_bytes, mut hash, mut part) = (0u64, Sha256::new(), BytesMut::new());
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| BlobError::Source(error.to_string()))?;
            size_bytes += chunk.len() as u64;
            if size_bytes > limit {
                return Err(BlobError::TooLong { limit });
            }
            hash.update(&chunk);
            if part.len() >= part_bytes {
                self.put_part(part.split().freeze()).await?;
            }
            // Copied, since a client could send a million chunks of one byte.
            part.extend_from_slice(&chunk);
        }
        Ok((Written { size_bytes, sha256: hex::encode(hash.finalize()) }, part.freeze()))
    }

    /// Puts the last part; from then on the object is there.
    async fn end(&mut self, written: &Written, rest: Bytes) -> Result<(), BlobError> {
        if self.inner.is_none() {
            return self.blobs.put_whole(&self.path, rest, written).await;
        }
        self.put_part(rest).await?;
        match self.blobs.store.head(&self.path).await {
            Err(object_store::Error::NotFound { .. }) => {}
            // An upload in parts knows no condition. Keys are made for one writer, so this only guards against a fault.
            Ok(_) => return Err(BlobError::Taken),
            Err(error) => return Err(self.blobs.failed(error)),
        }
        let Some(inner) = &mut self.inner else { return Ok(()) };
        match inner.complete().await {
            Ok(_) => {}
            // The answer to an earlier try may have been lost: then the upload is gone and the object is there.
            Err(error) => {
                let error = self.blobs.failed_put(error);
                let Ok(()) = self.blobs.must_hold(&self.path, written).await else { return Err(error) };
            }
        }
        self.inner = None;
        Ok(())
    }

    async fn put_part(&mut self, part: Bytes) -> Result<(), BlobError> {
        let inner = match &mut self.inner {
            Some(inner) => inner,
            none => none.insert(begin(&self.blobs, &self.path).await?),
        };
        inner.put_part(PutPayload::from(part)).await.map_err(|error| self.blobs.failed_put(error))
    }

    async fn abort(&mut self) {
        match self.inner.take() {
            Some(inner) => abort(&self.blobs, &self.path, inner).await,
            None => self.blobs.tidy(&self.path),
        }
    }
}

/// In a task of its own: nobody would know the id of an upload whose begin is given up before its answer. The answer comes as an
/// [`Upload`], which ends itself wherever it is dropped: even on its way to one who has just gone.
async fn begin(blobs: &Blobs, path: &Path) -> Result<Box<dyn MultipartUpload>, BlobError> {
    let (tell, told) = oneshot::channel();
    let (task_blobs, task_path) = (blobs.clone(), path.clone());
    tokio::spawn(async move {
        let begun = task_blobs.store.put_multipart(&task_path).await;
        // Nobody listens any more: what was begun ends here.
        let _ = tell.send(begun.map(|inner| Upload { blobs: task_blobs, path: task_path, inner: Some(inner) }));
    });
    let ending = || BlobError::Unavailable("the program is ending".to_owned());
    let begun = told.await.map_err(|_| ending())?;
    begun.map_err(|error| blobs.failed_put(error))?.inner.take().ok_or_else(ending)
}

async fn abort(blobs: &Blobs, path: &Path, mut inner: Box<dyn MultipartUpload>) {
    if let Err(error) = inner.abort().await {
        // What is left is swept by the janitor, or at the next start.
        tracing::warn!(%path, %error, "an upload could not be removed");
    }
    blobs.tidy(path);
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (blobs, path) = (self.blobs.clone(), self.path.clone());
            runtime.spawn(async move { abort(&blobs, &path, inner).await });
        }
    }
}
