//! Accounts on the real program: who may do what, and how one comes in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod administration;
mod cli;
mod login;
mod people;
mod quotas;
mod registration;
mod sites;
mod timing;
mod tokens;
mod walk;
