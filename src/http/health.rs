//! `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::identity::Caller;
use super::problem::{Kind, Problem};
use crate::cluster::{NodeView, SlotState};
use crate::containers::RuntimeReport;
use crate::job::{Lane, State as JobState};

/// Ask again after this long, seconds: slots need about as much to come back.
const NOT_READY_RETRY_S: u64 = 5;

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Program version.
    version: &'static str,
}

/// Whether the process answers; says nothing about what it depends on.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "health", responses((status = 200, body = Live)))]
pub async fn live() -> axum::Json<Live> {
    axum::Json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// That uploads are taken and processed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always true here; the problem document is the other answer.
    ready: bool,
    /// For each node, what is in force around its workers.
    runtimes: BTreeMap<String, RuntimeReport>,
}

/// Whether uploads are taken and processed, and the isolation in force.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", responses(
    (status = 200, body = Ready),
    (status = 503, description = "`not_ready`, with `reasons`", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn ready(State(state): State<AppState>) -> Result<axum::Json<Ready>, Problem> {
    let mut reasons = state.control.readiness().await.reasons;
    if let Err(error) = state.ledger.ping().await {
        tracing::warn!(%error, "ledger");
        reasons.push("The ledger cannot be used.".to_owned());
    }
    match state.blobs.free_bytes() {
        Ok(Some(free)) if free < state.config.blobs.free_bytes_min => {
            reasons.push(format!("{free} bytes are free on the disk, too few to take uploads."));
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "object store");
            reasons.push("The object store cannot be used.".to_owned());
        }
    }
    let nodes = state.control.nodes().await.unwrap_or_default();
    if reasons.is_empty() {
        let runtimes = nodes.into_iter().map(|node| (node.id, node.runtime)).collect();
        return Ok(axum::Json(Ready { ready: true, runtimes }));
    }
    let mut problem = Problem::new(Kind::NotReady, reasons.join(" ")).retry_after(NOT_READY_RETRY_S);
    problem.reasons = reasons;
    Err(problem)
}

/// Figures in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(state): State<AppState>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    if !state.config.auth.metrics_public {
        caller.administrator()?;
    }
    let counts = state.ledger.counts().await?;
    for lane in Lane::ALL {
        for job_state in JobState::ALL.into_iter().filter(|job_state| !job_state.is_final()) {
            let jobs = counts.get(&(lane, job_state)).copied().unwrap_or_default();
            metrics::gauge!("inkpool_jobs", "lane" => lane.as_str(), "state" => job_state.as_str()).set(gauge(jobs));
        }
    }
    for (lane, depth) in state.control.bus_depth().await {
        for (name, messages) in [("pending", depth.pending), ("in_flight", depth.in_flight)] {
            metrics::gauge!("inkpool_bus_messages", "lane" => lane.as_str(), "state" => name)
                .set(gauge(messages as u64));
        }
    }
    for node in state.control.nodes().await.unwrap_or_default() {
        slots(&node);
    }
    metrics::gauge!("inkpool_object_store_up").set(f64::from(u8::from(state.blobs.outage().is_none())));
    let is_ready = state.control.readiness().await.reasons.is_empty();
    metrics::gauge!("inkpool_ready").set(f64::from(u8::from(is_ready)));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()))
}

fn slots(node: &NodeView) {
    for slot_state in SlotState::ALL {
        let count = node.slots.iter().filter(|slot| slot.state == slot_state).count();
        metrics::gauge!("inkpool_slots", "node" => node.id.clone(), "state" => slot_state.as_str())
            .set(gauge(count as u64));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of Prometheus is a float; counts stay far below 2^53")]
const fn gauge(value: u64) -> f64 {
    value as f64
}
