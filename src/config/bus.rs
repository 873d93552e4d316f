//! What the settings of the bus must keep to.

use super::{Config, Rule};

impl Config {
    pub(super) fn bus_rules(&self) -> [Rule; 4] {
        [
            (
                "bus.in_progress_every_s",
                self.bus.in_progress_every_s,
                self.bus.in_progress_every_s * 2 < self.bus.ack_wait_s,
                "less than half of bus.ack_wait_s",
            ),
            ("bus.replicas", self.bus.replicas as u64, [1, 3, 5].contains(&self.bus.replicas), "1, 3 or 5"),
            ("bus.timeout_ms", self.bus.timeout_ms, self.bus.timeout_ms >= 100, "at least 100"),
            ("bus.window_per_slot", self.bus.window_per_slot as u64, self.bus.window_per_slot >= 1, "at least 1"),
        ]
    }
}
