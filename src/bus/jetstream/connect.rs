//! A connection to NATS: credentials, TLS, and a server that is new enough.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};

use super::super::BusError;
use super::super::public::PublicSettings;

/// Consumers with limits for each subject, and replies to every kind of answer, are there since this version.
const VERSION_MIN: (i64, i64, i64) = (2, 10, 0);
/// A server that came back is found within this time: nobody waits for it meanwhile.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// A connection that answers no ping for two of these is dropped and made anew.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How to reach NATS. Empty values are not used.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`; several with commas between.
    pub url: String,
    /// User name.
    pub user: String,
    /// Password of the user.
    pub password: String,
    /// File with JWT and seed, as `nsc` writes it.
    pub credentials_file: PathBuf,
    /// Certificates of authorities, PEM; the system's if empty.
    pub ca_file: PathBuf,
    /// Certificate to show, PEM.
    pub client_cert_file: PathBuf,
    /// Its key, PEM.
    pub client_key_file: PathBuf,
    /// Refuse a connection without TLS.
    pub tls: bool,
    /// Copies of each stream: 1 or 3 or 5.
    pub replicas: usize,
    /// Bound on every answer of the server.
    pub timeout: Duration,
    /// What is kept for programs outside.
    pub public: PublicSettings,
}

/// The connection, and how often it was made: whoever looked at the streams looks again when that has changed.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) timeout: Duration,
    made: Arc<AtomicU64>,
}

impl Link {
    /// Connects. A server that cannot be reached now is tried again for ever; one that refuses us is an error.
    pub(super) async fn open(settings: &NatsSettings) -> Result<Self, BusError> {
        let made = Arc::new(AtomicU64::new(0));
        let connected = tokio::time::timeout(
            settings.timeout * 2,
            options(settings, &made).await?.connect(settings.url.split(',').collect::<Vec<_>>()),
        );
        let client = match connected.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) if refused(error.kind()) => {
                return Err(BusError::Unfit(format!("NATS at {} cannot be used: {error}", shown(&settings.url))));
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(url = shown(&settings.url), "NATS cannot be reached; work goes on by the ledger");
                let options = options(settings, &made).await?.retry_on_initial_connect();
                let addresses: Vec<_> = settings.url.split(',').collect();
                options.connect(addresses).await.map_err(|error| BusError::Unavailable(error.to_string()))?
            }
        };
        Ok(Self { client, timeout: settings.timeout, made })
    }

    /// Changes whenever what is known of the server may have become wrong.
    pub(super) fn generation(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Something was not as expected: whoever comes next looks again.
    pub(super) fn doubt(&self) {
        self.made.fetch_add(1, Ordering::SeqCst);
    }

    /// Without this, what is sent while the server is away waits in the client and arrives when nobody wants it.
    pub(super) fn check(&self) -> Result<(), BusError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(BusError::Unavailable("no connection to NATS".to_owned())),
        }
    }

    /// Refuses what is too old.
    pub(super) fn check_version(&self) -> Result<(), BusError> {
        let (major, minor, patch) = VERSION_MIN;
        let Some(info) = self.client.try_server_info() else {
            return Err(BusError::Unavailable("no connection to NATS".to_owned()));
        };
        if self.client.is_server_compatible(major, minor, patch) {
            return Ok(());
        }
        Err(BusError::Unfit(format!("nats-server {major}.{minor} or newer is needed, this one is {}", info.version)))
    }

    /// `work` within the bound.
    pub(super) async fn bounded<T>(&self, work: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        // Twice, because a look at the streams is made of several requests that each have the bound.
        let ended = tokio::time::timeout(self.timeout * 2, work).await;
        ended.unwrap_or_else(|_| Err(BusError::Unavailable("NATS does not answer".to_owned())))
    }
}

fn refused(kind: ConnectErrorKind) -> bool {
    match kind {
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => true,
        ConnectErrorKind::Dns | ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            false
        }
    }
}

/// An address without its password.
fn shown(url: &str) -> String {
    let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

async fn options(settings: &NatsSettings, made: &Arc<AtomicU64>) -> Result<ConnectOptions, BusError> {
    let given = |path: &Path| !path.as_os_str().is_empty();
    let made = made.clone();
    let mut options = ConnectOptions::new()
        .name("inkpool")
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .ping_interval(PING_EVERY)
        .require_tls(settings.tls)
        .reconnect_delay_callback(|tries| {
            Duration::from_millis(50).saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX)).min(RECONNECT_WAIT_MAX)
        })
        .event_callback(move |event| {
            made.fetch_add(1, Ordering::SeqCst);
            if event == Event::Connected {
                tracing::info!("connected to NATS");
            } else {
                tracing::warn!(%event, "NATS");
            }
            std::future::ready(())
        });
    if !settings.user.is_empty() {
        options = options.user_and_password(settings.user.clone(), settings.password.clone());
    }
    if given(&settings.credentials_file) {
        let path = &settings.credentials_file;
        let read = options.credentials_file(path).await;
        options = read.map_err(|error| BusError::Unfit(format!("credentials file {}: {error}", path.display())))?;
    }
    if given(&settings.ca_file) {
        options = options.add_root_certificates(settings.ca_file.clone());
    }
    if given(&settings.client_cert_file) {
        options = options.add_client_certificate(settings.client_cert_file.clone(), settings.client_key_file.clone());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("nats://me:secret@a:4222,tls://b:1"), "nats://a:4222,tls://b:1");
    }
}
