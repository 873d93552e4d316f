//! Programs outside, on a real NATS JetStream and the real server: what they are told, and what they submit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

#[path = "../common/mod.rs"]
mod common;
mod events;
mod nodes;
mod outside;
mod quotas;
#[path = "../common/s3.rs"]
#[expect(dead_code, reason = "a part of it is used here")]
mod s3;
mod submit;
