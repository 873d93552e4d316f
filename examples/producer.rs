//! A program outside that lets Inkpool process an image over NATS: puts the bytes into the object store, publishes a message,
//! and prints what it is told until the job has ended.
//!
//! ```text
//! cargo run --example producer -- NATS STORE OWNER FILE [PRESET]
//! ```
//!
//! STORE is the directory `objects` of the server's data directory, or `s3://BUCKET/PREFIX` with credentials, region and
//! endpoint by the usual `AWS_*` names. OWNER is the `owner` of `GET /api/v1/session`. The exit code is 1 when the image was
//! rejected or the job failed.
#![expect(clippy::print_stdout, reason = "an example that prints")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream;
use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An answer comes within moments; a job may wait behind others.
const PATIENCE: Duration = Duration::from_secs(600);

fn store(place: &str) -> anyhow::Result<Box<dyn ObjectStore>> {
    let Some(bucket) = place.strip_prefix("s3://") else {
        return Ok(Box::new(LocalFileSystem::new_with_prefix(place)?));
    };
    let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
    let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
    Ok(Box::new(PrefixStore::new(s3, prefix)))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (nats, place, owner, file) = match &arguments[..] {
        [nats, place, owner, file] | [nats, place, owner, file, _] => (nats, place, owner, file),
        _ => bail!("usage: producer NATS STORE OWNER FILE [PRESET]"),
    };
    let preset = arguments.get(4).map_or("document", String::as_str);
    // Whatever else the program links must not choose for it.
    let _ = rustls::crypto::ring::default_provider().install_default();

    // 1. The bytes.
    let bytes = std::fs::read(file).with_context(|| file.clone())?;
    let key = uuid::Uuid::new_v4().to_string();
    let object_key = format!("incoming/{owner}/{key}");
    let (size_bytes, sha256) = (bytes.len(), hex::encode(Sha256::digest(&bytes)));
    store(place)?.put(&object_key.as_str().into(), bytes.into()).await.context("the object store")?;

    // 2. Whoever listens first misses nothing.
    let client = async_nats::connect(nats).await.context("NATS")?;
    let mut events = client.subscribe(format!("inkpool.events.{owner}.>")).await?;
    client.flush().await?;

    // 3. The message. Its acknowledgement means that it is stored; the answer is an event.
    let filename = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or("image");
    let message = json!({
        "schema": "inkpool.submit/1", "object_key": object_key, "sha256": sha256, "size_bytes": size_bytes,
        "filename": filename, "preset": preset, "idempotency_key": key,
    });
    let submit = format!("inkpool.submit.{owner}");
    jetstream::new(client.clone()).publish(submit, message.to_string().into()).await?.await.context("not stored")?;

    // 4. What becomes of it. Every event of it but `progress` carries the key.
    let follow = async {
        while let Some(event) = events.next().await {
            let ours = event.headers.as_ref().and_then(|headers| headers.get("Inkpool-Idempotency-Key"));
            if ours.is_none_or(|ours| ours.as_str() != key) {
                continue;
            }
            let kind = event.subject.rsplit('.').next().unwrap_or_default().to_owned();
            let body: Value = serde_json::from_slice(&event.payload)?;
            println!("{}", json!({ "kind": kind, "body": body }));
            match kind.as_str() {
                "succeeded" => return Ok(ExitCode::SUCCESS),
                "rejected" | "failed" | "cancelled" => return Ok(ExitCode::FAILURE),
                _ => {}
            }
        }
        bail!("the connection ended")
    };
    tokio::time::timeout(PATIENCE, follow).await.context("nothing was told in time")?
}
