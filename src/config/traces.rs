//! Settings of traces.

use serde::{Deserialize, Serialize};

use super::{Config, Rule};

/// `[traces]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Traces {
    pub endpoint: String,
    pub sample: f64,
    pub timeout_s: u64,
    pub batch_max: usize,
    pub queue_max: usize,
}

impl Config {
    pub(super) fn trace_rules(&self) -> [Rule; 2] {
        let traces = &self.traces;
        [
            ("traces.timeout_s", traces.timeout_s, (1..=60).contains(&traces.timeout_s), "1 to 60"),
            ("traces.batch_max", traces.batch_max as u64, (1..=4096).contains(&traces.batch_max), "1 to 4096"),
        ]
    }
}
