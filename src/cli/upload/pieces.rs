//! A long image to the server in pieces (tus 1.0.0): what has arrived is not sent again, neither by the next try nor by the
//! next call. Nothing is kept here: the server knows the upload by its key, and tells how much of it is there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_client::{Method, RequestBuilder, Response, header};
use serde::Deserialize;

use super::report::Bar;
use super::send::{Source, Stream, silence};
use super::{Answer, AnswerItem, Batch};
use crate::cli::remote::{RemoteError, is_absent};
use crate::http::Problem;

/// Shorter images go in one request: they need not be sent for long.
pub const RESUMABLE_FROM_BYTES: u64 = 4 << 20;

/// What the server shows of an upload.
#[derive(Deserialize)]
struct Shown {
    item: Option<ShownItem>,
}

#[derive(Deserialize)]
struct ShownItem {
    #[serde(flatten)]
    item: AnswerItem,
    error: Option<Box<Problem>>,
}

impl Batch<'_> {
    /// Sends what is missing of an image, and again while that may help: as long as bytes arrive, it does. `None`: the server
    /// is one from before.
    pub(super) async fn post_in_pieces(
        &self,
        source: &Source,
        key: &str,
        bar: &Bar,
    ) -> Result<Option<Answer>, RemoteError> {
        let mut there = 0;
        loop {
            let before = there;
            let sent = self.server.again_while_it_helps(async || self.go_on(source, key, bar, &mut there).await).await;
            match sent {
                Err(error) if error.worth_another_try().is_some() && there > before => {}
                sent => return sent,
            }
        }
    }

    /// Asks how much is there, and sends the rest; `there` is what was there at the beginning.
    async fn go_on(
        &self,
        source: &Source,
        key: &str,
        bar: &Bar,
        there: &mut u64,
    ) -> Result<Option<Answer>, RemoteError> {
        let begun = match self.begin(source, key).await {
            Err(error) if is_absent(&error) => return Ok(None),
            begun => begun?,
        };
        let path = text(&begun, header::LOCATION.as_str())?;
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let offset = text(&begun, "upload-offset")?.parse().map_err(|_| odd())?;
        *there = offset;
        bar.sent(offset);
        if offset < source.size_bytes {
            let stream = Stream::of(source, offset, bar).await?;
            let request = spoken(self.server.request(Method::PATCH, self.url(["tus", &id], &[])))
                .header("upload-offset", offset)
                .header(header::CONTENT_LENGTH, source.size_bytes.saturating_sub(offset))
                .header(header::CONTENT_TYPE, "application/offset+octet-stream")
                .body(stream.body);
            let answered = tokio::select! {
                answered = self.server.send_once(request) => answered.map(drop),
                () = silence(&stream.sent) => Err(self.server.unreachable("it has fallen silent")),
            };
            stream.fault.check()?;
            answered?;
        }
        let shown: Shown = self.server.get(self.url(["tus", &id], &[])).await?;
        match shown.item.ok_or_else(odd)? {
            ShownItem { error: Some(error), .. } => Err(RemoteError::Refused(error)),
            ShownItem { item, error: None } => Ok(Some(Answer { items: vec![item] })),
        }
    }

    /// The upload of this key, begun now or before.
    async fn begin(&self, source: &Source, key: &str) -> Result<Response, RemoteError> {
        let set = self.args.set.iter().map(|(key, value)| (format!("set.{key}"), value.as_str()));
        let preset = self.rules.preset.as_str();
        let named = [("filename".to_owned(), source.filename.as_str()), ("preset".to_owned(), preset)];
        let dedup = self.args.dedup.then(|| ("dedup".to_owned(), "true"));
        let said =
            named.into_iter().chain(set).chain(dedup).map(|(name, value)| format!("{name} {}", BASE64.encode(value)));
        let request = spoken(self.server.request(Method::POST, self.url(["tus"], &[])))
            .header("upload-length", source.size_bytes)
            .header("upload-metadata", said.collect::<Vec<_>>().join(","))
            .header("idempotency-key", key);
        self.server.send_once(request).await
    }
}

fn spoken(request: RequestBuilder) -> RequestBuilder {
    request.header("tus-resumable", "1.0.0")
}

fn text(response: &Response, name: &str) -> Result<String, RemoteError> {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.map(str::to_owned).ok_or_else(odd)
}

fn odd() -> RemoteError {
    RemoteError::Failed("the answer to a piece is not one of an Inkpool server".to_owned())
}
