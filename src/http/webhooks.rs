//! `/webhooks`: addresses that are told what becomes of jobs.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::deliveries::Delivery;
use super::extract::{Json, Owner, Page, Path};
use super::problem::{Kind, Problem};
use crate::auth::NAME_CHARS_MAX;
use crate::job::WebhookId;
use crate::store::rfc3339;
use crate::store::webhooks::{Asked, EventKind, NewWebhook, WebhookChange, WebhookRow};
use crate::webhooks::Target;
use crate::webhooks::sign::fresh_secret;

/// A webhook to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to: https, no name or password in it, a public address.
    #[schema(max_length = 2048, example = "https://example.org/inkpool")]
    url: String,
    /// For people, at most 100 characters.
    name: Option<String>,
    /// What it is told of; the ends of jobs when left out.
    events: Option<Vec<EventKind>>,
}

/// What to change; what is left out, or null, stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookChanges {
    /// Where to.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// For people, at most 100 characters.
    name: Option<String>,
    /// What it is told of.
    events: Option<Vec<EventKind>>,
    /// Whether it is told anything. Switched on again it is told what happens from then on.
    enabled: Option<bool>,
}

/// An address that is told what becomes of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    id: WebhookId,
    /// For people; may be empty.
    name: String,
    /// Where to.
    url: String,
    /// What it is told of.
    events: Vec<EventKind>,
    /// Whether it is told anything.
    enabled: bool,
    /// Why it was switched off, when nobody asked for it: `failing` (no attempt succeeded for long) or `gone` (it answered 410).
    off_reason: Option<String>,
    /// When. RFC 3339, UTC.
    off_at: Option<String>,
    /// Attempts that failed one after the other up to now.
    failures: u32,
    /// When the first of them did.
    failing_since: Option<String>,
    /// Until when the secret before this one signs as well.
    secret_before_until: Option<String>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<WebhookRow> for Webhook {
    fn from(row: WebhookRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            url: row.url,
            events: row.kinds,
            enabled: row.enabled,
            off_reason: row.off_reason,
            off_at: row.off_at_ms.map(rfc3339),
            failures: row.failures,
            failing_since: row.failing_since_ms.map(rfc3339),
            secret_before_until: row.secret_before_until_ms.map(rfc3339),
            created_at: rfc3339(row.created_at_ms),
        }
    }
}

/// A webhook with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The webhook.
    #[serde(flatten)]
    webhook: Webhook,
    /// What signs its messages; never shown again.
    secret: String,
}

fn name_of(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("name has at most {NAME_CHARS_MAX} characters, on one line.")));
    }
    Ok(name.to_owned())
}

fn kinds_of(mut kinds: Vec<EventKind>) -> Result<Vec<EventKind>, Problem> {
    kinds.sort();
    kinds.dedup();
    if kinds.is_empty() { Err(Problem::invalid("events has at least one kind.")) } else { Ok(kinds) }
}

fn with_secret(row: WebhookRow, secret: String) -> impl IntoResponse {
    let body = WebhookWithSecret { webhook: row.into(), secret };
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body))
}

fn not_found() -> Problem {
    Problem::not_found("webhook")
}

/// Makes a webhook: from now on the address is told what becomes of the caller's jobs. Its secret is shown this once.
#[utoipa::path(post, path = "/webhooks", operation_id = "create_webhook", tag = "webhooks", request_body = WebhookRequest,
    responses(
    (status = 201, body = WebhookWithSecret, headers(("Location" = String, description = "The webhook"))),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`webhook_url`, `webhook_address`, `webhook_unresolved`, `too_many`", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Json(wanted): Json<WebhookRequest>,
) -> Result<Response, Problem> {
    let name = name_of(wanted.name.as_deref().unwrap_or_default())?;
    let kinds = kinds_of(wanted.events.unwrap_or_else(|| EventKind::ENDS.to_vec()))?;
    let Target { url, host } = state.guard.check(&wanted.url).await?;
    let (secret, limit) = (fresh_secret(), state.config.webhooks.hooks_max);
    let id = WebhookId::fresh();
    let new = NewWebhook { id, owner, name, url: url.into(), host, kinds, secret: secret.clone() };
    let Some(row) = state.ledger.create_webhook(new, limit).await? else {
        return Err(Problem::new(Kind::TooMany, format!("There may be {limit} webhooks."))
            .figures(format!("{limit} webhooks"), format!("more than {limit} webhooks"))
            .remedy("Delete one."));
    };
    let location = [(header::LOCATION, format!("/api/v1/webhooks/{id}"))];
    Ok((StatusCode::CREATED, location, with_secret(row, secret)).into_response())
}

