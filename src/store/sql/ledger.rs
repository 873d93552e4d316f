//! The ledger on SQL: writer tasks with group commit, a pool of readers beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::progress::Progress;
use super::query::{Readers, query};
use super::rows::now_ms;
use super::writer::Writer;
use super::{accept, events, housekeeping, inventory, nodes, owners, relay, running, uploads};
use crate::job::{Event, ImageId, JobId, Lane, OwnerId, State, UploadId};
use crate::store::*;

/// Events a watcher may lag behind; one that lags further reads them from the table.
pub(in crate::store) const WATCH_EVENTS_MAX: usize = 1024;

/// [`Ledger`] on a database that an adapter has opened.
pub struct SqlLedger {
    pub(in crate::store) readers: Readers,
    pub(in crate::store) writer: Writer,
    /// For leases alone, with a connection of its own: however slow the changes of jobs become, a node that lives says so.
    /// `None` on SQLite, which has one writer: there leases are the first of its next commit.
    leases: Option<Writer>,
    events: broadcast::Sender<EventRow>,
    progress: Progress,
    /// Ends what the adapter has running beside.
    stop: CancellationToken,
}

impl SqlLedger {
    /// Puts the parts together.
    pub(in crate::store) fn new(
        readers: Readers,
        writer: Writer,
        leases: Option<Writer>,
        events: broadcast::Sender<EventRow>,
        stop: CancellationToken,
    ) -> Self {
        Self { readers, writer, leases, events, progress: Progress::default(), stop }
    }

    fn leases(&self) -> &Writer {
        self.leases.as_ref().unwrap_or(&self.writer)
    }
}

#[async_trait]
impl Ledger for SqlLedger {
    async fn accept(&self, submission: Submission) -> LedgerResult<Accepted> {
        let owner = Some(submission.owner);
        self.writer.run_for(owner, move |tx| Box::pin(accept::accept(tx, submission))).await
    }

    async fn recall(&self, owner: OwnerId, key: &str) -> LedgerResult<Option<Recalled>> {
        let row = query(accept::RECALL).bind(owner.0).bind(key).fetch_optional(&self.readers).await?;
        row.as_ref().map(accept::recalled).transpose()
    }

    async fn process_again(&self, job: NewJob, limits: QueueLimits) -> LedgerResult<Option<Admission>> {
        let owner = Some(job.owner);
        self.writer.run_for(owner, move |tx| Box::pin(accept::process_again(tx, job, limits))).await
    }

    async fn announce(
        &self,
        mut announced: Vec<AnnouncedUpload>,
        limit: u64,
        quota: Option<quotas::Quota>,
    ) -> LedgerResult<Announced> {
        for upload in &mut announced {
            upload.expires_at_ms = self.writer.database_ms(upload.expires_at_ms);
        }
        let owner = announced.first().map(|upload| upload.owner);
        let made =
            self.writer.run_for(owner, move |tx| Box::pin(uploads::announce(tx, announced, limit, quota))).await?;
        Ok(match made {
            Announced::TooMany { measured, room_at_ms } => {
                Announced::TooMany { measured, room_at_ms: self.writer.node_ms(room_at_ms) }
            }
            Announced::Created | Announced::QuotaReached(_) => made,
        })
    }

    async fn announced(&self, owner: OwnerId, id: UploadId) -> LedgerResult<Option<AnnouncedUpload>> {
        let mut found = uploads::announced(&self.readers, owner, id).await?;
        if let Some(upload) = &mut found {
            upload.expires_at_ms = self.writer.node_ms(upload.expires_at_ms);
        }
        Ok(found)
    }

    async fn upload_known(&self, id: UploadId) -> LedgerResult<bool> {
        uploads::known(&self.readers, id).await
    }

    async fn expired_uploads(&self, before_ms: i64, limit: u32) -> LedgerResult<Vec<UploadId>> {
        uploads::expired(&self.readers, self.writer.database_ms(before_ms), limit).await
    }

    async fn forget_uploads(&self, ids: &[UploadId]) -> LedgerResult<()> {
        let ids = ids.to_vec();
        self.writer.run(move |tx| Box::pin(async move { uploads::forget(tx, &ids).await })).await
    }

    async fn waiting(&self, now_ms: i64, per_owner: u32, owners_max: u32) -> LedgerResult<Vec<Waiting>> {
        relay::waiting(&self.readers, self.writer.database_ms(now_ms), per_owner, owners_max).await
    }

