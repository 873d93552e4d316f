//! Tokens: what they may do, and how long.

use std::time::Duration;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::people::{PASSWORD, Person, Place, options};

fn bearer<'a>(place: &'a Place, token: &Value) -> Person<'a> {
    place.nobody().with("authorization", format!("Bearer {}", token["secret"].as_str().unwrap()))
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say() {
    let place = Place::start(&options()).await;
    let root = place.log_in("root").await;
    let (read, write) = (root.token(&["read"]).await, root.token(&["write"]).await);
    let (admin, all) = (root.token(&["admin"]).await, root.token(&["read", "write", "admin"]).await);
    let (read, write, admin, all) =
        (bearer(&place, &read), bearer(&place, &write), bearer(&place, &admin), bearer(&place, &all));
    assert_eq!(read.get("/api/v1/images").await.status, 200);
    read.upload().await.assert_problem(403, "scope_missing");
    assert_eq!(write.upload().await.status, 202);
    write.get("/api/v1/images").await.assert_problem(403, "scope_missing");
    for token in [&read, &write] {
        for path in ["/api/v1/cluster", "/api/v1/accounts", "/api/v1/tokens", "/api/v1/sessions"] {
            token.get(path).await.assert_problem(403, "scope_missing");
        }
        token.post("/api/v1/tokens", json!({"name": "x"})).await.assert_problem(403, "scope_missing");
    }
    admin.get("/api/v1/images").await.assert_problem(403, "scope_missing");
    for token in [&admin, &all] {
        assert_eq!(token.get("/api/v1/cluster").await.status, 200);
        assert_eq!(token.get("/api/v1/tokens").await.status, 200);
    }
    // No token makes one that may do more than itself.
    let wanted = json!({"name": "x", "scopes": ["read"]});
    admin.post("/api/v1/tokens", wanted.clone()).await.assert_problem(403, "scope_missing");
    assert_eq!(all.post("/api/v1/tokens", wanted).await.status, 201);
    let unsaid = root.post("/api/v1/tokens", json!({"name": "x"})).await;
    assert_eq!((unsaid.status, &unsaid.json["scopes"]), (201, &json!(["read", "write"])));
}

#[tokio::test]
async fn a_token_ends() {
    let place = Place::start(&options()).await;
    let root = place.log_in("root").await;
    let wanted = |after_s| {
        let end = time::OffsetDateTime::now_utc() + Duration::from_secs(after_s);
        json!({"name": "short", "scopes": ["read", "admin"], "expires_at": end.format(&Rfc3339).unwrap()})
    };
    let bounded = bearer(&place, &root.post("/api/v1/tokens", wanted(3600)).await.json);
    let longer = json!({"name": "longer", "scopes": ["read"]});
    bounded.post("/api/v1/tokens", longer).await.assert_problem(403, "scope_missing");
    assert_eq!(bounded.post("/api/v1/tokens", wanted(60)).await.status, 201);
    let program = bearer(&place, &root.post("/api/v1/tokens", wanted(3)).await.json);
    let began = std::time::Instant::now();
    while program.get("/api/v1/images").await.status != 401 {
        assert!(began.elapsed() < crate::common::server::PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for expires_at in ["2020-01-01T00:00:00Z", "tomorrow", ""] {
        let wanted = json!({"name": "x", "expires_at": expires_at});
        root.post("/api/v1/tokens", wanted).await.assert_problem(400, "invalid_parameter");
    }
    let revoked = root.token(&["read"]).await;
    let path = format!("/api/v1/tokens/{}", revoked["id"].as_str().unwrap());
    assert_eq!(root.send("DELETE", &path).await.status, 204);
    root.send("DELETE", &path).await.assert_problem(404, "not_found");
    bearer(&place, &revoked).get("/api/v1/images").await.assert_problem(401, "login_required");
}

#[tokio::test]
async fn secrets_are_shown_once_and_kept_nowhere() {
    let place = Place::start(&options()).await;
    let login = place.try_log_in("root", PASSWORD).await;
    let session = login.cookie().split_once('=').unwrap().1.to_owned();
    let root = place.nobody().with("cookie", login.cookie());
    let token = root.token(&["read"]).await;
    let secret = token["secret"].as_str().unwrap();
    assert!(secret.starts_with("inkpool_") && secret.len() == 72, "{secret}");
    assert!(!root.get("/api/v1/tokens").await.text.contains(secret));
    bearer(&place, &token).get("/api/v1/images").await;
    for file in crate::common::server::files_below(place.data.path()) {
        let bytes = std::fs::read(place.data.path().join(&file)).unwrap_or_default();
        for kept in [secret.trim_start_matches("inkpool_"), &session, PASSWORD] {
            let is_there = bytes.windows(kept.len()).any(|window| window == kept.as_bytes());
            assert!(!is_there, "{file} holds a secret");
        }
    }
    let log = place.server.log();
    assert!(!log.contains(secret) && !log.contains(&session) && !log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn tokens_are_bounded() {
    let place = Place::start(&options().set("INKPOOL_AUTH__TOKENS_MAX", 2)).await;
    let root = place.log_in("root").await;
    for _ in 0..2 {
        root.token(&["read"]).await;
    }
    root.post("/api/v1/tokens", json!({"name": "x"})).await.assert_problem(422, "too_many");
    for name in ["", "  ", &"x".repeat(101)] {
        root.post("/api/v1/tokens", json!({"name": name})).await.assert_problem(400, "invalid_parameter");
    }
    let none = json!({"name": "x", "scopes": []});
    root.post("/api/v1/tokens", none).await.assert_problem(400, "invalid_parameter");
}
