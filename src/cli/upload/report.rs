//! What people and programs are told: a bar for each upload on a terminal, a line for each result, JSON on request.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::cli::remote::{Job, RemoteError};
use crate::cli::{Exit, explain};
use crate::job::{ImageId, JobError, JobId};
use crate::pipeline::gate;

/// What came of one input.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// As it was named, or found.
    pub input: String,
    /// What it is now.
    pub state: State,
    /// On the server.
    pub image_id: Option<ImageId>,
    /// On the server.
    pub job_id: Option<JobId>,
    /// Whether an earlier call had sent it.
    pub sent_before: bool,
    /// What was fetched.
    pub files: Vec<Written>,
    /// Wall time, milliseconds.
    pub duration_ms: u64,
    /// The job as it was seen last.
    pub job: Option<Value>,
    /// Why it did not succeed.
    pub error: Option<Error>,
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    #[serde(skip)]
    pub exit: Exit,
}

/// State of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The server has it; nobody has waited.
    Sent,
    /// Its job has succeeded, and its files are here if they were wanted.
    Succeeded,
    /// It can never be processed.
    Refused,
    /// Something went wrong.
    Failed,
    /// The server could not be reached.
    Unreachable,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// On the server.
    pub name: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
}

/// Why something did not go.
#[derive(Debug, Serialize)]
pub struct Error {
    /// For programs.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The limit hit, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What was measured, in the unit of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Error {
    /// Without figures.
    pub fn plain(code: &str, detail: &str) -> Self {
        Self { code: code.to_owned(), detail: detail.to_owned(), limit: None, measured: None, remedy: None }
    }

    /// The error of a job.
    pub fn of_job(error: &JobError) -> Self {
        Self {
            limit: error.limit.clone(),
            measured: error.measured.clone(),
            remedy: error.remedy.clone(),
            ..Self::plain(&error.code, &error.detail)
        }
    }

    fn of(error: &RemoteError) -> Self {
        match error {
            RemoteError::Refused(problem) => Self {
                limit: problem.limit.clone(),
                measured: problem.measured.clone(),
                remedy: problem.remedy.clone(),
                ..Self::plain(&problem.code, &problem.detail)
            },
            RemoteError::Unreachable { .. } => Self::plain("unreachable", &error.to_string()),
            RemoteError::Usage(_) => Self::plain("usage", &error.to_string()),
            RemoteError::Failed(_) => Self::plain("failed", &error.to_string()),
            RemoteError::Interrupted => Self::plain("interrupted", &error.to_string()),
        }
    }

    fn sentence(&self) -> String {
        explain(&self.detail, self.limit.as_deref(), self.measured.as_deref(), self.remedy.as_deref())
    }
}

impl Outcome {
    /// Nothing has come of it yet.
    pub fn of(input: String) -> Self {
        Self {
            input,
            state: State::Sent,
            image_id: None,
            job_id: None,
            sent_before: false,
            files: Vec::new(),
            duration_ms: 0,
            job: None,
            error: None,
            folder: None,
            exit: Exit::Done,
        }
    }

    /// The job as it is now.
    pub fn take_job(&mut self, object: &Value, job: &Job) {
        self.job_id = Some(job.id);
        self.job = Some(object.clone());
    }

    /// It ends with this error.
    pub fn fail(&mut self, error: &RemoteError) {
        self.fail_as(Error::of(error), error.exit());
    }

    /// It ends with this error and asks for this exit code.
    pub fn fail_as(&mut self, error: Error, exit: Exit) {
        self.state = match exit {
            Exit::Refused => State::Refused,
            Exit::Unreachable => State::Unreachable,
            Exit::Done | Exit::Failed | Exit::Usage => State::Failed,
        };
        self.error = Some(error);
        self.exit = exit;
    }

    /// One line for people.
    fn line(&self) -> String {
        let input = &self.input;
        if let Some(error) = &self.error {
            let how = if self.state == State::Refused { "refused: " } else { "" };
            return format!("inkpool: {input}: {how}{}", error.sentence());
        }
        let mut told = match (&self.folder, self.job_id) {
            (Some(folder), _) => format!("{input} → {}/ ({} files)", folder.display(), self.files.len()),
            (None, Some(job)) if self.state == State::Sent => format!("{input} → job {job}"),
            (None, _) => format!("{input}: {}", self.state.word()),
        };
        if self.state == State::Sent && self.sent_before {
            told.push_str(", sent before");
        }
        let report = self.job.as_ref().and_then(|job| job.get("gate")).cloned().unwrap_or_default();
        let report = serde_json::from_value::<Option<gate::Report>>(report).unwrap_or_default();
        match report.as_ref().and_then(gate::Report::sentence) {
            Some(sentence) => format!("{told}; {sentence}"),
            None => told,
        }
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unreachable => "without an answer",
        }
    }
}

/// The bar of one upload; it goes when this does.
#[derive(Debug, Clone)]
pub struct Bar(ProgressBar);

impl Bar {
    /// So many bytes are on their way.
    pub fn sent(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

/// Bars and lines.
pub struct Report {
    json: bool,
    bars: MultiProgress,
    whole: Option<ProgressBar>,
    counts: Cell<BTreeMap<State, u64>>,
}

impl Report {
    /// For so many inputs.
    pub fn new(json: bool, inputs: usize) -> Self {
        // Draws nothing where standard error is no terminal.
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let whole = (inputs > 1).then(|| {
            let bar = ProgressBar::new(inputs as u64).with_style(style("{bar:40} {pos} of {len}  {eta}"));
            bars.add(bar)
        });
        Self { json, bars, whole, counts: Cell::default() }
    }

    /// A bar for one upload.
    pub fn begin(&self, input: &str, size_bytes: u64) -> Bar {
        let bar = ProgressBar::new(size_bytes).with_style(style("{bar:40} {bytes:>10} of {total_bytes}  {prefix}"));
        let bar = bar.with_finish(ProgressFinish::AndClear).with_prefix(input.to_owned());
        Bar(match &self.whole {
            Some(whole) => self.bars.insert_before(whole, bar),
            None => self.bars.add(bar),
        })
    }

    /// The input is done; the result is told. People are spared what was told of another one.
    pub fn end(&self, outcome: &Outcome, told_before: bool) {
        let mut counts = self.counts.take();
        *counts.entry(outcome.state).or_default() += 1;
        self.counts.set(counts);
        if let Some(whole) = &self.whole {
            whole.inc(1);
        }
        // Nobody is left to tell when these streams are closed.
        self.bars.suspend(|| {
            if !told_before {
                let _ = writeln!(std::io::stderr(), "{}", outcome.line());
            }
            if self.json {
                let object = serde_json::to_string(outcome).unwrap_or_default();
                let _ = writeln!(std::io::stdout(), "{object}");
            }
        });
    }

    /// Everything is done, or nothing more can be; many are summed up.
    pub fn close(&self, given_up: bool) {
        let Some(whole) = &self.whole else { return };
        whole.finish_and_clear();
        let counts = self.counts.take();
        let told: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {}", state.word())).collect();
        let hint = if given_up { "; the same command goes on where it ended" } else { "" };
        let _ = writeln!(std::io::stderr(), "{}{hint}", told.join(", "));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
