//! Accounts, logins, tokens: the rules. What is stored stands in [`crate::store::accounts`], what is answered in `http`.

pub mod password;
pub mod secret;
pub mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use self::password::{PasswordError, Passwords};
use self::secret::Secret;
use self::throttle::Throttle;
use crate::config;
use crate::job::{AccountId, CredentialId};
use crate::store::LedgerError;
use crate::store::accounts::*;

/// A username is at most this long, bytes: it is shown in lists and lines of the log.
pub const USERNAME_BYTES_MAX: usize = 64;
/// Names of tokens and browsers are cut after this many characters.
pub const NAME_CHARS_MAX: usize = 100;
/// The use of a session or token is noted at most this often, milliseconds: each note is a write.
const NOTE_USE_EVERY_MS: i64 = 5 * 60 * 1000;
/// Ends of sessions that a slow watcher may fall behind before it must look for itself.
const ENDED_BUFFER: usize = 256;
const HOUR_MS: i64 = 3_600_000;

/// Why somebody does not come in, or may not do something.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Name or password; which of them is not said.
    #[error("The name or the password is not right.")]
    WrongLogin,
    /// Too many tries from this address or for this account.
    #[error("There were too many tries. The next one is possible in {} s.", wait.as_secs_f64().ceil())]
    TooManyTries {
        /// Until the next one.
        wait: Duration,
    },
    /// Too many passwords are being checked at the moment.
    #[error("Too many logins are being checked at the moment.")]
    Busy,
    /// A name with other characters than it may have.
    #[error("A name has 1 to {USERNAME_BYTES_MAX} letters, digits or . _ @ + -, and begins with a letter or a digit.")]
    InvalidUsername,
    /// A password that may not be used.
    #[error(transparent)]
    Password(PasswordError),
    /// Somebody has that name.
    #[error("There is an account with this name.")]
    NameTaken,
    /// An administrator has disabled the account.
    #[error("An administrator has disabled this account.")]
    Disabled,
    /// Nobody would be left who may change it back.
    #[error("There must be one administrator who can come in.")]
    LastAdministrator,
    /// Registration is off.
    #[error("Nobody can register here.")]
    RegistrationClosed,
    /// Registration is by invitation, and this is none.
    #[error("The invitation is missing, used or expired.")]
    NotInvited,
    /// A bound on rows.
    #[error("There may be at most {limit} {what}.")]
    TooMany {
        /// Of these.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// More than the own credential can do.
    #[error("A token cannot make a token that may do more, or lasts longer, than itself.")]
    BeyondOwn,
    /// Of the store.
    #[error(transparent)]
    Store(#[from] LedgerError),
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        if error == PasswordError::Busy { Self::Busy } else { Self::Password(error) }
    }
}

/// Who has come in, and by what.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account.
    pub account: AccountRow,
    /// The session or token.
    pub credential: CredentialRow,
}

/// A token to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// For people.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

/// The rules of accounts on a store.
pub struct Auth {
    accounts: Arc<dyn Accounts>,
    passwords: Passwords,
    throttle: Throttle,
    settings: config::Auth,
    ended: broadcast::Sender<CredentialId>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// The rules with these settings.
    ///
    /// # Errors
    /// [`AuthError::Password`] when argon2id cannot be run with the settings.
    pub async fn new(accounts: Arc<dyn Accounts>, settings: config::Auth) -> Result<Self, AuthError> {
        let passwords = Passwords::new(&settings).await?;
        let throttle = Throttle::new(&settings);
        Ok(Self { accounts, passwords, throttle, settings, ended: broadcast::channel(ENDED_BUFFER).0 })
    }

    /// The store behind it.
    #[must_use]
    pub fn accounts(&self) -> &Arc<dyn Accounts> {
        &self.accounts
    }

    /// Sessions and tokens that end before their time. Whoever lags may have missed one.
    #[must_use]
    pub fn watch_ended(&self) -> broadcast::Receiver<CredentialId> {
        self.ended.subscribe()
    }

