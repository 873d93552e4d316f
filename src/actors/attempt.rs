//! One attempt at one job: stage → execute → publish → finish → ack. Runs beside the slot's mailbox.
//!
//! 1. Whatever happens, the attempt ends in exactly one [`Finish`] for its start, or in none when the ledger is out of
//!    reach for longer than the bound; then the job is rescued by whoever starts next.
//! 2. Outputs are durable before the finish is written. Outputs of a start that did not win are removed.
//! 3. The delivery is kept in progress all the while, and acknowledged after the finish is committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::{Deps, effect, elsewhere, room};
use crate::blobs::{BlobError, Key, Prefix, Written};
use crate::bus::Delivery;
use crate::cluster::{Progress, SlotState};
use crate::containers::collect::{self, Collected, OutputLimits};
use crate::containers::session::{self, Bounds, Verdict};
use crate::containers::{Worker, slot_dir::SlotDir};
use crate::job::{Crash, JobError, Outcome, State, retry};
use crate::pipeline::spec::Spec;
use crate::pipeline::wire::{Done, OutFile, Run, RunLimits};
use crate::store::{Finish, Finished, ImageRow, JobRow, Measured, NewFile};
use crate::traces::{self, Span};

/// Name of the input below `in/`.
const INPUT: &str = "input";
/// The finish is tried this often while the ledger is out of reach, with [`FINISH_WAIT`] between.
const FINISH_TRIES_MAX: u32 = 30;
const FINISH_WAIT: Duration = Duration::from_secs(1);
/// Progress is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(150);

/// A claimed job on its way to a slot.
#[derive(Debug)]
pub struct Assignment {
    /// After the claim: `starts` is the fence.
    pub job: JobRow,
    /// Its image.
    pub image: ImageRow,
    /// To acknowledge.
    pub delivery: Delivery,
}

/// How a running attempt is told to stop.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    token: CancellationToken,
    hand_back: Arc<AtomicBool>,
}

impl StopSignal {
    /// The owner asked.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// The node drains: the attempt is not spent.
    pub fn hand_back(&self) {
        self.hand_back.store(true, Ordering::SeqCst);
        self.token.cancel();
    }
}

/// What the attempt works with.
pub struct Context {
    /// Of the node.
    pub deps: Arc<Deps>,
    /// The slot's directory.
    pub dir: SlotDir,
    /// Tells the slot which step was reached.
    pub on_step: Box<dyn Fn(SlotState) + Send + Sync>,
    /// To stop it.
    pub stop: StopSignal,
}

/// What the slot gets back.
pub struct Report {
    /// The worker, if it can be used again.
    pub worker: Option<Box<dyn Worker>>,
    /// The job's state after the attempt, if it was still ours.
    pub state: Option<State>,
}

struct Output {
    files: Vec<NewFile>,
    measured: Measured,
    gate: Option<serde_json::Value>,
}

/// Carries out one attempt. `fresh` says that the worker has not done a job yet.
pub async fn run(context: Context, assignment: Assignment, mut worker: Box<dyn Worker>, fresh: bool) -> Report {
    let Assignment { job, image, delivery } = assignment;
    let delivery = Arc::new(delivery);
    let parent = traces::attempt(job.id, job.starts);
    let mut span = Span::begin(job.id, traces::root(job.id), "attempt").with_id(parent);
    span.tell("inkpool.start", job.starts);
    span.tell("inkpool.preset", job.preset.as_str());
    let keep_alive = keep_in_progress(&context.deps, delivery.clone());
    let (outcome, reusable) = attempt(&context, &job, &image, worker.as_mut(), fresh).await;
    let worker = if reusable {
        Some(worker)
    } else {
        worker.kill().await;
        None
    };
    let succeeded = matches!(outcome, Outcome::Succeeded(_));
    let finishing = Span::begin(job.id, parent, "finish");
    let state = finish(&context.deps, &job, outcome).await;
    drop(finishing);
    span.tell("inkpool.state", state.map_or("stale", State::as_str));
    drop(span);
    crate::fault::hit("finished");
    if !succeeded || state.is_none() {
        remove_outputs(&context.deps, &job).await;
    }
    if let Err(error) = context.dir.clear() {
        tracing::warn!(%error, "the slot directory could not be emptied; the next job starts with a new one");
    }
    keep_alive.abort();
    if let Err(error) = delivery.acker.ack().await {
        tracing::debug!(job = %job.id, %error, "the delivery was no longer ours; the claim fences it");
    }
    Report { worker, state }
}

