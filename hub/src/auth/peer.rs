//! Who is on the other end: judged above TLS on every call, from the certificate that TLS verified.

use flotilla_core::identity::{Refused, Standing};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::ca;
use crate::store::enrol::IdentityRow;

/// What a certificate says is to the second.
const SECOND: Duration = Duration::SECOND;

/// An agent's certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The cluster its URI names.
    pub cluster: Uuid,
    /// Its serial number.
    pub serial: Vec<u8>,
    /// SubjectPublicKeyInfo of its key, DER.
    pub public_key: Vec<u8>,
    /// When it was issued, to the second.
    pub issued_at: OffsetDateTime,
    /// When it runs out.
    pub expires_at: OffsetDateTime,
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
    /// Another certificate has come after it: a copied identity, or one that was put back.
    #[error("the certificate was replaced")]
    Replaced,
    /// It is of an identity that was ended, or was never given.
    #[error("the certificate is not of this identity")]
    Foreign,
}

impl From<Refused> for NotAdmitted {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotActive => Self::NotActive,
            Refused::Replaced => Self::Replaced,
            Refused::Foreign => Self::Foreign,
        }
    }
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
    let at = |at: x509_parser::time::ASN1Time| at.to_datetime();
    let (not_before, not_after) = (
        at(certificate.validity().not_before),
        at(certificate.validity().not_after),
    );
    Ok(PeerCertificate {
        cluster,
        serial: certificate.raw_serial().to_vec(),
        public_key: certificate.public_key().raw.to_vec(),
        issued_at: ca::issued_at(not_before, not_after),
        expires_at: not_after,
    })
}

/// Judges a certificate by the recorded identity.
pub fn judge(peer: &PeerCertificate, identity: Option<&IdentityRow>) -> Result<Standing, NotAdmitted> {
    let row = identity.ok_or(NotAdmitted::NotActive)?;
    let is_newer = peer.issued_at > row.issued_at + SECOND;
    Ok(row.identity.admit(&peer.serial, is_newer)?)
}

#[cfg(test)]
mod tests {
    use flotilla_core::identity::Identity;

    use super::*;

    fn identity(is_active: bool, of_backup: bool) -> IdentityRow {
        IdentityRow {
            name: "c1".into(),
            cluster_uid: None,
            identity: Identity {
                is_active,
                generation: 1,
                serial: vec![1],
                next: Some(vec![2]),
                replaced: vec![vec![4]],
                public_key: Vec::new(),
                of_backup,
            },
            issued_at: OffsetDateTime::UNIX_EPOCH,
            epoch: None,
        }
    }

    fn peer(serial: u8) -> PeerCertificate {
        PeerCertificate {
            cluster: Uuid::nil(),
            serial: vec![serial],
            public_key: Vec::new(),
            issued_at: OffsetDateTime::UNIX_EPOCH + Duration::HOUR,
            expires_at: OffsetDateTime::UNIX_EPOCH + Duration::DAY,
        }
    }

    #[test]
    fn a_certificate_that_was_issued_since_the_backup_is_admitted_and_no_older_one() {
        let of_backup = identity(true, true);
        assert_eq!(judge(&peer(3), Some(&of_backup)), Ok(Standing::SinceBackup));
        assert_eq!(judge(&peer(1), Some(&of_backup)), Ok(Standing::Current));
        let older = PeerCertificate {
            issued_at: of_backup.issued_at,
            ..peer(3)
        };
        assert_eq!(judge(&older, Some(&of_backup)), Err(NotAdmitted::Foreign));
        let suspended = identity(false, true);
        assert_eq!(judge(&peer(3), Some(&suspended)), Err(NotAdmitted::NotActive));
    }

    #[test]
    fn only_the_current_and_the_next_serial_are_admitted() {
        let active = identity(true, false);
        assert_eq!(judge(&peer(1), Some(&active)), Ok(Standing::Current));
        assert_eq!(judge(&peer(2), Some(&active)), Ok(Standing::Next));
        assert_eq!(judge(&peer(3), Some(&active)), Err(NotAdmitted::Foreign));
        assert_eq!(judge(&peer(4), Some(&active)), Err(NotAdmitted::Replaced));
        let suspended = identity(false, false);
        assert_eq!(judge(&peer(1), Some(&suspended)), Err(NotAdmitted::NotActive));
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
