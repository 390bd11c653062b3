//! The connection to the hub: HTTP/2 over TLS under the pinned root, with the agent's certificate once it has
//! one. Keepalives find dead links; nothing waits without a limit.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use flotilla_core::digest::Digest;
use flotilla_proto::{
    limits::ASKED_EVERY,
    tls::{HubVerifier, Pin},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity, Uri};

use super::identity::Certified;
use crate::causes::{chain, connection, with_causes};

/// Where the hub is and how it is known.
#[derive(Debug, Clone)]
pub struct HubAddress {
    /// `https://host:port`, tried in turn.
    pub endpoints: Vec<String>,
    /// Roots trusted before the hub has given its own.
    pub pins: Vec<Pin>,
    /// Trust domain of the hub.
    pub trust_domain: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot work; nothing helps but changing it.
    #[error("endpoint {endpoint} is not usable: {why}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// The hub is not reached or not trusted.
    #[error("no connection to the hub at {endpoint}: {}", connection(source, about_tls))]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// Tells whether the hub does not let this agent in since by its clock the certificate has run out.
    pub fn is_of_run_out_certificate(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if has_run_out(source))
    }

    /// Tells whether the hub's certificate is not valid by this clock, which one of the two clocks is the cause of.
    pub fn is_about_time(&self) -> bool {
        let Self::Connect { source, .. } = self else {
            return false;
        };
        chain(source)
            .find_map(|cause| cause.downcast_ref::<rustls::Error>())
            .is_some_and(is_about_time)
    }
}

/// Tells whether the hub has ended a connection since by its clock this agent's certificate has run out. In TLS 1.3 that comes
/// after the handshake, through layers of which some pass on the words alone.
pub(super) fn has_run_out(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::AlertDescription::CertificateExpired as Expired;
    let alert = rustls::Error::AlertReceived(Expired);
    let words = alert.to_string();
    chain(error).any(|cause| {
        cause.downcast_ref::<rustls::Error>() == Some(&alert) || cause.to_string().contains(&words)
    })
}

fn is_about_time(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// Says what keeps TLS from the hub, and where to look.
pub(super) fn about_tls(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "what answers there has none of the pinned roots: it is another hub, or something between; compare --pin \
             with what `flotilla cluster join` prints"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(Certificate::NotValidForName) => {
            "what answers there is not the hub of this trust domain; compare --trust-domain with what \
             `flotilla cluster join` prints"
                .to_owned()
        }
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "by its clock this agent's certificate has run out".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("it refuses this agent's certificate: {alert:?}"),
        other if is_about_time(other) => "its certificate is not valid by this clock".to_owned(),
        other => format!("no TLS with it: {other}"),
    }
}

/// Takes `https://host[:port]` alone: over anything else the join token would go in clear text to whoever answers.
pub fn check_endpoint(endpoint: &str) -> Result<(), ConnectError> {
    let is_usable = endpoint.parse::<Uri>().is_ok_and(|uri| {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && !authority.contains('@')
            && uri.path() == "/"
            && uri.query().is_none()
    });
    if is_usable {
        Ok(())
    } else {
        Err(ConnectError::Endpoint {
            endpoint: endpoint.to_owned(),
            why: "it is not of the form https://host[:port]".to_owned(),
        })
    }
}

/// The ways to a hub's endpoints, each made once for an identity: keys and certificates are read for it, and a hub that
/// restarts is tried by all its agents again and again, on the machine that it is to start on as well.
#[derive(Debug, Default)]
pub struct Ways {
    /// The identity that they are made for; none is none.
    identity: Option<Digest>,
    /// By the endpoint's place. One that has connected is the only one that is kept, as its connection does anyway.
    made: BTreeMap<usize, Endpoint>,
}

impl Ways {
    /// Connects to the endpoint numbered `turn`, as `certified` says, or without a certificate.
    pub async fn connect(
        &mut self,
        hub: &HubAddress,
        certified: Option<&Certified>,
        turn: usize,
    ) -> Result<Channel, ConnectError> {
        let identity = certified.map(Certified::digest);
        if self.identity != identity {
            self.made.clear();
            self.identity = identity;
        }
        let place = place(hub, turn);
        let way = match self.made.entry(place) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(none) => none.insert(as_certified(hub, certified, turn)?),
        };
        let channel = dial(hub, way, turn).await?;
        self.made.retain(|at, _| *at == place);
        Ok(channel)
    }
}

