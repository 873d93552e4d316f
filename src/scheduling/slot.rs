//! The life of one slot as a state machine: inputs in, actions out. The actor carries the actions out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// No worker.
    Empty,
    /// A worker starts.
    Creating,
    /// A worker waits.
    Warm,
    /// The input is copied in.
    Staging,
    /// The worker works.
    Executing,
    /// Outputs are checked and stored.
    Publishing,
    /// The worker is being replaced.
    Recycling,
    /// Out of use after too many failed starts.
    Quarantined,
}

impl SlotState {
    /// All states, for metrics.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Creating,
        Self::Warm,
        Self::Staging,
        Self::Executing,
        Self::Publishing,
        Self::Recycling,
        Self::Quarantined,
    ];

    /// The name used in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Creating => "creating",
            Self::Warm => "warm",
            Self::Staging => "staging",
            Self::Executing => "executing",
            Self::Publishing => "publishing",
            Self::Recycling => "recycling",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Bounds of a slot's life, from `[slots]`. Times in milliseconds.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "every field is a key of [slots] in config/default.toml")]
pub struct Policy {
    pub recycle_after_jobs: u32,
    pub recycle_after_ms: i64,
    pub quarantine_starts: usize,
    pub quarantine_window_ms: i64,
    pub quarantine_ms: i64,
    pub backoff_min_ms: i64,
    pub backoff_max_ms: i64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The actor started, or a wait ended.
    Tick,
    /// The worker said hello.
    WorkerUp,
    /// The worker did not start.
    WorkerFailed,
    /// What starts workers does not answer: nobody's failure.
    WorkerDelayed,
    /// The worker ended while it waited.
    WorkerEnded,
    /// A job was assigned.
    Run,
    /// The job reached a further step.
    Step(SlotState),
    /// The job ended; whether its worker can be used again.
    Ended {
        /// False after a crash, a kill or a broken protocol.
        reusable: bool,
    },
    /// No further job shall be taken.
    Retire,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a worker now.
    StartWorker,
    /// Kill the worker that is there.
    KillWorker,
    /// Say [`Input::Tick`] after this many milliseconds.
    TickAfter(i64),
    /// Tell the scheduler that the slot is free.
    Offer,
    /// Tell the scheduler that it no longer is.
    Withdraw,
    /// Start on the job that was assigned.
    StartJob,
    /// The slot is empty and will stay so.
    Retired,
}

/// One slot.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    state: SlotState,
    failed_starts: VecDeque<i64>,
    failures_in_a_row: u32,
    worker_since_ms: i64,
    jobs_done: u32,
    wait_until_ms: i64,
    retiring: bool,
}

impl Machine {
    /// An empty slot.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: SlotState::Empty,
            failed_starts: VecDeque::new(),
            failures_in_a_row: 0,
            worker_since_ms: 0,
            jobs_done: 0,
            wait_until_ms: 0,
            retiring: false,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> SlotState {
        self.state
    }

    /// Jobs done by the present worker.
    #[must_use]
    pub const fn jobs_done(&self) -> u32 {
        self.jobs_done
    }

