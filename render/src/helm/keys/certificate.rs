//! X.509 certificates with the fields that Go's `x509.CreateCertificate` gives them, in its order.

use std::net::IpAddr;

use der::asn1::{Any, BitString, Ia5String, ObjectIdentifier, OctetString, SetOfVec, Uint};
use der::{self, Decode as _, Encode as _, Sequence, Tag};
use sha2::{Digest as _, Sha256};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::private::PrivateKey;
use crate::helm::quote::quote;
use crate::helm::time::Time;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Digital signature and key encipherment.
const LEAF_USAGE: (u8, u8) = (5, 0b1010_0000);
/// The same and the signing of certificates.
const AUTHORITY_USAGE: (u8, u8) = (2, 0b1010_0100);

const DAY: i64 = 86_400_000_000_000;

/// What a certificate is asked to say.
pub(in crate::helm) struct Request<'a> {
    pub(in crate::helm) common_name: &'a str,
    pub(in crate::helm) addresses: Vec<IpAddr>,
    pub(in crate::helm) names: Vec<String>,
    pub(in crate::helm) days: i64,
    /// Whether it may sign other certificates.
    pub(in crate::helm) authority: bool,
    pub(in crate::helm) serial: [u8; 16],
    /// When it starts to be valid, in nanoseconds since 1970.
    pub(in crate::helm) now: i64,
}

/// A certificate as it is read and written.
#[derive(Sequence)]
pub(in crate::helm) struct Certificate {
    content: Content,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

#[derive(Sequence)]
struct Content {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", default = "first_version")]
    version: u8,
    serial: Uint,
    algorithm: AlgorithmIdentifierOwned,
    issuer: Any,
    validity: Validity,
    subject: Any,
    public_key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    issuer_id: Option<BitString>,
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    subject_id: Option<BitString>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

fn first_version() -> u8 {
    0
}

#[derive(Sequence)]
struct Validity {
    not_before: Any,
    not_after: Any,
}

#[derive(Sequence)]
struct Attribute {
    kind: ObjectIdentifier,
    value: Any,
}

impl der::ValueOrd for Attribute {
    fn value_cmp(&self, other: &Self) -> der::Result<std::cmp::Ordering> {
        Ok(self.to_der()?.cmp(&other.to_der()?))
    }
}

impl Certificate {
    /// Reads a certificate's DER.
    pub(in crate::helm) fn parse(bytes: &[u8]) -> Result<Certificate, String> {
        Certificate::from_der(bytes).map_err(|_| "x509: malformed certificate".to_owned())
    }

