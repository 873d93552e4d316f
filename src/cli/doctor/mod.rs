//! `inkpool doctor`: looks at a deployment, part by part, and says what is wrong with it and what to do.

mod checks;
mod hostile;
mod inputs;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Exit, complain, plain};
use crate::config::Config;

/// Longest time for one item: a worker that starts on a busy machine.
const ITEM_MAX: Duration = Duration::from_secs(120);

const EXAMPLES: &str = "\
Looks with the settings that `inkpool serve` would start with, beside a running server or without one. Nothing is changed:
on S3 a small object is put and removed, on NATS the streams of this deployment are made if they are missing.

Examples:
  inkpool doctor
  inkpool doctor --config /etc/inkpool.toml --json
  inkpool doctor --hostile      feeds a worker what is made to break it

Exit codes: 0 all pass (warnings included); 1 something failed; 2 usage or settings.";

/// Looks at a deployment.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Settings that override the defaults (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where ledger, objects and slot directories live.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Feeds hostile images to a worker as well
    #[arg(long)]
    hostile: bool,
    /// Print one JSON object for each item on standard output
    #[arg(long)]
    json: bool,
}

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Pass,
    /// It works, but somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    grade: Grade,
    detail: String,
    remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn pass(detail: impl Into<String>) -> Self {
        Self { grade: Grade::Pass, detail: detail.into(), remedy: None }
    }

    /// It works, but.
    pub fn warn(detail: impl Into<String>, remedy: &str) -> Self {
        Self { grade: Grade::Warn, detail: detail.into(), remedy: Some(remedy.to_owned()) }
    }

    /// It does not work.
    pub fn fail(detail: impl Into<String>, remedy: &str) -> Self {
        Self { grade: Grade::Fail, detail: detail.into(), remedy: Some(remedy.to_owned()) }
    }

    /// It does not work, and the error says why.
    pub fn error(error: &anyhow::Error, remedy: &str) -> Self {
        Self::fail(format!("{error:#}"), remedy)
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Item<'a> {
    item: &'a str,
    grade: Grade,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    duration_ms: u64,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Exit {
    let mut report = Report { json: args.json, failed: 0, warned: 0, passed: 0 };
    let began = Instant::now();
    let config = match settings(args) {
        Ok(config) => config,
        Err(error) => {
            let finding = Finding::fail(error.to_string(), "config/default.toml says what each setting may be.");
            report.tell("settings", finding, began);
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), Exit::Failed),
    };
    runtime.block_on(examine(&config, args.hostile, &mut report));
    report.close()
}

fn settings(args: &DoctorArgs) -> anyhow::Result<Config> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    config.data = std::path::absolute(&config.data)?;
    Ok(config)
}

async fn examine(config: &Config, with_hostile: bool, report: &mut Report) {
    macro_rules! item {
        ($name:literal, $check:expr) => {{
            let began = Instant::now();
            let late =
                || Finding::fail(format!("no answer within {} s", ITEM_MAX.as_secs()), "See the log of that part.");
            let found = tokio::time::timeout(ITEM_MAX, $check).await.unwrap_or_else(|_| late());
            report.tell($name, found, began);
        }};
    }
    item!("settings", async { checks::settings(config) });
    item!("data directory", async { checks::data(config) });
    item!("disk space", async { checks::disk(config) });
    item!("ledger", checks::ledger(config));
    item!("object store", checks::blobs(config));
    item!("bus", checks::bus(config));
    item!("clock", checks::clock(config));
    item!("network and ONNX Runtime", async { checks::model(config) });
    item!("worker and sandbox", checks::worker(config));
    item!("server", checks::server(config));
    if with_hostile {
        hostile::feed(config, report).await;
    }
}

/// Tells items as they come.
#[derive(Debug)]
pub struct Report {
    json: bool,
    failed: u32,
    warned: u32,
    passed: u32,
}

impl Report {
    /// One item.
    pub fn tell(&mut self, item: &str, finding: Finding, began: Instant) {
        let Finding { grade, detail, remedy } = finding;
        match grade {
            Grade::Pass => self.passed += 1,
            Grade::Warn => self.warned += 1,
            Grade::Fail => self.failed += 1,
        }
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let item = Item { item, grade, detail: plain(&detail), remedy, duration_ms };
        // Nobody is left to tell when the stream is closed.
        let mut out = std::io::stdout();
        if self.json {
            let _ = writeln!(out, "{}", serde_json::to_string(&item).unwrap_or_default());
            return;
        }
        let word = match grade {
            Grade::Pass => "pass",
            Grade::Warn => "WARN",
            Grade::Fail => "FAIL",
        };
        let _ = writeln!(out, "{word}  {:40}  {}", item.item, item.detail);
        if let Some(remedy) = &item.remedy {
            let _ = writeln!(out, "      {:40}  → {remedy}", "");
        }
    }

    fn close(&self) -> Exit {
        if !self.json {
            let _ = writeln!(
                std::io::stdout(),
                "{} passed, {} with a warning, {} failed",
                self.passed,
                self.warned,
                self.failed
            );
        }
        if self.failed > 0 { Exit::Failed } else { Exit::Done }
    }
}
