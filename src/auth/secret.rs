//! Secrets of sessions, tokens and invitations: 256 random bits, stored as their SHA-256. With so many bits a slow hash adds
//! nothing, and a lookup by hash takes the same time whether the secret is nearly right or not at all.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::store::accounts::{CredentialKind, SecretHash};

const SECRET_BYTES: usize = 32;

/// A secret on its way to its owner; never logged, never stored.
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A fresh one. Tokens say what they are, so that scanners find those that were published by mistake.
    #[must_use]
    pub fn fresh(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Session => Self(random()),
            CredentialKind::Token => Self(format!("inkpool_{}", random())),
        }
    }

    /// A fresh code of an invitation.
    #[must_use]
    pub fn code() -> Self {
        Self(random())
    }

    /// To be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        hash(&self.0)
    }
}

/// What is stored of a secret.
#[must_use]
pub fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret.as_bytes()).into()
}

fn random() -> String {
    let mut bytes = [0u8; SECRET_BYTES];
    // Without randomness there is no secret to hand out, and nothing to fall back to.
    #[expect(
        clippy::expect_used,
        reason = "the kernel gives random bytes once it has started; there is no way on without"
    )]
    OsRng.try_fill_bytes(&mut bytes).expect("random bytes of the kernel");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_differ_and_are_not_shown() {
        let (one, two) = (Secret::fresh(CredentialKind::Token), Secret::fresh(CredentialKind::Token));
        assert_eq!(one.reveal().len(), "inkpool_".len() + 64);
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.hash(), hash(one.reveal()));
        assert_eq!(format!("{one:?}"), "Secret(…)");
    }
}
