//! Writes a value byte for byte as `sigs.k8s.io/yaml` does: keys in its natural order, lists level with
//! their key, lines folded after 80 columns, quotes only where a reader would need them.
//!
//! That library writes JSON first and reads it back as YAML, so what JSON text cannot carry through a YAML
//! reader cannot be written: those are the errors here.

use super::natural::sorted;
use super::shape::{Shape, Style, is_break, is_printable};
use super::value::Value;

/// Lists and maps may be nested this deep; Kubernetes objects stay below 100.
pub const MAX_WRITE_DEPTH: usize = 1000;

const WIDTH: usize = 80;
const STEP: i32 = 2;
const MAX_SIMPLE_KEY: usize = 128;
/// A reader looks so many bytes ahead for the colon after a key, the quotes included.
const MAX_READABLE_KEY: usize = 1024;

/// Why a value has no YAML text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A string holds a character that YAML does not allow even in quotes.
    #[error("yaml: control characters are not allowed")]
    ControlCharacter,
    /// A map key is too long for a reader to find the colon after it, or breaks the line.
    #[error("yaml: did not find expected ',' or '}}'")]
    Key,
    /// The value is nested deeper than [`MAX_WRITE_DEPTH`].
    #[error("yaml: exceeded max depth of {MAX_WRITE_DEPTH}")]
    Depth,
}

/// Returns `value` as one YAML document, ending with a line break.
///
/// # Errors
///
/// Where the reference refuses too: control characters, keys above 1,024 bytes, nesting.
pub fn write(value: &Value) -> Result<String, WriteError> {
    Writer::new(WIDTH, true, Texts::AsRead).document(value)
}

/// Returns `value` as [`write`] does, but with lists below their key and lines of any length.
///
/// # Errors
///
/// As [`write`].
pub fn write_indented(value: &Value) -> Result<String, WriteError> {
    Writer::new(usize::MAX, false, Texts::Indented).document(value)
}

/// Appends a JSON value as one YAML document, to a text that is empty or ends a line: as the reference writes it, but
/// every text reads back as it is.
pub(crate) fn push_json(text: &mut String, value: &serde_json::Value) {
    let mut writer = Writer::new(WIDTH, true, Texts::Kept);
    writer.out = std::mem::take(text);
    // What is kept is never refused.
    let _ = writer.node(value, -1, Place::Root, 0);
    writer.indent(0);
    *text = writer.out;
}

/// Appends text in the plainest style that keeps it as it is, as a block when told to.
pub(crate) fn push_text(out: &mut String, text: &str, indent: usize, block: bool) {
    let shape = Shape::of(text);
    if block && shape.block && !shape.tabs {
        let mut writer = Writer::new(usize::MAX, true, Texts::Kept);
        writer.out = std::mem::take(out);
        writer.literal(text, i32::try_from(indent).unwrap_or(i32::MAX - STEP) + STEP);
        *out = writer.out;
        // The line break behind the block is the caller's.
        if text.ends_with('\n') {
            out.pop();
        }
    } else if shape.plain && !text.is_empty() {
        out.push_str(text);
    } else if shape.single && !text.contains('\n') {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        push_double(out, text);
    }
}

/// Appends text in double quotes.
pub(crate) fn push_double(out: &mut String, text: &str) {
    let mut writer = Writer::new(usize::MAX, true, Texts::Kept);
    writer.out = std::mem::take(out);
    writer.double(text, 0, true);
    *out = writer.out;
}

/// Tells whether the text may be written as a block scalar.
pub(crate) fn is_block_allowed(text: &str) -> bool {
    let shape = Shape::of(text);
    shape.block && !shape.tabs
}

/// What becomes of texts that the reference does not keep.
#[derive(Clone, Copy, PartialEq)]
enum Texts {
    /// They are written as it reads them back from JSON, or refused.
    AsRead,
    /// They are written as its third version does, which reads nothing back.
    Indented,
    /// They are kept.
    Kept,
}

/// What a writer sees of a value.
enum Shown<'v, V> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(&'v str),
    List(&'v [V]),
    Map(Vec<(&'v String, &'v V)>),
}

