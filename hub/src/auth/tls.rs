//! The hub's TLS: TLS 1.3, one port, a client certificate optional here and required above by `agent.v1`.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use super::{
    ca::{Authority, ServerCertificate},
    connection::Connection,
    known::Known,
    limit::{Place, Places},
    line::Line,
    share::{Share, Shares},
    silence::Silences,
};
use crate::process::descriptors;

/// Connections that have sent nothing yet: each costs a descriptor, for seconds at most. A quarter for one address, behind which
/// a thousand may come back in the same second to a hub that has just begun.
const SILENT: usize = 4096;
const SILENT_EACH: usize = 1024;
const FIRST_BYTE: Duration = Duration::from_secs(3);
/// Connections that have begun to speak and wait for their handshake: a thousand agents behind one address come back
/// in the same second.
const WAITING: usize = 8192;
const WAITING_EACH: usize = 4096;
/// How long one waits for its handshake. Of the addresses that come alone a thousand a second are served in turn, whatever
/// others do.
const WAIT: Duration = Duration::from_secs(20);
/// Handshakes under way at once, for one address a quarter; others wait in line. One takes two ways there and back: over a
/// tenth of a second each, that is a thousand handshakes a second for agents behind one address.
const HANDSHAKES: usize = 1024;
const HANDSHAKES_EACH: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections without a client certificate, in all and of one address, unless more may enrol each second: people, and
/// agents that enrol. Agents with one are bounded by the clusters there are.
const STRANGERS: usize = 1024;
const STRANGERS_EACH: usize = 256;
/// Descriptors that connections leave to everything else: store, sources, renderers, the other ports.
const RESERVED: usize = 512;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot configure TLS")]
pub struct TlsError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The configuration in force; swapped when the server certificate is renewed.
pub type SharedConfig = Arc<ArcSwap<ServerConfig>>;

/// Makes the server's configuration.
pub fn config(authority: &Authority, certificate: ServerCertificate) -> Result<ServerConfig, TlsError> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| TlsError(e);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.root().clone())
        .map_err(|e| failed(e.into()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| failed(e.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| failed(e.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificate.chain, certificate.key)
        .map_err(|e| failed(e.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Resumption may pass over the client's certificate; every connection shows it anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Connections as they come.
pub type Incoming = ReceiverStream<Result<Connection, io::Error>>;

/// Connections by who has made them.
pub struct Accepted {
    /// Of agents, by their certificates: they ask by themselves whether the hub is there.
    pub agents: Incoming,
    /// Of all others.
    pub others: Incoming,
}

/// Accepts connections and gives those whose handshake succeeded, until a receiver is dropped. A silent, slow or
/// broken one costs a place of its own address and nothing else. Where so many may try to enrol each second, in all and of
/// one address, as many may be there at once.
pub fn serve(listener: TcpListener, config: SharedConfig, [attempts, attempts_each]: [usize; 2]) -> Accepted {
    let (agents_tx, agents_rx) = mpsc::channel(64);
    let (others_tx, others_rx) = mpsc::channel(64);
    tokio::spawn(async move {
        let most = open_at_most(descriptors());
        let door = Arc::new(Door {
            // One address alone may not have them all either.
            open: Places::new(most, most / 4 * 3),
            of_known: Way::new(most),
            of_others: Way::new(most),
            known: Known::default(),
            strangers: Places::new(STRANGERS.max(attempts), STRANGERS_EACH.max(attempts_each)),
            silences: Silences::watch(),
            config,
        });
        loop {
            let (stream, from) = tokio::select! {
                () = agents_tx.closed() => return,
                () = others_tx.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => (stream, from.ip()),
                    Err(error) => {
                        // Out of file descriptors, say: a pause lets others close theirs.
                        debug!(%error, "accepting a connection failed");
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let is_known = door.known.has(from, Instant::now());
            let (Some(open), Some(silent)) = (door.open.take(from), door.way(is_known).silent.take(from))
            else {
                debug!(%from, "connection closed: too many of this address, or in all");
                continue;
            };
            let (door, agents_tx, others_tx) = (door.clone(), agents_tx.clone(), others_tx.clone());
            tokio::spawn(async move {
                match door.admit(stream, (from, is_known), open, silent).await {
                    Ok(connection) => {
                        let to = if connection.is_agent() {
                            agents_tx
                        } else {
                            others_tx
                        };
                        let _ = to.send(Ok(connection)).await;
                    }
                    Err(why) => debug!(%from, why, "connection closed"),
                }
            });
        }
    });
    Accepted {
        agents: ReceiverStream::new(agents_rx),
        others: ReceiverStream::new(others_rx),
    }
}

/// Connections at once, by how many descriptors there are.
fn open_at_most(descriptors: usize) -> usize {
    descriptors.saturating_sub(RESERVED).max(descriptors / 2)
}

/// What connections pass before they are served.
struct Door {
    open: Arc<Places>,
    /// The way in of addresses from which somebody came with a certificate lately, and that of all others: these do not
    /// stand in the way of those.
    of_known: Way,
    of_others: Way,
    known: Known,
    strangers: Arc<Places>,
    silences: Arc<Silences>,
    config: SharedConfig,
}

/// From the first byte to the handshake.
struct Way {
    silent: Arc<Shares>,
    waiting: Arc<Shares>,
    handshakes: Arc<Line>,
}

impl Way {
    /// `most` connections are open: where these are few, all that stand in the way leave some of them to those who are in.
    fn new(most: usize) -> Self {
        let places = |total: usize, part: usize| total.min(most / part).max(1);
        let handshakes = places(HANDSHAKES, 16);
        Self {
            silent: Shares::new(places(SILENT, 4), SILENT_EACH),
            waiting: Shares::new(places(WAITING, 4), WAITING_EACH),
            handshakes: Line::new(handshakes, HANDSHAKES_EACH.min(handshakes.div_ceil(4))),
        }
    }
}

impl Door {
    fn way(&self, is_known: bool) -> &Way {
        match is_known {
            true => &self.of_known,
            false => &self.of_others,
        }
    }

    async fn admit(
        &self,
        stream: TcpStream,
        (from, is_known): (IpAddr, bool),
        open: Place,
        silent: Share,
    ) -> Result<Connection, String> {
        const LOST: &str = "others of which fewer are there have its place";
        let way = self.way(is_known);
        let _ = stream.set_nodelay(true);
        let mut first = [0; 1];
        tokio::select! {
            () = silent.lost() => return Err(LOST.to_owned()),
            peeked = timeout(FIRST_BYTE, stream.peek(&mut first)) => match peeked {
                Ok(Ok(1..)) => {}
                _ => return Err("it says nothing".to_owned()),
            },
        }
        let waiting = way
            .waiting
            .take(from)
            .ok_or("too many wait for their handshake")?;
        drop(silent);
        let handshake = tokio::select! {
            () = waiting.lost() => return Err(LOST.to_owned()),
            turn = timeout(WAIT, way.handshakes.wait(from)) => turn.map_err(|_| "too many handshakes")?,
        };
        drop(waiting);
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let stream = match timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("the TLS handshake failed: {error}")),
            Err(_) => return Err("the TLS handshake took too long".to_owned()),
        };
        drop(handshake);
        let has_certificate = stream.get_ref().1.peer_certificates().is_some();
        if has_certificate {
            self.known.came(from, Instant::now());
        }
        let place = match (has_certificate, self.strangers.take(from)) {
            (true, _) => None,
            (false, Some(place)) => Some(place),
            (false, None) => return Err("too many without a certificate".to_owned()),
        };
        Ok(Connection::new(stream, open, place, &self.silences))
    }
}
