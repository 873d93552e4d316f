//! Puts: streamed, hashed on the way, and gone without a trace when they do not come to their end.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::{BlobError, Blobs, Key, Written, from_store};

/// Bytes read at once from a file.
const READ_BYTES: usize = 128 << 10;

impl Blobs {
    /// Writes an object from a stream; at most `limit_bytes`. The object appears whole and durable, or not at all: on an
    /// error, and when the future is dropped, what was written is removed. Dropped after the last byte it may still appear,
    /// and is then an object without a row for the janitor.
    ///
    /// # Errors
    /// [`BlobError::TooLong`], [`BlobError::Source`] when the stream fails, [`BlobError::NoSpace`],
    /// [`BlobError::Unavailable`].
    pub async fn put_stream<S>(&self, key: &Key, stream: S, limit_bytes: u64) -> Result<Written, BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        self.put(key, stream, limit_bytes, None).await
    }

    /// Writes an object that must have this length and hash; otherwise nothing appears.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`]; else as [`Self::put_stream`].
    pub async fn put_file<R>(&self, key: &Key, source: R, expected: &Written) -> Result<(), BlobError>
    where
        R: AsyncRead + Send,
    {
        let stream = ReaderStream::with_capacity(source, READ_BYTES);
        match self.put(key, stream, expected.size_bytes, Some(expected)).await {
            Err(BlobError::TooLong { limit }) => Err(BlobError::Mismatch(format!("more than {limit} bytes"))),
            put => put.map(drop),
        }
    }

    async fn put<S>(&self, key: &Key, stream: S, limit: u64, expected: Option<&Written>) -> Result<Written, BlobError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        let path = key.path();
        let inner = self.store.put_multipart(&path).await.map_err(from_store)?;
        let mut upload = Upload { blobs: self.clone(), path, inner: Some(inner) };
        let written = upload.fill(stream, limit).await.and_then(|written| match expected {
            Some(expected) if *expected != written => Err(BlobError::Mismatch(format!(
                "{} bytes with SHA-256 {}, not {} bytes with {}",
                written.size_bytes, written.sha256, expected.size_bytes, expected.sha256
            ))),
            _ => Ok(written),
        });
        match written {
            Ok(written) => upload.complete().await.map(|()| written),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// An upload under way. Dropped before its end (the request was given up), it is aborted in the background.
struct Upload {
    blobs: Blobs,
    path: Path,
    inner: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    async fn fill<S>(&mut self, stream: S, limit: u64) -> Result<Written, BlobError>
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
            // Copied, since a client could send a million chunks of one byte.
            part.extend_from_slice(&chunk);
            if part.len() >= part_bytes {
                self.put_part(part.split().freeze()).await?;
            }
        }
        if !part.is_empty() {
            self.put_part(part.freeze()).await?;
        }
        Ok(Written { size_bytes, sha256: hex::encode(hash.finalize()) })
    }

    async fn put_part(&mut self, part: Bytes) -> Result<(), BlobError> {
        match &mut self.inner {
            Some(inner) => inner.put_part(PutPayload::from(part)).await.map_err(from_store),
            None => Err(BlobError::Unavailable("the upload has ended".to_owned())),
        }
    }

    async fn complete(&mut self) -> Result<(), BlobError> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        match inner.complete().await {
            Ok(_) => {
                self.inner = None;
                Ok(())
            }
            Err(error) => {
                self.abort().await;
                Err(from_store(error))
            }
        }
    }

    async fn abort(&mut self) {
        if let Some(inner) = self.inner.take() {
            abort(&self.blobs, &self.path, inner).await;
        }
    }
}

async fn abort(blobs: &Blobs, path: &Path, mut inner: Box<dyn MultipartUpload>) {
    if let Err(error) = inner.abort().await {
        // What is left is swept at the next start.
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
