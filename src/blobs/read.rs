//! Gets: as a stream, as a range, as a reader that seeks, and into a file.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::buffered::BufReader;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::{BlobError, Blobs, Key, from_io};

/// Bytes of one chunk of a stream.
const CHUNK_BYTES: usize = 128 << 10;
/// Bytes fetched at once by a reader: headers are short and TIFF jumps about.
const READER_BYTES: usize = 64 << 10;

/// A reader that seeks, for blocking code. Must be used outside of the runtime's own threads (`spawn_blocking`).
pub struct ObjectReader {
    inner: SyncIoBridge<BufReader>,
    blobs: Blobs,
    failure: Option<BlobError>,
}

impl ObjectReader {
    /// What the store could not give, if that is why a read failed.
    pub fn take_failure(&mut self) -> Option<BlobError> {
        self.failure.take()
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<object_store::Error>)
        {
            self.failure = Some(self.blobs.broken_off(error));
        }
        result
    }
}

impl io::Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        self.noted(read)
    }
}

impl io::Seek for ObjectReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let sought = self.inner.seek(position);
        self.noted(sought)
    }
}

/// An object or a range of it, on its way.
pub struct ObjectBytes {
    /// Length of the whole object, bytes.
    pub size_bytes: u64,
    /// What `stream` gives.
    pub range: Range<u64>,
    /// The bytes; an error ends them early.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

impl Blobs {
    /// Length of an object, bytes.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Unavailable`].
    pub async fn head(&self, key: &Key) -> Result<u64, BlobError> {
        self.in_reach()?;
        self.store.head(&key.path()).await.map(|meta| meta.size).map_err(|error| self.failed(error))
    }

    /// A whole object.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Unavailable`].
    pub async fn get_stream(&self, key: &Key) -> Result<ObjectBytes, BlobError> {
        self.get(key, None).await
    }

    /// Part of an object; `range` must lie within it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Unavailable`] also for a range outside of the object.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<ObjectBytes, BlobError> {
        self.get(key, Some(GetRange::Bounded(range))).await
    }

    async fn get(&self, key: &Key, range: Option<GetRange>) -> Result<ObjectBytes, BlobError> {
        let options = GetOptions { range, ..GetOptions::default() };
        self.get_path(&key.path(), options).await
    }

    pub(super) async fn get_path(&self, path: &Path, options: GetOptions) -> Result<ObjectBytes, BlobError> {
        self.in_reach()?;
        let got = self.store.get_opts(path, options).await.map_err(|error| self.failed(error))?;
        let (size_bytes, range) = (got.meta.size, got.range.clone());
        Ok(ObjectBytes { size_bytes, range, stream: self.stream_of(got).await? })
    }

    /// Bytes that stopped in the middle of an object.
    fn broken_off(&self, error: &io::Error) -> BlobError {
        self.open_breaker("it broke off in the middle of an object", error);
        BlobError::Unavailable(error.to_string())
    }

    async fn stream_of(&self, got: GetResult) -> Result<BoxStream<'static, io::Result<Bytes>>, BlobError> {
        let range = got.range.clone();
        match got.payload {
            // `object_store` itself would read files 8 KiB at a time, each in a blocking task.
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(SeekFrom::Start(range.start)).await.map_err(|error| from_io(&error))?;
                Ok(ReaderStream::with_capacity(file.take(range.end - range.start), CHUNK_BYTES).boxed())
            }
            GetResultPayload::Stream(stream) => {
                let blobs = self.clone();
                let failed = move |error| {
                    let error = io::Error::other(error);
                    drop(blobs.broken_off(&error));
                    error
                };
                Ok(stream.map_err(failed).boxed())
            }
        }
    }

    /// A reader over an object. Call within a runtime, use in `spawn_blocking`.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Unavailable`].
    pub async fn open(&self, key: &Key) -> Result<ObjectReader, BlobError> {
        self.in_reach()?;
        let meta = self.store.head(&key.path()).await.map_err(|error| self.failed(error))?;
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.store);
        let inner = SyncIoBridge::new(BufReader::with_capacity(store, &meta, READER_BYTES));
        Ok(ObjectReader { inner, blobs: self.clone(), failure: None })
    }

    /// Copies an object to a new file and checks its hash on the way; returns its length in bytes. No file is left on an
    /// error.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] when the object is damaged; [`BlobError::NotFound`]; [`BlobError::NoSpace`];
    /// [`BlobError::Unavailable`], also when the file is there already.
    pub async fn copy_to_file(&self, key: &Key, path: &FilePath, expected_sha256: &str) -> Result<u64, BlobError> {
        let object = self.get_stream(key).await?;
        // A new file and no link: the directory was open to a worker.
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(path).await;
        let file = file.map_err(|error| from_io(&error))?;
        let copied = copy(object, file, expected_sha256).await;
        if copied.is_err()
            && let Err(error) = tokio::fs::remove_file(path).await
        {
            tracing::warn!(%error, "a half copied input could not be removed");
        }
        copied
    }
}

async fn copy(mut object: ObjectBytes, mut file: tokio::fs::File, expected: &str) -> Result<u64, BlobError> {
    let (mut size_bytes, mut hash) = (0u64, Sha256::new());
    while let Some(chunk) = object.stream.try_next().await.map_err(|error| from_io(&error))? {
        size_bytes += chunk.len() as u64;
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| from_io(&error))?;
    }
    file.flush().await.map_err(|error| from_io(&error))?;
    let sha256 = hex::encode(hash.finalize());
    if sha256 == expected {
        Ok(size_bytes)
    } else {
        Err(BlobError::Mismatch(format!("SHA-256 {sha256}, not {expected}")))
    }
}
