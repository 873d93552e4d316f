//! Bad input, one test for each line of the list: the stated answer, nothing left behind, and no memory taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/pdf.rs"]
mod pdf;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::server::{Options, Server, data_directory, files_below};
use common::{crafted, pages};
use image::ImageFormat;
use serde_json::Value;

/// Growth that a request may cause and that is not given back: allocator slack, far below any of the bombs.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// A server that has worked once, so that its memory is what it is in use.
struct Universe {
    server: Server,
    objects: BTreeSet<String>,
    resident_bytes: u64,
    directory: tempfile::TempDir,
}

async fn universe() -> Universe {
    let directory = data_directory();
    let options = Options::default().slots(1).set("INKPOOL_JANITOR__EVERY_S", 1);
    let server = Server::start(directory.path(), &options);
    let id = server.submit(pages::png(64, 64, 0), "document").await;
    assert_eq!(server.wait_final(&id).await["state"], "succeeded");
    let objects = files_below(&directory.path().join("objects"));
    let resident_bytes = server.resident_bytes();
    Universe { server, objects, resident_bytes, directory }
}

impl Universe {
    fn memory_has_not_moved(&self) {
        let now = self.server.resident_bytes();
        let grown = now.saturating_sub(self.resident_bytes);
        assert!(grown < GROWTH_BYTES_MAX, "memory grew by {grown} bytes to {now}");
    }

    async fn nothing_is_left(&self) {
        self.memory_has_not_moved();
        assert_eq!(files_below(&self.directory.path().join("objects")), self.objects);
        assert_eq!(self.server.get("/api/v1/images").await["items"].as_array().unwrap().len(), 1);
        // And it works on.
        let id = self.server.submit(pages::png(64, 64, 9), "document").await;
        assert_eq!(self.server.wait_final(&id).await["state"], "succeeded");
    }

    /// Expects a refusal of the upload itself.
    async fn refused(&self, bytes: Vec<u8>, status: u16, code: &str) -> Value {
        let (answered, problem) = self.server.upload(bytes, "document").await.unwrap();
        assert_eq!((answered, &problem["code"]), (status, &code.into()), "{problem}");
        for field in ["type", "title", "status", "detail"] {
            assert!(!problem[field].is_null(), "{field} is missing: {problem}");
        }
        self.nothing_is_left().await;
        problem
    }

    /// Expects that the upload is taken and its job fails for good in `decode`, with only the original to show.
    async fn fails_in_decode(&self, bytes: Vec<u8>) {
        let id = self.server.submit(bytes, "document").await;
        let job = self.server.wait_final(&id).await;
        assert_eq!(job["state"], "failed", "{job}");
        assert_eq!(job["attempt"], 1, "not retried: {job}");
        assert_eq!((&job["error"]["stage"], &job["error"]["retryable"]), (&"decode".into(), &false.into()), "{job}");
        let image = format!("/api/v1/images/{}", job["image_id"].as_str().unwrap());
        assert_eq!(self.server.get(&image).await["files"].as_array().unwrap().len(), 1);
        let answer = self.server.client().delete(self.server.url(&image)).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        common::server::until("its object is gone", || {
            files_below(&self.directory.path().join("objects")) == self.objects
        })
        .await;
        self.nothing_is_left().await;
    }

