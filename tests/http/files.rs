//! Bytes of files: caching, ranges, names, and nothing that a stranger's upload could do in a browser.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::harness::{Answer, Server};

const BYTES: &[u8] = b"0123456789";

/// A server with one finished job whose output is [`BYTES`], and the path of that output.
async fn with_output() -> (Server, String) {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    server.succeed(job, "clean.png", BYTES).await;
    (server, format!("/api/v1/images/{image}/files/clean.png"))
}

async fn get(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    Answer::of(server.client.get(server.url(path)).headers(headers).send().await.unwrap()).await
}

#[tokio::test]
async fn a_file_comes_with_what_caches_need() {
    let (server, path) = with_output().await;
    let whole = get(&server, &path, &[]).await;
    assert_eq!((whole.status, &whole.body[..]), (200, BYTES));
    assert_eq!(whole.header("content-length"), "10");
    assert_eq!(whole.header("content-type"), "image/png");
    let etag = whole.header("etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let answer = get(&server, &path, &[("if-none-match", &known)]).await;
        assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, etag.as_str()), "{known}");
    }
    assert_eq!(get(&server, &path, &[("if-none-match", "\"x\"")]).await.status, 200);
    let head = server.client.head(server.url(&path)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "10"));
}

#[tokio::test]
async fn one_range_is_understood() {
    let (server, path) = with_output().await;
    for (range, from, to) in [("bytes=2-4", 2, 4), ("bytes=7-", 7, 9), ("bytes=-3", 7, 9), ("bytes=0-100", 0, 9)] {
        let part = get(&server, &path, &[("range", range)]).await;
        assert_eq!((part.status, &part.body[..]), (206, &BYTES[from..=to]), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/10"));
        assert_eq!(part.header("content-length"), (to - from + 1).to_string());
    }
    let outside = get(&server, &path, &[("range", "bytes=10-")]).await;
    outside.assert_problem(416, "range_not_satisfiable");
    assert_eq!(outside.header("content-range"), "bytes */10");
    assert_eq!(get(&server, &path, &[("range", "bytes=0-1,4-5")]).await.status, 200);
    let etag = get(&server, &path, &[]).await.header("etag").to_owned();
    assert_eq!(get(&server, &path, &[("range", "bytes=2-4"), ("if-range", &etag)]).await.status, 206);
    assert_eq!(get(&server, &path, &[("range", "bytes=2-4"), ("if-range", "\"old\"")]).await.status, 200);
}

#[tokio::test]
async fn a_download_has_a_name() {
    let (server, path) = with_output().await;
    let shown = get(&server, &path, &[]).await;
    assert_eq!(
        shown.header("content-disposition"),
        "inline; filename=\"page.clean.png\"; filename*=UTF-8''page.clean.png"
    );
    let saved = get(&server, &format!("{path}?download=1"), &[]).await;
    assert!(saved.header("content-disposition").starts_with("attachment; filename=\"page.clean.png\""));
}

#[tokio::test]
async fn an_uploaded_file_can_do_nothing_in_a_browser() {
    let (server, path) = with_output().await;
    for path in [path.clone(), path.replace("clean.png", "original")] {
        let answer = get(&server, &path, &[]).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'") && !policy.contains("script"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
    }
}

#[tokio::test]
async fn names_that_are_no_file_are_not_there() {
    let (server, path) = with_output().await;
    for name in ["manifest.json", "..%2Foriginal", "%2e%2e/%2e%2e/ledger.db", "clean.png/", "CLEAN.PNG"] {
        server.get(&path.replace("clean.png", name)).await.assert_problem(404, "not_found");
    }
}
