//! Where nothing is sent: addresses that only this server can reach, whatever a name says, now or later.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use inkpool::config::{Config, Webhooks};
use inkpool::webhooks::{Guard, Lookup, Outlet, Parcel, Reply, TargetError};
use serde_json::json;

use crate::common::server::{Options, Server, data_directory};
use crate::receiver::*;

const URL: &str = "http://receiver.example/hook";

/// Names that mean one thing after the other.
struct Played {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Played {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |one: &&[&str]| one.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for Played {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        assert_eq!(name, "receiver.example");
        let which = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[which.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn settings(allow_private: bool) -> Webhooks {
    let mut webhooks = Config::defaults().unwrap().webhooks;
    (webhooks.allow_http, webhooks.allow_private, webhooks.timeout_s) = (true, allow_private, 2);
    webhooks.ports = Vec::new();
    webhooks
}

fn outlet(names: &Arc<Played>, allow_private: bool) -> (Guard, Outlet) {
    let settings = settings(allow_private);
    let guard = Guard::new(&settings, names.clone());
    (guard.clone(), Outlet::new(&settings, guard).unwrap())
}

async fn try_it(outlet: &Outlet, url: &str) -> Reply {
    outlet.send(Parcel { url, id: "x", body: "{}", secrets: &["whsec_AAAA".to_owned()], timestamp_s: 1 }).await
}

fn code(reply: &Reply) -> &str {
    reply.trouble.as_ref().map_or("", |trouble| trouble.0)
}

#[tokio::test]
async fn a_name_that_means_something_else_the_second_time_is_refused() {
    let receiver = Receiver::start().await;
    let url = format!("http://receiver.example:{}/hook", receiver.port);
    let names = Played::new(&[&["93.184.216.34"], &["127.0.0.1"]]);
    let (guard, outlet) = outlet(&names, false);
    guard.check(&url).await.unwrap();
    let reply = try_it(&outlet, &url).await;
    assert_eq!((code(&reply), reply.status), ("address_not_allowed", None), "{reply:?}");
    assert!(!format!("{reply:?}").contains("127.0"), "it says what the name means: {reply:?}");
    assert_eq!((names.asked(), receiver.got().len()), (2, 0));
}

#[tokio::test]
async fn what_was_looked_at_is_what_is_connected_to() {
    let receiver = Receiver::start().await;
    let url = format!("http://receiver.example:{}/hook", receiver.port);
    // Were it resolved a second time, it would not be found.
    let names = Played::new(&[&["127.0.0.1"], &["127.0.0.9"]]);
    let (_, outlet) = outlet(&names, true);
    let reply = try_it(&outlet, &url).await;
    assert_eq!((code(&reply), reply.status, names.asked()), ("", Some(204), 1), "{reply:?}");
    assert_eq!(receiver.got()[0].header("host"), format!("receiver.example:{}", receiver.port));
    // No connection is kept, so each attempt looks anew.
    assert_eq!(code(&try_it(&outlet, &url).await), "unreachable");
    assert_eq!((names.asked(), receiver.got().len()), (2, 1));
}

#[tokio::test]
async fn one_address_that_is_not_allowed_is_enough() {
    for addresses in [
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700:4700::1111", "::ffff:10.0.0.1"],
        ["8.8.8.8", "169.254.169.254"],
        ["64:ff9b::a00:1", "8.8.8.8"],
    ] {
        let names = Played::new(&[&addresses]);
        let (guard, outlet) = outlet(&names, false);
        assert_eq!(guard.check(URL).await, Err(TargetError::Address), "{addresses:?}");
        assert_eq!(code(&try_it(&outlet, URL).await), "address_not_allowed", "{addresses:?}");
    }
    let names = Played::new(&[&[]]);
    let (guard, outlet) = outlet(&names, false);
    assert_eq!(guard.check(URL).await, Err(TargetError::Unresolved));
    assert_eq!(code(&try_it(&outlet, URL).await), "unresolved");
    // Link-local is refused even where private is allowed.
    let names = Played::new(&[&["169.254.169.254"]]);
    let (guard, outlet) = self::outlet(&names, true);
    assert_eq!(guard.check(URL).await, Err(TargetError::Address));
    assert_eq!(code(&try_it(&outlet, URL).await), "address_not_allowed");
}

#[tokio::test]
async fn an_address_in_the_url_is_looked_at_without_a_resolver() {
    let receiver = Receiver::start().await;
    let names = Played::new(&[&["93.184.216.34"]]);
    let (_, outlet) = outlet(&names, false);
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "127.0.0.1."] {
        let reply = try_it(&outlet, &format!("http://{host}:{}/", receiver.port)).await;
        assert_eq!((code(&reply), reply.status), ("address_not_allowed", None), "{host}");
    }
    assert_eq!((names.asked(), receiver.got().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_can_be_made() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default().slots(1));
    for (url, code) in [
        ("https://127.0.0.1/", "webhook_address"),
        ("https://localhost/", "webhook_address"),
        ("https://LOCALHOST:8443/", "webhook_address"),
        ("https://2130706433/", "webhook_address"),
        ("https://0177.0.0.1/", "webhook_address"),
        ("https://0x7f000001/", "webhook_address"),
        ("https://[::1]/", "webhook_address"),
        ("https://[::ffff:10.0.0.1]/", "webhook_address"),
        ("https://169.254.169.254/latest/meta-data", "webhook_address"),
        ("https://10.0.0.1/", "webhook_address"),
        ("https://100.64.0.1/", "webhook_address"),
        ("https://0.0.0.0/", "webhook_address"),
        ("http://8.8.8.8/", "webhook_url"),
        ("https://8.8.8.8:22/", "webhook_url"),
        ("https://user:word@8.8.8.8/", "webhook_url"),
        ("https://[fe80::1%25eth0]/", "webhook_url"),
        ("file:///etc/passwd", "webhook_url"),
        ("", "webhook_url"),
        ("https://no-such-name.invalid/", "webhook_unresolved"),
    ] {
        let (status, problem) = send(&server, "POST", "/webhooks", Some(json!({"url": url}))).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some(code)), "{url}: {problem}");
        assert!(problem["remedy"].is_string(), "{problem}");
    }
    // Some systems resolve it and some do not.
    assert_eq!(send(&server, "POST", "/webhooks", Some(json!({"url": "https://localhost./"}))).await.0, 422);
    let (id, _) = create(&server, "https://8.8.8.8/", &["failed"]).await;
    let change = Some(json!({"url": "https://127.0.0.1/"}));
    let (status, problem) = send(&server, "PATCH", &format!("/webhooks/{id}"), change).await;
    assert_eq!((status, &problem["code"]), (422, &json!("webhook_address")));
    assert_eq!(show(&server, &id).await["url"], "https://8.8.8.8/");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_allowed_once_is_looked_at_again_before_each_attempt() {
    let (receiver, directory) = (Receiver::start().await, data_directory());
    let mut server = Server::start(directory.path(), &options());
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    let by_name = format!("http://localhost:{}/", receiver.port);
    let (named, _) = create(&server, &by_name, &["failed"]).await;
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(directory.path(), &options().set("INKPOOL_WEBHOOKS__ALLOW_PRIVATE", "false"));
    for id in [id, named] {
        ping(&server, &id).await;
        let line = until_logged(&server, &id, |line| line["tries"][0].is_object()).await;
        assert_eq!(line["tries"][0]["code"], "address_not_allowed", "{line}");
    }
    assert_eq!(receiver.got().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_of_the_environment_is_asked() {
    let (receiver, proxy, directory) = (Receiver::start().await, Receiver::start().await, data_directory());
    let mut options = options();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        options = options.set(name, format!("http://127.0.0.1:{}", proxy.port));
    }
    let server = Server::start(directory.path(), &options);
    let (id, _) = create(&server, &receiver.url(), &["failed"]).await;
    ping(&server, &id).await;
    receiver.until("the ping", |got| got.len() == 1).await;
    assert_eq!(proxy.got().len(), 0);
}
