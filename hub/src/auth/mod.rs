//! Identity and secrets of the hub: sealing at rest, the certificate authority, TLS, tokens.

pub mod ca;
pub mod challenge;
pub mod connection;
pub mod frames;
pub mod gate;
pub mod known;
pub mod limit;
pub mod line;
pub mod peer;
pub mod seal;
pub mod share;
mod silence;
pub mod tls;
pub mod token;

/// A cluster's identifier under the trust domain: `spiffe://<trust-domain>/cluster/<uuid>`.
pub fn cluster_uri(trust_domain: &str, cluster: uuid::Uuid) -> String {
    format!("spiffe://{trust_domain}/cluster/{cluster}")
}

/// A random 128-bit serial number, positive as X.509 wants it.
pub fn random_serial() -> Vec<u8> {
    let mut serial = uuid::Uuid::new_v4().as_bytes().to_vec();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}
