//! HTTP clients that sources share: one for all remotes that trust the system's certificates, one per CA besides.
//! None follows a redirect by itself and none holds a credential: both are decided per request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, redirect::Policy};

/// How many clients with a CA of their own are kept; the whole set is dropped beyond.
const MAX_CLIENTS: usize = 256;

/// Why there is no client for a remote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The source's CA is not a PEM bundle.
    #[error("the CA is not a bundle of PEM certificates")]
    Ca,
    /// TLS cannot be set up on this machine, e.g. it has no certificates at all.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// The clients. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    system: Client,
    by_ca: Arc<Mutex<HashMap<Arc<[u8]>, Client>>>,
}

impl Clients {
    /// Makes the client for the system's certificates.
    pub fn new() -> Result<Self, ClientError> {
        // Fails only when a provider is installed already, and all of ours install this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            system: build(&[])?,
            by_ca: Arc::default(),
        })
    }

    /// Returns the client for a CA, making it the first time.
    pub fn get(&self, ca: Option<&Arc<[u8]>>) -> Result<Client, ClientError> {
        let Some(pem) = ca else {
            return Ok(self.system.clone());
        };
        let mut clients = self.by_ca.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(pem) {
            return Ok(client.clone());
        }
        let certificates = Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Ca)?;
        if certificates.is_empty() {
            return Err(ClientError::Ca);
        }
        let client = build(&certificates)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(Arc::clone(pem), client.clone());
        Ok(client)
    }
}

fn build(extra: &[Certificate]) -> Result<Client, ClientError> {
    Client::builder()
        // Several Git hosts answer only clients that call themselves git.
        .user_agent(concat!("git/2 (flotilla ", env!("CARGO_PKG_VERSION"), ")"))
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(90))
        .tls_certs_merge(extra.iter().cloned())
        .build()
        .map_err(|error| ClientError::Tls(chain(&error)))
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
