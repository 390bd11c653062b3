//! The agent's identity: keys that never leave the cluster, certificate, and what it trusts. Keys are stored
//! before they are used, so that a lost reply is answered again for the same key and locks nobody out.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_core::digest::Digest;
use flotilla_proto::tls::Pin;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroize as _;

use crate::ledger::key_value::{KeyValue, KeyValueError, Version};

/// A private key in PEM. Neither printed nor logged.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Makes a P-256 key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self(KeyPair::generate()?.serialize_pem()))
    }

    /// Returns the PEM text, for TLS.
    pub fn pem(&self) -> &str {
        &self.0
    }

    /// Returns the public key as SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> Result<Vec<u8>, rcgen::Error> {
        Ok(KeyPair::from_pem(&self.0)?.subject_public_key_info())
    }

    /// Signs a message: ECDSA over P-256 with SHA-256, in DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        KeyPair::from_pem(&self.0)?.sign(message)
    }

    /// Returns a certificate request in DER. It names nothing: names are the hub's to decide.
    pub fn request(&self) -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::from_pem(&self.0)?;
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&key)?.der().to_vec())
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(***)")
    }
}

/// What enrolment and renewal give.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certified {
    /// The hub's identifier of this cluster.
    pub cluster_id: String,
    /// The name the hub knows it by.
    pub cluster_name: String,
    /// The trust domain of the hub.
    pub trust_domain: String,
    /// Identity generation.
    pub generation: u64,
    /// The key of the certificate.
    pub key: PrivateKey,
    /// Leaf and intermediates, base64 of DER.
    chain: Vec<String>,
    /// Pins of the roots that the hub gave. Empty: those of the configuration.
    pins: Vec<String>,
}

/// Why what the hub gave is no identity.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIdentity {
    /// No certificate was given.
    #[error("the hub gave no certificate")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("a certificate from the hub is not readable")]
    Unreadable,
}

impl Certified {
    /// Takes in what the hub gave for `key`.
    pub fn new(
        cluster: (&str, &str, &str),
        generation: u64,
        key: PrivateKey,
        chain: &[bytes::Bytes],
        roots: &[bytes::Bytes],
    ) -> Result<Self, InvalidIdentity> {
        let pins = roots
            .iter()
            .map(|root| Pin::of_certificate(root).map(|pin| pin.to_string()));
        let certified = Self {
            cluster_id: cluster.0.to_owned(),
            cluster_name: cluster.1.to_owned(),
            trust_domain: cluster.2.to_owned(),
            generation,
            key,
            chain: chain.iter().map(|der| BASE64.encode(der)).collect(),
            pins: pins
                .collect::<Result<_, _>>()
                .map_err(|_| InvalidIdentity::Unreadable)?,
        };
        certified.validity()?;
        Ok(certified)
    }

    /// Tells one certificate with what is trusted from another.
    pub fn digest(&self) -> Digest {
        let all: Vec<&str> = self.chain.iter().chain(&self.pins).map(String::as_str).collect();
        Digest::of("identity", all.join("\n").as_bytes())
    }

    /// Returns the validity of the leaf, in Unix seconds.
    pub fn validity(&self) -> Result<(i64, i64), InvalidIdentity> {
        let leaf = self.chain.first().ok_or(InvalidIdentity::NoCertificate)?;
        let der = BASE64.decode(leaf).map_err(|_| InvalidIdentity::Unreadable)?;
        let (_, leaf) = X509Certificate::from_der(&der).map_err(|_| InvalidIdentity::Unreadable)?;
        Ok((
            leaf.validity().not_before.timestamp(),
            leaf.validity().not_after.timestamp(),
        ))
    }

