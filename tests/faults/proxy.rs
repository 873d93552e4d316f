//! A TCP proxy between one node and one service, which can fall silent as a cut cable does: nothing is refused, nothing is
//! closed, nothing comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Gone with the value, and its connections with it.
pub struct Proxy {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, watched) = watch::channel(false);
        let open = Arc::new(AtomicUsize::new(0));
        let counted = open.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                while connections.try_join_next().is_some() {}
                let (counted, watched) = (counted.clone(), watched.clone());
                connections.spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    carry(socket, to, watched).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, cut, open, task }
    }

    /// Cuts the cable, or mends it: what was under way goes on.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Connections that the node holds.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, to: SocketAddr, mut cut: watch::Receiver<bool>) {
    if cut.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    // When one side is gone, so is the other.
    tokio::select! {
        () = pass(near_in, far_out, cut.clone()) => {}
        () = pass(far_in, near_out, cut) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // Even an end does not get through.
        if cut.wait_for(|cut| !cut).await.is_err() || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
