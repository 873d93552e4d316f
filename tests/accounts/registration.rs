//! Who may make an account, and with what.

use serde_json::json;

use super::people::{PASSWORD, Place, options};
use crate::common::server::{Options, Server, data_directory};

#[tokio::test]
async fn names_and_passwords_are_looked_at() {
    let place = Place::start(&options()).await;
    let register = async |username: &str, password: &str| {
        place.nobody().post("/api/v1/accounts", json!({"username": username, "password": password})).await
    };
    for name in ["", "a b", "-a", "ä", "../../etc", &"a".repeat(65)] {
        register(name, PASSWORD).await.assert_problem(422, "invalid_username");
    }
    for password in ["", "short", "password123", "12345678", "qwertyuiop", &"long ".repeat(60)] {
        register("ada", password).await.assert_problem(422, "password_refused");
    }
    let made = register("ada", PASSWORD).await;
    assert_eq!((made.status, made.json["role"].as_str()), (201, Some("user")));
    assert!(!made.text.contains("lamps") && !made.text.contains("argon2"), "{}", made.text);
    register("ADA", PASSWORD).await.assert_problem(409, "username_taken");
    register("root", PASSWORD).await.assert_problem(409, "username_taken");
}

#[tokio::test]
async fn the_first_owns_what_open_mode_left() {
    let data = data_directory();
    let mut server = Server::start(data.path(), &Options::default().slots(1));
    let job = server.submit(crate::common::pages::png(40, 30, 1), "photo").await;
    assert_eq!(server.get("/api/v1/session").await["username"], "local");
    assert_eq!(server.terminate(), Some(0));
    let place = Place { server: Server::start(data.path(), &options()), data };
    place.register("root").await;
    let (root, ada) = (place.log_in("root").await, place.person("ada").await);
    assert_eq!(root.get(&format!("/api/v1/jobs/{job}")).await.status, 200);
    ada.get(&format!("/api/v1/jobs/{job}")).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn registration_can_be_off_or_by_invitation() {
    let body = |name: &str, code: Option<&str>| match code {
        Some(code) => json!({"username": name, "password": PASSWORD, "invitation": code}),
        None => json!({"username": name, "password": PASSWORD}),
    };
    let place = Place::start(&options().set("INKPOOL_AUTH__REGISTRATION", "off")).await;
    let nobody = place.nobody();
    nobody.post("/api/v1/accounts", body("ada", None)).await.assert_problem(403, "registration_closed");
    nobody.post("/api/v1/accounts", body("root", None)).await.assert_problem(403, "registration_closed");
    assert_eq!(nobody.get("/api/v1/auth").await.json["registration"], "off");

    let place = Place::start(&options().set("INKPOOL_AUTH__REGISTRATION", "invitation")).await;
    let (nobody, root) = (place.nobody(), place.log_in("root").await);
    // Whoever is not invited does not learn which names are taken.
    for name in ["ada", "root"] {
        nobody.post("/api/v1/accounts", body(name, None)).await.assert_problem(403, "not_invited");
        nobody.post("/api/v1/accounts", body(name, Some("0123"))).await.assert_problem(403, "not_invited");
    }
    let invitation = root.post("/api/v1/invitations", json!(null)).await;
    let code = invitation.json["code"].as_str().unwrap();
    assert!(!root.get("/api/v1/invitations").await.text.contains(code));
    assert_eq!(nobody.post("/api/v1/accounts", body("ada", Some(code))).await.status, 201);
    nobody.post("/api/v1/accounts", body("bob", Some(code))).await.assert_problem(403, "not_invited");
}

#[tokio::test]
async fn settings_can_name_the_administrator() {
    let data = data_directory();
    let named = options().set("INKPOOL_ADMIN__USERNAME", "007").set("INKPOOL_ADMIN__PASSWORD", PASSWORD);
    let mut place = Place { server: Server::start(data.path(), &named), data };
    assert_eq!(place.register("ada").await.json["role"], "user");
    let root = place.log_in("007").await;
    assert_eq!(root.get("/api/v1/session").await.json["role"], "admin");
    assert_eq!(root.get("/api/v1/accounts").await.json["items"].as_array().unwrap().len(), 2);
    // A password that was changed stays changed.
    let body = json!({"current_password": PASSWORD, "new_password": "eight crooked lamps"});
    assert_eq!(root.put("/api/v1/account/password", body).await.status, 204);
    assert_eq!(place.server.terminate(), Some(0));
    place.server = Server::start(place.data.path(), &named);
    assert_eq!(place.try_log_in("007", "eight crooked lamps").await.status, 200);
    let weak = options().set("INKPOOL_ADMIN__USERNAME", "root").set("INKPOOL_ADMIN__PASSWORD", "password");
    let log = Server::try_start(data_directory().path(), &weak).err().unwrap();
    assert!(log.contains("INKPOOL_ADMIN__USERNAME") && log.contains("too easy"), "{log}");
    assert!(!place.server.log().contains("lamps"));
}

#[tokio::test]
async fn open_mode_has_no_accounts() {
    let data = data_directory();
    let place = Place { server: Server::start(data.path(), &Options::default().slots(1)), data };
    let nobody = place.nobody();
    assert_eq!(nobody.get("/api/v1/auth").await.json["mode"], "open");
    let body = json!({"username": "ada", "password": PASSWORD});
    nobody.post("/api/v1/session", body.clone()).await.assert_problem(409, "no_accounts");
    nobody.post("/api/v1/accounts", body).await.assert_problem(409, "no_accounts");
    nobody.get("/api/v1/tokens").await.assert_problem(409, "no_accounts");
    nobody.send("DELETE", "/api/v1/session").await.assert_problem(409, "no_accounts");
}