/// Connects to the endpoint numbered `turn`, as `certified` says, or without a certificate.
pub async fn connect(
    hub: &HubAddress,
    certified: Option<&Certified>,
    turn: usize,
) -> Result<Channel, ConnectError> {
    dial(hub, &as_certified(hub, certified, turn)?, turn).await
}

fn as_certified(
    hub: &HubAddress,
    certified: Option<&Certified>,
    turn: usize,
) -> Result<Endpoint, ConnectError> {
    let pins = certified.map_or_else(|| hub.pins.clone(), |certified| certified.pins(&hub.pins));
    way(hub, certified, pins, turn, |verifier| verifier)
}

/// Connects without a certificate to the hub that has given this one, which has run out.
pub async fn connect_without(
    hub: &HubAddress,
    certified: &Certified,
    turn: usize,
) -> Result<Channel, ConnectError> {
    let way = way(hub, None, certified.pins(&hub.pins), turn, |verifier| verifier)?;
    dial(hub, &way, turn).await
}

/// Connects to a hub whose certificate is not valid by this clock, to say what this clock reads and nothing else.
pub async fn connect_at_any_time(
    hub: &HubAddress,
    certified: &Certified,
    turn: usize,
) -> Result<Channel, ConnectError> {
    let pins = certified.pins(&hub.pins);
    let way = way(hub, Some(certified), pins, turn, HubVerifier::at_any_time)?;
    dial(hub, &way, turn).await
}

/// The place of the endpoint numbered `turn`.
fn place(hub: &HubAddress, turn: usize) -> usize {
    turn % hub.endpoints.len().max(1)
}

fn endpoint(hub: &HubAddress, turn: usize) -> Result<&String, ConnectError> {
    let endpoint = hub.endpoints.get(place(hub, turn));
    endpoint.ok_or_else(|| ConnectError::Endpoint {
        endpoint: String::new(),
        why: "no endpoint is configured".to_owned(),
    })
}

/// Makes the way to the endpoint numbered `turn`. The hub gives no tickets to resume by, so that a connection by a way that
/// is kept is verified as the first one was.
fn way(
    hub: &HubAddress,
    certified: Option<&Certified>,
    pins: Vec<Pin>,
    turn: usize,
    verifying: impl FnOnce(HubVerifier) -> HubVerifier,
) -> Result<Endpoint, ConnectError> {
    let endpoint = endpoint(hub, turn)?;
    check_endpoint(endpoint)?;
    let unusable = |e: tonic::transport::Error| ConnectError::Endpoint {
        endpoint: endpoint.clone(),
        why: with_causes(&e),
    };
    let mut tls = ClientTlsConfig::new().timeout(Duration::from_secs(10));
    if let Some(certified) = certified {
        tls = tls.identity(TlsIdentity::from_pem(certified.chain_pem(), certified.key.pem()));
    }
    let verifier = Arc::new(verifying(HubVerifier::new(pins, &hub.trust_domain)));
    let way = Endpoint::from_shared(endpoint.clone())
        .map_err(unusable)?
        .tls_config_with_verifier(tls, verifier)
        .map_err(unusable)?
        .connect_timeout(Duration::from_secs(15))
        .http2_keep_alive_interval(ASKED_EVERY)
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20);
    Ok(way)
}

