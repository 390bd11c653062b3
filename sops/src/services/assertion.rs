//! Statements that an RSA key signs, to be changed for a token: JSON Web Tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// How a statement is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// As Google reads it.
    Rs256,
    /// As Azure reads it.
    Ps256,
}

impl Algorithm {
    fn parts(self) -> (&'static str, &'static dyn RsaEncoding) {
        match self {
            Self::Rs256 => ("RS256", &RSA_PKCS1_SHA256),
            Self::Ps256 => ("PS256", &RSA_PSS_SHA256),
        }
    }
}

/// Reads an RSA key in PEM, PKCS #1 or PKCS #8; `None`: it is none.
pub(super) fn rsa(pem: &[u8]) -> Option<KeyPair> {
    match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// A signed statement; `None`: the key cannot sign.
pub(super) fn signed(
    key: &KeyPair,
    algorithm: Algorithm,
    mut header: Value,
    claims: &Value,
) -> Option<Zeroizing<String>> {
    let (name, encoding) = algorithm.parts();
    header["alg"] = json!(name);
    header["typ"] = json!("JWT");
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut text = Zeroizing::new(format!("{}.{}", part(&header), part(claims)));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .ok()?;
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Some(text)
}
