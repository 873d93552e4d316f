//! What is particular to one adapter.

use std::fs;

use super::suite::{Fresh, chunks, original, output};
use super::*;

#[path = "../../tests/common/s3.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the integration tests")]
mod s3_server;

use s3_server::{ACCESS_KEY, BUCKET, Mode, S3Server, SECRET_KEY};

#[test]
fn keys_come_back_from_their_paths() {
    let upload = Key::Upload(UploadId::fresh());
    let piece = Key::Piece { upload: UploadId::fresh(), piece: Uuid::now_v7() };
    let clean = output(JobId::fresh(), 1, "clean.png");
    let keys = [original(), upload, piece, clean, output(JobId::fresh(), 12, "p0002/clean.png")];
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

fn settings() -> config::Blobs {
    config::Config::defaults().unwrap().blobs
}

mod directory {
    use super::super::suite::blobs_suite;
    use super::*;

    blobs_suite!(open);

    async fn open() -> Fresh {
        let scratch = tempfile::tempdir().unwrap();
        let objects = scratch.path().join("blobs");
        let blobs = Blobs::local(&settings(), &objects).unwrap();
        Fresh { blobs, objects, unfinished: Box::new(Vec::new), scratch, _keep: Box::new(()) }
    }

    fn entries(store: &Fresh) -> Vec<std::path::PathBuf> {
        let areas = AREAS.into_iter().flat_map(|area| fs::read_dir(store.objects.join(area)).unwrap());
        areas.map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn no_empty_directory_stays() {
        let store = open().await;
        let key = output(JobId::fresh(), 1, "p0002/clean.png");
        store.put(&key, b"abc").await;
        store.blobs.delete(&key).await.unwrap();
        let expected = Written { size_bytes: 3, sha256: String::new() };
        store.blobs.put_file(&key, &b"abc"[..], &expected).await.unwrap_err();
        let long = vec![0; LOCAL_PART_BYTES * 2];
        store.blobs.put_stream(&key, chunks(&long, 4096), long.len() as u64 - 1).await.unwrap_err();
        assert_eq!(entries(&store), [""; 0].map(std::path::PathBuf::from));
    }

    #[tokio::test]
    async fn a_sweep_takes_what_a_crash_left() {
        let store = open().await;
        let key = original();
        store.put(&key, b"abc").await;
        let object = store.objects.join(key.path().as_ref());
        fs::write(object.with_file_name("original#1"), b"half").unwrap();
        let half = store.objects.join("img/00000000-0000-0000-0000-000000000000");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join("original#17"), b"half").unwrap();
        fs::create_dir_all(store.objects.join("out/a/b/c")).unwrap();
        assert_eq!(store.blobs.sweep_staging().await.unwrap(), 2);
        assert_eq!(entries(&store), [object.parent().unwrap()]);
        assert_eq!(store.blobs.sweep_staging().await.unwrap(), 0);
        assert_eq!(store.read(&key).await, b"abc");
    }

    #[tokio::test]
    async fn free_space_is_known() {
        let store = open().await;
        assert!(store.blobs.free_bytes().unwrap().unwrap() > 0);
    }
}

mod bucket {
    use super::super::suite::blobs_suite;
    use super::*;

    blobs_suite!(open);

    /// Bounds short enough to wait for.
    fn settings(server: &S3Server) -> config::Blobs {
        config::Blobs {
            url: format!("s3://{BUCKET}/a/prefix"),
            endpoint: server.endpoint.clone(),
            request_timeout_s: 2,
            retry_s: 1,
            probe_timeout_s: 1,
            probe_wait_max_s: 1,
            ..super::settings()
        }
    }

    fn credentials(access_key: &str, secret_key: &str) -> config::Aws {
        let pairs = [("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", secret_key)];
        config::Aws(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    fn connect(settings: &config::Blobs) -> Blobs {
        Blobs::connect(settings, &credentials(ACCESS_KEY, SECRET_KEY), FilePath::new("none")).unwrap()
    }

    async fn with_server() -> (Fresh, Arc<S3Server>) {
        let server = Arc::new(S3Server::start().await);
        let seen = server.clone();
        let fresh = Fresh {
            blobs: connect(&settings(&server)),
            objects: server.bucket().join("a/prefix"),
            unfinished: Box::new(move || seen.unfinished()),
            scratch: tempfile::tempdir().unwrap(),
            _keep: Box::new(server.clone()),
        };
        (fresh, server)
    }

    async fn open() -> Fresh {
        with_server().await.0
    }

    #[tokio::test]
    async fn the_check_passes_and_leaves_nothing() {
        let (store, server) = with_server().await;
        store.blobs.check().await.unwrap();
        let left: Vec<_> = store.blobs.store.list(None).try_collect::<Vec<_>>().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        server.set(Mode::ReadOnly);
        let error = store.blobs.check().await.unwrap_err();
        assert_eq!((error.operation, error.reason), ("put an object", "it says that it is unavailable"), "{error}");
    }

    #[tokio::test]
    async fn the_check_says_what_is_wrong() {
        let server = S3Server::start().await;
        let right = settings(&server);
        let failing = async |settings: &config::Blobs, access_key: &str, secret_key: &str| {
            let blobs = Blobs::connect(settings, &credentials(access_key, secret_key), FilePath::new("none")).unwrap();
            let error = blobs.check().await.unwrap_err();
            assert!(!error.to_string().contains(SECRET_KEY), "{error}");
            (error.operation, error.reason)
        };
        let list = "list objects";
        assert_eq!(failing(&right, ACCESS_KEY, "wrong").await, (list, "the secret key is wrong"));
        assert_eq!(failing(&right, "WRONG", SECRET_KEY).await, (list, "it does not know the access key"));
        let nowhere = config::Blobs { url: "s3://elsewhere".to_owned(), ..right.clone() };
        assert_eq!(failing(&nowhere, ACCESS_KEY, SECRET_KEY).await, (list, "there is no such bucket"));
        let nobody = config::Blobs { endpoint: "http://127.0.0.1:1".to_owned(), ..right.clone() };
        assert_eq!(failing(&nobody, ACCESS_KEY, SECRET_KEY).await, (list, "nobody listens at its address"));
        server.set(Mode::Hanging);
        assert_eq!(failing(&right, ACCESS_KEY, SECRET_KEY).await, (list, "it does not answer in time"));
    }

    #[tokio::test]
    async fn an_outage_is_told_at_once_and_ends_by_itself() {
        for mode in [Mode::Unavailable, Mode::Hanging, Mode::ReadOnly] {
            let (store, server) = with_server().await;
            let key = original();
            server.set(mode);
            let failed = store.blobs.put_stream(&key, chunks(b"abc", 1), 3).await;
            assert!(matches!(failed, Err(BlobError::Unavailable(_))), "{mode:?}: {failed:?}");
            assert!(store.blobs.outage().is_some());
            let refused = store.blobs.head(&key).await;
            assert!(matches!(refused, Err(BlobError::Down { .. })), "{mode:?}: {refused:?}");
            let mut outage = store.blobs.watch_outage();
            server.set(Mode::Well);
            outage.wait_for(Option::is_none).await.unwrap();
            store.put(&key, b"abc").await;
            assert_eq!(store.read(&key).await, b"abc");
        }
    }

    #[tokio::test]
    async fn a_short_outage_is_not_noticed() {
        let (store, server) = with_server().await;
        server.set(Mode::Unavailable);
        let (blobs, key) = (store.blobs.clone(), original());
        let put = tokio::spawn(async move { blobs.put_stream(&key, chunks(b"abc", 1), 3).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.set(Mode::Well);
        put.await.unwrap().unwrap();
        assert!(store.blobs.outage().is_none());
    }

    #[tokio::test]
    async fn uploads_that_nobody_ended_are_ended_when_they_are_old() {
        let (store, server) = with_server().await;
        for path in [original().path(), Path::from("img/else")] {
            let mut begun = store.blobs.store.put_multipart(&path).await.unwrap();
            begun.put_part(object_store::PutPayload::from_static(b"abc")).await.unwrap();
        }
        // Of another deployment in the same bucket.
        let (other, elsewhere) = (Path::from("b/img/else"), store.blobs.s3.clone().unwrap());
        drop(elsewhere.store.put_multipart(&other).await.unwrap());
        let hour = Duration::from_secs(3600);
        assert_eq!(store.blobs.end_unfinished(hour).await.unwrap(), 0);
        server.age_unfinished(2 * hour);
        assert_eq!(store.blobs.end_unfinished(hour).await.unwrap(), 2);
        assert_eq!(server.unfinished(), ["b/img/else"]);
    }
}
