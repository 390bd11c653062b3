//! Scalars that end on their line, and block scalars.

use std::borrow::Cow;

use super::{Lines, Tree, Written};

impl<'a, T: Tree<'a>> Lines<'a, T> {
    /// Reads the plain scalar that the line ends with, but for a comment.
    pub(super) fn plain_to_end(&self, from: usize, end: usize, keep: bool) -> Option<T::Node> {
        let bytes = &self.text.as_bytes()[from..end];
        let blank = |at: usize| bytes.get(at).is_none_or(|byte| *byte == b' ');
        match bytes.first()? {
            b'-' | b'?' | b':' if blank(1) => return None,
            b',' | b'[' | b']' | b'{' | b'}' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"'
            | b'%' | b'@' | b'`' => return None,
            _ => {}
        }
        let mut length = bytes.len();
        for at in memchr::memchr2_iter(b':', b'#', bytes) {
            if bytes[at] == b':' && blank(at + 1) {
                return None;
            }
            if bytes[at] == b'#' && at > 0 && bytes[at - 1] == b' ' {
                length = at;
                break;
            }
        }
        let text = self.text[from..from + length].trim_end_matches(' ');
        self.tree.plain(text, keep)
    }

    /// Reads the quoted scalar that starts there; returns the place behind it too.
    pub(super) fn quoted(
        &self,
        quote: u8,
        from: usize,
        end: usize,
    ) -> Option<(Cow<'a, str>, Written, usize)> {
        let written = if quote == b'"' {
            Written::Double
        } else {
            Written::Single
        };
        let bytes = &self.text.as_bytes()[..end];
        let mut text = Cow::Borrowed("");
        let mut start = from + 1;
        loop {
            let at = start + memchr::memchr2(quote, b'\\', &bytes[start..])?;
            let (stands_for, length) = match (bytes[at], bytes.get(at + 1).copied()) {
                (b'\'', Some(b'\'')) if quote == b'\'' => ("'", 2),
                (b'\\', _) if quote == b'\'' => ("\\", 1),
                (b'\\', Some(b'"')) => ("\"", 2),
                (b'\\', Some(b'\\')) => ("\\", 2),
                (b'\\', Some(b'n')) => ("\n", 2),
                (b'\\', Some(b't')) => ("\t", 2),
                (b'\\', _) => return None,
                _ => {
                    text += &self.text[start..at];
                    return Some((text, written, at + 1));
                }
            };
            text += &self.text[start..at];
            text += stands_for;
            start = at + length;
        }
    }

    /// Reads the lines of a literal or folded scalar whose mark stands there. Of the folded ones only those are
    /// read that are one paragraph.
    pub(super) fn block_scalar(
        &mut self,
        from: usize,
        end: usize,
        indent: usize,
        keep: bool,
    ) -> Option<T::Node> {
        let (written, strip) = match &self.text[from..end] {
            "|" => (Written::Literal, false),
            "|-" => (Written::Literal, true),
            ">" if T::FOLDED => (Written::Folded, false),
            ">-" if T::FOLDED => (Written::Folded, true),
            _ => return None,
        };
        let folded = written == Written::Folded;
        let mut text = String::new();
        let first = self.skip_spaces(self.next);
        let inner = first.saturating_sub(self.next);
        if inner <= indent || self.byte(first) == Some(b'\n') {
            return None;
        }
        let mut blanks = 0;
        while self.next < self.text.len() {
            let (start, content) = (self.next, self.skip_spaces(self.next));
            let line_end = self.end_of_line(content);
            if line_end == self.text.len() {
                // Only the whole reader knows what a last line without a line break means.
                return None;
            }
            if content == line_end {
                if content - start > inner {
                    return None;
                }
                blanks += 1;
            } else if content - start < inner {
                break;
            } else {
                if folded && (blanks > 0 || content - start > inner) {
                    return None;
                }
                if folded && text.pop().is_some() {
                    text.push(' ');
                }
                text.extend(std::iter::repeat_n('\n', blanks));
                text.push_str(&self.text[start + inner..=line_end]);
                blanks = 0;
            }
            self.next = line_end + 1;
        }
        if strip {
            text.pop();
        }
        self.advance();
        Some(self.tree.text(Cow::Owned(text), written, keep))
    }
}

/// Returns whether the byte neither ends nor changes a plain scalar, wherever in it and in which it stands.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}
