//! AES in cipher block chaining, the key being the password's bytes and zeros.
//!
//! That is what the reference does; it neither derives the key nor proves that nobody changed the text.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};

use crate::helm::value::Val;

const BLOCK: usize = 16;

/// Returns the text encrypted, behind the block that chaining starts with, in base64.
pub(super) fn encrypted(password: &[u8], text: &[u8], start: [u8; BLOCK]) -> String {
    if text.is_empty() {
        return String::new();
    }
    let cipher = cbc::Encryptor::<Aes256>::new(&key(password).into(), &start.into());
    let mut bytes = start.to_vec();
    bytes.extend(cipher.encrypt_padded_vec::<Pkcs7>(text));
    STANDARD.encode(bytes)
}

/// Returns what was encrypted. A wrong password gives garbage or an error, as the last byte has it.
pub(super) fn decrypted(password: &[u8], text: &str) -> Result<Val, String> {
    if text.is_empty() {
        return Ok("".into());
    }
    let bytes = super::super::encode::base64_bytes(text)?;
    let (start, body) = bytes.split_first_chunk::<BLOCK>().ok_or_else(|| {
        let length = bytes.len();
        format!("runtime error: slice bounds out of range [:{BLOCK}] with capacity {length}")
    })?;
    let cipher = cbc::Decryptor::<Aes256>::new(&key(password).into(), start.into());
    let plain = cipher
        .decrypt_padded_vec::<NoPadding>(body)
        .map_err(|_| "crypto/cipher: input not full blocks".to_owned())?;
    let last = plain.last().ok_or("runtime error: index out of range [-1]")?;
    let length = plain.len().checked_sub(usize::from(*last)).ok_or_else(|| {
        let end = plain.len() as i64 - i64::from(*last);
        format!("runtime error: slice bounds out of range [:{end}]")
    })?;
    Ok(Val::of_bytes(&plain[..length]))
}

fn key(password: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    for (byte, given) in key.iter_mut().zip(password) {
        *byte = *given;
    }
    key
}
