//! Encodings and digests.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use super::{Function, pure, raw, text};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("b64enc", "s", |args| Ok(base64(&raw(args, 0)).into())),
    pure("b64dec", "s", |args| Ok(base64_decoded(text(args, 0)))),
    pure("b32enc", "s", |args| Ok(base32(&raw(args, 0)).into())),
    pure("b32dec", "s", |args| Ok(base32_decoded(text(args, 0)))),
    pure("sha1sum", "s", |args| {
        Ok(hex(&sha1::Sha1::digest(raw(args, 0))).into())
    }),
    pure("sha256sum", "s", |args| {
        Ok(hex(&Sha256::digest(raw(args, 0))).into())
    }),
    pure("sha512sum", "s", |args| {
        Ok(hex(&Sha512::digest(raw(args, 0))).into())
    }),
    pure("adler32sum", "s", |args| {
        Ok(adler32(&raw(args, 0)).to_string().into())
    }),
];

/// Returns bytes in standard base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn base64_decoded(text: &str) -> Val {
    match base64_bytes(text) {
        Ok(bytes) => Val::of_bytes(&bytes),
        Err(cause) => cause.into(),
    }
}

/// Returns the bytes of standard base64; the error is Go's.
pub(super) fn base64_bytes(text: &str) -> Result<Vec<u8>, String> {
    let decoded = flotilla_core::text::base64::decode(text);
    decoded.ok_or_else(|| format!("illegal base64 data at input byte {}", bad_base64(text)))
}

/// Returns where Go stops reading: at the first byte that does not belong, or where the last group starts.
fn bad_base64(text: &str) -> usize {
    let mut group = 0;
    let mut pads = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => {}
            b'=' if group >= 2 && pads == 0 && group < 4 => {
                pads = 4 - group - 1;
                if pads == 0 {
                    return text[at + 1..]
                        .find(|c| !matches!(c, '\n' | '\r'))
                        .map_or(at, |after| at + 1 + after);
                }
            }
            b'=' if pads > 0 => pads -= 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if pads == 0 => group = (group + 1) % 4,
            _ => return at,
        }
    }
    text.len() - group.min(text.len())
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0; 5];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let filled = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let index = (bits >> (35 - at * 5)) & 31;
            out.push(if at < filled {
                char::from(BASE32[index as usize])
            } else {
                '='
            });
        }
    }
    out
}

fn base32_decoded(text: &str) -> Val {
    let compact: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    let mut out = Vec::new();
    for (group, chunk) in compact.chunks(8).enumerate() {
        let digits: Vec<u64> = chunk
            .iter()
            .take_while(|byte| **byte != b'=')
            .map_while(|byte| BASE32.iter().position(|known| known == byte).map(|at| at as u64))
            .collect();
        let padded = chunk[digits.len()..].iter().all(|byte| *byte == b'=');
        if chunk.len() < 8 || !padded || matches!(digits.len(), 0 | 1 | 3 | 6) {
            return format!("illegal base32 data at input byte {}", group * 8 + digits.len()).into();
        }
        let bits = (0..8).fold(0u64, |bits, at| bits << 5 | digits.get(at).copied().unwrap_or(0));
        out.extend(&bits.to_be_bytes()[3..3 + digits.len() * 5 / 8]);
    }
    Val::of_bytes(&out)
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}
