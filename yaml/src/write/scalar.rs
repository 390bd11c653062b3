//! Writes texts in each of their styles.

use super::emitter::Emitter;
use crate::shape::{is_break, is_printable};

impl Emitter {
    /// Writes plain or single-quoted text, folded at blanks past the width unless it is a key.
    pub(super) fn folded(&mut self, text: &str, quote: Option<char>, indent: i32, key: bool) {
        match quote {
            Some(_) => self.indicator("'", false),
            None => self.space(),
        }
        let (mut spaces, mut breaks) = (false, false);
        let last = text.len().saturating_sub(1);
        let mut rest = text.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if c == ' ' {
                let next_is_blank = rest.peek().is_some_and(|(_, next)| *next == ' ');
                let inside = quote.is_none() || (at > 0 && at < last);
                if !key && !spaces && self.column > self.options.width && inside && !next_is_blank {
                    self.indent(indent);
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.line_break();
                }
                self.verbatim_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.indent(indent);
                }
                if quote == Some(c) {
                    self.put(c);
                }
                self.put(c);
                self.indention = false;
                spaces = false;
                breaks = false;
            }
        }
        if quote.is_some() {
            self.put('\'');
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn verbatim_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
    }

    pub(super) fn double(&mut self, text: &str, indent: i32, key: bool) {
        self.indicator("\"", false);
        let mut spaces = false;
        let last = text.len().saturating_sub(1);
        // The reference asks of each character whether the text's first is a byte order mark.
        let marked = text.starts_with('\u{feff}');
        let mut rest = text.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if marked || !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                self.escape(c);
                spaces = false;
            } else if c == ' ' {
                if !key && !spaces && self.column > self.options.width && at > 0 && at < last {
                    self.indent(indent);
                    if rest.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.put('"');
        self.whitespace = false;
        self.indention = false;
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            '\x1b' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => '\0',
        };
        let escaped = match u32::from(c) {
            _ if short != '\0' => format!("\\{short}"),
            code @ ..=0xff => format!("\\x{code:02X}"),
            code @ ..=0xffff => format!("\\u{code:04X}"),
            code => format!("\\U{code:08X}"),
        };
        self.out.push_str(&escaped);
        self.column += escaped.len();
    }

    /// Writes a literal block.
    pub(super) fn literal(&mut self, text: &str, indent: i32) {
        self.block_header("|", text);
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.verbatim_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.indent(indent);
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }

    /// Writes a folded block, in which a line break is doubled where the lines around it begin with no blank.
    pub(super) fn folded_block(&mut self, text: &str, indent: i32) {
        self.block_header(">", text);
        let is_blank = |c: char| matches!(c, ' ' | '\t');
        // The reference means to look at the next line, and looks at the first one.
        let first = text.chars().find(|c| !is_break(*c));
        let doubles = first.is_some_and(|c| !is_blank(c) && c != '\0');
        let (mut breaks, mut leading_blank) = (true, true);
        for c in text.chars() {
            if is_break(c) {
                if !breaks && !leading_blank && c == '\n' && doubles {
                    self.line_break();
                }
                self.verbatim_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.indent(indent);
                    leading_blank = is_blank(c);
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }

    /// Writes what says of a block how it is indented and how it ends.
    fn block_header(&mut self, indicator: &str, text: &str) {
        self.indicator(indicator, false);
        if text.starts_with([' ', '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            self.out.push('2');
        }
        let mut from_end = text.chars().rev();
        let ends = (from_end.next().is_some_and(is_break), from_end.next());
        match ends {
            (false, _) => self.out.push('-'),
            (true, None) => self.out.push('+'),
            (true, Some(before)) if is_break(before) => self.out.push('+'),
            (true, Some(_)) => {}
        }
        self.line_break();
        self.indention = true;
        self.whitespace = true;
    }
}