    /// Sends raw bytes and closes the writing side, or hangs up; what was answered.
    fn raw(&self, bytes: &[u8], hang_up: bool) -> String {
        let mut stream = TcpStream::connect(&self.server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        if hang_up {
            return String::new();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body() {
    let universe = universe().await;
    let (status, problem) = universe.server.upload(Vec::new(), "document").await.unwrap();
    assert!(status == 400 || status == 422, "{status}");
    assert_eq!(problem["code"], "empty_body", "{problem}");
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_an_image() {
    let universe = universe().await;
    let problem =
        universe.refused(b"Dear Sir or Madam, this is no picture at all.".to_vec(), 415, "unsupported_format").await;
    assert!(problem.to_string().contains("JPEG"), "it names what is supported: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn svg_pdf_and_heic() {
    let universe = universe().await;
    let svg = b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"><script>1</script></svg>".to_vec();
    let postscript = b"%!PS-Adobe-3.0\n%%Pages: 1\n".to_vec();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\0\0\0\0\0".to_vec();
    for (bytes, name) in [(svg, "SVG"), (postscript, "PostScript"), (heic, "HEI")] {
        let (status, problem) = universe.server.upload(bytes, "document").await.unwrap();
        assert_eq!((status, &problem["code"]), (415, &"unsupported_format".into()), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
        assert!(problem.to_string().contains("JPEG"), "{problem}");
    }
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_jpeg() {
    universe().await.fails_in_decode(crafted::truncated(ImageFormat::Jpeg)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_png() {
    universe().await.fails_in_decode(crafted::truncated(ImageFormat::Png)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_tiff() {
    universe().await.fails_in_decode(crafted::truncated(ImageFormat::Tiff)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_webp() {
    universe().await.fails_in_decode(crafted::truncated(ImageFormat::WebP)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_png_of_thirty_thousand_pixels_a_side() {
    let universe = universe().await;
    let (status, problem) = universe.server.upload(crafted::png_bomb(), "document").await.unwrap();
    assert_eq!(status, 413, "{problem}");
    assert!(["too_many_pixels", "side_too_long"].contains(&problem["code"].as_str().unwrap()), "{problem}");
    for field in ["limit", "measured", "remedy"] {
        assert!(problem[field].is_string(), "{field} is missing: {problem}");
    }
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gif_bomb_and_a_tiff_bomb() {
    let universe = universe().await;
    for bomb in [crafted::gif_bomb(), crafted::tiff_bomb()] {
        let (status, problem) = universe.server.upload(bomb, "document").await.unwrap();
        assert_eq!(status, 413, "{problem}");
    }
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apng_of_five_thousand_frames_is_one_picture() {
    let universe = universe().await;
    let id = universe.server.submit(crafted::apng_bomb(), "document").await;
    let job = universe.server.wait_final(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let image = universe.server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
    assert_eq!(image["pages_count"], 1);
    universe.memory_has_not_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiff_whose_directory_loops() {
    let universe = universe().await;
    let (status, body) = universe.server.upload(crafted::tiff_loop(), "document").await.unwrap();
    assert_eq!((status, &body["code"]), (422, &"malformed".into()), "{body}");
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_500_megabytes() {
    let universe = universe().await;
    let head = "POST /api/v1/images HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500000000\r\n\r\n";
    let answer = universe.raw(head.as_bytes(), false);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body_too_large") && answer.contains("67108864"), "{answer}");
    // Without a length, the bytes themselves are counted.
    let chunk = bytes::Bytes::from(vec![0u8; 1 << 20]);
    let first = bytes::Bytes::from(pages::png(64, 64, 1));
    let body = futures::stream::iter(std::iter::once(first).chain(std::iter::repeat_n(chunk, 500)));
    let body = reqwest::Body::wrap_stream(futures::StreamExt::map(body, Ok::<_, std::io::Error>));
    let sent = universe.server.client().post(universe.server.url("/api/v1/images")).body(body).send().await;
    // The server answers and closes before the client is through: it sees the answer or the closed connection.
    if let Ok(answer) = sent {
        assert_eq!(answer.status(), 413);
    }
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_length_that_lies() {
    let universe = universe().await;
    let png = pages::png(64, 64, 1);
    let mut short =
        format!("POST /api/v1/images HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", png.len() + 50_000)
            .into_bytes();
    short.extend_from_slice(&png);
    let answer = universe.raw(&short, false);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    let mut twice =
        b"POST /api/v1/images HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 500\r\n\r\n".to_vec();
    twice.extend_from_slice(&png);
    assert!(universe.raw(&twice, false).starts_with("HTTP/1.1 400"));
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_half_way() {
    let universe = universe().await;
    for _ in 0..20 {
        let mut half = b"POST /api/v1/images HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n".to_vec();
        half.extend_from_slice(&pages::png(200, 200, 1));
        half.resize(half.len() + 3_000_000, 7);
        universe.raw(&half, true);
    }
    let objects = universe.directory.path().join("objects");
    common::server::until("the half uploads are gone", || files_below(&objects) == universe.objects).await;
    universe.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filenames() {
    let universe = universe().await;
    let long = "ä".repeat(300);
    for name in ["../../etc/passwd", "a\0b.png", &long, "in\u{202e}gnp.exe", "a\r\nSet-Cookie: x=1.png", "..", ""] {
        let url = universe.server.url("/api/v1/images");
        let query = [("preset", "document"), ("filename", name)];
        let answer =
            universe.server.client().post(&url).query(&query).body(pages::png(64, 64, 1)).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{name:?}");
        let body: Value = answer.json().await.unwrap();
        let item = &body["items"][0];
        let kept = item["image"]["filename"].as_str().unwrap();
        assert!(!kept.is_empty() && kept.len() <= 255, "{kept:?}");
        assert!(!kept.contains(['/', '\\', '\0', '\r', '\n', '\u{202e}']) && kept != "..", "{kept:?}");
        server_still_serves(&universe.server, item).await;
    }
    let stray: Vec<_> =
        files_below(universe.directory.path()).into_iter().filter(|file| file.contains("passwd")).collect();
    assert!(stray.is_empty(), "{stray:?}");
    universe.memory_has_not_moved();
}

async fn server_still_serves(server: &Server, item: &Value) {
    server.wait_final(item["job"]["id"].as_str().unwrap()).await;
    let url = format!("/api/v1/images/{}/files/original?download=1", item["image"]["id"].as_str().unwrap());
    let answer = server.client().get(server.url(&url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get("set-cookie").is_none());
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
}

/// Every derivative of the job's image.
async fn derivatives(server: &Server, job: &Value) -> Vec<(String, Vec<u8>)> {
    let image = server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
    let mut found = Vec::new();
    for file in image["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        if name != "original" {
            let bytes = server.client().get(server.url(file["url"].as_str().unwrap())).send().await.unwrap();
            found.push((name.to_owned(), bytes.bytes().await.unwrap().to_vec()));
        }
    }
    assert!(found.len() >= 3, "{image}");
    found
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_png_that_asks_for_a_file() {
    let universe = universe().await;
    let passwd = std::fs::read("/etc/passwd").unwrap();
    let secret = &passwd[..20];
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = universe.server.submit(pages::png_with_text("profile", "/etc/passwd", 1), "photo").await;
    let job = universe.server.wait_final(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    for (name, bytes) in derivatives(&universe.server, &job).await {
        assert!(!holds(&bytes, secret) && !holds(&bytes, hex.as_bytes()) && !holds(&bytes, b"profile"), "{name}");
    }
    universe.memory_has_not_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_with_gps() {
    let universe = universe().await;
    for preset in ["photo", "document"] {
        let bytes = crafted::jpeg_with_gps();
        assert!(holds(&bytes, b"SECRET-PLACE"));
        let id = universe.server.submit(bytes, preset).await;
        let job = universe.server.wait_final(&id).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        for (name, bytes) in derivatives(&universe.server, &job).await {
            for word in [b"SECRET-PLACE".as_slice(), b"Exif", b"EXIF", b"eXIf"] {
                assert!(!holds(&bytes, word), "{name} holds {}", String::from_utf8_lossy(word));
            }
        }
    }
    universe.memory_has_not_moved();
}

/// What a PDF holds is for the worker to find out: the server takes it, and the job tells.
#[tokio::test]
async fn hostile_pdf() {
    let universe = universe().await;
    universe.fails_in_decode(pdf::pages(10_000, pdf::A4)).await;
    let broken = b"%PDF-1.7\nno more\n%%EOF\n".to_vec();
    for (bytes, code) in [(pdf::pages(1, "0 0 14400 14400"), "too_many_pixels"), (broken, "malformed")] {
        let id = universe.server.submit(bytes, "document").await;
        let job = universe.server.wait_final(&id).await;
        assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &code.into()), "{job}");
        assert_eq!(job["attempt"], 1, "not retried: {job}");
    }
    let id = universe.server.submit(pdf::text(pdf::A4), "photo").await;
    let job = universe.server.wait_final(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let image = universe.server.get(&format!("/api/v1/images/{}", job["image_id"].as_str().unwrap())).await;
    assert_eq!((&image["content_type"], &image["pages_count"]), (&"application/pdf".into(), &1.into()));
    assert_eq!((&image["width_px"], &image["height_px"]), (&2480.into(), &3508.into()), "known since the job");
    // It is sent to be saved, never to be shown by the server's own address.
    let url = universe.server.url(&format!("/api/v1/images/{}/files/original", image["id"].as_str().unwrap()));
    let answer = universe.server.client().get(url).send().await.unwrap();
    let disposition = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    universe.memory_has_not_moved();
}

#[tokio::test]
async fn a_pdf_where_none_is_read() {
    let directory = data_directory();
    let options = Options::default().slots(1).set("INKPOOL_MODELS__PDFIUM", "off");
    let server = Server::start(directory.path(), &options);
    let (status, problem) = server.upload(pdf::text(pdf::A4), "document").await.unwrap();
    assert_eq!((status, &problem["code"]), (415, &"unsupported_format".into()), "{problem}");
    assert!(problem["remedy"].as_str().unwrap().contains("scripts/setup"), "{problem}");
    assert_eq!(files_below(&directory.path().join("objects")).len(), 0, "nothing was stored");
}
