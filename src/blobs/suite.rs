//! What every object store must do, as tests: `blobs_suite!(open)` runs all of it against one adapter.

use std::any::Any;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use futures::{Stream, stream};

use super::*;

/// An empty store, and what must live as long as it.
pub(super) struct Fresh {
    pub(super) blobs: Blobs,
    /// Where the objects are as files, whoever wrote them.
    pub(super) objects: PathBuf,
    /// Keys of uploads that are neither ended nor removed.
    pub(super) unfinished: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    pub(super) scratch: tempfile::TempDir,
    pub(super) _keep: Box<dyn Any + Send + Sync>,
}

macro_rules! blobs_suite {
    ($open:path) => {
        $crate::blobs::suite::blobs_suite! { @cases $open; what_is_put_can_be_got, an_object_is_written_once, ranges,
            one_of_many_writers_wins, too_long_leaves_nothing, a_source_that_fails_leaves_nothing,
            a_put_that_is_given_up_leaves_nothing, a_file_must_be_what_was_announced, a_reader_seeks, copies_are_checked,
            prefixes_take_what_is_theirs, listings_give_keys_and_age
        }
    };
    (@cases $open:path; $($case:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::blobs::suite::$case(&$open().await).await;
        })+
    };
}
pub(super) use blobs_suite;

impl Fresh {
    /// Files below the top directories, and unfinished uploads.
    fn left(&self) -> Vec<String> {
        fn walk(directory: PathBuf, found: &mut Vec<String>) {
            let Ok(entries) = fs::read_dir(directory) else { return };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    walk(path, found);
                } else {
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
        let mut found = (self.unfinished)();
        AREAS.into_iter().for_each(|area| walk(self.objects.join(area), &mut found));
        found
    }

    pub(super) async fn put(&self, key: &Key, bytes: &[u8]) -> Written {
        self.blobs.put_stream(key, chunks(bytes, 1000), u64::MAX).await.unwrap()
    }

    pub(super) async fn read(&self, key: &Key) -> Vec<u8> {
        collect(self.blobs.get_stream(key).await.unwrap()).await
    }

    async fn listed(&self) -> Vec<Listed> {
        self.blobs.list().try_collect().await.unwrap()
    }

    /// More than one part, the last one short.
    fn long(&self) -> Vec<u8> {
        sample(self.blobs.part_bytes * 2 + 12_345)
    }
}

const NOTHING: [String; 0] = [];

async fn collect(object: ObjectBytes) -> Vec<u8> {
    let gather = |mut all: Vec<u8>, chunk: Bytes| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    };
    object.stream.try_fold(Vec::new(), gather).await.unwrap()
}

pub(super) fn chunks(bytes: &[u8], size: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let chunks: Vec<_> = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 65_537 * 31 % 251).unwrap()).collect()
}

pub(super) fn output(job: JobId, start: u32, name: &str) -> Key {
    Key::Output { job, start, name: name.to_owned() }
}

pub(super) fn original() -> Key {
    Key::Original(ImageId::fresh())
}

/// `printf abc | sha256sum`
pub(super) const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

pub(super) async fn what_is_put_can_be_got(store: &Fresh) {
    let key = original();
    assert_eq!(store.put(&key, b"abc").await, Written { size_bytes: 3, sha256: ABC.to_owned() });
    assert_eq!(store.read(&key).await, b"abc");
    for bytes in [store.long(), sample(store.blobs.part_bytes), sample(store.blobs.part_bytes + 1), Vec::new()] {
        let key = original();
        let written = store.blobs.put_stream(&key, chunks(&bytes, 100_000), u64::MAX).await.unwrap();
        assert_eq!(written.size_bytes, bytes.len() as u64);
        assert!(store.read(&key).await == bytes);
        assert_eq!(store.blobs.head(&key).await.unwrap(), bytes.len() as u64);
    }
    assert!(matches!(store.blobs.head(&original()).await, Err(BlobError::NotFound)));
    assert!(matches!(store.blobs.get_stream(&original()).await, Err(BlobError::NotFound)));
    assert!(matches!(store.blobs.open(&original()).await, Err(BlobError::NotFound)));
    assert!(store.blobs.outage().is_none(), "an object that is not there is no fault of the store");
}

