//! The tasks that write. Changes that wait at the same time are committed together: one flush for all of them. One task
//! writes to SQLite, several to PostgreSQL.
//!
//! A task owns connection and transaction, so a caller that is dropped (a client that hung up) leaves nothing half
//! done. Changes that share a commit run in a savepoint each: one that fails undoes itself alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::query::{Conn, Sql, database_error, query};
use super::quotas::Spent;
use super::rows::now_ms;
use super::{events, quotas};
use crate::job::OwnerId;
use crate::store::{EventRow, LedgerError, LedgerResult};

/// The lock first on SQLite, so that a transaction never has to be begun again.
const BEGIN: Sql = Sql::each("BEGIN IMMEDIATE", "BEGIN");
/// Nodes of one database go by its clock.
const DATABASE_NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Urgent changes that may wait: a node has one renewal under way.
const URGENT_MAX: usize = 16;

/// Clocks that differ by less are the same: what is due a moment later is found a moment later.
const SKEW_MIN_MS: i64 = 1000;

/// What a change works with.
pub(in crate::store) struct Tx {
    /// In an open transaction.
    pub(in crate::store) conn: Conn,
    /// One time for everything in this commit, milliseconds since 1970.
    pub(in crate::store) now_ms: i64,
    /// What happened so far: numbered and written before the commit, sent to watchers after it.
    pub(in crate::store) events: Vec<EventRow>,
    /// What it adds to the sums of owners: written before the events.
    pub(in crate::store) spent: Vec<Spent>,
}

/// Where connections come from.
#[derive(Debug, Clone)]
pub(in crate::store) enum Source {
    /// A file.
    Sqlite(Box<SqliteConnectOptions>),
    /// A server.
    Postgres {
        /// Where it is.
        options: Box<PgConnectOptions>,
        /// A connection that takes longer to come or to commit is given up: the server may be out of reach.
        bound: Duration,
    },
}

impl Source {
    /// A fresh connection.
    pub(in crate::store) async fn connect(&self) -> LedgerResult<Conn> {
        match self {
            Self::Sqlite(options) => Ok(Conn::Sqlite(Box::new(options.connect().await.map_err(database_error)?))),
            Self::Postgres { options, bound } => {
                let conn = within(*bound, async { options.connect().await.map_err(database_error) }).await?;
                Ok(Conn::Postgres(Box::new(conn)))
            }
        }
    }
}

async fn within<T>(bound: Duration, work: impl Future<Output = LedgerResult<T>>) -> LedgerResult<T> {
    let done = tokio::time::timeout(bound, work).await;
    done.unwrap_or_else(|_| Err(LedgerError::Unavailable("the database does not answer".to_owned())))
}

/// Who hears of a commit.
#[derive(Debug, Clone)]
pub(in crate::store) enum Announce {
    /// Watchers at once: nobody else writes.
    Watchers(broadcast::Sender<EventRow>),
    /// The feed, which reads what this and other nodes have written.
    Feed(Arc<Notify>),
}

/// A change on its way to the writer task.
#[async_trait::async_trait]
trait Change: Send {
    /// For whom it accepts something: no other change does so for them before the commit.
    fn owner(&self) -> Option<OwnerId>;
    /// Whether it is to be kept.
    async fn run(&mut self, tx: &mut Tx) -> bool;
    /// Answers the caller, if it still waits.
    fn reply(self: Box<Self>, committed: LedgerResult<()>);
}

struct Pending<T, F> {
    owner: Option<OwnerId>,
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
    fn owner(&self) -> Option<OwnerId> {
        self.owner
    }

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

/// Hands changes to the writer tasks.
pub(in crate::store) struct Writer {
    changes: mpsc::Sender<Box<dyn Change>>,
    /// The next commit takes these before all that wait.
    urgent: mpsc::Sender<Box<dyn Change>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    skew_ms: Arc<AtomicI64>,
}

impl Writer {
    /// Starts a task for each of `conns`. `queue_max` changes may wait, `batch_max` of them share a commit.
    pub(in crate::store) fn start(
        source: &Source,
        conns: Vec<Conn>,
        queue_max: usize,
        batch_max: usize,
        announce: &Announce,
    ) -> Self {
        let (changes, waiting) = mpsc::channel(queue_max.max(1));
        let (urgent, first) = mpsc::channel(URGENT_MAX);
        let waiting = Arc::new(Mutex::new(Waiting { first, rest: waiting }));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let skew_ms = Arc::new(AtomicI64::new(0));
        for conn in conns {
            let (source, announce, skew_ms) = (source.clone(), announce.clone(), Arc::clone(&skew_ms));
            let task = Task { source, conn: Some(conn), announce, batch_max: batch_max.max(1), skew_ms };
            tasks.spawn(task.run(Arc::clone(&waiting), stop.clone()));
        }
        tasks.close();
        Self { changes, urgent, stop, tasks, skew_ms }
    }