/// A value that can be written.
trait Tree: Sized {
    fn shown(&self) -> Shown<'_, Self>;
}

impl Tree for Value {
    fn shown(&self) -> Shown<'_, Self> {
        match self {
            Value::Null => Shown::Null,
            Value::Bool(flag) => Shown::Bool(*flag),
            Value::Int(number) => Shown::Int(*number),
            Value::UInt(number) => Shown::UInt(*number),
            Value::Float(number) => Shown::Float(*number),
            Value::String(text) => Shown::Text(text),
            Value::List(items) => Shown::List(items),
            Value::Map(map) => Shown::Map(map.iter().collect()),
        }
    }
}

impl Tree for serde_json::Value {
    fn shown(&self) -> Shown<'_, Self> {
        match self {
            serde_json::Value::Null => Shown::Null,
            serde_json::Value::Bool(flag) => Shown::Bool(*flag),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Shown::Int(number),
                (None, Some(number)) => Shown::UInt(number),
                (None, None) => Shown::Float(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::String(text) => Shown::Text(text),
            serde_json::Value::Array(items) => Shown::List(items),
            serde_json::Value::Object(map) => Shown::Map(map.iter().collect()),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Item,
    Key,
    MapValue,
}

struct Writer {
    out: String,
    /// Lines are folded at blanks behind this column.
    width: usize,
    /// Lists stand level with their key.
    level_lists: bool,
    texts: Texts,
    column: usize,
    /// The last thing written separates tokens.
    whitespace: bool,
    /// Only indentation and indicators that may share a line with their content stand on this line.
    indention: bool,
}

impl Writer {
    fn new(width: usize, level_lists: bool, texts: Texts) -> Writer {
        Writer {
            out: String::new(),
            width,
            level_lists,
            texts,
            column: 0,
            whitespace: true,
            indention: true,
        }
    }

    fn document(mut self, value: &impl Tree) -> Result<String, WriteError> {
        self.node(value, -1, Place::Root, 0)?;
        self.indent(0);
        Ok(self.out)
    }

    fn node<V: Tree>(
        &mut self,
        value: &V,
        indent: i32,
        place: Place,
        depth: usize,
    ) -> Result<(), WriteError> {
        if depth > MAX_WRITE_DEPTH && self.texts != Texts::Kept {
            return Err(WriteError::Depth);
        }
        match value.shown() {
            Shown::Null => self.plain("null"),
            Shown::Bool(true) => self.plain("true"),
            Shown::Bool(false) => self.plain("false"),
            Shown::Int(number) => self.plain(&number.to_string()),
            Shown::UInt(number) => self.plain(&number.to_string()),
            Shown::Float(number) => self.plain(&super::number::shortest(number)),
            Shown::Text(text) => self.string(text, indent, place)?,
            Shown::List([]) => self.plain("[]"),
            Shown::List(items) => self.list(items, indent, place, depth)?,
            Shown::Map(entries) if entries.is_empty() => self.plain("{}"),
            Shown::Map(entries) => self.map(entries, indent, depth)?,
        }
        Ok(())
    }

    fn list<V: Tree>(
        &mut self,
        items: &[V],
        indent: i32,
        place: Place,
        depth: usize,
    ) -> Result<(), WriteError> {
        let level = self.level_lists && place == Place::MapValue && !self.indention;
        let indent = if level { indent } else { deeper(indent) };
        for item in items {
            self.indent(indent);
            self.indicator("-", true);
            self.node(item, indent, Place::Item, depth + 1)?;
        }
        Ok(())
    }

    fn map<V: Tree>(
        &mut self,
        entries: Vec<(&String, &V)>,
        indent: i32,
        depth: usize,
    ) -> Result<(), WriteError> {
        let indent = deeper(indent);
        for (key, value) in sorted(entries) {
            let readable =
                self.texts == Texts::Kept || json_length(key) <= MAX_READABLE_KEY && !key.contains('\u{85}');
            if !readable {
                return Err(WriteError::Key);
            }
            self.indent(indent);
            if key.len() <= MAX_SIMPLE_KEY && !key.contains(is_break) {
                self.string(key, indent, Place::Key)?;
                self.out.push(':');
                self.column += 1;
                self.whitespace = false;
                self.indention = false;
            } else {
                self.indicator("?", true);
                self.string(key, indent, Place::MapValue)?;
                self.indent(indent);
                self.indicator(":", true);
            }
            self.node(value, indent, Place::MapValue, depth + 1)?;
        }
        Ok(())
    }

    fn string(&mut self, text: &str, indent: i32, place: Place) -> Result<(), WriteError> {
        let text = match self.texts {
            Texts::AsRead => &*readable(text)?,
            Texts::Indented | Texts::Kept => text,
        };
        let key = place == Place::Key;
        let wanted = match self.texts {
            // The reference writes these without the line break behind them.
            Texts::Kept if text.contains('\n') && text.ends_with(['\u{2028}', '\u{2029}']) => Style::Double,
            _ => Style::wanted(text),
        };
        let mut shape = Shape::of(text);
        shape.block &= !shape.tabs || self.texts == Texts::Indented;
        let style = wanted.possible(&shape, key);
        // A scalar's continuation lines stand one step deeper than what holds it.
        let indent = if indent < 0 { STEP } else { indent + STEP };
        match style {
            Style::Plain if shape.simple && self.column + text.len() < self.width => self.plain(text),
            Style::Plain => self.folded(text, None, indent, key),
            Style::Single => self.folded(text, Some('\''), indent, key),
            Style::Double => self.double(text, indent, key),
            Style::Literal => self.literal(text, indent),
        }
        Ok(())
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn indent(&mut self, indent: i32) {
        let indent = usize::try_from(indent).unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn space(&mut self) {
        if !self.whitespace {
            self.put(' ');
        }
    }

    fn indicator(&mut self, indicator: &str, keeps_indention: bool) {
        self.space();
        self.out.push_str(indicator);
        self.column += indicator.len();
        self.whitespace = false;
        self.indention &= keeps_indention;
    }

    fn plain(&mut self, text: &str) {
        self.space();
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = false;
        self.indention = false;
    }

    /// Writes plain or single-quoted text, folded at blanks past the width unless it is a key.
    fn folded(&mut self, text: &str, quote: Option<char>, indent: i32, key: bool) {
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
                if !key && !spaces && self.column > self.width && inside && !next_is_blank {
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

    fn double(&mut self, text: &str, indent: i32, key: bool) {
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
                if !key && !spaces && self.column > self.width && at > 0 && at < last {
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

    fn literal(&mut self, text: &str, indent: i32) {
        self.indicator("|", false);
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
}

fn deeper(indent: i32) -> i32 {
    if indent < 0 { 0 } else { indent + STEP }
}

/// Returns the text as a YAML reader gets it out of a JSON string: a raw next-line character is a line break
/// there, which folds.
fn readable(text: &str) -> Result<std::borrow::Cow<'_, str>, WriteError> {
    if text.is_ascii() {
        return match text.contains('\x7f') {
            true => Err(WriteError::ControlCharacter),
            false => Ok(text.into()),
        };
    }
    if text.contains(|c| matches!(c, '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')) {
        return Err(WriteError::ControlCharacter);
    }
    if !text.contains('\u{85}') {
        return Ok(text.into());
    }
    Ok(fold(text).into())
}

fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut lines = text.split('\u{85}').peekable();
    let mut empty = 0;
    let mut first = true;
    while let Some(line) = lines.next() {
        // Blanks next to a break go with it; a tab is written as an escape and stays.
        let mut line = if first { line } else { line.trim_start_matches(' ') };
        if lines.peek().is_some() {
            line = line.trim_end_matches(' ');
        }
        if !first {
            if line.is_empty() && lines.peek().is_some() {
                empty += 1;
                continue;
            }
            match empty {
                0 => folded.push(' '),
                count => folded.extend(std::iter::repeat_n('\n', count)),
            }
            empty = 0;
        }
        folded.push_str(line);
        first = false;
    }
    folded
}

/// Returns how many characters the key takes as a JSON string.
fn json_length(key: &str) -> usize {
    2 + key
        .chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
            _ => 1,
        })
        .sum::<usize>()
}
