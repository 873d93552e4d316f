//! Keeps what is there and what should be there the same: lists the node's containers every few seconds, removes those
//! that no slot owns, tells slots whose container ended, and says whether the engine answers. Events only make it look
//! sooner: their stream breaks unnoticed when the engine restarts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, EngineError};

/// Wait before the stream of events is opened again.
const EVENTS_WAIT: Duration = Duration::from_secs(1);

/// A container that a slot owns.
#[derive(Debug, Clone)]
struct Owned {
    /// Before that the engine need not know it.
    started: bool,
    ended: CancellationToken,
}

/// What slots, the watch and the runtime share.
#[derive(Debug)]
pub struct Shared {
    /// The connection.
    pub engine: Engine,
    labels: Vec<String>,
    owned: Mutex<BTreeMap<String, Owned>>,
    look: Notify,
    obstacle: watch::Sender<Option<String>>,
    /// Raised whenever the engine was away: it may have ended containers, then.
    absences: AtomicU64,
    /// Calls that create or remove, at once.
    busy: Semaphore,
}

impl Shared {
    /// For the containers with these labels; `parallel_max` are created or removed at once.
    #[must_use]
    pub fn new(engine: Engine, labels: Vec<String>, parallel_max: usize) -> Self {
        Self {
            engine,
            labels,
            owned: Mutex::default(),
            look: Notify::new(),
            obstacle: watch::Sender::new(None),
            absences: AtomicU64::new(0),
            busy: Semaphore::new(parallel_max),
        }
    }

    fn owned(&self) -> MutexGuard<'_, BTreeMap<String, Owned>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the engine cannot be used, as it changes.
    #[must_use]
    pub fn obstacle(&self) -> watch::Receiver<Option<String>> {
        self.obstacle.subscribe()
    }

    /// How often the engine was away so far.
    #[must_use]
    pub fn absences(&self) -> u64 {
        self.absences.load(Ordering::SeqCst)
    }

    /// Notes that a call got no answer.
    pub fn away(&self, why: &str) {
        self.obstacle.send_if_modified(|obstacle| {
            if obstacle.is_some() {
                return false;
            }
            self.absences.fetch_add(1, Ordering::SeqCst);
            tracing::error!(why, "the Docker Engine does not answer; no job is started until it does");
            *obstacle = Some(format!("the Docker Engine does not answer: {why}"));
            true
        });
        self.look.notify_one();
    }

    fn back(&self) {
        self.obstacle.send_if_modified(|obstacle| {
            if obstacle.is_some() {
                tracing::info!("the Docker Engine answers again");
            }
            obstacle.take().is_some()
        });
    }

    /// Passes a result on, and notes when it says that the engine is away.
    ///
    /// # Errors
    /// The same.
    pub fn heed<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(EngineError::Away(why)) = &result {
            self.away(why);
        }
        result
    }

    /// Waits for a turn to create or remove.
    pub async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // It is never closed; without a permit the call would go ahead all the same.
        self.busy.acquire().await.ok()
    }

    /// Removes a container, in turn.
    ///
    /// # Errors
    /// When it is not gone within the bound of a call.
    pub async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let _turn = self.turn().await;
        self.heed(self.engine.remove(name).await)
    }

    /// Removes every container with these labels and checks that none is left. Returns how many there were.
    ///
    /// # Errors
    /// When one is still there.
    pub async fn remove_all(&self, labels: &[String], parallel_max: usize) -> Result<u64, EngineError> {
        let found = self.heed(self.engine.list(labels.to_vec()).await)?;
        let names: Vec<String> = found.iter().map(|container| container.name.clone()).collect();
        let removals = futures::stream::iter(names).map(|name| async move { self.remove(&name).await });
        removals.buffer_unordered(parallel_max).try_collect::<()>().await?;
        Ok(found.len() as u64)
    }

    /// Looks once: orphans are removed, owners of what ended are told.
    async fn round(&self) -> Result<(), EngineError> {
        // What is started by now must be in the list that is asked for next.
        let before = self.owned().clone();
        let listed = self.heed(self.engine.list(self.labels.clone()).await)?;
        self.back();
        for (name, owned) in before.iter().filter(|(_, owned)| owned.started) {
            if !listed.iter().any(|container| &container.name == name && container.running) {
                tracing::info!(name, "a container is no longer running");
                owned.ended.cancel();
            }
        }
        // Owners enter a name before they create the container: whoever has none now had none before the list.
        let orphans: Vec<_> = listed.iter().filter(|container| !self.owned().contains_key(&container.name)).collect();
        for orphan in orphans {
            tracing::info!(name = orphan.name, "a container that no slot owns is removed");
            self.remove(&orphan.name).await?;
        }
        Ok(())
    }
}

/// The name of a container, as long as a slot owns it.
#[derive(Debug)]
pub struct Ownership {
    shared: Arc<Shared>,
    name: String,
    ended: CancellationToken,
}

impl Ownership {
    /// Takes the name. Nothing exists under it yet.
    #[must_use]
    pub fn of(shared: &Arc<Shared>, name: String) -> Self {
        let ended = CancellationToken::new();
        shared.owned().insert(name.clone(), Owned { started: false, ended: ended.clone() });
        Self { shared: shared.clone(), name, ended }
    }

    /// The container's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cancelled when the container is known to have ended, and when nobody owns it any more.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// From now on it must be there.
    pub fn started(&self) {
        if let Some(owned) = self.shared.owned().get_mut(&self.name) {
            owned.started = true;
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.shared.owned().remove(&self.name);
        self.ended.cancel();
        // If the container is still there, it is an orphan now.
        self.shared.look.notify_one();
    }
}

/// Looks every `every`, and when told to; for as long as the future is polled.
pub async fn reconcile(shared: Arc<Shared>, every: Duration) {
    loop {
        if let Err(error) = shared.round().await {
            tracing::warn!(%error, "containers could not be compared with slots");
            // Not at once again, whoever asks: an engine that is away is asked at the usual pace.
            tokio::time::sleep(every).await;
            continue;
        }
        let _ = tokio::time::timeout(every, shared.look.notified()).await;
    }
}

/// Follows the engine's events: what ended is looked at, and a broken stream means that the engine was away.
pub async fn follow(shared: Arc<Shared>) {
    loop {
        let mut events = shared.engine.events(shared.labels.clone());
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    if matches!(event.action.as_deref(), Some("die" | "oom" | "destroy")) {
                        shared.look.notify_one();
                    }
                }
                Some(Err(EngineError::Away(why))) => {
                    shared.away(&why);
                    break;
                }
                Some(Err(error @ EngineError::Answer { .. })) => {
                    tracing::warn!(%error, "the engine sends no events; containers are listed all the same");
                    break;
                }
                None => {
                    shared.away("its stream of events ended");
                    break;
                }
            }
        }
        tokio::time::sleep(EVENTS_WAIT).await;
    }
}
