//! Tells in which encoding a text of YAML is, as its readers do: by its mark, else UTF-8.

use std::borrow::Cow;

use super::read::ReadError;

/// Returns the text of a file; the mark at its beginning is left out.
///
/// # Errors
///
/// A text that is neither UTF-8 nor, behind a mark, UTF-16.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ReadError> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes).map(Cow::Owned),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes).map(Cow::Owned),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
                let line = 1 + memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count();
                invalid(line, "invalid UTF-8 octet")
            })
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, ReadError> {
    let pairs = bytes.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let mut text = String::with_capacity(bytes.len());
    for c in char::decode_utf16(pairs.map(|pair| unit([pair[0], pair[1]]))) {
        let line = 1 + memchr::memchr_iter(b'\n', text.as_bytes()).count();
        text.push(c.map_err(|_| invalid(line, "invalid UTF-16 surrogate"))?);
    }
    if whole {
        return Ok(text);
    }
    let line = 1 + memchr::memchr_iter(b'\n', text.as_bytes()).count();
    Err(invalid(line, "incomplete UTF-16 character"))
}

fn invalid(line: usize, message: &str) -> ReadError {
    ReadError::Syntax {
        line,
        message: message.to_owned(),
    }
}
