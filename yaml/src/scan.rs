//! Scans text into tokens, in the language of go-yaml: YAML 1.1 as libyaml has it, with Go's own leniencies.
//!
//! It differs from a scanner of YAML 1.2 in what ends a line (U+0085, U+2028 and U+2029 do), in where tabs may stand,
//! in that nothing is asked of the indentation within quotes, and in what may follow an indicator in a flow
//! collection. Both versions of go-yaml share it but for how far they look ahead.

mod block;
mod directive;
mod flow;
mod plain;
#[cfg(test)]
mod tests;
mod text;
mod token;

use std::collections::VecDeque;

use crate::Version;
use text::Cursor;
pub(crate) use token::{Style, Token, TokenKind};

/// How deep brackets and braces, and how deep indentation may nest, as in the reference.
const MAX_LEVELS: usize = 10_000;
/// How many characters a key may have that its colon follows.
const MAX_SIMPLE_KEY: usize = 1024;

/// A text is no YAML. It never holds a part of the text, which may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanError {
    /// Where it was noticed, from 1.
    pub(crate) line: usize,
    /// In the words of the reference.
    pub(crate) message: &'static str,
}

/// A place in the text; all but `line`, which counts from 1, count from 0 and in characters.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: usize,
    line: usize,
    column: usize,
}

/// What may turn out to be a key once a colon follows.
#[derive(Debug, Clone, Copy)]
struct SimpleKey {
    possible: bool,
    /// Its first token waits for the colon. One that is an empty list or map in brackets or braces is let go before.
    waits: bool,
    /// It stands where only a key can.
    required: bool,
    /// The number of its first token.
    token: usize,
    mark: Mark,
}

/// Where a key is that began at the start of the text; none is possible yet.
const NO_KEY: SimpleKey = SimpleKey {
    possible: false,
    waits: false,
    required: false,
    token: 0,
    mark: Mark {
        index: 0,
        line: 1,
        column: 0,
    },
};