    /// Whether a job can be started now.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.state == SlotState::Warm && !self.retiring
    }

    /// Takes one input. Inputs that do not fit the state are stale and change nothing.
    pub fn on(&mut self, input: Input, now_ms: i64) -> Vec<Action> {
        match (input, self.state) {
            (Input::Retire, _) => self.retire(),
            (Input::Tick, _) if self.retiring => Vec::new(),
            (Input::Tick, SlotState::Empty | SlotState::Quarantined | SlotState::Recycling) => self.wake(now_ms),
            (Input::Tick, SlotState::Warm) if self.is_worn(now_ms) => {
                let mut actions = vec![Action::Withdraw];
                actions.extend(self.recycle());
                actions
            }
            (Input::WorkerUp, SlotState::Creating) => self.up(now_ms),
            (Input::WorkerFailed, SlotState::Creating) => self.failed(now_ms),
            (Input::WorkerDelayed, SlotState::Creating) => self.delayed(now_ms),
            (Input::WorkerEnded, SlotState::Warm) => {
                let mut actions = vec![Action::Withdraw, Action::KillWorker];
                actions.extend(self.failed(now_ms));
                actions
            }
            (Input::Run, SlotState::Warm) if !self.retiring => {
                self.state = SlotState::Staging;
                vec![Action::StartJob]
            }
            (Input::Step(step), SlotState::Staging | SlotState::Executing) => {
                self.state = step;
                Vec::new()
            }
            (Input::Ended { reusable }, SlotState::Staging | SlotState::Executing | SlotState::Publishing) => {
                self.ended(reusable, now_ms)
            }
            (
                Input::Tick
                | Input::WorkerUp
                | Input::WorkerFailed
                | Input::WorkerDelayed
                | Input::WorkerEnded
                | Input::Run
                | Input::Step(_)
                | Input::Ended { .. },
                _,
            ) => Vec::new(),
        }
    }

    fn wake(&mut self, now_ms: i64) -> Vec<Action> {
        if now_ms < self.wait_until_ms {
            return vec![Action::TickAfter(self.wait_until_ms - now_ms)];
        }
        self.state = SlotState::Creating;
        vec![Action::StartWorker]
    }

    fn up(&mut self, now_ms: i64) -> Vec<Action> {
        self.failures_in_a_row = 0;
        self.worker_since_ms = now_ms;
        self.jobs_done = 0;
        if self.retiring {
            self.state = SlotState::Empty;
            return vec![Action::KillWorker, Action::Retired];
        }
        self.state = SlotState::Warm;
        vec![Action::Offer, Action::TickAfter(self.policy.recycle_after_ms)]
    }

    fn failed(&mut self, now_ms: i64) -> Vec<Action> {
        if self.retiring {
            self.state = SlotState::Empty;
            return vec![Action::Retired];
        }
        self.failed_starts.push_back(now_ms);
        while self.failed_starts.front().is_some_and(|at| now_ms - at >= self.policy.quarantine_window_ms) {
            self.failed_starts.pop_front();
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let wait = if self.failed_starts.len() >= self.policy.quarantine_starts {
            self.failed_starts.clear();
            self.state = SlotState::Quarantined;
            self.policy.quarantine_ms
        } else {
            self.state = SlotState::Empty;
            let doubled = self.policy.backoff_min_ms << (self.failures_in_a_row - 1).min(16);
            doubled.min(self.policy.backoff_max_ms)
        };
        self.wait_until_ms = now_ms + wait;
        vec![Action::TickAfter(wait)]
    }

    fn delayed(&mut self, now_ms: i64) -> Vec<Action> {
        self.state = SlotState::Empty;
        if self.retiring {
            return vec![Action::Retired];
        }
        self.wait_until_ms = now_ms + self.policy.backoff_min_ms;
        vec![Action::TickAfter(self.policy.backoff_min_ms)]
    }

    fn ended(&mut self, reusable: bool, now_ms: i64) -> Vec<Action> {
        self.jobs_done += 1;
        if self.retiring {
            self.state = SlotState::Empty;
            return vec![Action::KillWorker, Action::Retired];
        }
        if !reusable || self.is_worn(now_ms) {
            return self.recycle();
        }
        self.state = SlotState::Warm;
        vec![Action::Offer]
    }

    fn recycle(&mut self) -> Vec<Action> {
        self.state = SlotState::Creating;
        vec![Action::KillWorker, Action::StartWorker]
    }

    fn retire(&mut self) -> Vec<Action> {
        if self.retiring {
            return Vec::new();
        }
        self.retiring = true;
        match self.state {
            SlotState::Warm => {
                self.state = SlotState::Empty;
                vec![Action::Withdraw, Action::KillWorker, Action::Retired]
            }
            SlotState::Empty | SlotState::Quarantined | SlotState::Recycling => vec![Action::Retired],
            SlotState::Creating | SlotState::Staging | SlotState::Executing | SlotState::Publishing => Vec::new(),
        }
    }

    const fn is_worn(&self, now_ms: i64) -> bool {
        self.jobs_done >= self.policy.recycle_after_jobs
            || now_ms - self.worker_since_ms >= self.policy.recycle_after_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy {
        recycle_after_jobs: 3,
        recycle_after_ms: 10_000,
        quarantine_starts: 3,
        quarantine_window_ms: 5_000,
        quarantine_ms: 2_000,
        backoff_min_ms: 100,
        backoff_max_ms: 1_000,
    };

    fn warm() -> Machine {
        let mut slot = Machine::new(POLICY);
        assert_eq!(slot.on(Input::Tick, 0), [Action::StartWorker]);
        assert_eq!(slot.on(Input::WorkerUp, 0), [Action::Offer, Action::TickAfter(10_000)]);
        slot
    }

    #[test]
    fn a_job_passes_through_and_the_slot_is_offered_again() {
        let mut slot = warm();
        assert_eq!(slot.on(Input::Run, 1), [Action::StartJob]);
        slot.on(Input::Step(SlotState::Executing), 2);
        slot.on(Input::Step(SlotState::Publishing), 3);
        assert_eq!(slot.on(Input::Ended { reusable: true }, 4), [Action::Offer]);
    }

    #[test]
    fn recycles_after_a_crash_after_n_jobs_and_after_t_minutes() {
        let mut slot = warm();
        slot.on(Input::Run, 1);
        assert_eq!(slot.on(Input::Ended { reusable: false }, 2), [Action::KillWorker, Action::StartWorker]);
        slot.on(Input::WorkerUp, 3);
        for at in 4..6 {
            slot.on(Input::Run, at);
            assert_eq!(slot.on(Input::Ended { reusable: true }, at), [Action::Offer]);
        }
        slot.on(Input::Run, 6);
        assert_eq!(slot.on(Input::Ended { reusable: true }, 7), [Action::KillWorker, Action::StartWorker]);
        slot.on(Input::WorkerUp, 8);
        assert_eq!(slot.on(Input::Tick, 10_008), [Action::Withdraw, Action::KillWorker, Action::StartWorker]);
    }

    #[test]
    fn backs_off_then_is_quarantined_then_tried_again() {
        let mut slot = Machine::new(POLICY);
        slot.on(Input::Tick, 0);
        assert_eq!(slot.on(Input::WorkerFailed, 0), [Action::TickAfter(100)]);
        assert_eq!(slot.on(Input::Tick, 50), [Action::TickAfter(50)]);
        slot.on(Input::Tick, 100);
        assert_eq!(slot.on(Input::WorkerFailed, 100), [Action::TickAfter(200)]);
        slot.on(Input::Tick, 300);
        assert_eq!(slot.on(Input::WorkerFailed, 300), [Action::TickAfter(2_000)]);
        assert_eq!(slot.state(), SlotState::Quarantined);
        assert_eq!(slot.on(Input::Tick, 2_300), [Action::StartWorker]);
    }

    #[test]
    fn a_delay_is_not_held_against_the_slot() {
        let mut slot = Machine::new(POLICY);
        for round in 0..10 {
            assert_eq!(slot.on(Input::Tick, round * 100), [Action::StartWorker]);
            assert_eq!(slot.on(Input::WorkerDelayed, round * 100), [Action::TickAfter(100)]);
        }
        assert_eq!(slot.state(), SlotState::Empty);
    }

    #[test]
    fn a_worker_that_ends_while_it_waits_is_replaced_after_a_wait() {
        let mut slot = warm();
        let replaced = [Action::Withdraw, Action::KillWorker, Action::TickAfter(100)];
        assert_eq!(slot.on(Input::WorkerEnded, 1), replaced);
        assert_eq!(slot.on(Input::WorkerEnded, 2), []);
        assert_eq!(slot.on(Input::Tick, 101), [Action::StartWorker]);
    }

    #[test]
    fn retires_at_once_when_idle_and_after_the_job_when_busy() {
        let mut idle = warm();
        assert_eq!(idle.on(Input::Retire, 1), [Action::Withdraw, Action::KillWorker, Action::Retired]);
        let mut busy = warm();
        busy.on(Input::Run, 1);
        assert_eq!(busy.on(Input::Retire, 2), []);
        assert_eq!(busy.on(Input::Ended { reusable: true }, 3), [Action::KillWorker, Action::Retired]);
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => Just(Input::Tick),
            4 => Just(Input::WorkerUp),
            2 => Just(Input::WorkerFailed),
            2 => Just(Input::WorkerDelayed),
            2 => Just(Input::WorkerEnded),
            4 => Just(Input::Run),
            2 => Just(Input::Step(SlotState::Executing)),
            2 => Just(Input::Step(SlotState::Publishing)),
            2 => any::<bool>().prop_map(|reusable| Input::Ended { reusable }),
            1 => Just(Input::Retire),
        ]
    }

    proptest! {
        #[test]
        fn never_two_workers_never_two_jobs_and_free_means_offered(
            inputs in prop::collection::vec((input(), 0i64..500), 1..200)
        ) {
            let mut slot = Machine::new(POLICY);
            let (mut workers, mut jobs, mut offered, mut retired, mut now) = (0i32, 0i32, false, false, 0);
            for (input, gap) in inputs {
                now += gap;
                if matches!(input, Input::Ended { .. }) && matches!(slot.state(), SlotState::Staging | SlotState::Executing | SlotState::Publishing) {
                    jobs -= 1;
                }
                if matches!(input, Input::WorkerFailed | Input::WorkerDelayed) && slot.state() == SlotState::Creating {
                    workers -= 1;
                }
                for action in slot.on(input, now) {
                    match action {
                        Action::StartWorker => workers += 1,
                        Action::KillWorker => workers -= 1,
                        Action::StartJob => { jobs += 1; offered = false; }
                        Action::Offer => offered = true,
                        Action::Withdraw => offered = false,
                        Action::Retired => { prop_assert!(!retired); retired = true; }
                        Action::TickAfter(wait) => prop_assert!(wait > 0),
                    }
                }
                prop_assert!((0..=1).contains(&workers) && (0..=1).contains(&jobs));
                prop_assert_eq!(offered, slot.is_free());
                prop_assert!(!(retired && workers > 0));
            }
        }
    }
}
