//! Builds node trees from the events of a YAML parser, expanding aliases and merge keys under a budget.
//!
//! Most documents are of the plain part of YAML that `plain` reads, which is tried first.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, StructureStyle};
use smol_str::SmolStr;

use super::super::meter::{self, Meter, Over, Size};
use super::super::read::ReadError;
use super::super::tabs::{self, Refused};
use super::super::unfinished::Unfinished;
use super::super::v1_1::{Unclear, lenient, unified};
use super::scalar::resolve;
use super::{Content, Node, Style, Tag, plain};

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
            nodes: 5_000_000,
            bytes: meter::MAX_BYTES,
        }
    }
}

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The text is not YAML; fix the text.
    #[error("malformed YAML: line {line}: {reason}")]
    Syntax {
        /// The line within its document, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is not UTF-8, or holds a control character that YAML forbids.
    #[error("malformed YAML: {0}")]
    Characters(&'static str),
    /// A line that begins with `---` goes on with something else than a comment.
    #[error("invalid document separator: {0}")]
    Separator(String),
    /// A document grew past a bound; nothing helps but a smaller document.
    #[error("YAML document exceeds {limit} {what}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A merge key `<<` has no map to merge, or stands twice.
    #[error("invalid merge key: {0}")]
    Merge(&'static str),
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
            return Err(ParseError::Separator(text[begin + 1..end].trim().to_string()));
        }
        parts.push(&text[start..=begin]);
        start = end + 1;
        from = end + 1;
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// Reads every document of a file and says how many parts it has; documents that are empty or null are left out.
pub fn decode_documents(bytes: &[u8], limits: Limits) -> Result<(usize, Vec<Node>), ParseError> {
    let text = decode(bytes)?;
    let parts = split_documents(&text)?;
    let mut documents = Vec::with_capacity(parts.len());
    for part in &parts {
        if let Some(node) = parse_text(part, limits)?
            && !node.is_null()
        {
            documents.push(node);
        }
    }
    Ok((parts.len(), documents))
}

/// Reads the first document of a text and leaves the rest unread; `None` when there is none.
pub fn parse_first(bytes: &[u8], limits: Limits) -> Result<Option<Node>, ParseError> {
    parse_text(&decode(bytes)?, limits)
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    let text = crate::yaml::decode(bytes).map_err(|error| match error {
        ReadError::Syntax { line, message } => ParseError::Syntax {
            line,
            reason: message,
        },
        _ => ParseError::Characters("invalid UTF-8"),
    })?;
    let bytes = text.as_bytes();
    // Most files are plain ASCII, where a glance at each byte is enough.
    let is_plain = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let forbidden = |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    let are_plain = |chunk: &[u8]| chunk.iter().fold(true, |all, byte| all & is_plain(byte));
    if !bytes.chunks(64).all(are_plain) && text.contains(forbidden) {
        return Err(ParseError::Characters("control characters are not allowed"));
    }
    Ok(if text.contains('\r') && text.contains("\r\n") {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        text
    })
}

fn parse_text(text: &str, limits: Limits) -> Result<Option<Node>, ParseError> {
    if text.contains('\t')
        && let Some(Refused { line, message }) = tabs::refused(text, options(limits))
    {
        return Err(ParseError::Syntax {
            line,
            reason: message.to_owned(),
        });
    }
    match plain::read(text, limits) {
        Some(node) => Ok(Some(node)),
        None => parse_whole(text, limits),
    }
}

fn options(limits: Limits) -> granit_parser::Options {
    let mut options = granit_parser::Options::default();
    options.block_nesting_limit = limits.depth * 2 + 8;
    options.flow_nesting_limit = limits.depth * 2 + 8;
    // Another crate of a build may switch the parser's comment events on.
    options.set_emit_comments(false);
    options
}

/// Reads the first document with the parser that knows all of YAML.
pub(super) fn parse_whole(text: &str, limits: Limits) -> Result<Option<Node>, ParseError> {
    let options = options(limits);
    let text = unified(text, options.clone()).map_err(|Unclear { line, message }| ParseError::Syntax {
        line,
        reason: message,
    })?;
    match parse_with(&text, limits, options.clone()) {
        Err(refused @ ParseError::Syntax { .. }) => match lenient(&text, &options) {
            Some(text) => parse_with(&text, limits, options),
            None => Err(refused),
        },
        other => other,
    }
}

fn parse_with(
    text: &str,
    limits: Limits,
    options: granit_parser::Options,
) -> Result<Option<Node>, ParseError> {
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        limits,
        meter: Meter::new(limits.nodes, limits.bytes),
        items: Vec::new(),
        fields: Vec::new(),
        unfinished: Unfinished::of(text),
    };
    let root = loop {
        match builder.next()? {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(None),
            event => break builder.node(event, 0)?,
        }
    };
    // What follows is not read, but has to be YAML where another document starts.
    while !matches!(builder.next()?, Event::StreamEnd | Event::DocumentStart(..)) {}
    builder.next()?;
    Ok(Some(root))
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Finished anchors with what they stand for.
    anchors: HashMap<usize, (Node, Size)>,
    limits: Limits,
    meter: Meter,
    /// What the open lists hold so far, the innermost last: each is allocated once, in its size.
    items: Vec<Node>,
    /// What the open maps hold so far, likewise.
    fields: Vec<(Node, Node)>,
    /// The last line, when no line break ends it.
    unfinished: Option<Unfinished>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Event<'t>, ParseError> {
        match self.parser.next_event() {
            // The parser writes a tilde where nothing stands; go-yaml tells the two apart.
            Some(Ok((Event::Scalar(_, ScalarStyle::Plain, anchor, tag), span)))
                if span.start.index() == span.end.index() =>
            {
                Ok(Event::Scalar(Cow::Borrowed(""), ScalarStyle::Plain, anchor, tag))
            }
            Some(Ok((Event::Scalar(text, style, anchor, tag), span))) => {
                let text = match &self.unfinished {
                    Some(line) if line.chomped(&text, style, &span).len() < text.len() => {
                        Cow::Owned(line.chomped(&text, style, &span).to_owned())
                    }
                    _ => text,
                };
                Ok(Event::Scalar(text, style, anchor, tag))
            }
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(ParseError::Syntax {
                line: error.marker().line(),
                reason: error.info().to_string(),
            }),
            None => Ok(Event::StreamEnd),
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
            Event::Scalar(text, style, anchor, tag) => {
                self.take(Size {
                    nodes: 0,
                    bytes: text.len(),
                })?;
                (anchor, scalar(text, style, tag.as_deref()))
            }
            Event::SequenceStart(structure, anchor, tag) => {
                let content = Content::Seq(self.items(depth)?);
                (anchor, collection(content, tag.as_deref(), Tag::Seq, structure))
            }
            Event::MappingStart(structure, anchor, tag) => {
                let content = Content::Map(self.fields(depth)?);
                (anchor, collection(content, tag.as_deref(), Tag::Map, structure))
            }
            Event::Alias(id) => {
                let Some(size) = self.anchors.get(&id).map(|(_, size)| *size) else {
                    return Err(self.syntax("an anchor contains itself"));
                };
                self.take(size)?;
                (0, self.anchors[&id].0.clone())
            }
            _ => return Err(self.syntax("a node was expected")),
        };
        if anchor != 0 {
            let size = self.meter.since(before);
            self.meter.keep(size).map_err(over)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn syntax(&self, reason: &str) -> ParseError {
        ParseError::Syntax {
            line: 0,
            reason: reason.to_string(),
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, ParseError> {
        let start = self.items.len();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(self.items.drain(start..).collect()),
                Event::StreamEnd => return Err(self.syntax("the list does not end")),
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
                Event::StreamEnd => return Err(self.syntax("the map does not end")),
                event => self.node(event, depth + 1)?,
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if key.tag != Tag::Merge {
                self.fields.push((key, value));
            } else if merged.replace(value).is_some() {
                return Err(ParseError::Merge("it stands twice in one map"));
            }
        }
        let fields = self.fields.drain(start..).collect();
        match merged {
            Some(value) => self.merge(fields, value),
            None => Ok(fields),
        }
    }

    /// Adds the fields of merged maps that the map does not set itself; of several, the first map wins.
    fn merge(&mut self, mut fields: Vec<(Node, Node)>, value: Node) -> Result<Vec<(Node, Node)>, ParseError> {
        let own = fields.len();
        let maps = match value.content {
            Content::Map(_) => vec![value],
            Content::Seq(items) => items.into_iter().rev().collect(),
            Content::Scalar(_) => return Err(ParseError::Merge("it needs a map or a list of maps")),
        };
        let mut places: HashMap<SmolStr, usize> = HashMap::new();
        for (at, (key, _)) in fields.iter().enumerate() {
            places.entry(key.text().into()).or_insert(at);
        }
        for map in maps {
            let Content::Map(incoming) = map.content else {
                return Err(ParseError::Merge("its list may hold only maps"));
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
}

fn over(over: Over) -> ParseError {
    let (what, limit) = match over {
        Over::Nodes(limit) => ("nodes", limit),
        Over::Bytes(limit) => ("bytes of text", limit),
    };
    ParseError::TooLarge { what, limit }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&granit_parser::Tag>) -> Node {
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::Single,
        ScalarStyle::DoubleQuoted => Style::Double,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    };
    let (tag, tagged) = match tag.and_then(written_tag) {
        Some(tag) => (tag, true),
        None if style != Style::Plain => (Tag::Str, false),
        None => (resolve(&text).tag(), false),
    };
    Node {
        tag,
        tagged,
        style,
        ..Node::of(Content::Scalar(text.into()))
    }
}

fn collection(
    content: Content,
    tag: Option<&granit_parser::Tag>,
    default: Tag,
    structure: StructureStyle,
) -> Node {
    let written = tag.and_then(written_tag);
    let style = if structure == StructureStyle::Flow {
        Style::Flow
    } else {
        Style::Plain
    };
    Node {
        tagged: written.is_some(),
        tag: written.unwrap_or(default),
        style,
        ..Node::of(content)
    }
}

/// Names a written tag; the bare `!` counts as none.
fn written_tag(tag: &granit_parser::Tag) -> Option<Tag> {
    let full = format!("{}{}", tag.handle(), tag.suffix());
    let short = full
        .strip_prefix("tag:yaml.org,2002:")
        .or_else(|| full.strip_prefix("!!"));
    Some(match short {
        Some("null") => Tag::Null,
        Some("bool") => Tag::Bool,
        Some("str") => Tag::Str,
        Some("int") => Tag::Int,
        Some("float") => Tag::Float,
        Some("timestamp") => Tag::Timestamp,
        Some("binary") => Tag::Binary,
        Some("merge") => Tag::Merge,
        Some("map") => Tag::Map,
        Some("seq") => Tag::Seq,
        _ if full == "!" => return None,
        _ => Tag::Other(Box::new(full.into())),
    })
}
