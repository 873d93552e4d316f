//! The task that sends spans to a collector: OTLP over HTTP, in its JSON encoding.

use std::time::Duration;

use http_client::header::CONTENT_TYPE;
use http_client::redirect::Policy;
use http_client::{Client, Url};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Ended, Told, otlp};
use crate::config::Traces;

/// Where collectors take traces, below their address.
const PATH: &str = "/v1/traces";
/// Spans wait so long for others to go with.
const LINGER: Duration = Duration::from_millis(500);
/// A batch is tried so often; then it is dropped, as further ones wait behind it.
const TRIES_MAX: u32 = 3;
const TRY_WAIT: Duration = Duration::from_secs(1);

/// Counts spans that nobody will see.
pub fn count_dropped(spans: usize) {
    metrics::counter!("inkpool_trace_spans_dropped_total").increment(spans as u64);
}

/// Sends batches.
pub struct Exporter {
    client: Client,
    url: Url,
    node: String,
    batch_max: usize,
    failing: bool,
}

impl Exporter {
    /// For the collector of the settings.
    ///
    /// # Errors
    /// In words, for an address that is none.
    pub fn new(settings: &Traces, node: &str) -> Result<Self, String> {
        let endpoint = settings.endpoint.trim_end_matches('/');
        let url = if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") };
        let url = Url::parse(&url).map_err(|error| format!("traces.endpoint = {:?}: {error}", settings.endpoint))?;
        // Fails when a provider is there already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let bound = Duration::from_secs(settings.timeout_s);
        let client = Client::builder().timeout(bound).redirect(Policy::none()).build();
        let client = client.map_err(|error| format!("traces.endpoint: {error}"))?;
        Ok(Self { client, url, node: node.to_owned(), batch_max: settings.batch_max.max(1), failing: false })
    }

    /// Until nobody can record any more.
    pub async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        while let Some(first) = told.recv().await {
            let (mut spans, mut flushed) = (Vec::new(), Vec::new());
            let patience = Instant::now() + LINGER;
            let mut next = Some(first);
            loop {
                match next {
                    Some(Told::Span(span)) => spans.push(*span),
                    Some(Told::Flush(done)) => {
                        flushed.push(done);
                        break;
                    }
                    None => break,
                }
                if spans.len() >= self.batch_max {
                    break;
                }
                next = timeout_at(patience, told.recv()).await.unwrap_or_default();
            }
            self.send(&spans).await;
            for done in flushed {
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, spans: &[Ended]) {
        if spans.is_empty() {
            return;
        }
        let body = otlp::request(&self.node, spans).to_string();
        let mut failed = String::new();
        for number in 0..TRIES_MAX {
            if number > 0 {
                tokio::time::sleep(TRY_WAIT).await;
            }
            let request =
                self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body.clone());
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("traces are exported again");
                    }
                    return;
                }
                Ok(answer) => failed = format!("the collector answers {}", answer.status()),
                Err(error) => failed = error.to_string(),
            }
        }
        count_dropped(spans.len());
        // Said once: while the collector is away every batch fails.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(error = failed, "traces cannot be exported and are dropped");
        }
    }
}
