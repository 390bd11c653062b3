//! Builds node trees from the events of a YAML parser, expanding aliases and merge keys under a budget.
//!
//! Most documents are of the plain part of YAML that `plain` reads, which is tried first.

use std::borrow::Cow;
use std::collections::HashMap;

use smol_str::SmolStr;

use super::scalar::plain_tag;
use super::{Content, Node, Style, Tag, plain};
use crate::Version;
use crate::meter::{self, Meter, Over, Size};
use crate::parse::{self, Event, Parser, Properties, Scalar, ScanError, YAML_TAG};
use crate::read::{CONTROL_CHARACTERS, ReadError, forbidden_line};

/// Bounds on what one document may grow to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How deep maps and lists may nest.
    pub depth: usize,
    /// How many nodes a document may have, those that aliases repeat and that are kept for them included.
    pub nodes: usize,
    /// How many bytes its texts may have, likewise.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth: 100,
            nodes: 2_000_000,
            bytes: meter::MAX_BYTES,
        }
    }
}

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The text is not YAML, not UTF-8, or holds a control character that YAML forbids; fix the text.
    #[error("malformed YAML: line {line}: {reason}")]
    Syntax {
        /// The line of the text, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Behind a document stands another that no line `---` splits off; it would be lost.
    #[error("line {line}: another document begins here; put a line of `---` before it")]
    Joined {
        /// The line of the text, from 1.
        line: usize,
    },
    /// A line that begins with `---` goes on with something else than a comment. What stands there is not told.
    #[error("invalid document separator in line {0}")]
    Separator(usize),
    /// A document grew past a bound; nothing helps but a smaller document.
    #[error("YAML document exceeds {limit} {what}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A merge key `<<` has no map to merge, or stands twice.
    #[error("invalid merge key: line {line}: {reason}")]
    Merge {
        /// The line of the text, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl ParseError {
    /// Moves the line of a failure in a part of a text to that of the text, so many lines of which stand above.
    fn below(mut self, above: usize) -> ParseError {
        match &mut self {
            ParseError::Syntax { line, .. }
            | ParseError::Joined { line }
            | ParseError::Separator(line)
            | ParseError::Merge { line, .. } => *line += above,
            ParseError::TooLarge { .. } => {}
        }
        self
    }
}

/// Splits a text into documents as kustomize does: at every line that begins with `---`.
pub fn split_documents(text: &str) -> Result<Vec<&str>, ParseError> {
    let mut parts = Vec::new();
    let (mut start, mut from) = (0, 0);
    if text.is_empty() {
        return Ok(parts);
    }
    while let Some(found) = text[from..].find("\n---") {
        let begin = from + found;
        let Some(length) = text[begin + 1..].find('\n') else {
            break;
        };
        let end = begin + 1 + length;
        let after = text[begin + 4..end].trim();
        if !after.is_empty() && !after.starts_with('#') {
            return Err(ParseError::Separator(2 + text[..begin].matches('\n').count()));
        }
        parts.push(&text[start..=begin]);
        start = end + 1;
        from = end + 1;
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// Hands every part of a file to a function that reads it, and says how many there are; documents that are empty or
/// null are left out.
///
/// For callers that bound what all documents together grow to: each is read, by [`Part::read`], with what those before
/// it left.
///
/// # Errors
///
/// A text that cannot be split, and what the function fails with, which ends the reading.
pub fn decode_documents<E: From<ParseError>>(
    bytes: &[u8],
    mut read: impl FnMut(Part<'_>) -> Result<Option<Node>, E>,
) -> Result<(usize, Vec<Node>), E> {
    let text = decode(bytes)?;
    let parts = split_documents(&text)?;
    let mut documents = Vec::new();
    let mut above = 0;
    for text in &parts {
        if let Some(node) = read(Part { text, above })?
            && !node.is_null()
        {
            documents.push(node);
        }
        // A part ends with its last line, and behind it stands the separator.
        above += text.matches('\n').count() + 1;
    }
    Ok((parts.len(), documents))
}

/// A part of a file that separators split.
#[derive(Debug, Clone, Copy)]
pub struct Part<'t> {
    text: &'t str,
    /// How many lines of the file stand above it.
    above: usize,
}

impl Part<'_> {
    /// Returns how many bytes of text the part has.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the line of the file, from 1, that the part begins with.
    pub fn line(&self) -> usize {
        self.above + 1
    }

    /// Reads the document of the part; `None` when there is none.
    ///
    /// # Errors
    ///
    /// Besides a document that cannot be read, more than one, as JSON texts one after the other are.
    pub fn read(&self, limits: Limits) -> Result<Option<Node>, ParseError> {
        if let Some(node) = plain::read(self.text, limits) {
            return Ok(Some(node));
        }
        parse_only(self.text, limits).map_err(|error| error.below(self.above))
    }
}

/// Reads the first document of a text and leaves the rest unread; `None` when there is none.
pub fn parse_first(bytes: &[u8], limits: Limits) -> Result<Option<Node>, ParseError> {
    parse_document(&decode(bytes)?, limits)
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    let text = crate::decode(bytes).map_err(|error| match error {
        ReadError::Syntax { line, message } => ParseError::Syntax {
            line,
            reason: message,
        },
        other => ParseError::Syntax {
            line: 1,
            reason: other.to_string(),
        },
    })?;
    if let Some(line) = forbidden_line(&text) {
        return Err(ParseError::Syntax {
            line,
            reason: CONTROL_CHARACTERS.to_owned(),
        });
    }
    Ok(if text.contains('\r') && text.contains("\r\n") {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        text
    })
}

/// Reads the first document of a decoded text; `None` when there is none.
fn parse_document(text: &str, limits: Limits) -> Result<Option<Node>, ParseError> {
    match plain::read(text, limits) {
        Some(node) => Ok(Some(node)),
        None => parse_whole(text, limits),
    }
}

/// Reads the first document with the parser that knows all of YAML.
pub(super) fn parse_whole(text: &str, limits: Limits) -> Result<Option<Node>, ParseError> {
    Builder::new(text, limits).document()
}

/// As [`parse_whole`], and refuses a text in which another document follows.
fn parse_only(text: &str, limits: Limits) -> Result<Option<Node>, ParseError> {
    let mut builder = Builder::new(text, limits);
    let document = builder.document()?;
    match document.is_some().then(|| builder.following()).flatten() {
        Some(line) => Err(ParseError::Joined { line }),
        None => Ok(document),
    }
}

impl From<ScanError> for ParseError {
    fn from(error: ScanError) -> ParseError {
        ParseError::Syntax {
            line: error.line,
            reason: error.message.to_owned(),
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t>,
    /// Anchors with what they stand for, once that has ended.
    anchors: HashMap<&'t str, Option<(Node, Size)>>,
    limits: Limits,
    meter: Meter,
    /// What the open lists hold so far, the innermost last: each is allocated once, in its size.
    items: Vec<Node>,
    /// What the open maps hold so far, likewise.
    fields: Vec<(Node, Node)>,
    /// The line of the last event.
    line: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, limits: Limits) -> Builder<'t> {
        Builder {
            parser: Parser::new(text, Version::V3),
            anchors: HashMap::new(),
            limits,
            meter: Meter::new(limits.nodes, limits.bytes),
            items: Vec::new(),
            fields: Vec::new(),
            line: 0,
        }
    }

    fn next(&mut self) -> Result<Event<'t>, ParseError> {
        let (event, line) = self.parser.next()?;
        self.line = line;
        Ok(event)
    }

    /// Reads the first document, to its end.
    fn document(&mut self) -> Result<Option<Node>, ParseError> {
        if matches!(self.next()?, Event::StreamEnd) {
            return Ok(None);
        }
        let event = self.next()?;
        let root = self.node(event, 0)?;
        self.next()?;
        Ok(Some(root))
    }

    /// Returns the line on which something follows the first document: another that is not empty, or what is none.
    fn following(&mut self) -> Option<usize> {
        loop {
            match self.parser.next() {
                Ok((Event::StreamEnd, _)) => return None,
                Ok((Event::DocumentStart | Event::DocumentEnd, _)) => {}
                Ok((Event::Scalar(read), _)) if is_nothing(&read) => {}
                Ok((_, line)) => return Some(line),
                Err(error) => return Some(error.line),
            }
        }
    }

    fn take(&mut self, size: Size) -> Result<(), ParseError> {
        self.meter.take(size).map_err(over)
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Node, ParseError> {
        if depth > self.limits.depth {
            return Err(ParseError::TooLarge {
                what: "levels",
                limit: self.limits.depth,
            });
        }
        let before = self.meter.taken();
        self.take(Size { nodes: 1, bytes: 0 })?;
        let (anchor, node) = match event {
            Event::Scalar(read) => {
                self.take(Size {
                    nodes: 0,
                    bytes: read.text.len(),
                })?;
                let tag = self.written_tag(&read.properties)?;
                (read.properties.anchor, scalar(read, tag))
            }
            Event::SequenceStart(properties) => {
                self.open_anchor(&properties);
                let tag = self.written_tag(&properties)?;
                let content = Content::Seq(self.items(depth)?);
                let node = collection(content, properties.flow, tag, Tag::Seq);
                (properties.anchor, node)
            }
            Event::MappingStart(properties) => {
                self.open_anchor(&properties);
                let tag = self.written_tag(&properties)?;
                let content = Content::Map(self.fields(depth)?);
                let node = collection(content, properties.flow, tag, Tag::Map);
                (properties.anchor, node)
            }
            Event::Alias(name) => return self.alias(name),
            _ => return Err(self.syntax("a node was expected".to_owned())),
        };
        if let Some(name) = anchor {
            let size = self.meter.since(before);
            self.meter.keep(size).map_err(over)?;
            self.anchors.insert(name, Some((node.clone(), size)));
        }
        Ok(node)
    }

    /// Names the tag that a node is written with; the bare `!` counts as none. One that has no meaning here is kept as it
    /// is, and counted before.
    fn written_tag(&mut self, properties: &Properties<'_>) -> Result<Option<Tag>, ParseError> {
        let Some(tag) = properties.tag.as_ref().filter(|tag| !tag.is_bare()) else {
            return Ok(None);
        };
        if let Some(tag) = tag.known().as_deref().and_then(known_tag) {
            return Ok(Some(tag));
        }
        self.take(Size {
            nodes: 0,
            bytes: tag.len() + size_of::<SmolStr>(),
        })?;
        let text = tag.text();
        let kept = match without_prefix(&text) {
            Some(short) => format!("!!{short}").into(),
            None => text.into(),
        };
        Ok(Some(Tag::Other(Box::new(kept))))
    }

    fn syntax(&self, reason: String) -> ParseError {
        ParseError::Syntax {
            line: self.line,
            reason,
        }
    }

    fn open_anchor(&mut self, properties: &Properties<'t>) {
        if let Some(name) = properties.anchor {
            self.anchors.insert(name, None);
        }
    }

    fn alias(&mut self, name: &str) -> Result<Node, ParseError> {
        match self.anchors.get(name) {
            Some(Some((node, size))) => {
                self.meter.take(*size).map_err(over)?;
                Ok(node.clone())
            }
            Some(None) => Err(self.syntax(format!("anchor '{name}' value contains itself"))),
            // The name is not told: it may be a secret that begins with `*` and is not quoted.
            None => Err(self.syntax("unknown anchor referenced".to_owned())),
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, ParseError> {
        let start = self.items.len();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(self.items.drain(start..).collect()),
                event => {
                    let item = self.node(event, depth + 1)?;
                    self.items.push(item);
                }
            }
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, ParseError> {
        let start = self.fields.len();
        let mut merged = None;
        loop {
            let key = match self.next()? {
                Event::MappingEnd => break,
                event => self.node(event, depth + 1)?,
            };
            let line = self.line;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if key.tag != Tag::Merge {
                self.fields.push((key, value));
            } else if merged.replace((value, line)).is_some() {
                let reason = "it stands twice in one map";
                return Err(ParseError::Merge { line, reason });
            }
        }
        let fields = self.fields.drain(start..).collect();
        match merged {
            Some((value, line)) => merge(fields, value).map_err(|reason| ParseError::Merge { line, reason }),
            None => Ok(fields),
        }
    }
}

/// Adds the fields of merged maps that the map does not set itself; of several, the first map wins. Fails with what
/// is wrong.
fn merge(mut fields: Vec<(Node, Node)>, value: Node) -> Result<Vec<(Node, Node)>, &'static str> {
    let own = fields.len();
    let maps = match value.content {
        Content::Map(_) => vec![value],
        Content::Seq(items) => items.into_iter().rev().collect(),
        Content::Scalar(_) => return Err("it needs a map or a list of maps"),
    };
    let mut places: HashMap<SmolStr, usize> = HashMap::new();
    for (at, (key, _)) in fields.iter().enumerate() {
        places.entry(key.text().into()).or_insert(at);
    }
    for map in maps {
        let Content::Map(incoming) = map.content else {
            return Err("its list may hold only maps");
        };
        for (key, value) in incoming {
            let known = places.get(key.text()).copied();
            match known {
                Some(index) if index < own => {}
                Some(index) => fields[index] = (key, value),
                None => {
                    places.insert(key.text().into(), fields.len());
                    fields.push((key, value));
                }
            }
        }
    }
    Ok(fields)
}

fn over(over: Over) -> ParseError {
    let (what, limit) = match over {
        Over::Nodes(limit) => ("nodes", limit),
        Over::Bytes(limit) => ("bytes of text", limit),
    };
    ParseError::TooLarge { what, limit }
}

/// Tells whether a scalar stands for that there is none.
fn is_nothing(read: &Scalar<'_>) -> bool {
    read.text.is_empty()
        && read.style == parse::Style::Plain
        && read.properties.anchor.is_none()
        && read.properties.tag.is_none()
}

fn scalar(read: Scalar<'_>, written: Option<Tag>) -> Node {
    let style = match read.style {
        parse::Style::Plain => Style::Plain,
        parse::Style::Single => Style::Single,
        parse::Style::Double => Style::Double,
        parse::Style::Literal => Style::Literal,
        parse::Style::Folded => Style::Folded,
    };
    let (tag, tagged) = match written {
        Some(tag) => (tag, true),
        None if style != Style::Plain => (Tag::Str, false),
        None => (plain_tag(&read.text), false),
    };
    Node {
        tag,
        tagged,
        style,
        ..Node::of(Content::Scalar(read.text.into()))
    }
}

fn collection(content: Content, flow: bool, written: Option<Tag>, default: Tag) -> Node {
    Node {
        tagged: written.is_some(),
        tag: written.unwrap_or(default),
        style: if flow { Style::Flow } else { Style::Plain },
        ..Node::of(content)
    }
}

/// Returns the name of one of YAML's own tags.
fn without_prefix(tag: &str) -> Option<&str> {
    tag.strip_prefix(YAML_TAG).or_else(|| tag.strip_prefix("!!"))
}

/// Names a tag that has a meaning here.
fn known_tag(tag: &str) -> Option<Tag> {
    Some(match without_prefix(tag)? {
        "null" => Tag::Null,
        "bool" => Tag::Bool,
        "str" => Tag::Str,
        "int" => Tag::Int,
        "float" => Tag::Float,
        "timestamp" => Tag::Timestamp,
        "binary" => Tag::Binary,
        "merge" => Tag::Merge,
        "map" => Tag::Map,
        "seq" => Tag::Seq,
        _ => return None,
    })
}
