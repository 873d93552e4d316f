//! Slots as sandboxed child processes: the runtime where there is no container engine.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channel::{Broken, Channel, check_hello};
use super::procfs::{self, Identity};
use super::spawner::Spawner;
use super::stderr::{self, Log};
use super::{Exit, Lost, RuntimeError, SlotRuntime, StartOrder, Worker};
use crate::pipeline::wire::{FromWorker, Hello, Isolation, ToWorker};

/// A killed process is gone within this time, unless the kernel waits for a device.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);
/// A worker that closed its channel ends within this time, or is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// What a dead worker has written is read within this time.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// What the runtime needs to know.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// The program to run as `worker`: usually this one.
    pub program: PathBuf,
    /// `<data>/slots/<node>`: holds a directory for each slot.
    pub slots: PathBuf,
    /// The network.
    pub model: PathBuf,
    /// Its SHA-256, hex.
    pub model_sha256: String,
    /// The library of ONNX Runtime.
    pub onnxruntime: PathBuf,
    /// The library of PDFium, if PDF shall be read.
    pub pdfium: Option<PathBuf>,
    /// Whether jobs may ask for the network. Workers that load none start sooner and take less memory.
    pub network: bool,
}

/// Starts workers as child processes. Dropping it kills those that are left.
#[derive(Debug)]
pub struct ProcessRuntime {
    settings: ProcessSettings,
    spawner: Spawner,
    isolation: Arc<Mutex<Option<Isolation>>>,
}

impl ProcessRuntime {
    /// A runtime; starts one thread.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] when no thread can be started.
    pub fn new(settings: ProcessSettings) -> Result<Self, RuntimeError> {
        let spawner = Spawner::start().map_err(|error| RuntimeError::Start(error.to_string()))?;
        Ok(Self { settings, spawner, isolation: Arc::default() })
    }

    /// What the last worker said is in force around it.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        self.isolation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(&self, order: &StartOrder) -> Command {
        let settings = &self.settings;
        let mut command = Command::new(&settings.program);
        command
            .arg("worker")
            .arg("--slot-dir")
            .arg(&order.directory)
            .arg("--model")
            .arg(&settings.model)
            .args(["--model-sha256", &settings.model_sha256])
            .arg("--onnxruntime")
            .arg(&settings.onnxruntime)
            .args(settings.pdfium.iter().flat_map(|pdfium| [OsStr::new("--pdfium"), pdfium.as_os_str()]))
            .args(["--memory-bytes-max", &order.memory_bytes_max.to_string()])
            .args(["--open-files-max", &order.open_files_max.to_string()])
            .args(["--file-bytes-max", &order.file_bytes_max.to_string()])
            .args((!settings.network).then_some("--without-network"))
            // Credentials and settings of the server are none of its business.
            .env_clear()
            // Otherwise ONNX Runtime starts a thread that reports this machine to its maker.
            .env("ORT_DISABLE_TELEMETRY", "1")
            .current_dir(&order.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

#[async_trait]
impl SlotRuntime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn start(&self, order: StartOrder) -> Result<Box<dyn Worker>, RuntimeError> {
        let start = |error: io::Error| RuntimeError::Start(error.to_string());
        let child = self.spawner.spawn(self.command(&order)).await.map_err(start)?;
        let mut process = Process::new(child, &order).map_err(start)?;
        let first = match timeout(order.start_timeout, process.receive()).await {
            Ok(first) => first,
            Err(_) => Err(Lost::Protocol(format!("no hello within {} s", order.start_timeout.as_secs()))),
        };
        let hello = match first {
            Ok(message) => check_hello(message, &self.settings.model_sha256),
            Err(lost) => Err(RuntimeError::Start(process.explain(&lost))),
        };
        match hello {
            Ok(hello) => {
                *self.isolation.lock().unwrap_or_else(PoisonError::into_inner) = Some(hello.isolation.clone());
                Ok(Box::new(ProcessWorker { process, hello }))
            }
            Err(error) => {
                process.kill().await;
                Err(error)
            }
        }
    }

    async fn sweep(&self) -> Result<u64, RuntimeError> {
        let slots = self.settings.slots.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let mut killed = 0;
            let found = match std::fs::read_dir(&slots) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            };
            for slot in found {
                let slot = slot?.path();
                let Some(worker) = Identity::recorded(&slot) else { continue };
                killed += u64::from(worker.kill());
                std::fs::remove_file(slot.join(procfs::RECORD))?;
            }
            Ok(killed)
        });
        let swept = swept.await.map_err(io::Error::other).flatten();
        swept.map_err(|error| RuntimeError::Directory(error.to_string()))
    }
}

