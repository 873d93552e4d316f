//! What can go wrong between this program and a server, and which exit code it asks for.

use std::time::Duration;

use http_client::StatusCode;

use crate::cli::{Exit, explain};
use crate::http::Problem;
use crate::job::RefusalCode;

/// A server that says "later" is not believed beyond this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Bounds of a user that a few minutes do not change.
const DAILY: [&str; 2] = ["storage_quota_reached", "pixel_quota_reached"];

/// What somebody at a command line does without a token, or with one that is good no more.
const TOKEN_REMEDY: &str = "Make one on the server's page, under your name, and set INKPOOL_TOKEN, or write it into \
                            ~/.config/inkpool/tokens as `machine HOST token TOKEN`.";

/// Why a request gave nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// The command line, or a file that it names.
    #[error("{0}")]
    Usage(String),
    /// No answer.
    #[error("cannot reach {server}: {why}")]
    Unreachable {
        /// As it was named.
        server: String,
        /// In a few words.
        why: String,
    },
    /// The server said no.
    #[error("{}", sentence(.0))]
    Refused(Box<Problem>),
    /// Neither, or something on this machine.
    #[error("{0}")]
    Failed(String),
    /// By Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

fn sentence(problem: &Problem) -> String {
    explain(&problem.detail, problem.limit.as_deref(), problem.measured.as_deref(), problem.remedy.as_deref())
}

impl RemoteError {
    /// An answer that is no success.
    pub fn of_answer(status: StatusCode, retry_after_s: Option<u64>, body: &[u8]) -> Self {
        let mut problem = serde_json::from_slice(body).unwrap_or_else(|_| no_problem(status));
        // The status line is what proxies on the way have acted on.
        problem.status = status.as_u16();
        problem.retry_after_s = retry_after_s;
        // What the server says is meant for programs that speak HTTP.
        if problem.code == "login_required" {
            problem.detail = "The server asks for a token.".to_owned();
            problem.remedy = Some(TOKEN_REMEDY.to_owned());
        }
        Self::Refused(Box::new(problem))
    }

    /// Whether the same request may be answered otherwise later, and the least wait until then.
    pub fn worth_another_try(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } => Some(Duration::ZERO),
            // Of an upload in pieces that another request, perhaps an earlier one of ours, is adding to.
            Self::Refused(problem) if problem.status == 423 || problem.code == "offset_differs" => {
                Some(Duration::from_secs(problem.retry_after_s.unwrap_or_default()).min(RETRY_AFTER_MAX))
            }
            // Room that comes tomorrow, or never by itself, is not waited for.
            Self::Refused(problem) if DAILY.contains(&problem.code.as_str()) => None,
            Self::Refused(problem) if matches!(problem.status, 408 | 429 | 502 | 503 | 504) => {
                Some(problem.retry_after_s.map_or(Duration::ZERO, Duration::from_secs).min(RETRY_AFTER_MAX))
            }
            Self::Refused(_) | Self::Usage(_) | Self::Failed(_) | Self::Interrupted => None,
        }
    }

    /// Whether it would be the same for every other input of a batch.
    pub fn concerns_all(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Usage(_) | Self::Interrupted => true,
            Self::Failed(_) => false,
            Self::Refused(problem) => {
                // An image that is too large for a whole day says nothing about the others.
                let is_full = DAILY[0] == problem.code || DAILY[1] == problem.code && problem.retry_after_s.is_some();
                matches!(problem.status, 401 | 403 | 507) || is_full || self.exit() == Exit::Usage
            }
        }
    }

    /// What the program's exit code becomes by it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Failed(_) | Self::Interrupted => Exit::Failed,
            Self::Refused(problem) => match refusal(&problem.code) {
                Some(RefusalCode::UnknownPreset | RefusalCode::InvalidSetting) => Exit::Usage,
                Some(_) => Exit::Refused,
                None if matches!(problem.status, 502..=504) => Exit::Unreachable,
                None => Exit::Failed,
            },
        }
    }
}

/// The refusal of an input that a code stands for.
pub fn refusal(code: &str) -> Option<RefusalCode> {
    serde_json::from_value(serde_json::Value::from(code)).ok()
}

/// For an answer of something else than our server: a proxy, a captive portal.
fn no_problem(status: StatusCode) -> Problem {
    let reason = status.canonical_reason().unwrap_or("no reason");
    Problem {
        kind: "about:blank".to_owned(),
        title: reason.to_owned(),
        status: status.as_u16(),
        detail: format!("The server answers {} {reason}.", status.as_u16()),
        code: String::new(),
        limit: None,
        measured: None,
        remedy: None,
        reasons: Vec::new(),
        retry_after_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> RemoteError {
        RemoteError::of_answer(StatusCode::from_u16(status).unwrap(), Some(7), body.as_bytes())
    }

    fn problem(code: &str) -> String {
        format!(r#"{{"type":"x","title":"x","status":1,"detail":"No.","code":"{code}"}}"#)
    }

    #[test]
    fn an_exit_code_stands_for_each_kind() {
        assert_eq!(answered(413, &problem("too_many_pixels")).exit(), Exit::Refused);
        assert_eq!(answered(415, &problem("unsupported_format")).exit(), Exit::Refused);
        assert_eq!(answered(422, &problem("unknown_preset")).exit(), Exit::Usage);
        assert_eq!(answered(401, &problem("login_required")).exit(), Exit::Failed);
        assert!(answered(401, &problem("login_required")).to_string().contains("INKPOOL_TOKEN"));
        assert_eq!(answered(503, &problem("queue_full")).exit(), Exit::Unreachable);
        assert_eq!(answered(502, "<html>").exit(), Exit::Unreachable);
    }

    #[test]
    fn what_passes_is_tried_again_and_nothing_else() {
        assert_eq!(answered(503, &problem("queue_full")).worth_another_try(), Some(Duration::from_secs(7)));
        assert_eq!(answered(502, "<html>").worth_another_try(), Some(Duration::from_secs(7)));
        assert_eq!(answered(429, &problem("job_quota_reached")).worth_another_try(), Some(Duration::from_secs(7)));
        for code in DAILY {
            assert_eq!(answered(429, &problem(code)).worth_another_try(), None, "{code}");
        }
        for (status, code) in [(401, "login_required"), (413, "body_too_large"), (507, "storage_full"), (500, "x")] {
            assert_eq!(answered(status, &problem(code)).worth_another_try(), None, "{code}");
        }
    }

    #[test]
    fn a_server_writes_one_line() {
        let told = answered(500, r#"{"type":"x","title":"x","status":1,"detail":"a\u001b[2J\nb","code":"x"}"#);
        assert_eq!(told.to_string(), "a [2J b");
    }
}
