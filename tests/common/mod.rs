//! What integration tests share. Every test binary uses a part of it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

pub mod crafted;
pub mod docker;
pub mod engine;
pub mod nats;
pub mod pages;
pub mod postgres;
pub mod server;
