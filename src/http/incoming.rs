//! The bytes of an upload as they come in: bounded in length, in time, and in time without a byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::limits::too_slow;
use super::problem::{Kind, Problem};

/// Bytes that a reader of multipart may take in without giving any out: it holds them in memory until it finds the end
/// of a part's header. Browsers and curl need about 200.
const UNREAD_BYTES_MAX: u64 = 512 * 1024;

/// Bounds on one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    /// Bytes.
    pub bytes_max: u64,
    /// The whole of it.
    pub deadline: Instant,
    /// Between two pieces.
    pub idle: Duration,
}

/// Why a body could not be read to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadFault {
    /// The client hung up, or broke the transfer coding.
    #[error("the body ended early")]
    HungUp,
    /// Too slow.
    #[error("no byte in time")]
    TooSlow(Duration),
    /// Too long.
    #[error("more than {0} bytes")]
    TooLong(u64),
    /// A part of a form with a header without end.
    #[error("a part's header without end")]
    NoEndOfHeader,
}

impl From<ReadFault> for Problem {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::HungUp => Self::new(Kind::IncompleteBody, "The body ended before its announced length."),
            ReadFault::TooSlow(allowed) => too_slow(allowed),
            ReadFault::TooLong(limit) => Self::body_too_large(limit, format!("more than {limit} bytes")),
            ReadFault::NoEndOfHeader => Self::new(Kind::InvalidMultipart, "The header of a part does not end.")
                .figures(format!("{UNREAD_BYTES_MAX} bytes"), format!("more than {UNREAD_BYTES_MAX} bytes")),
        }
    }
}

/// What happens to a body, for whoever reads it through a library: that library's errors do not say why it ended.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    fault: Arc<OnceLock<ReadFault>>,
    unread: Arc<AtomicU64>,
}

impl Watch {
    /// The first fault of the body as a problem, else what `otherwise` says.
    pub fn fault_or(&self, otherwise: impl FnOnce() -> Problem) -> Problem {
        self.fault.get().cloned().map_or_else(otherwise, Problem::from)
    }

    /// The library has given out what it took in.
    pub fn consumed(&self) {
        self.unread.store(0, Ordering::Relaxed);
    }
}

/// Pieces of a body. After an error there is nothing more.
pub type Pieces = BoxStream<'static, Result<Bytes, ReadFault>>;

struct Reader {
    body: BodyDataStream,
    bounds: BodyBounds,
    bytes_left: u64,
    watch: Watch,
    through_library: bool,
}

/// The body within its bounds.
pub fn pieces(body: Body, bounds: BodyBounds) -> Pieces {
    read(body, bounds, false).0
}

/// The body within its bounds, for a library that takes in whatever is ready before it gives anything out: it gets one
/// piece at a time, and only so many until [`Watch::consumed`] is called.
pub fn watched_pieces(body: Body, bounds: BodyBounds) -> (Pieces, Watch) {
    read(body, bounds, true)
}

fn read(body: Body, bounds: BodyBounds, through_library: bool) -> (Pieces, Watch) {
    let watch = Watch::default();
    let body = body.into_data_stream();
    let reader = Reader { body, bounds, bytes_left: bounds.bytes_max, watch: watch.clone(), through_library };
    let stream = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(piece) => Some((Ok(piece), Some(reader))),
            Err(fault) => {
                let first = reader.watch.fault.get_or_init(|| fault).clone();
                Some((Err(first), None))
            }
        }
    });
    (stream.fuse().boxed(), watch)
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, ReadFault>> {
        if self.through_library {
            tokio::task::yield_now().await;
        }
        let patience = (Instant::now() + self.bounds.idle).min(self.bounds.deadline);
        let piece = match timeout_at(patience, self.body.next()).await {
            Err(_) => return Some(Err(ReadFault::TooSlow(self.bounds.idle))),
            Ok(None) => return None,
            Ok(Some(Err(_))) => return Some(Err(ReadFault::HungUp)),
            Ok(Some(Ok(piece))) => piece,
        };
        Some(self.count(&piece).map(|()| piece))
    }

    fn count(&mut self, piece: &Bytes) -> Result<(), ReadFault> {
        let length = piece.len() as u64;
        metrics::counter!("inkpool_bytes_in_total").increment(length);
        let too_long = ReadFault::TooLong(self.bounds.bytes_max);
        self.bytes_left = self.bytes_left.checked_sub(length).ok_or(too_long)?;
        if self.through_library && self.watch.unread.fetch_add(length, Ordering::Relaxed) + length > UNREAD_BYTES_MAX {
            return Err(ReadFault::NoEndOfHeader);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(500);
    const DEADLINE: Duration = Duration::from_millis(1500);

    fn bounds(bytes_max: u64) -> BodyBounds {
        BodyBounds { bytes_max, deadline: Instant::now() + DEADLINE, idle: IDLE }
    }

    fn body(pieces: usize, piece_bytes: usize) -> Body {
        let piece = Bytes::from(vec![0u8; piece_bytes]);
        Body::from_stream(stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_above_does_not() {
        let passed: Vec<_> = pieces(body(4, 256), bounds(1024)).collect().await;
        assert!(passed.len() == 4 && passed.iter().all(Result::is_ok));
        let refused: Vec<_> = pieces(body(100, 256), bounds(1000)).collect().await;
        assert_eq!(refused.len(), 4, "nothing is read after the fault");
        assert!(matches!(refused[3], Err(ReadFault::TooLong(1000))));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let begun = Instant::now();
        let seen: Vec<_> = pieces(silent, bounds(10)).collect().await;
        assert!(matches!(seen[..], [Err(ReadFault::TooSlow(_))]));
        assert!(begun.elapsed() >= IDLE);
    }

    #[tokio::test]
    async fn a_trickle_ends_at_the_deadline() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(IDLE / 10).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let begun = Instant::now();
        let seen: Vec<_> = pieces(Body::from_stream(trickle), bounds(1000)).collect().await;
        assert!(matches!(seen.last(), Some(Err(ReadFault::TooSlow(_)))));
        assert!(begun.elapsed() >= DEADLINE);
    }

    #[tokio::test]
    async fn a_library_that_gives_nothing_out_gets_no_more() {
        let (stream, watch) = watched_pieces(body(100, 64 * 1024), bounds(u64::MAX));
        let seen: Vec<_> = stream.collect().await;
        assert!(matches!(seen.last(), Some(Err(ReadFault::NoEndOfHeader))));
        assert_eq!(seen.len(), 9);
        assert_eq!(watch.fault_or(|| Problem::invalid("other")).code, "invalid_multipart");
        let (mut stream, watch) = watched_pieces(body(100, 64 * 1024), bounds(u64::MAX));
        while let Some(piece) = stream.next().await {
            piece.unwrap();
            watch.consumed();
        }
    }
}