    async fn next_due(&self, now_ms: i64) -> LedgerResult<Option<i64>> {
        let due = relay::next_due(&self.readers, self.writer.database_ms(now_ms)).await?;
        Ok(due.map(|due_ms| self.writer.node_ms(due_ms)))
    }

    async fn release(&self, job: JobId, node: &str) -> LedgerResult<bool> {
        let node = Some(node.to_owned());
        self.writer.run(move |tx| Box::pin(relay::step(tx, job, Event::Release, node))).await
    }

    async fn released(&self, limit: u32) -> LedgerResult<Vec<Released>> {
        relay::released(&self.readers, limit).await
    }

    async fn unrelease_all(&self, node: &str) -> LedgerResult<u64> {
        let node = node.to_owned();
        self.writer.run(move |tx| Box::pin(async move { relay::unrelease_all(tx, &node).await })).await
    }

    async fn unrelease(&self, job: JobId) -> LedgerResult<bool> {
        self.writer.run(move |tx| Box::pin(relay::step(tx, job, Event::Unrelease, None))).await
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
        let finish = finish.at_time_of(|node_ms| self.writer.database_ms(node_ms));
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

    async fn find_images(
        &self,
        owner: OwnerId,
        filter: ImageFilter,
        before: Option<ImageId>,
        limit: u32,
    ) -> LedgerResult<Vec<ImageRow>> {
        owners::find_images(&self.readers, owner, filter, before, limit).await
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
        self.writer.run_for(Some(owner), move |tx| Box::pin(owners::retry(tx, owner, id, limits))).await
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

    async fn enlist(&self, name: &str, process: Uuid, lease: Duration) -> LedgerResult<()> {
        let name = name.to_owned();
        self.leases().run_first(move |tx| Box::pin(async move { nodes::enlist(tx, &name, process, lease).await })).await
    }

    async fn renew(
        &self,
        name: &str,
        process: Uuid,
        view: serde_json::Value,
        lease: Duration,
    ) -> LedgerResult<Renewal> {
        let name = name.to_owned();
        self.leases()
            .run_first(move |tx| Box::pin(async move { nodes::renew(tx, &name, process, &view, lease).await }))
            .await
    }

    async fn leave(&self, name: &str, process: Uuid) -> LedgerResult<()> {
        let name = name.to_owned();
        self.leases().run_first(move |tx| Box::pin(async move { nodes::leave(tx, &name, process).await })).await
    }

    async fn wish(&self, name: &str, wish: NodeWish) -> LedgerResult<bool> {
        let name = name.to_owned();
        self.leases().run_first(move |tx| Box::pin(async move { nodes::wish(tx, &name, wish).await })).await
    }

    async fn nodes(&self) -> LedgerResult<Vec<NodeRow>> {
        nodes::nodes(&self.readers, self.writer.database_ms(now_ms())).await
    }

    async fn asked_to_stop(&self, node: &str) -> LedgerResult<Vec<JobId>> {
        let ids = query(nodes::ASKED_TO_STOP).bind(node).scalars(&self.readers).await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    async fn rescue(&self, released: bool) -> LedgerResult<Vec<(JobId, State)>> {
        self.writer.run(move |tx| Box::pin(nodes::rescue(tx, released))).await
    }

    async fn counts(&self) -> LedgerResult<BTreeMap<(Lane, State), u64>> {
        housekeeping::counts(&self.readers).await
    }

    async fn throughput(&self, bucket: Duration, buckets: u32) -> LedgerResult<Vec<u64>> {
        housekeeping::throughput(&self.readers, self.writer.database_ms(now_ms()), bucket, buckets).await
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

    async fn originals(&self, after: Option<ImageId>, limit: u32) -> LedgerResult<Vec<Listed>> {
        inventory::originals(&self.readers, after, limit).await
    }

    async fn outputs(&self, after: Option<(JobId, i64)>, limit: u32) -> LedgerResult<Vec<Listed>> {
        inventory::outputs(&self.readers, after, limit).await
    }

    async fn prune(&self, now_ms: i64, keep: Duration) -> LedgerResult<u64> {
        let before_ms =
            self.writer.database_ms(now_ms).saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
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
        query("SELECT 1 FROM jobs LIMIT 1").fetch_optional(&self.readers).await.map(drop)
    }

    async fn close(&self) {
        self.writer.close().await;
        if let Some(leases) = &self.leases {
            leases.close().await;
        }
        self.stop.cancel();
        self.readers.close().await;
    }
}
