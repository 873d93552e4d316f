//! The fault matrix: three nodes of the real program with real services under load, one fault, and a checker that judges what
//! the clients were told and what is there in the end. `scripts/faults` runs all of it with the times of the defaults and
//! writes `docs/faults.md`; in the ordinary run some rows are made with short leases, beside the tests of the checker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "what binaries share is used in parts")]
#![cfg(feature = "fault-points")]

mod checker;
#[cfg(test)]
mod checker_tests;
mod cluster;
mod collect;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod docker;
mod evidence;
mod leaks;
mod load;
mod measure;
mod nodes;
mod proxy;
mod run;
#[path = "../common/s3.rs"]
mod s3_server;
mod seeds;
mod services;
mod table;
