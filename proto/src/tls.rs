//! Trust in the hub, the same for agents and clients: a pinned root key, a chain that ends in it, and the hub's
//! SPIFFE identifier. Host names are not looked at: a hub moves, is reached through a load balancer or a tunnel,
//! and is the same hub as long as its root is.
//!
//! The hub presents its chain with the root. The verifier takes that certificate of the chain whose public key
//! is pinned as its only trust anchor; nothing is trusted on first use, and system roots play no part.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// SHA-256 of a root's SubjectPublicKeyInfo. Written `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

/// Why a text or a certificate gives no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPin {
    /// The text has another form.
    #[error("not a pin: expected `sha256:` and 64 hexadecimal digits")]
    Form,
    /// The bytes are no certificate.
    #[error("not an X.509 certificate in DER")]
    Certificate,
}

impl Pin {
    /// Returns the pin of a certificate's public key.
    pub fn of_certificate(der: &[u8]) -> Result<Self, InvalidPin> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidPin::Certificate)?;
        Ok(Self(Sha256::digest(certificate.public_key().raw).into()))
    }
}

impl FromStr for Pin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let digits = text
            .trim()
            .strip_prefix("sha256:")
            .ok_or(InvalidPin::Form)?
            .as_bytes();
        if digits.len() != 64 {
            return Err(InvalidPin::Form);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or(InvalidPin::Form)?;
            let low = char::from(pair[1]).to_digit(16).ok_or(InvalidPin::Form)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| InvalidPin::Form)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Verifies a hub: chain to a pinned root, validity, key usage, and the URI SAN.
#[derive(Debug)]
pub struct HubVerifier {
    pins: Vec<Pin>,
    uri: String,
    provider: Arc<CryptoProvider>,
    at_any_time: bool,
}

impl HubVerifier {
    /// Makes a verifier that accepts the hub of `trust_domain` under any of `pins`. Without pins it refuses all.
    pub fn new(pins: Vec<Pin>, trust_domain: &str) -> Self {
        Self {
            pins,
            uri: crate::hub_uri(trust_domain),
            provider: Arc::new(ring::default_provider()),
            at_any_time: false,
        }
    }

    /// Accepts the hub's certificate also outside of its validity. For a machine whose clock is wrong to say so: the
    /// peer has the hub's key or once had it, so that nothing of it is to be believed and no secret told to it.
    #[must_use]
    pub fn at_any_time(self) -> Self {
        Self {
            at_any_time: true,
            ..self
        }
    }

