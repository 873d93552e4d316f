//! A connection that ends when no byte moves in either direction, and that ends so that the peer can read the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// After our last byte, what the peer still sends is thrown away for at most this long, and no longer than silence would
/// be borne. Closing at once would make the
/// kernel answer its bytes with a reset, and a reset makes many clients drop an early answer (413, 415) unread.
const LINGER: Duration = Duration::from_secs(10);
/// …and no longer than this without a byte.
const LINGER_IDLE: Duration = Duration::from_secs(2);
/// Piece in which such bytes are read.
const LINGER_PIECE_BYTES: usize = 16 * 1024;

/// Wraps a stream; see the module.
#[derive(Debug)]
pub struct IdleIo<T> {
    inner: T,
    idle: Duration,
    last_byte: Instant,
    timer: Pin<Box<Sleep>>,
    linger_until: Option<Instant>,
}

impl<T> IdleIo<T> {
    /// Closes `inner` after `idle` without a byte.
    pub fn new(inner: T, idle: Duration) -> Self {
        Self { inner, idle, last_byte: Instant::now(), timer: Box::pin(sleep(idle)), linger_until: None }
    }

    /// Called when nothing moved: an error once the time is up.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.last_byte + self.idle;
            if due <= Instant::now() {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no byte in either direction in time"));
            }
            self.timer.as_mut().reset(due);
        }
    }

    /// Passes on what happened; a wait goes on only until the time is up.
    fn watch<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_pending() {
            return self.poll_idle(cx).map(Err);
        }
        self.last_byte = Instant::now();
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for IdleIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.watch(cx, result)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for IdleIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Says that no more comes, then reads and forgets until the peer closes as well or the time is up.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let until = match this.linger_until {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                let until = Instant::now() + LINGER.min(this.idle);
                this.timer.as_mut().reset(Instant::now() + LINGER_IDLE.min(this.idle));
                *this.linger_until.insert(until)
            }
        };
        let mut piece = [0u8; LINGER_PIECE_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut this.inner).poll_read(cx, &mut buffer) {
                Poll::Pending => return this.timer.as_mut().poll(cx).map(Ok),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    let now = Instant::now();
                    if now >= until {
                        return Poll::Ready(Ok(()));
                    }
                    this.timer.as_mut().reset(until.min(now + LINGER_IDLE.min(this.idle)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const IDLE: Duration = Duration::from_millis(900);
    const LESS: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn ends_after_the_time_without_a_byte() {
        let (near, _far) = duplex(64);
        let mut near = IdleIo::new(near, IDLE);
        let begun = Instant::now();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= IDLE);
    }

    #[tokio::test]
    async fn a_byte_in_either_direction_keeps_it_open() {
        let (near, mut far) = duplex(64);
        let mut near = IdleIo::new(near, IDLE);
        let begun = Instant::now();
        let far_side = tokio::spawn(async move {
            for _ in 0..6 {
                sleep(LESS).await;
                far.write_u8(1).await.unwrap();
            }
            far
        });
        for _ in 0..6 {
            near.read_u8().await.unwrap();
        }
        assert!(begun.elapsed() > IDLE);
        let _far = far_side.await.unwrap();
        near.write_u8(1).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_idle_too() {
        let (near, _far) = duplex(64);
        let mut near = IdleIo::new(near, IDLE);
        assert_eq!(near.write_all(&[0; 1000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn lingers_until_the_peer_has_said_everything() {
        let (near, mut far) = duplex(64);
        let mut near = IdleIo::new(near, Duration::from_secs(30));
        let closing = tokio::spawn(async move { near.shutdown().await });
        far.write_all(&[0; 10_000]).await.unwrap();
        drop(far);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn lingers_for_a_bounded_time() {
        let (near, mut far) = duplex(64);
        let mut near = IdleIo::new(near, IDLE);
        let begun = Instant::now();
        let closing = tokio::spawn(async move { near.shutdown().await });
        // The peer never stops of itself.
        while far.write_u8(0).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        closing.await.unwrap().unwrap();
        assert!(begun.elapsed() >= IDLE);
    }
}