pub(super) async fn an_object_is_written_once(store: &Fresh) {
    for bytes in [b"abc".to_vec(), store.long()] {
        let key = original();
        let written = store.put(&key, &bytes).await;
        let taken = store.blobs.put_stream(&key, chunks(&store.long(), 100_000), u64::MAX).await;
        assert!(matches!(taken, Err(BlobError::Taken)), "{taken:?}");
        let taken = store.blobs.put_stream(&key, chunks(b"abd", 1), u64::MAX).await;
        assert!(matches!(taken, Err(BlobError::Taken)), "{taken:?}");
        assert!(store.read(&key).await == bytes);
        assert_eq!((store.unfinished)(), NOTHING);
        if bytes.len() == 3 {
            // The answer to the first try was lost.
            assert_eq!(store.put(&key, &bytes).await, written);
        }
    }
}

pub(super) async fn one_of_many_writers_wins(store: &Fresh) {
    let key = original();
    let writers = (0..8u8).map(|writer| {
        let (blobs, key) = (store.blobs.clone(), key.clone());
        tokio::spawn(async move { blobs.put_stream(&key, chunks(&[writer; 3000], 100), u64::MAX).await })
    });
    let ended: Vec<_> = futures::future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = ended.iter().filter_map(|ended| ended.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{ended:?}");
    assert!(ended.iter().filter_map(|ended| ended.as_ref().err()).all(|error| matches!(error, BlobError::Taken)));
    let bytes = store.read(&key).await;
    assert!(bytes.len() == 3000 && bytes.iter().all(|byte| *byte == bytes[0]));
}

pub(super) async fn ranges(store: &Fresh) {
    let (key, bytes) = (original(), sample(300_000));
    store.put(&key, &bytes).await;
    for range in [0..1, 5..6, 100_000..300_000, 299_999..300_000] {
        let object = store.blobs.get_range(&key, range.clone()).await.unwrap();
        assert_eq!((object.size_bytes, object.range.clone()), (300_000, range.clone()));
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert!(collect(object).await == bytes[range]);
    }
    assert!(store.blobs.get_range(&key, 300_000..300_001).await.is_err());
}

pub(super) async fn too_long_leaves_nothing(store: &Fresh) {
    let bytes = store.long();
    let limit = bytes.len() as u64 - 1;
    let refused = store.blobs.put_stream(&original(), chunks(&bytes, 4096), limit).await;
    assert!(matches!(refused, Err(BlobError::TooLong { limit: told }) if told == limit), "{refused:?}");
    assert_eq!(store.left(), NOTHING);
    store.blobs.put_stream(&original(), chunks(&bytes[1..], 4096), limit).await.unwrap();
}

pub(super) async fn a_source_that_fails_leaves_nothing(store: &Fresh) {
    for bytes in [store.long(), sample(10)] {
        let failing = chunks(&bytes, 4096).chain(stream::iter([Err(io::Error::other("hung up"))]));
        let failed = store.blobs.put_stream(&original(), failing, u64::MAX).await;
        assert!(matches!(&failed, Err(BlobError::Source(why)) if why == "hung up"), "{failed:?}");
        assert_eq!(store.left(), NOTHING);
    }
}

pub(super) async fn a_put_that_is_given_up_leaves_nothing(store: &Fresh) {
    let (blobs, bytes) = (store.blobs.clone(), store.long());
    let put = tokio::spawn(async move {
        let endless = chunks(&bytes, 4096).chain(stream::pending());
        blobs.put_stream(&original(), endless, u64::MAX).await
    });
    while store.left().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    // Removal runs in the background; it comes, or the test hangs and is killed.
    while !store.left().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn a_file_must_be_what_was_announced(store: &Fresh) {
    let key = output(JobId::fresh(), 1, "clean.png");
    let expected = Written { size_bytes: 3, sha256: ABC.to_owned() };
    for wrong in [&b"abd"[..], b"ab", b"abcd", b""] {
        let refused = store.blobs.put_file(&key, wrong, &expected).await;
        assert!(matches!(refused, Err(BlobError::Mismatch(_))), "{refused:?}");
        assert_eq!(store.left(), NOTHING);
    }
    store.blobs.put_file(&key, &b"abc"[..], &expected).await.unwrap();
    assert_eq!(store.read(&key).await, b"abc");
}

pub(super) async fn a_reader_seeks(store: &Fresh) {
    let (key, bytes) = (original(), sample(500_000));
    store.put(&key, &bytes).await;
    let mut reader = store.blobs.open(&key).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let mut part = [0; 10];
        for position in [400_000, 3, 499_990, 70_000] {
            reader.seek(SeekFrom::Start(position)).unwrap();
            reader.read_exact(&mut part).unwrap();
            let position = usize::try_from(position).unwrap();
            assert_eq!(part, bytes[position..position + 10]);
        }
        reader.seek(SeekFrom::Start(0)).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == bytes);
        assert!(reader.read_exact(&mut part).is_err() && reader.take_failure().is_none(), "its end is no failure");
    })
    .await
    .unwrap();
}

