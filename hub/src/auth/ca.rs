//! The certificate authority: one root, kept sealed in the store, shared by all replicas. It issues the hub's
//! server certificates and the agents' client certificates, each with names that the hub decides.

use flotilla_proto::hub_uri;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::auth::cluster_uri;

/// Lifetime of a server certificate; renewed at each start and at two thirds.
pub const SERVER_LIFETIME: Duration = Duration::days(30);
const ROOT_LIFETIME: Duration = Duration::days(3650);
/// Certificates begin a little early: clocks differ.
const BACKDATE: Duration = Duration::minutes(10);

/// When an agent's certificate was issued, by its validity.
pub fn issued_at(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    // By a tenth of its lifetime at most, which is an eleventh of both.
    not_before + BACKDATE.min((not_after - not_before) / 11)
}

/// The authority in force.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pin: String,
    trust_domain: String,
}

/// Why a certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is no PKCS#10, or its signature does not verify.
    #[error("not a certificate request, or its signature does not verify")]
    Request(#[source] rcgen::Error),
    /// The request's key is of a kind we do not issue for.
    #[error("the request's key is not ECDSA P-256")]
    Key,
    /// The authority itself failed.
    #[error("the certificate authority failed")]
    Authority(#[source] rcgen::Error),
}

/// A server certificate with its key.
pub struct ServerCertificate {
    /// Leaf, then root: agents pin the root and need to see it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key.
    pub key: PrivateKeyDer<'static>,
}

/// A checked certificate request.
pub struct CheckedRequest {
    params: CertificateSigningRequestParams,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

impl Authority {
    /// Makes a new root: certificate and PKCS#8 key, both DER.
    pub fn make(trust_domain: &str, now: OffsetDateTime) -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Flotilla root of {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(super::random_serial()));
        params.not_before = now - BACKDATE;
        params.not_after = now + ROOT_LIFETIME;
        let certificate = params.self_signed(&key)?;
        Ok((certificate.der().to_vec(), key.serialize_der()))
    }

    /// Takes the root into use.
    pub fn open(
        trust_domain: &str,
        certificate: Vec<u8>,
        key: &Zeroizing<Vec<u8>>,
    ) -> Result<Self, rcgen::Error> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.as_slice()));
        let key = KeyPair::from_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?;
        let root = CertificateDer::from(certificate);
        let issuer = Issuer::from_ca_cert_der(&root, key)?;
        let (_, read) =
            x509_parser::parse_x509_certificate(&root).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let pin = format!("sha256:{}", hex::encode(Sha256::digest(read.public_key().raw)));
        Ok(Self {
            issuer,
            root,
            pin,
            trust_domain: trust_domain.to_owned(),
        })
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Trust domain of every name this authority gives.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What agents check the hub against: `sha256:<hex>` of the root's SubjectPublicKeyInfo.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// Issues a server certificate for the hub's URI and the given DNS names and addresses.
    pub fn issue_server(
        &self,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<ServerCertificate, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params
            .subject_alt_names
            .push(SanType::URI(hub_uri(&self.trust_domain).try_into()?));
        params.distinguished_name = name("Flotilla hub");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from(super::random_serial()));
        params.not_before = now - BACKDATE;
        params.not_after = now + SERVER_LIFETIME;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerCertificate {
            chain: vec![leaf.der().clone(), self.root.clone()],
            key,
        })
    }

    /// Checks a request: its form, its signature, its kind of key.
    pub fn check(&self, csr: &[u8]) -> Result<CheckedRequest, IssueError> {
        let params = CertificateSigningRequestParams::from_der(&csr.into()).map_err(IssueError::Request)?;
        if params.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(IssueError::Key);
        }
        let public_key = rcgen::PublicKeyData::subject_public_key_info(&params.public_key);
        Ok(CheckedRequest { params, public_key })
    }

    /// Issues an agent's certificate. Of the request only the key is used: subject, names, usages and
    /// extensions are ours.
    pub fn issue_agent(
        &self,
        request: CheckedRequest,
        cluster: uuid::Uuid,
        serial: &[u8],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<Vec<u8>, IssueError> {
        let mut params = CertificateParams::default();
        let uri = cluster_uri(&self.trust_domain, cluster);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(IssueError::Authority)?)];
        params.distinguished_name = name("Flotilla agent");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        // A short life is not mostly past when it begins.
        params.not_before = now - BACKDATE.min(lifetime / 10);
        params.not_after = now + lifetime;
        let request = CertificateSigningRequestParams {
            params,
            public_key: request.params.public_key,
        };
        request
            .signed_by(&self.issuer)
            .map(|leaf| leaf.der().to_vec())
            .map_err(IssueError::Authority)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time")
    }

    fn authority() -> Authority {
        let (certificate, key) = Authority::make("fleet.test", now()).expect("made");
        Authority::open("fleet.test", certificate, &Zeroizing::new(key)).expect("opened")
    }

    #[test]
    fn an_agent_gets_our_names_whatever_it_asks_for() {
        let authority = authority();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("key");
        let mut asked = CertificateParams::new(vec!["hub.example.org".to_owned()]).expect("names");
        asked.distinguished_name = name("someone else");
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        asked
            .subject_alt_names
            .push(SanType::URI("spiffe://fleet.test/hub".try_into().expect("uri")));
        let csr = asked.serialize_request(&key).expect("request");
        let cluster = uuid::Uuid::from_u128(7);
        let request = authority.check(csr.der()).expect("checked");
        let leaf = authority
            .issue_agent(request, cluster, &[0x42, 1], now(), Duration::hours(24))
            .expect("issued");
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("certificate");
        let names = leaf
            .subject_alternative_name()
            .expect("names")
            .expect("names")
            .value;
        let uri = cluster_uri("fleet.test", cluster);
        assert_eq!(names.general_names, vec![GeneralName::URI(&uri)]);
        assert!(!leaf.is_ca());
        let usage = leaf.extended_key_usage().expect("usage").expect("usage").value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(leaf.raw_serial(), [0x42, 1]);
        assert!(
            leaf.verify_signature(Some(
                X509Certificate::from_der(authority.root())
                    .expect("root")
                    .1
                    .public_key()
            ))
            .is_ok()
        );
    }

    #[test]
    fn a_root_that_cannot_be_read_is_refused_and_one_that_can_is_pinned_by_its_key() {
        let (certificate, key) = Authority::make("fleet.test", now()).expect("made");
        let key = Zeroizing::new(key);
        for broken in [Vec::new(), certificate[..certificate.len() / 2].to_vec()] {
            assert!(Authority::open("fleet.test", broken, &key).is_err());
        }
        let authority = Authority::open("fleet.test", certificate.clone(), &key).expect("opened");
        let (_, root) = X509Certificate::from_der(&certificate).expect("a certificate");
        let expected = format!("sha256:{}", hex::encode(Sha256::digest(root.public_key().raw)));
        assert_eq!(authority.pin(), expected);
    }

    #[test]
    fn a_request_with_another_key_kind_or_a_broken_signature_is_refused() {
        let authority = authority();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .expect("request");
        assert!(matches!(authority.check(csr.der()), Err(IssueError::Key)));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("key");
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .expect("request");
        let mut broken = csr.der().to_vec();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert!(matches!(authority.check(&broken), Err(IssueError::Request(_))));
    }
}
