//! The ledger on SQLite: one writer task with group commit, a pool of readers beside it.

mod accept;
mod events;
mod housekeeping;
mod moves;
mod owners;
mod progress;
mod relay;
mod rows;
mod running;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::sync::broadcast;

use self::progress::Progress;
use self::rows::database_error;
use self::writer::Writer;
use super::*;
use crate::config;
use crate::job::{Event, ImageId, JobId, Lane, OwnerId, State};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Events a watcher may lag behind; one that lags further reads them from the table.
const WATCH_EVENTS_MAX: usize = 1024;
/// The write-ahead log is cut back to this after a burst, bytes.
const WAL_BYTES_MAX: i64 = 64 << 20;
/// A reader that gets no connection for this long has met a fault, not a queue.
const READER_WAIT: Duration = Duration::from_secs(10);

/// [`Ledger`] on a SQLite file.
pub struct SqliteLedger {
    readers: SqlitePool,
    writer: Writer,
    events: broadcast::Sender<EventRow>,
    progress: Progress,
}

impl SqliteLedger {
    /// Opens or makes the file and brings its schema up to date. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the file cannot be used, [`LedgerError::Corrupt`] when a later or another program
    /// wrote it.
    pub async fn open(path: &Path, settings: &config::Store) -> LedgerResult<Self> {
        let common = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_millis(settings.busy_timeout_ms))
            .foreign_keys(true);
        // FULL: a commit has reached the disk before anybody is told.
        let writing = common
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", WAL_BYTES_MAX.to_string());
        let mut conn = writing.connect().await.map_err(database_error)?;
        MIGRATIONS.run(&mut conn).await.map_err(migration_error)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(settings.readers.max(1))
            .acquire_timeout(READER_WAIT)
            .connect_with(common.read_only(true))
            .await
            .map_err(database_error)?;
        let (events, _) = broadcast::channel(WATCH_EVENTS_MAX);
        let writer = Writer::start(writing, conn, settings.queue_max, settings.batch_max, events.clone());
        Ok(Self { readers, writer, events, progress: Progress::default() })
    }
}