/// Makes tokens as they are asked for.
pub(crate) struct Scanner<'t> {
    text: Cursor<'t>,
    /// The tokens that are scanned and not yet taken.
    tokens: VecDeque<Token<'t>>,
    /// How many were taken.
    taken: usize,
    /// How many tokens are scanned at least before one is given out.
    ahead: usize,
    /// The columns of the open blocks, outermost first; the innermost is `indent`.
    indents: Vec<Option<usize>>,
    indent: Option<usize>,
    /// How many braces and brackets are open.
    flow: usize,
    /// One for the block, and one for each open brace or bracket.
    keys: Vec<SimpleKey>,
    /// Whether a simple key may begin here.
    key_allowed: bool,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str, version: Version) -> Scanner<'t> {
        Scanner {
            text: Cursor::new(text),
            tokens: VecDeque::new(),
            taken: 0,
            ahead: match version {
                Version::V2 => 1,
                // It looks for comments behind what it gives out.
                Version::V3 => 3,
            },
            indents: Vec::new(),
            indent: None,
            flow: 0,
            keys: vec![NO_KEY],
            key_allowed: true,
        }
    }

    /// Returns the next token without taking it.
    pub(crate) fn peek(&mut self) -> Result<&Token<'t>, ScanError> {
        while self.tokens.len() < self.ahead || self.head_may_be_key()? {
            self.fetch()?;
        }
        match self.tokens.front() {
            Some(token) => Ok(token),
            None => Err(self.error("did not find expected <stream-end>")),
        }
    }

    /// Takes the next token.
    pub(crate) fn next(&mut self) -> Result<Token<'t>, ScanError> {
        self.peek()?;
        self.taken += 1;
        match self.tokens.pop_front() {
            Some(token) => Ok(token),
            None => Err(self.error("did not find expected <stream-end>")),
        }
    }

    fn error(&self, message: &'static str) -> ScanError {
        ScanError {
            line: self.text.mark.line,
            message,
        }
    }

    /// Tells whether the next token may begin a key, so that another one may have to be put before it.
    fn head_may_be_key(&mut self) -> Result<bool, ScanError> {
        // The numbers rise from level to level.
        let first = self.keys.partition_point(|key| key.token < self.taken);
        for level in first..self.keys.len() {
            if self.keys[level].token > self.taken {
                break;
            }
            if self.keys[level].waits && self.is_valid(level)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether the key of a level can still be one: on this line, and short enough.
    fn is_valid(&mut self, level: usize) -> Result<bool, ScanError> {
        let (mark, key) = (self.text.mark, &mut self.keys[level]);
        if !key.possible {
            return Ok(false);
        }
        if key.mark.line < mark.line || key.mark.index + MAX_SIMPLE_KEY < mark.index {
            if key.required {
                return Err(self.error("could not find expected ':'"));
            }
            key.possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    /// Notes that a key may begin here.
    fn save_key(&mut self) -> Result<(), ScanError> {
        if !self.key_allowed {
            return Ok(());
        }
        self.remove_key()?;
        let mark = self.text.mark;
        let key = SimpleKey {
            possible: true,
            waits: true,
            required: self.flow == 0 && self.indent == Some(mark.column),
            token: self.taken + self.tokens.len(),
            mark,
        };
        if let Some(last) = self.keys.last_mut() {
            *last = key;
        }
        Ok(())
    }

    /// Notes that what might have been a key is none.
    fn remove_key(&mut self) -> Result<(), ScanError> {
        let Some(key) = self.keys.last_mut() else {
            return Ok(());
        };
        if key.possible && key.required {
            return Err(self.error("could not find expected ':'"));
        }
        key.possible = false;
        Ok(())
    }

    fn push(&mut self, kind: TokenKind<'t>, line: usize) {
        self.tokens.push_back(Token { kind, line });
    }

    /// Puts a token before the one of that number, or behind all others when that one was taken.
    fn insert(&mut self, number: usize, token: Token<'t>) {
        match number.checked_sub(self.taken) {
            Some(at) => self.tokens.insert(at, token),
            None => self.tokens.push_back(token),
        }
    }

    /// Opens a block at a column, whose first token has that number.
    fn roll_indent(
        &mut self,
        column: usize,
        token: usize,
        kind: TokenKind<'t>,
        line: usize,
    ) -> Result<(), ScanError> {
        if self.flow > 0 || self.indent.is_some_and(|indent| indent >= column) {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = Some(column);
        if self.indents.len() > MAX_LEVELS {
            return Err(self.error("exceeded max depth of 10000"));
        }
        self.insert(token, Token { kind, line });
        Ok(())
    }

    /// Closes the blocks that are further in than a column; all of them when there is none.
    fn unroll_indent(&mut self, column: Option<usize>) {
        if self.flow > 0 {
            return;
        }
        while self.indent > column {
            let line = self.text.mark.line;
            self.push(TokenKind::BlockEnd, line);
            self.indent = self.indents.pop().flatten();
        }
    }

    /// Scans the next token.
    fn fetch(&mut self) -> Result<(), ScanError> {
        self.skip_to_token();
        let column = self.text.mark.column;
        self.unroll_indent(Some(column));
        if self.text.is_end(0) {
            return self.fetch_stream_end();
        }
        let in_flow = self.flow > 0;
        let blank_follows = self.text.is_blank_or_end(1);
        match self.text.byte(0) {
            b'%' if column == 0 => self.fetch_directive(),
            _ if self.text.is_document_mark(b'-') => self.fetch_document_mark(TokenKind::DocumentStart),
            _ if self.text.is_document_mark(b'.') => self.fetch_document_mark(TokenKind::DocumentEnd),
            b'[' => self.fetch_flow_start(TokenKind::FlowSequenceStart),
            b'{' => self.fetch_flow_start(TokenKind::FlowMappingStart),
            b']' => self.fetch_flow_end(TokenKind::FlowSequenceEnd),
            b'}' => self.fetch_flow_end(TokenKind::FlowMappingEnd),
            b',' => self.fetch_flow_entry(),
            b'-' if blank_follows => self.fetch_block_entry(),
            b'?' if in_flow || blank_follows => self.fetch_key(),
            b':' if in_flow || blank_follows => self.fetch_value(),
            b'*' => self.fetch_anchor(TokenKind::Alias),
            b'&' => self.fetch_anchor(TokenKind::Anchor),
            b'!' => self.fetch_tag(),
            b'|' if !in_flow => self.fetch_block_scalar(Style::Literal),
            b'>' if !in_flow => self.fetch_block_scalar(Style::Folded),
            b'\'' => self.fetch_quoted(Style::Single),
            b'"' => self.fetch_quoted(Style::Double),
            b'#' | b'|' | b'>' | b'%' | b'@' | b'`' | b'\t' => {
                Err(self.error("found character that cannot start any token"))
            }
            _ => self.fetch_plain(),
        }
    }

    /// Goes on to where the next token begins, over blanks, comments and line breaks.
    fn skip_to_token(&mut self) {
        self.text.skip_byte_order_mark();
        loop {
            // A tab is no indentation: where a key may begin, nothing can begin with one.
            let tabs_are_blanks = self.flow > 0 || !self.key_allowed;
            while self.text.byte(0) == b' ' || (tabs_are_blanks && self.text.byte(0) == b'\t') {
                self.text.skip_ascii(1);
            }
            if self.text.byte(0) == b'#' {
                self.text.skip_to_break();
            }
            if !self.text.skip_break() {
                return;
            }
            if self.flow == 0 {
                self.key_allowed = true;
            }
        }
    }

    fn fetch_stream_end(&mut self) -> Result<(), ScanError> {
        let Mark { line, column, .. } = self.text.mark;
        let line = if column == 0 {
            line.saturating_sub(1).max(1)
        } else {
            line
        };
        // The end of the text ends its last line, and with it what might have been a key.
        self.text.end_line();
        self.unroll_indent(None);
        self.remove_key()?;
        self.key_allowed = false;
        self.push(TokenKind::StreamEnd, line);
        Ok(())
    }

    fn fetch_directive(&mut self) -> Result<(), ScanError> {
        self.unroll_indent(None);
        self.remove_key()?;
        self.key_allowed = false;
        let line = self.text.mark.line;
        let kind = self.scan_directive()?;
        self.push(kind, line);
        Ok(())
    }

    fn fetch_document_mark(&mut self, kind: TokenKind<'t>) -> Result<(), ScanError> {
        self.unroll_indent(None);
        self.remove_key()?;
        self.key_allowed = false;
        self.push_indicator(kind, 3);
        Ok(())
    }

    /// Pushes a token of that many characters.
    fn push_indicator(&mut self, kind: TokenKind<'t>, length: usize) {
        let line = self.text.mark.line;
        self.text.skip_ascii(length);
        self.push(kind, line);
    }

    fn fetch_flow_start(&mut self, kind: TokenKind<'t>) -> Result<(), ScanError> {
        self.save_key()?;
        self.keys.push(SimpleKey {
            token: self.taken + self.tokens.len(),
            ..NO_KEY
        });
        self.flow += 1;
        if self.flow > MAX_LEVELS {
            return Err(self.error("exceeded max depth of 10000"));
        }
        self.key_allowed = true;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: TokenKind<'t>) -> Result<(), ScanError> {
        self.remove_key()?;
        if self.flow > 0 {
            self.flow -= 1;
            let inner = self.keys.pop();
            if let (Some(inner), Some(outer)) = (inner, self.keys.last_mut()) {
                outer.waits &= outer.token != inner.token;
            }
        }
        self.key_allowed = false;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Result<(), ScanError> {
        self.remove_key()?;
        self.key_allowed = true;
        self.push_indicator(TokenKind::FlowEntry, 1);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<(), ScanError> {
        if self.flow == 0 {
            if !self.key_allowed {
                return Err(self.error("block sequence entries are not allowed in this context"));
            }
            self.roll_indent_here(TokenKind::BlockSequenceStart)?;
        }
        self.remove_key()?;
        self.key_allowed = true;
        self.push_indicator(TokenKind::BlockEntry, 1);
        Ok(())
    }

    fn roll_indent_here(&mut self, kind: TokenKind<'t>) -> Result<(), ScanError> {
        let Mark { line, column, .. } = self.text.mark;
        self.roll_indent(column, self.taken + self.tokens.len(), kind, line)
    }

    fn fetch_key(&mut self) -> Result<(), ScanError> {
        if self.flow == 0 {
            if !self.key_allowed {
                return Err(self.error("mapping keys are not allowed in this context"));
            }
            self.roll_indent_here(TokenKind::BlockMappingStart)?;
        }
        self.remove_key()?;
        self.key_allowed = self.flow == 0;
        self.push_indicator(TokenKind::Key, 1);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<(), ScanError> {
        let level = self.keys.len() - 1;
        if self.is_valid(level)? {
            let SimpleKey { token, mark, .. } = self.keys[level];
            let key = Token {
                kind: TokenKind::Key,
                line: mark.line,
            };
            self.insert(token, key);
            self.roll_indent(mark.column, token, TokenKind::BlockMappingStart, mark.line)?;
            self.keys[level].possible = false;
            self.key_allowed = false;
        } else {
            if self.flow == 0 {
                if !self.key_allowed {
                    return Err(self.error("mapping values are not allowed in this context"));
                }
                self.roll_indent_here(TokenKind::BlockMappingStart)?;
            }
            self.key_allowed = self.flow == 0;
        }
        self.push_indicator(TokenKind::Value, 1);
        Ok(())
    }

    fn fetch_anchor(&mut self, kind: fn(&'t str) -> TokenKind<'t>) -> Result<(), ScanError> {
        self.save_key()?;
        self.key_allowed = false;
        let line = self.text.mark.line;
        self.text.skip_ascii(1);
        let name = self.text.take_word();
        let ends = self.text.is_blank_or_end(0)
            || matches!(
                self.text.byte(0),
                b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`'
            );
        if name.is_empty() || !ends {
            return Err(self.error("did not find expected alphabetic or numeric character"));
        }
        self.push(kind(name), line);
        Ok(())
    }

    fn fetch_tag(&mut self) -> Result<(), ScanError> {
        self.save_key()?;
        self.key_allowed = false;
        let line = self.text.mark.line;
        let kind = self.scan_tag()?;
        self.push(kind, line);
        Ok(())
    }

    fn fetch_block_scalar(&mut self, style: Style) -> Result<(), ScanError> {
        self.remove_key()?;
        self.key_allowed = true;
        let line = self.text.mark.line;
        let text = block::scan(&mut self.text, style, self.indent)?;
        self.push(TokenKind::Scalar(text.into(), style), line);
        Ok(())
    }

    fn fetch_quoted(&mut self, style: Style) -> Result<(), ScanError> {
        self.save_key()?;
        self.key_allowed = false;
        let line = self.text.mark.line;
        let text = flow::scan(&mut self.text, style)?;
        self.push(TokenKind::Scalar(text, style), line);
        Ok(())
    }

    fn fetch_plain(&mut self) -> Result<(), ScanError> {
        self.save_key()?;
        self.key_allowed = false;
        let line = self.text.mark.line;
        let plain = plain::scan(&mut self.text, self.indent, self.flow > 0)?;
        // A line break ends it, behind which a key may begin.
        self.key_allowed = plain.ends_line;
        self.push(TokenKind::Scalar(plain.text, Style::Plain), line);
        Ok(())
    }
}
