//! What an attempt ended in. An outcome is a value; an actor that crashes is a bug.

use serde::{Deserialize, Serialize};

use super::Refusal;

/// How one attempt ended, as the slot reports it to the ledger. `T` is what a success carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    /// All outputs are durable in the object store.
    Succeeded(T),
    /// Worth another attempt: the worker reported a passing fault.
    Retryable(JobError),
    /// Another attempt cannot help.
    Permanent(JobError),
    /// The worker vanished, hung past its deadline or broke the protocol.
    Lost(Crash),
    /// Not the job's fault (drain, store or runtime outage): the attempt is handed back.
    HandedBack(String),
    /// The owner asked for it.
    Cancelled,
}

/// The `error` of a job, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobError {
    /// Machine-readable reason.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// The step of the pipeline in which it happened.
    pub stage: Option<String>,
    /// Whether a retry could help.
    pub retryable: bool,
    /// The limit hit, with its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What was measured, in the unit of the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// What the owner can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The signal that ended the worker, such as `SIGKILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Peak resident memory of the worker, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

impl JobError {
    /// An error without figures.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>, stage: Option<&str>, retryable: bool) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
            stage: stage.map(str::to_owned),
            retryable,
            limit: None,
            measured: None,
            remedy: None,
            signal: None,
            peak_bytes: None,
        }
    }

    /// The permanent error that a refusal in `stage` becomes.
    #[must_use]
    pub fn refused(refusal: Refusal, stage: &str) -> Self {
        Self {
            limit: refusal.limit,
            measured: refusal.measured,
            remedy: refusal.remedy,
            ..Self::new(refusal.code.as_str(), refusal.detail, Some(stage), false)
        }
    }
}

/// How a worker was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// `crashed`, `deadline`, `protocol`, `untrusted_output`.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// The last stage the worker reported.
    pub stage: Option<String>,
    /// The signal that ended it, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// Peak resident memory, bytes, as seen from outside the worker.
    pub peak_bytes: Option<u64>,
    /// The limit hit, with its unit, when one was.
    pub limit: Option<String>,
}

impl From<Crash> for JobError {
    fn from(crash: Crash) -> Self {
        Self {
            signal: crash.signal,
            peak_bytes: crash.peak_bytes,
            limit: crash.limit,
            ..Self::new(&crash.code, crash.detail, crash.stage.as_deref(), true)
        }
    }
}