    /// How one can register at the moment.
    ///
    /// # Errors
    /// Of the store.
    pub async fn registration(&self) -> Result<config::Registration, AuthError> {
        let nobody_yet = self.accounts.accounts(None, 1).await?.is_empty();
        Ok(if nobody_yet { config::Registration::Open } else { self.settings.registration })
    }

    /// Makes an account for somebody at `address`.
    ///
    /// # Errors
    /// [`AuthError`]: throttled, closed, not invited, name or password refused.
    pub async fn register(
        &self,
        address: IpAddr,
        username: &str,
        password: String,
        invitation: Option<&str>,
    ) -> Result<AccountRow, AuthError> {
        self.throttle.address(address)?;
        let entry = match self.settings.registration {
            config::Registration::Open => Entry::Open,
            config::Registration::Invitation => Entry::Invitation(invitation.map(secret::hash)),
            config::Registration::Off => Entry::Closed,
        };
        // Before the slow part: a closed door must not cost a hash.
        if entry == Entry::Closed && self.registration().await? == config::Registration::Off {
            return Err(AuthError::RegistrationClosed);
        }
        self.create(username, password, entry).await
    }

    /// Makes an account by the right of whoever has the machine.
    ///
    /// # Errors
    /// [`AuthError`]: name or password refused.
    pub async fn appoint(&self, username: &str, password: String, role: Role) -> Result<AccountRow, AuthError> {
        self.create(username, password, Entry::Appointed(role)).await
    }

    async fn create(&self, username: &str, password: String, entry: Entry) -> Result<AccountRow, AuthError> {
        check_username(username)?;
        let password_hash = self.passwords.choose(username, password).await?;
        let new = NewAccount { username: username.to_owned(), password_hash };
        match self.accounts.create_account(new, entry, self.settings.accounts_max).await? {
            Registered::Created(account) => {
                tracing::info!(account = %account.id, role = account.role.as_str(), "an account was made");
                Ok(account)
            }
            Registered::NameTaken => Err(AuthError::NameTaken),
            Registered::NotInvited => Err(AuthError::NotInvited),
            Registered::Closed => Err(AuthError::RegistrationClosed),
            Registered::Full => Err(AuthError::TooMany { what: "accounts", limit: self.settings.accounts_max }),
        }
    }

    /// Checks name and password and begins a session; the session before, if any, ends with it, so that nobody goes on in
    /// a session that somebody else has planted.
    ///
    /// # Errors
    /// [`AuthError::WrongLogin`], or throttled.
    pub async fn log_in(
        &self,
        address: IpAddr,
        username: &str,
        password: String,
        browser: &str,
        before: Option<&str>,
    ) -> Result<(Login, Secret), AuthError> {
        self.throttle.address(address)?;
        // The same for names that nobody has, or it would tell which are taken.
        self.throttle.account(username)?;
        let known = self.accounts.account_by_name(username).await?;
        let (account, hash) = known.unzip();
        let is_right = self.passwords.verify(password, hash).await?;
        let (Some(account), true) = (account, is_right) else { return Err(AuthError::WrongLogin) };
        // Told only to whoever knows the password.
        if account.disabled_at_ms.is_some() {
            return Err(AuthError::Disabled);
        }
        let secret = Secret::fresh(CredentialKind::Session);
        let new = NewCredential {
            account: account.id,
            kind: CredentialKind::Session,
            secret: secret.hash(),
            name: cut(browser),
            scopes: Scopes::ALL,
            expires_at_ms: Some(self.session_end(now_ms(), now_ms())),
        };
        let made = self.accounts.create_credential(new, before.map(secret::hash), self.settings.sessions_max).await?;
        // Sessions make room for themselves.
        let credential = made.ok_or(AuthError::TooMany { what: "sessions", limit: self.settings.sessions_max })?;
        Ok((Login { account, credential }, secret))
    }

