//! The server loop: connections with bounds on headers, silence and number, and a shutdown that ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::identity::Peer;
use super::idle::IdleIo;
use super::{AppState, router};

/// Buffer of one connection, bytes: uploads move in pieces of this size; 1,000 connections cost 64 MB.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;
/// After a failed accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that are being answered get this long to end at shutdown.
const DRAIN: Duration = Duration::from_secs(8);
/// Work that outlives its request ends within this time after that: a commit, or the removal of half an upload.
const SETTLE: Duration = Duration::from_secs(5);
/// The parser does not notice silence within a body; this is how much later than a handler the connection gives up, so
/// that a client that is too slow is told so (408) before it is cut off.
const ANSWER_FIRST: Duration = Duration::from_secs(1);

/// Answers requests until `shutdown` is cancelled; then takes no more, lets those being answered end within 8 s, cuts off
/// the rest, and waits until the uploads that were begun have been committed or cleaned up.
///
/// # Errors
/// None today: a failed accept is waited out.
pub async fn serve(listener: TcpListener, state: AppState, shutdown: CancellationToken) -> io::Result<()> {
    let config = &state.config.http;
    let router = router(state.clone());
    let idle = state.idle_timeout();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_header_size(config.header_bytes_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES.max(config.header_bytes_max));
    let connections = Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    let cut_off = CancellationToken::new();
    loop {
        let Some((stream, peer, place)) = next(&listener, &connections, &shutdown).await else { break };
        let service = router.clone().map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            request
        });
        let service = TowerToHyperService::new(service);
        let io = TokioIo::new(IdleIo::new(stream, idle + ANSWER_FIRST));
        let connection = graceful.watch(http.serve_connection(io, service));
        let cut_off = cut_off.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Some(Err(error)) = cut_off.run_until_cancelled(connection).await {
                tracing::debug!(%error, "connection");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still being answered and are cut off");
        cut_off.cancel();
    }
    state.settle(SETTLE).await;
    Ok(())
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection with its place, or `None` at shutdown. While all places are taken, newcomers wait in the
/// kernel's backlog.
async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, Place)> {
    let accept = async {
        let place = Arc::clone(connections).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Events are small and must not wait for more.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "set_nodelay");
                    }
                    return Some((stream, peer, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accept).await.flatten()
}
