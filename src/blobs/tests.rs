use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream;

use super::*;

/// In the store.
const NOTHING: [PathBuf; 0] = [];

struct Store {
    blobs: Blobs,
    root: tempfile::TempDir,
}

fn store() -> Store {
    let root = tempfile::tempdir().unwrap();
    Store { blobs: Blobs::local(&root.path().join("blobs")).unwrap(), root }
}

impl Store {
    /// Files and directories below the top directories.
    fn entries(&self) -> Vec<PathBuf> {
        fn walk(directory: PathBuf, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.clone());
                if path.is_dir() {
                    walk(path, found);
                }
            }
        }
        let mut found = Vec::new();
        for area in AREAS {
            walk(self.root.path().join("blobs").join(area), &mut found);
        }
        found
    }

    async fn put(&self, key: &Key, bytes: &[u8]) -> Written {
        self.blobs.put_stream(key, chunks(bytes, 1000), u64::MAX).await.unwrap()
    }

    async fn read(&self, key: &Key) -> Vec<u8> {
        collect(self.blobs.get_stream(key).await.unwrap()).await
    }
}

async fn collect(object: ObjectBytes) -> Vec<u8> {
    object.stream.try_fold(Vec::new(), |all, chunk| async move { Ok([all, chunk.to_vec()].concat()) }).await.unwrap()
}

fn chunks(bytes: &[u8], size: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let chunks: Vec<_> = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

use futures::Stream;

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * index % 251).unwrap()).collect()
}

fn output(job: JobId, start: u32, name: &str) -> Key {
    Key::Output { job, start, name: name.to_owned() }
}

fn original() -> Key {
    Key::Original(ImageId::fresh())
}

/// `printf abc | sha256sum`
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn keys_come_back_from_their_paths() {
    let keys = [original(), output(JobId::fresh(), 1, "clean.png"), output(JobId::fresh(), 12, "p0002/clean.png")];
    for key in keys {
        assert_eq!(Key::parse(&key.path()), Some(key));
    }
    let job = JobId::fresh();
    for path in
        ["", "img/x/original", "else", &format!("out/{job}"), &format!("out/{job}/1"), &format!("out/{job}/01/a")]
    {
        assert_eq!(Key::parse(&Path::from(path)), None, "{path}");
    }
    // A name cannot leave its directory.
    assert!(output(job, 1, "../../../etc/passwd").path().as_ref().starts_with(&format!("out/{job}/1/%2E%2E/")));
}

#[tokio::test]
async fn what_is_put_can_be_got() {
    let store = store();
    let key = original();
    assert_eq!(store.put(&key, b"abc").await, Written { size_bytes: 3, sha256: ABC.to_owned() });
    assert_eq!(store.read(&key).await, b"abc");
    // Several parts, the last one short.
    let long = sample(LOCAL_PART_BYTES * 2 + 12_345);
    let written = store.put(&key, &long).await;
    assert_eq!(written.size_bytes, long.len() as u64);
    assert_eq!(store.read(&key).await, long);
    assert_eq!(store.blobs.head(&key).await.unwrap(), long.len() as u64);
    assert_eq!(store.put(&key, b"").await.size_bytes, 0);
    assert_eq!(store.read(&key).await, b"");
    assert!(matches!(store.blobs.head(&original()).await, Err(BlobError::NotFound)));
    assert!(matches!(store.blobs.get_stream(&original()).await, Err(BlobError::NotFound)));
    assert!(matches!(store.blobs.open(&original()).await, Err(BlobError::NotFound)));
}

#[tokio::test]
async fn ranges() {
    let store = store();
    let (key, bytes) = (original(), sample(300_000));
    store.put(&key, &bytes).await;
    for range in [0..1, 5..6, 100_000..300_000, 299_999..300_000] {
        let object = store.blobs.get_range(&key, range.clone()).await.unwrap();
        assert_eq!((object.size_bytes, object.range.clone()), (300_000, range.clone()));
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert_eq!(collect(object).await, bytes[range]);
    }
    assert!(store.blobs.get_range(&key, 300_000..300_001).await.is_err());
}

#[tokio::test]
async fn too_long_leaves_nothing() {
    let store = store();
    let bytes = sample(LOCAL_PART_BYTES * 3);
    let limit = LOCAL_PART_BYTES as u64 * 2;
    let refused = store.blobs.put_stream(&original(), chunks(&bytes, 4096), limit).await;
    assert!(matches!(refused, Err(BlobError::TooLong { limit: told }) if told == limit), "{refused:?}");
    assert_eq!(store.entries(), NOTHING);
    store.blobs.put_stream(&original(), chunks(&bytes[..LOCAL_PART_BYTES * 2], 4096), limit).await.unwrap();
}

#[tokio::test]
async fn a_source_that_fails_leaves_nothing() {
    let store = store();
    let (key, bytes) = (original(), sample(LOCAL_PART_BYTES * 2));
    let failing = chunks(&bytes, 4096).chain(stream::iter([Err(io::Error::other("hung up"))]));
    let failed = store.blobs.put_stream(&key, failing, u64::MAX).await;
    assert!(matches!(&failed, Err(BlobError::Source(why)) if why == "hung up"), "{failed:?}");
    assert_eq!(store.entries(), NOTHING);
    // What was there before stays.
    store.put(&key, b"abc").await;
    let failing = chunks(&bytes, 4096).chain(stream::iter([Err(io::Error::other("hung up"))]));
    store.blobs.put_stream(&key, failing, u64::MAX).await.unwrap_err();
    assert_eq!(store.read(&key).await, b"abc");
}

