//! `/session`, `/sessions`, `/account/password`: login, logout, and who one is.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::accounts::Account;
use super::extract::{Json, Page, Path};
use super::identity::{Address, Caller, Member, SessionCookie};
use super::problem::{Kind, Problem};
use crate::auth::{Login, now_ms};
use crate::job::{AccountId, CredentialId, OwnerId};
use crate::store::accounts::{CredentialKind, CredentialRow, Role, Scope};
use crate::store::rfc3339;

/// Who one is, and by what one has come in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// The account; in `open` mode one that stands for the local user.
    #[serde(flatten)]
    account: Account,
    /// Whose images and jobs are theirs: the name in subjects of NATS.
    #[schema(value_type = String, format = Uuid)]
    owner: OwnerId,
    /// `null` in `open` mode.
    credential: Option<Credential>,
}

/// A session or token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Credential {
    /// Key.
    #[schema(value_type = String, format = Uuid)]
    pub id: CredentialId,
    /// `session` or `token`.
    pub kind: &'static str,
    /// What the owner called it, or the browser.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// To within five minutes.
    pub used_at: String,
    /// `null`: when it is revoked.
    pub expires_at: Option<String>,
    /// Whether this request came by it.
    pub current: bool,
}

impl Credential {
    /// As its owner sees it, who came by `current`.
    pub fn of(row: &CredentialRow, current: CredentialId) -> Self {
        Self {
            id: row.id,
            kind: row.kind.as_str(),
            name: row.name.clone(),
            scopes: row.scopes.list(),
            created_at: rfc3339(row.created_at_ms),
            used_at: rfc3339(row.used_at_ms),
            expires_at: row.expires_at_ms.map(rfc3339),
            current: row.id == current,
        }
    }
}

impl From<&Login> for Session {
    fn from(login: &Login) -> Self {
        let credential = Credential::of(&login.credential, login.credential.id);
        let owner = login.account.owner;
        Self { account: login.account.clone().into(), owner, credential: Some(credential) }
    }
}

/// Name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "ada", "password": "seven crooked lamps"}))]
pub struct Credentials {
    /// Without regard to case.
    username: String,
    /// Of the account.
    password: String,
}

/// Logs in: a session by cookie. The session before ends.
#[utoipa::path(post, path = "/session", operation_id = "log_in", tag = "accounts", request_body = Credentials, responses(
    (status = 200, body = Session, headers(("Set-Cookie" = String, description = "The session"))),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "`wrong_login`", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "`account_disabled`, `origin_not_allowed`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_tries`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<AppState>,
    Address(address): Address,
    cookie: SessionCookie,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Result<Response, Problem> {
    let browser = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let auth = state.auth()?;
    let entered = auth.log_in(address, &given.username, given.password, browser, cookie.value.as_deref()).await;
    let (login, secret) = entered?;
    let set = cookie.set(&secret, state.config.auth.session_max_h);
    Ok(([(header::SET_COOKIE, set)], uncached(Session::from(&login))).into_response())
}

fn uncached<T: Serialize>(value: T) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(value)).into_response()
}

/// Who one is.
#[utoipa::path(get, path = "/session", operation_id = "show_session", tag = "accounts", responses(
    (status = 200, body = Session),
))]
pub async fn show(caller: Caller) -> Result<Response, Problem> {
    let session = match &caller {
        Caller::Known(login) => Session::from(&**login),
        Caller::Local | Caller::Nobody => {
            let OwnerId(id) = caller.owner()?;
            let account =
                Account { id: AccountId(id), username: "local".to_owned(), role: Role::Admin, created_at: rfc3339(0) };
            Session { account, owner: OwnerId::LOCAL, credential: None }
        }
    };
    Ok(uncached(session))
}

/// Logs out: ends the session that the request came by.
#[utoipa::path(delete, path = "/session", operation_id = "log_out", tag = "accounts", responses(
    (status = 204),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(
    State(state): State<AppState>,
    Member(login): Member,
    cookie: SessionCookie,
) -> Result<Response, Problem> {
    let credential = &login.credential;
    state.auth()?.revoke(login.account.id, credential.kind, credential.id).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie.remove())]).into_response())
}

/// The sessions of the caller, newest first.
#[utoipa::path(get, path = "/sessions", operation_id = "list_sessions", tag = "accounts", responses(
    (status = 200, body = Page<Credential>),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Member(login): Member,
) -> Result<axum::Json<Page<Credential>>, Problem> {
    Ok(axum::Json(credentials(&state, &login, CredentialKind::Session).await?))
}

/// Sessions or tokens of the caller.
pub async fn credentials(state: &AppState, login: &Login, kind: CredentialKind) -> Result<Page<Credential>, Problem> {
    let rows = state.auth()?.accounts().credentials(login.account.id, kind, now_ms()).await?;
    Ok(Page::whole(rows.iter().map(|row| Credential::of(row, login.credential.id)).collect()))
}

/// Ends a session.
#[utoipa::path(delete, path = "/sessions/{id}", operation_id = "revoke_session", tag = "accounts",
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
    let is_revoked = state.auth()?.revoke(login.account.id, CredentialKind::Session, id).await?;
    if is_revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("session")) }
}

/// The old password and the new one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// Whoever finds an open session must not be able to take the account.
    current_password: String,
    /// As at registration.
    new_password: String,
}

/// Changes the password and ends all other sessions.
#[utoipa::path(put, path = "/account/password", operation_id = "change_password", tag = "accounts",
    request_body = PasswordChange, responses(
    (status = 204),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "`wrong_password`, `scope_missing`, `csrf_header_missing`, `origin_not_allowed`",
     body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`password_refused`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_tries`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn change_password(
    State(state): State<AppState>,
    Member(login): Member,
    Json(change): Json<PasswordChange>,
) -> Result<StatusCode, Problem> {
    let changed = state.auth()?.change_password(&login, change.current_password, change.new_password).await;
    match changed {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        // Not 401: the caller is logged in, and a client would send them to the login.
        Err(crate::auth::AuthError::WrongLogin) => {
            Err(Problem::new(Kind::WrongPassword, "The current password is not right."))
        }
        Err(error) => Err(error.into()),
    }
}
