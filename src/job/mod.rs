//! The vocabulary of a job and the table of its states. Pure: no I/O, no clock, no actor.

pub mod ids;
pub mod outcome;
pub mod refusal;
pub mod retry;
pub mod state;

pub use ids::{
    AccountId, CredentialId, DeadLetterId, DeliveryId, ImageId, InvitationId, JobId, OwnerId, UploadId, WebhookId,
};
pub use outcome::{Crash, JobError, Outcome, bytes_figure, figure_bytes};
pub use refusal::{Refusal, RefusalCode};
pub use state::{Event, JobCore, State};

use serde::{Deserialize, Serialize};

/// The two classes of work on the bus. Interactive jobs go first, bulk jobs never starve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Somebody is waiting for it.
    Interactive,
    /// Part of a large batch.
    Bulk,
}

impl Lane {
    /// Both lanes, the one that goes first in front.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// The name used in subjects, rows and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }

    /// The lane of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == name)
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
