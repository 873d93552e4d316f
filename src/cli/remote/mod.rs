//! A server, as the commands that talk to one see it: where it is, who asks, and what is tried again.

mod error;
mod events;
mod token;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http_client::redirect::Policy;
use http_client::{Client, Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{RemoteError, refusal};
pub use events::Events;
pub use watch::Watch;

use crate::job::{JobError, JobId, State};

/// A server on the same continent answers a connect within a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long: the connection is dead. Event streams say something every 15 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The whole of a request that carries no image.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Documents of the API: a page of 500 images with 200 pages each stays below.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Redirects within one server, such as to a path with a slash.
const REDIRECTS_MAX: usize = 5;
/// Waits between tries double from the first to the second of these.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Which server, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub struct RemoteArgs {
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", env = "INKPOOL_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A token of that server; others on this machine can see it here, so prefer the variable or the file
    #[arg(long, global = true, value_name = "TOKEN", env = "INKPOOL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Tokens, with a line `machine HOST token TOKEN` for each server, mode 0600 [default: ~/.config/inkpool/tokens]
    #[arg(long, global = true, value_name = "FILE", env = "INKPOOL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Try a request again for this long while the server is away or busy
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    retry_for: u64,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    client: Client,
    base: Url,
    token: Option<String>,
    retry_for: Duration,
}

/// What the commands read of a job; the whole object is kept beside it.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Key.
    pub id: JobId,
    /// On which image.
    pub image_id: crate::job::ImageId,
    /// Where it stands.
    pub state: State,
    /// Why the last attempt did not succeed.
    pub error: Option<JobError>,
}

impl Job {
    /// Reads an object of the API.
    pub fn of(object: &Value) -> Result<Self, RemoteError> {
        serde_json::from_value(object.clone()).map_err(|error| not_ours(&error))
    }
}

fn not_ours(error: &serde_json::Error) -> RemoteError {
    RemoteError::Failed(format!("the answer is not one of an Inkpool server of this version: {error}"))
}

impl Server {
    /// Reads the arguments; nothing is sent yet.
    pub fn new(args: &RemoteArgs) -> Result<Self, RemoteError> {
        let usage = |why: &str| RemoteError::Usage(format!("--server {}: {why}", without_secrets(&args.server)));
        let base: Url = args.server.parse().map_err(|_| usage("is no address such as https://ink.example.org"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(usage("begins with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(usage("has no name or password in it; use a token"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(usage("ends with its path"));
        }
        let token = match args.token.clone().filter(|token| !token.is_empty()) {
            Some(token) => Some(token),
            None => token::find(args.token_file.as_deref(), &base)?,
        };
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(RemoteError::Usage("the token has characters that no token has".to_owned()));
        }
        // Fails when a provider is there already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("inkpool/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(same_server(base.clone()))
            .build()
            .map_err(|error| RemoteError::Failed(reason(&error)))?;
        Ok(Self { client, base, token, retry_for: Duration::from_secs(args.retry_for) })
    }

    /// Whether a token would be sent so that others on the way can read it.
    pub fn exposes_token(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let this_machine =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.token.is_some() && self.base.scheme() == "http" && !this_machine
    }

    /// An address below `/api/v1`; each part of the path is one component, whatever stands in it.
    pub fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// A request that says who asks.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends once; what is no success is an error.
    pub async fn send_once(&self, request: RequestBuilder) -> Result<Response, RemoteError> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(moved(&response));
        }
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = self.body(response).await?;
        Err(RemoteError::of_answer(status, after, &body))
    }

    /// Gets a document, again while that may help.
    pub async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, RemoteError> {
        self.document(Method::GET, url, None).await
    }

    /// Asks for something and reads the answer, again while that may help: only for what can be asked twice.
    pub async fn document<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<T, RemoteError> {
        let bytes = self
            .again_while_it_helps(async || {
                let mut request = self.request(method.clone(), url.clone()).timeout(REQUEST_TIMEOUT);
                if let Some(body) = body {
                    request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
                }
                self.body(self.send_once(request).await?).await
            })
            .await?;
        serde_json::from_slice(&bytes).map_err(|error| not_ours(&error))
    }

    /// Tries until it goes, until it cannot go, or until the time for it is over.
    pub async fn again_while_it_helps<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let began = Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(least) = error.worth_another_try() else { return Err(error) };
            // By chance, so that many that failed together do not come back together.
            let pause = backoff.mul_f64(rand::random_range(0.5..1.0)).max(least);
            if began.elapsed() + pause > self.retry_for {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The whole body of an answer.
    pub async fn body(&self, mut response: Response) -> Result<Vec<u8>, RemoteError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(&mut response).await? {
            if body.len() + piece.len() > DOCUMENT_BYTES_MAX {
                return Err(RemoteError::Failed("the answer is longer than any of an Inkpool server".to_owned()));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The next piece of a body; `None` at its end.
    pub async fn piece(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, RemoteError> {
        match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
            Ok(piece) => piece.map_err(|error| self.unanswered(&error)),
            Err(_) => Err(self.unreachable("it has fallen silent")),
        }
    }

    /// The error of a request that was not answered.
    pub fn unanswered(&self, error: &http_client::Error) -> RemoteError {
        if error.is_builder() || error.is_redirect() {
            return RemoteError::Failed(reason(error));
        }
        self.unreachable(&reason(error))
    }

    /// No answer.
    pub fn unreachable(&self, why: &str) -> RemoteError {
        RemoteError::Unreachable { server: self.base.to_string(), why: why.to_owned() }
    }
}

/// Redirects within this very server alone: a token, and what is uploaded, go to nobody else.
fn same_server(base: Url) -> Policy {
    Policy::custom(move |attempt| {
        let is_same = attempt.url().origin() == base.origin();
        if is_same && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
    })
}

fn moved(response: &Response) -> RemoteError {
    let to = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
    let to = match response.url().join(to) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "somewhere else".to_owned(),
    };
    RemoteError::Failed(format!(
        "the server sends us on to {to}, where nothing is sent unasked; if that is right, say --server {to}"
    ))
}

/// The last reason of a chain is the one that people know: "Connection refused".
fn reason(error: &http_client::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    super::plain(&reason.to_string())
}

/// An address in a message, should somebody have written a password into it.
fn without_secrets(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, host)| host)
}

/// Whether an answer says that nothing is there.
pub fn is_absent(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused(problem) if problem.status == StatusCode::NOT_FOUND.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str) -> Result<Server, RemoteError> {
        let token = Some("t".to_owned());
        Server::new(&RemoteArgs { server: address.to_owned(), token, token_file: None, retry_for: 0 })
    }

    #[test]
    fn parts_of_a_path_stay_parts() {
        let server = server("https://ink.example.org/below/").unwrap();
        let url = server.url(["images", "../x", "files", "p0002/clean.png"], &[("a", "b&c")]);
        assert_eq!(url.as_str(), "https://ink.example.org/below/api/v1/images/..%2Fx/files/p0002%2Fclean.png?a=b%26c");
    }

    #[test]
    fn an_address_is_http_and_holds_no_secret() {
        for wrong in ["ink.example.org", "ftp://x", "http://", "https://ada:geheim@x", "https://x/?a=b"] {
            let told = server(wrong).unwrap_err().to_string();
            assert!(!told.contains("geheim"), "{told}");
        }
    }

    #[test]
    fn a_token_in_plain_sight_is_noticed() {
        for (address, exposed) in [
            ("http://ink.lan", true),
            ("https://ink.lan", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]", false),
        ] {
            assert_eq!(server(address).unwrap().exposes_token(), exposed, "{address}");
        }
    }
}
