//! Characters inside byte strings that need not be UTF-8, read as Go reads them: an invalid byte is U+FFFD of
//! width one. Case mapping is one character to one character (Unicode's simple mapping).

use std::sync::LazyLock;

use regex::Regex;

/// Decodes the first character and its width. Zero width only for an empty input.
pub(crate) fn decode(bytes: &[u8]) -> (char, usize) {
    let Some(&first) = bytes.first() else {
        return (char::REPLACEMENT_CHARACTER, 0);
    };
    let width = match first {
        0x00..=0x7f => return (char::from(first), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (char::REPLACEMENT_CHARACTER, 1),
    };
    let decoded = bytes
        .get(..width)
        .and_then(|sequence| std::str::from_utf8(sequence).ok())
        .and_then(|text| text.chars().next());
    decoded.map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, width))
}

/// Splits bytes into characters, each invalid byte becoming U+FFFD.
pub(crate) fn chars(mut bytes: &[u8]) -> impl DoubleEndedIterator<Item = char> {
    let mut found = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let (c, width) = decode(bytes);
        found.push(c);
        bytes = &bytes[width..];
    }
    found.into_iter()
}

/// Appends `c` in UTF-8.
pub(crate) fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The simple lower case of a character.
pub(crate) fn lower(c: char) -> char {
    // The only character whose full lower case is longer than its simple one.
    if c == 'İ' {
        'i'
    } else {
        c.to_lowercase().next().unwrap_or(c)
    }
}

/// The simple upper case of a character.
pub(crate) fn upper(c: char) -> char {
    let mut full = c.to_uppercase();
    match (full.next(), full.next()) {
        (Some(single), None) => single,
        _ => upper_of_expanding(c),
    }
}

/// The simple upper case of a character whose full upper case is several characters: Greek letters with iota
/// subscript have a title-case form that stands in for it, all others map to themselves.
fn upper_of_expanding(c: char) -> char {
    let shifted = match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => c as u32 + 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => c as u32 + 9,
        _ => return c,
    };
    char::from_u32(shifted).unwrap_or(c)
}

/// Tells whether a character may stand in a variable's name: a letter, a decimal digit or `_`.
pub(crate) fn is_name(c: char) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}]$").ok());
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    NAME.as_ref()
        .is_some_and(|name| name.is_match(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_maps_one_character_to_one() {
        for (c, expected) in [
            ('ß', 'ß'),
            ('é', 'É'),
            ('ᾳ', 'ᾼ'),
            ('ᾀ', 'ᾈ'),
            ('ŉ', 'ŉ'),
            ('ǆ', 'Ǆ'),
        ] {
            assert_eq!(upper(c), expected);
        }
        for (c, expected) in [('İ', 'i'), ('É', 'é'), ('Σ', 'σ')] {
            assert_eq!(lower(c), expected);
        }
    }

    #[test]
    fn each_invalid_byte_is_one_replacement() {
        assert_eq!(
            chars(b"a\xe2\x82z\xff").collect::<String>(),
            "a\u{fffd}\u{fffd}z\u{fffd}"
        );
        assert_eq!(chars("€".as_bytes()).collect::<String>(), "€");
    }
}
