//! HTTP clients that sources share: one for each way of connecting, which is a CA, a client certificate and a proxy. None
//! follows a redirect by itself and none holds a remote's credential: both are decided per request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flotilla_core::digest::Digest;
use reqwest::{Certificate, Client, Identity, Url, redirect::Policy};
use zeroize::Zeroizing;

use super::egress::Egress;

/// How many clients are kept beside the one of the system's certificates; the whole set is dropped beyond.
const MAX_CLIENTS: usize = 256;

/// Why there is no client for a remote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The source's CA is not a PEM bundle.
    #[error("the CA is not a bundle of PEM certificates")]
    Ca,
    /// The client certificate and its key are none, or do not belong together.
    #[error("'tls.crt' and 'tls.key' are not a PEM certificate and its key")]
    Certificate,
    /// The proxy's address cannot be used.
    #[error("the proxy cannot be used: {0}")]
    Proxy(String),
    /// TLS cannot be set up on this machine, e.g. it has no certificates at all.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// How a server is connected to.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Connection {
    ca: Option<Arc<[u8]>>,
    certificate: Option<Arc<ClientCertificate>>,
    proxy: Option<Arc<Proxy>>,
}

/// A client's certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with those between it and the CA.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
}

/// A proxy, as a `proxySecretRef` names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    address: Url,
    credential: Option<(String, Zeroizing<String>)>,
}

impl Connection {
    /// With this CA, PEM, trusted besides the system's certificates.
    #[must_use]
    pub fn trusting(mut self, ca: Option<Vec<u8>>) -> Self {
        self.ca = ca.map(Arc::from);
        self
    }

    /// With this certificate shown to the server.
    #[must_use]
    pub fn showing(mut self, certificate: Option<ClientCertificate>) -> Self {
        self.certificate = certificate.map(Arc::new);
        self
    }

    /// Through this proxy, and not through one of the hub's environment.
    #[must_use]
    pub fn through(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy.map(Arc::new);
        self
    }

    /// PEM of the CA.
    pub fn ca(&self) -> Option<&[u8]> {
        self.ca.as_deref()
    }

    /// The client certificate.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// The proxy.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// Names all of it; to be kept as secret as that.
    pub fn digest(&self) -> Digest {
        let certificate = self.certificate();
        let proxy = self.proxy().map(|proxy| proxy.full().to_string());
        let parts = [
            self.ca(),
            certificate.map(|one| one.certificate.as_slice()),
            certificate.map(|one| one.key.as_slice()),
            proxy.as_ref().map(String::as_bytes),
        ];
        let mut bytes = Zeroizing::new(Vec::new());
        for part in parts.map(Option::unwrap_or_default) {
            bytes.extend_from_slice(&part.len().to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Digest::of("connection", &bytes)
    }
}

impl Proxy {
    /// Reads a proxy's address, `http`, `https` or `socks5`, and who asks it.
    pub fn new(address: &str, credential: Option<(String, Zeroizing<String>)>) -> Result<Self, ClientError> {
        let invalid = |why: &str| ClientError::Proxy(why.to_owned());
        let mut address = Url::parse(address).map_err(|_| invalid("its address is no URL"))?;
        if !matches!(address.scheme(), "http" | "https" | "socks5" | "socks5h") {
            return Err(invalid(
                "its address is to begin with http://, https:// or socks5://",
            ));
        }
        if address.host_str().is_none_or(str::is_empty) {
            return Err(invalid("its address names no host"));
        }
        if !address.username().is_empty() || address.password().is_some() {
            return Err(invalid("its credentials belong into 'username' and 'password'"));
        }
        address.set_query(None);
        address.set_fragment(None);
        address.set_path("");
        Ok(Self { address, credential })
    }

    /// Its address, which holds no credential.
    pub fn address(&self) -> &Url {
        &self.address
    }

    /// The password.
    pub fn password(&self) -> Option<&Zeroizing<String>> {
        self.credential.as_ref().map(|(_, password)| password)
    }

    /// Its address with the credential in it, as the git program takes it. SOCKS proxies resolve names themselves, as those
    /// of Flux do.
    pub fn full(&self) -> Zeroizing<String> {
        let mut url = self.address.clone();
        if let Some((username, password)) = &self.credential {
            // Both fail only for URLs without a host.
            let _ = url.set_username(username);
            let _ = url.set_password(Some(password));
        }
        let text = Zeroizing::new(url.to_string());
        match text.strip_prefix("socks5://") {
            Some(rest) => Zeroizing::new(format!("socks5h://{rest}")),
            None => text,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("ca", &self.ca.is_some())
            .field("certificate", &self.certificate.is_some())
            .field("proxy", &self.proxy().map(|proxy| proxy.address.as_str()))
            .finish()
    }
}

/// The clients. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    egress: Egress,
    system: Client,
    others: Arc<Mutex<HashMap<Digest, Client>>>,
}

impl Clients {
    /// Makes the client for the system's certificates, under the policy that holds where nothing is configured.
    pub fn new() -> Result<Self, ClientError> {
        Self::with(Egress::default())
    }

    /// Makes the client for the system's certificates; all reach only what `egress` lets them.
    pub fn with(egress: Egress) -> Result<Self, ClientError> {
        // Fails only when a provider is installed already, and all of ours install this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            system: build(&Connection::default(), &egress)?,
            egress,
            others: Arc::default(),
        })
    }

