//! The hub's TLS: TLS 1.3, one port, a client certificate optional here and required above by `agent.v1`.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use super::ca::{Authority, ServerCertificate};

/// Handshakes under way at once; more wait in the accept queue.
const HANDSHAKES: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Accepts connections and gives those whose handshake succeeded, until the receiver is dropped. A slow or
/// broken handshake costs its own place among the handshakes and nothing else.
pub fn serve(
    listener: TcpListener,
    config: SharedConfig,
) -> ReceiverStream<Result<TlsStream<TcpStream>, io::Error>> {
    let (accepted_tx, accepted_rx) = mpsc::channel(64);
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = accepted_tx.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, say: a pause lets others close theirs.
                        debug!(%error, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let acceptor = TlsAcceptor::from(config.load_full());
            let accepted_tx = accepted_tx.clone();
            tokio::spawn(async move {
                let shaken = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                drop(permit);
                match shaken {
                    Ok(Ok(stream)) => drop(accepted_tx.send(Ok(stream)).await),
                    Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
                    Err(_) => debug!("TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(accepted_rx)
}