pub(super) async fn copies_are_checked(store: &Fresh) {
    let key = original();
    store.put(&key, b"abc").await;
    let target = store.scratch.path().join("input");
    assert_eq!(store.blobs.copy_to_file(&key, &target, ABC).await.unwrap(), 3);
    assert_eq!(fs::read(&target).unwrap(), b"abc");
    // What is there is not written over, nor through.
    let refused = store.blobs.copy_to_file(&key, &target, ABC).await;
    assert!(matches!(refused, Err(BlobError::Unavailable(_))), "{refused:?}");
    fs::remove_file(&target).unwrap();
    std::os::unix::fs::symlink(store.scratch.path().join("elsewhere"), &target).unwrap();
    store.blobs.copy_to_file(&key, &target, ABC).await.unwrap_err();
    assert!(!store.scratch.path().join("elsewhere").exists());
    fs::remove_file(&target).unwrap();
    // Damaged where it is kept.
    let object = store.left().remove(0);
    fs::write(object, b"abd").unwrap();
    let refused = store.blobs.copy_to_file(&key, &target, ABC).await;
    assert!(matches!(refused, Err(BlobError::Mismatch(_))), "{refused:?}");
    assert!(!target.exists());
}

pub(super) async fn prefixes_take_what_is_theirs(store: &Fresh) {
    let (job, other, image) = (JobId::fresh(), JobId::fresh(), ImageId::fresh());
    for key in [
        output(job, 1, "clean.png"),
        output(job, 1, "p0002/clean.png"),
        output(job, 11, "clean.png"),
        output(other, 1, "clean.png"),
        Key::Original(image),
    ] {
        store.put(&key, b"abc").await;
    }
    let delete = |prefix| store.blobs.delete_prefix(prefix);
    assert_eq!(delete(Prefix::Outputs { job, start: 1 }).await.unwrap(), 2);
    assert_eq!(delete(Prefix::Outputs { job, start: 1 }).await.unwrap(), 0);
    assert_eq!(store.read(&output(job, 11, "clean.png")).await, b"abc");
    assert_eq!(delete(Prefix::Job(job)).await.unwrap(), 1);
    assert_eq!(delete(Prefix::Image(image)).await.unwrap(), 1);
    let only = output(other, 1, "clean.png");
    assert_eq!(store.listed().await.iter().map(|listed| &listed.key).collect::<Vec<_>>(), [&only]);
    store.blobs.delete(&only).await.unwrap();
    store.blobs.delete(&only).await.unwrap();
    assert_eq!(store.left(), NOTHING);
}

pub(super) async fn listings_give_keys_and_age(store: &Fresh) {
    let key = original();
    store.put(&key, b"abc").await;
    let object = store.left().remove(0);
    fs::write(store.objects.join("img/stranger"), b"x").unwrap();
    let hour = Duration::from_secs(3600);
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let listed = store.listed().await;
    assert_eq!((listed.len(), &listed[0].key, listed[0].size_bytes), (1, &key, 3));
    assert!(listed[0].age < hour);
    fs::File::options().write(true).open(object).unwrap().set_modified(old).unwrap();
    assert!(store.listed().await[0].age > hour);
}
