//! Writes values as Go's encoding/json does: sorted keys, and signs of markup escaped unless told otherwise.

use std::borrow::Cow;
use std::fmt::Write;

use super::bytes;
use super::funcs::raw_data;
use super::value::Val;
use crate::yaml::{Value, number};

/// How JSON is laid out.
#[derive(Clone, Copy)]
pub(super) struct Style {
    indent: Option<usize>,
    escapes_markup: bool,
}

impl Style {
    pub(super) const COMPACT: Style = Style {
        indent: None,
        escapes_markup: true,
    };
    pub(super) const PRETTY: Style = Style {
        indent: Some(0),
        escapes_markup: true,
    };
    pub(super) const RAW: Style = Style {
        indent: None,
        escapes_markup: false,
    };

    fn deeper(self) -> Style {
        Style {
            indent: self.indent.map(|indent| indent + 1),
            ..self
        }
    }

    fn line(self, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", indent));
        }
    }
}

/// Reads JSON, with U+FFFD for each half of a character that stands alone, as Go's decoder does.
pub(super) fn read(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(&paired(text))
}

/// Returns the text with `\\ufffd` in place of escapes of halves that stand alone.
fn paired(text: &str) -> Cow<'_, str> {
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
pub(super) fn write(value: &Val, style: Style) -> Result<String, String> {
    let mut out = String::new();
    append(&raw_data(value)?, style, &mut out);
    Ok(bytes::text(out.as_bytes()).into_owned())
}

fn append(value: &Value, style: Style, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => _ = write!(out, "{flag}"),
        Value::Int(number) => _ = write!(out, "{number}"),
        Value::UInt(number) => _ = write!(out, "{number}"),
        Value::Float(float) => out.push_str(&number::json(*float)),
        Value::String(text) => string(text, style, out),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::Map(map) if map.is_empty() => out.push_str("{}"),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                style.deeper().line(out);
                append(item, style.deeper(), out);
            }
            style.line(out);
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                style.deeper().line(out);
                string(key, style, out);
                out.push_str(if style.indent.is_some() { ": " } else { ":" });
                append(item, style.deeper(), out);
            }
            style.line(out);
            out.push('}');
        }
    }
}

fn string(text: &str, style: Style, out: &mut String) {
    out.push('"');
    for chunk in bytes::bytes(text).utf8_chunks() {
        characters(chunk.valid(), style, out);
        out.extend(chunk.invalid().iter().map(|_| "\\ufffd"));
    }
    out.push('"');
}

fn characters(text: &str, style: Style, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' if style.escapes_markup => _ = write!(out, "\\u{:04x}", u32::from(c)),
            '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
}
