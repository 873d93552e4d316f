//! `/webhooks/{id}/deliveries`: the log of a webhook, and bringing something again.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Owner, Page, PageQuery, Path, Query, cut};
use super::problem::Problem;
use super::webhooks::accepted;
use crate::job::{DeliveryId, WebhookId};
use crate::store::rfc3339;
use crate::store::webhooks::{DeliveryRow, DeliveryState, Try};

/// One thing that is or was to be brought.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Key; the `webhook-id` of every attempt.
    #[schema(value_type = String, format = Uuid)]
    id: DeliveryId,
    /// A kind of event, or `ping`.
    kind: String,
    /// Of the event, among those of its owner.
    number: Option<i64>,
    /// Where it stands.
    state: DeliveryState,
    /// Attempts begun.
    attempt: u32,
    /// Bound.
    attempts_max: u32,
    /// Of a pending one: when it is tried next, or given up as lost by whoever is trying.
    due_at: Option<String>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// RFC 3339, UTC.
    ended_at: Option<String>,
    /// The last 20 attempts, oldest first.
    tries: Vec<Try>,
}

/// The same with what is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeDelivery {
    /// The delivery.
    #[serde(flatten)]
    delivery: Delivery,
    /// What is sent: see `docs/events/webhook.json`.
    #[schema(value_type = Object)]
    body: Value,
}

impl Delivery {
    /// As its owner sees it.
    pub fn of(row: DeliveryRow, attempts_max: u32) -> Self {
        let due_at = (row.state == DeliveryState::Pending).then(|| rfc3339(row.due_at_ms));
        Self {
            id: row.id,
            kind: row.kind,
            number: row.seq,
            state: row.state,
            attempt: row.attempt,
            attempts_max,
            due_at,
            created_at: rfc3339(row.created_at_ms),
            ended_at: row.ended_at_ms.map(rfc3339),
            tries: row.tries,
        }
    }
}

/// The log of a webhook, newest first: what waits, what was brought and what was given up.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", operation_id = "list_deliveries", tag = "webhooks",
    params(("id" = String, Path, format = Uuid), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses(
    (status = 200, body = Page<Delivery>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<Delivery>>, Problem> {
    let items_max = page.items_max(&state)?;
    let rows = state.ledger.deliveries(owner, id, page.before()?.map(DeliveryId), items_max + 1).await?;
    let rows = rows.ok_or_else(|| Problem::not_found("webhook"))?;
    let (rows, next_cursor) = cut(rows, items_max, |row| row.id.0);
    let attempts_max = state.config.webhooks.attempts_max;
    let items = rows.into_iter().map(|row| Delivery::of(row, attempts_max)).collect();
    Ok(axum::Json(Page { items, next_cursor }))
}

/// One line of the log, with what is sent.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries/{delivery}", operation_id = "show_delivery", tag = "webhooks",
    params(("id" = String, Path, format = Uuid), ("delivery" = String, Path, format = Uuid)), responses(
    (status = 200, body = WholeDelivery),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path((id, delivery)): Path<(WebhookId, DeliveryId)>,
) -> Result<axum::Json<WholeDelivery>, Problem> {
    let row = state.ledger.delivery(owner, id, delivery).await?.ok_or_else(|| Problem::not_found("delivery"))?;
    let body = serde_json::from_str(&row.body).map_err(|error| Problem::internal(&error))?;
    let delivery = Delivery::of(row, state.config.webhooks.attempts_max);
    Ok(axum::Json(WholeDelivery { delivery, body }))
}

/// Brings something again, now, with the same id and body and all its attempts.
#[utoipa::path(post, path = "/webhooks/{id}/deliveries/{delivery}/redeliver", operation_id = "redeliver", tag = "webhooks",
    params(("id" = String, Path, format = Uuid), ("delivery" = String, Path, format = Uuid)), responses(
    (status = 202, body = Delivery),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`webhook_off`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn again(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path((id, delivery)): Path<(WebhookId, DeliveryId)>,
) -> Result<Response, Problem> {
    let asked = state.ledger.redeliver(owner, id, delivery).await?;
    accepted(&state, asked.ok_or_else(|| Problem::not_found("delivery"))?)
}
