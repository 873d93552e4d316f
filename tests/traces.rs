//! One trace from the upload to the published files, across nodes and into the worker, as a collector receives it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use common::nats::Nats;
use common::pages;
use common::postgres::Postgres;
use common::server::{Options, PATIENCE, Server, data_directory};
use serde_json::{Value, json};

/// A span as it came in, and which node sent it.
#[derive(Debug, Clone)]
struct Span {
    node: String,
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    begin: u128,
    end: u128,
    json: Value,
}

type Received = Arc<Mutex<Vec<Span>>>;

/// A collector of OTLP over HTTP with JSON; its endpoint, and what it was sent.
async fn collector() -> (String, Received) {
    let received = Received::default();
    let app = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (endpoint, received)
}

async fn take(State(received): State<Received>, headers: HeaderMap, Json(request): Json<Value>) -> StatusCode {
    assert_eq!(headers["content-type"], "application/json");
    for resource in request["resourceSpans"].as_array().unwrap() {
        let attributes = resource["resource"]["attributes"].as_array().unwrap();
        let attribute = |key: &str| {
            let found = attributes.iter().find(|attribute| attribute["key"] == key).unwrap();
            found["value"]["stringValue"].as_str().unwrap().to_owned()
        };
        assert_eq!(attribute("service.name"), "inkpool");
        for scope in resource["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                let text = |key: &str| span[key].as_str().unwrap().to_owned();
                let number = |key: &str| text(key).parse::<u128>().unwrap();
                let span = Span {
                    node: attribute("service.instance.id"),
                    trace: text("traceId"),
                    id: text("spanId"),
                    parent: span["parentSpanId"].as_str().map(str::to_owned),
                    name: text("name"),
                    begin: number("startTimeUnixNano"),
                    end: number("endTimeUnixNano"),
                    json: span.clone(),
                };
                assert_eq!((span.trace.len(), span.id.len()), (32, 16));
                received.lock().unwrap().push(span);
            }
        }
    }
    StatusCode::OK
}

/// A node whose objects are those of all.
fn node(directory: &Path, name: &str, options: &Options) -> Server {
    let (data, objects) = (directory.join(name), directory.join("objects"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&objects).unwrap();
    symlink(&objects, data.join("objects")).unwrap();
    Server::start(&data, options)
}

fn name(server: &Server) -> String {
    std::fs::read_to_string(server.data.join("node")).unwrap()
}

/// The spans of a job when its last one has come.
async fn trace(received: &Received, job: &str) -> BTreeMap<String, Span> {
    let trace = job.replace('-', "");
    let began = Instant::now();
    loop {
        let spans: Vec<_> = received.lock().unwrap().iter().filter(|span| span.trace == trace).cloned().collect();
        if spans.iter().any(|span| span.name == "attempt") && spans.iter().any(|span| span.name == "upload") {
            return spans.into_iter().map(|span| (span.name.clone(), span)).collect();
        }
        assert!(began.elapsed() < PATIENCE, "the trace never came: {spans:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn attribute<'a>(span: &'a Span, key: &str) -> &'a Value {
    let attributes = span.json["attributes"].as_array().unwrap();
    &attributes.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("{key}: {span:?}"))["value"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_upload_across_nodes_into_the_worker() {
    let (endpoint, received) = collector().await;
    let (database, nats, directory) = (Postgres::start().await, Nats::start(), data_directory());
    let options = Options::default()
        .slots(1)
        .set("INKPOOL_STORE__URL", database.url())
        .set("INKPOOL_BUS__URL", nats.url())
        .set("INKPOOL_NODES__RENEW_EVERY_S", 1)
        .set("INKPOOL_TRACES__ENDPOINT", &endpoint);
    let first = node(directory.path(), "first", &options);
    // It takes uploads and no jobs.
    let url = first.url(&format!("/api/v1/cluster/nodes/{}", name(&first)));
    let drained = first.client().patch(url).json(&json!({"draining": true})).send().await.unwrap();
    assert_eq!(drained.status(), 200);
    let second = node(directory.path(), "second", &options);
    let job = first.submit(pages::png(300, 200, 1), "document").await;
    assert_eq!(second.wait_final(&job).await["state"], "succeeded");

    let spans = trace(&received, &job).await;
    let root = &spans["upload"];
    assert_eq!((&root.parent, &root.node), (&None, &name(&first)), "{root:?}");
    let attempt = &spans["attempt"];
    assert_eq!((attempt.parent.as_ref(), &attempt.node), (Some(&root.id), &name(&second)), "{attempt:?}");
    assert_eq!(attribute(attempt, "inkpool.state")["stringValue"], "succeeded");
    for (name, parent) in [
        ("commit", "upload"),
        ("release", "upload"),
        ("wait", "upload"),
        ("claim", "upload"),
        ("stage", "attempt"),
        ("worker", "attempt"),
        ("publish", "attempt"),
        ("finish", "attempt"),
        ("worker decode", "worker"),
        ("worker denoise", "worker"),
        ("worker encode", "worker"),
    ] {
        let span = spans.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", spans.keys()));
        let parent = &spans[parent];
        assert_eq!(span.parent.as_ref(), Some(&parent.id), "{span:?}");
        assert!(span.begin >= root.begin && span.end >= span.begin, "{span:?}");
        if parent.name != "upload" {
            assert!(span.begin >= parent.begin && span.end <= parent.end, "{span:?} is not within {parent:?}");
        }
    }
    let order = ["commit", "stage", "worker", "publish", "finish"].map(|name| spans[name].begin);
    assert!(order.is_sorted(), "{order:?}");
    let ids: std::collections::BTreeSet<_> = spans.values().map(|span| &span.id).collect();
    assert_eq!(ids.len(), spans.len(), "each has an id of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nothing() {
    let directory = data_directory();
    let options =
        Options::default().set("INKPOOL_TRACES__ENDPOINT", "http://127.0.0.1:9").set("INKPOOL_TRACES__QUEUE_MAX", 2);
    let mut server = Server::start(directory.path(), &options);
    for seed in 0..3 {
        let job = server.submit(pages::png(64, 64, seed), "photo").await;
        assert_eq!(server.wait_final(&job).await["state"], "succeeded");
    }
    // What nobody takes is counted, once its tries are over.
    let began = Instant::now();
    loop {
        let metrics = server.client().get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let dropped = metrics.lines().find_map(|line| line.strip_prefix("inkpool_trace_spans_dropped_total "));
        if dropped.is_some_and(|dropped| dropped.parse::<f64>().unwrap() > 0.0) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
}
