//! `/cluster`: nodes, slots, queues.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Json, Path, whole_or_none};
use super::problem::Problem;
use crate::cluster::NodeView;
use crate::job::{Lane, State as JobState};

/// What waits in one lane.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queue {
    /// `interactive` or `bulk`.
    #[schema(value_type = String)]
    lane: Lane,
    /// Waiting to be released to the bus.
    queued: u64,
    /// On the bus.
    released: u64,
    /// In a slot.
    running: u64,
    /// Messages on the bus that nobody has pulled.
    bus_pending: usize,
    /// Messages on the bus that are pulled and not acknowledged.
    bus_in_flight: usize,
}

/// Spans of the last hour.
const SPANS: u32 = 12;
/// Length of one.
const SPAN: Duration = Duration::from_secs(300);

/// The cluster as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cluster {
    /// Equal peers.
    nodes: Vec<NodeView>,
    /// One for each lane.
    queues: Vec<Queue>,
    /// Jobs that succeeded in each five minutes of the last hour, the oldest first.
    throughput: Vec<u64>,
}

/// Nodes with their slots, and the lengths of the queues.
#[utoipa::path(get, path = "/cluster", operation_id = "show_cluster", tag = "cluster", responses(
    (status = 200, body = Cluster),
    (status = 503, description = "`unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(State(state): State<AppState>) -> Result<axum::Json<Cluster>, Problem> {
    let nodes = state.control.nodes().await?;
    let counts = state.ledger.counts().await?;
    let depths: BTreeMap<_, _> = state.control.bus_depth().await.into_iter().collect();
    let queue = |lane: Lane| {
        let jobs = |job_state| counts.get(&(lane, job_state)).copied().unwrap_or_default();
        let depth = depths.get(&lane).copied().unwrap_or_default();
        Queue {
            lane,
            queued: jobs(JobState::Queued),
            released: jobs(JobState::Released),
            running: jobs(JobState::Running),
            bus_pending: depth.pending,
            bus_in_flight: depth.in_flight,
        }
    };
    let throughput = state.ledger.throughput(SPAN, SPANS).await?;
    Ok(axum::Json(Cluster { nodes, queues: Lane::ALL.map(queue).into(), throughput }))
}

/// What to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"slots_count": 4}))]
pub struct Change {
    /// Slots wanted, at least one.
    #[serde(default, deserialize_with = "whole_or_none")]
    slots_count: Option<u32>,
    /// Whether the node takes no new jobs.
    draining: Option<bool>,
}

/// Changes the number of slots of a node, or whether it drains. What is left out, or null, stays.
#[utoipa::path(patch, path = "/cluster/nodes/{id}", operation_id = "change_node", tag = "cluster", request_body = Change,
    params(("id" = String, Path)), responses(
    (status = 200, body = NodeView),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`too_many_slots`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Result<axum::Json<NodeView>, Problem> {
    if change.slots_count == Some(0) {
        return Err(Problem::invalid("A node has at least one slot.").remedy("Set draining to take it out of use."));
    }
    Ok(axum::Json(state.control.change_node(&id, change.slots_count, change.draining).await?))
}
