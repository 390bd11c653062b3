//! Private keys: read from PEM, written as PEM, their public part, and signatures made with them.
//!
//! RSA signs by ring, which takes keys of 2048 to 4096 bits; elliptic curves are P-256 and Ed25519. A DSA key
//! is made and carried, and signs nothing, as in the reference.

use der::asn1::{Any, BitString, OctetString, Uint};
use der::{self, Decode as _, Encode as _, Sequence};
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use ring::signature::KeyPair as _;
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};

use super::{algorithm, null, pem, public_key};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What Go says of an encoding that it cannot read.
const UNREADABLE: &str = "x509: failed to parse private key";

/// A private key of one of the four kinds.
pub(in crate::helm) enum PrivateKey {
    Rsa(Box<RsaKey>),
    Ecdsa(p256::SecretKey),
    /// The seed.
    Ed25519([u8; 32]),
    Dsa(Box<DsaKey>),
}

/// PKCS #1's private key of two primes.
#[derive(Sequence)]
pub(in crate::helm) struct RsaKey {
    pub(super) version: u8,
    pub(super) modulus: Uint,
    pub(super) public_exponent: Uint,
    pub(super) private_exponent: Uint,
    pub(super) prime1: Uint,
    pub(super) prime2: Uint,
    pub(super) exponent1: Uint,
    pub(super) exponent2: Uint,
    pub(super) coefficient: Uint,
}

/// OpenSSL's DSA key.
#[derive(Sequence)]
pub(in crate::helm) struct DsaKey {
    pub(super) version: u8,
    pub(super) p: Uint,
    pub(super) q: Uint,
    pub(super) g: Uint,
    pub(super) y: Uint,
    pub(super) x: Uint,
}

/// SEC 1's private key.
#[derive(Sequence)]
struct EcKey {
    version: u8,
    key: OctetString,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    curve: Option<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public: Option<BitString>,
}

/// PKCS #8, without attributes.
#[derive(Sequence)]
struct Wrapped {
    version: u8,
    algorithm: AlgorithmIdentifierOwned,
    key: OctetString,
}

#[derive(Sequence)]
struct RsaPublicKey {
    modulus: Uint,
    exponent: Uint,
}

#[derive(Sequence)]
struct EcSignature {
    r: Uint,
    s: Uint,
}

impl PrivateKey {
    /// Reads the first block of a PEM text.
    pub(in crate::helm) fn from_pem(text: &str) -> Result<PrivateKey, String> {
        let block = pem::decode(text).ok_or("no PEM data in input")?;
        let kind = match block.label.strip_suffix("PRIVATE KEY") {
            Some("") => {
                return from_pkcs8(&block.bytes).map_err(|cause| format!("decoding PEM as PKCS#8: {cause}"));
            }
            Some(kind) if kind.ends_with(' ') => kind.trim_end(),
            _ => {
                return Err(format!(
                    "no private key data in PEM block of type {}",
                    block.label
                ));
            }
        };
        let read = match kind {
            "RSA" => RsaKey::from_der(&block.bytes)
                .map(|key| PrivateKey::Rsa(Box::new(key)))
                .map_err(|_| UNREADABLE.to_owned()),
            "EC" => from_sec1(&block.bytes, None),
            "DSA" => DsaKey::from_der(&block.bytes)
                .map(|key| PrivateKey::Dsa(Box::new(key)))
                .map_err(|_| UNREADABLE.to_owned()),
            _ => return Err(format!("invalid private key type {}", block.label)),
        };
        read.map_err(|cause| format!("parsing {kind} private key from PEM: {cause}"))
    }

    /// Returns the key in the encoding that is usual for its kind.
    pub(in crate::helm) fn to_pem(&self) -> der::Result<String> {
        let (label, bytes) = match self {
            PrivateKey::Rsa(key) => ("RSA PRIVATE KEY", key.to_der()?),
            PrivateKey::Dsa(key) => ("DSA PRIVATE KEY", key.to_der()?),
            PrivateKey::Ecdsa(key) => ("EC PRIVATE KEY", to_sec1(key)?),
            PrivateKey::Ed25519(seed) => ("PRIVATE KEY", wrapped(seed)?),
        };
        Ok(pem::encode(label, &bytes))
    }

    /// Returns the public key as certificates hold it; none for DSA, for which no certificate is made.
    pub(super) fn public(&self) -> Result<Option<SubjectPublicKeyInfoOwned>, String> {
        let public = match self {
            PrivateKey::Rsa(key) => rsa_public(key),
            PrivateKey::Ecdsa(key) => Any::encode_from(&P256)
                .and_then(|curve| public_key(algorithm(EC, Some(curve)), &ec_point(key))),
            PrivateKey::Ed25519(seed) => {
                public_key(algorithm(ED25519, None), ed25519(seed)?.public_key().as_ref())
            }
            PrivateKey::Dsa(_) => return Ok(None),
        };
        public.map(Some).map_err(|cause| cause.to_string())
    }

    /// Signs a message; returns with which algorithm.
    pub(super) fn sign(&self, message: &[u8]) -> Result<(AlgorithmIdentifierOwned, Vec<u8>), String> {
        let named = self.signs_with()?;
        let signature = match self {
            PrivateKey::Rsa(key) => rsa_signature(key, message)?,
            PrivateKey::Ecdsa(key) => ec_signature(key, message).map_err(|cause| cause.to_string())?,
            PrivateKey::Ed25519(seed) => ed25519(seed)?.sign(message).as_ref().to_vec(),
            PrivateKey::Dsa(_) => Vec::new(),
        };
        Ok((named, signature))
    }

