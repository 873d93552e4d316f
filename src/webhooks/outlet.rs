//! One attempt at a delivery: a request that goes to a checked address or nowhere, and an answer of which little is read.

use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_client::redirect::Policy;
use http_client::{Certificate, Client, Response, StatusCode, header};
use tokio::time::timeout_at;

use super::sign::signature;
use super::target::{Guard, Target, TargetError};
use crate::config;

/// Headers of an answer that are read at most.
const HEADERS_MAX: usize = 100;
/// Of the file of certificates: all that systems trust together are a quarter of it.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Why nothing can be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// It is not there, or may not be read.
    #[error("webhooks.ca_file, {}: {source}", path.display())]
    CaFile {
        /// As it stands in the settings.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no PEM, or has something else in it.
    #[error("webhooks.ca_file, {}, holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate that is none, or a system without any.
    #[error("TLS of webhooks cannot be set up: {0}")]
    Tls(#[from] http_client::Error),
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// Where to.
    pub url: &'a str,
    /// The same for each attempt: who has seen it has seen the message.
    pub id: &'a str,
    /// JSON.
    pub body: &'a str,
    /// What signs, the newest first.
    pub secrets: &'a [String],
    /// Seconds since 1970, part of what is signed.
    pub timestamp_s: i64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong: for programs and for people. Nothing for a status of 200 to 299.
    pub trouble: Option<(&'static str, String)>,
    /// First bytes of the answer, as far as they are text.
    pub answer: String,
    /// The receiver wants to be left alone for so long.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub duration: Duration,
}

impl Reply {
    /// Whether the receiver says that it does not want to be told anything more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self.status, Some(410))
    }
}

/// Sends.
pub struct Outlet {
    client: Client,
    guard: Guard,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl Outlet {
    /// A client that follows nothing, asks no proxy, keeps no connection and no cookie, and connects to what `guard` has checked.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the file of certificates cannot be read.
    pub fn new(config: &config::Webhooks, guard: Guard) -> Result<Self, OutletError> {
        // Fails when a provider is there already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("inkpool-webhooks/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .https_only(!config.allow_http)
            .tls_certs_merge(authorities(&config.ca_file)?)
            .http1_only()
            .http1_max_headers(HEADERS_MAX)
            // Each attempt looks at the name anew.
            .pool_max_idle_per_host(0)
            .connect_timeout(config.timeout())
            .dns_resolver(Arc::new(guard.clone()))
            .build()?;
        Ok(Self { client, guard, timeout: config.timeout(), answer_bytes_max: config.answer_bytes_max })
    }

    /// Sends it; never longer than the timeout.
    pub async fn send(&self, parcel: Parcel<'_>) -> Reply {
        let began = Instant::now();
        let end = tokio::time::Instant::from_std(began + self.timeout);
        let failed = |code, detail: String| Reply {
            status: None,
            trouble: Some((code, detail)),
            answer: String::new(),
            retry_after: None,
            duration: began.elapsed(),
        };
        // The rules may have changed since it was made, and no resolver is asked about an address.
        let target = match Target::parse(parcel.url, &self.guard.rules) {
            Ok(target) => target,
            Err(error) => return failed(error.code(), error.to_string()),
        };
        let request = self
            .client
            .post(target.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", parcel.id)
            .header("webhook-timestamp", parcel.timestamp_s)
            .header("webhook-signature", signature(parcel.secrets, parcel.id, parcel.timestamp_s, parcel.body))
            .body(parcel.body.to_owned());
        match timeout_at(end, request.send()).await {
            Err(_) => failed("timeout", format!("no answer within {} s", self.timeout.as_secs())),
            Ok(Err(error)) => {
                let (code, detail) = trouble(&error);
                failed(code, detail)
            }
            Ok(Ok(mut response)) => {
                // The status decides; what follows is for people, and may be endless.
                let answer = self.first_bytes(&mut response, end).await;
                let status = response.status();
                Reply {
                    status: Some(status.as_u16()),
                    trouble: refusal(status),
                    answer,
                    retry_after: retry_after(&response),
                    duration: began.elapsed(),
                }
            }
        }
    }

    async fn first_bytes(&self, response: &mut Response, end: tokio::time::Instant) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < self.answer_bytes_max {
            match timeout_at(end, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    bytes.extend_from_slice(&chunk[..chunk.len().min(self.answer_bytes_max - bytes.len())])
                }
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{FFFD}' } else { c }).collect()
    }
}

/// Whom receivers may have their certificates from, beside whom this machine trusts.
fn authorities(path: &Path) -> Result<Vec<Certificate>, OutletError> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CA_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|source| OutletError::CaFile { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(OutletError::NoCertificate(path.to_owned())),
    }
}

fn refusal(status: StatusCode) -> Option<(&'static str, String)> {
    if status.is_success() {
        return None;
    }
    let number = status.as_u16();
    Some(if status.is_redirection() {
        ("redirect", format!("the answer was {number}; redirects are not followed"))
    } else if number == 410 {
        ("gone", "the answer was 410: the receiver wants no more".to_owned())
    } else {
        ("status", format!("the answer was {number}"))
    })
}

/// Whole seconds alone; a date is left to the waits.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What went wrong on the way, without the URL, which may hold a secret of its owner's.
fn trouble(error: &http_client::Error) -> (&'static str, String) {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<TargetError>() {
            return (refused.code(), refused.to_string());
        }
        if let Some(why) = distrust(cause) {
            return ("untrusted", format!("its certificate is not trusted: {why}").chars().take(200).collect());
        }
        last = cause.to_string();
        source = cause.source();
    }
    let last: String = last.chars().take(200).collect();
    if error.is_timeout() {
        ("timeout", "the connection took too long".to_owned())
    } else if error.is_connect() {
        ("unreachable", last)
    } else {
        ("broken", last)
    }
}

/// What is wrong with a certificate. An error of input and output keeps what it wraps to itself, sometimes twice.
fn distrust<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = cause.downcast_ref() {
        return Some(why);
    }
    distrust(cause.downcast_ref::<io::Error>()?.get_ref()?)
}
