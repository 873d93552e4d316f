//! Passwords: argon2id on a bounded number of threads, and what may be chosen.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::Semaphore;

use crate::config;

/// Longer ones are refused, bytes: a sentence fits, a file does not.
pub const PASSWORD_BYTES_MAX: usize = 256;
const SALT_BYTES: usize = 16;

/// What is wrong with a password, or with hashing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too few characters.
    #[error("A password has at least {chars_min} characters.")]
    TooShort {
        /// The bound.
        chars_min: usize,
    },
    /// Too many bytes.
    #[error("A password has at most {PASSWORD_BYTES_MAX} bytes.")]
    TooLong,
    /// Among those that are tried first; with the reason if there is one.
    #[error("This password is too easy to guess.{}", why.as_ref().map(|why| format!(" {why}")).unwrap_or_default())]
    TooEasy {
        /// For people.
        why: Option<String>,
    },
    /// Too many are being hashed.
    #[error("too many passwords are being checked")]
    Busy,
    /// Argon2 does not run with these settings.
    #[error("argon2id: {0}")]
    Broken(String),
}

/// Hashes and checks passwords. Each takes memory and time by design, so that only a few run at once, a bounded number
/// waits, and more are refused.
pub struct Passwords {
    argon2: Argon2<'static>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    chars_min: usize,
    score_min: u8,
    /// Of a password that nobody has: checked when there is no account, so that it takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// With these settings.
    ///
    /// # Errors
    /// [`PasswordError::Broken`] when argon2id cannot be run with them.
    pub async fn new(settings: &config::Auth) -> Result<Self, PasswordError> {
        let broken = |error: argon2::Error| PasswordError::Broken(error.to_string());
        let params = Params::new(settings.argon2_memory_kib, settings.argon2_passes, settings.argon2_lanes, None);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(broken)?);
        let mut passwords = Self {
            argon2,
            running: Arc::new(Semaphore::new(settings.hashes_at_once)),
            waiting: Arc::new(Semaphore::new(settings.hashes_at_once + settings.hashes_waiting_max)),
            chars_min: settings.password_chars_min,
            score_min: settings.password_score_min,
            nobody: "".into(),
        };
        passwords.nobody = passwords.blocking(|argon2| hash(argon2, "of nobody")).await?.into();
        Ok(passwords)
    }

    /// Checks that a password may be used, and hashes it: a PHC string.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn choose(&self, username: &str, password: String) -> Result<String, PasswordError> {
        if password.chars().count() < self.chars_min {
            return Err(PasswordError::TooShort { chars_min: self.chars_min });
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let (username, score_min) = (username.to_owned(), self.score_min);
        let work = move |argon2: &Argon2<'static>| {
            let entropy = zxcvbn::zxcvbn(&password, &[username.as_str(), "inkpool"]);
            if u8::from(entropy.score()) < score_min {
                let why = entropy.feedback().and_then(|feedback| feedback.warning()).map(|why| why.to_string());
                return Err(PasswordError::TooEasy { why });
            }
            hash(argon2, &password)
        };
        self.blocking(work).await
    }

    /// Whether the password is the one that was hashed. Without a hash it is never right and takes as long.
    ///
    /// # Errors
    /// [`PasswordError::Busy`], or a hash that argon2 cannot read.
    pub async fn verify(&self, password: String, known: Option<String>) -> Result<bool, PasswordError> {
        let is_known = known.is_some();
        let known: Arc<str> = known.map_or_else(|| self.nobody.clone(), Into::into);
        let work = move |argon2: &Argon2<'static>| {
            let known = PasswordHash::new(&known).map_err(|error| PasswordError::Broken(error.to_string()))?;
            // What is too long was never chosen; hashing it whole would let a sender choose the cost.
            let bytes = &password.as_bytes()[..password.len().min(PASSWORD_BYTES_MAX + 1)];
            Ok(argon2.verify_password(bytes, &known).is_ok())
        };
        Ok(self.blocking(work).await? && is_known)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let argon2 = self.argon2.clone();
        // The permits go with the work: a client that hangs up does not free its place early.
        let running = tokio::task::spawn_blocking(move || {
            let result = work(&argon2);
            drop((turn, place));
            result
        });
        running.await.map_err(|error| PasswordError::Broken(error.to_string()))?
    }
}

fn hash(argon2: &Argon2<'static>, password: &str) -> Result<String, PasswordError> {
    let mut salt = [0u8; SALT_BYTES];
    OsRng.try_fill_bytes(&mut salt).map_err(|error| PasswordError::Broken(error.to_string()))?;
    let hashed = argon2.hash_password_with_salt(password.as_bytes(), &salt);
    hashed.map(|hash: PasswordHash| hash.to_string()).map_err(|error| PasswordError::Broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passwords(change: impl FnOnce(&mut config::Auth)) -> Passwords {
        let mut settings = config::Config::defaults().unwrap().auth;
        settings.argon2_memory_kib = 64;
        change(&mut settings);
        Passwords::new(&settings).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_password_itself_is_right() {
        let passwords = passwords(|_| {}).await;
        let hash = passwords.choose("ada", "seven crooked lamps".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{hash}");
        let verify = |password: &str| passwords.verify(password.to_owned(), Some(hash.clone()));
        assert!(verify("seven crooked lamps").await.unwrap());
        for other in ["seven crooked lamp", "Seven crooked lamps", "", &"x".repeat(100_000)] {
            assert!(!verify(other).await.unwrap());
        }
        let again = passwords.choose("ada", "seven crooked lamps".to_owned()).await.unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = passwords(|_| {}).await;
        for password in ["", "of nobody"] {
            assert!(!passwords.verify(password.to_owned(), None).await.unwrap());
        }
    }

    #[tokio::test]
    async fn what_is_tried_first_is_refused() {
        let passwords = passwords(|_| {}).await;
        for easy in ["password1", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "adalovelace1"] {
            let refused = passwords.choose("adalovelace", easy.to_owned()).await.unwrap_err();
            assert!(matches!(refused, PasswordError::TooEasy { .. }), "{easy}: {refused}");
        }
        let short = passwords.choose("ada", "k7#Qz".to_owned()).await.unwrap_err();
        assert!(matches!(short, PasswordError::TooShort { .. }));
        let long = passwords.choose("ada", "seven lamps ".repeat(30)).await.unwrap_err();
        assert_eq!(long, PasswordError::TooLong);
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused() {
        let passwords = passwords(|settings| {
            settings.hashes_at_once = 1;
            settings.hashes_waiting_max = 1;
        });
        let passwords = passwords.await;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = passwords.blocking(move |_| wait.recv().map_err(|error| PasswordError::Broken(error.to_string())));
        let second = passwords.blocking(|_| Ok(()));
        let third = async {
            let refused = passwords.blocking(|_| Ok(())).await;
            go.send(()).unwrap();
            refused
        };
        // Polled in this order: one runs, one waits, one is too many.
        let (first, second, third) = tokio::join!(first, second, third);
        assert_eq!((first, second, third), (Ok(()), Ok(()), Err(PasswordError::Busy)));
    }
}
