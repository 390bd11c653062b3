//! Carries questions to services that have keys: over HTTP, with the certificates and the proxy of the system, bounded in
//! time and bytes, and never to an address at which clouds hand out credentials. What is asked and what it means is
//! `flotilla_sops`'.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use flotilla_core::egress::{Policy, Refusal};
use flotilla_sops::services::{Answering, Request, Response, Transport};
use reqwest::{
    Certificate, Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::causes::with_causes;

/// Bytes of an answer.
const MAX_ANSWER: usize = 256 << 10;
/// What a server may take for an answer, and before that for a connection.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server that did not answer is left alone: what waits for it would hold up what does not.
const SILENT: Duration = Duration::from_secs(10);
/// Servers that are left alone at once.
const SILENT_SERVERS: usize = 64;
/// Addresses of one name.
const ADDRESSES: usize = 16;

/// What is connected to for a name.
#[derive(Debug, Clone, Default)]
enum Reach {
    /// What it stands for, but for addresses where no service is.
    #[default]
    Resolved,
    /// This, for every name: in tests.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(dead_code, reason = "made in tests only")
    )]
    Always(SocketAddr),
}

/// Asks services. Nothing is set up before one is asked.
#[derive(Default)]
pub struct KeyServices {
    reach: Reach,
    /// Trusted beside the system's certificates, PEM.
    trusted: Vec<u8>,
    client: OnceLock<Result<Client, String>>,
    silent: Mutex<HashMap<String, (Instant, String)>>,
}

impl KeyServices {
    /// Asks one server for all, whose certificate this authority has issued.
    #[cfg(any(test, feature = "testing"))]
    pub fn at(server: SocketAddr, ca_pem: &str) -> Self {
        Self {
            reach: Reach::Always(server),
            trusted: ca_pem.as_bytes().to_vec(),
            ..Self::default()
        }
    }

    fn client(&self) -> Result<&Client, String> {
        let client = self.client.get_or_init(|| {
            // Fails only when a provider is installed already, and all of ours install this one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let trusted = Certificate::from_pem_bundle(&self.trusted).unwrap_or_default();
            let client = Client::builder()
                .user_agent(concat!("flotilla-agent/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .dns_resolver(Arc::new(self.reach.clone()))
                .connect_timeout(CONNECT)
                .timeout(TIMEOUT)
                .pool_idle_timeout(Duration::from_secs(60))
                .tls_certs_merge(trusted)
                .build();
            client.map_err(|error| format!("TLS cannot be set up: {}", with_causes(&error)))
        });
        client.as_ref().map_err(Clone::clone)
    }

    async fn answer(&self, request: Request) -> Result<Response, String> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| "its address is no URL".to_owned())?;
        let server = url.authority().to_owned();
        judge(&url)?;
        if let Some(why) = self.silence(&server) {
            return Err(why);
        }
        let answer = self.sent(request).await;
        if let Err((why, true)) = &answer {
            self.note_silent(server, why);
        }
        answer.map_err(|(why, _)| why)
    }

    /// Sends a request. Tells whether it is worth while to leave the server alone for a while.
    async fn sent(&self, request: Request) -> Result<Response, (String, bool)> {
        let client = self.client().map_err(|why| (why, false))?;
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            let is_silent = error.is_timeout() || error.is_connect();
            (with_causes(&error), is_silent)
        };
        let request = request.map(|mut body| std::mem::take(&mut *body));
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = client.execute(request).await.map_err(failed)?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            if body.len() + bytes.len() > MAX_ANSWER {
                let why = format!("its answer is larger than {} KiB", MAX_ANSWER >> 10);
                return Err((why, false));
            }
            body.extend_from_slice(&bytes);
        }
        let mut answer = Response::new(body);
        *answer.status_mut() = response.status();
        Ok(answer)
    }

    fn silence(&self, server: &str) -> Option<String> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, why) = silent.get(server)?;
        (since.elapsed() < SILENT).then(|| why.clone())
    }

    fn note_silent(&self, server: String, why: &str) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.len() >= SILENT_SERVERS {
            silent.retain(|_, (since, _)| since.elapsed() < SILENT);
        }
        if silent.len() < SILENT_SERVERS {
            silent.insert(server, (Instant::now(), why.to_owned()));
        }
    }
}

impl Transport for KeyServices {
    fn send(&self, request: Request) -> Answering<'_> {
        Box::pin(self.answer(request))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the time comes from; whoever signs takes it as an argument"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Judges an address that stands in a URL instead of a name: none resolves it.
fn judge(url: &Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let policy = Policy::default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
    let judged = match literal {
        Ok(address) => policy.judge(host, address),
        Err(_) => policy.judge_host(host),
    };
    judged.map_err(|refusal| refused(&refusal))
}

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Special { address, why, .. } => format!("{address} is {why}: no service is asked there"),
        Refusal::Denied { .. } => refusal.to_string(),
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = match this {
                Self::Always(server) => vec![server],
                Self::Resolved => {
                    let (policy, host) = (Policy::default(), name.as_str());
                    // The port of the URL is put in place of this one.
                    let found = tokio::net::lookup_host((host, 0)).await?;
                    let found: Vec<SocketAddr> = found.take(ADDRESSES).collect();
                    let judged = |address: &SocketAddr| policy.judge(host, address.ip());
                    let refusal = found.iter().find_map(|address| judged(address).err());
                    let allowed: Vec<SocketAddr> = found
                        .into_iter()
                        .filter(|address| judged(address).is_ok())
                        .collect();
                    match refusal {
                        Some(refusal) if allowed.is_empty() => return Err(refused(&refusal).into()),
                        _ => allowed,
                    }
                }
            };
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_service_is_asked_where_clouds_hand_out_credentials() {
        let services = KeyServices::default();
        for url in [
            "http://169.254.169.254/v1/transit/decrypt/key",
            "http://2852039166/v1/transit/decrypt/key",
            "http://[::ffff:169.254.169.254]/v1/transit/decrypt/key",
        ] {
            let request = http::Request::put(url)
                .body(Zeroizing::default())
                .expect("a request");
            let why = services.send(request).await.expect_err("refused");
            assert!(why.contains("no service is asked there"), "{url}: {why}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_left_alone_for_a_while() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let services = KeyServices::default();
        let ask = || {
            let request = http::Request::put(format!("http://{address}/v1/transit/decrypt/key"));
            services.send(request.body(Zeroizing::default()).expect("a request"))
        };
        let first = ask().await.expect_err("nobody is there");
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port");
        let second = ask().await.expect_err("it is not asked");
        assert_eq!(first, second);
        let asked = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(asked.is_err(), "it was asked");
    }
}
