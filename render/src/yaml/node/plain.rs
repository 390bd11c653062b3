//! Reads the plain part of YAML that manifests are written in, several times as fast as the whole parser: maps and
//! lists by indentation, scalars and flow collections that end on their line, block scalars.
//!
//! It never refuses a text. What is not surely of this part gives nothing, and the whole parser then reads the text
//! from its start: anchors, aliases, tags, merge keys, directives, scalars over several lines, tabs, whatever is
//! wrong, whatever comes to a limit. So each error is the whole parser's, and every tree given here must be the one
//! that the whole parser gives; `tests` holds the two against each other.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use smol_str::SmolStr;

use super::scalar::resolve;
use super::{Content, Limits, Node, Style, Tag};

/// Longer keys are left to the whole parser, which has a limit for them.
const MAX_KEY: usize = 1000;

/// Returns the only document of a text that is of the plain part and has content.
pub(super) fn read(text: &str, limits: Limits) -> Option<Node> {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    if !has_plain_bytes(text) {
        return None;
    }
    let mut lines = Lines {
        text,
        line: None,
        next: 0,
        limits,
        nodes: 0,
        items: Vec::new(),
        fields: Vec::new(),
    };
    lines.advance();
    lines.line?;
    let node = lines.collection(0)?;
    lines.line.is_none().then_some(node)
}

/// Tells whether the text has no bytes that the whole parser forbids, takes for a line break, or removes, and no tab,
/// which means different things in different places.
fn has_plain_bytes(text: &str) -> bool {
    let odd = |byte: u8| (byte < b' ' && byte != b'\n') || byte == 0x7f;
    let bytes = text.as_bytes();
    let is_odd = |chunk: &[u8]| chunk.iter().fold(false, |any, byte| any | odd(*byte));
    if bytes.chunks(64).any(is_odd) {
        return false;
    }
    // The end of the lowest plane, where byte order marks are, is rare enough to be left out whole.
    let is_special =
        |c: char| matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{d7ff}'..='\u{ffff}');
    bytes.is_ascii() || !text.contains(is_special)
}

/// A line with content, without the spaces and the line break at its end.
#[derive(Clone, Copy)]
struct Line {
    /// The column of its content, behind the dashes of the lists that begin on it.
    indent: usize,
    start: usize,
    end: usize,
}

struct Lines<'a> {
    text: &'a str,
    /// The line that is read next; none at the end.
    line: Option<Line>,
    /// Where the line behind it starts.
    next: usize,
    limits: Limits,
    nodes: usize,
    /// What the open lists hold so far, the innermost last: each is allocated once, in its size.
    items: Vec<Node>,
    /// What the open maps hold so far, likewise.
    fields: Vec<(Node, Node)>,
}

