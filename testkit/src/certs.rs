//! Certificate authorities of the rig: each server has its own, so that a client that trusts one trusts no other.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::RigError;

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct KeyCert {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCert").finish_non_exhaustive()
    }
}

/// A certificate authority made for one server.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: KeyCert,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority named `name`.
    ///
    /// # Errors
    /// [`RigError::Certificate`] when no key can be made.
    pub fn new(name: &str) -> Result<Self, RigError> {
        let failed = |source| RigError::Certificate {
            subject: name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(failed)?;
        let own = KeyCert {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        };
        Ok(Self {
            issuer: Issuer::new(params, key),
            own,
        })
    }

    /// The authority's certificate, PEM: what clients trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.own.cert_pem
    }

    /// The authority's own key, for a server that signs with it.
    pub(crate) fn key_pem(&self) -> &str {
        &self.own.key_pem
    }

    /// Issues a serving certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// [`RigError::Certificate`] when a name is not one.
    pub fn server(&self, names: &[&str]) -> Result<KeyCert, RigError> {
        let name = names.first().copied().unwrap_or("server");
        let failed = |source| RigError::Certificate {
            subject: name.to_owned(),
            source,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, None);
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().map_err(failed)?),
            });
        }
        self.issue(name, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a client certificate; Kubernetes reads the user from its common name and the group from its organization.
    /// (One group: the library's subjects hold one value of a kind.)
    ///
    /// # Errors
    /// [`RigError::Certificate`] when no key can be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<KeyCert, RigError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, group);
        self.issue(user, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<KeyCert, RigError> {
        let failed = |source| RigError::Certificate {
            subject: name.to_owned(),
            source,
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(KeyCert {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// Makes the pair of keys that ServiceAccount tokens are signed and checked with: private, public, both PEM.
pub(crate) fn signing_keys() -> Result<(String, String), RigError> {
    let failed = |source| RigError::Certificate {
        subject: "service accounts".to_owned(),
        source,
    };
    let pair = KeyPair::generate().map_err(failed)?;
    Ok((pair.serialize_pem(), pair.public_key_pem()))
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}
