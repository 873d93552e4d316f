//! Every line of "bad input" that HTTP answers: the stated answer, and nothing left behind.

use std::time::Duration;

use crate::harness::{Answer, PATIENCE, Server, encoded, png, read_to_end};
use bytes::Bytes;
use futures::stream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const UPLOAD: &str = "POST /api/v1/images HTTP/1.1\r\nHost: localhost\r\n";

/// A body of `pieces` × 1 MiB that begins like a PNG; how many were taken is counted.
fn megabytes(pieces: usize, taken: std::sync::Arc<std::sync::atomic::AtomicUsize>) -> reqwest::Body {
    let first = {
        let mut first = png(40, 30);
        first.resize(1 << 20, 0);
        Bytes::from(first)
    };
    let zeros = Bytes::from(vec![0u8; 1 << 20]);
    let body = stream::iter((0..pieces).map(move |piece| {
        taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok::<_, std::io::Error>(if piece == 0 { first.clone() } else { zeros.clone() })
    }));
    reqwest::Body::wrap_stream(body)
}

#[tokio::test]
async fn an_empty_body() {
    let server = Server::start().await;
    server.post("/api/v1/images", Vec::new()).await.assert_problem(400, "empty_body");
    let chunked = reqwest::Body::wrap_stream(stream::empty::<Result<Bytes, std::io::Error>>());
    server.post("/api/v1/images", chunked).await.assert_problem(400, "empty_body");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_no_image_of_a_supported_kind() {
    let server = Server::start().await;
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".as_slice();
    let svg = b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>".as_slice();
    let html = b"<html><script>alert(1)</script></html>".as_slice();
    for body in [b"hello, world".as_slice(), svg, b"%!PS-Adobe-3.0\n%abc", heic, html, &[0u8; 4096]] {
        let answer = server.post("/api/v1/images?filename=a.png", body).await;
        answer.assert_problem(415, "unsupported_format");
        let text = format!("{} {}", answer.json["detail"], answer.json["remedy"]);
        for supported in ["JPEG", "PNG", "WebP", "TIFF"] {
            assert!(text.contains(supported), "{text} does not name {supported}");
        }
    }
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn the_wrong_kind_is_said_before_the_rest_is_read() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("{UPLOAD}Content-Length: 60000000\r\n\r\n%!PS-Adobe {}", "x".repeat(100));
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("unsupported_format"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_header_that_is_cut_off() {
    let server = Server::start().await;
    server.post("/api/v1/images", png(40, 30)[..20].to_vec()).await.assert_problem(422, "malformed");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_page_of_900_megapixels() {
    let server = Server::start().await;
    let mut bytes = png(8, 8);
    bytes[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let answer = server.post("/api/v1/images", bytes).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(["too_many_pixels", "side_too_long"].contains(&answer.json["code"].as_str().unwrap()), "{answer:?}");
    assert!(answer.json["limit"].is_string() && answer.json["measured"].is_string());
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_body_of_500_megabytes_that_says_so_is_not_read() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("{UPLOAD}Content-Length: 524288000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"measured\":\"524288000 bytes\""), "{answer}");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_client_that_sends_all_of_it_first_reads_the_answer() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let size = 100 << 20;
    stream.write_all(format!("{UPLOAD}Content-Length: {size}\r\n\r\n").as_bytes()).await.unwrap();
    let piece = vec![0u8; 1 << 20];
    for _ in 0..size / piece.len() {
        stream.write_all(&piece).await.expect("the server closes only after it was heard");
    }
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_of_500_megabytes_without_a_length_is_cut_off() {
    let server = Server::start().await;
    let taken = std::sync::Arc::default();
    let request = server.client.post(server.url("/api/v1/images")).body(megabytes(500, std::sync::Arc::clone(&taken)));
    let answer = Answer::of(request.send().await.unwrap()).await;
    answer.assert_problem(413, "body_too_large");
    let taken = taken.load(std::sync::atomic::Ordering::SeqCst);
    assert!(taken < 500, "{taken} MiB were taken");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_form_of_500_megabytes_is_cut_off() {
    let server = Server::start().await;
    let part = reqwest::multipart::Part::stream(megabytes(500, std::sync::Arc::default())).file_name("a.png");
    let form = reqwest::multipart::Form::new().part("file", part);
    let answer = server.client.post(server.url("/api/v1/images")).multipart(form).send().await.unwrap();
    Answer::of(answer).await.assert_problem(413, "body_too_large");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_part_whose_header_does_not_end() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        format!("{UPLOAD}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 60000000\r\n\r\n--b\r\nX: ");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let endless = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 16];
        let mut sent = 0;
        while sent < 60_000_000 && writing.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
    });
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut reading, &mut answer).await.ok();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_multipart"), "{answer}");
    endless.abort();
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn broken_forms() {
    let server = Server::start().await;
    for (content_type, body) in [
        ("multipart/form-data", "--b\r\n"),
        ("multipart/form-data; boundary=b", "nothing like it"),
        ("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"preset\"\r\n\r\nphoto"),
    ] {
        let request = server.client.post(server.url("/api/v1/images")).header("content-type", content_type);
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        answer.assert_problem(400, "invalid_multipart");
    }
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_length_that_promises_more_than_comes() {
    let server = Server::start_with(|config| config.http.idle_timeout_s = 1).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let bytes = png(40, 30);
    let head = format!("{UPLOAD}Content-Length: {}\r\n\r\n", bytes.len() + 1000);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_length_that_promises_less_than_comes() {
    let server = Server::start().await;
    let bytes = png(40, 30);
    let mut request = format!("{UPLOAD}Content-Length: 20\r\n\r\n").into_bytes();
    request.extend_from_slice(&bytes);
    let answer = server.raw(&request).await;
    // The first 20 bytes are the body, and no whole image; what follows is no request.
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("malformed"), "{answer}");
    assert!(!answer.contains("HTTP/1.1 2"), "{answer}");
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn lengths_that_contradict_each_other() {
    let server = Server::start().await;
    for lengths in ["Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: -5\r\n", "Content-Length: x\r\n"] {
        let answer = server.raw(format!("{UPLOAD}{lengths}\r\nhello").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    server.assert_nothing_left().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_half_way() {
    let server = Server::start().await;
    let bytes = png(400, 300);
    for encoding in ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfffff\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("{UPLOAD}{encoding}").as_bytes()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // The upload is on its way: something of it lies in the object directory, or will in a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
    }
    server.assert_nothing_left().await;
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let server = Server::start_with(|config| config.http.idle_timeout_s = 1).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let drip = async {
        // A byte now and then keeps the connection from being idle; the header as a whole has its time.
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 1000)) {
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut answer = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer);
    let closed = tokio::time::timeout(PATIENCE, async {
        tokio::select! { _ = closed => true, () = drip => false }
    });
    assert!(closed.await.unwrap(), "the connection was not closed");
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Server::start_with(|config| config.http.idle_timeout_s = 1).await;
    let mut fresh = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut fresh).await, "");
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut kept).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_download_that_is_not_taken_is_cut_off() {
    let server = Server::start_with(|config| config.http.idle_timeout_s = 1).await;
    let bytes = encoded(3000, 2200, image::ImageFormat::Bmp);
    let size = bytes.len();
    let uploaded = server.post("/api/v1/images", bytes).await;
    let url = uploaded.json["items"][0]["image"]["files"][0]["url"].as_str().unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.ok();
    assert!(answer.len() < size, "{} of {size} bytes lay in buffers", answer.len());
}

#[tokio::test]
async fn headers_above_16_kib() {
    let server = Server::start().await;
    let long = "x".repeat(17 * 1024);
    let answer = server.raw(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let endless = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(100_000));
    let answer = server.raw(endless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let within =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(15_000));
    assert!(server.raw(within.as_bytes()).await.starts_with("HTTP/1.1 200 "));
}
