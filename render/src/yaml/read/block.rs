//! Reads the plain part of YAML that manifests and values are written in, several times as fast as the whole
//! reader: maps and lists by indentation, scalars and flow collections that end on their line, block scalars.
//!
//! It never refuses a text. What is not surely of this part gives nothing, and the whole reader then reads the
//! text from its start: anchors, aliases, tags, merge keys, directives, marks of documents, scalars over several
//! lines, tabs, whatever is wrong, whatever comes to a limit. So each error is the whole reader's, and every
//! answer given here must be the one that the whole reader gives; `tests` holds the two against each other.
//! What a scalar means is decided by the same code for both.

use std::borrow::Cow;

use super::{Limits, Plain, key_of_plain, of_plain, resolve};
use crate::yaml::value::{Map, Value};

/// Longer keys are left to the whole reader, which has a limit for them.
const MAX_KEY: usize = 1000;

/// Returns the only document of a text that is of the plain part. Of a map at the root just the fields that
/// `wanted` names (in lower case) are kept where it is given; the others are read and dropped.
pub(super) fn read(text: &str, limits: &Limits, wanted: Option<&[&str]>) -> Option<Value> {
    if !has_plain_bytes(text) {
        return None;
    }
    let mut block = Block {
        text,
        line: None,
        next: 0,
        limits,
        nodes: 0,
        // A key that occurs twice must not go unseen.
        wanted: wanted.filter(|_| !limits.strict),
    };
    block.advance();
    if block.line.is_none() {
        return Some(Value::Null);
    }
    let value = block.collection(0, true)?;
    block.line.is_none().then_some(value)
}

/// Returns whether the text has no bytes that the whole reader forbids, takes for a line break, or removes, and
/// no tab, which means different things in different places.
fn has_plain_bytes(text: &str) -> bool {
    let odd = |byte: u8| (byte < b' ' && byte != b'\n') || byte == 0x7f;
    let bytes = text.as_bytes();
    if bytes
        .chunks(64)
        .any(|chunk| chunk.iter().fold(false, |any, byte| any | odd(*byte)))
    {
        return false;
    }
    bytes.is_ascii()
        || bytes.windows(3).all(|three| {
            !matches!(
                three,
                [0xc2, 0x80..=0x9f, _] | [0xe2, 0x80, 0xa8 | 0xa9] | [0xef, ..] | [_, 0xc2, 0x80..=0x9f]
            )
        }) && bytes.len() > 2
}

/// A line with content, without the spaces and the line break at its end.
#[derive(Clone, Copy)]
struct Line {
    /// The column of its content, behind the dashes of the lists that begin on it.
    indent: usize,
    start: usize,
    end: usize,
}

/// What content begins with.
enum Start<'a> {
    /// A key; what follows its colon starts there.
    Key(Cow<'a, str>, usize),
    /// Something else.
    Other,
}

struct Block<'a> {
    text: &'a str,
    /// The line that is read next; none at the end.
    line: Option<Line>,
    /// Where the line behind it starts.
    next: usize,
    limits: &'a Limits,
    nodes: usize,
    /// The fields of the root that are kept.
    wanted: Option<&'a [&'a str]>,
}