#[tokio::test]
async fn a_put_that_is_given_up_leaves_nothing() {
    let store = store();
    let (blobs, bytes) = (store.blobs.clone(), sample(LOCAL_PART_BYTES * 2));
    let put = tokio::spawn(async move {
        let endless = chunks(&bytes, 4096).chain(stream::pending());
        blobs.put_stream(&original(), endless, u64::MAX).await
    });
    while store.entries().is_empty() {
        tokio::task::yield_now().await;
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    // Removal runs in the background; it comes, or the test hangs and is killed.
    while !store.entries().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_must_be_what_was_announced() {
    let store = store();
    let key = output(JobId::fresh(), 1, "clean.png");
    let expected = Written { size_bytes: 3, sha256: ABC.to_owned() };
    for wrong in [&b"abd"[..], b"ab", b"abcd", b""] {
        let refused = store.blobs.put_file(&key, wrong, &expected).await;
        assert!(matches!(refused, Err(BlobError::Mismatch(_))), "{refused:?}");
        assert_eq!(store.entries(), NOTHING);
    }
    store.blobs.put_file(&key, &b"abc"[..], &expected).await.unwrap();
    assert_eq!(store.read(&key).await, b"abc");
}

#[tokio::test]
async fn a_reader_seeks() {
    let store = store();
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
        assert_eq!(all, bytes);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn copies_are_checked() {
    let store = store();
    let key = original();
    store.put(&key, b"abc").await;
    let target = store.root.path().join("input");
    assert_eq!(store.blobs.copy_to_file(&key, &target, ABC).await.unwrap(), 3);
    assert_eq!(fs::read(&target).unwrap(), b"abc");
    // What is there is not written over, nor through.
    let refused = store.blobs.copy_to_file(&key, &target, ABC).await;
    assert!(matches!(refused, Err(BlobError::Unavailable(_))), "{refused:?}");
    fs::remove_file(&target).unwrap();
    std::os::unix::fs::symlink(store.root.path().join("elsewhere"), &target).unwrap();
    store.blobs.copy_to_file(&key, &target, ABC).await.unwrap_err();
    assert!(!store.root.path().join("elsewhere").exists());
    fs::remove_file(&target).unwrap();
    // Damaged on disk.
    let object = store.entries().into_iter().find(|path| path.is_file()).unwrap();
    fs::write(object, b"abd").unwrap();
    let refused = store.blobs.copy_to_file(&key, &target, ABC).await;
    assert!(matches!(refused, Err(BlobError::Mismatch(_))), "{refused:?}");
    assert!(!target.exists());
}

#[tokio::test]
async fn prefixes_take_what_is_theirs() {
    let store = store();
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
    let listed: Vec<Listed> = store.blobs.list().try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|listed| &listed.key).collect::<Vec<_>>(), [&only]);
    store.blobs.delete(&only).await.unwrap();
    store.blobs.delete(&only).await.unwrap();
    assert_eq!(store.entries(), NOTHING, "no empty directory stays");
}

#[tokio::test]
async fn listings_give_keys_and_age() {
    let store = store();
    let key = original();
    store.put(&key, b"abc").await;
    fs::write(store.root.path().join("blobs/img/stranger"), b"x").unwrap();
    let object = store.entries().into_iter().find(|path| path.ends_with("original")).unwrap();
    let hour = Duration::from_secs(3600);
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let listed: Vec<Listed> = store.blobs.list().try_collect().await.unwrap();
    assert_eq!((listed.len(), &listed[0].key, listed[0].size_bytes), (1, &key, 3));
    assert!(listed[0].age < hour);
    fs::File::options().write(true).open(object).unwrap().set_modified(old).unwrap();
    let listed: Vec<Listed> = store.blobs.list().try_collect().await.unwrap();
    assert!(listed[0].age > hour);
}

#[tokio::test]
async fn a_sweep_takes_what_a_crash_left() {
    let store = store();
    let key = original();
    store.put(&key, b"abc").await;
    let object = store.entries().into_iter().find(|path| path.is_file()).unwrap();
    fs::write(object.with_file_name("original#1"), b"half").unwrap();
    let half = store.root.path().join("blobs/img/00000000-0000-0000-0000-000000000000");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("original#17"), b"half").unwrap();
    fs::create_dir_all(store.root.path().join("blobs/out/a/b/c")).unwrap();
    assert_eq!(store.blobs.sweep_staging().await.unwrap(), 2);
    assert_eq!(store.entries(), [object.parent().unwrap(), &object]);
    assert_eq!(store.blobs.sweep_staging().await.unwrap(), 0);
    assert_eq!(store.read(&key).await, b"abc");
}

#[tokio::test]
async fn free_space_is_known() {
    let store = store();
    assert!(store.blobs.free_bytes().unwrap().unwrap() > 0);
}
