//! One job on one worker: from `run` to its end, with deadline and cancel. What the worker says is untrusted: texts are
//! cut and cleaned, figures clamped, and an answer out of turn ends the worker.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::memory::{MemoryBudget, Reservation};
use super::{Exit, Lost, Worker};
use crate::job::{Crash, Refusal};
use crate::pipeline::wire::{Done, FromWorker, Run, ToWorker};

/// Memory of the worker is looked at this often, and with every message.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Letters of a text that a worker sends: enough for a sentence with figures.
const TEXT_LETTERS_MAX: usize = 500;
/// Letters of the name of a stage.
const STAGE_LETTERS_MAX: usize = 32;
/// Messages of one job: 200 pages with a dozen stages, and ten a second for the three hours that 200 drawn pages may take.
const MESSAGES_MAX: u32 = 120_000;

/// What came of a job.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It says that it is done; its files are still to be checked, see [`super::collect`].
    Done(Box<Done>),
    /// The input can never be processed.
    Refused {
        /// The step.
        stage: String,
        /// Why.
        refusal: Refusal,
    },
    /// Something failed that may pass.
    Fault {
        /// The step.
        stage: String,
        /// One sentence.
        detail: String,
    },
    /// The worker crashed, hung past the deadline or broke the protocol.
    Lost(Crash),
    /// What runs the worker went away and took it along: not the job's doing.
    Interrupted(String),
    /// The token was cancelled.
    Cancelled,
}

/// A verdict, and what it means for the worker.
#[derive(Debug, Clone)]
pub struct Session {
    /// What came of the job.
    pub verdict: Verdict,
    /// Whether the worker can take another job. If not, it has been killed and reaped.
    pub reusable: bool,
}

/// What bounds a job.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// From its start until it has a plan, and from when it has its memory until its end.
    pub deadline: Duration,
    /// Added for each megapixel of the plan, if that makes it longer: how many pages an input has may be known to nobody
    /// before.
    pub per_megapixel: Duration,
    /// Where what its plan asks for is reserved; `None` where nothing else runs.
    pub memory: Option<MemoryBudget>,
}

impl From<Duration> for Bounds {
    fn from(deadline: Duration) -> Self {
        Self { deadline, per_megapixel: Duration::ZERO, memory: None }
    }
}

/// Has `worker` process `run`, whose input lies in its directory.
///
/// `on_progress` gets the stage and the share that is done (0..1), as the worker reports them. Never returns later than
/// a few seconds after `deadline` or a cancel. Dropping the future leaves the worker in the middle of the job: drop or
/// kill it then.
pub async fn execute(
    worker: &mut dyn Worker,
    run: Run,
    bounds: impl Into<Bounds>,
    cancel: CancellationToken,
    mut on_progress: impl FnMut(&str, f32) + Send,
) -> Session {
    let Bounds { deadline, per_megapixel, memory } = bounds.into();
    let pixels_max = run.limits.pixels_max.saturating_mul(run.limits.pages_max.into());
    let mut job = Job { stage: None, limit_bytes: run.limits.memory_bytes_max, deadline };
    let start = ToWorker::Run(Box::new(run));
    let mut ended = bounded(work(worker, start, &mut job, &mut on_progress), deadline, &cancel).await;
    if let Ended::Planned(peak_bytes, pixels_total) = ended {
        let megapixels = u32::try_from(pixels_total.min(pixels_max).div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let deadline = deadline.max(per_megapixel.saturating_mul(megapixels));
        job.deadline = deadline;
        let reserved = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            reservation = reserve(memory.as_ref(), peak_bytes) => Some(reservation),
        };
        ended = match &reserved {
            Some(_) => bounded(work(worker, ToWorker::Go, &mut job, &mut on_progress), deadline, &cancel).await,
            None => Ended::Cancelled,
        };
    }
    let verdict = match ended {
        Ended::Answer(verdict) => return Session { verdict, reusable: true },
        Ended::Cancelled => {
            worker.kill().await;
            Verdict::Cancelled
        }
        Ended::Planned(..) => {
            let exit = worker.kill().await;
            Verdict::Lost(job.lost(Lost::Protocol("a second plan".to_owned()), exit, None))
        }
        Ended::Deadline => {
            let peak = worker.peak_bytes();
            let exit = worker.kill().await;
            Verdict::Lost(job.deadline(exit, peak))
        }
        Ended::Lost(Lost::Engine(why)) => {
            worker.kill().await;
            Verdict::Interrupted(why)
        }
        Ended::Lost(lost) => {
            let peak = worker.peak_bytes();
            let exit = worker.kill().await;
            Verdict::Lost(job.lost(lost, exit, peak))
        }
    };
    Session { verdict, reusable: false }
}

async fn bounded(work: impl Future<Output = Ended>, deadline: Duration, cancel: &CancellationToken) -> Ended {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ended::Cancelled,
        () = tokio::time::sleep(deadline) => Ended::Deadline,
        ended = work => ended,
    }
}

