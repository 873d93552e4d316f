//! Progress of running jobs: kept in memory, since it is worth no flush, and written with the end of the attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::job::{JobId, State};
use crate::store::JobRow;

/// The last that a start reported.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Note {
    start: u32,
    /// The step.
    pub(in crate::store) stage: String,
    /// 0..1.
    pub(in crate::store) progress: f32,
}

/// One entry at most for every job claimed here and not ended yet.
#[derive(Debug, Default)]
pub(in crate::store) struct Progress(Mutex<BTreeMap<JobId, Option<Note>>>);

impl Progress {
    fn notes(&self) -> MutexGuard<'_, BTreeMap<JobId, Option<Note>>> {
        // Entries are replaced whole, so a panic elsewhere cannot have left one half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on progress of this job is kept.
    pub(in crate::store) fn begin(&self, job: JobId) {
        self.notes().insert(job, None);
    }

    /// Keeps what `start` reports; nothing for a job that was not claimed here.
    pub(in crate::store) fn note(&self, job: JobId, start: u32, stage: &str, progress: f32) {
        if let Some(entry) = self.notes().get_mut(&job) {
            *entry = Some(Note { start, stage: stage.to_owned(), progress: progress.clamp(0.0, 1.0) });
        }
    }

    /// The last of `start`.
    pub(in crate::store) fn of(&self, job: JobId, start: u32) -> Option<Note> {
        self.notes().get(&job).cloned().flatten().filter(|note| note.start == start)
    }

    /// The job does not run any more.
    pub(in crate::store) fn end(&self, job: JobId) {
        self.notes().remove(&job);
    }

    /// Adds it to a row that was read.
    pub(in crate::store) fn merge(&self, job: &mut JobRow) {
        if job.state == State::Running
            && let Some(note) = self.of(job.id, job.starts)
        {
            (job.stage, job.progress) = (Some(note.stage), note.progress);
        }
    }
}
