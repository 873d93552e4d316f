//! Slot: owns one worker and one directory, and runs one job at a time.
//!
//! 1. The life of the slot is [`crate::scheduling::slot::Machine`]; this file carries out its actions.
//! 2. Every worker has a generation; a report that carries an older one is dropped, and its worker with it.
//! 3. The worker is handed to the attempt while a job runs, and comes back with the report, or not at all.
//! 4. The slot tells its supervisor of every change of state, and the scheduler when it is free.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::attempt::{self, Assignment, Report, StopSignal};
use super::scheduler::{self, SlotRef};
use super::{Deps, effect, slot_supervisor};
use crate::cluster::{SlotState, SlotView};
use crate::containers::slot_dir::SlotDir;
use crate::containers::{RuntimeError, SlotId, StartOrder, Worker};
use crate::job::JobId;
use crate::pipeline::wire::Isolation;
use crate::scheduling::slot::{Action, Input, Machine, Policy};

/// What a slot is told.
pub enum Msg {
    /// A wait ended.
    Tick,
    /// Say again where you stand: the scheduler is new.
    Announce,
    /// Work on this.
    Run(Box<Assignment>),
    /// A worker was started, or not.
    WorkerUp(u64, Option<Result<Box<dyn Worker>, RuntimeError>>),
    /// The worker of that generation ended while it waited.
    WorkerEnded(u64),
    /// The attempt reached a further step.
    Step(u64, SlotState),
    /// The attempt ended.
    Ended(u64, Option<Report>),
    /// Stop this job if it runs here: its owner asked.
    StopJob(JobId),
    /// Take no further job; end when idle.
    Retire,
    /// Hand the running job back now.
    HandBack,
    /// The last worker is gone.
    Emptied,
}

/// What it needs.
pub struct Arguments {
    /// Of the node.
    pub deps: Arc<Deps>,
    /// Index on the node.
    pub slot: u32,
    /// Of this actor, given by its supervisor: no two actors have the same.
    pub generation: u64,
}

/// Its state.
pub struct State {
    deps: Arc<Deps>,
    slot: u32,
    generation: u64,
    /// Raised with every worker, above every worker of an earlier actor of this slot.
    worker_generation: u64,
    machine: Machine,
    dir: SlotDir,
    worker: Option<Box<dyn Worker>>,
    dying: Option<Box<dyn Worker>>,
    assignment: Option<Box<Assignment>>,
    running: Option<(JobId, StopSignal)>,
    isolation: Option<Isolation>,
    note: Option<String>,
}

/// The actor.
pub struct Slot;

impl Actor for Slot {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { deps, slot, generation } = arguments;
        let _ = myself.send_message(Msg::Tick);
        Ok(State {
            machine: Machine::new(policy(&deps)),
            dir: SlotDir::new(&deps.slots_directory(), slot).for_other_user(deps.runtime.is_other_user()),
            deps,
            slot,
            generation,
            worker_generation: generation << 32,
            worker: None,
            dying: None,
            assignment: None,
            running: None,
            isolation: None,
            note: None,
        })
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Tick => state.advance(&myself, Input::Tick),
            Msg::Announce => {
                if state.machine.is_free() {
                    state.offer(&myself);
                }
            }
            Msg::Run(assignment) => {
                crate::fault::hit("slot-actor");
                if state.machine.is_free() {
                    state.assignment = Some(assignment);
                    state.advance(&myself, Input::Run);
                } else {
                    state.refuse(*assignment);
                }
            }
            Msg::WorkerUp(generation, result) => state.worker_up(&myself, generation, result),
            Msg::WorkerEnded(generation) => {
                if generation == state.worker_generation {
                    state.advance(&myself, Input::WorkerEnded);
                }
            }
            Msg::Step(generation, step) => {
                if generation == state.worker_generation {
                    state.advance(&myself, Input::Step(step));
                }
            }
            Msg::Ended(generation, report) => {
                if generation == state.worker_generation {
                    state.running = None;
                    state.worker = report.and_then(|report| report.worker);
                    let reusable = state.worker.is_some();
                    state.advance(&myself, Input::Ended { reusable });
                }
            }
            Msg::StopJob(job) => {
                if let Some((running, stop)) = &state.running
                    && *running == job
                {
                    stop.cancel();
                }
            }
            Msg::Retire => state.advance(&myself, Input::Retire),
            Msg::HandBack => {
                if let Some((_, stop)) = &state.running {
                    stop.hand_back();
                }
            }
            Msg::Emptied => {
                state.deps.links.slots.send(slot_supervisor::Msg::Retired(state.slot, state.generation));
                myself.stop(None);
            }
        }
        Ok(())
    }
}

fn policy(deps: &Deps) -> Policy {
    let slots = &deps.config.slots;
    let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let whole = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    Policy {
        recycle_after_jobs: slots.recycle_after_jobs,
        recycle_after_ms: ms(slots.recycle_after_s),
        quarantine_starts: usize::try_from(slots.quarantine_starts).unwrap_or(usize::MAX),
        quarantine_window_ms: ms(slots.quarantine_window_s),
        quarantine_ms: ms(slots.quarantine_s),
        backoff_min_ms: whole(slots.restart_backoff_min_ms),
        backoff_max_ms: whole(slots.restart_backoff_max_ms),
    }
}

impl State {
    fn advance(&mut self, myself: &ActorRef<Msg>, input: Input) {
        for action in self.machine.on(input, effect::steady_ms()) {
            self.perform(myself, action);
        }
        self.show();
    }

