//! Feeds a real worker, in its sandbox, what is made to break it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::inputs::{self, Hostile};
use super::{Finding, Report};
use crate::app;
use crate::cli::place::Room;
use crate::config::{Config, Runtime};
use crate::containers::session::{Verdict, execute};
use crate::containers::slot_dir::SlotDir;
use crate::containers::{SlotId, SlotRuntime, StartOrder, Worker};
use crate::pipeline::spec::{Presets, Spec};
use crate::pipeline::wire::{Run, RunLimits};

/// Each of the inputs is small, or refused by its header.
const DEADLINE: Duration = Duration::from_secs(60);
/// Name of the input below `in/`.
const INPUT: &str = "input";

/// A slot that is no server's.
pub struct Bench {
    config: Config,
    runtime: Arc<dyn SlotRuntime>,
    slots: PathBuf,
    slot: SlotDir,
    /// Where the slot lies, unless a container engine must find it.
    _room: Option<Room>,
}

impl Bench {
    /// Makes the slot.
    pub async fn set_up(config: &Config) -> anyhow::Result<Self> {
        let mut config = config.clone();
        let mut room = None;
        if config.slots.runtime == Runtime::Process {
            let made = room.insert(Room::create("inkpool-doctor").context("a directory for temporary files")?);
            config.data.clone_from(&made.0);
        }
        // A name of its own keeps it apart from the slots and containers of a server beside it.
        let name = format!("doctor-{}", uuid::Uuid::new_v4().simple());
        let program = std::env::current_exe().context("the path of this program")?;
        let runtime = app::slot_runtime(&config, &name, program).await?;
        let slots = config.slots_directory().join(&name);
        let slot = SlotDir::new(&slots, 0).for_other_user(runtime.is_other_user());
        let bench = Self { config, runtime, slots, slot, _room: room };
        bench.slot.prepare().context("a slot directory")?;
        Ok(bench)
    }

    /// Starts its worker.
    pub async fn start(&self) -> anyhow::Result<Box<dyn Worker>> {
        let slots = &self.config.slots;
        let order = StartOrder {
            id: SlotId { slot: 0, generation: 1 },
            directory: self.slot.path().to_owned(),
            start_timeout: Duration::from_secs(slots.start_timeout_s),
            memory_bytes_max: slots.memory_bytes_max,
            open_files_max: slots.open_files_max,
            file_bytes_max: slots.memory_bytes_max,
        };
        Ok(self.runtime.start(order).await?)
    }

    /// Has the worker take one image.
    async fn run(&self, worker: &mut dyn Worker, bytes: &[u8], spec: &Spec) -> anyhow::Result<(Verdict, bool)> {
        self.slot.prepare()?;
        self.slot.create_input(INPUT)?.write_all(bytes)?;
        self.slot.show_input(INPUT)?;
        let limits = &self.config.limits;
        let run = Run {
            job: "doctor".to_owned(),
            spec: spec.clone(),
            input: INPUT.to_owned(),
            input_sha256: hex::encode(Sha256::digest(bytes)),
            limits: RunLimits {
                pixels_max: limits.page_pixels_max,
                side_px_max: limits.side_px_max,
                pages_max: limits.pages_max,
                memory_bytes_max: self.config.slots.memory_bytes_max,
            },
        };
        let session = execute(worker, run, DEADLINE, CancellationToken::new(), |_, _| {}).await;
        Ok((session.verdict, session.reusable))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The worker is gone by now; what is above may be a server's.
        let _ = self.slot.remove();
        let _ = std::fs::remove_dir(&self.slots);
    }
}

/// All inputs, an item for each, and a good page at the end.
pub async fn feed(config: &Config, report: &mut Report) {
    let began = Instant::now();
    if let Err(error) = try_feed(config, report).await {
        report.tell("hostile images", Finding::error(&error, "Mend what failed above first."), began);
    }
}

async fn try_feed(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    let spec = Presets::builtin()?.resolve("", &std::collections::BTreeMap::new())?;
    let bench = Bench::set_up(config).await?;
    let mut worker = bench.start().await?;
    for hostile in inputs::all() {
        let began = Instant::now();
        let (verdict, reusable) = bench.run(worker.as_mut(), &hostile.bytes, &spec).await?;
        report.tell(hostile.name, judge(&hostile, &verdict), began);
        if !reusable {
            worker = bench.start().await?;
        }
    }
    let began = Instant::now();
    let (verdict, _) = bench.run(worker.as_mut(), &inputs::good(), &spec).await?;
    let finding = if let Verdict::Done(done) = &verdict {
        Finding::pass(format!("{} files from the same worker", done.files.len()))
    } else {
        Finding::fail(format!("{verdict:?}"), "The worker was harmed by what came before.")
    };
    report.tell("a good page after all that", finding, began);
    worker.kill().await;
    Ok(())
}

fn judge(hostile: &Hostile, verdict: &Verdict) -> Finding {
    match verdict {
        Verdict::Refused { stage, refusal } => Finding::pass(format!("refused ({stage}): {}", refusal.detail)),
        Verdict::Done(_) if hostile.may_pass => Finding::pass("processed, within its limits"),
        Verdict::Done(_) => Finding::fail("processed", "It should have been refused: please report it."),
        Verdict::Fault { detail, .. } => Finding::fail(format!("a fault: {detail}"), "Please report it."),
        Verdict::Lost(crash) => Finding::fail(
            format!("the worker was lost: {}", crash.detail),
            "The server lives through this and fails the job, but please report it.",
        ),
        Verdict::Interrupted(why) => Finding::fail(why.clone(), "See the container engine."),
        Verdict::Cancelled => Finding::fail("cancelled", "Run it again."),
    }
}
