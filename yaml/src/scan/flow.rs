//! Scans scalars in quotes.

use std::borrow::Cow;

use super::plain::Lines;
use super::text::Cursor;
use super::{ScanError, Style};

/// Scans the scalar whose first quote stands here.
pub(super) fn scan<'t>(cursor: &mut Cursor<'t>, style: Style) -> Result<Cow<'t, str>, ScanError> {
    let quote = if style == Style::Single { b'\'' } else { b'"' };
    let line = cursor.mark.line;
    cursor.skip_ascii(1);
    let mut scalar = Scalar {
        text: None,
        from: cursor.place(),
    };
    loop {
        let unfinished = if cursor.is_any_document_mark() {
            Some("found unexpected document indicator")
        } else {
            cursor.is_end(0).then_some("found unexpected end of stream")
        };
        if let Some(message) = unfinished {
            // Where the quote stands, and not where the text ends, is what to look at.
            return Err(ScanError { line, message });
        }
        let is_escaped_break = skip_words(cursor, quote, &mut scalar)?;
        if cursor.byte(0) == quote {
            let text = scalar.finish(cursor);
            cursor.skip_ascii(1);
            return Ok(text);
        }
        skip_space(cursor, &mut scalar, is_escaped_break);
    }
}

/// Goes on to a blank, a line break or the last quote; returns whether a line break there was escaped.
fn skip_words(cursor: &mut Cursor<'_>, quote: u8, scalar: &mut Scalar) -> Result<bool, ScanError> {
    loop {
        let length = cursor.length_until(|byte| {
            matches!(byte, b' ' | b'\t') || byte == quote || (byte == b'\\' && quote == b'"')
        });
        cursor.skip_bytes(length);
        match cursor.byte(0) {
            b'\'' if quote == b'\'' && cursor.byte(1) == b'\'' => {
                cursor.skip_ascii(1);
                scalar.flush(cursor);
                cursor.skip_ascii(1);
                scalar.from = cursor.place();
            }
            b'\\' if quote == b'"' && cursor.is_break(1) => {
                scalar.flush(cursor);
                cursor.skip_ascii(1);
                cursor.skip_break();
                scalar.from = cursor.place();
                return Ok(true);
            }
            b'\\' if quote == b'"' => {
                scalar.flush(cursor);
                let read = escape(cursor)?;
                scalar.text.get_or_insert_default().push(read);
                scalar.from = cursor.place();
            }
            _ => return Ok(false),
        }
    }
}

/// Goes on over blanks and line breaks, which fold.
fn skip_space(cursor: &mut Cursor<'_>, scalar: &mut Scalar, is_escaped_break: bool) {
    let mut lines = Lines::default();
    let mut has_break = is_escaped_break;
    loop {
        if cursor.is_blank(0) {
            cursor.skip_ascii(1);
            continue;
        }
        let before = cursor.place();
        let Some(read) = cursor.take_break() else { break };
        if !has_break {
            scalar.flush_words(cursor, before);
            lines.push(read);
        } else if is_escaped_break {
            lines.push_rest(read);
        } else {
            lines.push(read);
        }
        has_break = true;
    }
    if has_break {
        lines.fold(scalar.text.get_or_insert_default());
        scalar.from = cursor.place();
    }
}

/// Reads the escape that stands here.
fn escape(cursor: &mut Cursor<'_>) -> Result<char, ScanError> {
    let read = match cursor.byte(1) {
        b'0' => '\0',
        b'a' => '\x07',
        b'b' => '\x08',
        b't' | b'\t' => '\t',
        b'n' => '\n',
        b'v' => '\x0b',
        b'f' => '\x0c',
        b'r' => '\r',
        b'e' => '\x1b',
        b' ' => ' ',
        b'"' => '"',
        b'\'' => '\'',
        b'\\' => '\\',
        b'N' => '\u{85}',
        b'_' => '\u{a0}',
        b'L' => '\u{2028}',
        b'P' => '\u{2029}',
        b'x' => return code(cursor, 2),
        b'u' => return code(cursor, 4),
        b'U' => return code(cursor, 8),
        _ => return Err(error(cursor, "found unknown escape character")),
    };
    cursor.skip_ascii(2);
    Ok(read)
}

/// Reads so many hexadecimal digits behind the letter of an escape.
fn code(cursor: &mut Cursor<'_>, digits: usize) -> Result<char, ScanError> {
    cursor.skip_ascii(2);
    let mut code = 0;
    for at in 0..digits {
        let digit = char::from(cursor.byte(at)).to_digit(16);
        // The reference's own spelling.
        let digit = digit.ok_or_else(|| error(cursor, "did not find expected hexdecimal number"))?;
        code = (code << 4) | digit;
    }
    let read =
        char::from_u32(code).ok_or_else(|| error(cursor, "found invalid Unicode character escape code"))?;
    cursor.skip_ascii(digits);
    Ok(read)
}

fn error(cursor: &Cursor<'_>, message: &'static str) -> ScanError {
    ScanError {
        line: cursor.mark.line,
        message,
    }
}

/// What is read of a scalar: a part of the text as long as that says what it means.
struct Scalar {
    text: Option<String>,
    /// Where what is not yet in `text` begins.
    from: usize,
}

impl Scalar {
    /// Adds all that is before this place.
    fn flush(&mut self, cursor: &Cursor<'_>) {
        self.text
            .get_or_insert_default()
            .push_str(cursor.since(self.from));
    }

    /// Adds all that is before a place but for the blanks at its end.
    fn flush_words(&mut self, cursor: &Cursor<'_>, to: usize) {
        let words = cursor.between(self.from, to).trim_end_matches([' ', '\t']);
        self.text.get_or_insert_default().push_str(words);
    }

    fn finish<'t>(self, cursor: &Cursor<'t>) -> Cow<'t, str> {
        let last = cursor.since(self.from);
        match self.text {
            None => Cow::Borrowed(last),
            Some(mut text) => {
                text.push_str(last);
                Cow::Owned(text)
            }
        }
    }
}
