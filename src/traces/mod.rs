//! Traces for OpenTelemetry: what became of a job from its upload to its files, as spans. Off unless an endpoint is set.
//!
//! 1. A job is a trace, and its id is the trace's. So nothing needs to be handed from node to node: whoever works on a job
//!    knows its trace, and who has the id of a job finds it. Spans that others hang below (the upload, each start) have ids
//!    that are made of the job's as well.
//! 2. Recording never waits and never fails: what finds the queue full is dropped and counted.
//! 3. Every node decides alike, by the job's id, whether a job is among the sampled.

mod export;
mod otlp;

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::config::Traces;
use crate::job::JobId;

/// Whole shares of a sample.
const SHARES: f64 = 1_000_000.0;

/// What is told of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A figure.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    job: JobId,
    id: u64,
    parent: Option<u64>,
    name: Cow<'static, str>,
    /// Nanoseconds since 1970.
    begin_ns: u64,
    end_ns: u64,
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

/// A moment: by the wall clock, which nodes share, and by the steady one, which durations need.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall_ns: u64,
    steady: Instant,
}

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), steady: Instant::now() }
    }

    fn passed_ns(self) -> u64 {
        u64::try_from(self.steady.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Where spans go.
struct Recorder {
    queue: mpsc::Sender<Told>,
    sample: f64,
}

/// What the exporting task is told.
enum Told {
    Span(Box<Ended>),
    /// Send what there is, and say when that is done.
    Flush(oneshot::Sender<()>),
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Starts the export of this process; nothing without an endpoint. A second server in one process (tests) keeps the first.
///
/// # Errors
/// In words, when there can be no HTTP client.
pub fn start(settings: &Traces, node: &str) -> Result<(), String> {
    if settings.endpoint.is_empty() || RECORDER.get().is_some() {
        return Ok(());
    }
    let (queue, spans) = mpsc::channel(settings.queue_max.max(1));
    let exporter = export::Exporter::new(settings, node)?;
    if RECORDER.set(Recorder { queue, sample: settings.sample }).is_ok() {
        tokio::spawn(exporter.run(spans));
    }
    Ok(())
}

/// Sends what was recorded so far, as far as it goes within the exporter's bounds.
pub async fn flush() {
    if let Some(recorder) = RECORDER.get() {
        let (done, wait) = oneshot::channel();
        if recorder.queue.send(Told::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Whether a share of all jobs has this one.
fn is_sampled(job: JobId, sample: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a millionth is fine enough")]
    let share = (hash(job, "sample", 0) % 1_000_000) as f64;
    share < sample * SHARES
}

fn hash(job: JobId, what: &str, number: u32) -> u64 {
    let digest = Sha256::new().chain_update(job.0.as_bytes()).chain_update(what).chain_update(number.to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    // An id of a span is never 0.
    digest.iter().take(8).fold(0u64, |id, byte| (id << 8) | u64::from(*byte)).max(1)
}

/// Id of the span with which a job begins: its upload.
#[must_use]
pub fn root(job: JobId) -> u64 {
    hash(job, "upload", 0)
}

/// Id of the span of one start.
#[must_use]
pub fn attempt(job: JobId, start: u32) -> u64 {
    hash(job, "attempt", start)
}

/// A span on its way; it ends, and is recorded, when it is dropped. Nothing at all while traces are off.
#[must_use = "a span lasts as long as the value"]
pub struct Span(Option<Open>);

struct Open {
    recorder: &'static Recorder,
    begun: Moment,
    span: Box<Ended>,
}

impl Span {
    /// Begins now, below the span `parent`.
    pub fn begin(job: JobId, parent: u64, name: &'static str) -> Self {
        Self::since(Moment::now(), job, Some(parent), name)
    }

    /// Begun at `moment`.
    pub fn since(begun: Moment, job: JobId, parent: Option<u64>, name: &'static str) -> Self {
        let Some(recorder) = RECORDER.get().filter(|recorder| is_sampled(job, recorder.sample)) else {
            return Self(None);
        };
        let span = Ended {
            job,
            id: rand::random::<u64>().max(1),
            parent,
            name: Cow::Borrowed(name),
            begin_ns: begun.wall_ns,
            end_ns: 0,
            attributes: Vec::new(),
            error: None,
        };
        Self(Some(Open { recorder, begun, span: Box::new(span) }))
    }

    /// With an id that others know, see [`root`] and [`attempt`].
    pub fn with_id(mut self, id: u64) -> Self {
        if let Some(open) = &mut self.0 {
            open.span.id = id;
        }
        self
    }

    /// Its id; 0 while traces are off.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.span.id)
    }

    /// Says something of it.
    pub fn tell(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.span.attributes.push((name, value.into()));
        }
    }

    /// It went wrong.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(open) = &mut self.0 {
            open.span.error = Some(why.into());
        }
    }

    /// It never was.
    pub fn forget(mut self) {
        self.0 = None;
    }

    /// A span within it that somebody else has measured, `begin_us` after the beginning of this one and `spent_us` long
    /// (microseconds); cut to what has passed.
    pub fn within(&self, name: String, begin_us: u64, spent_us: u64) {
        const MICROSECOND_NS: u64 = 1000;
        let Some(open) = &self.0 else { return };
        let (begin_ns, spent_ns) = (begin_us.saturating_mul(MICROSECOND_NS), spent_us.saturating_mul(MICROSECOND_NS));
        let passed_ns = open.begun.passed_ns();
        let begin = begin_ns.min(passed_ns);
        let end = begin.saturating_add(spent_ns).min(passed_ns);
        let span = Ended {
            job: open.span.job,
            id: rand::random::<u64>().max(1),
            parent: Some(open.span.id),
            name: Cow::Owned(name),
            begin_ns: open.span.begin_ns.saturating_add(begin),
            end_ns: open.span.begin_ns.saturating_add(end),
            attributes: Vec::new(),
            error: None,
        };
        open.recorder.record(span);
    }

    /// One that began at a time of the ledger, milliseconds since 1970, and ends now: a wait that nobody sat through.
    pub fn waited(job: JobId, parent: u64, name: &'static str, since_ms: i64) {
        let mut span = Self::begin(job, parent, name);
        if let Some(open) = &mut span.0 {
            let since_ns = u64::try_from(since_ms).unwrap_or(0).saturating_mul(1_000_000);
            open.span.begin_ns = since_ns.min(open.begun.wall_ns);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Open { recorder, begun, mut span }) = self.0.take() {
            span.end_ns = begun.wall_ns.saturating_add(begun.passed_ns()).max(span.begin_ns);
            recorder.record(*span);
        }
    }
}

impl Recorder {
    fn record(&self, span: Ended) {
        if self.queue.try_send(Told::Span(Box::new(span))).is_err() {
            export::count_dropped(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_job() {
        let (one, other) = (JobId::fresh(), JobId::fresh());
        assert_eq!(root(one), root(one));
        assert_ne!(root(one), root(other));
        assert_ne!(attempt(one, 1), attempt(one, 2));
        assert_ne!(attempt(one, 1), root(one));
    }

    #[test]
    fn a_sample_is_a_share_of_all_jobs() {
        let sampled = (0..10_000).filter(|_| is_sampled(JobId::fresh(), 0.25)).count();
        assert!((2_200..2_800).contains(&sampled), "{sampled}");
        let job = JobId::fresh();
        assert!(is_sampled(job, 1.0) && !is_sampled(job, 0.0));
    }

    #[test]
    fn without_an_endpoint_nothing_is_kept() {
        let mut span = Span::begin(JobId::fresh(), 1, "stage");
        span.tell("bytes", 3u64);
        assert_eq!(span.id(), 0);
    }
}
