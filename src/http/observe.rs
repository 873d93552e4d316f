//! Request ids, spans and the figures of every request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Ids of clients are kept up to this length, bytes: they go into every line of the log.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Gives the request an id and a span, and counts it when it is answered.
pub async fn request(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(&request);
    let method = method_label(request.method());
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id = %id, method, path = %request.uri().path());
    let answer = async move {
        let mut response = next.run(request).await;
        let elapsed = begun.elapsed();
        let status = response.status();
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), duration_ms, "answered");
        } else if method == "GET" {
            tracing::debug!(status = status.as_u16(), duration_ms, "answered");
        } else {
            tracing::info!(status = status.as_u16(), duration_ms, "answered");
        }
        metrics::histogram!(
            "inkpool_http_request_duration_seconds",
            "route" => route, "method" => method, "status" => status.as_u16().to_string()
        )
        .record(elapsed.as_secs_f64());
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    };
    answer.instrument(span).await
}

/// The client's own id if it is harmless, else a fresh one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(harmless).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// A client may send any word as its method; a metric must not have as many series.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.iter().position(|known| known == method).map_or("OTHER", |index| NAMES[index])
}

/// Says what the metrics of this module tree mean; call it once after the recorder is installed.
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("inkpool_refusals_total", "Problem documents sent, by code");
    describe_counter!("inkpool_trace_spans_dropped_total", "Spans that no collector took");
    describe_counter!("inkpool_bytes_in_total", Unit::Bytes, "Bytes of uploads read");
    describe_counter!("inkpool_bytes_out_total", Unit::Bytes, "Bytes of files sent");
    describe_histogram!("inkpool_http_request_duration_seconds", Unit::Seconds, "Time until the answer began");
    describe_counter!("inkpool_events_published_total", "Events published for programs outside");
    describe_counter!("inkpool_submissions_total", "Submissions over NATS, by outcome");
    describe_counter!("inkpool_webhook_attempts_total", "Attempts to bring something to a webhook, by outcome");
    describe_counter!("inkpool_event_stream_lost_total", "Times that the stream of events had lost some");
    describe_gauge!("inkpool_jobs", "Unfinished jobs by lane and state");
    describe_gauge!("inkpool_slots", "Slots by node and state");
    describe_gauge!("inkpool_bus_messages", "Messages on the bus by lane and state");
    describe_gauge!("inkpool_object_store_up", "0 while the object store is out of reach");
    describe_gauge!("inkpool_ready", "1 when this node takes jobs");
}
