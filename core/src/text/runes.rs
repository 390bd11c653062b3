//! Characters inside byte strings that need not be UTF-8, read as Go reads them: an invalid byte is U+FFFD of
//! width one. Case mapping is one character to one character (Unicode's simple mapping).

use std::sync::LazyLock;

use regex::Regex;

/// Decodes the first character and its width. Zero width only for an empty input.
pub fn decode(bytes: &[u8]) -> (char, usize) {
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
pub fn chars(mut bytes: &[u8]) -> impl DoubleEndedIterator<Item = char> {
    let mut found = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let (c, width) = decode(bytes);
        found.push(c);
        bytes = &bytes[width..];
    }
    found.into_iter()
}

/// Appends `c` in UTF-8.
pub fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The simple lower case of a character.
pub fn lower(c: char) -> char {
    match c {
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        // The only character whose full lower case is longer than its simple one.
        'İ' => 'i',
        _ => known(c, c.to_lowercase().next().unwrap_or(c)),
    }
}

/// The simple upper case of a character.
pub fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut full = c.to_uppercase();
    match (full.next(), full.next()) {
        (Some(single), None) => known(c, single),
        _ => upper_of_expanding(c),
    }
}

/// The form of a character at the start of a word.
pub fn title(c: char) -> char {
    match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Georgian has capitals for whole words only.
        'ა'..='ჺ' | 'ჽ'..='ჿ' => c,
        c => upper(c),
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

/// The other case of a character, or itself where Go's Unicode does not have both.
fn known(c: char, other: char) -> char {
    static ASSIGNED: Class = LazyLock::new(|| class(r"\p{L}\p{M}\p{N}\p{S}"));
    if other == c || (has(&ASSIGNED, c) && has(&ASSIGNED, other)) {
        other
    } else {
        c
    }
}

/// A class of characters as Go has it. Rust's own methods know a later version of Unicode, and mean wider classes: a
/// mark may be alphabetic there, and a number a capital.
type Class = LazyLock<Option<Regex>>;

/// The class of the characters in some categories of Unicode 15.0.
fn class(categories: &str) -> Option<Regex> {
    Regex::new(&format!(r"^[[{categories}]&&\p{{age=15.0}}]$")).ok()
}

fn has(class: &Class, c: char) -> bool {
    class
        .as_ref()
        .is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Tells whether Go's `unicode.IsUpper` holds.
pub fn is_upper(c: char) -> bool {
    static UPPER: Class = LazyLock::new(|| class(r"\p{Lu}"));
    if c.is_ascii() {
        c.is_ascii_uppercase()
    } else {
        has(&UPPER, c)
    }
}

/// Tells whether Go's `unicode.IsLower` holds.
pub fn is_lower(c: char) -> bool {
    static LOWER: Class = LazyLock::new(|| class(r"\p{Ll}"));
    if c.is_ascii() {
        c.is_ascii_lowercase()
    } else {
        has(&LOWER, c)
    }
}

/// Tells whether Go's `unicode.IsTitle` holds.
pub fn is_title(c: char) -> bool {
    static TITLE: Class = LazyLock::new(|| class(r"\p{Lt}"));
    !c.is_ascii() && has(&TITLE, c)
}

/// Tells whether Go's `unicode.IsLetter` holds.
pub fn is_letter(c: char) -> bool {
    static LETTER: Class = LazyLock::new(|| class(r"\p{L}"));
    if c.is_ascii() {
        c.is_ascii_alphabetic()
    } else {
        has(&LETTER, c)
    }
}

/// Tells whether Go's `unicode.IsNumber` holds.
pub fn is_number(c: char) -> bool {
    static NUMBER: Class = LazyLock::new(|| class(r"\p{N}"));
    if c.is_ascii() {
        c.is_ascii_digit()
    } else {
        has(&NUMBER, c)
    }
}

/// Tells whether Go's `unicode.IsPunct` holds: of ASCII, signs of arithmetic, money and accents are none.
pub fn is_punct(c: char) -> bool {
    static PUNCT: Class = LazyLock::new(|| class(r"\p{P}"));
    if c.is_ascii() {
        c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
    } else {
        has(&PUNCT, c)
    }
}

/// Tells whether Go's `unicode.IsSpace` holds.
pub fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// Tells whether Go takes a character for printable: letters, marks, numbers, punctuation, symbols, and the blank.
pub fn is_print(c: char) -> bool {
    static PRINT: Class = LazyLock::new(|| class(r"\p{L}\p{M}\p{N}\p{P}\p{S}"));
    if c.is_ascii() {
        matches!(c, ' '..='~')
    } else {
        has(&PRINT, c)
    }
}

/// Tells whether a character may stand in a variable's name: a letter, a decimal digit or `_`.
pub fn is_name(c: char) -> bool {
    static NAME: Class = LazyLock::new(|| class(r"\p{L}\p{Nd}"));
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || c == '_'
    } else {
        has(&NAME, c)
    }
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
