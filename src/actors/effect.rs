//! Slow work of an actor: runs beside the mailbox, and always reports back, even when it panics.

use std::future::Future;
use std::time::Duration;

use ractor::{ActorCell, ActorRef, Message, SupervisionEvent};
use tokio::sync::oneshot;

/// Runs `work` in a task of its own and sends `report(result)` to `actor`; `None` stands for a panic of the work.
pub fn spawn<M, T>(
    actor: ActorRef<M>,
    work: impl Future<Output = T> + Send + 'static,
    report: impl FnOnce(Option<T>) -> M + Send + 'static,
) where
    M: Message,
    T: Send + 'static,
{
    let task = tokio::spawn(work);
    tokio::spawn(async move {
        let result = task.await;
        if let Err(error) = &result {
            tracing::error!(%error, "an effect of an actor panicked");
        }
        // A dead actor needs no report: its supervisor knows.
        let _ = actor.send_message(report(result.ok()));
    });
}

/// Sends `message` to `actor` after `wait`.
pub fn send_after<M: Message>(actor: ActorRef<M>, wait: Duration, message: impl FnOnce() -> M + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let _ = actor.send_message(message());
    });
}

/// The actor that ended and why, if that is what the event says.
#[must_use]
pub fn ended(event: SupervisionEvent) -> Option<(ActorCell, String)> {
    match event {
        SupervisionEvent::ActorFailed(cell, error) => Some((cell, error.to_string())),
        SupervisionEvent::ActorTerminated(cell, _, reason) => {
            Some((cell, reason.unwrap_or_else(|| "ended".to_owned())))
        }
        SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => None,
    }
}

/// Answers a question; who asked may have gone.
pub fn reply<T>(to: oneshot::Sender<T>, answer: T) {
    let _ = to.send(answer);
}

/// Milliseconds since 1970, for the ledger.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Milliseconds of a clock that never goes back, for waits and budgets.
#[must_use]
pub fn steady_ms() -> i64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
}
