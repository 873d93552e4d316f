//! The HTTP surface: a real server, ledger and object store; the test plays the actors.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod announced;
mod api;
mod archive;
mod bad_input;
mod dedup;
mod events;
mod files;
mod harness;
mod library;
mod surface;
mod tus;
mod upload;
