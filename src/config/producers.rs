//! Settings of what programs outside are told and may send.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rule;
use crate::config::Config;

/// `[producers]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Producers {
    pub events_keep_h: u64,
    pub events_messages_max: usize,
    pub progress_every_ms: u64,
    pub publisher_lease_s: u64,
}

impl Config {
    pub(super) fn producer_rules(&self) -> [Rule; 3] {
        let Producers { events_keep_h, events_messages_max, publisher_lease_s, .. } = self.producers;
        [
            ("producers.events_keep_h", events_keep_h, events_keep_h >= 1, "at least 1"),
            ("producers.events_messages_max", events_messages_max as u64, events_messages_max >= 1, "at least 1"),
            ("producers.publisher_lease_s", publisher_lease_s, publisher_lease_s >= 1, "at least 1"),
        ]
    }
}

impl Producers {
    /// How long the bus keeps an event.
    #[must_use]
    pub const fn events_keep(&self) -> Duration {
        Duration::from_secs(self.events_keep_h * 3600)
    }
}
