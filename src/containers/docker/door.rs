//! The slot's socket: a worker in a container connects to it, shows its token, and is let in once.
//!
//! The socket lies in the slot directory beside `in/` and `out/` and is mounted into the container as a file of its own:
//! the guest can neither remove nor replace it. It closes when the worker is in.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::body::SOCKET;
use crate::containers::slot_dir::open_directory;
use crate::pipeline::wire::{self, Knock, Stream};

/// A connection that has not said who it is by then is dropped.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// A knock is a token and a word.
const KNOCK_BYTES_MAX: u32 = 512;

/// The open socket.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    token: String,
}

/// What a worker connects.
#[derive(Debug)]
pub struct Connected {
    /// Frames in both directions.
    pub frames: UnixStream,
    /// Lines of its log.
    pub log: UnixStream,
}

impl Door {
    /// Opens the socket in a slot directory, in place of an earlier one.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(slot: &Path) -> io::Result<Self> {
        let folder = open_directory(CWD, slot)?;
        match rustix::fs::unlinkat(&folder, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        // The name of a socket may have 107 bytes, and a data directory lie deeper.
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        // The guest is another user; the slot directory above keeps everybody else out.
        rustix::fs::chmodat(&folder, SOCKET, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        listener.set_nonblocking(true)?;
        let token = hex::encode(rand::random::<[u8; 32]>());
        Ok(Self { listener: UnixListener::from_std(listener)?, token })
    }

    /// What the worker must show.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Waits for the worker's two connections. Whoever comes without the token is sent away.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn admit(self) -> io::Result<Connected> {
        let mut log = None;
        loop {
            let (mut stream, _) = self.listener.accept().await?;
            let knock = tokio::time::timeout(KNOCK_TIMEOUT, read_knock(&mut stream)).await;
            let Ok(Ok(knock)) = knock else { continue };
            // By digest: the time of the comparison tells nothing about the token.
            if !is_same(&knock.token, &self.token) {
                tracing::warn!("a connection with a wrong token was refused at a slot's socket");
                continue;
            }
            match (knock.stream, log.take()) {
                (Stream::Log, None) => log = Some(stream),
                (Stream::Frames, Some(log)) => return Ok(Connected { frames: stream, log }),
                (Stream::Log | Stream::Frames, _) => {}
            }
        }
    }
}

fn is_same(theirs: &str, ours: &str) -> bool {
    use sha2::{Digest, Sha256};
    Sha256::digest(theirs) == Sha256::digest(ours)
}

/// Exactly one frame, so that nothing behind it is lost.
async fn read_knock(stream: &mut UnixStream) -> io::Result<Knock> {
    let length = stream.read_u32().await?;
    if length > KNOCK_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    wire::decode(&body)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn knock(slot: &Path, token: &str, stream: Stream) -> UnixStream {
        let mut connection = UnixStream::connect(slot.join(SOCKET)).await.unwrap();
        let frame = wire::encode(&Knock { token: token.to_owned(), stream }).unwrap();
        connection.write_all(&frame).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn only_the_token_is_let_in_and_only_once() {
        let slot = tempfile::tempdir().unwrap();
        let door = Door::open(slot.path()).unwrap();
        let token = door.token().to_owned();
        let admitted = tokio::spawn(door.admit());
        let mut stranger = knock(slot.path(), &"0".repeat(64), Stream::Frames).await;
        assert_eq!(stranger.read(&mut [0; 1]).await.unwrap(), 0, "it is sent away");
        let mut loud = UnixStream::connect(slot.path().join(SOCKET)).await.unwrap();
        loud.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert_eq!(loud.read(&mut [0; 1]).await.unwrap(), 0);
        let mut log = knock(slot.path(), &token, Stream::Log).await;
        let mut frames = knock(slot.path(), &token, Stream::Frames).await;
        log.write_all(b"l").await.unwrap();
        frames.write_all(b"f").await.unwrap();
        let mut connected = admitted.await.unwrap().unwrap();
        assert_eq!(connected.log.read_u8().await.unwrap(), b'l');
        assert_eq!(connected.frames.read_u8().await.unwrap(), b'f');
        assert!(UnixStream::connect(slot.path().join(SOCKET)).await.is_err(), "it is closed");
    }

    #[tokio::test]
    async fn the_name_may_be_long_and_what_lies_there_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let slot = base.path().join("a-long-name-".repeat(15));
        std::fs::create_dir(&slot).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", slot.join(SOCKET)).unwrap();
        let _door = Door::open(&slot).unwrap();
        let found = std::fs::symlink_metadata(slot.join(SOCKET)).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o777, 0o666);
    }
}
