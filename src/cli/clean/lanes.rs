//! Lanes: each has one worker and takes one image after another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::report::{Outcome, Report, State, Written, advance};
use super::targets::{Job, Target};
use crate::cli::Exit;
use crate::cli::place::{Temporary, copy};
use crate::config::Config;
use crate::containers::collect::{Collected, OutputLimits, collect};
use crate::containers::memory::MemoryBudget;
use crate::containers::process::ProcessRuntime;
use crate::containers::session::{Bounds, Verdict, execute};
use crate::containers::slot_dir::SlotDir;
use crate::containers::{SlotId, SlotRuntime, StartOrder, Worker};
use crate::job::{JobError, Refusal, RefusalCode};
use crate::pipeline::gate;
use crate::pipeline::spec::Spec;
use crate::pipeline::wire::{Done, Run, RunLimits};

/// Name of the input below `in/`.
const INPUT: &str = "input";

/// What all lanes need to know.
pub struct Settings {
    /// What to make.
    pub spec: Spec,
    /// Limits.
    pub config: Config,
    /// Whether files that exist are replaced.
    pub overwrite: bool,
    /// Holds a directory for each lane.
    pub slots: PathBuf,
}

/// All lanes of a call.
pub struct Lanes {
    waiting: Mutex<VecDeque<Job>>,
    settings: Settings,
    runtime: ProcessRuntime,
    memory: MemoryBudget,
    report: Report,
    stop: CancellationToken,
    worst: AtomicU8,
}

/// Why an image did not succeed.
type Failure = Box<(State, JobError)>;

impl Lanes {
    /// Lanes that are not running yet.
    pub fn new(
        jobs: Vec<Job>,
        settings: Settings,
        runtime: ProcessRuntime,
        report: Report,
        stop: CancellationToken,
    ) -> Self {
        let memory = MemoryBudget::of(settings.config.slots.memory_total_bytes_max);
        Self { waiting: Mutex::new(jobs.into()), settings, runtime, memory, report, stop, worst: AtomicU8::new(0) }
    }

    /// The exit code that the results so far ask for.
    pub fn worst(&self) -> Exit {
        let worst = self.worst.load(Ordering::SeqCst);
        let all = [Exit::Refused, Exit::Failed];
        all.into_iter().find(|exit| *exit as u8 == worst).unwrap_or(Exit::Done)
    }

    /// Works until nothing waits, or until it is told to stop.
    pub async fn run(self: Arc<Self>, lane: u32) {
        let slot = SlotDir::new(&self.settings.slots, lane);
        let mut worker: Option<Box<dyn Worker>> = None;
        let mut generation = 0;
        while let Some(job) = self.next() {
            let began = Instant::now();
            let input = job.input.shown();
            let bar = self.report.begin(&input);
            generation += 1;
            let id = SlotId { slot: lane, generation };
            let result = self.process(&job, &slot, &mut worker, id, |stage, share| advance(&bar, stage, share)).await;
            let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let outcome = match result {
                Ok((files, gate)) => Outcome { input, state: State::Succeeded, files, duration_ms, gate, error: None },
                Err(failure) => {
                    let (state, error) = *failure;
                    Outcome { input, state, files: Vec::new(), duration_ms, gate: None, error: Some(error) }
                }
            };
            self.worst.fetch_max(outcome.state.exit() as u8, Ordering::SeqCst);
            self.report.end(&bar, &outcome);
        }
        if let Some(mut worker) = worker {
            // Reaped, so that what it used counts as used by this command, as `time` and schedulers see it.
            worker.kill().await;
        }
    }

    fn next(&self) -> Option<Job> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn process(
        &self,
        job: &Job,
        slot: &SlotDir,
        worker: &mut Option<Box<dyn Worker>>,
        id: SlotId,
        on_progress: impl FnMut(&str, f32) + Send,
    ) -> Result<(Vec<Written>, Option<gate::Report>), Failure> {
        if self.stop.is_cancelled() {
            return Err(interrupted());
        }
        if !self.settings.overwrite {
            let exists = job.target.first(&self.settings.spec).into_iter().find(|path| path.symlink_metadata().is_ok());
            exists.map_or(Ok(()), |path| Err(already(&path)))?;
        }
        let run = self.stage(job, slot).await?;
        let limits = run.limits;
        if worker.is_none() {
            let started = self.runtime.start(self.order(slot, id)).await;
            *worker = Some(started.map_err(|error| failed("worker", error.to_string()))?);
        }
        let Some(ready) = worker else { return Err(failed("worker", "no worker")) };
        let deadline = self.settings.config.deadline(None);
        let per_megapixel = Duration::from_secs(self.settings.config.jobs.deadline_per_megapixel_s);
        let bounds = Bounds { deadline, per_megapixel, memory: Some(self.memory.clone()) };
        let session = execute(ready.as_mut(), run, bounds, self.stop.clone(), on_progress).await;
        if !session.reusable {
            *worker = None;
        }
        let done = match session.verdict {
            Verdict::Done(done) => *done,
            Verdict::Refused { stage, refusal } => {
                return Err(Box::new((State::Refused, JobError::refused(refusal, &stage))));
            }
            Verdict::Fault { stage, detail } => {
                let error = JobError::new("worker_fault", detail, Some(&stage), true);
                return Err(Box::new((State::Failed, error)));
            }
            Verdict::Lost(crash) => return Err(Box::new((State::Failed, crash.into()))),
            Verdict::Interrupted(why) => return Err(failed("worker", why)),
            Verdict::Cancelled => return Err(interrupted()),
        };
        let gate = done.gate.clone().map(|mut report| {
            report.cut(limits.pages_max);
            report
        });
        let written = self.keep(job, slot, done, limits).await;
        if written.is_err() {
            *worker = None;
        }
        Ok((written?, gate))
    }