    /// A time of this node by the clock of the database, as it was at the last commit.
    pub(in crate::store) fn database_ms(&self, node_ms: i64) -> i64 {
        node_ms.saturating_add(self.skew_ms.load(Ordering::Relaxed))
    }

    /// The other way.
    pub(in crate::store) fn node_ms(&self, database_ms: i64) -> i64 {
        database_ms.saturating_sub(self.skew_ms.load(Ordering::Relaxed))
    }

    /// Runs `work` in the next commit and answers after it. Waits while the queue is full. Once handed over, the change is
    /// made even if the caller goes away.
    pub(in crate::store) async fn run<T, F>(&self, work: F) -> LedgerResult<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send + 'static,
    {
        self.run_for(None, work).await
    }

    /// The same for what looks at the bounds of an owner: from its batch to its commit no other transaction does so for them.
    pub(in crate::store) async fn run_for<T, F>(&self, owner: Option<OwnerId>, work: F) -> LedgerResult<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send + 'static,
    {
        Self::hand_over(&self.changes, owner, work).await
    }

    /// The same before everything that waits.
    pub(in crate::store) async fn run_first<T, F>(&self, work: F) -> LedgerResult<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send + 'static,
    {
        Self::hand_over(&self.urgent, None, work).await
    }

    async fn hand_over<T, F>(queue: &mpsc::Sender<Box<dyn Change>>, owner: Option<OwnerId>, work: F) -> LedgerResult<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, LedgerResult<T>> + Send + 'static,
    {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        let (caller, answer) = oneshot::channel();
        let change = Pending { owner, work: Some(work), result: None, caller };
        queue.send(Box::new(change)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Whether changes are still taken.
    pub(in crate::store) fn is_open(&self) -> bool {
        !self.changes.is_closed()
    }

    /// Changes that wait for the next commit.
    #[cfg(test)]
    pub(in crate::store) fn waiting(&self) -> usize {
        self.changes.max_capacity() - self.changes.capacity()
    }

    /// Takes no more changes and waits until all that were handed over are committed.
    pub(in crate::store) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

type Queue = mpsc::Receiver<Box<dyn Change>>;

/// Changes that wait for a writer task.
struct Waiting {
    first: Queue,
    rest: Queue,
}

impl Waiting {
    fn next_now(&mut self) -> Option<Box<dyn Change>> {
        self.first.try_recv().or_else(|_| self.rest.try_recv()).ok()
    }
}

/// What waits, at most `max`; empty at the end.
async fn next_batch(waiting: &Mutex<Waiting>, stop: &CancellationToken, max: usize) -> Vec<Box<dyn Change>> {
    let mut waiting = waiting.lock().await;
    let Waiting { first, rest } = &mut *waiting;
    let next = loop {
        tokio::select! {
            biased;
            // Closed, not dropped: `recv` still gives what was handed over before.
            () = stop.cancelled(), if !rest.is_closed() => {
                first.close();
                rest.close();
            }
            Some(next) = first.recv() => break Some(next),
            next = rest.recv() => break next,
        }
    };
    let mut batch: Vec<_> = next.into_iter().collect();
    while !batch.is_empty()
        && batch.len() < max
        && let Some(next) = waiting.next_now()
    {
        batch.push(next);
    }
    batch
}

struct Task {
    source: Source,
    /// `None` after a failed transaction: a fresh connection cannot be in the middle of one.
    conn: Option<Conn>,
    announce: Announce,
    batch_max: usize,
    /// How far the clock of the database is ahead of this node's.
    skew_ms: Arc<AtomicI64>,
}

impl Task {
    async fn run(mut self, waiting: Arc<Mutex<Waiting>>, stop: CancellationToken) {
        loop {
            let batch = next_batch(&waiting, &stop, self.batch_max).await;
            if batch.is_empty() {
                break;
            }
            self.commit(batch).await;
        }
        let closed = match self.conn {
            Some(Conn::Sqlite(conn)) => conn.close().await,
            Some(Conn::Postgres(conn)) => conn.close().await,
            None => Ok(()),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the ledger did not close cleanly");
        }
    }

    async fn commit(&mut self, mut batch: Vec<Box<dyn Change>>) {
        let committed = match self.attempt(&mut batch).await {
            Ok(events) => {
                self.announce(events);
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

    fn announce(&self, events: Vec<EventRow>) {
        match &self.announce {
            Announce::Watchers(watchers) => {
                for event in events {
                    // Nobody may be watching.
                    drop(watchers.send(event));
                }
            }
            Announce::Feed(_) if events.is_empty() => {}
            Announce::Feed(feed) => feed.notify_one(),
        }
    }

    /// On an error the connection is dropped, which undoes all of the transaction, unless only the answer to its commit was
    /// lost. Nothing of it comes back to a pool.
    async fn attempt(&mut self, batch: &mut [Box<dyn Change>]) -> LedgerResult<Vec<EventRow>> {
        match self.source {
            Source::Sqlite(_) => self.transact(batch).await,
            Source::Postgres { bound, .. } => within(bound, self.transact(batch)).await,
        }
    }

    /// A connection in a fresh transaction. One that was kept may have died since its last commit, as all do when the server
    /// starts again; no change has been sent over it by then, so another one takes its place.
    async fn begin(&mut self) -> LedgerResult<Conn> {
        if let Some(mut kept) = self.conn.take() {
            let Err(error) = query(BEGIN).execute(&mut kept).await else { return Ok(kept) };
            if let Conn::Sqlite(_) = kept {
                return Err(error);
            }
            tracing::debug!(%error, "a connection to the database was lost while it waited");
        }
        let mut conn = self.source.connect().await?;
        query(BEGIN).execute(&mut conn).await?;
        Ok(conn)
    }

    async fn transact(&mut self, batch: &mut [Box<dyn Change>]) -> LedgerResult<Vec<EventRow>> {
        let conn = self.begin().await?;
        let mut tx = Tx { conn, now_ms: now_ms(), events: Vec::new(), spent: Vec::new() };
        // Before everything else: no transaction that holds rows waits for one of these.
        let owners: BTreeSet<OwnerId> = batch.iter().filter_map(|change| change.owner()).collect();
        quotas::lock(&mut tx.conn, owners).await?;
        if let Conn::Postgres(_) = tx.conn {
            tx.now_ms = query(DATABASE_NOW).scalar(&mut tx.conn).await?;
            let skew_ms = tx.now_ms - now_ms();
            self.skew_ms.store(if skew_ms.abs() < SKEW_MIN_MS { 0 } else { skew_ms }, Ordering::Relaxed);
        }
        if let [alone] = batch {
            if !alone.run(&mut tx).await {
                tx.execute("ROLLBACK").await?;
                self.conn = Some(tx.conn);
                return Ok(Vec::new());
            }
        } else {
            for change in batch {
                tx.keep_or_undo(change.as_mut()).await?;
            }
        }
        quotas::write(&mut tx.conn, tx.now_ms, &tx.spent).await?;
        events::write(&mut tx.conn, &mut tx.events).await?;
        tx.execute("COMMIT").await?;
        self.conn = Some(tx.conn);
        Ok(tx.events)
    }
}

impl Tx {
    /// Runs one of several changes; one that fails undoes itself alone.
    async fn keep_or_undo(&mut self, change: &mut dyn Change) -> LedgerResult<()> {
        let (events_before, spent_before) = (self.events.len(), self.spent.len());
        self.execute("SAVEPOINT change").await?;
        if !change.run(self).await {
            self.events.truncate(events_before);
            self.spent.truncate(spent_before);
            self.execute("ROLLBACK TO change").await?;
        }
        self.execute("RELEASE change").await
    }

    async fn execute(&mut self, sql: impl Into<Sql>) -> LedgerResult<()> {
        query(sql).execute(&mut self.conn).await.map(drop)
    }
}