    /// Whose secret this is, if it is good; notes that it was used.
    ///
    /// # Errors
    /// Of the store.
    pub async fn resolve(&self, secret: &str, kind: CredentialKind) -> Result<Option<Login>, AuthError> {
        let now_ms = now_ms();
        let found = self.accounts.credential(&secret::hash(secret), now_ms).await?;
        let Some((mut credential, account)) = found.filter(|(credential, _)| credential.kind == kind) else {
            return Ok(None);
        };
        if now_ms - credential.used_at_ms >= NOTE_USE_EVERY_MS {
            credential.used_at_ms = now_ms;
            if kind == CredentialKind::Session {
                credential.expires_at_ms = Some(self.session_end(credential.created_at_ms, now_ms));
            }
            self.accounts.use_credential(credential.id, now_ms, credential.expires_at_ms).await?;
        }
        Ok(Some(Login { account, credential }))
    }

    /// A session ends when it is not used, and some day in any case.
    fn session_end(&self, created_at_ms: i64, used_at_ms: i64) -> i64 {
        let after = |from: i64, hours: u32| from.saturating_add(i64::from(hours) * HOUR_MS);
        after(created_at_ms, self.settings.session_max_h).min(after(used_at_ms, self.settings.session_idle_h))
    }

    /// Changes the password of whoever knows the old one, and ends the account's other sessions.
    ///
    /// # Errors
    /// [`AuthError::WrongLogin`], throttled, or the new password refused.
    pub async fn change_password(&self, login: &Login, current: String, new: String) -> Result<(), AuthError> {
        let username = &login.account.username;
        self.throttle.account(username)?;
        let known = self.accounts.account_by_name(username).await?;
        if !self.passwords.verify(current, known.map(|(_, hash)| hash)).await? {
            return Err(AuthError::WrongLogin);
        }
        let hash = self.passwords.choose(username, new).await?;
        self.replace_password(login.account.id, hash, Some(login.credential.id)).await
    }

    /// Sets a password by the right of whoever has the machine. False when there is no such account.
    ///
    /// # Errors
    /// The password refused, or of the store.
    pub async fn set_password(&self, username: &str, new: String) -> Result<bool, AuthError> {
        let Some((account, _)) = self.accounts.account_by_name(username).await? else { return Ok(false) };
        let hash = self.passwords.choose(username, new).await?;
        self.replace_password(account.id, hash, None).await?;
        Ok(true)
    }

    /// Sets the password of an account by the right of an administrator, and ends its sessions.
    ///
    /// # Errors
    /// The password refused, or of the store.
    pub async fn reset_password(&self, account: &AccountRow, new: String) -> Result<(), AuthError> {
        let hash = self.passwords.choose(&account.username, new).await?;
        self.replace_password(account.id, hash, None).await
    }

    /// Changes role or admission. `None` when there is no such account.
    ///
    /// # Errors
    /// [`AuthError::LastAdministrator`], or of the store.
    pub async fn change_account(&self, id: AccountId, change: AccountChange) -> Result<Option<AccountRow>, AuthError> {
        match self.accounts.change_account(id, change).await? {
            AccountChanged::Done(account, ended) => {
                let (role, disabled) = (account.role.as_str(), account.disabled_at_ms.is_some());
                tracing::info!(account = %account.id, role, disabled, "an account was changed");
                ended.into_iter().for_each(|id| self.tell_ended(id));
                Ok(Some(account))
            }
            AccountChanged::NoSuchAccount => Ok(None),
            AccountChanged::LastAdministrator => Err(AuthError::LastAdministrator),
        }
    }

    /// Waits until it is time to look again, and looks: whoever was logged out at another node learns it so. A store that
    /// cannot be asked says nothing.
    pub async fn is_still_good(&self, id: CredentialId) -> bool {
        tokio::time::sleep(Duration::from_secs(self.settings.look_again_s)).await;
        self.accounts.credential_is_good(id, now_ms()).await.unwrap_or(true)
    }

