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
    /// Too large for this node, not for another one: the attempt is handed back with this reason.
    HandedOver(JobError),
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

    /// Why a job whose plan asks for `needed_bytes` waits for another node than this one, whose workers may have
    /// `limit_bytes`.
    #[must_use]
    pub fn too_large_here(needed_bytes: u64, limit_bytes: u64, stage: &str) -> Self {
        let detail =
            "The image needs more memory than a worker of the node that took it may have; another node has it.";
        Self {
            limit: Some(bytes_figure(limit_bytes)),
            measured: Some(bytes_figure(needed_bytes)),
            ..Self::new(TOO_LARGE_HERE, detail, Some(stage), true)
        }
    }

    /// What a node must give a worker for a job that waits with this error, bytes; `None` when any node will do.
    #[must_use]
    pub fn memory_needed_bytes(&self) -> Option<u64> {
        if self.code == TOO_LARGE_HERE { figure_bytes(self.measured.as_deref()?) } else { None }
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

/// Code of [`JobError::too_large_here`].
const TOO_LARGE_HERE: &str = "too_large_for_node";

/// A figure as refusals have it.
#[must_use]
pub fn bytes_figure(bytes: u64) -> String {
    format!("{bytes} bytes")
}

/// The other way.
#[must_use]
pub fn figure_bytes(figure: &str) -> Option<u64> {
    figure.strip_suffix(" bytes")?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_needs_comes_back_from_its_error() {
        let error = JobError::too_large_here(3_000_000_000, 2_000_000_000, "plan");
        let error: JobError = serde_json::from_str(&serde_json::to_string(&error).unwrap()).unwrap();
        assert_eq!(error.memory_needed_bytes(), Some(3_000_000_000));
        assert_eq!(error.limit.as_deref(), Some("2000000000 bytes"));
        assert_eq!(JobError { code: "crashed".to_owned(), ..error.clone() }.memory_needed_bytes(), None);
        assert_eq!(JobError { measured: Some("many".to_owned()), ..error }.memory_needed_bytes(), None);
    }
}
