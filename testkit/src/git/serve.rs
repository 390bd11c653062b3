//! The Git server's HTTP side: accepts connections, checks who asks, applies faults, writes the log.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{GitAccess, GitCommand, GitFault, GitRequest, State, cgi};
use crate::RigError;
use crate::background::Background;
use crate::certs::KeyCert;

/// The largest request for refs or objects that is read; pushes are streamed and may be larger.
const LARGEST_REQUEST: usize = 16 << 20;

fn invalid(error: impl std::fmt::Display) -> RigError {
    RigError::Invalid(format!("own certificate: {error}"))
}

/// Takes only clients that show a certificate of this authority.
pub(super) fn asking_acceptor(pair: &KeyCert, ca_pem: &str) -> Result<TlsAcceptor, RigError> {
    let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(invalid)?;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(invalid)?)
        .map_err(invalid)?;
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients.build().map_err(invalid)?)
        .with_single_cert(vec![cert], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(super) fn tls_acceptor(pair: &KeyCert) -> Result<TlsAcceptor, RigError> {
    let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(invalid)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Binds a free port and serves on it in the background.
pub(super) async fn listen(
    background: &Background,
    state: &Arc<State>,
    tls: Option<TlsAcceptor>,
) -> Result<SocketAddr, RigError> {
    let unbound = RigError::io("listen on", "127.0.0.1");
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unbound)?;
    let address = listener
        .local_addr()
        .map_err(RigError::io("listen on", "127.0.0.1"))?;
    listener
        .set_nonblocking(true)
        .map_err(RigError::io("listen on", "127.0.0.1"))?;
    let state = Arc::clone(state);
    background.spawn(async move {
        // The listener joins the runtime it is served on, not the caller's.
        if let Ok(listener) = TcpListener::from_std(listener) {
            accept(listener, state, tls).await;
        }
    });
    Ok(address)
}

async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        if *state.fault() == Some(GitFault::Refuse) {
            continue;
        }
        tokio::spawn(connection(stream, Arc::clone(&state), tls.clone()));
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, tls: Option<TlsAcceptor>) {
    match tls {
        None => serve(stream, state, false).await,
        Some(tls) => {
            // A client that does not trust us ends the handshake; that is its finding, not ours.
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, state, true).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>, tls: bool) {
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, request.map(Body::new), tls).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // Clients hang up, and faults cut connections.
    let _ = server
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}

/// Answers one request and writes it to the log.
async fn answer(state: &State, request: Request<Body>, tls: bool) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let target = cgi::Target::parse(&parts.uri);
    let mut entry = GitRequest {
        repository: target.repository.clone(),
        command: GitCommand::Other,
        protocol: protocol(&parts.headers),
        tls,
        status: 0,
    };
    let (command, body) = match read_command(&target, &parts.headers, body).await {
        Ok(read) => read,
        Err(status) => return plain(status),
    };
    entry.command = command;
    let place = {
        let mut log = state.log();
        log.push(entry);
        log.len() - 1
    };
    let fault = state.fault().clone();
    let response = match decide(&fault, &parts).await {
        Some(response) => response,
        None => match user(&state.access, &parts.headers) {
            Err(()) => unauthorized(&state.access),
            Ok(user) => cgi::run(&state.root, &target, &parts, body, user).await,
        },
    };
    if let Some(entry) = state.log().get_mut(place) {
        entry.status = response.status().as_u16();
    }
    match fault {
        Some(GitFault::CutAfter(bytes)) => cut(response, bytes),
        _ => response,
    }
}

/// What a fault answers instead of Git; some only delay or cut.
async fn decide(fault: &Option<GitFault>, parts: &http::request::Parts) -> Option<Response<Body>> {
    match fault {
        Some(GitFault::Status(code)) => Some(plain(
            StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        )),
        Some(GitFault::Redirect(to)) => {
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let mut response = plain(StatusCode::FOUND);
            let location = http::HeaderValue::from_str(&format!("{to}{path}")).ok()?;
            response.headers_mut().insert(header::LOCATION, location);
            Some(response)
        }
        Some(GitFault::Slow(delay)) => {
            tokio::time::sleep(*delay).await;
            None
        }
        Some(GitFault::Refuse | GitFault::CutAfter(_)) | None => None,
    }
}

/// Reads as much of a request as tells what it wants.
async fn read_command(
    target: &cgi::Target,
    headers: &HeaderMap,
    body: Body,
) -> Result<(GitCommand, Body), StatusCode> {
    match target.service.as_str() {
        "info/refs" => Ok((GitCommand::Advertise, body)),
        "git-receive-pack" => Ok((GitCommand::Push, body)),
        "git-upload-pack" => {
            let read = axum::body::to_bytes(body, LARGEST_REQUEST).await;
            let bytes = read.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
            Ok((upload_command(headers, &bytes), Body::from(bytes)))
        }
        _ => Ok((GitCommand::Other, body)),
    }
}

/// Protocol 2 names its command in the first packet; older ones only fetch.
fn upload_command(headers: &HeaderMap, body: &Bytes) -> GitCommand {
    use std::io::Read as _;
    let mut start = Vec::new();
    let zipped = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    if zipped {
        // Half a packet is enough to see the command; an error shows as none.
        let _ = flate2::read::GzDecoder::new(body.as_ref())
            .take(64)
            .read_to_end(&mut start);
    } else {
        start.extend(body.iter().take(64));
    }
    let command = start.get(4..).unwrap_or_default();
    if command.starts_with(b"command=ls-refs") {
        GitCommand::LsRefs
    } else if protocol(headers) < 2 || command.starts_with(b"command=fetch") {
        GitCommand::Fetch
    } else {
        GitCommand::Other
    }
}

fn protocol(headers: &HeaderMap) -> u8 {
    let asked = headers
        .get("git-protocol")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let version = asked.split(':').find_map(|part| part.strip_prefix("version="));
    version.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The user a request may push as; nobody for public servers, an error for who may not ask at all.
fn user(access: &GitAccess, headers: &HeaderMap) -> Result<Option<String>, ()> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let (wanted, name) = match access {
        GitAccess::Public => return Ok(None),
        GitAccess::Basic { user, password } => (
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            user.clone(),
        ),
        GitAccess::Bearer(token) => (format!("Bearer {token}"), "bearer".to_owned()),
    };
    if given == Some(wanted.as_str()) {
        Ok(Some(name))
    } else {
        Err(())
    }
}

fn unauthorized(access: &GitAccess) -> Response<Body> {
    let scheme = match access {
        GitAccess::Bearer(_) => "Bearer",
        GitAccess::Public | GitAccess::Basic { .. } => "Basic realm=\"git\"",
    };
    let mut response = plain(StatusCode::UNAUTHORIZED);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static(scheme));
    response
}

/// An answer that says its status and no more.
pub(super) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

/// Lets `limit` bytes of the body through and then breaks the connection.
fn cut(response: Response<Body>, limit: u64) -> Response<Body> {
    response.map(|body| {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let chunk = chunk.map_err(std::io::Error::other)?;
            if left == 0 {
                return Err(std::io::Error::other("cut here"));
            }
            let part = chunk.slice(..chunk.len().min(left));
            left -= part.len();
            Ok(part)
        }))
    })
}
