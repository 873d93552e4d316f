//! Login, logout, sessions and their cookies, bounds on tries.

use futures::StreamExt;
use serde_json::json;

use super::people::{Answer, PASSWORD, Place, options};
use crate::common::server::{Options, Server};

#[tokio::test]
async fn a_session_is_what_it_says() {
    let place = Place::start(&options()).await;
    let ada = place.person("Ada").await;
    let session = ada.get("/api/v1/session").await;
    assert_eq!((session.json["username"].as_str(), session.json["role"].as_str()), (Some("Ada"), Some("user")));
    assert_eq!(session.header("cache-control"), "no-store");
    assert_eq!(session.json["credential"]["current"], true);
    assert!(!session.text.contains("hash") && !session.text.contains("secret"), "{}", session.text);
    // A name is one whatever its case.
    let phone = place.log_in("aDA").await;
    let sessions = ada.get("/api/v1/sessions").await.json["items"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|session| session["current"] == false).unwrap()["id"].as_str().unwrap();
    assert_eq!(ada.send("DELETE", &format!("/api/v1/sessions/{other}")).await.status, 204);
    phone.get("/api/v1/session").await.assert_problem(401, "login_required");
    let gone = ada.send("DELETE", "/api/v1/session").await;
    assert_eq!(gone.status, 204);
    assert!(gone.header("set-cookie").contains("Max-Age=0"), "{gone:?}");
    ada.get("/api/v1/session").await.assert_problem(401, "login_required");
    ada.get("/api/v1/images").await.assert_problem(401, "login_required");
}

#[tokio::test]
async fn cookies_are_set_with_care() {
    let options = options().set("INKPOOL_HTTP__HOSTS", "[\"ink.example.org\"]");
    let place = Place::start(&options).await;
    let here = place.try_log_in("root", PASSWORD).await;
    let cookie = here.header("set-cookie");
    assert!(cookie.starts_with("inkpool_session="), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(cookie.contains(flag), "no {flag}: {cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
    let named = place.nobody().with("host", "ink.example.org");
    let body = json!({"username": "root", "password": PASSWORD});
    let there = named.post("/api/v1/session", body).await;
    let cookie = there.header("set-cookie");
    assert!(cookie.starts_with("__Host-inkpool_session="), "{cookie}");
    for flag in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(flag), "no {flag}: {cookie}");
    }
    let root = named.with("cookie", there.cookie());
    assert_eq!(root.get("/api/v1/session").await.status, 200);
    let gone = root.send("DELETE", "/api/v1/session").await;
    // Browsers drop a removal of such a cookie that is not secure itself.
    assert!(gone.header("set-cookie").contains("Secure"), "{gone:?}");
    place.nobody().with("host", "evil.example").get("/").await.assert_problem(403, "host_not_allowed");
}

#[tokio::test]
async fn a_planted_session_is_never_entered() {
    let place = Place::start(&options()).await;
    place.register("ada").await;
    let planted = place.nobody().with("cookie", "inkpool_session=0123456789abcdef");
    let mallory = place.person("mallory").await;
    let body = json!({"username": "ada", "password": PASSWORD});
    for before in [&planted, &mallory] {
        let entered = before.post("/api/v1/session", body.clone()).await;
        assert_eq!(entered.status, 200);
        let cookie = entered.cookie();
        assert_eq!(cookie.len(), "inkpool_session=".len() + 64, "{cookie}");
        let ada = place.nobody().with("cookie", cookie);
        assert_eq!(ada.get("/api/v1/session").await.json["username"], "ada");
        // What was there before the login opens nothing after it.
        before.get("/api/v1/session").await.assert_problem(401, "login_required");
    }
    let (one, two) = (place.try_log_in("ada", PASSWORD).await, place.try_log_in("ada", PASSWORD).await);
    assert_ne!(one.cookie(), two.cookie());
}

#[tokio::test]
async fn wrong_is_wrong_whoever_it_is() {
    let place = Place::start(&options()).await;
    place.register("ada").await;
    let (known, unknown) = (place.try_log_in("ada", "x").await, place.try_log_in("nobody", "x").await);
    known.assert_problem(401, "wrong_login");
    unknown.assert_problem(401, "wrong_login");
    assert_eq!(known.text, unknown.text);
    let names = |answer: &Answer| answer.headers.keys().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&known), names(&unknown));
    assert_eq!(known.header("set-cookie"), "");
}

