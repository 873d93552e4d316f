//! Settings of uploads that come in pieces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, Rule};

/// `[tus]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Tus {
    pub expires_h: u64,
    pub owner_open_max: u64,
    pub owner_bytes_max: u64,
    pub open_max: u64,
    pub piece_bytes: usize,
    pub piece_s: u64,
    pub pieces_max: u64,
    pub hold_s: u64,
}

impl Config {
    pub(super) fn tus_rules(&self) -> [Rule; 4] {
        let Tus { expires_h, piece_bytes, piece_s, hold_s, .. } = self.tus;
        [
            ("tus.expires_h", expires_h, expires_h >= 1, "at least 1"),
            (
                "tus.piece_bytes",
                piece_bytes as u64,
                (4096..=64 << 20).contains(&piece_bytes),
                "4096 to 67108864: it is held in memory",
            ),
            ("tus.piece_s", piece_s, piece_s >= 1, "at least 1"),
            (
                "tus.hold_s",
                hold_s,
                hold_s > 2 * piece_s,
                "more than twice tus.piece_s: a request says with each piece that it lives",
            ),
        ]
    }
}

impl Tus {
    /// How long an unfinished upload is kept.
    #[must_use]
    pub const fn expires(&self) -> Duration {
        Duration::from_secs(self.expires_h * 3600)
    }

    /// How long a request that adds to an upload may be silent.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_s)
    }

    /// Most bytes that the pieces of one upload can hold.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.pieces_max.saturating_mul(self.piece_bytes as u64)
    }
}