    /// Returns the identifier that this certificate gives its key.
    fn subject_key(&self) -> Option<OctetString> {
        let extensions = self.content.extensions.iter().flatten();
        let found = extensions.into_iter().find(|one| one.extn_id == SUBJECT_KEY)?;
        OctetString::from_der(found.extn_value.as_bytes()).ok()
    }
}

/// Makes the certificate of `key`, signed by the authority and its key, or else by `key` itself.
///
/// # Errors
///
/// The words of the reference.
pub(in crate::helm) fn issue(
    request: &Request<'_>,
    key: &PrivateKey,
    authority: Option<(&Certificate, &PrivateKey)>,
) -> Result<Vec<u8>, String> {
    let signer = authority.map_or(key, |(_, signer)| signer);
    let algorithm = signer.signs_with()?;
    let public = key
        .public()?
        .ok_or("x509: unsupported public key type: *dsa.PublicKey")?;
    if let Some((parent, signer)) = authority
        && signer.public()?.as_ref() != Some(&parent.content.public_key)
    {
        return Err("x509: provided PrivateKey doesn't match parent's PublicKey".to_owned());
    }
    for name in &request.names {
        if !name.is_ascii() {
            let name = quote(name);
            return Err(format!("x509: {name} cannot be encoded as an IA5String"));
        }
    }
    let parent = authority.map(|(parent, _)| parent);
    let content = content(request, algorithm, public, parent).map_err(|cause| cause.to_string())?;
    let (algorithm, signature) = signer.sign(&content.to_der().map_err(|cause| cause.to_string())?)?;
    let certificate = BitString::from_bytes(&signature).and_then(|signature| {
        Certificate {
            content,
            algorithm,
            signature,
        }
        .to_der()
    });
    certificate.map_err(|cause| cause.to_string())
}

fn content(
    request: &Request<'_>,
    algorithm: AlgorithmIdentifierOwned,
    public_key: SubjectPublicKeyInfoOwned,
    parent: Option<&Certificate>,
) -> der::Result<Content> {
    let subject = subject(request.common_name)?;
    let start = Time::from_nanos(request.now);
    // Days beyond what a duration holds wrap around, as Go's do.
    let end = start.plus(request.days.wrapping_mul(DAY));
    Ok(Content {
        version: 2,
        serial: Uint::new(&request.serial)?,
        algorithm,
        issuer: parent.map_or_else(|| subject.clone(), |parent| parent.content.subject.clone()),
        validity: Validity {
            not_before: time(start)?,
            not_after: time(end)?,
        },
        extensions: Some(extensions(request, &subject, &public_key, parent)?),
        subject,
        public_key,
        issuer_id: None,
        subject_id: None,
    })
}

fn extensions(
    request: &Request<'_>,
    subject: &Any,
    public_key: &SubjectPublicKeyInfoOwned,
    parent: Option<&Certificate>,
) -> der::Result<Vec<Extension>> {
    let (unused, usage) = if request.authority {
        AUTHORITY_USAGE
    } else {
        LEAF_USAGE
    };
    let constraints = BasicConstraints {
        ca: request.authority,
        path_len_constraint: None,
    };
    let mut extensions = vec![
        extension(KEY_USAGE, true, &BitString::new(unused, vec![usage])?)?,
        extension(EXTENDED_USAGE, false, &vec![SERVER_AUTH, CLIENT_AUTH])?,
        extension(CONSTRAINTS, true, &constraints)?,
    ];
    if request.authority {
        // RFC 7093: the first 160 bits of the key's digest.
        let digest = Sha256::digest(public_key.subject_public_key.raw_bytes());
        extensions.push(extension(SUBJECT_KEY, false, &OctetString::new(&digest[..20])?)?);
    }
    if let Some(parent) = parent
        && parent.content.subject != *subject
        && let Some(key) = parent.subject_key()
    {
        let identifier = AuthorityKeyIdentifier {
            key_identifier: Some(key),
            ..AuthorityKeyIdentifier::default()
        };
        extensions.push(extension(AUTHORITY_KEY, false, &identifier)?);
    }
    let names = alternative_names(request)?;
    if !names.is_empty() {
        let critical = request.common_name.is_empty();
        extensions.push(extension(ALTERNATIVE_NAMES, critical, &names)?);
    }
    Ok(extensions)
}

fn extension(id: ObjectIdentifier, critical: bool, value: &impl der::Encode) -> der::Result<Extension> {
    Ok(Extension {
        extn_id: id,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

fn alternative_names(request: &Request<'_>) -> der::Result<Vec<GeneralName>> {
    let names = request
        .names
        .iter()
        .map(|name| Ia5String::new(name).map(GeneralName::DnsName));
    let addresses = request.addresses.iter().map(|address| {
        let bytes = match address.to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        OctetString::new(bytes).map(GeneralName::IpAddress)
    });
    names.chain(addresses).collect()
}

/// Returns a name of one common name, or of nothing.
fn subject(common_name: &str) -> der::Result<Any> {
    let mut parts = Vec::new();
    if !common_name.is_empty() {
        let printable = common_name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
        let tag = if printable {
            Tag::PrintableString
        } else {
            Tag::Utf8String
        };
        let attribute = Attribute {
            kind: COMMON_NAME,
            value: Any::new(tag, common_name.as_bytes())?,
        };
        parts.push(SetOfVec::try_from(vec![attribute])?);
    }
    Any::encode_from(&parts)
}

/// Returns a time in the short form as long as that can say the year.
fn time(time: Time) -> der::Result<Any> {
    let year: i64 = time.format("2006").parse().unwrap_or_default();
    if (1950..2050).contains(&year) {
        Any::new(Tag::UtcTime, time.format("060102150405Z").into_bytes())
    } else {
        Any::new(Tag::GeneralizedTime, time.format("20060102150405Z").into_bytes())
    }
}
