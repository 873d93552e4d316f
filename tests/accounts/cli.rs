//! `inkpool admin`, beside a running server and without one.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::people::{PASSWORD, Place, options};
use crate::common::server::{Server, data_directory};

pub fn admin(data: &std::path::Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inkpool"));
    command.args(["admin", "--data"]).arg(data).args(arguments).env_clear().current_dir(data);
    command.env("INKPOOL_AUTH__ARGON2_MEMORY_KIB", "64");
    command.env("INKPOOL_ADMIN__USERNAME", "x").env("INKPOOL_ADMIN__PASSWORD", "geheim geheim");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn accounts_are_made_without_a_server() {
    let data = data_directory();
    text(&admin(data.path(), &["user", "create", "ada"], &format!("{PASSWORD}\n")));
    text(&admin(data.path(), &["user", "create", "bob"], PASSWORD));
    let list = text(&admin(data.path(), &["user", "list"], ""));
    // The first is an administrator's, whatever was said.
    assert!(list.lines().any(|line| line.contains("admin") && line.ends_with("ada")), "{list}");
    assert!(list.lines().any(|line| line.contains("user") && line.ends_with("bob")), "{list}");
    let weak = admin(data.path(), &["user", "create", "cid"], "password\n");
    assert_eq!(weak.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&weak.stderr).contains("too easy"));
    let place = Place { server: Server::start(data.path(), &options()), data };
    assert_eq!(place.try_log_in("ada", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_running_server_notices() {
    let place = Place::start(&options()).await;
    let root = place.log_in("root").await;
    text(&admin(place.data.path(), &["user", "create", "bob", "--admin"], PASSWORD));
    assert_eq!(place.log_in("bob").await.get("/api/v1/cluster").await.status, 200);
    text(&admin(place.data.path(), &["user", "passwd", "ROOT"], "eight crooked lamps\n"));
    root.get("/api/v1/session").await.assert_problem(401, "login_required");
    assert_eq!(place.try_log_in("root", "eight crooked lamps").await.status, 200);
    let made = admin(place.data.path(), &["token", "create", "--user", "bob", "--name", "x", "--scopes", "read"], "");
    let program = place.nobody().with("authorization", format!("Bearer {}", text(&made).trim()));
    assert_eq!(program.get("/api/v1/images").await.status, 200);
    program.upload().await.assert_problem(403, "scope_missing");
    for arguments in [["user", "passwd", "nobody"], ["user", "create", "bob"]] {
        assert_eq!(admin(place.data.path(), &arguments, PASSWORD).status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn settings_are_shown_without_secrets() {
    let data = data_directory();
    let shown = text(&admin(data.path(), &["config", "show"], ""));
    assert!(shown.contains("[admin]") && shown.contains("username = \"x\""), "{shown}");
    assert!(!shown.contains("geheim") && shown.contains("***"), "{shown}");
    let json = text(&admin(data.path(), &["config", "show", "--json"], ""));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["auth"]["argon2_memory_kib"], 64);
}