    /// Returns when to renew, in Unix seconds: at two thirds of the lifetime, a tenth of it earlier or later as
    /// `spread` (0 to 1) says, so that a fleet that joined together does not renew together.
    pub fn renew_at(&self, spread: f64) -> Result<i64, InvalidIdentity> {
        let (from, to) = self.validity()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "lifetimes are days, far below 2^52 seconds"
        )]
        let lifetime = (to - from) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within the certificate's lifetime"
        )]
        let offset = (lifetime * (2.0 / 3.0 + (spread - 0.5) * 0.2)) as i64;
        Ok(from + offset)
    }

    /// Returns the chain in PEM.
    pub fn chain_pem(&self) -> String {
        let mut pem = String::new();
        for der in &self.chain {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in der.as_bytes().chunks(64) {
                pem.push_str(&String::from_utf8_lossy(line));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// Returns the pins to trust: those of the roots the hub gave, else the configured ones.
    pub fn pins(&self, configured: &[Pin]) -> Vec<Pin> {
        let given: Vec<Pin> = self.pins.iter().filter_map(|pin| pin.parse().ok()).collect();
        if given.is_empty() {
            configured.to_vec()
        } else {
            given
        }
    }
}

/// All that is stored about the identity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The certificate in use.
    #[serde(default)]
    pub certified: Option<Certified>,
    /// A key whose certificate has been asked for and not come yet.
    #[serde(default)]
    pub pending: Option<PrivateKey>,
    /// Kept for ever: proves who we are when the certificate has expired.
    #[serde(default)]
    pub recovery: Option<PrivateKey>,
    /// The join token that the certificate was got with. It is not shown again: used with another key, it looks stolen.
    #[serde(default)]
    pub token: Option<Digest>,
    /// Keys to join again with, after the certificate was revoked.
    #[serde(default)]
    pub rejoin: Option<Rejoin>,
}

/// Keys for another join token than the first. None of the old ones is used: whoever stole the identity has them too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejoin {
    /// The token that the keys are for.
    pub token: Digest,
    /// The key to ask a certificate for.
    pub key: PrivateKey,
    /// The recovery key.
    pub recovery: PrivateKey,
}

/// Why the identity could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The storage failed.
    #[error("identity cannot be stored")]
    Storage(#[from] KeyValueError),
    /// What is stored is no identity.
    #[error(
        "stored identity is not readable; to join again run `flotilla cluster revoke` and `flotilla cluster token`, give the \
         agent that token, and remove the identity `flotilla-agent-identity`"
    )]
    Unreadable,
    /// A key could not be made or used.
    #[error("key cannot be used")]
    Key(#[from] rcgen::Error),
}

/// The identity and its value.
pub struct IdentityCell {
    key_value: Arc<dyn KeyValue>,
    name: String,
    version: Option<Version>,
    identity: Identity,
}

impl IdentityCell {
    /// Reads the identity from the value called `name`, empty when there is none.
    pub async fn open(key_value: Arc<dyn KeyValue>, name: &str) -> Result<Self, IdentityError> {
        let value = key_value.get(name).await?;
        let (identity, version) = match value {
            None => (Identity::default(), None),
            Some(value) => (
                serde_json::from_slice(&value.bytes).map_err(|_| IdentityError::Unreadable)?,
                Some(value.version),
            ),
        };
        Ok(Self {
            key_value,
            name: name.to_owned(),
            version,
            identity,
        })
    }

    /// Returns the identity.
    pub fn get(&self) -> &Identity {
        &self.identity
    }

