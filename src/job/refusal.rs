//! Why an input is refused: one vocabulary for the header checks of the server, the worker, HTTP and the CLI.

use serde::{Deserialize, Serialize};

/// Machine-readable reason of a refusal. The names are part of the HTTP surface (`code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No byte was sent.
    EmptyBody,
    /// Not an image of a kind that is supported.
    UnsupportedFormat,
    /// More bytes than the limit.
    BodyTooLarge,
    /// More pixels on a page than the limit.
    TooManyPixels,
    /// A side longer than the limit.
    SideTooLong,
    /// More pages than the limit.
    TooManyPages,
    /// The plan needs more memory than a worker may have.
    NeedsTooMuchMemory,
    /// The bytes are damaged, cut off or contradict themselves.
    Malformed,
    /// A valid file that uses a feature of its format which is not supported.
    UnsupportedFeature,
    /// No preset of that name.
    UnknownPreset,
    /// A `set` key or value that the preset does not have.
    InvalidSetting,
}

impl RefusalCode {
    /// The name as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::UnsupportedFormat => "unsupported_format",
            Self::BodyTooLarge => "body_too_large",
            Self::TooManyPixels => "too_many_pixels",
            Self::SideTooLong => "side_too_long",
            Self::TooManyPages => "too_many_pages",
            Self::NeedsTooMuchMemory => "needs_too_much_memory",
            Self::Malformed => "malformed",
            Self::UnsupportedFeature => "unsupported_feature",
            Self::UnknownPreset => "unknown_preset",
            Self::InvalidSetting => "invalid_setting",
        }
    }
}

/// A refusal with its figures: permanent, trying again cannot help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: RefusalCode,
    /// One sentence for people, without paths or internals.
    pub detail: String,
    /// The limit with its unit, such as `100000000 px`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What was measured, in the same unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// What the sender can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Refusal {
    /// A refusal without figures.
    #[must_use]
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), limit: None, measured: None, remedy: None }
    }

    /// Adds the limit and what was measured, both with units.
    #[must_use]
    pub fn figures(mut self, limit: impl Into<String>, measured: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self.measured = Some(measured.into());
        self
    }

    /// Adds what the sender can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