/// The caller's webhooks, newest first, without their secrets.
#[utoipa::path(get, path = "/webhooks", operation_id = "list_webhooks", tag = "webhooks",
    responses((status = 200, body = Page<Webhook>)))]
pub async fn list(State(state): State<AppState>, Owner(owner): Owner) -> Result<axum::Json<Page<Webhook>>, Problem> {
    let rows = state.ledger.webhooks(owner).await?;
    Ok(axum::Json(Page::whole(rows.into_iter().map(Webhook::from).collect())))
}

/// One webhook.
#[utoipa::path(get, path = "/webhooks/{id}", operation_id = "show_webhook", tag = "webhooks",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Webhook),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
) -> Result<axum::Json<Webhook>, Problem> {
    let row = state.ledger.webhook(owner, id).await?.ok_or_else(not_found)?;
    Ok(axum::Json(row.into()))
}

/// Changes a webhook. What is left out, or null, stays.
#[utoipa::path(patch, path = "/webhooks/{id}", operation_id = "change_webhook", tag = "webhooks",
    request_body = WebhookChanges, params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Webhook),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`webhook_url`, `webhook_address`, `webhook_unresolved`", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
    Json(wanted): Json<WebhookChanges>,
) -> Result<axum::Json<Webhook>, Problem> {
    // Nobody learns more of a stranger's webhook by a wrong change than by a right one.
    state.ledger.webhook(owner, id).await?.ok_or_else(not_found)?;
    let target = match wanted.url {
        Some(url) => Some(state.guard.check(&url).await?),
        None => None,
    };
    let change = WebhookChange {
        name: wanted.name.as_deref().map(name_of).transpose()?,
        target: target.map(|Target { url, host }| (url.into(), host)),
        kinds: wanted.events.map(kinds_of).transpose()?,
        enabled: wanted.enabled,
    };
    let row = state.ledger.change_webhook(owner, id, change).await?.ok_or_else(not_found)?;
    if wanted.enabled == Some(true) {
        state.control.webhooks_asked();
    }
    Ok(axum::Json(row.into()))
}

/// Removes a webhook with its log.
#[utoipa::path(delete, path = "/webhooks/{id}", operation_id = "delete_webhook", tag = "webhooks",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 204),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode, Problem> {
    let gone = state.ledger.delete_webhook(owner, id).await?;
    gone.then_some(StatusCode::NO_CONTENT).ok_or_else(not_found)
}

/// Gives a webhook another secret, shown this once. The one before signs as well for a day.
#[utoipa::path(post, path = "/webhooks/{id}/secret", operation_id = "rotate_webhook_secret", tag = "webhooks",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = WebhookWithSecret),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn rotate(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
) -> Result<Response, Problem> {
    let secret = fresh_secret();
    let overlap = Duration::from_secs(state.config.webhooks.rotation_h * 3600);
    let row = state.ledger.rotate_webhook(owner, id, secret.clone(), overlap).await?.ok_or_else(not_found)?;
    Ok(with_secret(row, secret).into_response())
}

/// Sends a message of the kind `ping`, to see whether the address answers. One that still waits is not sent twice.
#[utoipa::path(post, path = "/webhooks/{id}/ping", operation_id = "ping_webhook", tag = "webhooks",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 202, body = Delivery),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`webhook_off`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn ping(
    State(state): State<AppState>,
    Owner(owner): Owner,
    Path(id): Path<WebhookId>,
) -> Result<Response, Problem> {
    let asked = state.ledger.ping_webhook(owner, id).await?.ok_or_else(not_found)?;
    accepted(&state, asked)
}

/// Answers to what is to be brought.
pub fn accepted(state: &AppState, asked: Asked) -> Result<Response, Problem> {
    match asked {
        Asked::Pending(row) => {
            state.control.webhooks_asked();
            let attempts_max = state.config.webhooks.attempts_max;
            Ok((StatusCode::ACCEPTED, axum::Json(Delivery::of(*row, attempts_max))).into_response())
        }
        Asked::Off => Err(Problem::new(Kind::WebhookOff, "Nothing is sent to a webhook that is off.")
            .remedy("Switch it on first: PATCH with enabled true.")),
    }
}