    /// What these clients may reach. Addresses that stand in a URL are asked for here: no client resolves them.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Returns the client for a way of connecting, making it the first time.
    pub fn get(&self, connection: &Connection) -> Result<Client, ClientError> {
        if *connection == Connection::default() {
            return Ok(self.system.clone());
        }
        let key = connection.digest();
        let mut clients = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(connection, &self.egress)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(connection: &Connection, egress: &Egress) -> Result<Client, ClientError> {
    let mut client = Client::builder()
        // Several Git hosts answer only clients that call themselves git.
        .user_agent(concat!("git/2 (flotilla ", env!("CARGO_PKG_VERSION"), ")"))
        .redirect(Policy::none())
        .dns_resolver(Arc::new(egress.clone()))
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(90));
    let mut certificates = Vec::new();
    if let Some(pem) = connection.ca() {
        certificates = Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Ca)?;
        if certificates.is_empty() {
            return Err(ClientError::Ca);
        }
    }
    client = client.tls_certs_merge(certificates);
    if let Some(ClientCertificate { certificate, key }) = connection.certificate() {
        let both = Zeroizing::new([key.as_slice(), b"\n", certificate].concat());
        let identity = Identity::from_pem(&both).map_err(|_| ClientError::Certificate)?;
        client = client.identity(identity);
    }
    if let Some(proxy) = connection.proxy() {
        let invalid = |_| ClientError::Proxy("its address cannot be read".to_owned());
        let all = reqwest::Proxy::all(proxy.full().as_str()).map_err(invalid)?;
        client = client.no_proxy().proxy(all);
    }
    client.build().map_err(|error| match connection.certificate() {
        Some(_) => ClientError::Certificate,
        None => ClientError::Tls(chain(&error)),
    })
}

/// An error with its causes in one line; for errors whose texts hold no URL.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_shown_without_what_is_secret_in_it() {
        let proxy = Proxy::new(
            "socks5://proxy:1080",
            Some(("u".into(), Zeroizing::new("canary".into()))),
        );
        let proxy = proxy.expect("a proxy");
        assert_eq!(*proxy.full(), "socks5h://u:canary@proxy:1080");
        let certificate = ClientCertificate {
            certificate: b"canary".to_vec(),
            key: Zeroizing::new(b"canary".to_vec()),
        };
        let connection = Connection::default()
            .through(Some(proxy))
            .showing(Some(certificate));
        let shown = format!("{connection:?}");
        assert!(
            !shown.contains("canary") && shown.contains("socks5://proxy:1080"),
            "{shown}"
        );
    }

    #[test]
    fn what_no_client_can_be_made_of_is_told_apart() {
        let clients = Clients::new().expect("TLS");
        let get = |connection: &Connection| clients.get(connection).err().map(|error| error.to_string());
        let ca = Connection::default().trusting(Some(b"no PEM".to_vec()));
        assert!(get(&ca).is_some_and(|error| error.starts_with("the CA")));
        let certificate = Connection::default().showing(Some(ClientCertificate {
            certificate: b"no PEM".to_vec(),
            key: Zeroizing::new(b"none".to_vec()),
        }));
        assert!(get(&certificate).is_some_and(|error| error.starts_with("'tls.crt'")));
        for address in ["ftp://h", "h:80", "http://u:p@h", ""] {
            assert!(Proxy::new(address, None).is_err(), "{address} was taken");
        }
    }
}
