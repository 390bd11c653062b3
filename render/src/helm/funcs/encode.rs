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

/// Returns where Go stops reading.
fn bad_base64(text: &str) -> usize {
    let text = text.as_bytes();
    let mut at = 0;
    while at < text.len() {
        match quantum(text, at) {
            Ok(next) => at = next,
            Err(stop) => return stop,
        }
    }
    at
}

/// Passes four digits, or the last ones with their padding; fails with where Go stops.
fn quantum(text: &[u8], start: usize) -> Result<usize, usize> {
    let breaks = |at: usize| text[at..].iter().take_while(|byte| is_break(byte)).count();
    let (mut at, mut digits) = (start, 0);
    while digits < 4 {
        let Some(byte) = text.get(at) else {
            return if digits == 0 { Ok(at) } else { Err(at - digits) };
        };
        at += 1;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => digits += 1,
            byte if is_break(byte) => {}
            b'=' if digits >= 2 => {
                if digits == 2 {
                    at += breaks(at);
                    match text.get(at) {
                        None => return Err(at),
                        Some(b'=') => at += 1,
                        Some(_) => return Err(at - 1),
                    }
                }
                at += breaks(at);
                return if at < text.len() { Err(at) } else { Ok(at) };
            }
            _ => return Err(at - 1),
        }
    }
    Ok(at)
}

fn is_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
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
    let compact: Vec<u8> = text.bytes().filter(|byte| !is_break(byte)).collect();
    match base32_bytes(&compact) {
        Ok(bytes) => Val::of_bytes(&bytes),
        Err(stop) => format!("illegal base32 data at input byte {stop}").into(),
    }
}

/// Reads base32 as Go does, which looks at nothing behind the padding of the last group; fails with where it stops.
fn base32_bytes(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 8 * 5);
    let (mut at, mut ended) = (0, false);
    while at < text.len() && !ended {
        let (mut bits, mut digits) = (0u64, 0);
        while digits < 8 {
            let Some(byte) = text.get(at) else {
                return Err(text.len() - digits);
            };
            at += 1;
            let left = text.len() - at;
            // A group has this padding only where less than another group follows.
            if *byte == b'=' && digits >= 2 && left < 8 {
                if left + digits < 7 {
                    return Err(text.len());
                }
                let padding = text[at..].iter().take(7 - digits);
                if let Some(other) = padding.into_iter().position(|byte| *byte != b'=') {
                    return Err(at + other - 1);
                }
                if matches!(digits, 3 | 6) {
                    return Err(at - 1);
                }
                ended = true;
                break;
            }
            let digit = BASE32.iter().position(|known| known == byte).ok_or(at - 1)?;
            bits = bits << 5 | digit as u64;
            digits += 1;
        }
        let bits = bits << (5 * (8 - digits));
        out.extend(&bits.to_be_bytes()[3..3 + digits * 5 / 8]);
    }
    Ok(out)
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
