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
    pub submissions_at_once: usize,
    pub submissions_max: usize,
    pub message_bytes_max: usize,
    pub deliveries_max: u64,
    pub retry_wait_s: u64,
    pub retry_wait_max_s: u64,
    pub incoming_keep_h: u64,
    pub dead_letters_max: u64,
    pub dead_letters_keep_h: u64,
}

impl Config {
    pub(super) fn producer_rules(&self) -> [Rule; 7] {
        let Producers { events_keep_h, events_messages_max, publisher_lease_s, .. } = self.producers;
        let Producers { submissions_at_once, submissions_max, deliveries_max, .. } = self.producers;
        let Producers { incoming_keep_h, dead_letters_keep_h, .. } = self.producers;
        [
            ("producers.events_keep_h", events_keep_h, events_keep_h >= 1, "at least 1"),
            ("producers.events_messages_max", events_messages_max as u64, events_messages_max >= 1, "at least 1"),
            ("producers.publisher_lease_s", publisher_lease_s, publisher_lease_s >= 1, "at least 1"),
            ("producers.submissions_at_once", submissions_at_once as u64, submissions_at_once >= 1, "at least 1"),
            ("producers.submissions_max", submissions_max as u64, submissions_max >= 1, "at least 1"),
            (
                "producers.incoming_keep_h",
                incoming_keep_h,
                incoming_keep_h >= dead_letters_keep_h,
                "at least producers.dead_letters_keep_h: a dead letter needs its bytes",
            ),
            ("producers.deliveries_max", deliveries_max, deliveries_max >= 1, "at least 1"),
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
