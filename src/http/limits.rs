//! Bounds that hold for every request: header size, requests at once, time.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::AppState;
use super::problem::{Kind, Problem};
use crate::store::QueueFull;

/// Requests are short; when all places are taken one is free soon.
const BUSY_RETRY_S: u64 = 1;
/// Taken for the duration of a job before the first has ended, milliseconds.
const TYPICAL_MS_UNKNOWN: u64 = 1000;

/// Answers 431 for headers above the bound that still fitted into the parser's buffer. The parser itself answers 431
/// without a body for what does not even fit there.
pub async fn header_size(State(state): State<AppState>, request: Request, next: Next) -> Result<Response, Problem> {
    let limit = state.config.http.header_bytes_max;
    // Name, colon, space, value, line end; the request line has about ten bytes besides the target.
    let lines: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let measured = lines + target + 16;
    if measured > limit {
        return Err(Problem::new(Kind::HeadersTooLarge, "Request line and headers together are too long.")
            .figures(format!("{limit} bytes"), format!("{measured} bytes")));
    }
    Ok(next.run(request).await)
}

/// Answers 503 when too many requests are being handled, and 408 when one takes too long.
pub async fn load_and_time(State(state): State<AppState>, request: Request, next: Next) -> Result<Response, Problem> {
    let Ok(_place) = state.requests.try_acquire() else {
        return Err(busy("requests", state.config.http.requests_max));
    };
    let allowed = state.request_timeout();
    tokio::time::timeout(allowed, next.run(request)).await.map_err(|_| too_slow(allowed))
}

/// All places of a kind are taken.
pub fn busy(what: &str, places: usize) -> Problem {
    Problem::new(Kind::Overloaded, format!("{places} {what} are being handled, and no more are taken at once."))
        .figures(format!("{places} {what}"), format!("more than {places} {what}"))
        .remedy("Send it again after the time in Retry-After.")
        .retry_after(BUSY_RETRY_S)
}

/// The request as a whole, or the wait for its next byte, took longer than `allowed`.
pub fn too_slow(allowed: std::time::Duration) -> Problem {
    Problem::new(Kind::RequestTimeout, "The bytes of the request did not come in time.")
        .figures(format!("{} s", allowed.as_secs()), format!("more than {} s", allowed.as_secs()))
        .remedy("Send it again over a faster connection, or in smaller requests.")
}

/// Enough unfinished jobs: says when `wanted` more should find room.
pub async fn queue_full(state: &AppState, full: QueueFull, wanted: u64) -> Problem {
    let typical_ms = state.ledger.typical_duration_ms().await.ok().flatten();
    let nodes = state.control.nodes().await.unwrap_or_default();
    let slots = nodes.iter().filter(|node| !node.draining).map(|node| u64::from(node.slots_count)).sum();
    let excess = full.measured.saturating_add(wanted).saturating_sub(full.limit);
    Problem::new(Kind::QueueFull, format!("{} jobs are waiting, and no more are taken.", full.measured))
        .figures(format!("{} jobs", full.limit), format!("{} jobs", full.measured))
        .remedy("Send it again after the time in Retry-After.")
        .retry_after(drained_after_s(typical_ms, excess, slots))
}

/// Seconds until `excess` jobs should be done, rounded up.
pub fn drained_after_s(typical_ms: Option<u64>, excess: u64, slots: u64) -> u64 {
    let work_ms = typical_ms.unwrap_or(TYPICAL_MS_UNKNOWN).saturating_mul(excess.max(1));
    work_ms.div_ceil(slots.max(1)).div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_follows_the_work_ahead() {
        assert_eq!(drained_after_s(Some(4000), 1, 2), 2);
        assert_eq!(drained_after_s(Some(250), 1, 4), 1);
        assert_eq!(drained_after_s(Some(1000), 100, 2), 50);
        assert_eq!(drained_after_s(None, 10, 1), 10);
        assert_eq!(drained_after_s(Some(1000), 3, 0), 3);
    }
}
