//! The connection to the hub: HTTP/2 over TLS under the pinned root, with the agent's certificate once it has
//! one. Keepalives find dead links; nothing waits without a limit.

use std::{sync::Arc, time::Duration};

use flotilla_proto::tls::{HubVerifier, Pin};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};

use super::identity::Certified;
use crate::causes::with_causes;

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
    #[error("cannot connect to {endpoint}: {}", with_causes(source))]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// Tells whether the hub's certificate is not valid by this clock, which one of the two clocks is the cause of.
    pub fn is_about_time(&self) -> bool {
        use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(error) = cause {
            // An input or output error shows what it holds, not itself, as its source.
            let inner = error
                .downcast_ref::<std::io::Error>()
                .and_then(|error| error.get_ref());
            let tls = match inner {
                Some(inner) => inner.downcast_ref::<rustls::Error>(),
                None => error.downcast_ref::<rustls::Error>(),
            };
            if let Some(rustls::Error::InvalidCertificate(why)) = tls {
                return matches!(
                    why,
                    Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
                );
            }
            cause = error.source();
        }
        false
    }
}

/// Connects to the endpoint numbered `turn`, as `certified` says, or without a certificate.
pub async fn connect(
    hub: &HubAddress,
    certified: Option<&Certified>,
    turn: usize,
) -> Result<Channel, ConnectError> {
    let endpoint = hub
        .endpoints
        .get(turn % hub.endpoints.len().max(1))
        .ok_or_else(|| ConnectError::Endpoint {
            endpoint: String::new(),
            why: "no endpoint is configured".to_owned(),
        })?;
    let unusable = |e: tonic::transport::Error| ConnectError::Endpoint {
        endpoint: endpoint.clone(),
        why: with_causes(&e),
    };
    let pins = certified.map_or_else(|| hub.pins.clone(), |certified| certified.pins(&hub.pins));
    let mut tls = ClientTlsConfig::new().timeout(Duration::from_secs(10));
    if let Some(certified) = certified {
        tls = tls.identity(TlsIdentity::from_pem(certified.chain_pem(), certified.key.pem()));
    }
    let verifier = Arc::new(HubVerifier::new(pins, &hub.trust_domain));
    Endpoint::from_shared(endpoint.clone())
        .map_err(unusable)?
        .tls_config_with_verifier(tls, verifier)
        .map_err(unusable)?
        .connect_timeout(Duration::from_secs(15))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .connect()
        .await
        .map_err(|source| ConnectError::Connect {
            endpoint: endpoint.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
    };
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A hub whose certificate is valid in these years; accepts one connection.
    async fn hub(from: i32, to: i32, name: &str) -> HubAddress {
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
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf, root.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a configuration");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = HubAddress {
            endpoints: vec![format!("https://{}", listener.local_addr().expect("an address"))],
            pins: vec![Pin::of_certificate(root.der()).expect("a pin")],
            trust_domain: "fleet.test".to_owned(),
        };
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        });
        address
    }

    #[tokio::test]
    async fn a_certificate_out_of_its_time_is_told_apart_from_one_that_is_not_the_hubs() {
        for (from, to, name, about_time) in [
            (2000, 2001, "fleet.test", true),
            (2900, 2901, "fleet.test", true),
            (2000, 2900, "other.test", false),
        ] {
            let error = connect(&hub(from, to, name).await, None, 0)
                .await
                .expect_err("refused");
            assert_eq!(error.is_about_time(), about_time, "{from} {name}: {error}");
        }
    }
}
