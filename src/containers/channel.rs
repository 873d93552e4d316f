//! The slot's end of the channel to a worker: frames of [`crate::pipeline::wire`], whatever carries them.

use std::io;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::RuntimeError;
use crate::pipeline::wire::{self, FRAME_BYTES_MAX, FromWorker, Hello, PROTOCOL, ToWorker};

/// Why nothing more comes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The worker's end is closed.
    Closed,
    /// What came is no message.
    Protocol(String),
}

/// Both directions.
pub struct Channel {
    orders: Box<dyn AsyncWrite + Send + Unpin>,
    answers: FramedRead<Box<dyn AsyncRead + Send + Unpin>, LengthDelimitedCodec>,
}

impl Channel {
    /// Over what the worker reads and what it writes.
    #[must_use]
    pub fn new(
        orders: impl AsyncWrite + Send + Unpin + 'static,
        answers: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        let codec = LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec();
        Self { orders: Box::new(orders), answers: FramedRead::new(Box::new(answers), codec) }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn send(&mut self, message: &ToWorker) -> Result<(), Broken> {
        let frame = wire::encode(message).map_err(|error| Broken::Protocol(error.to_string()))?;
        let sent = async {
            self.orders.write_all(&frame).await?;
            self.orders.flush().await
        };
        sent.await.map_err(|_: io::Error| Broken::Closed)
    }

    /// The next message. Cancel safe: a frame that has come in part stays in the buffer.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn receive(&mut self) -> Result<FromWorker, Broken> {
        match self.answers.next().await {
            Some(Ok(frame)) => wire::decode(&frame).map_err(|error| Broken::Protocol(error.to_string())),
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(Broken::Protocol(error.to_string())),
            Some(Err(_)) | None => Err(Broken::Closed),
        }
    }
}

/// The hello that a worker's first message must be, of this protocol, this version and the network `model_sha256`.
///
/// # Errors
/// [`RuntimeError::Mismatch`] naming what differs.
pub fn check_hello(first: FromWorker, model_sha256: &str) -> Result<Hello, RuntimeError> {
    let FromWorker::Hello(hello) = first else {
        return Err(RuntimeError::Mismatch("it did not say hello first".to_owned()));
    };
    let (protocol, theirs) = (PROTOCOL.to_string(), hello.protocol.to_string());
    let expected = [
        ("protocol", protocol.as_str(), theirs.as_str()),
        ("version", env!("CARGO_PKG_VERSION"), hello.version.as_str()),
        ("network", model_sha256, hello.model_sha256.as_str()),
    ];
    let differs = expected.into_iter().find(|(_, ours, theirs)| ours != theirs);
    let differs = differs.map(|(what, ours, theirs)| format!("{what} is {theirs}, expected {ours}"));
    differs.map_or(Ok(hello), |differs| Err(RuntimeError::Mismatch(differs)))
}