    /// Fails when another agent over the same storage has written the identity since it was read: that agent's is newer.
    pub async fn is_latest(&self) -> Result<(), IdentityError> {
        let stored = self.key_value.get(&self.name).await?;
        match stored {
            Some(stored) if Some(&stored.version) != self.version.as_ref() => Err(KeyValueError::Conflict {
                name: self.name.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Returns the key to ask a certificate for, and the recovery key. Both are stored before this returns.
    pub async fn pending(&mut self) -> Result<(PrivateKey, PrivateKey), IdentityError> {
        if let (Some(key), Some(recovery)) = (&self.identity.pending, &self.identity.recovery) {
            return Ok((key.clone(), recovery.clone()));
        }
        let mut next = self.identity.clone();
        let key = match next.pending.take() {
            Some(key) => key,
            None => PrivateKey::generate()?,
        };
        let recovery = match next.recovery.take() {
            Some(key) => key,
            None => PrivateKey::generate()?,
        };
        next.pending = Some(key.clone());
        next.recovery = Some(recovery.clone());
        self.store(next).await?;
        Ok((key, recovery))
    }

    /// Returns the keys to join again with: the same for the same token. They are stored before this returns, beside the
    /// identity that they are to replace.
    pub async fn rejoining(&mut self, token: Digest) -> Result<(PrivateKey, PrivateKey), IdentityError> {
        let rejoin = match &self.identity.rejoin {
            Some(rejoin) if rejoin.token == token => rejoin.clone(),
            _ => {
                let rejoin = Rejoin {
                    token,
                    key: PrivateKey::generate()?,
                    recovery: PrivateKey::generate()?,
                };
                let next = Identity {
                    rejoin: Some(rejoin.clone()),
                    ..self.identity.clone()
                };
                self.store(next).await?;
                rejoin
            }
        };
        Ok((rejoin.key, rejoin.recovery))
    }

    /// Stores what the hub gave for the pending key.
    pub async fn certify(&mut self, certified: Certified) -> Result<(), IdentityError> {
        let next = Identity {
            certified: Some(certified),
            pending: None,
            ..self.identity.clone()
        };
        self.store(next).await
    }

    /// Stores what the hub gave for a join token and these keys. An identity that was here before is gone.
    pub async fn joined(
        &mut self,
        certified: Certified,
        recovery: PrivateKey,
        token: Digest,
    ) -> Result<(), IdentityError> {
        self.store(Identity {
            certified: Some(certified),
            recovery: Some(recovery),
            token: Some(token),
            ..Identity::default()
        })
        .await
    }

    async fn store(&mut self, next: Identity) -> Result<(), IdentityError> {
        let mut bytes = serde_json::to_vec(&next).map_err(|_| IdentityError::Unreadable)?;
        let mut put = self
            .key_value
            .put(&self.name, &bytes, self.version.as_ref())
            .await;
        // What was deleted was written by nobody else: it is here, and is stored again.
        if matches!(put, Err(KeyValueError::Conflict { .. }))
            && self.key_value.get(&self.name).await?.is_none()
        {
            tracing::warn!("the identity {} was deleted; it is stored again", self.name);
            put = self.key_value.put(&self.name, &bytes, None).await;
        }
        bytes.zeroize();
        self.version = Some(put?);
        self.identity = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;

    fn certificate(key: &PrivateKey) -> bytes::Bytes {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let key = KeyPair::from_pem(key.pem()).expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
            .into()
    }

    #[tokio::test]
    async fn a_key_is_stored_before_it_is_used_and_stays_until_certified() {
        let key_value: Arc<dyn KeyValue> = Arc::new(Memory::default());
        let mut identity = IdentityCell::open(key_value.clone(), "identity")
            .await
            .expect("opens");
        let (key, recovery) = identity.pending().await.expect("keys");
        let mut again = IdentityCell::open(key_value.clone(), "identity")
            .await
            .expect("opens");
        let (same, same_recovery) = again.pending().await.expect("keys");
        assert_eq!((key.pem(), recovery.pem()), (same.pem(), same_recovery.pem()));

        let chain = [certificate(&key)];
        let certified =
            Certified::new(("id", "name", "domain"), 1, key, &chain, &chain).expect("an identity");
        again.certify(certified).await.expect("stores");
        let (next, kept) = again.pending().await.expect("keys");
        assert_ne!(next.pem(), same.pem());
        assert_eq!(kept.pem(), recovery.pem());
    }

    #[tokio::test]
    async fn an_identity_that_was_deleted_under_its_agent_is_stored_again_and_one_of_another_agent_is_left() {
        let memory = Arc::new(Memory::default());
        let key_value: Arc<dyn KeyValue> = memory.clone();
        let mut identity = IdentityCell::open(key_value.clone(), "identity")
            .await
            .expect("opens");
        let (key, recovery) = identity.pending().await.expect("keys");
        memory.set("identity", None);
        let chain = [certificate(&key)];
        let certified = Certified::new(("id", "name", "domain"), 1, key, &chain, &[]).expect("an identity");
        identity.certify(certified).await.expect("stored again");
        let mut other = IdentityCell::open(key_value, "identity").await.expect("opens");
        assert!(other.get().certified.is_some());
        assert_eq!(
            other.get().recovery.as_ref().map(PrivateKey::pem),
            Some(recovery.pem())
        );
        identity.is_latest().await.expect("nobody has written it since");
        other.pending().await.expect("another agent writes");
        let stale = identity.is_latest().await.err();
        assert!(
            matches!(
                stale,
                Some(IdentityError::Storage(KeyValueError::Conflict { .. }))
            ),
            "{stale:?}"
        );
        let lost = identity.pending().await.err();
        assert!(
            matches!(lost, Some(IdentityError::Storage(KeyValueError::Conflict { .. }))),
            "{lost:?}"
        );
    }

    #[test]
    fn renewal_is_at_two_thirds_of_the_lifetime_give_or_take_a_tenth() {
        let key = PrivateKey::generate().expect("a key");
        let chain = [certificate(&key)];
        let certified = Certified::new(("id", "name", "domain"), 1, key, &chain, &[]).expect("an identity");
        let (from, _) = certified.validity().expect("valid");
        let day = 24 * 3600;
        let days = |spread| (certified.renew_at(spread).expect("a time") - from) / day;
        assert_eq!((days(0.0), days(0.5), days(0.99)), (17, 20, 22));
    }

    #[test]
    fn private_keys_are_not_printed() {
        let key = PrivateKey::generate().expect("a key");
        assert_eq!(format!("{key:?}"), "PrivateKey(***)");
    }
}
