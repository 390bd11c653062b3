//! Content digests: BLAKE3-256 over a type tag and the canonical form. Golden vectors stand in the tests below
//! and must never change: agents in the field hold these digests.
//!
//! Canonical JSON: keys sorted by their UTF-8 bytes, no spaces, integers in decimal, floats as Go's
//! `encoding/json` prints them.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

/// A BLAKE3-256 digest. Printed and serialised as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why bytes or text are no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected 32 bytes or 64 hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// Digests `bytes` under the type tag `kind`: BLAKE3 of `flotilla/<kind>/v1\0` and the bytes.
    pub fn of(kind: &str, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"flotilla/")
            .update(kind.as_bytes())
            .update(b"/v1\0")
            .update(bytes);
        Self(*hasher.finalize().as_bytes())
    }

    /// Digests `bytes` under a secret key: for Secret objects, whose low-entropy values a plain digest would
    /// confirm to whoever guesses them. The key is permanent, so re-encrypting never changes a digest.
    pub fn keyed(key: &[u8; 32], kind: &str, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher
            .update(b"flotilla/")
            .update(kind.as_bytes())
            .update(b"/v1\0")
            .update(bytes);
        Self(*hasher.finalize().as_bytes())
    }

    /// Digests the canonical JSON of `value` under the type tag `kind`.
    pub fn of_json(kind: &str, value: &impl Serialize) -> Self {
        Self::of(kind, canonical_json(value).as_bytes())
    }

    /// Wraps raw bytes that are known to be a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 32 raw bytes, as the wire and the store carry them.
    pub fn try_from_slice(bytes: &[u8]) -> Result<Self, InvalidDigest> {
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(InvalidDigest);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or(InvalidDigest)?;
            let low = char::from(pair[1]).to_digit(16).ok_or(InvalidDigest)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(out))
    }

    /// The first 12 hexadecimal digits, for logs and tables.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[hexadecimal(byte >> 4) as u8, hexadecimal(byte & 15) as u8]);
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed where it can be: a content lists thousands.
        let text = Text::deserialize(deserializer)?;
        Self::parse(&text.0).map_err(D::Error::custom)
    }
}

/// Writes the canonical JSON of a value. Values that cannot be JSON (a map with non-string keys) do not occur
/// in our types; they would give `null`.
pub fn canonical_json(value: &impl Serialize) -> String {
    let mut out = String::new();
    write_canonical(&serde_json::to_value(value).unwrap_or(Value::Null), &mut out);
    out
}

/// Appends the canonical JSON of `value` to `out`.
pub fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, value)) in in_order(map).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
    }
}

/// The entries of a map by the bytes of their keys. Not left to the map type: whether serde_json keeps insertion order
/// depends on a feature that any crate of a build can switch on, and a digest must not.
pub(crate) fn in_order(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let (sorted, unsorted) = match map.keys().is_sorted() {
        true => (Some(map.iter()), None),
        false => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            (None, Some(entries))
        }
    };
    sorted.into_iter().flatten().chain(unsorted.into_iter().flatten())
}

/// Appends a text in quotes, as canonical JSON has it.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            8 => "\\b",
            12 => "\\f",
            ..0x20 => "\\u00",
            _ => continue,
        };
        out.push_str(&text[written..at]);
        out.push_str(escaped);
        if escaped.len() > 2 {
            out.push(hexadecimal(byte >> 4));
            out.push(hexadecimal(byte & 15));
        }
        written = at + 1;
    }
    out.push_str(&text[written..]);
    out.push('"');
}

/// A digit of a number below 16.
fn hexadecimal(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or_default()
}

fn write_number(number: &serde_json::Number, out: &mut String) {
    if let Some(n) = number.as_i64() {
        out.push_str(&n.to_string());
    } else if let Some(n) = number.as_u64() {
        out.push_str(&n.to_string());
    } else if let Some(n) = number.as_f64() {
        out.push_str(&go_float(n));
    }
}

/// Formats a finite float as Go's `encoding/json` does: shortest digits that read back, plain notation for
/// magnitudes in [1e-6, 1e21), otherwise an exponent without padding.
fn go_float(n: f64) -> String {
    if n == 0.0 {
        return if n.is_sign_negative() {
            "-0".to_owned()
        } else {
            "0".to_owned()
        };
    }
    let magnitude = n.abs();
    if (1e-6..1e21).contains(&magnitude) {
        return format!("{n}");
    }
    let text = format!("{n:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_sorts_keys_by_bytes_and_has_no_spaces() {
        let value = json!({"b": [1, -2, 1.5, true, null], "a": {"ü": "x\n\u{1}", "Z": "\"\\"}});
        assert_eq!(
            canonical_json(&value),
            "{\"a\":{\"Z\":\"\\\"\\\\\",\"ü\":\"x\\n\\u0001\"},\"b\":[1,-2,1.5,true,null]}"
        );
    }

    #[test]
    fn control_characters_are_escaped_wherever_they_stand() {
        let text: String = ('\0'..=' ')
            .chain(['é', '\u{7f}', '\u{1F600}', '"', 'x', '\\'])
            .collect();
        let ours = canonical_json(&text);
        assert_eq!(ours, serde_json::to_string(&text).expect("a text is JSON"));
        assert_eq!(
            serde_json::from_str::<String>(&ours).expect("it reads back"),
            text
        );
    }

    #[test]
    fn floats_are_printed_as_go_prints_them() {
        let cases = [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-2.5e-9, "-2.5e-9"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
        ];
        for (value, expected) in cases {
            assert_eq!(go_float(value), expected);
        }
    }

    #[test]
    fn golden_vectors_never_change() {
        assert_eq!(
            Digest::of_json("object", &json!({"kind": "ConfigMap", "data": {"a": "1"}})).to_string(),
            "6655084f25e134ad2f42d3854685f62261a78aab0bc17ce9ce4e323935512d65"
        );
        assert_eq!(
            Digest::keyed(&[7; 32], "object", b"{}").to_string(),
            "649ac6ce1df920bc69dfa2d914d8d1d5bc8231069aeaca7ec92d30e5544c4efb"
        );
    }

    #[test]
    fn digests_read_back_from_their_text() {
        let digest = Digest::of("object", b"x");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        for bad in ["", "0", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(Digest::parse(bad), Err(InvalidDigest));
        }
    }
}
