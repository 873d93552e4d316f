//! Pages of other sites cannot use somebody's login.

use serde_json::json;

use super::people::{Answer, PASSWORD, Place, options};

const CSRF: (&str, &str) = ("x-inkpool-csrf", "1");

#[tokio::test]
async fn another_site_changes_nothing_by_the_cookie() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    let own = format!("http://{}", place.server.address);
    // With the header as well: the origin alone is enough to refuse.
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let foreign = ada.with(name, value).with(CSRF.0, CSRF.1);
        foreign.upload().await.assert_problem(403, "origin_not_allowed");
        foreign.post("/api/v1/tokens", json!({"name": "x"})).await.assert_problem(403, "origin_not_allowed");
        foreign.send("DELETE", "/api/v1/session").await.assert_problem(403, "origin_not_allowed");
    }
    // A page that could make a browser send the right origin still has to set the header.
    for page in [ada.with("origin", &own), ada.with("sec-fetch-site", "same-origin"), ada.with("referer", &own)] {
        page.upload().await.assert_problem(403, "csrf_header_missing");
        page.send("DELETE", "/api/v1/session").await.assert_problem(403, "csrf_header_missing");
        assert_eq!(page.with(CSRF.0, CSRF.1).upload().await.status, 202);
        assert_eq!(page.get("/api/v1/images").await.status, 200);
    }
    // A program with a cookie jar says nothing of where it comes from.
    assert_eq!(ada.upload().await.status, 202);
}

#[tokio::test]
async fn another_site_logs_nobody_in() {
    let place = Place::start(&options()).await;
    let body = json!({"username": "root", "password": PASSWORD});
    let foreign = place.nobody().with("origin", "https://evil.example");
    foreign.post("/api/v1/session", body.clone()).await.assert_problem(403, "origin_not_allowed");
    foreign.post("/api/v1/accounts", body.clone()).await.assert_problem(403, "origin_not_allowed");
    // What a form can send without asking first is not read.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request = place.nobody().request("POST", "/api/v1/session");
        let sent = request.header("content-type", content_type).body(body.to_string()).send().await.unwrap();
        Answer::of(sent).await.assert_problem(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_token_is_not_sent_by_itself() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    let token = ada.token(&["read", "write"]).await;
    let program = place.nobody().with("authorization", format!("Bearer {}", token["secret"].as_str().unwrap()));
    assert_eq!(program.with("origin", "https://tools.example").upload().await.status, 202);
    // With both, the token counts, also when it is wrong.
    let both = ada.with("authorization", "Bearer inkpool_0");
    both.get("/api/v1/images").await.assert_problem(401, "login_required");
    ada.with("authorization", "Basic cm9vdDpyb290").get("/api/v1/images").await.assert_problem(401, "login_required");
}

#[tokio::test]
async fn answers_are_not_shared_between_sites() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    let foreign = ada.with("origin", "https://evil.example");
    for path in ["/api/v1/images", "/api/v1/session", "/api/v1/tokens"] {
        let answer = foreign.get(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let asked = foreign.with("access-control-request-method", "POST").send("OPTIONS", path).await;
        assert_eq!(asked.header("access-control-allow-origin"), "", "{path}");
    }
}