fn keep_in_progress(deps: &Deps, delivery: Arc<Delivery>) -> tokio::task::JoinHandle<()> {
    let every = Duration::from_secs(deps.config.bus.in_progress_every_s);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = delivery.acker.in_progress().await {
                tracing::debug!(%error, "a running delivery is no longer ours");
            }
        }
    })
}

async fn attempt(
    context: &Context,
    job: &JobRow,
    image: &ImageRow,
    worker: &mut dyn Worker,
    fresh: bool,
) -> (Outcome<Output>, bool) {
    (context.on_step)(SlotState::Staging);
    let staging = Span::begin(job.id, traces::attempt(job.id, job.starts), "stage");
    let run = match stage(context, job, image).await {
        Ok(run) => run,
        Err(outcome) => return (outcome, true),
    };
    drop(staging);
    let order = run.clone();
    crate::fault::hit("staged");
    (context.on_step)(SlotState::Executing);
    let pixels = image
        .width_px
        .zip(image.height_px)
        .map(|(width, height)| u64::from(width) * u64::from(height) * u64::from(image.pages_count.unwrap_or(1)));
    let deadline = context.deps.config.deadline(pixels);
    let mut progress = ProgressRelay::new(context.deps.clone(), job);
    let per_megapixel = Duration::from_secs(context.deps.config.jobs.deadline_per_megapixel_s);
    let bounds = Bounds { deadline, per_megapixel, memory: Some(context.deps.memory.clone()) };
    let mut working = Span::begin(job.id, traces::attempt(job.id, job.starts), "worker");
    let session = session::execute(worker, run, bounds, context.stop.token.clone(), |stage, fraction| {
        progress.report(stage, fraction);
    })
    .await;
    crate::fault::hit("executed");
    trace(&mut working, &session.verdict);
    drop(working);
    let reusable = session.reusable;
    let outcome = match session.verdict {
        Verdict::Done(done) => {
            (context.on_step)(SlotState::Publishing);
            return publish(context, job, &order, *done, reusable).await;
        }
        Verdict::Refused { stage, refusal } => {
            metrics::counter!("inkpool_refusals_total", "code" => refusal.code.as_str()).increment(1);
            elsewhere::refused(&context.deps, refusal, &stage).await
        }
        Verdict::Fault { stage, detail } => match room::shortage(&context.deps.config) {
            // A disk that is full is no fault of the job.
            Some(shortage) => Outcome::HandedBack(shortage),
            None => Outcome::Retryable(JobError::new("worker_fault", detail, Some(&stage), true)),
        },
        Verdict::Lost(crash) if !fresh && crash.stage.is_none() && crash.code == "crashed" => {
            Outcome::HandedBack("the idle worker had died before the job began".to_owned())
        }
        Verdict::Lost(crash) => Outcome::Lost(crash),
        Verdict::Interrupted(why) => Outcome::HandedBack(why),
        Verdict::Cancelled => stopped(context),
    };
    (outcome, reusable)
}

/// The stages as the worker has timed them, and how it ended.
fn trace(span: &mut Span, verdict: &Verdict) {
    const STAGES_MAX: usize = 32;
    const LETTERS_MAX: usize = 32;
    match verdict {
        Verdict::Done(done) => {
            for (stage, begin_us, spent_us) in done.stages.iter().take(STAGES_MAX) {
                let stage: String = stage.chars().filter(|letter| !letter.is_control()).take(LETTERS_MAX).collect();
                span.within(format!("worker {stage}"), *begin_us, *spent_us);
            }
        }
        Verdict::Refused { refusal, .. } => span.fail(refusal.detail.as_str()),
        Verdict::Fault { detail, .. } => span.fail(detail.as_str()),
        Verdict::Lost(crash) => span.fail(crash.detail.as_str()),
        Verdict::Interrupted(why) => span.fail(why.as_str()),
        Verdict::Cancelled => span.fail("cancelled"),
    }
}

fn stopped(context: &Context) -> Outcome<Output> {
    if context.stop.hand_back.load(Ordering::SeqCst) {
        Outcome::HandedBack("the node drains".to_owned())
    } else {
        Outcome::Cancelled
    }
}

