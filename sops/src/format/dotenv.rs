//! `NAME=value` lines, in which a line break of a value is `\n`.

use super::{Format, scalar_text};
use crate::{
    error::Error,
    tree::{Field, Node},
};

/// Reads lines. Comments are kept.
pub(super) fn read(content: &[u8]) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix(b"#") {
            fields.push(Field::Comment(comment.to_vec()));
            continue;
        }
        let bad = |why: &str| Format::Dotenv.unreadable(format!("line {}: {why}", index + 1));
        let at = memchr::memchr(b'=', line).ok_or_else(|| bad("no '=' in it"))?;
        let name = std::str::from_utf8(&line[..at]).map_err(|_| bad("the name is not UTF-8"))?;
        let value = unescaped(&line[at + 1..]);
        fields.push(Field::Value(name.to_owned(), Node::Text(value)));
    }
    Ok(fields)
}

/// Writes lines.
pub(super) fn write(fields: &[Field]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Comment(text) => {
                out.push(b'#');
                out.extend_from_slice(text);
            }
            Field::Value(name, value) => {
                let text = scalar_text(value)
                    .ok_or_else(|| Format::Dotenv.inexpressible("a value is no text, number or truth"))?;
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend(escaped(&text));
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// A value as it stands in a line.
pub(crate) fn escaped(value: &[u8]) -> Vec<u8> {
    replaced(value, b"\n", b"\\n")
}

/// A value of a line.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    replaced(text, b"\\n", b"\n")
}

fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(bytes, what) {
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(by);
        from = at + what.len();
    }
    out.extend_from_slice(&bytes[from..]);
    out
}
