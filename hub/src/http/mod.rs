//! The hub's plain HTTP ports: one for webhooks ([`hook`]), one for metrics and health ([`observe`]), so that nobody who
//! may call the first keeps probes from the second. Whoever reaches them may be anybody: every connection is bounded in
//! headers, time and number, in all and for its address, before a handler sees it.

pub mod hook;
pub mod observe;

use std::{io, net::IpAddr, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::auth::limit::Places;

pub use hook::{Lookup, Receiver, Receivers, hook_path};
pub use observe::Ready;

/// All headers of a request together, as Flux bounds them.
const MAX_HEADERS: u32 = 256 << 10;
/// Connections at the same time, in all and of one address; more are closed.
const MAX_CONNECTIONS: usize = 1024;
const MAX_OF_AN_ADDRESS: usize = 256;
/// A client that has not sent its headers by then is cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A connection ends after this, whatever it does; clients reconnect.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);

/// Serves `router` until `stop`; then ends, connections and all.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Places::new(MAX_CONNECTIONS, MAX_OF_AN_ADDRESS);
    let tracker = TaskTracker::new();
    while let Some((stream, from)) = next(&listener, &stop).await {
        let Some(place) = places.take(from) else {
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(async move {
            // Each arm may be dropped at any time: a connection cut short is the client's to repeat.
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(CONNECTION_WITHIN, connection(stream, router)) => {}
            }
            drop(place);
        });
    }
    tracker.close();
    tracker.wait().await;
}

/// Returns the next connection, `None` once stopped.
async fn next(listener: &TcpListener, stop: &CancellationToken) -> Option<(TcpStream, IpAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => return Some((stream, from.ip())),
            Err(error) => refused(&error).await,
        }
    }
}

/// Out of descriptors is no reason to spin; a client that left is none to wait.
async fn refused(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEADERS as usize);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(16)
        .max_pending_accept_reset_streams(Some(20))
        .keep_alive_interval(Some(Duration::from_secs(30)));
    // What goes wrong with one connection is its client's.
    let _ = server
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}
