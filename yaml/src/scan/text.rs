//! Walks through a text and knows where it is.

use super::Mark;

/// A place in a text that has no NUL, which here stands for its end.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    pub(super) mark: Mark,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Cursor<'t> {
        Cursor {
            text,
            at: 0,
            mark: Mark {
                index: 0,
                line: 1,
                column: 0,
            },
        }
    }

    /// Returns where it is, in bytes.
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// Returns the text from a place to here.
    pub(super) fn since(&self, place: usize) -> &'t str {
        &self.text[place..self.at]
    }

    /// Returns the text between two places.
    pub(super) fn between(&self, from: usize, to: usize) -> &'t str {
        &self.text[from..to]
    }

    /// Goes on over the mark that may begin a text.
    pub(super) fn skip_byte_order_mark(&mut self) {
        if self.at == 0 && self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
    }

    fn rest(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Returns the byte so many bytes ahead.
    pub(super) fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(super) fn is_end(&self, ahead: usize) -> bool {
        self.byte(ahead) == 0
    }

    pub(super) fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.byte(ahead), b' ' | b'\t')
    }

    pub(super) fn is_break(&self, ahead: usize) -> bool {
        break_length(self.text.as_bytes(), self.at + ahead) > 0
    }

    pub(super) fn is_break_or_end(&self, ahead: usize) -> bool {
        self.is_end(ahead) || self.is_break(ahead)
    }

    pub(super) fn is_blank_or_end(&self, ahead: usize) -> bool {
        self.is_blank(ahead) || self.is_break_or_end(ahead)
    }

    /// Tells whether a line that is three of these marks begins here.
    pub(super) fn is_document_mark(&self, mark: u8) -> bool {
        self.mark.column == 0
            && self.byte(0) == mark
            && self.byte(1) == mark
            && self.byte(2) == mark
            && self.is_blank_or_end(3)
    }

    pub(super) fn is_any_document_mark(&self) -> bool {
        self.is_document_mark(b'-') || self.is_document_mark(b'.')
    }

    /// Goes on over so many characters of ASCII that are no line breaks.
    pub(super) fn skip_ascii(&mut self, length: usize) {
        self.at += length;
        self.mark.index += length;
        self.mark.column += length;
    }

    /// Goes on over whole characters that are no line breaks.
    pub(super) fn skip_bytes(&mut self, length: usize) {
        let is_first = |byte: &&u8| (**byte & 0xc0) != 0x80;
        let characters = self.rest()[..length].iter().filter(is_first).count();
        self.at += length;
        self.mark.index += characters;
        self.mark.column += characters;
    }

    /// Goes on over blanks.
    pub(super) fn skip_blanks(&mut self) {
        while self.is_blank(0) {
            self.skip_ascii(1);
        }
    }

    /// Goes on to the end of the line.
    pub(super) fn skip_to_break(&mut self) {
        let length = self.length_until(|_| false);
        self.skip_bytes(length);
    }

    /// Returns how many bytes there are before a line break, the end, or the first byte of ASCII that stops it.
    #[inline]
    pub(super) fn length_until(&self, stops: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        while let Some(&byte) = bytes.get(at) {
            let ends = match byte {
                b'\n' | b'\r' | 0 => true,
                0xc2 | 0xe2 => break_length(bytes, at) > 0,
                _ => stops(byte),
            };
            if ends {
                break;
            }
            at += 1;
        }
        at - self.at
    }

    /// Goes on over a line break, if there is one.
    pub(super) fn skip_break(&mut self) -> bool {
        self.take_break().is_some()
    }

    /// Takes the line break that stands here, as it is read: a separator stays one, all others are `\n`.
    pub(super) fn take_break(&mut self) -> Option<char> {
        let length = break_length(self.text.as_bytes(), self.at);
        let read = match (length, self.byte(2)) {
            (0, _) => return None,
            (3, 0xa8) => '\u{2028}',
            (3, _) => '\u{2029}',
            _ => '\n',
        };
        let is_crlf = length == 2 && self.byte(0) == b'\r';
        self.at += length;
        self.mark.index += if is_crlf { 2 } else { 1 };
        self.mark.column = 0;
        self.mark.line += 1;
        Some(read)
    }

    /// Goes on to a new line, unless one has just begun.
    pub(super) fn end_line(&mut self) {
        if self.mark.column > 0 {
            self.mark.column = 0;
            self.mark.line += 1;
        }
    }

    /// Takes the letters, digits, `_` and `-` that stand here.
    pub(super) fn take_word(&mut self) -> &'t str {
        let from = self.at;
        while self.byte(0).is_ascii_alphanumeric() || matches!(self.byte(0), b'_' | b'-') {
            self.skip_ascii(1);
        }
        self.since(from)
    }

    /// Goes on over blanks and a comment; returns whether the line ends there.
    pub(super) fn skip_line_end(&mut self) -> bool {
        self.skip_blanks();
        if self.byte(0) == b'#' {
            self.skip_to_break();
        }
        self.is_break_or_end(0)
    }
}

/// Returns how many bytes the line break there has; none where there is no break.
fn break_length(bytes: &[u8], at: usize) -> usize {
    let byte = |ahead: usize| bytes.get(at + ahead).copied();
    match byte(0) {
        Some(b'\n') => 1,
        Some(b'\r') if byte(1) == Some(b'\n') => 2,
        Some(b'\r') => 1,
        Some(0xc2) if byte(1) == Some(0x85) => 2,
        Some(0xe2) if byte(1) == Some(0x80) && matches!(byte(2), Some(0xa8 | 0xa9)) => 3,
        _ => 0,
    }
}
