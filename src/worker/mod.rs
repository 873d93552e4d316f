//! The program inside a slot: loads the network, locks itself in, then works on one image at a time.
//!
//! Its standard input and output carry the frames of [`crate::pipeline::wire`] and logs go to standard error; in a
//! container both go through the slot's socket. It reads no byte of an image before it is locked in, and ends when its
//! channel closes, when its parent dies, or when it panics.

#[cfg(feature = "fault-points")]
mod acting;
mod dial;
mod memory;
#[cfg(feature = "fault-points")]
mod probing;
mod sandbox;
mod seccomp;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::pipeline::engine::locate::{self, Located};
use crate::pipeline::engine::{Engine, EngineError, Reporter};
use crate::pipeline::wire::{self, FromWorker, Hello, PROTOCOL, Run, ToWorker};
use memory::Memory;
use sandbox::Bounds;

/// Progress of one stage is sent at most this often: a page that watches cannot show more.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The command line of `inkpool worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// Directory that holds `in/` and `out/`.
    #[arg(long)]
    pub slot_dir: PathBuf,
    /// The network, ONNX. Without it, and the two that belong to it, they are looked for beside the program.
    #[arg(long, requires = "model_sha256", requires = "onnxruntime")]
    pub model: Option<PathBuf>,
    /// SHA-256 of the network, hex.
    #[arg(long)]
    pub model_sha256: Option<String>,
    /// The library of ONNX Runtime.
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
    /// The library of PDFium; without it no PDF is read.
    #[arg(long, requires = "model")]
    pub pdfium: Option<PathBuf>,
    /// Socket of the slot, in a container; otherwise standard input and output are the channel.
    #[arg(long, requires = "token")]
    pub connect: Option<PathBuf>,
    /// What the slot knows this worker by.
    #[arg(long)]
    pub token: Option<String>,
    /// Memory of this process at most, bytes.
    #[arg(long)]
    pub memory_bytes_max: u64,
    /// Open files at most.
    #[arg(long)]
    pub open_files_max: u64,
    /// Length of a file it writes at most, bytes.
    #[arg(long)]
    pub file_bytes_max: u64,
    /// Load no network: no job will ask for it.
    #[arg(long)]
    pub without_network: bool,
}

/// Runs the worker until its input closes. The exit code is 0 then, and 1 when it could not start.
#[must_use]
pub fn main(args: &WorkerArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Standard error is the worker's log: the slot reads it line by line.
#[expect(clippy::print_stderr, reason = "standard error is the worker's log")]
fn report(error: &anyhow::Error) {
    eprintln!("worker: {error:#}");
}

/// Both directions of the channel.
struct Ends {
    orders: Box<dyn Read>,
    answers: File,
}

fn serve(args: &WorkerArgs) -> anyhow::Result<()> {
    sandbox::die_with_parent()?;
    let ends = take_channel(args)?;
    end_on_panic();
    let located = located(args)?;
    let engine = if args.without_network {
        Engine::load_without_network(&located.model, &located.model_sha256)?
    } else {
        Engine::load(&located.model, &located.model_sha256, &located.onnxruntime)?
    };
    let engine = match &located.pdfium {
        Some(pdfium) => engine.with_pdf(pdfium)?,
        None => engine,
    };
    let memory = Memory::open(args.memory_bytes_max)?;
    let bounds = Bounds {
        memory_bytes_max: args.memory_bytes_max,
        open_files_max: args.open_files_max,
        file_bytes_max: args.file_bytes_max,
    };
    let place = sandbox::lock_down(&args.slot_dir, bounds)?;
    let Ends { orders, answers: mut channel } = ends;
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model_sha256: located.model_sha256,
        isolation: place.isolation.clone(),
    };
    wire::write_frame(&mut channel, &FromWorker::Hello(hello))?;
    let mut worker = Worker { engine, memory, orders, channel, input: place.input, output: place.output };
    while let Some(ToWorker::Run(run)) = wire::read_frame(&mut worker.orders)? {
        worker.work(*run)?;
    }
    Ok(())
}

fn located(args: &WorkerArgs) -> anyhow::Result<Located> {
    match (&args.model, &args.model_sha256, &args.onnxruntime) {
        (Some(model), Some(digest), Some(library)) => {
            let (model, model_sha256, onnxruntime) = (model.clone(), digest.clone(), library.clone());
            Ok(Located { model, model_sha256, onnxruntime, pdfium: args.pdfium.clone() })
        }
        _ => Ok(locate::find("", "", "")?),
    }
}