    fn anchor(&self, presented: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in presented {
            // A certificate that cannot be read cannot be the pinned one; the chain check judges the rest.
            if Pin::of_certificate(certificate).is_ok_and(|pin| self.pins.contains(&pin)) {
                roots.add(certificate.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        Ok(roots)
    }

    fn check_name(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let (_, certificate) = X509Certificate::from_der(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut uris = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        // SPIFFE allows one URI only; a second one is an identity somebody smuggled in.
        match (uris.next(), uris.next()) {
            (Some(uri), None) if uri == self.uri => Ok(()),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }
}

fn begin_of_validity(certificate: &CertificateDer<'_>) -> Result<UnixTime, Error> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let seconds = u64::try_from(certificate.validity().not_before.timestamp()).unwrap_or_default();
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Only what comes beside the leaf can be the anchor: a leaf is never its own root.
        let roots = self.anchor(intermediates)?;
        let now = match self.at_any_time {
            true => begin_of_validity(end_entity)?,
            false => now,
        };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.check_name(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType, date_time_ymd,
    };

    use super::*;

    struct Chain {
        root: CertifiedIssuer<'static, KeyPair>,
        leaf: CertificateDer<'static>,
    }

    fn chain(uris: &[&str], usage: ExtendedKeyUsagePurpose) -> Chain {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let mut params = CertificateParams::new(vec!["elsewhere.example".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 3);
        params.extended_key_usages = vec![usage];
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().expect("ASCII")));
        }
        let leaf = params
            .signed_by(&KeyPair::generate().expect("a key"), &root)
            .expect("a leaf")
            .der()
            .clone();
        Chain { root, leaf }
    }

    fn root_der(chain: &Chain) -> CertificateDer<'static> {
        chain.root.der().clone()
    }

    /// 2026-01-02, inside the leaf's validity.
    const NOW: u64 = 1_767_312_000;

    fn verify(
        chain: &Chain,
        pins: Vec<Pin>,
        presented: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), Error> {
        HubVerifier::new(pins, "fleet.example")
            .verify_server_cert(
                &chain.leaf,
                presented,
                &ServerName::try_from("hub.example").expect("a name"),
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
            )
            .map(|_| ())
    }

    fn good() -> Chain {
        chain(
            &["spiffe://fleet.example/hub"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    fn pin(chain: &Chain) -> Pin {
        Pin::of_certificate(&root_der(chain)).expect("a certificate")
    }

    #[test]
    fn a_hub_under_the_pinned_root_is_trusted_whatever_its_host_name() {
        let chain = good();
        assert_eq!(
            verify(&chain, vec![pin(&chain)], &[root_der(&chain)], NOW),
            Ok(())
        );
    }

    #[test]
    fn another_root_a_missing_root_and_no_pins_are_refused() {
        let (chain, other) = (good(), good());
        let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(
            verify(&chain, vec![pin(&other)], &[root_der(&chain)], NOW),
            unknown
        );
        assert_eq!(verify(&chain, vec![pin(&chain)], &[], NOW), unknown);
        assert_eq!(verify(&chain, Vec::new(), &[root_der(&chain)], NOW), unknown);
    }

    #[test]
    fn a_leaf_of_another_root_is_refused_though_the_pinned_root_is_presented() {
        let (chain, other) = (good(), good());
        assert!(verify(&chain, vec![pin(&other)], &[root_der(&other)], NOW).is_err());
    }

    #[test]
    fn an_expired_hub_is_refused() {
        let chain = good();
        let day = 24 * 3600;
        assert!(verify(&chain, vec![pin(&chain)], &[root_der(&chain)], NOW + 2 * day).is_err());
        assert!(verify(&chain, vec![pin(&chain)], &[root_der(&chain)], NOW - 2 * day).is_err());
    }

    #[test]
    fn a_verifier_at_any_time_accepts_an_expired_hub_and_no_other() {
        let (chain, other) = (good(), good());
        let verify = |chain: &Chain, pins: Vec<Pin>, domain: &str| {
            let presented = [root_der(chain)];
            let name = ServerName::try_from("hub.example").expect("a name");
            let now = UnixTime::since_unix_epoch(Duration::ZERO);
            HubVerifier::new(pins, domain)
                .at_any_time()
                .verify_server_cert(&chain.leaf, &presented, &name, &[], now)
                .is_ok()
        };
        assert!(verify(&chain, vec![pin(&chain)], "fleet.example"));
        assert!(!verify(&chain, vec![pin(&other)], "fleet.example"));
        assert!(!verify(&chain, vec![pin(&chain)], "other.example"));
    }

    #[test]
    fn only_the_hubs_own_identifier_is_accepted() {
        for uris in [
            &[] as &[&str],
            &["spiffe://fleet.example/cluster/7"],
            &["spiffe://other.example/hub"],
            &["spiffe://fleet.example/hub", "spiffe://fleet.example/cluster/7"],
        ] {
            let chain = chain(uris, ExtendedKeyUsagePurpose::ServerAuth);
            assert_eq!(
                verify(&chain, vec![pin(&chain)], &[root_der(&chain)], NOW),
                Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
                "{uris:?}"
            );
        }
    }

    #[test]
    fn an_agents_certificate_is_no_hub() {
        let chain = chain(
            &["spiffe://fleet.example/hub"],
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        assert!(verify(&chain, vec![pin(&chain)], &[root_der(&chain)], NOW).is_err());
    }

    #[test]
    fn pins_read_back_from_their_text() {
        let pin = pin(&good());
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for bad in [
            "",
            "sha256:",
            "sha256:00",
            "md5:00",
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            assert_eq!(bad.parse::<Pin>(), Err(InvalidPin::Form));
        }
    }
}
