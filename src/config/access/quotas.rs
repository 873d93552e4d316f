//! Settings of what one user may use.

use serde::{Deserialize, Serialize};

use super::super::{Config, Rule};

/// `[quotas]`; every key is explained in `config/default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Whether the bounds hold in `open` mode.
    pub in_open_mode: bool,
    /// Bytes; 0: no bound.
    pub stored_bytes_max: u64,
    /// Pixels; 0: no bound.
    pub pixels_per_day_max: u64,
    /// Jobs; 0: no bound.
    pub jobs_queued_max: u64,
}

impl Config {
    pub(super) fn quota_rules(&self) -> [Rule; 1] {
        let largest = self.limits.page_pixels_max;
        let pixels = self.quotas.pixels_per_day_max;
        [(
            "quotas.pixels_per_day_max",
            pixels,
            pixels == 0 || pixels >= largest,
            "0, or at least limits.page_pixels_max: a page that may be sent must be able to find room",
        )]
    }
}
