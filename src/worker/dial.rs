//! How a worker in a container reaches its slot: it connects to the slot's socket and shows its token, once for its log
//! and once for the frames.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context;

use super::Ends;
use crate::pipeline::wire::{self, Knock, Stream};

/// Connects. From here on the log goes to the slot, too.
pub fn dial(socket: &Path, token: &str) -> anyhow::Result<Ends> {
    let log = knock(socket, token, Stream::Log)?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdout(&log)?;
    let answers = knock(socket, token, Stream::Frames)?;
    let orders = answers.try_clone()?;
    Ok(Ends { orders: Box::new(orders), answers })
}

fn knock(socket: &Path, token: &str, stream: Stream) -> anyhow::Result<File> {
    let connection = UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    // A file reads and writes with calls that are still allowed after lock-down; a socket would receive and send.
    let mut connection = File::from(OwnedFd::from(connection));
    wire::write_frame(&mut connection, &Knock { token: token.to_owned(), stream })?;
    Ok(connection)
}
