//! Lays out lists, maps and scalars in lines.

use super::reread::{is_readable_key, readable};
use super::{MAX_WRITE_DEPTH, Options, Shown, Texts, Tree, WriteError};
use crate::Version;
use crate::natural::sorted;
use crate::shape::{Shape, Style, is_break};

const STEP: i32 = 2;
const MAX_SIMPLE_KEY: usize = 128;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Item,
    Key,
    MapValue,
}

pub(super) struct Emitter {
    pub(super) out: String,
    pub(super) options: Options,
    pub(super) column: usize,
    /// The last thing written separates tokens.
    pub(super) whitespace: bool,
    /// Only indentation and indicators that may share a line with their content stand on this line.
    pub(super) indention: bool,
    /// How many braces and brackets are open.
    flow: usize,
}

/// An emitter that writes behind a text.
pub(super) struct Behind<'t> {
    text: &'t mut String,
    emitter: Emitter,
}

impl Behind<'_> {
    /// Appends a value as one document.
    pub(super) fn append(mut self, value: &impl Tree) -> Result<(), WriteError> {
        self.emitter.out = std::mem::take(self.text);
        let written = self.emitter.node(value, -1, Place::Root, 0);
        self.emitter.indent(0);
        *self.text = self.emitter.out;
        written
    }
}

impl Emitter {
    pub(super) fn new(options: Options) -> Emitter {
        Emitter {
            out: String::new(),
            options,
            column: 0,
            whitespace: true,
            indention: true,
            flow: 0,
        }
    }

