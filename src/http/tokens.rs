//! `/tokens`: for programs.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Json, Page, Path};
use super::identity::Member;
use super::problem::Problem;
use super::sessions::{Credential, credentials};
use crate::auth::{NAME_CHARS_MAX, NewToken, now_ms};
use crate::job::CredentialId;
use crate::store::accounts::{CredentialKind, Scope, Scopes};

/// A token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "scanner", "scopes": ["read", "write"], "expires_at": "2027-01-01T00:00:00Z"}))]
pub struct TokenRequest {
    /// For people, 1 to 100 characters.
    name: String,
    /// What it is good for; `read` and `write` when left out.
    scopes: Option<Vec<Scope>>,
    /// RFC 3339, in the future; left out or `null`: until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A token with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTokenView {
    /// The token.
    #[serde(flatten)]
    token: Credential,
    /// What goes behind `Authorization: Bearer`; never shown again.
    secret: String,
}

/// Makes a token. Its secret is shown this once.
#[utoipa::path(post, path = "/tokens", operation_id = "create_token", tag = "accounts", request_body = TokenRequest, responses(
    (status = 201, body = NewTokenView),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`too_many`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<AppState>,
    Member(login): Member,
    Json(wanted): Json<TokenRequest>,
) -> Result<Response, Problem> {
    let name = wanted.name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(Problem::invalid(format!("name has 1 to {NAME_CHARS_MAX} characters.")));
    }
    let scopes = wanted.scopes.as_deref().map_or(Scopes::USUAL, Scopes::of);
    if scopes.list().is_empty() {
        return Err(Problem::invalid("scopes has at least one of read, write, admin."));
    }
    let expires_at_ms = wanted.expires_at.as_deref().map(future).transpose()?;
    let token = NewToken { name: name.to_owned(), scopes, expires_at_ms };
    let (row, secret) = state.auth()?.create_token(&login, token).await?;
    let token = Credential::of(&row, login.credential.id);
    let view = NewTokenView { token, secret: secret.reveal().to_owned() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(view)).into_response())
}

fn future(text: &str) -> Result<i64, Problem> {
    let invalid = || Problem::invalid("expires_at is a time in the future, such as 2027-01-01T00:00:00Z.");
    let at_ms = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| invalid())?.unix_timestamp() * 1000;
    if at_ms > now_ms() { Ok(at_ms) } else { Err(invalid()) }
}

/// The tokens of the caller, newest first, without their secrets.
#[utoipa::path(get, path = "/tokens", operation_id = "list_tokens", tag = "accounts", responses(
    (status = 200, body = Page<Credential>),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Member(login): Member,
) -> Result<axum::Json<Page<Credential>>, Problem> {
    Ok(axum::Json(credentials(&state, &login, CredentialKind::Token).await?))
}

/// Ends a token.
#[utoipa::path(delete, path = "/tokens/{id}", operation_id = "revoke_token", tag = "accounts",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 204),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn revoke(
    State(state): State<AppState>,
    Member(login): Member,
    Path(id): Path<CredentialId>,
) -> Result<StatusCode, Problem> {
    let is_revoked = state.auth()?.revoke(login.account.id, CredentialKind::Token, id).await?;
    if is_revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("token")) }
}