fn migration_error(error: MigrateError) -> LedgerError {
    let corrupt = LedgerError::Corrupt(error.to_string());
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return database_error(error);
    }
    corrupt
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn accept(&self, submission: Submission) -> LedgerResult<Accepted> {
        self.writer.run(move |tx| Box::pin(accept::accept(tx, submission))).await
    }

    async fn recall(&self, owner: OwnerId, key: &str) -> LedgerResult<Option<Recalled>> {
        let row = sqlx::query(accept::RECALL)
            .bind(owner.0)
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(database_error)?;
        row.as_ref().map(accept::recalled).transpose()
    }

    async fn process_again(&self, job: NewJob, limits: QueueLimits) -> LedgerResult<Option<Admission>> {
        self.writer.run(move |tx| Box::pin(accept::process_again(tx, job, limits))).await
    }

    async fn waiting(&self, now_ms: i64, per_owner: u32, owners_max: u32) -> LedgerResult<Vec<Waiting>> {
        relay::waiting(&self.readers, now_ms, per_owner, owners_max).await
    }

    async fn next_due(&self, now_ms: i64) -> LedgerResult<Option<i64>> {
        relay::next_due(&self.readers, now_ms).await
    }

    async fn release(&self, job: JobId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(relay::step(tx, job, Event::Release))).await
    }

    async fn unrelease_all(&self) -> LedgerResult<u64> {
        self.writer.run(|tx| Box::pin(relay::unrelease_all(tx))).await
    }

    async fn unrelease(&self, job: JobId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(relay::step(tx, job, Event::Unrelease))).await
    }

    async fn claim(&self, job: JobId, starts: u32, holder: Holder) -> LedgerResult<Claim> {
        let claim = self.writer.run(move |tx| Box::pin(running::claim(tx, job, starts, holder))).await?;
        if matches!(claim, Claim::Won { .. }) {
            self.progress.begin(job);
        }
        Ok(claim)
    }

    async fn finish(&self, job: JobId, start: u32, finish: Finish) -> LedgerResult<Finished> {
        let note = self.progress.of(job, start);
        let finished = self.writer.run(move |tx| Box::pin(running::finish(tx, job, start, finish, note))).await?;
        if finished != Finished::Stale {
            self.progress.end(job);
        }
        Ok(finished)
    }

    async fn note_progress(&self, job: JobId, start: u32, stage: &str, fraction: f32) -> LedgerResult<()> {
        self.progress.note(job, start, stage, fraction);
        Ok(())
    }

    async fn recover(&self, node: &str, incarnation: &str) -> LedgerResult<Vec<(JobId, State)>> {
        let (node, incarnation) = (node.to_owned(), incarnation.to_owned());
        self.writer.run(move |tx| Box::pin(async move { running::recover(tx, &node, &incarnation).await })).await
    }

    async fn held(&self, node: &str, incarnation: &str) -> LedgerResult<Vec<(JobId, u32)>> {
        running::held(&self.readers, node, incarnation).await
    }

    async fn image(&self, owner: OwnerId, id: ImageId) -> LedgerResult<Option<ImageRow>> {
        owners::image(&self.readers, owner, id).await
    }

    async fn images(&self, owner: OwnerId, before: Option<ImageId>, limit: u32) -> LedgerResult<Vec<ImageRow>> {
        owners::images(&self.readers, owner, before, limit).await
    }

    async fn delete_image(&self, owner: OwnerId, id: ImageId) -> LedgerResult<Option<Deleted>> {
        let deleted = self.writer.run(move |tx| Box::pin(owners::delete_image(tx, owner, id))).await?;
        for job in deleted.iter().flat_map(|deleted| &deleted.running) {
            self.progress.end(*job);
        }
        Ok(deleted)
    }

    async fn job(&self, owner: OwnerId, id: JobId) -> LedgerResult<Option<JobRow>> {
        let mut job = owners::job(&self.readers, owner, id).await?;
        job.iter_mut().for_each(|job| self.progress.merge(job));
        Ok(job)
    }

    async fn jobs(
        &self,
        owner: OwnerId,
        filter: JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> LedgerResult<Vec<JobRow>> {
        let mut jobs = owners::jobs(&self.readers, owner, filter, before, limit).await?;
        jobs.iter_mut().for_each(|job| self.progress.merge(job));
        Ok(jobs)
    }

    async fn cancel(&self, owner: OwnerId, id: JobId) -> LedgerResult<Option<Cancelled>> {
        self.writer.run(move |tx| Box::pin(owners::cancel(tx, owner, id))).await
    }

    async fn retry(&self, owner: OwnerId, id: JobId, limits: QueueLimits) -> LedgerResult<Option<Retried>> {
        self.writer.run(move |tx| Box::pin(owners::retry(tx, owner, id, limits))).await
    }

    async fn files(&self, owner: OwnerId, image: ImageId) -> LedgerResult<Vec<FileRow>> {
        owners::files(&self.readers, owner, image).await
    }

    async fn events_after(
        &self,
        owner: OwnerId,
        job: Option<JobId>,
        seq: i64,
        limit: u32,
    ) -> LedgerResult<Vec<EventRow>> {
        events::events_after(&self.readers, owner, job, seq, limit).await
    }

    fn watch(&self) -> broadcast::Receiver<EventRow> {
        self.events.subscribe()
    }

    async fn counts(&self) -> LedgerResult<BTreeMap<(Lane, State), u64>> {
        housekeeping::counts(&self.readers).await
    }

    async fn garbage(&self, limit: u32) -> LedgerResult<Vec<Garbage>> {
        housekeeping::garbage(&self.readers, limit).await
    }

    async fn garbage_removed(&self, ids: &[i64]) -> LedgerResult<()> {
        let ids = ids.to_vec();
        self.writer.run(move |tx| Box::pin(async move { housekeeping::garbage_removed(tx, &ids).await })).await
    }

    async fn image_known(&self, id: ImageId) -> LedgerResult<bool> {
        housekeeping::image_known(&self.readers, id).await
    }

    async fn start_known(&self, job: JobId, start: u32) -> LedgerResult<bool> {
        housekeeping::start_known(&self.readers, job, start).await
    }

    async fn prune(&self, now_ms: i64, keep: Duration) -> LedgerResult<u64> {
        let before_ms = now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let mut pruned = 0;
        loop {
            let round = self.writer.run(move |tx| Box::pin(housekeeping::prune(tx, before_ms))).await?;
            if round == 0 {
                return Ok(pruned);
            }
            pruned += round;
        }
    }

    async fn typical_duration_ms(&self) -> LedgerResult<Option<u64>> {
        housekeeping::typical_duration_ms(&self.readers).await
    }

    async fn ping(&self) -> LedgerResult<()> {
        if !self.writer.is_open() {
            return Err(LedgerError::Unavailable("the ledger is closed".to_owned()));
        }
        sqlx::query("SELECT 1 FROM jobs LIMIT 1").fetch_optional(&self.readers).await.map(drop).map_err(database_error)
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}