#[tokio::test]
async fn tries_for_one_account_are_bounded() {
    let options = options().set("INKPOOL_AUTH__TRIES_PER_ACCOUNT", 3).set("INKPOOL_AUTH__TRY_PER_ACCOUNT_S", 1000);
    let place = Place::start(&options).await;
    place.register("ada").await;
    for name in ["ada", "nobody"] {
        for _ in 0..3 {
            place.try_log_in(name, "x").await.assert_problem(401, "wrong_login");
        }
        // From now on the right password does not help either, or it would tell that it is right.
        let throttled = place.try_log_in(&name.to_uppercase(), PASSWORD).await;
        throttled.assert_problem(429, "too_many_tries");
        let seconds: u64 = throttled.header("retry-after").parse().unwrap();
        assert!((1..=1000).contains(&seconds), "{seconds}");
    }
    assert_eq!(place.try_log_in("root", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn tries_from_one_address_are_bounded() {
    let options = options()
        .set("INKPOOL_AUTH__TRIES_PER_ADDRESS", 4)
        .set("INKPOOL_AUTH__TRY_PER_ADDRESS_S", 1000)
        .set("INKPOOL_AUTH__FORWARDED_HOPS", 1);
    let place = Place::start(&options).await;
    let from = |address: &str| place.nobody().with("x-forwarded-for", format!("{address}, 10.1.1.1"));
    let seen = |address: &str| place.nobody().with("x-forwarded-for", format!("6.6.6.6, {address}"));
    for number in 0..4 {
        let body = json!({"username": format!("name{number}"), "password": "x"});
        // What the client writes itself makes no difference.
        from(&format!("7.7.7.{number}")).post("/api/v1/session", body).await.assert_problem(401, "wrong_login");
    }
    let body = json!({"username": "root", "password": PASSWORD});
    from("8.8.8.8").post("/api/v1/session", body.clone()).await.assert_problem(429, "too_many_tries");
    from("8.8.8.8").post("/api/v1/accounts", body.clone()).await.assert_problem(429, "too_many_tries");
    assert_eq!(seen("10.2.2.2").post("/api/v1/session", body).await.status, 200);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_other_sessions() {
    let place = Place::start(&options()).await;
    let (ada, phone) = (place.person("ada").await, place.log_in("ada").await);
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        ada.put("/api/v1/account/password", body).await
    };
    change("x", "eight crooked lamps").await.assert_problem(403, "wrong_password");
    change(PASSWORD, "password1").await.assert_problem(422, "password_refused");
    assert_eq!(change(PASSWORD, "eight crooked lamps").await.status, 204);
    assert_eq!(ada.get("/api/v1/session").await.status, 200);
    phone.get("/api/v1/session").await.assert_problem(401, "login_required");
    place.try_log_in("ada", PASSWORD).await.assert_problem(401, "wrong_login");
    assert_eq!(place.try_log_in("ada", "eight crooked lamps").await.status, 200);
}

#[tokio::test]
async fn whoever_is_logged_out_sees_no_more_events() {
    let place = Place::start(&options()).await;
    let ada = place.person("ada").await;
    let phone = place.log_in("ada").await;
    let mut stream = phone.request("GET", "/api/v1/events").send().await.unwrap().bytes_stream();
    assert!(stream.next().await.unwrap().is_ok(), "the greeting");
    let sessions = ada.get("/api/v1/sessions").await.json["items"].as_array().unwrap().clone();
    let other = sessions.iter().find(|session| session["current"] == false).unwrap()["id"].as_str().unwrap();
    assert_eq!(ada.send("DELETE", &format!("/api/v1/sessions/{other}")).await.status, 204);
    // It ends; what comes before the end is no event.
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else { break };
        assert!(!String::from_utf8_lossy(&piece).contains("event: job"));
    }
}

#[tokio::test]
async fn sessions_outlast_the_server_and_end_by_themselves() {
    let mut place = Place::start(&options()).await;
    let cookie = place.try_log_in("root", PASSWORD).await.cookie();
    assert_eq!(place.server.terminate(), Some(0));
    place.server = Server::start(place.data.path(), &options());
    let root = place.nobody().with("cookie", cookie.clone());
    assert_eq!(root.get("/api/v1/session").await.status, 200);
    assert_eq!(place.server.terminate(), Some(0));
    // The same without a way to be good for any time.
    place.server = Server::start(place.data.path(), &options().set("INKPOOL_AUTH__SESSION_MAX_H", 0));
    let short = place.try_log_in("root", PASSWORD).await;
    assert_eq!(short.status, 200);
    place.nobody().with("cookie", short.cookie()).get("/api/v1/session").await.assert_problem(401, "login_required");
}

#[tokio::test]
async fn other_addresses_need_accounts() {
    let data = crate::common::server::data_directory();
    let everywhere = |mut options: Options| {
        options.listen = "0.0.0.0:0".to_owned();
        options
    };
    let refused = Server::try_start(data.path(), &everywhere(Options::default())).err().unwrap();
    assert!(refused.contains("INKPOOL_AUTH__MODE=accounts"), "{refused}");
    let server = Server::start(data.path(), &everywhere(options()));
    let answer = server.client().get(server.url("/api/v1/images")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let auth = server.get("/api/v1/auth").await;
    assert_eq!((auth["mode"].as_str(), auth["logged_in"].as_bool()), (Some("accounts"), Some(false)));
}
