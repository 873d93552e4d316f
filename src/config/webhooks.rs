//! Settings of webhooks.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, Rule};

/// `[webhooks]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Webhooks {
    pub hooks_max: u64,
    pub allow_http: bool,
    pub allow_private: bool,
    pub ports: Vec<u16>,
    pub ca_file: PathBuf,
    pub timeout_s: u64,
    pub body_bytes_max: usize,
    pub answer_bytes_max: usize,
    pub parallel_max: usize,
    pub parallel_per_host: usize,
    pub parallel_per_owner: usize,
    pub lease_s: u64,
    pub attempts_max: u32,
    pub retry_wait_s: u64,
    pub retry_wait_max_s: u64,
    pub off_after_h: u64,
    pub off_failures_min: u32,
    pub pending_max: u64,
    pub log_rows_max: u64,
    pub log_keep_h: u64,
    pub rotation_h: u64,
}

impl Config {
    pub(super) fn webhook_rules(&self) -> [Rule; 8] {
        let hooks = &self.webhooks;
        [
            ("webhooks.timeout_s", hooks.timeout_s, (1..=60).contains(&hooks.timeout_s), "1 to 60"),
            (
                "webhooks.lease_s",
                hooks.lease_s,
                hooks.lease_s >= hooks.timeout_s * 2 + 10,
                "at least twice webhooks.timeout_s and 10: who brings something must be done before another begins",
            ),
            ("webhooks.attempts_max", hooks.attempts_max.into(), hooks.attempts_max >= 1, "at least 1"),
            (
                "webhooks.retry_wait_max_s",
                hooks.retry_wait_max_s,
                hooks.retry_wait_max_s >= hooks.retry_wait_s && hooks.retry_wait_s >= 1,
                "at least webhooks.retry_wait_s, which is at least 1",
            ),
            ("webhooks.parallel_max", hooks.parallel_max as u64, hooks.parallel_max >= 1, "at least 1"),
            ("webhooks.parallel_per_host", hooks.parallel_per_host as u64, hooks.parallel_per_host >= 1, "at least 1"),
            (
                "webhooks.parallel_per_owner",
                hooks.parallel_per_owner as u64,
                hooks.parallel_per_owner >= 1,
                "at least 1",
            ),
            (
                "webhooks.body_bytes_max",
                hooks.body_bytes_max as u64,
                hooks.body_bytes_max >= 4096,
                "at least 4096: a job without its pages must fit",
            ),
        ]
    }
}

impl Webhooks {
    /// What one attempt gets, from the name to the end of the answer.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}
