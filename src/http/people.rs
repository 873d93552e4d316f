//! `/accounts`, for administrators: who there is, what they may do and use, and who no longer comes in.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::accounts::Account;
use super::extract::{Json, Page, PageQuery, Path, Query, cut, whole_or_none};
use super::identity::Member;
use super::problem::Problem;
use super::quota::QuotaView;
use crate::job::{AccountId, OwnerId};
use crate::store::accounts::{AccountChange, AccountRow, Role};
use crate::store::quotas::{Override, Quota};

/// Bounds that an administrator has set for somebody.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnQuota {
    /// Bytes. `null` or left out: as the settings say; 0: no bound.
    #[serde(default, deserialize_with = "whole_or_none")]
    stored_bytes_max: Option<u64>,
    /// Pixels, likewise.
    #[serde(default, deserialize_with = "whole_or_none")]
    pixels_per_day_max: Option<u64>,
    /// Jobs, likewise.
    #[serde(default, deserialize_with = "whole_or_none")]
    jobs_queued_max: Option<u64>,
}

/// What a column holds, and a number of JSON keeps.
const BOUND_MAX: u64 = 9_000_000_000_000_000;

impl From<Override> for OwnQuota {
    fn from(own: Override) -> Self {
        let Override { stored_bytes_max, pixels_per_day_max, jobs_queued_max } = own;
        Self { stored_bytes_max, pixels_per_day_max, jobs_queued_max }
    }
}

impl OwnQuota {
    fn read(&self) -> Result<Override, Problem> {
        let Self { stored_bytes_max, pixels_per_day_max, jobs_queued_max } = *self;
        let bounds = [stored_bytes_max, pixels_per_day_max, jobs_queued_max];
        if let Some(large) = bounds.into_iter().flatten().find(|bound| *bound > BOUND_MAX) {
            let problem = Problem::invalid("The bound is larger than can be kept.");
            return Err(problem.figures(BOUND_MAX.to_string(), large.to_string()).remedy("0 stands for no bound."));
        }
        Ok(Override { stored_bytes_max, pixels_per_day_max, jobs_queued_max })
    }
}

/// An account as administrators see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    /// The account.
    #[serde(flatten)]
    account: Account,
    /// Whose images and jobs are theirs.
    #[schema(value_type = String, format = Uuid)]
    owner: OwnerId,
    /// Whether nobody comes in by it.
    disabled: bool,
    /// What they use and may use.
    quota: QuotaView,
    /// What of it was set for them.
    own_quota: OwnQuota,
}

async fn person(state: &AppState, row: AccountRow) -> Result<Person, Problem> {
    let standing = state.ledger.standing(row.owner).await?;
    let quota = QuotaView::of(&standing, Quota::usual(&state.config));
    let (owner, disabled) = (row.owner, row.disabled_at_ms.is_some());
    Ok(Person { account: row.into(), owner, disabled, quota, own_quota: standing.own.into() })
}

async fn known(state: &AppState, id: AccountId) -> Result<AccountRow, Problem> {
    state.auth()?.accounts().account(id).await?.ok_or_else(|| Problem::not_found("account"))
}

/// All accounts with what they use, newest first.
#[utoipa::path(get, path = "/accounts", operation_id = "list_accounts", tag = "accounts",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses(
    (status = 200, body = Page<Person>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<AppState>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<Person>>, Problem> {
    let items_max = page.items_max(&state)?;
    let rows = state.auth()?.accounts().accounts(page.before()?.map(AccountId), items_max + 1).await?;
    let (rows, next_cursor) = cut(rows, items_max, |row| row.id.0);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(person(&state, row).await?);
    }
    Ok(axum::Json(Page { items, next_cursor }))
}

/// One account with what it uses.
#[utoipa::path(get, path = "/accounts/{id}", operation_id = "show_account", tag = "accounts",
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Person),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(State(state): State<AppState>, Path(id): Path<AccountId>) -> Result<axum::Json<Person>, Problem> {
    let row = known(&state, id).await?;
    Ok(axum::Json(person(&state, row).await?))
}

/// What to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"disabled": true}))]
pub struct PersonChange {
    /// What they may do.
    role: Option<Role>,
    /// Whether nobody comes in by it.
    disabled: Option<bool>,
}

/// Changes what somebody may do, or whether they come in.
///
/// Sessions and tokens of a disabled account end at once, for good; event streams at other nodes within `auth.look_again_s`.
/// Its webhooks are told nothing until it is enabled again. Jobs that are under way go on. One administrator
/// who can come in is always left.
#[utoipa::path(patch, path = "/accounts/{id}", operation_id = "change_account", tag = "accounts", request_body = PersonChange,
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Person),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`last_administrator`, `no_accounts`", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<AppState>,
    Path(id): Path<AccountId>,
    Json(change): Json<PersonChange>,
) -> Result<axum::Json<Person>, Problem> {
    let auth = state.auth()?.clone();
    let change = AccountChange { role: change.role, disabled: change.disabled };
    // A task of its own: the streams must end even if the client hangs up.
    let changed = state.task(async move { Ok(auth.change_account(id, change).await?) }).await?;
    let row = changed.ok_or_else(|| Problem::not_found("account"))?;
    Ok(axum::Json(person(&state, row).await?))
}

/// Sets what somebody may use.
#[utoipa::path(put, path = "/accounts/{id}/quota", operation_id = "set_quota", tag = "accounts", request_body = OwnQuota,
    params(("id" = String, Path, format = Uuid)), responses(
    (status = 200, body = Person),
    (status = 400, description = "`invalid_json`, `invalid_parameter`", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn set_quota(
    State(state): State<AppState>,
    Path(id): Path<AccountId>,
    Json(own): Json<OwnQuota>,
) -> Result<axum::Json<Person>, Problem> {
    let own = own.read()?;
    let row = known(&state, id).await?;
    state.ledger.set_quota(row.owner, own).await?;
    Ok(axum::Json(person(&state, row).await?))
}

/// A password for somebody who has lost theirs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"new_password": "nine crooked lamps"}))]
pub struct PasswordReset {
    /// As at registration; they change it when they are in.
    new_password: String,
}

/// Sets the password of somebody else and ends their sessions.
#[utoipa::path(put, path = "/accounts/{id}/password", operation_id = "reset_password", tag = "accounts",
    request_body = PasswordReset, params(("id" = String, Path, format = Uuid)), responses(
    (status = 204),
    (status = 400, description = "`invalid_json`; `invalid_parameter`: one's own is changed with the one before", body = Problem,
     content_type = "application/problem+json"),
    (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`no_accounts`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`password_refused`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, with Retry-After", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn reset_password(
    State(state): State<AppState>,
    Member(login): Member,
    Path(id): Path<AccountId>,
    Json(reset): Json<PasswordReset>,
) -> Result<StatusCode, Problem> {
    if login.account.id == id {
        return Err(Problem::invalid(
            "This is your own account: whoever finds its open session must not be able to take it.",
        )
        .remedy("PUT /api/v1/account/password asks for the current password."));
    }
    let account = known(&state, id).await?;
    let auth = state.auth()?.clone();
    state.task(async move { Ok(auth.reset_password(&account, reset.new_password).await?) }).await?;
    Ok(StatusCode::NO_CONTENT)
}
