//! Reads the plain part of YAML that manifests and values are written in, several times as fast as a whole parser:
//! maps and lists by indentation, scalars and flow collections that end on their line, block scalars.
//!
//! It never refuses a text. For what it does not cover it returns `None`, and the full parser reads the text from its
//! start: anchors, aliases, tags, merge keys, directives, scalars over several lines, tabs, whatever is wrong,
//! whatever comes to a limit. So every error comes from the full parser, and every result here must equal what that
//! parser returns. The tests of both trees, [`super::read`]'s and [`super::node`]'s, compare the two.

mod flow;
mod scalar;

use std::borrow::Cow;
use std::vec::Drain;

use scalar::is_word;

/// Longer keys are left to the full parser, which has a limit for them.
const MAX_KEY: usize = 1000;

/// How a scalar is written that is text whatever it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Single,
    Double,
    Literal,
    Folded,
}

/// What a text becomes. Where it is not `kept`, a node of any value will do.
pub(super) trait Tree<'a> {
    type Node;
    type Key;

    /// Whether folded scalars of one paragraph are read too.
    const FOLDED: bool;
    /// As how many nodes a map that has fields counts beside them.
    const NODES_PER_MAP: usize;

    /// Makes a scalar without quotes; none where the full parser has to.
    fn plain(&self, text: &str, kept: bool) -> Option<Self::Node>;

    /// Makes a scalar in quotes or in a block.
    fn text(&self, text: Cow<'_, str>, written: Written, kept: bool) -> Self::Node;

    /// Makes a key without quotes; none where the full parser has to.
    fn plain_key(&self, text: &'a str) -> Option<Self::Key>;

    /// Makes a key in quotes.
    fn text_key(&self, text: Cow<'a, str>, written: Written) -> Self::Key;

    /// Returns whether the value of that key is kept in the map at the root.
    fn is_wanted(&self, key: &Self::Key) -> bool;

    /// Makes a list.
    fn list(&self, items: Drain<'_, Self::Node>, flow: bool) -> Self::Node;

    /// Makes a map; none where the full parser refuses it.
    fn map(&self, fields: Drain<'_, (Self::Key, Self::Node)>, flow: bool) -> Option<Self::Node>;
}

/// How large a tree may grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) depth: usize,
    pub(super) nodes: usize,
}

/// Returns the only document of a text that is of the plain part; within, none when it has no content.
pub(super) fn read<'a, T: Tree<'a>>(text: &'a str, limits: Limits, tree: T) -> Option<Option<T::Node>> {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    if !has_plain_bytes(text) {
        return None;
    }
    let mut lines = Lines {
        text,
        line: None,
        next: 0,
        tree,
        limits,
        nodes: 0,
        items: Vec::new(),
        fields: Vec::new(),
    };
    lines.advance();
    if lines.line.is_none() {
        return Some(None);
    }
    let node = lines.collection(0, true)?;
    lines.line.is_none().then_some(Some(node))
}

/// Returns whether the text has no bytes that the whole reader forbids, takes for a line break, or removes, and no
/// tab, which means different things in different places.
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

/// What content begins with.
enum Start<K> {
    /// A key; what follows its colon starts there.
    Key(K, usize),
    /// Surely no key.
    Other,
}

struct Lines<'a, T: Tree<'a>> {
    text: &'a str,
    /// The line that is read next; none at the end.
    line: Option<Line>,
    /// Where the line behind it starts.
    next: usize,
    tree: T,
    limits: Limits,
    nodes: usize,
    /// What the open lists hold so far, the innermost last: each is allocated once, in its size.
    items: Vec<T::Node>,
    /// What the open maps hold so far, likewise.
    fields: Vec<(T::Key, T::Node)>,
}

impl<'a, T: Tree<'a>> Lines<'a, T> {
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

    /// Counts a node of that depth; those at a limit are left to the whole reader.
    fn enter(&mut self, depth: usize) -> Option<()> {
        self.nodes += 1;
        (depth < self.limits.depth && self.nodes < self.limits.nodes).then_some(())
    }

    /// Returns whether a dash that begins an item of a list stands there.
    fn is_dash(&self, at: usize, end: usize) -> bool {
        self.byte(at) == Some(b'-') && (at + 1 == end || self.byte(at + 1) == Some(b' '))
    }

    /// Counts what a map takes by itself that has fields and is kept.
    fn enter_map(&mut self, keep: bool) -> Option<()> {
        self.nodes += if keep { T::NODES_PER_MAP } else { 0 };
        (self.nodes < self.limits.nodes).then_some(())
    }

    /// Reads the list or map whose first line is the current one.
    fn collection(&mut self, depth: usize, keep: bool) -> Option<T::Node> {
        let line = self.line?;
        if self.is_dash(line.start, line.end) {
            self.list(line.indent, depth, keep)
        } else {
            self.map(line.indent, depth, keep)
        }
    }

    fn map(&mut self, indent: usize, depth: usize, keep: bool) -> Option<T::Node> {
        self.enter(depth)?;
        self.enter_map(keep)?;
        let first = self.fields.len();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            let Start::Key(key, behind) = self.start(line.start, line.end)? else {
                return None;
            };
            if line.indent > indent {
                return None;
            }
            self.enter(depth + 1)?;
            let keep = keep && (depth > 0 || self.tree.is_wanted(&key));
            let from = self.skip_spaces(behind).min(line.end);
            let value = if self.ends(from, line.end) {
                self.below(indent, true, depth + 1, keep)?
            } else {
                self.inline(from, line.end, indent, depth + 1, keep)?
            };
            if keep {
                self.fields.push((key, value));
            }
        }
        self.tree.map(self.fields.drain(first..), false)
    }

    fn list(&mut self, indent: usize, depth: usize, keep: bool) -> Option<T::Node> {
        self.enter(depth)?;
        let first = self.items.len();
        while let Some(line) = self.line.filter(|line| line.indent >= indent) {
            if line.indent > indent {
                return None;
            }
            if !self.is_dash(line.start, line.end) {
                break;
            }
            let item = self.item(line, depth + 1, keep)?;
            if keep {
                self.items.push(item);
            }
        }
        Some(self.tree.list(self.items.drain(first..), false))
    }

    /// Reads the item of a list whose dash the line begins with.
    fn item(&mut self, line: Line, depth: usize, keep: bool) -> Option<T::Node> {
        let from = self.skip_spaces(line.start + 1).min(line.end);
        if self.ends(from, line.end) {
            return self.below(line.indent, false, depth, keep);
        }
        if self.is_dash(from, line.end) || matches!(self.start(from, line.end)?, Start::Key(..)) {
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

    /// Reads the value of a key or dash that has none on its line: what stands further in below it, or nothing.
    fn below(&mut self, indent: usize, of_key: bool, depth: usize, keep: bool) -> Option<T::Node> {
        self.advance();
        match self.line {
            Some(line) if line.indent > indent => self.collection(depth, keep),
            // A list may stand as far out as the key that it belongs to.
            Some(line) if of_key && line.indent == indent && self.is_dash(line.start, line.end) => {
                self.list(indent, depth, keep)
            }
            _ => {
                self.enter(depth)?;
                self.tree.plain("", keep)
            }
        }
    }

    /// Reads the key that content begins with, if it begins with one.
    fn start(&self, from: usize, end: usize) -> Option<Start<T::Key>> {
        let (key, after) = match self.byte(from)? {
            quote @ (b'"' | b'\'') => {
                let (text, written, after) = self.quoted(quote, from, end)?;
                if self.byte(after) != Some(b':') || after >= end {
                    return Some(Start::Other);
                }
                (self.tree.text_key(text, written), after)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'/' => {
                let Some(colon) = self.colon(from, end) else {
                    return Some(Start::Other);
                };
                let text = &self.text[from..colon];
                if !text.bytes().all(is_word) {
                    return None;
                }
                (self.tree.plain_key(text)?, colon)
            }
            _ => return Some(Start::Other),
        };
        let is_whole = after + 1 == end || self.byte(after + 1) == Some(b' ');
        (is_whole && after - from <= MAX_KEY).then_some(Start::Key(key, after + 1))
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
    fn inline(
        &mut self,
        from: usize,
        end: usize,
        indent: usize,
        depth: usize,
        keep: bool,
    ) -> Option<T::Node> {
        let (node, after) = match self.byte(from)? {
            b'|' | b'>' => {
                self.enter(depth)?;
                return self.block_scalar(from, end, indent, keep);
            }
            b'[' | b'{' | b'"' | b'\'' => self.flow(from, end, depth, keep)?,
            _ => {
                self.enter(depth)?;
                (self.plain_to_end(from, end, keep)?, end)
            }
        };
        let comment = || self.byte(after) == Some(b' ') && self.byte(self.skip_spaces(after)) == Some(b'#');
        if after < end && !comment() {
            return None;
        }
        self.advance();
        Some(node)
    }
}
