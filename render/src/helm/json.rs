//! JSON of a template's values, read and written as Go's encoding/json does.

use std::borrow::Cow;

use super::bytes;
use super::funcs::raw_data;
use super::value::Val;
use crate::yaml::json::{self, Layout};

/// As Go writes, of texts that may be no UTF-8.
pub(super) const COMPACT: Layout = Layout {
    bytes: bytes::bytes,
    ..Layout::COMPACT
};
pub(super) const PRETTY: Layout = Layout {
    indented: true,
    ..COMPACT
};
pub(super) const RAW: Layout = Layout {
    escapes_markup: false,
    ..COMPACT
};

/// Reads JSON, with U+FFFD for each half of a character that stands alone, as Go's decoder does.
pub(super) fn read(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(&paired(text))
}

/// Returns the text with `\\ufffd` in place of escapes of halves that stand alone; each is as long as the other.
pub(super) fn paired(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| {
        let digits = text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        if at >= text.len() {
            break;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Returns the value as JSON.
pub(super) fn write(value: &Val, layout: Layout) -> Result<String, String> {
    let written = json::write(&raw_data(value)?.into(), layout);
    Ok(bytes::text(written.as_bytes()).into_owned())
}
