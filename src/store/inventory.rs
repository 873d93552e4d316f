//! What the rows say there is in the object store, of all owners: for those who compare the two.

use crate::job::{ImageId, JobId};

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The upload of this image.
    Original(ImageId),
    /// An output of this start.
    Output {
        /// The job.
        job: JobId,
        /// The start that made it.
        start: u32,
        /// Place among the outputs of the job.
        ordinal: i64,
        /// `clean.png`, `p0002/clean.png`.
        name: String,
    },
}

/// One object as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub stored: Stored,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
}