    fn perform(&mut self, myself: &ActorRef<Msg>, action: Action) {
        match action {
            Action::StartWorker => self.start_worker(myself),
            Action::KillWorker => self.dying = self.worker.take(),
            Action::TickAfter(wait) => {
                // Up to a tenth more, so that the slots of a node do not start in step.
                let jitter = 1.0 + 0.1 * rand::random::<f64>();
                let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0)).mul_f64(jitter);
                effect::send_after(myself.clone(), wait, || Msg::Tick);
            }
            Action::Offer => self.offer(myself),
            Action::Withdraw => {
                self.deps.links.scheduler.send(scheduler::Msg::Withdrawn(self.slot, self.generation));
            }
            Action::StartJob => self.start_job(myself),
            Action::Retired => self.empty(myself),
        }
    }

    fn offer(&self, myself: &ActorRef<Msg>) {
        let offer = SlotRef { slot: self.slot, generation: self.generation, actor: myself.clone() };
        self.deps.links.scheduler.send(scheduler::Msg::Offered(offer));
    }

    fn start_worker(&mut self, myself: &ActorRef<Msg>) {
        self.worker_generation += 1;
        let generation = self.worker_generation;
        let slots = &self.deps.config.slots;
        let order = StartOrder {
            id: SlotId { slot: self.slot, generation },
            directory: self.dir.path().to_owned(),
            start_timeout: Duration::from_secs(slots.start_timeout_s),
            memory_bytes_max: slots.memory_bytes_max,
            open_files_max: slots.open_files_max,
            file_bytes_max: slots.memory_bytes_max,
        };
        let (dying, dir, runtime) = (self.dying.take(), self.dir.clone(), self.deps.runtime.clone());
        let work = async move {
            if let Some(mut worker) = dying {
                worker.kill().await;
            }
            dir.prepare()?;
            runtime.start(order).await
        };
        effect::spawn(myself.clone(), work, move |result| Msg::WorkerUp(generation, result));
    }

    fn worker_up(
        &mut self,
        myself: &ActorRef<Msg>,
        generation: u64,
        result: Option<Result<Box<dyn Worker>, RuntimeError>>,
    ) {
        if generation != self.worker_generation {
            return;
        }
        match result {
            Some(Ok(worker)) => {
                self.isolation = Some(worker.hello().isolation.clone());
                if let Some(ended) = worker.ended() {
                    let myself = myself.clone();
                    tokio::spawn(async move {
                        ended.cancelled().await;
                        let _ = myself.send_message(Msg::WorkerEnded(generation));
                    });
                }
                self.worker = Some(worker);
                self.note = None;
                self.advance(myself, Input::WorkerUp);
            }
            Some(Err(error @ RuntimeError::Away(_))) => {
                self.note = Some(error.to_string());
                self.advance(myself, Input::WorkerDelayed);
            }
            Some(Err(error)) => self.start_failed(myself, error.to_string()),
            None => self.start_failed(myself, "starting the worker panicked".to_owned()),
        }
    }

    fn start_failed(&mut self, myself: &ActorRef<Msg>, why: String) {
        tracing::error!(slot = self.slot, %why, "a worker did not start");
        self.note = Some(why);
        self.advance(myself, Input::WorkerFailed);
    }

    fn start_job(&mut self, myself: &ActorRef<Msg>) {
        let (Some(worker), Some(assignment)) = (self.worker.take(), self.assignment.take()) else {
            tracing::error!(slot = self.slot, "a job was started without a worker");
            return;
        };
        let stop = StopSignal::default();
        self.running = Some((assignment.job.id, stop.clone()));
        let generation = self.worker_generation;
        let actor = myself.clone();
        let context = attempt::Context {
            deps: self.deps.clone(),
            dir: self.dir.clone(),
            on_step: Box::new(move |step| {
                let _ = actor.send_message(Msg::Step(generation, step));
            }),
            stop,
        };
        let fresh = self.machine.jobs_done() == 0;
        let job = &assignment.job;
        let span =
            tracing::info_span!("attempt", job = %job.id, attempt = job.attempt, start = job.starts, slot = self.slot);
        let work = attempt::run(context, *assignment, worker, fresh);
        let work = tracing::Instrument::instrument(work, span);
        effect::spawn(myself.clone(), work, move |report| Msg::Ended(generation, report));
    }

    /// The scheduler thought the slot free: the claim is handed back.
    fn refuse(&self, assignment: Assignment) {
        let deps = self.deps.clone();
        tokio::spawn(async move {
            let Assignment { job, delivery, .. } = assignment;
            let handed_back = deps.ledger.finish(job.id, job.starts, crate::store::Finish::HandBack).await;
            if let Err(error) = handed_back {
                tracing::error!(job = %job.id, %error, "a refused job could not be handed back; the janitor will");
            }
            let _ = delivery.acker.ack().await;
            deps.links.relay.send(super::relay::Msg::Wake);
        });
    }

    fn empty(&mut self, myself: &ActorRef<Msg>) {
        let (dying, dir) = (self.dying.take(), self.dir.clone());
        let work = async move {
            if let Some(mut worker) = dying {
                worker.kill().await;
            }
            if let Err(error) = dir.remove() {
                tracing::warn!(%error, "a slot directory could not be removed; the next start will");
            }
        };
        effect::spawn(myself.clone(), work, |_| Msg::Emptied);
    }

    fn show(&self) {
        let view = SlotView {
            slot: self.slot,
            state: self.machine.state(),
            generation: self.worker_generation,
            job: self.running.as_ref().map(|running| running.0),
            jobs_done: self.machine.jobs_done(),
            note: self.note.clone(),
        };
        let changed = slot_supervisor::Msg::Changed(self.generation, Box::new(view), self.isolation.clone());
        self.deps.links.slots.send(changed);
    }
}