async fn stage(context: &Context, job: &JobRow, image: &ImageRow) -> Result<Run, Outcome<Output>> {
    let spec: Spec = serde_json::from_value(job.spec.clone()).map_err(|error| {
        Outcome::Permanent(JobError::new("bad_spec", format!("the stored spec cannot be read: {error}"), None, false))
    })?;
    let back = |error: &dyn std::fmt::Display| Outcome::HandedBack(error.to_string());
    context.dir.prepare().map_err(|error| back(&error))?;
    let path: PathBuf = context.dir.input(INPUT);
    let copied = context.deps.blobs.copy_to_file(&Key::Original(image.id), &path, &image.sha256).await;
    match copied {
        Ok(_) => context.dir.show_input(INPUT).map_err(|error| back(&error))?,
        Err(BlobError::NotFound) => {
            let error = JobError::new("original_missing", "the uploaded bytes are no longer there", None, false);
            return Err(Outcome::Permanent(error));
        }
        Err(BlobError::Mismatch(why)) => {
            let detail = format!("the stored upload is damaged: {why}");
            return Err(Outcome::Permanent(JobError::new("original_damaged", detail, None, false)));
        }
        Err(error) => return Err(back(&error)),
    }
    let config = &context.deps.config;
    let limits = RunLimits {
        pixels_max: config.limits.page_pixels_max,
        side_px_max: config.limits.side_px_max,
        pages_max: config.limits.pages_max,
        memory_bytes_max: config.slots.memory_bytes_max.min(context.deps.memory.total_bytes()),
    };
    let input_sha256 = image.sha256.clone();
    Ok(Run { job: job.id.to_string(), spec, input: INPUT.to_owned(), input_sha256, limits })
}

async fn publish(context: &Context, job: &JobRow, order: &Run, done: Done, reusable: bool) -> (Outcome<Output>, bool) {
    let _publishing = Span::begin(job.id, traces::attempt(job.id, job.starts), "publish");
    for (stage, spent) in &done.timings_ms {
        record_stage(stage, Duration::from_millis(*spent));
    }
    let began = Instant::now();
    let measured = Measured { width_px: done.width_px, height_px: done.height_px, pages_count: done.pages_count };
    let gate = done.gate.clone().map(|mut report| {
        report.cut(order.limits.pages_max);
        report
    });
    let gate = gate.and_then(|report| serde_json::to_value(report).ok());
    let collected = match check(context, order, done).await {
        Ok(collected) => collected,
        // What the worker left is not what it announced: nothing it says is believed, and it is not used again.
        Err(crash) => return (Outcome::Lost(crash), false),
    };
    let puts = collected.into_iter().map(|file| put(context, job, file, reusable));
    let puts = stream::iter(puts).buffered(context.deps.config.blobs.puts_max);
    let files = match puts.try_collect().await {
        Ok(files) => files,
        Err(failed) => return failed,
    };
    record_stage("publish", began.elapsed());
    crate::fault::hit("published");
    (Outcome::Succeeded(Output { files, measured, gate }), reusable)
}

/// One of the files; an error is how the attempt ends.
async fn put(
    context: &Context,
    job: &JobRow,
    Collected { facts, file }: Collected,
    reusable: bool,
) -> Result<NewFile, (Outcome<Output>, bool)> {
    if context.stop.token.is_cancelled() {
        return Err((stopped(context), reusable));
    }
    let key = Key::Output { job: job.id, start: job.starts, name: facts.name.clone() };
    let expected = Written { size_bytes: facts.size_bytes, sha256: facts.sha256.clone() };
    match context.deps.blobs.put_file(&key, tokio::fs::File::from_std(file), &expected).await {
        Ok(()) => {}
        // The worker still lives: it changed the file after it was checked.
        Err(BlobError::Mismatch(why)) => return Err((Outcome::Lost(untrusted(&why)), false)),
        Err(error) => return Err((Outcome::HandedBack(error.to_string()), reusable)),
    }
    crate::fault::hit("output-put");
    metrics::counter!("inkpool_stored_bytes_total").increment(facts.size_bytes);
    let mut file = row(facts);
    if crate::fault::told("other-hash") {
        file.sha256 = "0".repeat(64);
    }
    Ok(file)
}

async fn check(context: &Context, order: &Run, done: Done) -> Result<Vec<Collected>, Crash> {
    let (directory, spec, pages) = (context.dir.path().to_owned(), order.spec.clone(), order.limits);
    let file_bytes_max = context.deps.config.slots.memory_bytes_max;
    let limits = OutputLimits { file_bytes_max, total_bytes_max: file_bytes_max };
    let work = move || collect::collect(&directory, &spec, &done, &pages, limits);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(collected)) => Ok(collected),
        Ok(Err(crash)) => Err(*crash),
        Err(error) => Err(untrusted(&error.to_string())),
    }
}

fn untrusted(why: &str) -> Crash {
    Crash {
        code: "untrusted_output".to_owned(),
        detail: format!("the worker's output was refused: {why}"),
        stage: Some("publish".to_owned()),
        signal: None,
        peak_bytes: None,
        limit: None,
    }
}

fn row(facts: OutFile) -> NewFile {
    let OutFile { name, content_type, size_bytes, sha256, width_px, height_px } = facts;
    let pixels = |side: u32| (side > 0).then_some(side);
    NewFile { name, content_type, size_bytes, sha256, width_px: pixels(width_px), height_px: pixels(height_px) }
}

