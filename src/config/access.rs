//! Settings of who may come in.

pub mod quotas;

use serde::{Deserialize, Serialize};

use super::{Admin, Config, Rule};

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// One local user, loopback only.
    Open,
    /// Accounts with login.
    Accounts,
}

/// Who may make an account; the first may in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Everybody who reaches the server.
    Open,
    /// Whoever has a code of an administrator.
    Invitation,
    /// Nobody: `inkpool admin user create` makes accounts.
    Off,
}

/// A setting that is not shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Config {
    pub(super) fn access_rules(&self) -> [Rule; 6] {
        let [quotas] = self.quota_rules();
        [
            quotas,
            (
                "auth.look_again_s",
                self.auth.look_again_s,
                (1..=300).contains(&self.auth.look_again_s),
                "1 to 300: so long does the event stream of a disabled user go on at other nodes",
            ),
            (
                "auth.password_score_min",
                self.auth.password_score_min.into(),
                self.auth.password_score_min <= 4,
                "0 to 4",
            ),
            ("auth.hashes_at_once", self.auth.hashes_at_once as u64, self.auth.hashes_at_once >= 1, "at least 1"),
            ("auth.sessions_max", self.auth.sessions_max, self.auth.sessions_max >= 1, "at least 1"),
            (
                "admin.password",
                self.admin.password.0.len() as u64,
                self.admin.username.is_empty() == self.admin.password.0.is_empty(),
                "its length; username and password are set together",
            ),
        ]
    }
}

impl Admin {
    /// As the characters stand there: what reads the other settings would take a password of digits for a number.
    #[expect(clippy::disallowed_methods, reason = "this file is the reader of the environment")]
    pub(super) fn read_environment(&mut self) {
        if let Ok(username) = std::env::var("INKPOOL_ADMIN__USERNAME") {
            self.username = username;
        }
        if let Ok(password) = std::env::var("INKPOOL_ADMIN__PASSWORD") {
            self.password = Hidden(password);
        }
    }
}
