//! Several images as one ZIP, read by another program than the one that wrote it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use futures::StreamExt;
use inkpool::blobs::{Key, Prefix};
use inkpool::job::{ImageId, JobId, OwnerId};
use inkpool::store::{Finish, Measured, NewFile};

use crate::harness::{Answer, Server, png};

const CLEAN: &[u8] = b"cleaned bytes, not really a picture";

/// What Python unpacks: names and bytes. It checks the sums on the way.
fn unpacked(zip: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let (file, into) = (directory.path().join("a.zip"), directory.path().join("out"));
    std::fs::write(&file, zip).unwrap();
    let done = Command::new("python3").args(["-m", "zipfile", "-e"]).args([&file, &into]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut found = BTreeMap::new();
    gather(&into, &into, &mut found);
    found
}

fn gather(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            gather(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

async fn named(server: &Server, filename: &str) -> (ImageId, JobId) {
    let answer = server.post(&format!("/api/v1/images?filename={filename}"), png(40, 30)).await;
    let item = &answer.json["items"][0];
    (crate::harness::parse(&item["image"]["id"]), crate::harness::parse(&item["job"]["id"]))
}

async fn archive(server: &Server, files: &str, ids: &[ImageId]) -> Answer {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    server.get(&format!("/api/v1/images/archive?files={files}&ids={}", ids.join(","))).await
}

#[tokio::test]
async fn a_zip_unpacks_to_the_same_bytes() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (image, job) = named(&server, "%D0%BB%D0%B8%D1%81%D1%82.png").await;
        server.succeed(job, "clean.png", CLEAN).await;
        ids.push(image);
    }
    let (unfinished, _) = named(&server, "later.png").await;
    ids.push(unfinished);
    let results = archive(&server, "results", &ids).await;
    assert_eq!((results.status, results.header("content-type")), (200, "application/zip"), "{results:?}");
    assert!(results.header("content-disposition").starts_with("attachment; filename=\"inkpool.zip\""));
    let found = unpacked(&results.body);
    let expected = [("лист (2).clean.png", CLEAN), ("лист.clean.png", CLEAN)];
    assert_eq!(found, expected.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into());
    let all = unpacked(&archive(&server, "all", &ids).await.body);
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    let first = ["later/later.png", "лист (2)/clean.png", "лист (2)/лист.png", "лист/clean.png", "лист/лист.png"];
    assert_eq!(names, first);
    assert_eq!(all["лист/лист.png"], png(40, 30));
    let alone = archive(&server, "all", &ids[2..]).await;
    assert!(alone.header("content-disposition").contains("filename=\"later.zip\""), "{:?}", alone.headers);
}

#[tokio::test]
async fn what_cannot_be_packed_is_refused() {
    let server = Server::start_with(|config| {
        config.archive.images_max = 2;
        config.archive.bytes_max = 100;
    })
    .await;
    let (image, job) = server.upload().await;
    archive(&server, "results", &[image]).await.assert_problem(409, "wrong_state");
    server.succeed(job, "clean.png", CLEAN).await;
    assert_eq!(archive(&server, "results", &[image]).await.status, 200);
    let too_long = archive(&server, "all", &[image]).await;
    too_long.assert_problem(422, "too_many");
    assert_eq!(too_long.json["limit"], "100 bytes");
    archive(&server, "all", &[image, ImageId::fresh()]).await.assert_problem(404, "not_found");
    let three = [image, ImageId::fresh(), ImageId::fresh()];
    archive(&server, "all", &three).await.assert_problem(422, "too_many");
    let some = format!("?ids={image}&files=some");
    for (query, status, code) in [
        ("", 400, "invalid_parameter"),
        ("?ids=", 400, "invalid_parameter"),
        ("?ids=x", 404, "not_found"),
        (some.as_str(), 400, "invalid_parameter"),
    ] {
        server.get(&format!("/api/v1/images/archive{query}")).await.assert_problem(status, code);
    }
}

#[tokio::test]
async fn results_of_several_pages_have_their_pdf() {
    let server = Server::start().await;
    let (image, job) = named(&server, "chapter.tif").await;
    let png = ["clean.png", "p0002/clean.png", "thumb.webp", "p0002/thumb.webp"].map(|name| (name, "image/png"));
    server.succeed_with(job, &[&png[..], &[("clean.pdf", "application/pdf")]].concat(), CLEAN).await;
    let answer = archive(&server, "results", &[image]).await;
    let names: Vec<String> = unpacked(&answer.body).into_keys().collect();
    assert_eq!(names, ["chapter.clean.pdf", "chapter.clean.png", "chapter.p0002.clean.png"]);
}

#[tokio::test]
async fn archives_at_once_are_bounded() {
    let server = Server::start_with(|config| config.archive.at_once = 0).await;
    let (image, _) = server.upload().await;
    archive(&server, "all", &[image]).await.assert_problem(503, "overloaded");
}

#[tokio::test]
async fn an_archive_that_breaks_off_does_not_look_whole() {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    server.succeed(job, "clean.png", CLEAN).await;
    server.blobs.delete_prefix(Prefix::Job(job)).await.unwrap();
    let url = server.url(&format!("/api/v1/images/archive?ids={image}"));
    let answer = server.client.get(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "it had begun");
    assert!(answer.bytes().await.is_err());
}

/// Peak resident memory of this process, bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn memory_stays_flat() {
    const PIECES: u64 = 160;
    const PIECE_BYTES: u64 = 1 << 20;
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    let start = server.begin(job).await;
    let key = Key::Output { job, start, name: "clean.png".to_owned() };
    let piece = bytes::Bytes::from(vec![7; usize::try_from(PIECE_BYTES).unwrap()]);
    let pieces = futures::stream::iter(0..PIECES).map(move |_| Ok(piece.clone()));
    let written = server.blobs.put_stream(&key, pieces, PIECES * PIECE_BYTES).await.unwrap();
    let file = NewFile {
        name: "clean.png".to_owned(),
        content_type: "image/png".to_owned(),
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        width_px: None,
        height_px: None,
    };
    let measured = Measured { width_px: 1, height_px: 1, pages_count: 1 };
    server.ledger.finish(job, start, Finish::Succeeded { files: vec![file], measured, gate: None }).await.unwrap();
    assert!(server.ledger.image(OwnerId::LOCAL, image).await.unwrap().is_some());
    // The peak starts anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_bytes();
    let url = server.url(&format!("/api/v1/images/archive?files=results&ids={image}"));
    let mut body = server.client.get(url).send().await.unwrap().bytes_stream();
    let mut received = 0;
    while let Some(piece) = body.next().await {
        received += piece.unwrap().len() as u64;
    }
    let grown = peak_bytes().saturating_sub(before);
    assert!(received > PIECES * PIECE_BYTES, "{received}");
    assert!(grown < 24 << 20, "{grown} bytes for an archive of {received}");
}