    /// Copies the input into the slot.
    async fn stage(&self, job: &Job, slot: &SlotDir) -> Result<Run, Failure> {
        let (slot, source) = (slot.clone(), job.input.path.clone());
        let most = self.settings.config.http.body_bytes_max;
        let staged = blocking(move || {
            slot.prepare().map_err(|error| failed("directory", error.to_string()))?;
            let mut to = slot.create_input(INPUT).map_err(|error| failed("directory", error.to_string()))?;
            let unreadable = |error: io::Error| failed("unreadable", error.to_string());
            let copied = match source {
                Some(path) => File::open(path).and_then(|from| copy(from.take(most + 1), &mut to)),
                None => copy(io::stdin().lock().take(most + 1), &mut to),
            };
            copied.map_err(unreadable)
        });
        let (length, input_sha256) = staged.await?;
        if length > most {
            return Err(too_large(most));
        }
        let config = &self.settings.config;
        let limits = RunLimits {
            pixels_max: config.limits.page_pixels_max,
            side_px_max: config.limits.side_px_max,
            pages_max: config.limits.pages_max,
            memory_bytes_max: config.slots.memory_bytes_max.min(self.memory.total_bytes()),
        };
        let spec = job.target.narrow(&self.settings.spec);
        Ok(Run { job: job.input.shown(), spec, input: INPUT.to_owned(), input_sha256, limits })
    }

    fn order(&self, slot: &SlotDir, id: SlotId) -> StartOrder {
        let slots = &self.settings.config.slots;
        StartOrder {
            id,
            directory: slot.path().to_owned(),
            start_timeout: Duration::from_secs(slots.start_timeout_s),
            memory_bytes_max: slots.memory_bytes_max,
            open_files_max: slots.open_files_max,
            file_bytes_max: slots.memory_bytes_max,
        }
    }

    /// Checks the outputs and writes them to their places.
    async fn keep(&self, job: &Job, slot: &SlotDir, done: Done, limits: RunLimits) -> Result<Vec<Written>, Failure> {
        let (directory, spec) = (slot.path().to_owned(), job.target.narrow(&self.settings.spec));
        let (target, overwrite) = (job.target.clone(), self.settings.overwrite);
        let file_bytes_max = self.settings.config.slots.memory_bytes_max;
        blocking(move || {
            let outputs = OutputLimits { file_bytes_max, total_bytes_max: u64::MAX };
            let collected = collect(&directory, &spec, &done, &limits, outputs)
                .map_err(|crash| Box::new((State::Failed, JobError::from(*crash))))?;
            write(collected, &target, overwrite).map_err(|(path, error)| {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    already(&path)
                } else {
                    failed("unwritable", format!("{}: {error}", path.display()))
                }
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(failed("panic", error.to_string())))
}

fn failed(code: &str, detail: impl Into<String>) -> Failure {
    Box::new((State::Failed, JobError::new(code, detail, None, false)))
}

fn interrupted() -> Failure {
    failed("interrupted", "interrupted")
}

fn already(path: &Path) -> Failure {
    failed("exists", format!("{} exists; --overwrite replaces it", path.display()))
}

fn too_large(most: u64) -> Failure {
    let refusal = Refusal::new(RefusalCode::BodyTooLarge, "The file is too large.")
        .figures(format!("{most} bytes"), format!("more than {most} bytes"))
        .remedy("Raise INKPOOL_HTTP__BODY_BYTES_MAX.");
    Box::new((State::Refused, JobError::refused(refusal, "stage")))
}

/// Writes what is wanted: all under temporary names first, so that a result is there whole or not at all.
fn write(collected: Vec<Collected>, target: &Target, overwrite: bool) -> Result<Vec<Written>, (PathBuf, io::Error)> {
    let mut temporary = Vec::new();
    let mut written = Vec::new();
    for output in collected {
        let Some(place) = target.place(&output.facts.name) else { continue };
        let at = |error| (place.clone(), error);
        temporary.push(Temporary::write(output.file, &output.facts.sha256, &place).map_err(at)?);
        written.push(Written { path: place, facts: output.facts });
    }
    for (done, file) in temporary.iter().enumerate() {
        if let Err(error) = file.keep(overwrite) {
            if !overwrite {
                temporary.iter().take(done).for_each(|made| drop(std::fs::remove_file(&made.place)));
            }
            return Err((file.place.clone(), error));
        }
    }
    Ok(written)
}
