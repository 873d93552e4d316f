//! Server-sent events: what happened (`job`, replayed from the ledger) and what is going on (`progress`, live only).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::AppState;
use super::extract::{Path, Query};
use super::identity::Caller;
use super::limits::busy;
use super::problem::Problem;
use crate::cluster::Progress;
use crate::job::{JobId, OwnerId};
use crate::store::EventRow;

/// A comment this often keeps proxies, and our own idle timeout of 30 s, from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a browser waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(2);
/// Events of one stream that may wait for a slow client; the ledger holds the rest.
const BUFFERED_EVENTS: usize = 64;
/// Rows read from the ledger at once.
const REPLAY_ROWS: u32 = 500;

/// Where to go on.
#[derive(Debug, Deserialize)]
pub struct ReplayQuery {
    /// As the header `Last-Event-ID`, for clients that cannot set one.
    last_event_id: Option<i64>,
}

/// Events of all jobs of the caller: `job` with the job object and an `id`, `progress` with `{job, stage, progress}`.
/// With `Last-Event-ID` what happened since comes first; without, only what happens from now on.
#[utoipa::path(get, path = "/events", operation_id = "watch_all", tag = "events",
    params(("last_event_id" = Option<i64>, Query, description = "As the header, for clients that cannot set one"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Go on after this event")), responses(
    (status = 200, content_type = "text/event-stream", body = String, example = "id: 42\nevent: job\ndata: {\"id\":…}\n\n"),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn all(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ReplayQuery>,
    headers: HeaderMap,
) -> Result<Stream, Problem> {
    let after = last_event_id(&headers, &query)?;
    open(&state, caller, None, after)
}

/// Events of one job: all of them, or those after `Last-Event-ID`, then what happens from now on.
#[utoipa::path(get, path = "/jobs/{id}/events", operation_id = "watch_job", tag = "events",
    params(("id" = String, Path, format = Uuid),
        ("last_event_id" = Option<i64>, Query, description = "As the header, for clients that cannot set one"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Go on after this event")), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn of_job(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<JobId>,
    Query(query): Query<ReplayQuery>,
    headers: HeaderMap,
) -> Result<Stream, Problem> {
    let after = last_event_id(&headers, &query)?.unwrap_or(0);
    state.ledger.job(caller.owner()?, id).await?.ok_or_else(|| Problem::not_found("job"))?;
    open(&state, caller, Some(id), Some(after))
}

fn last_event_id(headers: &HeaderMap, query: &ReplayQuery) -> Result<Option<i64>, Problem> {
    // An empty header is what a browser sends when it has seen no id yet.
    let Some(header) = headers.get("last-event-id").filter(|value| !value.is_empty()) else {
        return Ok(query.last_event_id);
    };
    let id = header.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID is the number of an event."))
}

type Stream = Sse<axum::response::sse::KeepAliveStream<ReceiverStream<Result<Event, Infallible>>>>;

fn open(state: &AppState, caller: Caller, job: Option<JobId>, after: Option<i64>) -> Result<Stream, Problem> {
    let owner = caller.owner()?;
    let places = state.config.http.event_streams_max;
    let place = std::sync::Arc::clone(&state.streams).try_acquire_owned().map_err(|_| busy("event streams", places))?;
    let (sender, receiver) = mpsc::channel(BUFFERED_EVENTS);
    // Subscribed before the replay, so that nothing falls between the two.
    let rows = state.ledger.watch();
    let progress = state.control.watch_progress();
    let feed = Feed { state: state.clone(), owner, job, after, sent: None, sender, _place: place };
    let shutdown = state.shutdown.clone();
    let auth = state.ports.auth.clone();
    let told = auth.as_ref().map(|auth| auth.watch_ended());
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            // Whoever is logged out sees nothing more.
            () = caller.ended(auth.as_deref(), told) => {}
            () = feed.run(rows, progress) => {}
        }
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive))
}

/// One stream's end that reads.
struct Feed {
    state: AppState,
    owner: OwnerId,
    job: Option<JobId>,
    /// The last event sent, or the one to go on after.
    after: Option<i64>,
    /// The last event sent here. What comes live is held against this and not against what the client has seen: after a
    /// fresh start of the ledger, numbers begin again.
    sent: Option<i64>,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
}

/// The client is gone, or the stream cannot go on without a gap: it ends, and the client connects again.
struct Ended;

impl Feed {
    async fn run(mut self, mut rows: Receiver<EventRow>, progress: Receiver<Progress>) {
        // The first bytes say that the stream stands.
        let greeting = Event::default().comment("connected").retry(RECONNECT);
        let begun = self.send(greeting).await.is_ok() && self.replay().await.is_ok();
        let mut progress = Some(progress);
        let mut open = begun;
        while open {
            let gone = self.sender.clone();
            open = tokio::select! {
                () = gone.closed() => false,
                row = rows.recv() => self.on_row(row).await.is_ok(),
                Some(fraction) = next_progress(&mut progress) => self.on_progress(&fraction).await.is_ok(),
            };
        }
    }

    /// Sends what the ledger holds after the last event sent.
    async fn replay(&mut self) -> Result<(), Ended> {
        while let Some(after) = self.after {
            let rows = self.state.ledger.events_after(self.owner, self.job, after, REPLAY_ROWS).await;
            let rows = rows.map_err(|error| {
                tracing::warn!(%error, "events cannot be replayed");
                Ended
            })?;
            let is_last = rows.len() < REPLAY_ROWS as usize;
            for row in rows {
                self.send_row(&row).await?;
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn on_row(&mut self, row: Result<EventRow, RecvError>) -> Result<(), Ended> {
        match row {
            Ok(row) if self.is_wanted(row.owner, row.job) && self.sent.is_none_or(|sent| row.seq > sent) => {
                self.send_row(&row).await
            }
            Ok(_) => Ok(()),
            // The client was too slow for the live feed; the ledger has what it missed.
            Err(RecvError::Lagged(_)) if self.after.is_some() => self.replay().await,
            Err(RecvError::Lagged(_) | RecvError::Closed) => Err(Ended),
        }
    }

    async fn on_progress(&self, progress: &Progress) -> Result<(), Ended> {
        if !self.is_wanted(progress.owner, progress.job) {
            return Ok(());
        }
        let event = Event::default().event("progress").json_data(progress).map_err(|_| Ended)?;
        self.send(event).await
    }

    fn is_wanted(&self, owner: OwnerId, job: JobId) -> bool {
        owner == self.owner && self.job.is_none_or(|wanted| wanted == job)
    }

    async fn send_row(&mut self, row: &EventRow) -> Result<(), Ended> {
        let event = Event::default().id(row.seq.to_string()).event("job").json_data(&row.body).map_err(|_| Ended)?;
        self.send(event).await?;
        self.after = Some(row.seq);
        self.sent = Some(row.seq);
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.sender.send(Ok(event)).await.map_err(|_| Ended)
    }
}

/// The next progress. When the actors are gone there is no more, and the stream goes on without.
async fn next_progress(progress: &mut Option<Receiver<Progress>>) -> Option<Progress> {
    loop {
        let Some(receiver) = progress else { return std::future::pending().await };
        match receiver.recv().await {
            Ok(fraction) => return Some(fraction),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *progress = None,
        }
    }
}