fn record_stage(stage: &str, spent: Duration) {
    metrics::histogram!("inkpool_stage_duration_seconds", "stage" => stage.to_owned()).record(spent.as_secs_f64());
}

fn to_finish(outcome: Outcome<Output>, attempt: u32) -> Finish {
    let wait = i64::try_from(retry::backoff(attempt, rand::random()).as_millis()).unwrap_or(i64::MAX);
    let run_at_ms = effect::wall_ms().saturating_add(wait);
    match outcome {
        Outcome::Succeeded(Output { files, measured, gate }) => Finish::Succeeded { files, measured, gate },
        Outcome::Retryable(error) => Finish::Retry { error, run_at_ms },
        Outcome::Permanent(error) => Finish::Failed(error),
        Outcome::Lost(crash) => Finish::Lost { crash, run_at_ms },
        Outcome::HandedBack(why) if crate::fault::told("spend-hand-back") => {
            Finish::Retry { error: JobError::new("handed_back", why, None, true), run_at_ms }
        }
        Outcome::HandedBack(_) => Finish::HandBack,
        Outcome::HandedOver(error) => Finish::HandOver(error),
        Outcome::Cancelled => Finish::Cancelled,
    }
}

/// Writes the end of the attempt; `None` when the start no longer holds the job or the ledger stayed out of reach.
async fn finish(deps: &Deps, job: &JobRow, outcome: Outcome<Output>) -> Option<State> {
    if let Outcome::HandedBack(why) = &outcome {
        tracing::info!(job = %job.id, start = job.starts, %why, "an attempt is handed back unspent");
    }
    if let Outcome::HandedOver(error) = &outcome {
        tracing::info!(job = %job.id, start = job.starts, ?error.measured, "a job is handed over to a larger node");
    }
    if let Outcome::Lost(crash) = &outcome {
        tracing::warn!(job = %job.id, start = job.starts, ?crash, "a worker was lost");
    }
    let finish = to_finish(outcome, job.attempt);
    for _ in 0..FINISH_TRIES_MAX {
        match deps.ledger.finish(job.id, job.starts, finish.clone()).await {
            Ok(Finished::Now(state)) => {
                tracing::info!(job = %job.id, attempt = job.attempt, start = job.starts, %state, "an attempt ended");
                metrics::counter!("inkpool_attempts_total", "state" => state.as_str()).increment(1);
                return Some(state);
            }
            Ok(Finished::Stale) => {
                tracing::info!(job = %job.id, start = job.starts, "the job had moved on; the attempt is dropped");
                return None;
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "the end of an attempt could not be written yet");
                tokio::time::sleep(FINISH_WAIT).await;
            }
        }
    }
    None
}

/// Those of a start that did not win. A finish whose answer was lost may have been written: the ledger is asked.
async fn remove_outputs(deps: &Deps, job: &JobRow) {
    match deps.ledger.start_known(job.id, job.starts).await {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => {
            tracing::warn!(job = %job.id, %error, "outputs of a start remain; the janitor will look at them");
            return;
        }
    }
    if let Err(error) = deps.blobs.delete_prefix(Prefix::Outputs { job: job.id, start: job.starts }).await {
        tracing::warn!(job = %job.id, %error, "outputs of a lost start remain; the janitor will remove them");
    }
}

/// Passes progress on: to the ledger's memory and to whoever watches.
struct ProgressRelay {
    deps: Arc<Deps>,
    progress: Progress,
    start: u32,
    last: Option<Instant>,
}

impl ProgressRelay {
    fn new(deps: Arc<Deps>, job: &JobRow) -> Self {
        let progress = Progress { owner: job.owner, job: job.id, stage: String::new(), progress: 0.0 };
        Self { deps, progress, start: job.starts, last: None }
    }

    fn report(&mut self, stage: &str, fraction: f32) {
        let same = self.progress.stage == stage;
        if same && self.last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        // The figure comes from the worker: it may only rise, and stays within bounds.
        let fraction =
            if fraction.is_finite() { fraction.clamp(self.progress.progress, 1.0) } else { self.progress.progress };
        stage.clone_into(&mut self.progress.stage);
        self.progress.progress = fraction;
        let _ = self.deps.progress.send(self.progress.clone());
        let (deps, progress, start) = (self.deps.clone(), self.progress.clone(), self.start);
        tokio::spawn(async move {
            let noted = deps.ledger.note_progress(progress.job, start, &progress.stage, progress.progress).await;
            if let Err(error) = noted {
                tracing::debug!(%error, "progress was not noted");
            }
        });
    }
}