async fn dial(hub: &HubAddress, way: &Endpoint, turn: usize) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(hub, turn)?;
    way.connect().await.map_err(|source| ConnectError::Connect {
        endpoint: endpoint.clone(),
        source,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
    };
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// The TLS of a hub whose certificate is valid in these years, and the pin of its root.
    pub(in crate::link) fn hub_tls(from: i32, to: i32, name: &str) -> (TlsAcceptor, Pin) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let uri = format!("spiffe://{name}/hub");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().expect("ASCII"))];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &root).expect("a leaf").der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf, root.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a configuration");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let pin = Pin::of_certificate(root.der()).expect("a pin");
        (TlsAcceptor::from(Arc::new(config)), pin)
    }

    /// A hub whose certificate is valid in these years; accepts one connection.
    async fn hub(from: i32, to: i32, name: &str) -> HubAddress {
        let (tls, pin) = hub_tls(from, to, name);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = HubAddress {
            endpoints: vec![format!("https://{}", listener.local_addr().expect("an address"))],
            pins: vec![pin],
            trust_domain: "fleet.test".to_owned(),
        };
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = tls.accept(stream).await;
        });
        address
    }

    #[tokio::test]
    async fn an_endpoint_without_tls_gets_no_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (_, pin) = hub_tls(2000, 2900, "fleet.test");
        for endpoint in [format!("http://{address}"), address.to_string()] {
            let hub = HubAddress {
                endpoints: vec![endpoint.clone()],
                pins: vec![pin],
                trust_domain: "fleet.test".to_owned(),
            };
            let error = connect(&hub, None, 0).await.expect_err("refused");
            assert!(matches!(error, ConnectError::Endpoint { .. }), "{error}");
            assert!(error.to_string().contains(&endpoint), "{error}");
        }
        let nobody = listener.accept().expect_err("no connection");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }

    fn certified() -> Certified {
        let key = crate::link::identity::PrivateKey::generate().expect("a key");
        let pair = KeyPair::from_pem(key.pem()).expect("a key");
        let params = CertificateParams::new(Vec::new()).expect("no names");
        let leaf = params.self_signed(&pair).expect("a certificate");
        let chain = [leaf.der().to_vec().into()];
        Certified::new(("id", "name", "fleet.test"), 1, key, &chain, &[]).expect("an identity")
    }

    #[tokio::test]
    async fn a_way_to_an_endpoint_is_made_once_for_an_identity() {
        let nobody = async || {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port");
            format!("https://{}", listener.local_addr().expect("an address"))
        };
        let hub = HubAddress {
            endpoints: vec![nobody().await, nobody().await],
            pins: vec![hub_tls(2000, 2900, "fleet.test").1],
            trust_domain: "fleet.test".to_owned(),
        };
        let (first, second) = (certified(), certified());
        let mut ways = Ways::default();
        for turn in 0..4 {
            ways.connect(&hub, Some(&first), turn).await.expect_err("away");
        }
        assert_eq!(ways.made.len(), 2);
        // In its place one to somebody who answers, so that it is seen whether it is taken.
        let somebody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = somebody.local_addr().expect("an address");
        let marked = || Endpoint::from_shared(format!("http://{address}")).expect("it is well formed");
        ways.made.insert(0, marked());
        ways.connect(&hub, Some(&first), 0)
            .await
            .expect("the way that is kept");
        assert_eq!(ways.made.len(), 1, "that alone");
        for other in [Some(&second), None] {
            ways.made.insert(0, marked());
            ways.connect(&hub, other, 0)
                .await
                .expect_err("another identity, another way");
        }
    }

    #[test]
    fn an_endpoint_is_https_with_a_host_and_perhaps_a_port() {
        for usable in [
            "https://hub.example",
            "https://hub.example:7443/",
            "https://[::1]:7443",
        ] {
            check_endpoint(usable).expect(usable);
        }
        for unusable in [
            "",
            "hub.example",
            "hub.example:7443",
            "http://hub.example",
            "https://",
            "https://user@hub.example",
            "https://hub.example/path",
            "https://hub.example?x",
            "unix:/run/hub",
        ] {
            check_endpoint(unusable).expect_err(unusable);
        }
    }

    #[tokio::test]
    async fn what_keeps_the_agent_from_the_hub_is_told_in_words_that_say_what_to_compare() {
        let other_root = {
            let (_, pin) = hub_tls(2000, 2900, "fleet.test");
            HubAddress {
                pins: vec![pin],
                ..hub(2000, 2900, "fleet.test").await
            }
        };
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port");
            HubAddress {
                endpoints: vec![format!("https://{}", listener.local_addr().expect("an address"))],
                ..other_root.clone()
            }
        };
        let cases = [
            (hub(2000, 2001, "fleet.test").await, true, "by this clock"),
            (hub(2900, 2901, "fleet.test").await, true, "by this clock"),
            (
                hub(2000, 2900, "other.test").await,
                false,
                "compare --trust-domain",
            ),
            (other_root, false, "compare --pin"),
            (nobody, false, "it refuses connections"),
        ];
        for (hub, about_time, words) in cases {
            let error = connect(&hub, None, 0).await.expect_err("refused");
            assert_eq!(error.is_about_time(), about_time, "{words}: {error}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(&hub.endpoints[0]), "{text}");
        }
    }
}
