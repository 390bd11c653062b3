//! Private keys and certificates, as the functions that make them need: read and written as PEM, generated
//! from the rendering's seed, signed.
//!
//! Errors are the texts that a template's error quotes; none of them holds key material.

pub(super) mod certificate;
pub(super) mod generate;
pub(super) mod pem;
pub(super) mod private;

use der::asn1::{Any, BitString};
use der::{self, Tag};
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};

/// Returns an algorithm's name; RSA's carry a null, as they always have.
fn algorithm(oid: ObjectIdentifier, parameters: Option<Any>) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters }
}

fn null() -> der::Result<Any> {
    Any::new(Tag::Null, Vec::new())
}

/// Returns a public key as certificates hold it.
fn public_key(algorithm: AlgorithmIdentifierOwned, key: &[u8]) -> der::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm,
        subject_public_key: BitString::from_bytes(key)?,
    })
}
