//! Logs to standard error, and the recorder behind `/metrics`.

use std::io::IsTerminal;
use std::sync::OnceLock;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Upper bounds of durations, seconds: from a thumbnail to the deadline of a large page.
const DURATION_BUCKETS_S: [f64; 14] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// Sends logs to standard error: text on a terminal, JSON elsewhere, unless set otherwise.
///
/// # Errors
/// When the filter cannot be read.
pub fn init_logs(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter).with_context(|| format!("log.filter is {:?}", log.filter))?;
    let text = match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = if text {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(true).try_init()
    };
    // A second server in one process (tests) keeps the first subscriber.
    drop(result);
    Ok(())
}

/// The recorder of this process, made on first use.
///
/// # Errors
/// When another recorder is in place.
pub fn metrics_handle() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS_S)
        .context("the bounds of the histograms")?;
    let handle = builder.install_recorder().context("the metrics recorder")?;
    Ok(HANDLE.get_or_init(|| handle).clone())
}
