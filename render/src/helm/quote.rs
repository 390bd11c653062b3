//! Quotes and unquotes text as Go's strconv does.

use flotilla_core::text::runes::is_print;

use super::bytes;

/// Returns `text` in double quotes, escaped as Go's `%q`.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for chunk in bytes::bytes(text).utf8_chunks() {
        chunk.valid().chars().for_each(|c| escape(c, '"', &mut quoted));
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

/// Returns the character in single quotes, as Go's `%q` of a number.
pub(super) fn quote_char(c: char) -> String {
    let mut quoted = String::from("'");
    escape(c, '\'', &mut quoted);
    quoted.push('\'');
    quoted
}

fn escape(c: char, quote: char, out: &mut String) {
    match c {
        _ if c == quote || c == '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        _ if is_print(c) => out.push(c),
        _ => match u32::from(c) {
            code @ ..=0x7f => out.push_str(&format!("\\x{code:02x}")),
            code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        },
    }
}

/// Returns whether the text can stand between backquotes as it is.
pub(super) fn can_backquote(text: &str) -> bool {
    !text.contains(|c: char| {
        c == '`' || (c.is_ascii_control() && c != '\t') || c == '\u{feff}' || bytes::byte(c).is_some()
    })
}

/// Returns the text of a Go string literal, quotes of any kind included; none when it is not one.
pub(super) fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    unescape(inner, '"')
}

/// Returns the character of a Go character literal.
pub(super) fn unquote_char(literal: &str) -> Option<char> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    let text = unescape(inner, '\'')?;
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

fn unescape(inner: &str, quote: char) -> Option<String> {
    if !inner.contains('\\') {
        return (!inner.contains(['\n', quote])).then(|| inner.to_owned());
    }
    let mut unescaped = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c == quote || c == '\n' {
            return None;
        }
        if c != '\\' {
            match bytes::byte(c) {
                Some(byte) => unescaped.push(byte),
                None => unescaped.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            continue;
        }
        let escape = rest.next()?;
        let (digits, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => {
                unescaped.push(simple_escape(escape, quote)?);
                continue;
            }
        };
        let mut code = if radix == 8 { escape.to_digit(8)? } else { 0 };
        for _ in usize::from(radix == 8)..digits {
            code = code * radix + rest.next()?.to_digit(radix)?;
        }
        if matches!(escape, 'u' | 'U') {
            unescaped.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            unescaped.push(u8::try_from(code).ok()?);
        }
    }
    Some(bytes::text(&unescaped).into_owned())
}

fn simple_escape(c: char, quote: char) -> Option<u8> {
    Some(match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        _ if c == quote => c as u8,
        _ => return None,
    })
}
