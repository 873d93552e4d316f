//! `/accounts` and `/invitations`: who there is, and who may join.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Json, Page, Path};
use super::identity::{Address, Member};
use super::problem::Problem;
use crate::auth::now_ms;
use crate::config::{AuthMode, Registration};
use crate::job::{AccountId, InvitationId};
use crate::store::accounts::{AccountRow, InvitationRow, Role};
use crate::store::rfc3339;

/// An account.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Account {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    pub id: AccountId,
    /// Unique without regard to case.
    #[schema(example = "ada")]
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self { id: row.id, username: row.username, role: row.role, created_at: rfc3339(row.created_at_ms) }
    }
}

/// How one comes in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entrance {
    /// `open`: there is no login. `accounts`: there is.
    mode: AuthMode,
    /// How one can register now; `null` without accounts.
    registration: Option<Registration>,
    /// A password has at least so many characters.
    password_chars_min: usize,
    /// Whether this request came with a good session or token.
    logged_in: bool,
}

/// How one comes in; for pages, before anybody has.
#[utoipa::path(get, path = "/auth", operation_id = "show_entrance", tag = "accounts", responses(
    (status = 200, body = Entrance),
))]
pub async fn entrance(
    State(state): State<AppState>,
    caller: super::identity::Caller,
) -> Result<axum::Json<Entrance>, Problem> {
    let registration = match &state.auth {
        Some(auth) => Some(auth.registration().await?),
        None => None,
    };
    Ok(axum::Json(Entrance {
        mode: state.config.auth.mode,
        registration,
        password_chars_min: state.config.auth.password_chars_min,
        logged_in: caller.owner().is_ok(),
    }))
}

/// Somebody who wants to join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "ada", "password": "seven crooked lamps"}))]
pub struct Registrant {
    /// 1 to 64 letters, digits or `. _ @ + -`.
    username: String,
    /// Long, and not among those that are tried first.
    password: String,
    /// The code, where registration is by invitation.
    invitation: Option<String>,
}

/// Makes an account. The first one is an administrator's.
#[utoipa::path(post, path = "/accounts", operation_id = "create_account", tag = "accounts", request_body = Registrant, responses(
    (status = 201, body = Account),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "`registration_closed`, `not_invited`, `origin_not_allowed`", body = Problem,
     content_type = "application/problem+json"),
    (status = 409, description = "`username_taken`, `no_accounts`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_username`, `password_refused`, `too_many`", body = Problem,
     content_type = "application/problem+json"),
    (status = 429, description = "`too_many_tries`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<AppState>,
    Address(address): Address,
    Json(new): Json<Registrant>,
) -> Result<(StatusCode, axum::Json<Account>), Problem> {
    let auth = state.auth()?.clone();
    let account = auth.register(address, &new.username, new.password, new.invitation.as_deref()).await?;
    Ok((StatusCode::CREATED, axum::Json(account.into())))
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitation {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    id: InvitationId,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    expires_at: String,
    /// What the invited sends along; shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl Invitation {
    fn of(row: &InvitationRow, code: Option<String>) -> Self {
        Self { id: row.id, created_at: rfc3339(row.created_at_ms), expires_at: rfc3339(row.expires_at_ms), code }
    }
}

/// Makes an invitation, good for one account.
#[utoipa::path(post, path = "/invitations", operation_id = "create_invitation", tag = "accounts", responses(
    (status = 201, body = Invitation),
    (status = 422, description = "`too_many`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn invite(
    State(state): State<AppState>,
    Member(login): Member,
) -> Result<(StatusCode, axum::Json<Invitation>), Problem> {
    let (row, code) = state.auth()?.invite(login.account.id).await?;
    Ok((StatusCode::CREATED, axum::Json(Invitation::of(&row, Some(code.reveal().to_owned())))))
}

/// Invitations that can still be used.
#[utoipa::path(get, path = "/invitations", operation_id = "list_invitations", tag = "accounts", responses(
    (status = 200, body = Page<Invitation>),
))]
pub async fn invitations(State(state): State<AppState>) -> Result<axum::Json<Page<Invitation>>, Problem> {
    let rows = state.auth()?.accounts().invitations(now_ms()).await?;
    Ok(axum::Json(Page::whole(rows.iter().map(|row| Invitation::of(row, None)).collect())))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/invitations/{id}", operation_id = "revoke_invitation", tag = "accounts",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 204),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn revoke_invitation(
    State(state): State<AppState>,
    Path(id): Path<InvitationId>,
) -> Result<StatusCode, Problem> {
    let is_revoked = state.auth()?.accounts().revoke_invitation(id).await?;
    if is_revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("invitation")) }
}
