//! JSON of a template's values, read and written as Go's encoding/json does.

use super::bytes;
use super::funcs::raw_data;
use super::value::Val;
use crate::surrogates::paired;
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

/// Returns the value as JSON.
pub(super) fn write(value: &Val, layout: Layout) -> Result<String, String> {
    let written = json::write(&raw_data(value)?.into(), layout);
    Ok(bytes::text(written.as_bytes()).into_owned())
}
