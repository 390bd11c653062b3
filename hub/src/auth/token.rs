//! Tokens: join tokens for clusters, bearer tokens for people. The store keeps hashes only.

use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

/// Prefix of join tokens: lets secret scanners recognise them, and names the version.
const JOIN_PREFIX: &str = "flt1";
/// Prefix of bearer tokens.
const ADMIN_PREFIX: &str = "fladm1";

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no randomness to be had from the system")]
pub struct NoRandomness;

/// A freshly made join token.
pub struct JoinToken {
    /// What is shown once.
    pub text: String,
    /// Public half.
    pub id: String,
    /// SHA-256 of the secret half.
    pub secret_hash: Vec<u8>,
}

/// Makes a join token `flt1.<id: 80 bit>.<secret: 256 bit>`.
pub fn make_join_token() -> Result<JoinToken, NoRandomness> {
    let (mut id, mut secret) = ([0; 10], [0; 32]);
    let random = SystemRandom::new();
    random
        .fill(&mut id)
        .and_then(|()| random.fill(&mut secret))
        .map_err(|_| NoRandomness)?;
    let (id, secret) = (hex::encode(id), hex::encode(secret));
    Ok(JoinToken {
        text: format!("{JOIN_PREFIX}.{id}.{secret}"),
        secret_hash: hash(&secret),
        id,
    })
}

/// Splits a join token into its public half and the hash of its secret half.
pub fn parse_join_token(text: &str) -> Option<(String, Vec<u8>)> {
    let mut parts = text.trim().split('.');
    let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    // Digits alone: the public half is written to the log.
    let valid = prefix == JOIN_PREFIX && is_hex(id, 20) && is_hex(secret, 64) && parts.next().is_none();
    valid.then(|| (id.to_owned(), hash(secret)))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text has the form of a bearer token.
pub fn is_admin_token(text: &str) -> bool {
    let secret = text
        .strip_prefix(ADMIN_PREFIX)
        .and_then(|rest| rest.strip_prefix('.'));
    secret.is_some_and(|secret| is_hex(secret, 64))
}

/// Makes a bearer token for people.
pub fn make_admin_token() -> Result<String, NoRandomness> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| NoRandomness)?;
    Ok(format!("{ADMIN_PREFIX}.{}", hex::encode(secret)))
}

/// What the store keeps of a token. A plain hash suffices: the secret has 256 bits.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// 32 random bytes.
pub fn random_key() -> Result<[u8; 32], NoRandomness> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| NoRandomness)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_reads_back_as_id_and_hash() {
        let token = make_join_token().expect("made");
        assert_eq!(parse_join_token(&token.text), Some((token.id, token.secret_hash)));
    }

    #[test]
    fn what_is_no_join_token_is_refused() {
        let good = make_join_token().expect("made").text;
        for bad in [
            "",
            "flt1",
            "flt1..",
            &good[1..],
            &format!("{good}.x"),
            &good.replace("flt1", "flt2"),
            &format!("flt1.\n9 ERROR hub: DOWN\n00.{}", "0".repeat(64)),
            &format!("flt1.{}.{}", "\u{1b}[2J".repeat(5), "0".repeat(64)),
            &good.to_uppercase().replace("FLT1", "flt1"),
        ] {
            assert_eq!(parse_join_token(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_bearer_token_is_known_by_its_form() {
        let good = make_admin_token().expect("made");
        assert!(is_admin_token(&good));
        for bad in [
            "",
            "fladm1.",
            &good[..good.len() - 1],
            &good.replace("fladm1", "flt1"),
        ] {
            assert!(!is_admin_token(bad), "{bad}");
        }
    }
}
