//! Decides what a plain scalar means, by the rules of go-yaml's second and third version.
//!
//! Both differ from YAML 1.2: `0644` is octal and `1_000` a number, but numbers of base 60 stay text. The second
//! version, which Kubernetes reads with, also has `yes` and `on` as booleans.

mod timestamp;

use std::borrow::Cow;

use crate::Version;
pub(crate) use timestamp::timestamp;

/// What a plain scalar stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer above the signed range.
    UInt(u64),
    /// May be infinite or not a number, which JSON has no way to say.
    Float(f64),
    Timestamp,
    Text,
}

/// Returns what the plain scalar `text` stands for.
pub(crate) fn resolve(text: &str, version: Version) -> Resolved {
    resolve_as(text, version, true)
}

/// Returns what it stands for when a tag forbids that it is a date.
pub(crate) fn resolve_undated(text: &str, version: Version) -> Resolved {
    resolve_as(text, version, false)
}

fn resolve_as(text: &str, version: Version, dated: bool) -> Resolved {
    let Some(first) = text.bytes().next() else {
        return Resolved::Null;
    };
    let begins_number = match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' | b'.' => false,
        b'+' | b'-' | b'0'..=b'9' => true,
        _ => return Resolved::Text,
    };
    match word(text, version) {
        Resolved::Text if begins_number => number(text, version, dated),
        Resolved::Text if first == b'.' => float(text),
        found => found,
    }
}

fn word(text: &str, version: Version) -> Resolved {
    match text {
        "true" | "True" | "TRUE" => Resolved::Bool(true),
        "false" | "False" | "FALSE" => Resolved::Bool(false),
        "~" | "null" | "Null" | "NULL" => Resolved::Null,
        ".nan" | ".NaN" | ".NAN" => Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Resolved::Float(f64::NEG_INFINITY),
        _ if version == Version::V3 => Resolved::Text,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Resolved::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Resolved::Bool(false),
        _ => Resolved::Text,
    }
}

fn number(text: &str, version: Version, dated: bool) -> Resolved {
    if dated && timestamp(text).is_some() {
        return Resolved::Timestamp;
    }
    let digits: Cow<'_, str> = if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    };
    integer(&digits).unwrap_or_else(|| match float(&digits) {
        Resolved::Text => signed_behind_prefix(&digits, version).unwrap_or(Resolved::Text),
        found => found,
    })
}

/// Reads an integer with Go's base prefixes: `0x`, `0o`, `0b`, and a bare `0` for octal.
fn integer(text: &str) -> Option<Resolved> {
    let (negative, signed, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, true, &text[1..]),
        Some(b'+') => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    let magnitude = magnitude(rest)?;
    if negative {
        return 0i64.checked_sub_unsigned(magnitude).map(Resolved::Int);
    }
    match i64::try_from(magnitude) {
        Ok(small) => Some(Resolved::Int(small)),
        // Go reads what is above 63 bits as unsigned, which takes no sign.
        Err(_) if signed => None,
        Err(_) => Some(Resolved::UInt(magnitude)),
    }
}

fn magnitude(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // Rust's parser takes a sign of its own, which has been read already.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Reads a number with a sign of its own behind a prefix, which only go-yaml's own rules for these prefixes let through.
fn signed_behind_prefix(text: &str, version: Version) -> Option<Resolved> {
    let behind = |prefix, radix| i64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    let octal = || behind("0o", 8).filter(|_| version == Version::V3);
    behind("0b", 2).or_else(octal).map(Resolved::Int)
}

fn float(text: &str) -> Resolved {
    if !looks_like_float(text) {
        return Resolved::Text;
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Resolved::Float(number),
        _ => Resolved::Text,
    }
}

/// Returns whether the whole of `text` is digits with a point and an exponent at most.
fn looks_like_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    mantissa_fits
        && exponent.is_none_or(|exponent| {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !unsigned.is_empty() && digits(unsigned)
        })
}

/// Returns whether `text` is a number in YAML 1.1's base 60, such as `12:30:45`: read as text here, quoted
/// for the readers that take it for a number.
pub(crate) fn is_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let mut sixties = 0;
    for part in parts {
        sixties += 1;
        if !matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']) {
            return false;
        }
    }
    let loose = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    sixties > 0
        && first.starts_with(|c: char| c.is_ascii_digit())
        && loose(first)
        && fraction.is_none_or(loose)
}