/// A worker that has said hello.
struct ProcessWorker {
    process: Process,
    hello: Hello,
}

#[async_trait]
impl Worker for ProcessWorker {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    async fn send(&mut self, message: &ToWorker) -> Result<(), Lost> {
        self.process.peak_bytes = None;
        self.process.sample();
        match self.process.channel.send(message).await {
            Ok(()) => Ok(()),
            Err(broken) => Err(self.process.lost(broken).await),
        }
    }

    async fn receive(&mut self) -> Result<FromWorker, Lost> {
        self.process.receive().await
    }

    fn peak_bytes(&mut self) -> Option<u64> {
        self.process.sample();
        self.process.peak_bytes
    }

    async fn kill(&mut self) -> Exit {
        self.process.kill().await
    }
}

struct Process {
    child: Child,
    group: Option<Pid>,
    channel: Channel,
    log: Log,
    relay: JoinHandle<()>,
    memory_bytes_max: u64,
    peak_bytes: Option<u64>,
    killed: bool,
    exit: Option<Exit>,
}

impl Process {
    fn new(mut child: Child, order: &StartOrder) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let input = child.stdin.take().ok_or_else(gone)?;
        let output = child.stdout.take().ok_or_else(gone)?;
        let errors = child.stderr.take().ok_or_else(gone)?;
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(identity) = group.and_then(|pid| Identity::of(pid.as_raw_nonzero().get())) {
            identity.record(&order.directory)?;
        }
        let log = Log::default();
        let relay = tokio::spawn(stderr::relay(errors, log.clone(), order.id.slot, order.id.generation));
        Ok(Self {
            child,
            group,
            channel: Channel::new(input, output),
            log,
            relay,
            memory_bytes_max: order.memory_bytes_max,
            peak_bytes: None,
            killed: false,
            exit: None,
        })
    }

    /// Cancel safe.
    async fn receive(&mut self) -> Result<FromWorker, Lost> {
        match self.channel.receive().await {
            Ok(message) => {
                self.sample();
                Ok(message)
            }
            Err(broken) => Err(self.lost(broken).await),
        }
    }

    async fn lost(&mut self, broken: Broken) -> Lost {
        match broken {
            Broken::Closed => Lost::Ended(self.ended().await),
            Broken::Protocol(what) => Lost::Protocol(what),
        }
    }

    fn sample(&mut self) {
        let now = self.child.id().and_then(procfs::peak_bytes);
        self.peak_bytes = self.peak_bytes.max(now);
    }

    /// Its channel is closed: lets it end by itself, so that the reason is seen, or kills it.
    async fn ended(&mut self) -> Exit {
        match timeout(END_TIMEOUT, self.reap()).await {
            Ok(exit) => exit,
            Err(_) => self.kill().await,
        }
    }

    async fn kill(&mut self) -> Exit {
        self.signal();
        match timeout(REAP_TIMEOUT, self.reap()).await {
            Ok(exit) => exit,
            Err(_) => {
                tracing::error!("a killed worker is still there after {} s", REAP_TIMEOUT.as_secs());
                Exit::default()
            }
        }
    }

    /// SIGKILL for the whole group, as long as its number is certainly still its own.
    fn signal(&mut self) {
        if self.exit.is_some() || self.child.id().is_none() {
            return;
        }
        self.killed = true;
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    async fn reap(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let status = self.child.wait().await;
        // Its last words tell why it ended.
        let _ = timeout(LAST_WORDS_TIMEOUT, &mut self.relay).await;
        let exit = status.map_or_else(|_| Exit::default(), |status| self.describe(status));
        self.exit = Some(exit.clone());
        exit
    }

    fn describe(&self, status: ExitStatus) -> Exit {
        let signal = status.signal().map(|number| {
            nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |name| name.to_string())
        });
        // The kernel's own want of memory ends a process by SIGKILL: told from anybody else's kill by its size alone.
        let close = self.peak_bytes.is_some_and(|peak| peak > self.memory_bytes_max / 10 * 9);
        let by_kernel = signal.as_deref() == Some("SIGKILL") && !self.killed;
        Exit { code: status.code(), out_of_memory: self.log.no_memory() || (by_kernel && close), signal }
    }

    fn explain(&self, lost: &Lost) -> String {
        let last = self.log.last();
        if last.is_empty() { lost.to_string() } else { format!("{lost}; {last}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Reaped by tokio, which keeps a list of children that were dropped.
        self.signal();
    }
}
