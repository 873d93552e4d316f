//! The state table of a job: `apply` is the only place that says which move is allowed.
//!
//! * ∅ → `queued`: an upload is durable and its row committed.
//! * `queued` → `released`: the bus acknowledged the event.
//! * `released` → `queued`: the bus lost the event, or a draining node put it back.
//! * `released` → `running`: a scheduler claimed it; start and attempt are counted here, before the slot starts. A
//!   delivery proves the release, so a claim that overtakes the relay's note of it takes a `queued` job as well.
//! * `running` → `succeeded`, `failed`, `cancelled`: the slot that holds the start says so.
//! * `running` → `queued`: a retryable end with attempts left, or an attempt handed back.
//! * `queued`, `released` → `cancelled`: the owner says so.
//! * `failed`, `cancelled` → `queued`: the owner's retry, with a fresh budget of attempts.

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable, waiting to be released to the bus.
    Queued,
    /// On the bus.
    Released,
    /// A slot works on it.
    Running,
    /// Final: its files are visible.
    Succeeded,
    /// Final, unless the owner retries.
    Failed,
    /// Final, unless the owner retries.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Released, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The name used in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Released => "released",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether no slot or relay will touch the job again by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a job's row that the table works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobCore {
    /// Where it stands.
    pub state: State,
    /// Starts ever made; never lowered, so it fences every late message of an earlier start.
    pub starts: u32,
    /// Attempts spent since the owner last asked; one that is handed back is given back.
    pub attempt: u32,
    /// Workers lost on it since the owner last asked.
    pub crashes: u32,
    /// `attempt` may not pass this.
    pub attempts_max: u32,
    /// This many crashes end the job.
    pub crashes_max: u32,
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The bus acknowledged the event.
    Release,
    /// The bus no longer holds it.
    Unrelease,
    /// A scheduler takes it for a slot.
    Claim,
    /// The holder of `start` has durable outputs.
    Succeed {
        /// Fence.
        start: u32,
    },
    /// The holder of `start` failed in a way that can pass.
    Retry {
        /// Fence.
        start: u32,
    },
    /// The worker or the node of `start` vanished. `crash` is false when the node is to blame, not the worker.
    Lose {
        /// Fence.
        start: u32,
        /// Whether it counts towards `crashes_max`.
        crash: bool,
    },
    /// The holder of `start` gives it back unspent.
    HandBack {
        /// Fence.
        start: u32,
    },
    /// The holder of `start` says that no attempt can help.
    Fail {
        /// Fence.
        start: u32,
    },
    /// The owner cancels a job that does not run.
    Cancel,
    /// The holder of `start` stopped because the owner asked.
    CancelRunning {
        /// Fence.
        start: u32,
    },
    /// The owner asks for the job again.
    OwnerRetry,
}

/// Why a move is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The state does not know this event.
    #[error("a {0} job does not take this event")]
    WrongState(State),
    /// A later start holds the job.
    #[error("start {held} holds the job, not {given}")]
    StaleStart {
        /// The start in the row.
        held: u32,
        /// The start of the event.
        given: u32,
    },
}

/// The table. `starts` never decreases, so that it fences every late message of an earlier start; an attempt that is
/// handed back lowers `attempt` alone.
///
/// # Errors
/// [`Rejected`] when the state or the start does not match; the job is then left as it is.
pub fn apply(job: JobCore, event: Event) -> Result<JobCore, Rejected> {
    let to = |state| JobCore { state, ..job };
    let wrong = Err(Rejected::WrongState(job.state));
    match event {
        Event::Release if job.state == State::Queued => Ok(to(State::Released)),
        Event::Unrelease if job.state == State::Released => Ok(to(State::Queued)),
        Event::Claim if job.state == State::Released => {
            Ok(JobCore { state: State::Running, starts: job.starts + 1, attempt: job.attempt + 1, ..job })
        }
        Event::Cancel if matches!(job.state, State::Queued | State::Released) => Ok(to(State::Cancelled)),
        Event::OwnerRetry if matches!(job.state, State::Failed | State::Cancelled) => {
            Ok(JobCore { state: State::Queued, attempt: 0, crashes: 0, ..job })
        }
        Event::Succeed { start } => held(job, start).map(|()| to(State::Succeeded)),
        Event::Fail { start } => held(job, start).map(|()| to(State::Failed)),
        Event::CancelRunning { start } => held(job, start).map(|()| to(State::Cancelled)),
        Event::Retry { start } => held(job, start).map(|()| again(job)),
        Event::Lose { start, crash } => {
            held(job, start).map(|()| again(JobCore { crashes: job.crashes + u32::from(crash), ..job }))
        }
        Event::HandBack { start } => {
            held(job, start).map(|()| JobCore { state: State::Queued, attempt: job.attempt.saturating_sub(1), ..job })
        }
        Event::Release | Event::Unrelease | Event::Claim | Event::Cancel | Event::OwnerRetry => wrong,
    }
}

fn held(job: JobCore, given: u32) -> Result<(), Rejected> {
    if job.state != State::Running {
        Err(Rejected::WrongState(job.state))
    } else if job.starts != given {
        Err(Rejected::StaleStart { held: job.starts, given })
    } else {
        Ok(())
    }
}

fn again(job: JobCore) -> JobCore {
    let spent = job.attempt >= job.attempts_max || job.crashes >= job.crashes_max;
    JobCore { state: if spent { State::Failed } else { State::Queued }, ..job }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
