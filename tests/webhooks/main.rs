//! Webhooks on the real program, with real receivers: what is brought and how it is signed, what becomes of it when receivers
//! or the server fail, and where nothing is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "fault-points")]

#[path = "../common/mod.rs"]
mod common;

mod bring;
mod guard;
mod nodes;
mod owners;
mod receiver;
mod trouble;
mod trust;