impl<'a> Lines<'a> {
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
                let line = &self.text.as_bytes()[start..break_at];
                let blanks = line.iter().rev().take_while(|byte| **byte == b' ').count();
                self.line = Some(Line {
                    indent: start - from,
                    start,
                    end: break_at - blanks,
                });
                return;
            }
        }
        self.line = None;
    }

    /// Counts a node of that depth; those at a limit are left to the whole parser.
    fn enter(&mut self, depth: usize) -> Option<()> {
        self.nodes += 1;
        (depth < self.limits.depth && self.nodes < self.limits.nodes).then_some(())
    }

    /// Tells whether a dash that begins an item of a list stands there.
    fn is_dash(&self, at: usize, end: usize) -> bool {
        self.byte(at) == Some(b'-') && (at + 1 == end || self.byte(at + 1) == Some(b' '))
    }

    /// Reads the list or map whose first line is the current one.
    fn collection(&mut self, depth: usize) -> Option<Node> {
        let line = self.line?;
        if self.is_dash(line.start, line.end) {
            self.list(line.indent, depth)
        } else {
            self.map(line.indent, depth)
        }
    }

    fn map(&mut self, indent: usize, depth: usize) -> Option<Node> {
        self.enter(depth)?;
        let first = self.fields.len();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            let (key, behind) = self.key(line.start, line.end)??;
            if line.indent > indent {
                return None;
            }
            self.enter(depth + 1)?;
            let from = self.skip_spaces(behind).min(line.end);
            let value = if self.ends(from, line.end) {
                self.below(indent, true, depth + 1)?
            } else {
                self.inline(from, line.end, indent, depth + 1)?
            };
            self.fields.push((key, value));
        }
        Some(self.closed_map(first, Style::Plain))
    }

    fn closed_map(&mut self, first: usize, style: Style) -> Node {
        Node {
            tag: Tag::Map,
            style,
            ..Node::of(Content::Map(self.fields.drain(first..).collect()))
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Option<Node> {
        self.enter(depth)?;
        let first = self.items.len();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            if line.indent > indent {
                return None;
            }
            if !self.is_dash(line.start, line.end) {
                break;
            }
            let item = self.item(line, depth + 1)?;
            self.items.push(item);
        }
        Some(self.closed_list(first, Style::Plain))
    }

    fn closed_list(&mut self, first: usize, style: Style) -> Node {
        Node {
            tag: Tag::Seq,
            style,
            ..Node::of(Content::Seq(self.items.drain(first..).collect()))
        }
    }

    /// Reads the item of a list whose dash the line begins with.
    fn item(&mut self, line: Line, depth: usize) -> Option<Node> {
        let from = self.skip_spaces(line.start + 1).min(line.end);
        if self.ends(from, line.end) {
            return self.below(line.indent, false, depth);
        }
        if self.is_dash(from, line.end) || self.key(from, line.end)?.is_some() {
            self.line = Some(Line {
                indent: line.indent + (from - line.start),
                start: from,
                end: line.end,
            });
            return self.collection(depth);
        }
        self.inline(from, line.end, line.indent, depth)
    }

    /// Tells whether nothing but a comment stands between the two; a space is known to stand before it.
    fn ends(&self, from: usize, end: usize) -> bool {
        from == end || self.byte(from) == Some(b'#')
    }

    /// Reads the value of a key or dash that has none on its line: what stands further in below it, or nothing.
    fn below(&mut self, indent: usize, of_key: bool, depth: usize) -> Option<Node> {
        self.advance();
        match self.line {
            Some(line) if line.indent > indent => self.collection(depth),
            // A list may stand as far out as the key that it belongs to.
            Some(line) if of_key && line.indent == indent && self.is_dash(line.start, line.end) => {
                self.list(indent, depth)
            }
            _ => {
                self.enter(depth)?;
                Some(plain(""))
            }
        }
    }

    /// Reads the key that content begins with, and where what follows its colon starts; `Some(None)` when it surely
    /// begins with none.
    fn key(&self, from: usize, end: usize) -> Option<Option<(Node, usize)>> {
        let (key, after) = match self.byte(from)? {
            quote @ (b'"' | b'\'') => {
                let (key, after) = self.quoted(quote, from, end)?;
                if self.byte(after) != Some(b':') || after >= end {
                    return Some(None);
                }
                (key, after)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'/' => {
                let Some(colon) = self.colon(from, end) else {
                    return Some(None);
                };
                let text = &self.text[from..colon];
                if !text.bytes().all(is_word) {
                    return None;
                }
                (plain(text), colon)
            }
            _ => return Some(None),
        };
        let is_whole = after + 1 == end || self.byte(after + 1) == Some(b' ');
        (is_whole && after - from <= MAX_KEY).then_some(Some((key, after + 1)))
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
    fn inline(&mut self, from: usize, end: usize, indent: usize, depth: usize) -> Option<Node> {
        let (node, after) = match self.byte(from)? {
            b'|' | b'>' => {
                self.enter(depth)?;
                return self.block_scalar(from, end, indent);
            }
            b'[' | b'{' => self.flow(from, end, depth)?,
            quote @ (b'"' | b'\'') => {
                self.enter(depth)?;
                self.quoted(quote, from, end)?
            }
            _ => {
                self.enter(depth)?;
                (self.plain_to_end(from, end)?, end)
            }
        };
        let comment = || self.byte(after) == Some(b' ') && self.byte(self.skip_spaces(after)) == Some(b'#');
        if after < end && !comment() {
            return None;
        }
        self.advance();
        Some(node)
    }

    /// Reads the plain scalar that the line ends with, but for a comment.
    fn plain_to_end(&self, from: usize, end: usize) -> Option<Node> {
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
        let node = plain(self.text[from..from + length].trim_end_matches(' '));
        (node.tag != Tag::Merge).then_some(node)
    }

    /// Reads the quoted scalar that starts there; returns the place behind it.
    fn quoted(&self, quote: u8, from: usize, end: usize) -> Option<(Node, usize)> {
        let style = if quote == b'"' {
            Style::Double
        } else {
            Style::Single
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
                    return Some((text_node(&text, style), at + 1));
                }
            };
            text += &self.text[start..at];
            text += stands_for;
            start = at + length;
        }
    }

    /// Reads the flow collection or scalar that starts there; returns the place behind it.
    fn flow(&mut self, from: usize, end: usize, depth: usize) -> Option<(Node, usize)> {
        self.enter(depth)?;
        match self.byte(from).filter(|_| from < end)? {
            b'[' => self.flow_list(from, end, depth),
            b'{' => self.flow_map(from, end, depth),
            quote @ (b'"' | b'\'') => self.quoted(quote, from, end),
            _ => {
                let text = self.word(from, end)?;
                Some((plain(text), from + text.len()))
            }
        }
    }

    /// Returns the plain scalar within a flow collection that starts there and is made of letters, digits and what
    /// never ends one.
    fn word(&self, from: usize, end: usize) -> Option<&'a str> {
        let bytes = &self.text.as_bytes()[from..end];
        let length = bytes.iter().take_while(|byte| is_word(**byte)).count();
        let first = bytes.first().copied()?;
        (length > 0 && first != b'-').then_some(&self.text[from..from + length])
    }

    fn flow_list(&mut self, from: usize, end: usize, depth: usize) -> Option<(Node, usize)> {
        let first = self.items.len();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) == Some(b']') {
            return Some((self.closed_list(first, Style::Flow), at + 1));
        }
        loop {
            let (item, after) = self.flow(at, end, depth + 1)?;
            self.items.push(item);
            at = self.skip_spaces(after);
            match self.byte(at)? {
                b']' => return Some((self.closed_list(first, Style::Flow), at + 1)),
                b',' => at = self.skip_spaces(at + 1),
                _ => return None,
            }
        }
    }

    fn flow_map(&mut self, from: usize, end: usize, depth: usize) -> Option<(Node, usize)> {
        let first = self.fields.len();
        let mut at = self.skip_spaces(from + 1);
        if self.byte(at) == Some(b'}') {
            return Some((self.closed_map(first, Style::Flow), at + 1));
        }
        loop {
            self.enter(depth + 1)?;
            let (key, after) = self.flow_key(at, end)?;
            let (value, after) = self.flow(self.skip_spaces(after), end, depth + 1)?;
            self.fields.push((key, value));
            at = self.skip_spaces(after);
            match self.byte(at)? {
                b'}' => return Some((self.closed_map(first, Style::Flow), at + 1)),
                b',' => at = self.skip_spaces(at + 1),
                _ => return None,
            }
        }
    }

    /// Reads a key of a flow map with its colon; returns the place behind it.
    fn flow_key(&self, from: usize, end: usize) -> Option<(Node, usize)> {
        let (key, after) = match self.byte(from).filter(|_| from < end)? {
            // Behind a quoted key the colon needs no space.
            quote @ (b'"' | b'\'') => self.quoted(quote, from, end)?,
            _ => {
                let text = self.word(from, end)?;
                let after = from + text.len();
                if self.byte(after + 1) != Some(b' ') {
                    return None;
                }
                (plain(text), after)
            }
        };
        (self.byte(after) == Some(b':') && after - from <= MAX_KEY).then_some((key, after + 1))
    }

    /// Reads the lines of a literal scalar whose mark stands there; folded ones are left to the whole parser.
    fn block_scalar(&mut self, from: usize, end: usize, indent: usize) -> Option<Node> {
        let strip = match &self.text[from..end] {
            "|" => false,
            "|-" => true,
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
                // What the last line means without a line break is the whole parser's to say.
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
        Some(text_node(&text, Style::Literal))
    }
}

/// Returns a scalar without quotes, tagged by how it reads.
fn plain(text: &str) -> Node {
    Node {
        tag: resolve(text).tag(),
        ..Node::plain(SmolStr::from(text))
    }
}

/// Returns a scalar that its style makes text.
fn text_node(text: &str, style: Style) -> Node {
    Node {
        style,
        ..Node::string(SmolStr::from(text))
    }
}

/// Tells whether the byte neither ends nor changes a plain scalar, wherever in it and in which it stands.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}