async fn reserve(memory: Option<&MemoryBudget>, bytes: u64) -> Option<Reservation> {
    match memory {
        Some(memory) => Some(memory.reserve(bytes).await),
        None => None,
    }
}

enum Ended {
    Answer(Verdict),
    /// Memory and pixels that the plan asks for.
    Planned(u64, u64),
    Lost(Lost),
    Deadline,
    Cancelled,
}

async fn work(
    worker: &mut dyn Worker,
    first: ToWorker,
    job: &mut Job,
    on_progress: &mut (impl FnMut(&str, f32) + Send),
) -> Ended {
    if let Err(lost) = worker.send(&first).await {
        return Ended::Lost(lost);
    }
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut messages = 0u32;
    loop {
        let message = tokio::select! {
            message = worker.receive() => message,
            _ = ticks.tick() => {
                worker.peak_bytes();
                continue;
            }
        };
        messages += 1;
        if messages > MESSAGES_MAX {
            return Ended::Lost(Lost::Protocol(format!("more than {MESSAGES_MAX} messages")));
        }
        match message {
            Ok(FromWorker::Planned { limit_bytes, peak_bytes, pixels_total, .. }) => {
                let peak_bytes = peak_bytes.min(job.limit_bytes);
                job.limit_bytes = limit_bytes.min(job.limit_bytes);
                return Ended::Planned(peak_bytes, pixels_total);
            }
            Ok(FromWorker::Progress { stage, fraction }) => {
                let stage = clean(&stage, STAGE_LETTERS_MAX);
                let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
                on_progress(&stage, fraction);
                job.stage = Some(stage);
            }
            Ok(FromWorker::Done(done)) => return Ended::Answer(Verdict::Done(done)),
            Ok(FromWorker::Refused { stage, refusal }) => {
                let stage = clean(&stage, STAGE_LETTERS_MAX);
                return Ended::Answer(Verdict::Refused { stage, refusal: clean_refusal(refusal) });
            }
            Ok(FromWorker::Fault { stage, detail }) => {
                let stage = clean(&stage, STAGE_LETTERS_MAX);
                return Ended::Answer(Verdict::Fault { stage, detail: clean(&detail, TEXT_LETTERS_MAX) });
            }
            Ok(FromWorker::Hello(_)) => return Ended::Lost(Lost::Protocol("a second hello".to_owned())),
            Err(lost) => return Ended::Lost(lost),
        }
    }
}

/// What is known of the job that runs.
struct Job {
    stage: Option<String>,
    limit_bytes: u64,
    deadline: Duration,
}

impl Job {
    fn deadline(self, exit: Exit, peak_bytes: Option<u64>) -> Crash {
        let seconds = self.deadline.as_secs_f64();
        Crash {
            code: "deadline".to_owned(),
            detail: format!("the worker had not finished after {seconds} s{}", self.place()),
            limit: Some(format!("{seconds} s")),
            signal: exit.signal,
            peak_bytes,
            stage: self.stage,
        }
    }

    fn lost(self, lost: Lost, killed: Exit, peak_bytes: Option<u64>) -> Crash {
        let place = self.place();
        let (code, detail, exit) = match lost {
            Lost::Ended(exit) => ("crashed", ending(&exit, &place), exit),
            Lost::Protocol(what) | Lost::Engine(what) => {
                let what = clean(&what, TEXT_LETTERS_MAX);
                ("protocol", format!("the worker broke the protocol{place}: {what}"), killed)
            }
        };
        let limit = match (exit.out_of_memory, exit.signal.as_deref()) {
            (true, _) => Some(format!("{} bytes of memory", self.limit_bytes)),
            (false, Some("SIGXFSZ")) => Some("length of a file".to_owned()),
            (false, _) => None,
        };
        Crash { code: code.to_owned(), detail, stage: self.stage, signal: exit.signal, peak_bytes, limit }
    }

    fn place(&self) -> String {
        self.stage.as_deref().map_or_else(String::new, |stage| format!(" in stage {stage}"))
    }
}

fn ending(exit: &Exit, place: &str) -> String {
    let how = match (exit.out_of_memory, &exit.signal, exit.code) {
        (true, _, _) => "ran out of memory".to_owned(),
        (false, Some(signal), _) => format!("was ended by {signal}"),
        (false, None, Some(code)) => format!("exited with code {code}"),
        (false, None, None) => "vanished".to_owned(),
    };
    format!("the worker {how}{place}")
}

fn clean_refusal(refusal: Refusal) -> Refusal {
    let cleaned = |text: Option<String>| text.map(|text| clean(&text, TEXT_LETTERS_MAX));
    Refusal {
        code: refusal.code,
        detail: clean(&refusal.detail, TEXT_LETTERS_MAX),
        limit: cleaned(refusal.limit),
        measured: cleaned(refusal.measured),
        remedy: cleaned(refusal.remedy),
    }
}

/// Without control characters, and no longer than `letters_max`.
fn clean(text: &str, letters_max: usize) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(letters_max).collect()
}