/// Takes standard output for the frames, and points descriptor 1 at standard error, so that no library can ever write
/// between two frames; in a container connects to the slot instead. Closes whatever else was inherited.
fn take_channel(args: &WorkerArgs) -> anyhow::Result<Ends> {
    let inherited: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in inherited {
        // One of them was the listing itself, which is closed by now.
        let _ = nix::unistd::close(descriptor);
    }
    if let (Some(socket), Some(token)) = (&args.connect, &args.token) {
        return dial::dial(socket, token);
    }
    let answers = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(Ends { orders: Box::new(io::stdin().lock()), answers: File::from(answers) })
}

/// A panic is a crash of the worker, whatever thread it happens in: the engine's state cannot be trusted afterwards.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

struct Worker {
    engine: Engine,
    memory: Memory,
    orders: Box<dyn Read>,
    channel: File,
    input: PathBuf,
    output: PathBuf,
}

impl Worker {
    fn work(&mut self, mut run: Run) -> anyhow::Result<()> {
        run.limits.memory_bytes_max = run.limits.memory_bytes_max.min(self.memory.available());
        let answer = self.answer(&run);
        self.memory.release()?;
        wire::write_frame(&mut self.channel, &answer?)?;
        Ok(())
    }

    #[cfg(not(feature = "fault-points"))]
    fn answer(&mut self, run: &Run) -> anyhow::Result<FromWorker> {
        self.run(run)
    }

    #[cfg(feature = "fault-points")]
    fn answer(&mut self, run: &Run) -> anyhow::Result<FromWorker> {
        let act = acting::wanted(&self.input.join(&run.input))?;
        let Some(act) = act else { return self.run(run) };
        acting::before(act, &mut self.channel, &self.output)?;
        if act == acting::Act::Probe {
            let told = probing::probe(&self.input);
            // Longer than what a slot takes of a text.
            std::fs::write(self.output.join("probe.json"), &told)?;
            return Ok(FromWorker::Fault { stage: "probe".to_owned(), detail: told });
        }
        let mut answer = self.run(run)?;
        acting::after(act, &mut answer, &self.output);
        Ok(answer)
    }

    fn run(&mut self, run: &Run) -> anyhow::Result<FromWorker> {
        let mut reporter = Frames::new(&mut self.orders, &mut self.channel, &mut self.memory);
        let result = self.engine.run(run, &self.input, &self.output, &mut reporter);
        if let Some(error) = reporter.failed {
            return Err(error);
        }
        Ok(match result {
            Ok(done) => FromWorker::Done(Box::new(done)),
            Err(EngineError::Refused { stage, refusal }) => FromWorker::Refused { stage: stage.to_owned(), refusal },
            Err(EngineError::Fault { stage, detail }) => FromWorker::Fault { stage: stage.to_owned(), detail },
        })
    }
}

/// Turns what the engine reports into frames.
struct Frames<'a> {
    orders: &'a mut dyn Read,
    channel: &'a mut File,
    memory: &'a mut Memory,
    last: Option<(&'static str, Instant)>,
    failed: Option<anyhow::Error>,
}

impl<'a> Frames<'a> {
    fn new(orders: &'a mut dyn Read, channel: &'a mut File, memory: &'a mut Memory) -> Self {
        Self { orders, channel, memory, last: None, failed: None }
    }

    /// Waits until the slot has reserved what the plan asks for.
    fn wait(&mut self) {
        match wire::read_frame(&mut self.orders) {
            Ok(Some(ToWorker::Go)) => {}
            Ok(Some(ToWorker::Run(_)) | None) | Err(_) => {
                // Nobody may be left to tell; a job that was not let go on must not.
                std::process::exit(1);
            }
        }
    }

    fn send(&mut self, message: &FromWorker) {
        if let Err(error) = wire::write_frame(self.channel, message) {
            self.failed.get_or_insert(error.into());
        }
    }
}

impl Reporter for Frames<'_> {
    fn planned(&mut self, peak_bytes: u64, pixels_total: u64, pages: u32) {
        match self.memory.limit(peak_bytes) {
            Ok(limit_bytes) => {
                self.send(&FromWorker::Planned { peak_bytes, limit_bytes, pixels_total, pages });
                self.wait();
            }
            Err(error) => {
                self.failed.get_or_insert(error.into());
            }
        }
    }

    fn progress(&mut self, stage: &'static str, fraction: f32) {
        let now = Instant::now();
        let soon = |(last, at): (&str, Instant)| last == stage && now.duration_since(at) < PROGRESS_EVERY;
        if self.last.is_some_and(soon) {
            return;
        }
        self.last = Some((stage, now));
        self.send(&FromWorker::Progress { stage: stage.to_owned(), fraction });
    }
}
