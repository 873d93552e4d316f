//! Inkpool: a self-hosted, actor-based cluster that cleans and converts images. See `ARCHITECTURE.md`.

pub mod actors;
pub mod app;
pub mod auth;
pub mod blobs;
pub mod bus;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod containers;
pub mod fault;
pub mod http;
pub mod job;
pub mod pipeline;
pub mod producers;
pub mod scheduling;
pub mod store;
pub mod telemetry;
pub mod traces;
pub mod webhooks;
pub mod worker;
