//! Who is on the other end: judged above TLS on every call, from the certificate that TLS verified.

use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::store::enrol::IdentityRow;

/// An agent's certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The cluster its URI names.
    pub cluster: Uuid,
    /// Its serial number.
    pub serial: Vec<u8>,
}

/// Why a certificate gives no access. Shown to the peer in one shape only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No certificate was shown.
    #[error("no client certificate")]
    NoCertificate,
    /// The certificate is not one this hub issues to agents.
    #[error("not an agent's certificate")]
    NotAnAgent,
    /// The cluster is not known, or not active.
    #[error("the cluster is not active")]
    NotActive,
    /// The serial is neither the current nor the next one: an old or a copied identity.
    #[error("the certificate was replaced")]
    Replaced,
}

/// Reads the leaf of the chain that TLS verified. Exactly one name is accepted: our URI.
pub fn read(leaf: Option<&CertificateDer<'_>>, trust_domain: &str) -> Result<PeerCertificate, NotAdmitted> {
    let leaf = leaf.ok_or(NotAdmitted::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| NotAdmitted::NotAnAgent)?;
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let [GeneralName::URI(uri)] = names else {
        return Err(NotAdmitted::NotAnAgent);
    };
    let cluster = uri
        .strip_prefix(&format!("spiffe://{trust_domain}/cluster/"))
        .and_then(|id| Uuid::parse_str(id).ok())
        .ok_or(NotAdmitted::NotAnAgent)?;
    Ok(PeerCertificate {
        cluster,
        serial: certificate.raw_serial().to_vec(),
    })
}

/// Judges a certificate by the recorded identity. `Ok(true)`: the next serial is in use for the first time and
/// is to be promoted.
pub fn judge(peer: &PeerCertificate, identity: Option<&IdentityRow>) -> Result<bool, NotAdmitted> {
    let identity = identity
        .filter(|identity| identity.state == "Active")
        .ok_or(NotAdmitted::NotActive)?;
    if identity.serial_current == peer.serial {
        Ok(false)
    } else if identity.serial_next.as_ref() == Some(&peer.serial) {
        Ok(true)
    } else {
        Err(NotAdmitted::Replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(state: &str) -> IdentityRow {
        IdentityRow {
            name: "c1".into(),
            state: state.into(),
            cluster_uid: None,
            generation: 1,
            serial_current: vec![1],
            serial_next: Some(vec![2]),
            epoch: None,
        }
    }

    fn peer(serial: u8) -> PeerCertificate {
        PeerCertificate {
            cluster: Uuid::nil(),
            serial: vec![serial],
        }
    }

    #[test]
    fn only_the_current_and_the_next_serial_are_admitted() {
        assert_eq!(judge(&peer(1), Some(&identity("Active"))), Ok(false));
        assert_eq!(judge(&peer(2), Some(&identity("Active"))), Ok(true));
        assert_eq!(
            judge(&peer(3), Some(&identity("Active"))),
            Err(NotAdmitted::Replaced)
        );
        assert_eq!(
            judge(&peer(1), Some(&identity("Suspended"))),
            Err(NotAdmitted::NotActive)
        );
        assert_eq!(judge(&peer(1), None), Err(NotAdmitted::NotActive));
    }

    #[test]
    fn no_certificate_and_no_agents_certificate_are_refused() {
        assert_eq!(read(None, "fleet.test"), Err(NotAdmitted::NoCertificate));
        assert_eq!(
            read(Some(&CertificateDer::from(vec![1, 2])), "fleet.test"),
            Err(NotAdmitted::NotAnAgent)
        );
        let key = rcgen::KeyPair::generate().expect("key");
        for names in [
            vec!["spiffe://fleet.test/hub"],
            vec!["spiffe://other.test/cluster/00000000-0000-0000-0000-000000000007"],
            vec!["spiffe://fleet.test/cluster/not-a-uuid"],
            vec![
                "spiffe://fleet.test/cluster/00000000-0000-0000-0000-000000000007",
                "spiffe://fleet.test/hub",
            ],
        ] {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = names
                .iter()
                .map(|name| rcgen::SanType::URI((*name).try_into().expect("uri")))
                .collect();
            let certificate = params.self_signed(&key).expect("signed");
            assert_eq!(
                read(Some(certificate.der()), "fleet.test"),
                Err(NotAdmitted::NotAnAgent),
                "{names:?}"
            );
        }
    }
}
