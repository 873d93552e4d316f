//! The one task that writes. Changes that wait at the same time are committed together: one flush for all of them.
//!
//! The task owns connection and transaction, so a caller that is dropped (a client that hung up) leaves nothing half
//! done. Each change runs in a savepoint of its own: one that fails undoes itself alone.

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rows::{database_error, now_ms};
use crate::store::{EventRow, LedgerError, LedgerResult};

/// What a change works with.
pub(super) struct Tx {
    /// In an open transaction.
    pub(super) conn: SqliteConnection,
    /// One time for everything in this commit, milliseconds since 1970.
    pub(super) now_ms: i64,
    /// Rows written so far, sent to watchers after the commit.
    pub(super) events: Vec<EventRow>,
}

/// A change on its way to the writer task.
#[async_trait::async_trait]
trait Change: Send {
    /// Whether it is to be kept.
    async fn run(&mut self, tx: &mut Tx) -> bool;
    /// Answers the caller, if it still waits.
    fn reply(self: Box<Self>, committed: LedgerResult<()>);
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<LedgerResult<T>>,
    caller: oneshot::Sender<LedgerResult<T>>,
}

#[async_trait::async_trait]
impl<T, F> Change for Pending<T, F>
where
    T: Send,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send,
{
    async fn run(&mut self, tx: &mut Tx) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = work(tx).await;
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn reply(self: Box<Self>, committed: LedgerResult<()>) {
        let answer = match (self.result, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(LedgerError::Unavailable("the change was not run".to_owned())),
        };
        // A caller that went away does not want to know.
        drop(self.caller.send(answer));
    }
}

/// Hands changes to the writer task.
pub(super) struct Writer {
    changes: mpsc::Sender<Box<dyn Change>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Writer {
    /// Starts the task. `queue_max` changes may wait, `batch_max` of them share a commit.
    pub(super) fn start(
        options: SqliteConnectOptions,
        conn: SqliteConnection,
        queue_max: usize,
        batch_max: usize,
        events: broadcast::Sender<EventRow>,
    ) -> Self {
        let (changes, waiting) = mpsc::channel(queue_max.max(1));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let task = Task { options, conn: Some(conn), events, batch_max: batch_max.max(1) };
        tasks.spawn(task.run(waiting, stop.clone()));
        tasks.close();
        Self { changes, stop, tasks }
    }

    /// Runs `work` in the next commit and answers after it. Waits while the queue is full. Once handed over, the change is
    /// made even if the caller goes away.
    pub(super) async fn run<T, F>(&self, work: F) -> LedgerResult<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send + 'static,
    {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        let (caller, answer) = oneshot::channel();
        let change = Pending { work: Some(work), result: None, caller };
        self.changes.send(Box::new(change)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Whether changes are still taken.
    pub(super) fn is_open(&self) -> bool {
        !self.changes.is_closed()
    }

    /// Changes that wait for the next commit.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.changes.max_capacity() - self.changes.capacity()
    }

    /// Takes no more changes and waits until all that were handed over are committed.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

struct Task {
    options: SqliteConnectOptions,
    /// `None` after a failed transaction: a fresh connection cannot be in the middle of one.
    conn: Option<SqliteConnection>,
    events: broadcast::Sender<EventRow>,
    batch_max: usize,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Change>>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                // Closed, not dropped: `recv` still gives what was handed over before.
                () = stop.cancelled(), if !waiting.is_closed() => { waiting.close(); continue }
                first = waiting.recv() => first,
            };
            let Some(first) = first else { break };
            let mut batch = vec![first];
            while batch.len() < self.batch_max
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.commit(batch).await;
        }
        if let Some(conn) = self.conn
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "the ledger did not close cleanly");
        }
    }

    async fn commit(&mut self, mut batch: Vec<Box<dyn Change>>) {
        let committed = match self.transact(&mut batch).await {
            Ok(events) => {
                for event in events {
                    // Nobody may be watching.
                    drop(self.events.send(event));
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, changes = batch.len(), "nothing of a commit was written");
                Err(error)
            }
        };
        for change in batch {
            change.reply(committed.clone());
        }
    }

    /// On an error the connection is dropped, which undoes all of the transaction.
    async fn transact(&mut self, batch: &mut [Box<dyn Change>]) -> LedgerResult<Vec<EventRow>> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.options.connect().await.map_err(database_error)?,
        };
        let mut tx = Tx { conn, now_ms: now_ms(), events: Vec::new() };
        tx.execute("BEGIN IMMEDIATE").await?;
        for change in batch {
            let events_before = tx.events.len();
            tx.execute("SAVEPOINT change").await?;
            if !change.run(&mut tx).await {
                tx.events.truncate(events_before);
                tx.execute("ROLLBACK TO change").await?;
            }
            tx.execute("RELEASE change").await?;
        }
        tx.execute("COMMIT").await?;
        self.conn = Some(tx.conn);
        Ok(tx.events)
    }
}

impl Tx {
    async fn execute(&mut self, sql: &'static str) -> LedgerResult<()> {
        sqlx::query(sql).execute(&mut self.conn).await.map(drop).map_err(database_error)
    }
}