    /// Writes behind a text that is empty or ends a line.
    pub(super) fn behind(text: &mut String, options: Options) -> Behind<'_> {
        Behind {
            text,
            emitter: Emitter::new(options),
        }
    }

    pub(super) fn document(self, value: &impl Tree) -> Result<String, WriteError> {
        let mut text = String::new();
        let behind = Behind {
            text: &mut text,
            emitter: self,
        };
        behind.append(value)?;
        Ok(text)
    }

    fn node<V: Tree>(
        &mut self,
        value: &V,
        indent: i32,
        place: Place,
        depth: usize,
    ) -> Result<(), WriteError> {
        if depth > MAX_WRITE_DEPTH && self.options.texts != Texts::Kept {
            return Err(WriteError::Depth);
        }
        if let Some(tag) = value.written_tag() {
            self.plain(&tag);
        }
        match value.shown(self.flow > 0) {
            Shown::Nothing if place == Place::Key => self.plain("''"),
            Shown::Nothing => {}
            Shown::Bool(true) => self.plain("true"),
            Shown::Bool(false) => self.plain("false"),
            Shown::Int(number) => self.plain(&number.to_string()),
            Shown::UInt(number) => self.plain(&number.to_string()),
            // Read back from JSON, a zero with a sign is an integer, which has none.
            Shown::Float(0.0) if self.options.texts == Texts::AsRead => self.plain("0"),
            Shown::Float(number) => self.plain(&crate::number::shortest(number)),
            Shown::Plain(text) => self.plain(text),
            Shown::Text(text, style) => self.string(text, style, indent, place)?,
            Shown::List([], _) => self.plain("[]"),
            Shown::List(items, flow) if flow || self.flow > 0 => self.flow_list(items, indent, depth)?,
            Shown::List(items, _) => self.list(items, indent, place, depth)?,
            Shown::Map(entries) if entries.is_empty() => self.plain("{}"),
            Shown::Map(entries) => self.map(entries, indent, depth)?,
            Shown::Fields([], _) => self.plain("{}"),
            Shown::Fields(fields, flow) if flow || self.flow > 0 => self.flow_map(fields, indent, depth)?,
            Shown::Fields(fields, _) => self.fields(fields, indent, depth)?,
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
        let level = self.options.level_lists && place == Place::MapValue && !self.indention;
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
        let version = match self.options.texts {
            Texts::Indented => Version::V3,
            Texts::AsRead | Texts::Kept => Version::V2,
        };
        for (key, value) in sorted(entries, version) {
            if self.options.texts != Texts::Kept && !is_readable_key(key) {
                return Err(WriteError::Key);
            }
            self.indent(indent);
            if is_simple_key(key, 0) {
                self.string(key, None, indent, Place::Key)?;
                self.colon();
            } else {
                self.indicator("?", true);
                self.string(key, None, indent, Place::MapValue)?;
                self.indent(indent);
                self.indicator(":", true);
            }
            self.node(value, indent, Place::MapValue, depth + 1)?;
        }
        Ok(())
    }

    fn fields<V: Tree>(&mut self, fields: &[(V, V)], indent: i32, depth: usize) -> Result<(), WriteError> {
        let indent = deeper(indent);
        for (key, value) in fields {
            self.indent(indent);
            let tag = key.written_tag().map_or(0, |tag| tag.len());
            let is_simple = match key.shown(false) {
                Shown::Text(text, _) | Shown::Plain(text) => is_simple_key(text, tag),
                Shown::Nothing => true,
                _ => false,
            };
            if is_simple {
                self.node(key, indent, Place::Key, depth + 1)?;
                self.colon();
            } else {
                self.indicator("?", true);
                self.node(key, indent, Place::MapValue, depth + 1)?;
                self.indent(indent);
                self.indicator(":", true);
            }
            self.node(value, indent, Place::MapValue, depth + 1)?;
        }
        Ok(())
    }

    fn flow_list<V: Tree>(&mut self, items: &[V], indent: i32, depth: usize) -> Result<(), WriteError> {
        self.open_flow('[');
        for (at, item) in items.iter().enumerate() {
            self.separate(at);
            self.node(item, indent, Place::Item, depth + 1)?;
        }
        self.close_flow(']');
        Ok(())
    }

    fn flow_map<V: Tree>(&mut self, fields: &[(V, V)], indent: i32, depth: usize) -> Result<(), WriteError> {
        self.open_flow('{');
        for (at, (key, value)) in fields.iter().enumerate() {
            self.separate(at);
            self.node(key, indent, Place::Key, depth + 1)?;
            self.colon();
            self.space();
            self.whitespace = true;
            self.node(value, indent, Place::MapValue, depth + 1)?;
        }
        self.close_flow('}');
        Ok(())
    }

    fn open_flow(&mut self, mark: char) {
        self.space();
        self.put(mark);
        self.flow += 1;
        self.whitespace = true;
    }

    fn close_flow(&mut self, mark: char) {
        self.put(mark);
        self.flow -= 1;
        self.whitespace = false;
        self.indention = false;
    }

    /// Writes what stands before an entry in braces or brackets.
    fn separate(&mut self, at: usize) {
        if at > 0 {
            self.put(',');
            self.put(' ');
        }
        self.whitespace = true;
    }

    fn colon(&mut self) {
        self.put(':');
        self.whitespace = false;
        self.indention = false;
    }

    fn string(
        &mut self,
        text: &str,
        wanted: Option<Style>,
        indent: i32,
        place: Place,
    ) -> Result<(), WriteError> {
        let text = match self.options.texts {
            Texts::AsRead => &*readable(text)?,
            Texts::Indented | Texts::Kept => text,
        };
        let key = place == Place::Key;
        let wanted = match self.options.texts {
            // The reference writes these without the line break behind them.
            Texts::Kept if text.contains('\n') && text.ends_with(['\u{2028}', '\u{2029}']) => Style::Double,
            // Without quotes it would merge.
            Texts::Kept if key && text == "<<" => Style::Double,
            _ => wanted.unwrap_or_else(|| Style::wanted(text)),
        };
        let mut shape = Shape::of(text);
        shape.block &= !shape.tabs || self.options.tabs_in_blocks;
        let style = wanted.possible(&shape, key);
        // A scalar's continuation lines stand one step deeper than what holds it.
        let indent = if indent < 0 { STEP } else { indent + STEP };
        match style {
            Style::Plain if shape.simple && self.column + text.len() < self.options.width => self.plain(text),
            Style::Plain => self.folded(text, None, indent, key),
            Style::Single => self.folded(text, Some('\''), indent, key),
            Style::Double => self.double(text, indent, key),
            Style::Literal => self.literal(text, indent),
            Style::Folded => self.folded_block(text, indent),
        }
        Ok(())
    }

    pub(super) fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    pub(super) fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    pub(super) fn indent(&mut self, indent: i32) {
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

    pub(super) fn space(&mut self) {
        if !self.whitespace {
            self.put(' ');
        }
    }

    pub(super) fn indicator(&mut self, indicator: &str, keeps_indention: bool) {
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
}

fn deeper(indent: i32) -> i32 {
    if indent < 0 { 0 } else { indent + STEP }
}

/// Tells whether a key stands before its colon without a mark of its own; a tag of so many bytes stands before it.
fn is_simple_key(key: &str, tag: usize) -> bool {
    tag + key.len() <= MAX_SIMPLE_KEY && !key.contains(is_break)
}
