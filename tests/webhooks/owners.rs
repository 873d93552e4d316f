//! An owner whose account is disabled: nothing is told on their behalf, and nothing is lost that they may be told of again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::pages;
use crate::common::postgres::Postgres;
use crate::common::server::{Options, PATIENCE, Server, data_directory};
use crate::receiver::*;

const PASSWORD: &str = "seven crooked lamps";

/// Somebody who has logged in.
struct Person<'a> {
    server: &'a Server,
    cookie: String,
}

impl Person<'_> {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.server.client().request(method.parse().unwrap(), self.server.url(&format!("/api/v1{path}")));
        let request = request.header("cookie", &self.cookie);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn upload(&self, seed: u32) -> String {
        let url = self.server.url("/api/v1/images?preset=photo&filename=page.png");
        let request = self.server.client().post(url).header("cookie", &self.cookie);
        let answer: Value = request.body(pages::png(64, 64, seed)).send().await.unwrap().json().await.unwrap();
        answer["items"][0]["job"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn hook(&self, receiver: &Receiver, path: &str, events: &[&str]) -> String {
        let url = format!("http://127.0.0.1:{}{path}", receiver.port);
        let (status, body) = self.ask("POST", "/webhooks", json!({"url": url, "events": events})).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    async fn ping(&self, hook: &str) {
        let (status, body) = self.ask("POST", &format!("/webhooks/{hook}/ping"), Value::Null).await;
        assert_eq!(status, 202, "{body}");
    }

    /// How many jobs of anybody have succeeded of late.
    async fn succeeded(&self) -> u64 {
        let (_, cluster) = self.ask("GET", "/cluster", Value::Null).await;
        cluster["throughput"].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    }
}

async fn log_in<'a>(server: &'a Server, username: &str) -> Person<'a> {
    let body = json!({"username": username, "password": PASSWORD});
    let answer = server.client().post(server.url("/api/v1/session")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    Person { server, cookie }
}

async fn register<'a>(server: &'a Server, username: &str) -> Person<'a> {
    let body = json!({"username": username, "password": PASSWORD});
    let answer = server.client().post(server.url("/api/v1/accounts")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    log_in(server, username).await
}

fn of<'a>(got: &'a [Got], path: &str) -> Vec<&'a Got> {
    got.iter().filter(|got| got.path == path).collect()
}

/// Disables `ada` between an attempt that failed and the next, and between a job that waits and its end.
async fn nothing_is_told_while_disabled(options: Options) {
    // The first attempts at a ping are refused: one of ada's, two of root's.
    let refused = Mutex::new(BTreeMap::from([("/ada".to_owned(), 1_u32), ("/root".to_owned(), 2)]));
    let receiver = Receiver::answering(move |_, got| {
        let mut refused = refused.lock().unwrap();
        let left = refused.get_mut(&got.path).filter(|left| got.kind() == "ping" && **left > 0);
        status(left.map_or(204, |left| {
            *left -= 1;
            503
        }))
    })
    .await;
    let directory = data_directory();
    let options = options.set("INKPOOL_AUTH__MODE", "accounts").set("INKPOOL_AUTH__ARGON2_MEMORY_KIB", 64);
    let server = Server::start(directory.path(), &options);
    let (root, ada) = (register(&server, "root").await, register(&server, "ada").await);
    let (_, me) = ada.ask("GET", "/session", Value::Null).await;
    let account = format!("/accounts/{}", me["id"].as_str().unwrap());
    let hook = ada.hook(&receiver, "/ada", &["accepted", "succeeded"]).await;
    let other = root.hook(&receiver, "/root", &["accepted"]).await;
    // A job that waits, and a message that has been tried once.
    let (_, cluster) = root.ask("GET", "/cluster", Value::Null).await;
    let node = format!("/cluster/nodes/{}", cluster["nodes"][0]["id"].as_str().unwrap());
    assert_eq!(root.ask("PATCH", &node, json!({"draining": true})).await.0, 200);
    let job = ada.upload(1).await;
    receiver.until("the job is accepted", |got| of(got, "/ada").len() == 1).await;
    ada.ping(&hook).await;
    receiver.until("one attempt", |got| of(got, "/ada").len() == 2).await;
    assert_eq!(root.ask("PATCH", &account, json!({"disabled": true})).await.0, 200);
    assert_eq!(ada.ask("GET", "/session", Value::Null).await.0, 401);
    // The job goes on; that it has ended is not told. When root's third attempt is made, ada's second is long due.
    assert_eq!(root.ask("PATCH", &node, json!({"draining": false})).await.0, 200);
    let began = Instant::now();
    while root.succeeded().await == 0 {
        assert!(began.elapsed() < PATIENCE, "the job did not go on: {}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    root.ping(&other).await;
    let got = receiver.until("three attempts", |got| of(got, "/root").len() == 3).await;
    assert_eq!(of(&got, "/ada").len(), 2, "{got:#?}");
    // Enabled again, they are told what was waiting and what happened meanwhile.
    assert_eq!(root.ask("PATCH", &account, json!({"disabled": false})).await.0, 200);
    let got = receiver.until("the rest", |got| of(got, "/ada").len() == 4).await;
    let told = of(&got, "/ada");
    let end = told.iter().find(|got| got.kind() == "succeeded").unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!(end.body["job"]["id"], job.as_str());
    assert_eq!(told.iter().filter(|got| got.kind() == "ping").count(), 2);
    let ada = log_in(&server, "ada").await;
    assert_eq!(ada.ask("GET", &format!("/jobs/{job}"), Value::Null).await.1["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_disabled_is_told_nothing() {
    nothing_is_told_while_disabled(options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_disabled_is_told_nothing_by_nodes_on_postgres() {
    let database = Postgres::start().await;
    nothing_is_told_while_disabled(options().set("INKPOOL_STORE__URL", database.url())).await;
}
