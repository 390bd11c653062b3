//! Scans scalars without quotes.

use std::borrow::Cow;

use super::ScanError;
use super::text::Cursor;

/// A scalar without quotes.
pub(super) struct Plain<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether a line break followed it.
    pub(super) ends_line: bool,
}

/// Scans the scalar that begins here, in a block of that indentation.
pub(super) fn scan<'t>(
    cursor: &mut Cursor<'t>,
    indent: Option<usize>,
    in_flow: bool,
) -> Result<Plain<'t>, ScanError> {
    let least = indent.map_or(0, |indent| indent + 1);
    let start = cursor.place();
    let mut words = Words {
        text: None,
        from: start,
        to: start,
    };
    let mut lines = Lines::default();
    while !cursor.is_any_document_mark() && cursor.byte(0) != b'#' {
        let from = cursor.place();
        skip_word(cursor, in_flow);
        if cursor.place() > from {
            words.push(cursor, from, &mut lines);
        }
        if !skip_space(cursor, &mut lines, least)? || (!in_flow && cursor.mark.column < least) {
            break;
        }
    }
    Ok(Plain {
        text: words.finish(cursor),
        ends_line: lines.first.is_some(),
    })
}

/// Goes on over all that is neither blank nor the end of the scalar.
fn skip_word(cursor: &mut Cursor<'_>, in_flow: bool) {
    loop {
        let length = cursor.length_until(|byte| match byte {
            b' ' | b'\t' | b':' => true,
            b',' | b'?' | b'[' | b']' | b'{' | b'}' => in_flow,
            _ => false,
        });
        cursor.skip_bytes(length);
        if cursor.byte(0) != b':' || cursor.is_blank_or_end(1) {
            return;
        }
        cursor.skip_ascii(1);
    }
}

/// Goes on over blanks and line breaks; returns whether there are any.
fn skip_space(cursor: &mut Cursor<'_>, lines: &mut Lines, least: usize) -> Result<bool, ScanError> {
    let from = cursor.place();
    loop {
        if cursor.is_blank(0) {
            if lines.first.is_some() && cursor.mark.column < least && cursor.byte(0) == b'\t' {
                return Err(ScanError {
                    line: cursor.mark.line,
                    message: "found a tab character that violates indentation",
                });
            }
            cursor.skip_ascii(1);
        } else if let Some(read) = cursor.take_break() {
            lines.push(read);
        } else {
            return Ok(cursor.place() > from);
        }
    }
}

/// The line breaks between two words of a scalar.
#[derive(Default)]
pub(super) struct Lines {
    /// The first, which folds.
    pub(super) first: Option<char>,
    rest: String,
}

impl Lines {
    pub(super) fn push(&mut self, read: char) {
        match self.first {
            None => self.first = Some(read),
            Some(_) => self.rest.push(read),
        }
    }

    /// Adds a break that does not fold.
    pub(super) fn push_rest(&mut self, read: char) {
        self.rest.push(read);
    }

    /// Writes what the breaks stand for, and forgets them: a blank for a single one, but separators stay.
    pub(super) fn fold(&mut self, out: &mut String) {
        match self.first.take() {
            Some('\n') if self.rest.is_empty() => out.push(' '),
            Some('\n') | None => {}
            Some(separator) => out.push(separator),
        }
        out.push_str(&self.rest);
        self.rest.clear();
    }
}

/// The words of a scalar: a part of the text as long as they stand on one line.
struct Words {
    text: Option<String>,
    from: usize,
    to: usize,
}

impl Words {
    /// Adds the word that ends here.
    fn push(&mut self, cursor: &Cursor<'_>, from: usize, lines: &mut Lines) {
        if lines.first.is_some() {
            let text = self.text.get_or_insert_default();
            text.push_str(cursor.between(self.from, self.to));
            lines.fold(text);
            self.from = from;
        }
        self.to = cursor.place();
    }

    fn finish<'t>(self, cursor: &Cursor<'t>) -> Cow<'t, str> {
        let last = cursor.between(self.from, self.to);
        match self.text {
            None => Cow::Borrowed(last),
            Some(mut text) => {
                text.push_str(last);
                Cow::Owned(text)
            }
        }
    }
}
