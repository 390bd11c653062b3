//! Reads files of variables, a `KEY=value` a line. What a key without a value means to a shell is not asked for.

use crate::kustomize::error::{Result, invalid};

/// A line of an env file that has a key.
pub(super) struct EnvLine<'c> {
    /// From 1.
    pub(super) number: usize,
    pub(super) key: &'c str,
    pub(super) value: &'c str,
}

/// Tells whether errors may quote a key: a file of secrets may hold one on a line of its own, and base64 ends in `=`.
pub(super) fn is_named(key: &str, value: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    key.bytes().all(is_legal) && value.bytes().any(|byte| byte != b'=')
}

/// Returns the lines of a file that have a key.
pub(super) fn env_lines(content: &[u8]) -> impl Iterator<Item = Result<EnvLine<'_>>> {
    let lines = (1..).zip(content.split(|b| *b == b'\n'));
    lines.filter_map(|(number, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            return Some(Err(invalid(format!("line {number} has invalid utf8 bytes"))));
        };
        let line = if number == 1 {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        } else {
            line
        };
        let line = line.trim_start();
        if line.starts_with('#') {
            return None;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (!key.is_empty()).then_some(Ok(EnvLine { number, key, value }))
    })
}
