//! One worker in a container.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{EngineError, Inspected};
use super::watch::{Ownership, Shared};
use crate::containers::channel::{Broken, Channel};
use crate::containers::stderr::Log;
use crate::containers::{Exit, Lost, Worker, procfs};
use crate::pipeline::wire::{FromWorker, Hello, ToWorker};

/// The container of a worker that closed its channel ends within this time, or is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// It is looked at this often meanwhile.
const END_LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a dead worker has written is read within this time.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// docker-init answers a child's signal with this much more than its number.
const SIGNAL_BASE: i64 = 128;

/// A container whose worker is connected.
pub struct Container {
    /// As long as this is held nobody else removes it.
    pub ownership: Ownership,
    /// Of the runtime.
    pub shared: Arc<Shared>,
    /// Frames.
    pub channel: Channel,
    /// What the worker printed.
    pub log: Log,
    /// Reads it.
    pub relay: Option<JoinHandle<()>>,
    /// Finds out why it ended.
    pub ending: Option<JoinHandle<Result<Option<Inspected>, EngineError>>>,
    /// Why it ended.
    pub lost: Option<Lost>,
    /// [`Shared::absences`] when it was started.
    pub absences: u64,
    /// The worker's process, where this server can see it.
    pub pid: Option<u32>,
    /// Its limit.
    pub memory_bytes_max: u64,
    /// The highest that was seen.
    pub peak_bytes: Option<u64>,
}

impl Container {
    /// The next message.
    pub async fn receive(&mut self) -> Result<FromWorker, Lost> {
        match self.channel.receive().await {
            Ok(message) => {
                self.sample();
                Ok(message)
            }
            Err(broken) => Err(self.lost(broken).await),
        }
    }

    fn sample(&mut self) {
        self.peak_bytes = self.peak_bytes.max(self.pid.and_then(procfs::peak_bytes));
    }

    /// Cancel safe: what is asked of the engine goes on in a task of its own.
    async fn lost(&mut self, broken: Broken) -> Lost {
        if let Broken::Protocol(what) = broken {
            return Lost::Protocol(what);
        }
        if let Some(lost) = &self.lost {
            return lost.clone();
        }
        let ending = self.ending.get_or_insert_with(|| {
            let (shared, name) = (self.shared.clone(), self.ownership.name().to_owned());
            tokio::spawn(ending(shared, name, self.relay.take()))
        });
        let lost = match ending.await {
            Ok(Ok(found)) => self.judge(found.map_or_else(Exit::default, |found| self.describe(&found))),
            Ok(Err(error)) => Lost::Engine(error.to_string()),
            Err(error) => Lost::Engine(error.to_string()),
        };
        self.lost = Some(lost.clone());
        lost
    }

    fn describe(&self, found: &Inspected) -> Exit {
        let code = found.exit_code.and_then(|code| i32::try_from(code).ok());
        let signal = found.exit_code.filter(|code| (SIGNAL_BASE + 1..SIGNAL_BASE + 65).contains(code));
        let signal = signal.and_then(|code| i32::try_from(code - SIGNAL_BASE).ok()).map(|number| {
            nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |name| name.to_string())
        });
        let close = self.peak_bytes.is_some_and(|peak| peak > self.memory_bytes_max / 10 * 9);
        let by_kernel = signal.as_deref() == Some("SIGKILL") && close;
        let out_of_memory = found.oom_killed || self.log.no_memory() || by_kernel;
        Exit { code: code.filter(|_| signal.is_none()), signal, out_of_memory }
    }

    /// An engine that stops or starts again ends all containers: that is not the job's doing.
    fn judge(&self, exit: Exit) -> Lost {
        let from_outside = match (&exit.signal, exit.code) {
            (Some(signal), _) => signal == "SIGKILL" || signal == "SIGTERM",
            (None, code) => code.is_none(),
        };
        if from_outside && !exit.out_of_memory && self.shared.absences() != self.absences {
            return Lost::Engine("the Docker Engine was away and its containers ended".to_owned());
        }
        Lost::Ended(exit)
    }

    /// Removes the container. If that cannot be done now, it becomes an orphan and is removed as one.
    pub async fn kill(&mut self) -> Exit {
        if let Err(error) = self.shared.remove(self.ownership.name()).await {
            tracing::warn!(name = self.ownership.name(), %error, "a container could not be removed yet");
        }
        Exit { signal: Some("SIGKILL".to_owned()), ..Exit::default() }
    }

    /// With the last lines of the worker's log.
    pub fn explain(&self, lost: &Lost) -> String {
        let last = self.log.last();
        if last.is_empty() { lost.to_string() } else { format!("{lost}; {last}") }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

/// How a container whose channel is closed stands at its end; gives it a moment to get there. `None` where it was removed
/// by somebody else, or does not end.
async fn ending(
    shared: Arc<Shared>,
    name: String,
    relay: Option<JoinHandle<()>>,
) -> Result<Option<Inspected>, EngineError> {
    if let Some(relay) = relay {
        // Its last words tell why it ended.
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, relay).await;
    }
    let patience = Instant::now() + END_TIMEOUT;
    loop {
        let found = shared.heed(shared.engine.inspect(&name).await)?;
        if found.as_ref().is_none_or(|found| !found.running) {
            return Ok(found);
        }
        if Instant::now() >= patience {
            return Ok(None);
        }
        tokio::time::sleep(END_LOOK_EVERY).await;
    }
}

/// A worker that has said hello.
pub struct DockerWorker {
    /// Where it lives.
    pub container: Container,
    /// What it said.
    pub hello: Hello,
}

#[async_trait]
impl Worker for DockerWorker {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    async fn send(&mut self, message: &ToWorker) -> Result<(), Lost> {
        self.container.peak_bytes = None;
        self.container.sample();
        match self.container.channel.send(message).await {
            Ok(()) => Ok(()),
            Err(broken) => Err(self.container.lost(broken).await),
        }
    }

    async fn receive(&mut self) -> Result<FromWorker, Lost> {
        self.container.receive().await
    }

    fn peak_bytes(&mut self) -> Option<u64> {
        self.container.sample();
        self.container.peak_bytes
    }

    async fn kill(&mut self) -> Exit {
        self.container.kill().await
    }

    fn ended(&self) -> Option<CancellationToken> {
        Some(self.container.ownership.ended())
    }
}
