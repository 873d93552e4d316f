//! What people and programs are told: bars on a terminal, a line for each result, JSON on request.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::cli::{Exit, explain};
use crate::job::JobError;
use crate::pipeline::gate;
use crate::pipeline::wire::OutFile;

/// Steps of a bar.
const BAR_STEPS: u64 = 1000;

/// What came of one input.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// As it was named, or found.
    pub input: String,
    /// `succeeded`, `refused` or `failed`.
    pub state: State,
    /// What was written.
    pub files: Vec<Written>,
    /// Wall time, milliseconds.
    pub duration_ms: u64,
    /// What the gate says of the cleaned pages.
    pub gate: Option<gate::Report>,
    /// Why it did not succeed.
    pub error: Option<JobError>,
}

/// State of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All its files are written.
    Succeeded,
    /// It can never be processed; nothing was written.
    Refused,
    /// Something went wrong; nothing was written.
    Failed,
}

impl State {
    /// What the program's exit code becomes by it.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Succeeded => Exit::Done,
            Self::Refused => Exit::Refused,
            Self::Failed => Exit::Failed,
        }
    }
}

/// One file.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// As in a server's answer.
    #[serde(flatten)]
    pub facts: OutFile,
}

/// Bars and lines.
pub struct Report {
    json: bool,
    bars: MultiProgress,
    whole: Option<ProgressBar>,
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
        Self { json, bars, whole }
    }

    /// A bar for one input.
    pub fn begin(&self, input: &str) -> ProgressBar {
        let bar = ProgressBar::new(BAR_STEPS).with_style(style("{bar:40} {msg:10} {prefix}"));
        bar.set_prefix(input.to_owned());
        match &self.whole {
            Some(whole) => self.bars.insert_before(whole, bar),
            None => self.bars.add(bar),
        }
    }

    /// The input's bar is done; the result is told.
    pub fn end(&self, bar: &ProgressBar, outcome: &Outcome) {
        bar.finish_and_clear();
        if let Some(whole) = &self.whole {
            whole.inc(1);
            if whole.position() == whole.length().unwrap_or_default() {
                whole.finish_and_clear();
            }
        }
        // Nobody is left to tell when these streams are closed.
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{}", line(outcome));
            if self.json {
                let object = serde_json::to_string(outcome).unwrap_or_default();
                let _ = writeln!(std::io::stdout(), "{object}");
            }
        });
    }
}

/// Moves a bar.
pub fn advance(bar: &ProgressBar, stage: &str, fraction: f32) {
    bar.set_message(stage.to_owned());
    let share = Duration::from_secs(1).mul_f32(fraction.clamp(0.0, 1.0)).as_millis();
    bar.set_position(u64::try_from(share).unwrap_or(0));
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One line for people.
fn line(outcome: &Outcome) -> String {
    let told = what_became(outcome);
    match outcome.gate.as_ref().and_then(gate::Report::sentence) {
        Some(sentence) => format!("{told}; {sentence}"),
        None => told,
    }
}

fn what_became(outcome: &Outcome) -> String {
    let input = &outcome.input;
    match (&outcome.error, outcome.files.as_slice()) {
        (Some(error), _) => {
            let how = if outcome.state == State::Refused { "refused: " } else { "" };
            let told =
                explain(&error.detail, error.limit.as_deref(), error.measured.as_deref(), error.remedy.as_deref());
            format!("inkpool: {input}: {how}{told}")
        }
        (None, [file]) => format!("{input} → {}", file.path.display()),
        (None, files) => {
            let folder =
                files.iter().filter_map(|file| file.path.parent()).min_by_key(|folder| folder.as_os_str().len());
            let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            let folder = folder.display();
            format!("{input} → {folder}/ ({} files)", files.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Refusal, RefusalCode};

    #[test]
    fn a_refusal_is_one_line_with_limit_measure_and_remedy() {
        let refusal = Refusal::new(RefusalCode::TooManyPixels, "The page has too many pixels.")
            .figures("100 px", "900 px")
            .remedy("Scale it down.");
        let outcome = Outcome {
            input: "page.png".to_owned(),
            state: State::Refused,
            files: vec![],
            duration_ms: 3,
            gate: None,
            error: Some(JobError::refused(refusal, "probe")),
        };
        assert_eq!(
            line(&outcome),
            "inkpool: page.png: refused: The page has too many pixels. (limit 100 px, measured 900 px) Scale it down."
        );
    }

    #[test]
    fn what_the_gate_says_follows_the_files() {
        let judgement = gate::Judgement {
            verdict: gate::Verdict::Review,
            harms: vec![gate::Harm::StrokesLost],
            figures: gate::Figures::default(),
            regions: vec![],
        };
        let outcome = Outcome {
            input: "page.png".to_owned(),
            state: State::Succeeded,
            files: vec![],
            duration_ms: 3,
            gate: gate::Report::of(&[gate::PageReport::of(1, judgement)]),
            error: None,
        };
        assert_eq!(line(&outcome), "page.png → ./ (0 files); look at it: strokes may be missing");
    }

    #[test]
    fn the_bar_follows_the_fraction() {
        let bar = ProgressBar::hidden();
        advance(&bar, "denoise", 0.25);
        assert_eq!(bar.position(), 250);
        advance(&bar, "encode", 7.0);
        assert_eq!(bar.position(), BAR_STEPS);
    }
}
