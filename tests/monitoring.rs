//! The dashboard and the alert rules ask for figures that the server really has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::pages;
use common::server::{Options, Server, data_directory};

/// Names of metrics in a text, without the suffixes that Prometheus adds to those of histograms.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c))
        .filter(|part| part.starts_with("inkpool_"))
        .map(|part| part.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_name_metrics_that_exist() {
    let directory = data_directory();
    let server = Server::start(directory.path(), &Options::default());
    let job = server.submit(pages::png(64, 64, 1), "photo").await;
    let job = server.wait_final(&job).await;
    let image = job["image_id"].as_str().unwrap();
    let file =
        server.client().get(server.url(&format!("/api/v1/images/{image}/files/thumb.webp"))).send().await.unwrap();
    assert!(!file.bytes().await.unwrap().is_empty());
    // A refusal, so that there is one to count.
    assert_eq!(server.upload(Vec::new(), "photo").await.unwrap().0, 400);
    let told = names(&server.client().get(server.url("/metrics")).send().await.unwrap().text().await.unwrap());
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for file in ["grafana/inkpool.json", "prometheus/alerts.yml"] {
        let asked = names(&std::fs::read_to_string(deploy.join(file)).unwrap());
        assert!(asked.len() > 3, "{file} names {asked:?}");
        let unknown: Vec<_> = asked.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}; the server has {told:?}");
    }
}