    async fn replace_password(
        &self,
        account: AccountId,
        hash: String,
        keep: Option<CredentialId>,
    ) -> Result<(), AuthError> {
        let sessions = self.accounts.credentials(account, CredentialKind::Session, now_ms()).await?;
        self.accounts.set_password(account, hash, keep).await?;
        for session in sessions.into_iter().filter(|session| Some(session.id) != keep) {
            self.tell_ended(session.id);
        }
        Ok(())
    }

    /// Makes a token; by what the owner has come in bounds what it may do.
    ///
    /// # Errors
    /// [`AuthError::BeyondOwn`], [`AuthError::TooMany`].
    pub async fn create_token(&self, by: &Login, token: NewToken) -> Result<(CredentialRow, Secret), AuthError> {
        let own = &by.credential;
        let lasts_longer = match (own.kind, own.expires_at_ms, token.expires_at_ms) {
            (CredentialKind::Session, _, _) | (_, None, _) => false,
            (CredentialKind::Token, Some(own), wanted) => wanted.is_none_or(|wanted| wanted > own),
        };
        if lasts_longer || !own.scopes.include(token.scopes) {
            return Err(AuthError::BeyondOwn);
        }
        self.issue_token(by.account.id, token).await
    }

    /// Makes a token by the right of whoever has the machine.
    ///
    /// # Errors
    /// [`AuthError::TooMany`].
    pub async fn issue_token(&self, account: AccountId, token: NewToken) -> Result<(CredentialRow, Secret), AuthError> {
        let secret = Secret::fresh(CredentialKind::Token);
        let new = NewCredential {
            account,
            kind: CredentialKind::Token,
            secret: secret.hash(),
            name: cut(&token.name),
            scopes: token.scopes,
            expires_at_ms: token.expires_at_ms,
        };
        let limit = self.settings.tokens_max;
        let made = self.accounts.create_credential(new, None, limit).await?;
        Ok((made.ok_or(AuthError::TooMany { what: "tokens", limit })?, secret))
    }

    /// Ends a session or token of an account. False when it has no such one.
    ///
    /// # Errors
    /// Of the store.
    pub async fn revoke(&self, account: AccountId, kind: CredentialKind, id: CredentialId) -> Result<bool, AuthError> {
        let revoked = self.accounts.revoke_credential(account, kind, id).await?;
        if revoked {
            self.tell_ended(id);
        }
        Ok(revoked)
    }

    fn tell_ended(&self, id: CredentialId) {
        // Nobody may be watching.
        drop(self.ended.send(id));
    }

    /// Makes an invitation; its code is shown once.
    ///
    /// # Errors
    /// [`AuthError::TooMany`].
    pub async fn invite(&self, by: AccountId) -> Result<(InvitationRow, Secret), AuthError> {
        let secret = Secret::code();
        let expires_at_ms = now_ms() + i64::from(self.settings.invitation_h) * HOUR_MS;
        let limit = self.settings.invitations_max;
        let made = self.accounts.create_invitation(by, secret.hash(), expires_at_ms, limit).await?;
        Ok((made.ok_or(AuthError::TooMany { what: "invitations", limit })?, secret))
    }
}

/// Milliseconds since 1970 (UTC).
#[must_use]
pub fn now_ms() -> i64 {
    let now = time::OffsetDateTime::now_utc();
    now.unix_timestamp() * 1000 + i64::from(now.millisecond())
}

fn check_username(username: &str) -> Result<(), AuthError> {
    let mut bytes = username.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte));
    if begins && goes_on && username.len() <= USERNAME_BYTES_MAX { Ok(()) } else { Err(AuthError::InvalidUsername) }
}

/// Without control characters, and not too long.
fn cut(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "Ada", "ada@example.org", "a.b_c-d+e", "7"] {
            assert!(check_username(name).is_ok(), "{name}");
        }
        for name in ["", ".a", "a b", "ä", "a/b", "a\n", &"a".repeat(65)] {
            assert!(check_username(name).is_err(), "{name}");
        }
    }
}
