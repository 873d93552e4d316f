//! What holds for every path: problems, the guard of open mode, headers, health, figures, the description, the page.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Answer, Server};

async fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.client.request(method.parse().unwrap(), server.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let server = Server::start().await;
    server.get("/nope").await.assert_problem(404, "not_found");
    server.get("/api/v1/nope").await.assert_problem(404, "not_found");
    server.get("/assets/../Cargo.toml").await.assert_problem(404, "not_found");
    for (method, path) in [("DELETE", "/api/v1/jobs"), ("POST", "/"), ("PUT", "/api/v1/images"), ("BREW", "/healthz")] {
        let answer = send(&server, method, path, &[]).await;
        answer.assert_problem(405, "method_not_allowed");
        assert!(answer.header("allow").contains("GET"), "{method} {path}: {:?}", answer.headers);
    }
}

#[tokio::test]
async fn only_this_machine_is_answered() {
    let server = Server::start().await;
    let address = server.address.to_string();
    for host in ["evil.example", "127.0.0.1.evil.example", "192.168.1.7"] {
        for path in ["/", "/api/v1/images", "/healthz", "/metrics", "/nope"] {
            send(&server, "GET", path, &[("host", host)]).await.assert_problem(403, "host_not_allowed");
        }
    }
    let upload = |origin| [("host", address.as_str()), ("origin", origin)];
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        send(&server, "POST", "/api/v1/images", &upload(origin)).await.assert_problem(403, "origin_not_allowed");
    }
    let own = format!("http://{address}");
    send(&server, "POST", "/api/v1/images", &upload(&own)).await.assert_problem(400, "empty_body");
    let old = server.raw(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 403 "), "{old}");
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let server = Server::start().await;
    for path in ["/", "/assets/app.css", "/api/v1/images", "/nope", "/healthz"] {
        let answer = server.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(!answer.header("x-request-id").is_empty());
    }
    let named = send(&server, "GET", "/healthz", &[("x-request-id", "my-id.7")]).await;
    assert_eq!(named.header("x-request-id"), "my-id.7");
    let odd = send(&server, "GET", "/healthz", &[("x-request-id", "a b\"c")]).await;
    assert_ne!(odd.header("x-request-id"), "a b\"c");
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let server = Server::start_with(|config| config.http.requests_max = 0).await;
    server.get("/healthz").await.assert_problem(503, "overloaded");
}

#[tokio::test]
async fn health_says_what_is_wrong() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz").await.json["status"], "ok");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.json["ready"]), (200, &json!(true)));
    assert_eq!(ready.json["runtimes"]["node-1"]["runtime"], "process");
    server.actors.reasons.lock().unwrap().push("More than half of the slots are quarantined.".to_owned());
    let not = server.get("/readyz").await;
    not.assert_problem(503, "not_ready");
    assert_eq!(not.json["reasons"], json!(["More than half of the slots are quarantined."]));
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn figures_are_given_to_prometheus() {
    let server = Server::start().await;
    server.upload().await;
    server.post("/api/v1/images", "no image").await.assert_problem(415, "unsupported_format");
    let answer = server.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "inkpool_jobs{lane=\"interactive\",state=\"queued\"} 1",
        "inkpool_slots{node=\"node-1\",state=\"warm\"} 2",
        "inkpool_refusals_total{code=\"unsupported_format\"}",
        "inkpool_bytes_in_total",
        "inkpool_ready 1",
        "route=\"/api/v1/images\",method=\"POST\",status=\"202\"",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn the_description_is_the_committed_one() {
    let server = Server::start().await;
    let served = server.get("/api/openapi.json").await;
    let committed = include_str!("../../docs/openapi.json");
    assert_eq!(
        String::from_utf8_lossy(&served.body),
        committed,
        "run: cargo run --example openapi > docs/openapi.json"
    );
}

#[tokio::test]
async fn the_description_names_what_is_served() {
    let server = Server::start().await;
    let description = server.get("/api/openapi.json").await.json;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{}", description["openapi"]);
    let described: BTreeSet<_> = description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for path in [
        "/api/v1/images",
        "/api/v1/images/{id}",
        "/api/v1/images/{id}/files/{name}",
        "/api/v1/images/{id}/jobs",
        "/api/v1/jobs",
        "/api/v1/jobs/{id}",
        "/api/v1/jobs/{id}/cancel",
        "/api/v1/jobs/{id}/retry",
        "/api/v1/jobs/{id}/events",
        "/api/v1/events",
        "/api/v1/presets",
        "/api/v1/limits",
        "/api/v1/accounts",
        "/api/v1/session",
        "/api/v1/tokens",
        "/api/v1/tokens/{id}",
        "/api/v1/cluster",
        "/api/v1/cluster/nodes/{id}",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(described.contains(path), "{path} is not described");
    }
    let schemas = &description["components"]["schemas"];
    for (schema, members) in [
        ("Image", "id filename content_type size_bytes sha256 width_px height_px pages_count created_at files job_ids"),
        ("File", "name content_type size_bytes sha256 width_px height_px url"),
        (
            "Job",
            "id image_id preset state stage progress attempt attempts_max created_at started_at finished_at \
             duration_ms node slot error gate",
        ),
        ("Problem", "type title status detail code limit measured remedy"),
    ] {
        let properties = schemas[schema]["properties"].as_object().unwrap_or_else(|| panic!("no {schema}"));
        for member in members.split_whitespace() {
            assert!(properties.contains_key(member), "{schema} has no {member}");
        }
    }
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(description.pointer(reference).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_page_and_its_files_are_served() {
    let server = Server::start().await;
    let mut pages = String::new();
    for path in ["/", "/api/docs"] {
        let page = server.get(path).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(!html.contains("style=") && !html.contains("<style") && !html.contains(" onclick"));
        assert!(!html.contains("<script>") && html.contains("src=\"/assets/"), "{path}");
        pages.push_str(&html);
    }
    let quoted = pages.split('"').filter(|text| text.starts_with("/assets/")).collect::<BTreeSet<_>>();
    assert!(quoted.len() >= 5, "{quoted:?}");
    for path in quoted {
        let asset = server.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        let known = send(&server, "GET", path, &[("if-none-match", asset.header("etag"))]).await;
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
}
