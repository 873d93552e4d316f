//! Settings of archives.

use serde::{Deserialize, Serialize};

use super::{Config, Rule};

/// Most bytes of an archive without ZIP64, with room for its directory.
const BYTES_MAX: u64 = 4_200_000_000;

/// `[archive]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Archive {
    pub images_max: usize,
    pub files_max: usize,
    pub bytes_max: u64,
    pub at_once: usize,
    pub timeout_s: u64,
}

impl Config {
    pub(super) fn archive_rules(&self) -> [Rule; 2] {
        let archive = &self.archive;
        [
            (
                "archive.bytes_max",
                archive.bytes_max,
                archive.bytes_max <= BYTES_MAX,
                "at most 4200000000: beyond is ZIP64",
            ),
            (
                "archive.files_max",
                archive.files_max as u64,
                archive.files_max <= 65_000,
                "at most 65000: beyond is ZIP64",
            ),
        ]
    }
}