impl<'a> Block<'a> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Returns the end of the line that starts there, which is the text's when no line break ends it.
    fn end_of_line(&self, start: usize) -> usize {
        memchr::memchr(b'\n', &self.text.as_bytes()[start..]).map_or(self.text.len(), |length| start + length)
    }

    /// Returns where the spaces end that start there.
    fn skip_spaces(&self, from: usize) -> usize {
        let behind = self.text.as_bytes().get(from..).unwrap_or_default();
        from + behind.iter().take_while(|byte| **byte == b' ').count()
    }

    /// Goes on to the next line that has content.
    fn advance(&mut self) {
        while self.next < self.text.len() {
            let from = self.next;
            let start = self.skip_spaces(from);
            let break_at = self.end_of_line(start);
            self.next = break_at + 1;
            if start < break_at && self.byte(start) != Some(b'#') {
                let blanks = self.text.as_bytes()[start..break_at]
                    .iter()
                    .rev()
                    .take_while(|byte| **byte == b' ');
                self.line = Some(Line {
                    indent: start - from,
                    start,
                    end: break_at - blanks.count(),
                });
                return;
            }
        }
        self.line = None;
    }

    /// Counts a node of that depth.
    fn enter(&mut self, depth: usize) -> Option<()> {
        self.nodes += 1;
        (depth <= self.limits.depth && self.nodes <= self.limits.nodes).then_some(())
    }

    /// As [`Self::enter`], for a list or a map: the whole reader's parser counts these in its own way.
    fn enter_collection(&mut self, depth: usize) -> Option<()> {
        self.enter(depth)?;
        (depth < self.limits.depth).then_some(())
    }

    /// Returns whether a dash that begins an item of a list stands there.
    fn is_dash(&self, at: usize, end: usize) -> bool {
        self.byte(at) == Some(b'-') && (at + 1 == end || self.byte(at + 1) == Some(b' '))
    }

    /// Reads the list or map whose first line is the current one.
    fn collection(&mut self, depth: usize, keep: bool) -> Option<Value> {
        let line = self.line?;
        if self.is_dash(line.start, line.end) {
            self.list(line.indent, depth, keep)
        } else {
            self.map(line.indent, depth, keep)
        }
    }

    fn map(&mut self, indent: usize, depth: usize, keep: bool) -> Option<Value> {
        self.enter_collection(depth)?;
        let wanted = self.wanted.filter(|_| depth == 0);
        let mut map = Map::new();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            let Start::Key(key, rest) = self.start(line.start, line.end)? else {
                return None;
            };
            if line.indent > indent {
                return None;
            }
            self.enter(depth)?;
            let keep = keep && wanted.is_none_or(|wanted| is_wanted(&key, wanted));
            let from = self.skip_spaces(rest).min(line.end);
            let value = if self.ends(from, line.end) {
                self.below(indent, true, depth + 1, keep)?
            } else {
                self.inline(from, line.end, indent, depth + 1, keep)?
            };
            if keep && map.insert(key.into_owned(), value).is_some() && self.limits.strict {
                return None;
            }
        }
        Some(Value::Map(map))
    }

    fn list(&mut self, indent: usize, depth: usize, keep: bool) -> Option<Value> {
        self.enter_collection(depth)?;
        let mut items = Vec::new();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            if line.indent > indent {
                return None;
            }
            if !self.is_dash(line.start, line.end) {
                break;
            }
            let item = self.item(line, depth + 1, keep)?;
            if keep {
                items.push(item);
            }
        }
        Some(Value::List(items))
    }

    /// Reads the item of a list whose dash the line begins with.
    fn item(&mut self, line: Line, depth: usize, keep: bool) -> Option<Value> {
        let from = self.skip_spaces(line.start + 1).min(line.end);
        if self.ends(from, line.end) {
            return self.below(line.indent, false, depth, keep);
        }
        let dash = self.is_dash(from, line.end);
        if dash || matches!(self.start(from, line.end)?, Start::Key(..)) {
            self.line = Some(Line {
                indent: line.indent + (from - line.start),
                start: from,
                end: line.end,
            });
            return self.collection(depth, keep);
        }
        self.inline(from, line.end, line.indent, depth, keep)
    }

    /// Returns whether nothing but a comment stands between the two; a space is known to stand before it.
    fn ends(&self, from: usize, end: usize) -> bool {
        from == end || self.byte(from) == Some(b'#')
    }

    /// Reads the value of a key or dash that has none on its line: what stands further in below it, or null.
    fn below(&mut self, indent: usize, of_key: bool, depth: usize, keep: bool) -> Option<Value> {
        self.advance();
        match self.line {
            Some(line) if line.indent > indent => self.collection(depth, keep),
            // A list may stand as far out as the key that it belongs to.
            Some(line) if of_key && line.indent == indent && self.is_dash(line.start, line.end) => {
                self.list(indent, depth, keep)
            }
            _ => {
                self.enter(depth)?;
                Some(Value::Null)
            }
        }
    }

    /// Reads the key that content begins with, if it begins with one.
    fn start(&self, from: usize, end: usize) -> Option<Start<'a>> {
        let (key, after) = match self.byte(from)? {
            quote @ (b'"' | b'\'') => {
                let (text, after) = self.quoted(quote, from, end)?;
                if self.byte(after) != Some(b':') || after >= end {
                    return Some(Start::Other);
                }
                (text, after)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'/' => {
                let Some(colon) = self.colon(from, end) else {
                    return Some(Start::Other);
                };
                let text = &self.text[from..colon];
                if !text.bytes().all(is_word) {
                    return None;
                }
                match resolve(text) {
                    Plain::Text | Plain::Timestamp => (Cow::Borrowed(text), colon),
                    found => (Cow::Owned(key_of_plain(found)?), colon),
                }
            }
            _ => return Some(Start::Other),
        };
        let ends = after + 1 == end || self.byte(after + 1) == Some(b' ');
        (ends && after - from <= MAX_KEY).then_some(Start::Key(key, after + 1))
    }

    /// Returns where the first colon stands that ends a plain key.
    fn colon(&self, from: usize, end: usize) -> Option<usize> {
        let bytes = &self.text.as_bytes()[from..end];
        memchr::memchr_iter(b':', bytes)
            .find(|at| bytes.get(at + 1).is_none_or(|next| *next == b' '))
            .filter(|at| !bytes[..*at].windows(2).any(|two| two == b" #"))
            .map(|at| from + at)
    }

    /// Reads a value that begins behind a key or dash on its line, and goes on to the next line.
    fn inline(&mut self, from: usize, end: usize, indent: usize, depth: usize, keep: bool) -> Option<Value> {
        let first = self.byte(from)?;
        if matches!(first, b'|' | b'>') {
            self.enter(depth)?;
            return self.block_scalar(from, end, indent, keep);
        }
        let (value, after) = match first {
            b'[' | b'{' => self.flow(from, end, depth, keep)?,
            b'"' | b'\'' => {
                self.enter(depth)?;
                let (text, after) = self.quoted(first, from, end)?;
                (kept(keep, || Value::String(text.into_owned())), after)
            }
            _ => {
                self.enter(depth)?;
                (self.plain(from, end, keep)?, end)
            }
        };
        let comment = || self.byte(after) == Some(b' ') && self.byte(self.skip_spaces(after)) == Some(b'#');
        if after < end && !comment() {
            return None;
        }
        self.advance();
        Some(value)
    }

    /// Reads the plain scalar that the line ends with, but for a comment.
    fn plain(&self, from: usize, end: usize, keep: bool) -> Option<Value> {
        let bytes = &self.text.as_bytes()[from..end];
        let blank = |at: usize| bytes.get(at).is_none_or(|byte| *byte == b' ');
        match bytes[0] {
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
        let found = resolve(text);
        if !keep && matches!(found, Plain::Text) {
            return Some(Value::Null);
        }
        of_plain(found, text)
    }

    /// Reads the quoted scalar that starts there; returns the place behind it.
    fn quoted(&self, quote: u8, from: usize, end: usize) -> Option<(Cow<'a, str>, usize)> {
        let bytes = &self.text.as_bytes()[..end];
        let mut text = String::new();
        let mut start = from + 1;
        loop {
            let at = start + memchr::memchr2(quote, b'\\', &bytes[start..])?;
            let next = bytes.get(at + 1).copied();
            let stands_for = match (bytes[at], next) {
                (b'\'', Some(b'\'')) if quote == b'\'' => '\'',
                (b'\\', _) if quote == b'\'' => '\\',
                (b'\\', Some(b'"')) => '"',
                (b'\\', Some(b'\\')) => '\\',
                (b'\\', Some(b'n')) => '\n',
                (b'\\', Some(b't')) => '\t',
                (b'\\', _) => return None,
                _ if text.is_empty() => return Some((Cow::Borrowed(&self.text[start..at]), at + 1)),
                _ => {
                    text.push_str(&self.text[start..at]);
                    return Some((Cow::Owned(text), at + 1));
                }
            };
            text.push_str(&self.text[start..at]);
            text.push(stands_for);
            // A backslash between single quotes stands for itself alone.
            start = at
                + if quote == b'\'' && stands_for == '\\' {
                    1
                } else {
                    2
                };
        }
    }

    /// Reads the flow collection or scalar that starts there; returns the place behind it.
    fn flow(&mut self, from: usize, end: usize, depth: usize, keep: bool) -> Option<(Value, usize)> {
        match self.byte(from).filter(|_| from < end)? {
            b'[' => self.flow_list(from, end, depth, keep),
            b'{' => self.flow_map(from, end, depth, keep),
            quote @ (b'"' | b'\'') => {
                self.enter(depth)?;
                let (text, after) = self.quoted(quote, from, end)?;
                Some((kept(keep, || Value::String(text.into_owned())), after))
            }
            _ => {
                self.enter(depth)?;
                let text = self.word(from, end)?;
                Some((of_plain(resolve(text), text)?, from + text.len()))
            }
        }
    }

    /// Returns the plain scalar within a flow collection that starts there and is made of letters, digits and
    /// what never ends one.
    fn word(&self, from: usize, end: usize) -> Option<&'a str> {
        let bytes = &self.text.as_bytes()[from..end];
        let length = bytes.iter().take_while(|byte| is_word(**byte)).count();
        let first = bytes.first().copied()?;
        let text = &self.text[from..from + length];
        (length > 0 && first != b'-').then_some(text)
    }

    fn flow_list(&mut self, from: usize, end: usize, depth: usize, keep: bool) -> Option<(Value, usize)> {
        self.enter_collection(depth)?;
        let mut items = Vec::new();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) == Some(b']') {
            return Some((Value::List(items), at + 1));
        }
        loop {
            let (item, after) = self.flow(at, end, depth + 1, keep)?;
            if keep {
                items.push(item);
            }
            at = self.skip_spaces(after);
            match self.byte(at)? {
                b']' => return Some((Value::List(items), at + 1)),
                b',' => at = self.skip_spaces(at + 1),
                _ => return None,
            }
        }
    }

    fn flow_map(&mut self, from: usize, end: usize, depth: usize, keep: bool) -> Option<(Value, usize)> {
        self.enter_collection(depth)?;
        let mut map = Map::new();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) == Some(b'}') {
            return Some((Value::Map(map), at + 1));
        }
        loop {
            self.enter(depth)?;
            let (key, after) = self.flow_key(at, end)?;
            let (value, after) = self.flow(self.skip_spaces(after), end, depth + 1, keep)?;
            if keep && map.insert(key, value).is_some() && self.limits.strict {
                return None;
            }
            at = self.skip_spaces(after);
            match self.byte(at)? {
                b'}' => return Some((Value::Map(map), at + 1)),
                b',' => at = self.skip_spaces(at + 1),
                _ => return None,
            }
        }
    }

    /// Reads a key of a flow map with its colon; returns the place behind it.
    fn flow_key(&self, from: usize, end: usize) -> Option<(String, usize)> {
        let (key, after) = match self.byte(from).filter(|_| from < end)? {
            quote @ (b'"' | b'\'') => {
                let (text, after) = self.quoted(quote, from, end)?;
                // Behind a quoted key the colon needs no space.
                (text.into_owned(), after)
            }
            _ => {
                let text = self.word(from, end)?;
                let after = from + text.len();
                if self.byte(after + 1) != Some(b' ') {
                    return None;
                }
                match resolve(text) {
                    Plain::Text | Plain::Timestamp => (text.to_owned(), after),
                    found => (key_of_plain(found)?, after),
                }
            }
        };
        (self.byte(after) == Some(b':') && after - from <= MAX_KEY).then_some((key, after + 1))
    }

    /// Reads the lines of a literal or folded scalar whose mark stands there. Of the folded ones only those are
    /// read that are one paragraph.
    fn block_scalar(&mut self, from: usize, end: usize, indent: usize, keep: bool) -> Option<Value> {
        let folded = self.byte(from) == Some(b'>');
        let strip = match &self.text[from + 1..end] {
            "" => false,
            "-" => true,
            _ => return None,
        };
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
                // What the last line means without a line break is the whole reader's to say.
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
                self.block_line(&mut text, &self.text[start + inner..line_end], blanks, folded);
                blanks = 0;
            }
            self.next = line_end + 1;
        }
        if strip {
            text.pop();
        }
        self.advance();
        Some(kept(keep, || Value::String(text)))
    }

    /// Adds a line to a block scalar, behind the blank lines before it.
    fn block_line(&self, text: &mut String, line: &str, blanks: usize, folded: bool) {
        if folded && text.ends_with('\n') {
            text.pop();
            text.push(' ');
        }
        text.extend(std::iter::repeat_n('\n', blanks));
        text.push_str(line);
        text.push('\n');
    }
}

fn is_wanted(key: &str, wanted: &[&str]) -> bool {
    // A letter outside of ASCII may have a lower case within it.
    wanted.iter().any(|field| key.eq_ignore_ascii_case(field)) || !key.is_ascii()
}

/// Returns whether the byte neither ends nor changes a plain scalar, wherever in it and in which it stands.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

/// Returns the value where it is kept.
fn kept(keep: bool, value: impl FnOnce() -> Value) -> Value {
    if keep { value() } else { Value::Null }
}
