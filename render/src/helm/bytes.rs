//! Text that may hold bytes which are no UTF-8, as Go's strings do.
//!
//! The engine's texts are UTF-8. A byte that is none stands in them as one of the last 128 characters of
//! Unicode, from U+10FF80 on, which are for private use; where a text holds one of these itself, each of its four
//! bytes stands so. Every text of bytes has exactly one such form, and what joins, cuts at characters or passes on
//! text need not know of it. What looks at bytes asks [`bytes`], and what leaves the engine goes through [`bytes`]
//! or [`lossy`].

use std::borrow::Cow;

/// The byte 0 would stand here; only bytes from 0x80 on stand at all.
const BASE: u32 = 0x0010_FF00;
/// The byte that each of these characters begins with.
const FIRST: u8 = 0xF4;

/// Returns the byte that a character stands for.
pub(super) fn byte(c: char) -> Option<u8> {
    u32::from(c)
        .checked_sub(BASE)
        .and_then(|byte| u8::try_from(byte).ok())
        .filter(|byte| *byte >= 0x80)
}

/// Returns whether no byte of the text stands for one that is no UTF-8.
fn plain(text: &str) -> bool {
    memchr::memchr(FIRST, text.as_bytes()).is_none() || !text.chars().any(|c| byte(c).is_some())
}

/// Returns the text of bytes.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && plain(text)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 2);
    let stand_ins = |bytes: &[u8], out: &mut String| {
        out.extend(
            bytes
                .iter()
                .filter_map(|byte| char::from_u32(BASE + u32::from(*byte))),
        );
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte(c) {
                Some(_) => stand_ins(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut out),
                None => out.push(c),
            }
        }
        stand_ins(chunk.invalid(), &mut out);
    }
    Cow::Owned(out)
}

/// Returns the bytes of a text.
pub(super) fn bytes(text: &str) -> Cow<'_, [u8]> {
    if plain(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// Returns a text that was put together: bytes that now make a character together become it.
pub(super) fn joined(text: &str) -> Cow<'_, str> {
    if plain(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(self::text(&bytes(text)).into_owned())
}

/// Returns the text with U+FFFD for each byte that is no UTF-8, as Go writes what it takes for characters.
pub(super) fn lossy(text: &str) -> Cow<'_, str> {
    if plain(text) {
        return Cow::Borrowed(text);
    }
    let bytes = bytes(text);
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

/// Returns whether all of the text is UTF-8.
pub(super) fn is_utf8(text: &str) -> bool {
    std::str::from_utf8(&bytes(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{bytes, is_utf8, joined, lossy, text};

    /// Texts of bytes that are UTF-8 in part, and those that look like what stands for a byte.
    const SAMPLES: [&[u8]; 9] = [
        b"",
        b"plain \xc3\xa9",
        b"\xff\xfe\x00",
        b"a\xc3",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        "\u{10ff80}\u{10ffff}".as_bytes(),
        b"\xf4\x8f\xbf",
        b"\xf4\x90\x80\x80",
    ];

    #[test]
    fn every_text_of_bytes_is_kept() {
        for sample in SAMPLES {
            assert_eq!(&*bytes(&text(sample)), sample, "{sample:?}");
            for other in SAMPLES {
                let both = [sample, other].concat();
                let put_together = format!("{}{}", text(sample), text(other));
                assert_eq!(joined(&put_together), text(&both), "{both:?}");
            }
        }
    }

    #[test]
    fn what_is_no_utf8_is_told_from_what_is() {
        assert!(is_utf8(&text("\u{10ff80}é".as_bytes())));
        assert!(!is_utf8(&text(b"a\xff")));
        assert_eq!(lossy(&text(b"a\xff\xe2\x82b")), "a\u{fffd}\u{fffd}\u{fffd}b");
        assert_eq!(lossy(&text("\u{10ff80}".as_bytes())), "\u{10ff80}");
    }
}
