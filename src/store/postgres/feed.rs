//! Brings what any node has committed to this node's watchers, in the order of each owner's numbers.
//!
//! 1. What is true stands in `event_heads` and `events`; a notification only says that it is worth a look. One that is lost
//!    costs the time until the next poll.
//! 2. A notification is sent after the commit, on another connection: inside it, PostgreSQL would let the commits of all
//!    nodes wait for each other.
//! 3. This node's own events come the same way, so that watchers see one order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::job::OwnerId;
use crate::store::sql::events::events_after;
use crate::store::sql::query::{Readers, database_error, query};
use crate::store::{EventRow, LedgerResult};

/// Name of the notifications.
const CHANNEL: &str = "inkpool_events";
/// Owners whose number moved after `$1`, beside the time of the database.
const MOVED: &str = "
    SELECT clock.now_ms, heads.owner, heads.seq
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
    LEFT JOIN event_heads AS heads ON heads.moved_at_ms > $1";
/// A commit shows this much later than its time at most: far above every bound on a transaction, milliseconds.
const SLACK_MS: i64 = 120_000;
/// Rows read at once.
const ROWS_MAX: u32 = 500;

/// The task's state.
pub(super) struct Feed {
    pool: PgPool,
    readers: Readers,
    watchers: broadcast::Sender<EventRow>,
    nudge: Arc<Notify>,
    poll: Duration,
    /// Tells this node's own notifications from those of others.
    me: String,
    listener: Option<PgListener>,
    /// The last number of each owner that watchers have seen: 24 bytes for every owner there is.
    seen: BTreeMap<OwnerId, i64>,
    /// When it last looked, by the clock of the database.
    looked_at_ms: i64,
}

/// Why the task woke up.
enum Wake {
    /// This node has committed.
    Own,
    /// Another one has, or it is time to look.
    Others,
    /// A notification of this node's own.
    Echo,
}

impl Feed {
    /// Starts the task; returns what a writer pokes after its commit.
    pub(super) async fn start(
        pool: PgPool,
        readers: Readers,
        watchers: broadcast::Sender<EventRow>,
        poll: Duration,
        stop: &CancellationToken,
    ) -> LedgerResult<Arc<Notify>> {
        let nudge = Arc::new(Notify::new());
        let me = Uuid::new_v4().to_string();
        let (seen, looked_at_ms) = (BTreeMap::new(), 0);
        let feed =
            Self { pool, readers, watchers, nudge: Arc::clone(&nudge), poll, me, listener: None, seen, looked_at_ms };
        let mut feed = feed;
        // What happened before is no news.
        feed.look(false).await?;
        feed.listen().await;
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(feed.run()).await });
        Ok(nudge)
    }

    async fn run(mut self) {
        loop {
            let wake = self.wait().await;
            if matches!(wake, Wake::Echo) {
                continue;
            }
            if self.listener.is_none() {
                self.listen().await;
            }
            if matches!(wake, Wake::Own)
                && let Err(error) = self.tell_others().await
            {
                tracing::debug!(%error, "other nodes were not told of a commit; they poll");
            }
            if let Err(error) = self.look(true).await {
                tracing::warn!(%error, "events cannot be read at the moment");
                tokio::time::sleep(self.poll).await;
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let nudge = Arc::clone(&self.nudge);
        let notification = async {
            match &mut self.listener {
                Some(listener) => listener.try_recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = nudge.notified() => Wake::Own,
            () = tokio::time::sleep(self.poll) => Wake::Others,
            received = notification => match received {
                Ok(Some(notification)) if notification.payload() == self.me => Wake::Echo,
                Ok(Some(_)) => Wake::Others,
                lost => {
                    let why = lost.err().map_or_else(|| "the connection was closed".to_owned(), |error| error.to_string());
                    tracing::warn!(why, "notifications of the database are lost; it is polled until they come back");
                    self.listener = None;
                    Wake::Others
                }
            },
        }
    }

    async fn listen(&mut self) {
        let listening = async {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            // A lost connection is made again here, where it is bounded.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match tokio::time::timeout(self.poll, listening).await {
            Ok(Ok(listener)) => self.listener = Some(listener),
            Ok(Err(error)) => tracing::debug!(error = %database_error(error), "notifications are not back yet"),
            Err(_) => tracing::debug!("notifications are not back yet"),
        }
    }

    async fn tell_others(&self) -> LedgerResult<()> {
        query("SELECT pg_notify($1, $2)::text")
            .bind(CHANNEL)
            .bind(self.me.as_str())
            .execute(&self.readers)
            .await
            .map(drop)
    }

    /// Reads what moved since the last look and gives it to the watchers.
    async fn look(&mut self, tell: bool) -> LedgerResult<()> {
        let rows = query(MOVED).bind(self.looked_at_ms - SLACK_MS).fetch_all(&self.readers).await?;
        for row in &rows {
            let Some(owner) = row.get::<Option<Uuid>>("owner")?.map(OwnerId) else { continue };
            let head: i64 = row.get("seq")?;
            if tell {
                self.bring(owner, head).await?;
            } else {
                self.seen.insert(owner, head);
            }
        }
        if let Some(row) = rows.first() {
            self.looked_at_ms = row.get("now_ms")?;
        }
        Ok(())
    }

    async fn bring(&mut self, owner: OwnerId, head: i64) -> LedgerResult<()> {
        let mut seen = self.seen.get(&owner).copied().unwrap_or(0);
        while seen < head {
            let events = events_after(&self.readers, owner, None, seen, ROWS_MAX).await?;
            // Those up to the head that are not there were pruned.
            let last = events.last().map_or(head, |event| event.seq);
            for event in events {
                // Nobody may be watching.
                drop(self.watchers.send(event));
            }
            seen = last;
            self.seen.insert(owner, seen);
        }
        Ok(())
    }
}
