//! What an agent without a certificate signs to show that it has its recovery key. Nothing is kept of it: a challenge names
//! its time, under a key that ends with this process.

use std::time::Instant;

use ring::{
    hmac, rand,
    rand::SecureRandom as _,
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use x509_parser::prelude::FromDer as _;

/// Seconds for which a challenge is good.
const GOOD_FOR: u64 = 60;
/// Time and random bytes.
const SAID: usize = 8 + 24;

/// Makes challenges and knows them again.
pub struct Challenges {
    key: hmac::Key,
    random: rand::SystemRandom,
    started: Instant,
}

impl Challenges {
    /// With a new key.
    pub fn new() -> Result<Self, ring::error::Unspecified> {
        let random = rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)?;
        Ok(Self {
            key,
            random,
            started: Instant::now(),
        })
    }

    /// The time that challenges are made and judged by: it never goes back.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Makes one, at this time.
    pub fn make(&self, now: u64) -> Result<Vec<u8>, ring::error::Unspecified> {
        let mut challenge = now.to_be_bytes().to_vec();
        challenge.resize(SAID, 0);
        self.random.fill(&mut challenge[8..])?;
        let tag = hmac::sign(&self.key, &challenge);
        challenge.extend_from_slice(tag.as_ref());
        Ok(challenge)
    }

    /// Tells whether one was made here within the last minute.
    pub fn is_good(&self, challenge: &[u8], now: u64) -> bool {
        let Some((said, tag)) = challenge.split_at_checked(SAID) else {
            return false;
        };
        let Some(made) = said.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return false;
        };
        hmac::verify(&self.key, said, tag).is_ok() && (made..=made.saturating_add(GOOD_FOR)).contains(&now)
    }
}

/// Tells whether the key, a SubjectPublicKeyInfo of P-256 in DER, has signed the message.
pub fn has_signed(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, key)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(public_key) else {
        return false;
    };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.subject_public_key.data);
    key.verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

    use super::*;

    #[test]
    fn a_challenge_is_good_for_a_minute_where_it_was_made_and_as_it_was_made() {
        let (one, other) = (
            Challenges::new().expect("a key"),
            Challenges::new().expect("a key"),
        );
        let challenge = one.make(1_000).expect("made");
        assert_ne!(challenge, one.make(1_000).expect("made"));
        assert!(one.is_good(&challenge, 1_000) && one.is_good(&challenge, 1_060));
        assert!(!one.is_good(&challenge, 1_061) && !one.is_good(&challenge, 999));
        assert!(!other.is_good(&challenge, 1_000));
        for at in 0..challenge.len() {
            let mut changed = challenge.clone();
            changed[at] ^= 1;
            assert!(!one.is_good(&changed, 1_000), "byte {at}");
            assert!(!one.is_good(&challenge[..at], 1_000));
        }
    }

    #[test]
    fn what_a_key_has_signed_is_known_by_its_public_key_alone() {
        let (key, other) = (
            KeyPair::generate().expect("a key"),
            KeyPair::generate().expect("a key"),
        );
        let signature = key.sign(b"message").expect("signed");
        let public = key.subject_public_key_info();
        assert!(has_signed(&public, b"message", &signature));
        assert!(!has_signed(&public, b"another", &signature));
        assert!(!has_signed(
            &other.subject_public_key_info(),
            b"message",
            &signature
        ));
        assert!(!has_signed(&public, b"message", b"") && !has_signed(b"", b"message", &signature));
    }
}