    /// Returns the algorithm that this key signs with.
    pub(super) fn signs_with(&self) -> Result<AlgorithmIdentifierOwned, String> {
        match self {
            PrivateKey::Rsa(_) => {
                let null = null().map_err(|cause| cause.to_string())?;
                Ok(algorithm(SHA256_WITH_RSA, Some(null)))
            }
            PrivateKey::Ecdsa(_) => Ok(algorithm(ECDSA_WITH_SHA256, None)),
            PrivateKey::Ed25519(_) => Ok(algorithm(ED25519, None)),
            PrivateKey::Dsa(_) => {
                Err("x509: certificate private key does not implement crypto.Signer".to_owned())
            }
        }
    }
}

fn from_pkcs8(bytes: &[u8]) -> Result<PrivateKey, String> {
    let wrapped = p256::pkcs8::PrivateKeyInfoRef::try_from(bytes).map_err(|_| UNREADABLE.to_owned())?;
    let key = wrapped.private_key.as_bytes();
    match wrapped.algorithm.oid {
        RSA => RsaKey::from_der(key)
            .map(|key| PrivateKey::Rsa(Box::new(key)))
            .map_err(|_| UNREADABLE.to_owned()),
        EC => from_sec1(key, wrapped.algorithm.parameters_oid().ok()),
        ED25519 => OctetString::from_der(key)
            .ok()
            .and_then(|seed| seed.as_bytes().try_into().ok())
            .map(PrivateKey::Ed25519)
            .ok_or_else(|| UNREADABLE.to_owned()),
        other => Err(format!(
            "x509: PKCS#8 wrapping contained private key with unknown algorithm: {other}"
        )),
    }
}

fn from_sec1(bytes: &[u8], curve: Option<ObjectIdentifier>) -> Result<PrivateKey, String> {
    let key = EcKey::from_der(bytes).map_err(|_| UNREADABLE.to_owned())?;
    match curve.or(key.curve) {
        Some(P256) => p256::SecretKey::from_slice(key.key.as_bytes())
            .map(PrivateKey::Ecdsa)
            .map_err(|_| "x509: invalid elliptic curve private key value".to_owned()),
        _ => Err("x509: unknown elliptic curve".to_owned()),
    }
}

fn to_sec1(key: &p256::SecretKey) -> der::Result<Vec<u8>> {
    EcKey {
        version: 1,
        key: OctetString::new(key.to_bytes().as_slice())?,
        curve: Some(P256),
        public: Some(BitString::from_bytes(&ec_point(key))?),
    }
    .to_der()
}

fn wrapped(seed: &[u8; 32]) -> der::Result<Vec<u8>> {
    Wrapped {
        version: 0,
        algorithm: algorithm(ED25519, None),
        key: OctetString::new(OctetString::new(seed.as_slice())?.to_der()?)?,
    }
    .to_der()
}

fn rsa_public(key: &RsaKey) -> der::Result<SubjectPublicKeyInfoOwned> {
    let parts = RsaPublicKey {
        modulus: key.modulus.clone(),
        exponent: key.public_exponent.clone(),
    };
    public_key(algorithm(RSA, Some(null()?)), &parts.to_der()?)
}

/// Returns the public point, uncompressed.
fn ec_point(key: &p256::SecretKey) -> Vec<u8> {
    key.public_key().to_sec1_point(false).as_bytes().to_vec()
}

fn ed25519(seed: &[u8; 32]) -> Result<ring::signature::Ed25519KeyPair, String> {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(seed).map_err(|cause| cause.to_string())
}

fn rsa_signature(key: &RsaKey, message: &[u8]) -> Result<Vec<u8>, String> {
    let components = ring::rsa::KeyPairComponents {
        public_key: ring::rsa::PublicKeyComponents {
            n: key.modulus.as_bytes(),
            e: key.public_exponent.as_bytes(),
        },
        d: key.private_exponent.as_bytes(),
        p: key.prime1.as_bytes(),
        q: key.prime2.as_bytes(),
        dP: key.exponent1.as_bytes(),
        dQ: key.exponent2.as_bytes(),
        qInv: key.coefficient.as_bytes(),
    };
    let pair = ring::rsa::KeyPair::from_components(&components)
        .map_err(|cause| format!("this RSA key cannot sign: {cause}"))?;
    let mut signature = vec![0; pair.public().modulus_len()];
    // PKCS #1 v1.5 draws nothing; the parameter serves the paddings that do.
    let unused = ring::rand::SystemRandom::new();
    pair.sign(
        &ring::signature::RSA_PKCS1_SHA256,
        &unused,
        message,
        &mut signature,
    )
    .map_err(|cause| cause.to_string())?;
    Ok(signature)
}

/// Signs with the nonce that key and message decide (RFC 6979).
fn ec_signature(key: &p256::SecretKey, message: &[u8]) -> der::Result<Vec<u8>> {
    let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(key).sign(message);
    let bytes = signature.to_bytes();
    let (r, s) = bytes.split_at(32);
    EcSignature {
        r: Uint::new(r)?,
        s: Uint::new(s)?,
    }
    .to_der()
}
