//! Accounts, sessions, tokens and invitations: a port of its own beside the ledger.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LedgerResult;
use crate::job::{AccountId, CredentialId, InvitationId, OwnerId};

/// SHA-256 of a secret: what is stored of it.
pub type SecretHash = [u8; 32];

/// What an account may do beyond its own images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Also the cluster, accounts and invitations.
    Admin,
    /// Nothing.
    User,
}

impl Role {
    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }

    /// From its stored form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::User].into_iter().find(|role| role.as_str() == text)
    }
}

/// One thing a credential is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Looking.
    Read,
    /// Uploads, jobs, deletion.
    Write,
    /// The account itself (password, sessions, tokens); for administrators the cluster as well.
    Admin,
}

/// What a credential is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything: what a session has.
    pub const ALL: Self = Self(0b111);
    /// What a token has when nothing is said.
    pub const USUAL: Self = Self(0b011);

    /// Exactly these.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | 1 << (*scope as u8)))
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether all of `others` are among them.
    #[must_use]
    pub const fn include(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// One by one.
    #[must_use]
    pub fn list(self) -> Vec<Scope> {
        [Scope::Read, Scope::Write, Scope::Admin].into_iter().filter(|scope| self.has(*scope)).collect()
    }

    /// From the stored form: names with spaces between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let scope = |name| match name {
            "read" => Some(Scope::Read),
            "write" => Some(Scope::Write),
            "admin" => Some(Scope::Admin),
            _ => None,
        };
        text.split_whitespace().map(scope).collect::<Option<Vec<_>>>().map(|scopes| Self::of(&scopes))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list().into_iter().map(|scope| match scope {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        });
        f.write_str(&names.collect::<Vec<_>>().join(" "))
    }
}

/// An account, without its password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Key.
    pub id: AccountId,
    /// Whose images are theirs.
    pub owner: OwnerId,
    /// As it was chosen; unique without regard to case.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Since when nobody comes in by it, milliseconds since 1970.
    pub disabled_at_ms: Option<i64>,
}

/// What is to change of an account; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountChange {
    /// What they may do.
    pub role: Option<Role>,
    /// Whether nobody comes in by it; that ends its sessions and tokens.
    pub disabled: Option<bool>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChanged {
    /// It is as asked; with the sessions and tokens that have ended.
    Done(AccountRow, Vec<CredentialId>),
    /// There is no such account.
    NoSuchAccount,
    /// Nobody would be left who may change it back; nothing was written.
    LastAdministrator,
}

/// An account to be.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Unique without regard to case.
    pub username: String,
    /// A PHC string.
    pub password_hash: String,
}

/// By what right an account is made. Whatever it is, the first account is an administrator and takes over what belongs to
/// [`OwnerId::LOCAL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Somebody who has the machine gives this role.
    Appointed(Role),
    /// Everybody may register.
    Open,
    /// Whoever brings a code may register; `None`: there was none in the request.
    Invitation(Option<SecretHash>),
    /// Nobody may register, the first excepted.
    Closed,
}

/// What became of an account to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// It is there.
    Created(AccountRow),
    /// Somebody has that name.
    NameTaken,
    /// No such invitation, or used, or expired.
    NotInvited,
    /// Nobody may register.
    Closed,
    /// There are as many accounts as there may be.
    Full,
}

/// Session or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// Of a browser, by cookie; its oldest give way.
    Session,
    /// Of a program, by header; at the bound no further one is made.
    Token,
}

impl CredentialKind {
    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    /// From its stored form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Session, Self::Token].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A session or token to be.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Of whom.
    pub account: AccountId,
    /// Which of the two.
    pub kind: CredentialKind,
    /// Of its secret.
    pub secret: SecretHash,
    /// For people: what the owner called it, or the browser.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// Milliseconds since 1970; a session has one.
    pub expires_at_ms: Option<i64>,
}

/// A session or token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// Key.
    pub id: CredentialId,
    /// Which of the two.
    pub kind: CredentialKind,
    /// For people.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// About when it was last used, milliseconds since 1970.
    pub used_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

/// An invitation that nobody has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRow {
    /// Key.
    pub id: InvitationId,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Who may come in. Every call about a session or token of an account names the account; another's id answers as if it did
/// not exist.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Makes an account while there are fewer than `accounts_max`; uses up the invitation it was made by.
    async fn create_account(&self, new: NewAccount, entry: Entry, accounts_max: u64) -> LedgerResult<Registered>;
    /// An account and the hash of its password, by name without regard to case.
    async fn account_by_name(&self, username: &str) -> LedgerResult<Option<(AccountRow, String)>>;
    /// Accounts, newest first, from `before` on (exclusive).
    async fn accounts(&self, before: Option<AccountId>, limit: u32) -> LedgerResult<Vec<AccountRow>>;
    /// One of them.
    async fn account(&self, id: AccountId) -> LedgerResult<Option<AccountRow>>;
    /// Changes role or admission, unless no administrator would be left who can come in.
    async fn change_account(&self, id: AccountId, change: AccountChange) -> LedgerResult<AccountChanged>;
    /// Writes another hash and ends every session but `keep`. False when there is no such account.
    async fn set_password(&self, id: AccountId, hash: String, keep: Option<CredentialId>) -> LedgerResult<bool>;

    /// Makes a session or token; `replaces` ends a session in the same commit. With `count_max` of its kind there, the
    /// oldest sessions end, and a token is refused (`None`), as is everything of an account that is disabled.
    async fn create_credential(
        &self,
        new: NewCredential,
        replaces: Option<SecretHash>,
        count_max: u64,
    ) -> LedgerResult<Option<CredentialRow>>;
    /// The session or token with this secret and its account, if neither is it expired nor the account disabled.
    async fn credential(&self, secret: &SecretHash, now_ms: i64) -> LedgerResult<Option<(CredentialRow, AccountRow)>>;
    /// Those of one kind that are not expired, newest first.
    async fn credentials(
        &self,
        account: AccountId,
        kind: CredentialKind,
        now_ms: i64,
    ) -> LedgerResult<Vec<CredentialRow>>;
    /// Whether a session or token is still good.
    async fn credential_is_good(&self, id: CredentialId, now_ms: i64) -> LedgerResult<bool>;
    /// Notes that it was used, and how long it is good from now on.
    async fn use_credential(&self, id: CredentialId, used_at_ms: i64, expires_at_ms: Option<i64>) -> LedgerResult<()>;
    /// Ends a session or token. False when the account has no such one.
    async fn revoke_credential(&self, account: AccountId, kind: CredentialKind, id: CredentialId)
    -> LedgerResult<bool>;

    /// Makes an invitation while there are fewer than `count_max`.
    async fn create_invitation(
        &self,
        by: AccountId,
        code: SecretHash,
        expires_at_ms: i64,
        count_max: u64,
    ) -> LedgerResult<Option<InvitationRow>>;
    /// Those that can still be used, newest first.
    async fn invitations(&self, now_ms: i64) -> LedgerResult<Vec<InvitationRow>>;
    /// Takes one back. False when there is no such one.
    async fn revoke_invitation(&self, id: InvitationId) -> LedgerResult<bool>;

    /// Drops expired sessions, tokens and invitations; how many went.
    async fn prune_accounts(&self, now_ms: i64) -> LedgerResult<u64>;
    /// Ends after everything handed to it is committed.
    async fn close_accounts(&self);
}
