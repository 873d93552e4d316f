//! The list of images: found by name, state and verdict.

use inkpool::job::JobError;
use serde_json::json;

use crate::harness::{Server, parse};

async fn names(server: &Server, query: &str) -> Vec<String> {
    let answer = server.get(&format!("/api/v1/images?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["items"].as_array().unwrap().iter().map(|image| parse::<String>(&image["filename"])).collect()
}

#[tokio::test]
async fn images_are_found() {
    let server = Server::start().await;
    let mut jobs = Vec::new();
    for name in ["Anna_1.png", "anna%252.png", "%D0%9F%D0%B8%D1%81%D1%8C%D0%BC%D0%BE.png"] {
        let answer = server.post(&format!("/api/v1/images?filename={name}"), crate::harness::png(9, 9)).await;
        jobs.push(parse(&answer.json["items"][0]["job"]["id"]));
    }
    server.succeed(jobs[0], "clean.png", b"x").await;
    server.fail(jobs[1], JobError::new("malformed", "damaged", Some("decode"), false)).await;
    assert_eq!(names(&server, "q=ANNA").await, ["anna%2.png", "Anna_1.png"]);
    // Signs that SQL has a meaning for mean themselves.
    assert_eq!(names(&server, "q=%25").await, ["anna%2.png"]);
    assert_eq!(names(&server, "q=a_1").await, ["Anna_1.png"]);
    assert_eq!(names(&server, "q=%D0%9F%D0%98%D0%A1").await, ["Письмо.png"]);
    assert_eq!(names(&server, "q=nothing").await, [""; 0]);
    assert_eq!(names(&server, "state=succeeded").await, ["Anna_1.png"]);
    assert_eq!(names(&server, "state=failed,queued").await, ["Письмо.png", "anna%2.png"]);
    assert_eq!(names(&server, "state=failed&q=1").await, [""; 0]);
    assert_eq!(names(&server, "verdict=review").await, [""; 0]);
    assert_eq!(names(&server, "q=&state=&verdict=").await.len(), 3);
    for wrong in ["state=done", "state=failed,", "verdict=bad", "q="] {
        let query = if wrong == "q=" { format!("q={}", "a".repeat(256)) } else { wrong.to_owned() };
        let answer = server.get(&format!("/api/v1/images?{query}")).await;
        match wrong {
            "state=failed," => assert_eq!(answer.status, 200),
            _ => answer.assert_problem(400, "invalid_parameter"),
        }
    }
}

#[tokio::test]
async fn what_is_found_goes_on_over_pages() {
    let server = Server::start().await;
    for index in 0..5 {
        let name = if index % 2 == 0 { "even" } else { "odd" };
        server.post(&format!("/api/v1/images?filename={name}{index}.png"), crate::harness::png(9, 9)).await;
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/api/v1/images?q=even&limit=2{cursor}")).await;
        let items = page.json["items"].as_array().unwrap();
        found.extend(items.iter().map(|image| parse::<String>(&image["filename"])));
        match page.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["even4.png", "even2.png", "even0.png"]);
}

#[tokio::test]
async fn an_image_says_how_it_stands() {
    let server = Server::start().await;
    let (image, job) = server.upload().await;
    let path = format!("/api/v1/images/{image}");
    assert_eq!(server.get(&path).await.json["state"], "queued");
    server.succeed(job, "clean.png", b"x").await;
    let shown = server.get(&path).await.json;
    assert_eq!((&shown["state"], &shown["verdict"]), (&json!("succeeded"), &json!(null)));
    let again = server.post_json(&format!("{path}/jobs"), json!({"preset": "photo"})).await;
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(server.get(&path).await.json["state"], "queued", "that of the youngest job");
}

#[tokio::test]
async fn every_view_is_the_same_shell_in_the_language_asked_for() {
    let server = Server::start().await;
    for path in ["/", "/library", "/images/0198c5a0-0000-7000-8000-000000000000"] {
        let request =
            server.client.get(server.url(path)).header("accept-language", "ru").header("cookie", "inkpool_theme=dark");
        let answer = crate::harness::Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.header("content-language")), (200, "ru"), "{path}");
        assert_eq!(answer.header("vary"), "accept-language, cookie");
        let html = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(html.contains("<html lang=\"ru\" data-theme=\"dark\">") && html.contains("Библиотека"), "{path}");
    }
    assert_ne!(server.get("/").await.header("etag"), "");
}
