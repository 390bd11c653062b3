//! Reads YAML as Kubernetes means it: YAML 1.1 scalars, merge keys, keys as text, numbers as JSON has them.
//!
//! Input is hostile: depth, and nodes and bytes after aliases are expanded, are bounded. Nothing of where a value stood
//! is kept.
//!
//! Most texts are of the plain part of YAML that `plain` reads, which is tried first; [`Reader`] reads all of it.

mod plain;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use crate::Version;
use crate::memory::NODES_PER_MAP;
use crate::meter::{self, Meter, Over, Size};
use crate::number::shortest32;
use crate::parse::{Event, Parser, Scalar, ScanError, Style, WrittenTag, YAML_TAG};
use crate::resolve::{Resolved, resolve};
use crate::value::{Map, Value, from_float};

/// How much a document may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of input.
    pub bytes: usize,
    /// Nested lists and maps.
    pub depth: usize,
    /// Scalars, lists and maps, those that aliases repeat and that are kept for them included. A map that has fields
    /// counts for [`NODES_PER_MAP`] more.
    pub nodes: usize,
    /// Bytes of texts, likewise.
    pub expanded: usize,
    /// Whether a key that occurs twice in a map is an error; otherwise the last one counts.
    pub strict: bool,
    /// Whether, even so, a key may stand behind a merge that brought it too, and takes its place.
    pub overrides: bool,
    /// Whether a whole number written as a float stays one, as it does where the reader is told that text is wanted.
    pub floats: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 64 << 20,
            depth: 100,
            nodes: 4_000_000,
            expanded: meter::MAX_BYTES,
            strict: false,
            overrides: false,
            floats: false,
        }
    }
}

/// How [`ReadError::Limit`] names [`Limits::nodes`].
pub const NODES: &str = "number of nodes, aliases expanded,";
/// How it names [`Limits::expanded`].
pub const EXPANDED: &str = "bytes of text, aliases expanded,";

/// Why a text is no YAML that Kubernetes would take. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The text is not YAML.
    #[error("yaml: line {line}: {message}")]
    Syntax {
        /// Where the reader stopped.
        line: usize,
        /// What it found or missed there.
        message: String,
    },
    /// The text is YAML, but has no meaning as JSON.
    #[error("yaml: line {line}: {cause}")]
    Meaning {
        /// Where the value stands.
        line: usize,
        /// What is wrong with it.
        cause: Meaningless,
    },
    /// A key stands twice in a map, which only strict readers refuse.
    #[error("yaml: line {line}: key {key:?} already set in map")]
    DuplicateKey {
        /// Where it stands again.
        line: usize,
        /// The key.
        key: String,
    },
    /// The text costs more than allowed.
    #[error("yaml: line {line}: {limit} exceeds the limit of {allowed}")]
    Limit {
        /// Where it came to the limit.
        line: usize,
        /// Which of the limits.
        limit: &'static str,
        /// Its value.
        allowed: usize,
    },
}

impl ReadError {
    /// Moves the line of a failure in a part of a text to that of the text, so many lines of which stand above.
    pub fn below(mut self, above: usize) -> ReadError {
        let (ReadError::Syntax { line, .. }
        | ReadError::Meaning { line, .. }
        | ReadError::DuplicateKey { line, .. }
        | ReadError::Limit { line, .. }) = &mut self;
        *line += above;
        self
    }
}

/// Why a value has no meaning as JSON, in the words of the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Meaningless {
    /// No anchor of that name stands before the alias.
    #[error("unknown anchor referenced")]
    UnknownAnchor,
    /// An alias stands within what it names.
    #[error("anchor value contains itself")]
    Recursive,
    /// What is merged is no map.
    #[error("map merge requires map or sequence of maps as the value")]
    Merge,
    /// A key is no text, and has none.
    #[error("invalid map key")]
    Key,
    /// A number is infinite, or none.
    #[error("json: unsupported value: not a finite number")]
    NotFinite,
    /// A value is said to be base64 and is not.
    #[error("!!binary value contains invalid base64 data")]
    Base64,
    /// A value does not fit its tag.
    #[error("cannot decode the value as a !!{0}")]
    Tag(String),
}

/// Reads the first document, and nothing after it; an empty text is null.
///
/// # Errors
///
/// See [`ReadError`]; what a document after the first holds is not looked at.
pub fn read(text: &str, limits: &Limits) -> Result<Value, ReadError> {
    if text.len() <= limits.bytes
        && let Some(value) = plain::read(text, limits, None)
    {
        return Ok(value);
    }
    read_whole(text, limits)
}

/// Reads the first document as [`read`] does, but may leave out fields of a map at its root: all are read, and
/// only those that `wanted` names, in lower case, are sure to be there in whatever case they are written.
///
/// # Errors
///
/// As [`read`].
pub fn read_fields(text: &str, limits: &Limits, wanted: &[&str]) -> Result<Value, ReadError> {
    if text.len() <= limits.bytes
        && let Some(value) = plain::read(text, limits, Some(wanted))
    {
        return Ok(value);
    }
    read_whole(text, limits)
}

/// Reads the first document with the reader that knows all of YAML.
fn read_whole(text: &str, limits: &Limits) -> Result<Value, ReadError> {
    check(text, limits)?;
    Reader::new(text, limits)
        .document()
        .map(Option::unwrap_or_default)
}

/// Reads every document of a stream. A document without content is null; a stream of comments has none.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read_all(text: &str, limits: &Limits) -> Result<Vec<Value>, ReadError> {
    check(text, limits)?;
    let mut reader = Reader::new(text, limits);
    let mut documents = Vec::new();
    while let Some(document) = reader.document()? {
        documents.push(document);
    }
    Ok(documents)
}

/// Refuses what costs too much or holds what YAML forbids.
fn check(text: &str, limits: &Limits) -> Result<(), ReadError> {
    if text.len() > limits.bytes {
        return Err(ReadError::Limit {
            line: 1,
            limit: "size in bytes",
            allowed: limits.bytes,
        });
    }
    match forbidden_line(text) {
        Some(line) => Err(ReadError::Syntax {
            line,
            message: CONTROL_CHARACTERS.to_owned(),
        }),
        None => Ok(()),
    }
}

pub(crate) const CONTROL_CHARACTERS: &str = "control characters are not allowed";

/// Returns the line with the first character that YAML forbids, from 1.
pub(crate) fn forbidden_line(text: &str) -> Option<usize> {
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let are_plain = |chunk: &[u8]| chunk.iter().fold(true, |all, byte| all & is_plain(byte));
    // Most texts are plain ASCII, where a glance at each byte is enough.
    if text.as_bytes().chunks(64).all(are_plain) {
        return None;
    }
    let at = text.find(|c| {
        matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}')
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    })?;
    Some(1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..at]).count())
}

struct Reader<'a> {
    parser: Parser<'a>,
    limits: &'a Limits,
    /// Anchors with what they stand for, once that has ended.
    anchors: HashMap<&'a str, Option<(Value, Size)>>,
    meter: Meter,
}

impl From<ScanError> for ReadError {
    fn from(error: ScanError) -> ReadError {
        ReadError::Syntax {
            line: error.line,
            message: error.message.to_owned(),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, limits: &'a Limits) -> Self {
        Reader {
            parser: Parser::new(text, Version::V2),
            limits,
            anchors: HashMap::new(),
            meter: Meter::new(limits.nodes, limits.expanded),
        }
    }

    /// Reads the next document. Its end is where its first node ends, whatever follows.
    fn document(&mut self) -> Result<Option<Value>, ReadError> {
        if matches!(self.parser.next()?.0, Event::StreamEnd) {
            return Ok(None);
        }
        self.anchors.clear();
        let (event, line) = self.parser.next()?;
        let value = self.node(event, line, 0)?;
        self.parser.next()?;
        Ok(Some(value))
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Value, ReadError> {
        if depth > self.limits.depth {
            return Err(ReadError::Limit {
                line,
                limit: "depth",
                allowed: self.limits.depth,
            });
        }
        let before = self.meter.taken();
        self.take(Size { nodes: 1, bytes: 0 }, line)?;
        let anchor = match &event {
            Event::Scalar(Scalar { properties, .. })
            | Event::SequenceStart(properties)
            | Event::MappingStart(properties) => properties.anchor,
            _ => None,
        };
        if let Some(name) = anchor {
            self.anchors.insert(name, None);
        }
        let value = match event {
            Event::Scalar(text) => {
                let size = Size {
                    nodes: 0,
                    bytes: text.text.len(),
                };
                self.take(size, line)?;
                scalar(&text, line, self.limits.floats)?
            }
            Event::SequenceStart(_) => self.list(depth)?,
            Event::MappingStart(_) => self.map(depth)?,
            Event::Alias(name) => return self.alias(name, line),
            _ => return Err(meaning(line, Meaningless::Key)),
        };
        if let Some(name) = anchor {
            let size = self.meter.since(before);
            self.meter.keep(size).map_err(|limit| over(limit, line))?;
            self.anchors.insert(name, Some((value.clone(), size)));
        }
        Ok(value)
    }

    fn take(&mut self, size: Size, line: usize) -> Result<(), ReadError> {
        self.meter.take(size).map_err(|limit| over(limit, line))
    }

    fn alias(&mut self, name: &str, line: usize) -> Result<Value, ReadError> {
        match self.anchors.get(name) {
            Some(Some((value, size))) => {
                self.meter.take(*size).map_err(|limit| over(limit, line))?;
                Ok(value.clone())
            }
            Some(None) => Err(meaning(line, Meaningless::Recursive)),
            None => Err(meaning(line, Meaningless::UnknownAnchor)),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, ReadError> {
        let mut items = Vec::new();
        loop {
            match self.parser.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, ReadError> {
        let mut fields = Fields::default();
        loop {
            let (event, line) = self.parser.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Map(fields.map));
            }
            if !fields.is_counted {
                fields.is_counted = true;
                let size = Size {
                    nodes: NODES_PER_MAP,
                    bytes: 0,
                };
                self.take(size, line)?;
            }
            let key = if is_merge(&event) {
                None
            } else {
                Some(self.key(event, line, depth)?)
            };
            let (event, value_line) = self.parser.next()?;
            let value = self.node(event, value_line, depth + 1)?;
            match key {
                Some(key) => self.insert(key, value, line, false, &mut fields)?,
                None => self.merge(value, value_line, &mut fields)?,
            }
        }
    }

    fn insert(
        &self,
        key: String,
        value: Value,
        line: usize,
        merges: bool,
        fields: &mut Fields,
    ) -> Result<(), ReadError> {
        if self.limits.strict {
            let is_known = fields.map.contains_key(&key);
            if is_known && !fields.merged.contains(&key) {
                return Err(ReadError::DuplicateKey { line, key });
            }
            if merges && self.limits.overrides {
                fields.merged.insert(key.clone());
            } else {
                fields.merged.remove(&key);
            }
        }
        fields.map.insert(key, value);
        Ok(())
    }

    /// Lays a merged map, or several with the first the strongest, over the keys read so far.
    fn merge(&self, value: Value, line: usize, fields: &mut Fields) -> Result<(), ReadError> {
        let refused = || meaning(line, Meaningless::Merge);
        let sources = match value {
            Value::Map(_) => vec![value],
            Value::List(sources) => sources,
            _ => return Err(refused()),
        };
        for source in sources.into_iter().rev() {
            let Value::Map(source) = source else {
                return Err(refused());
            };
            for (key, value) in source {
                self.insert(key, value, line, true, fields)?;
            }
        }
        Ok(())
    }

    fn key(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<String, ReadError> {
        if let Event::Scalar(scalar) = &event
            && scalar.properties.anchor.is_none()
        {
            let size = Size {
                nodes: 1,
                bytes: scalar.text.len(),
            };
            self.take(size, line)?;
            return key_text(decoded(scalar, line)?, line);
        }
        match self.node(event, line, depth + 1)? {
            Value::String(text) => Ok(text),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Int(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(shortest32(number as f32)),
            _ => Err(meaning(line, Meaningless::Key)),
        }
    }
}

/// What is read of a map.
#[derive(Default)]
struct Fields {
    map: Map,
    /// Whether what a map takes by itself is taken.
    is_counted: bool,
    /// The keys that a merge brought and that may be overridden.
    merged: BTreeSet<String>,
}

/// Tells whether a scalar is read by how it looks: without quotes and tag, or with the tag that stands for none.
fn is_implicit(scalar: &Scalar<'_>) -> bool {
    match &scalar.properties.tag {
        None => scalar.style == Style::Plain,
        Some(tag) => tag.is_bare(),
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(scalar) if scalar.text == "<<"
        && (is_implicit(scalar) || has_tag(scalar, "tag:yaml.org,2002:merge")))
}

fn has_tag(scalar: &Scalar<'_>, wanted: &str) -> bool {
    let tag = scalar.properties.tag.as_ref().and_then(WrittenTag::known);
    tag.is_some_and(|tag| tag == wanted)
}

fn over(over: Over, line: usize) -> ReadError {
    let (limit, allowed) = match over {
        Over::Nodes(allowed) => (NODES, allowed),
        Over::Bytes(allowed) => (EXPANDED, allowed),
    };
    ReadError::Limit { line, limit, allowed }
}

enum Decoded {
    Plain(Resolved),
    Text(String),
}

fn scalar(scalar: &Scalar<'_>, line: usize, floats: bool) -> Result<Value, ReadError> {
    match decoded(scalar, line)? {
        Decoded::Text(text) => Ok(Value::String(text)),
        Decoded::Plain(found) => {
            of_plain(found, &scalar.text, floats).ok_or_else(|| meaning(line, Meaningless::NotFinite))
        }
    }
}

/// Returns the value of a plain scalar; none for what is no number in JSON.
fn of_plain(found: Resolved, text: &str, floats: bool) -> Option<Value> {
    Some(match found {
        Resolved::Null => Value::Null,
        Resolved::Bool(flag) => Value::Bool(flag),
        Resolved::Int(number) => Value::Int(number),
        Resolved::UInt(number) => Value::UInt(number),
        Resolved::Float(number) if number.is_finite() && floats => Value::Float(number),
        Resolved::Float(number) if number.is_finite() => from_float(number),
        Resolved::Float(_) => return None,
        Resolved::Timestamp | Resolved::Text => Value::String(text.to_owned()),
    })
}

fn key_text(decoded: Decoded, line: usize) -> Result<String, ReadError> {
    match decoded {
        Decoded::Text(text) => Ok(text),
        Decoded::Plain(found) => key_of_plain(found).ok_or_else(|| meaning(line, Meaningless::Key)),
    }
}

/// Returns the key that a plain scalar other than text is; none for what is no key.
fn key_of_plain(found: Resolved) -> Option<String> {
    match found {
        Resolved::Bool(flag) => Some(flag.to_string()),
        Resolved::Int(number) => Some(number.to_string()),
        // The reference writes such keys with the precision of 32 bits.
        Resolved::Float(number) => Some(match shortest32(number as f32).as_str() {
            "+Inf" => ".inf".into(),
            "-Inf" => "-.inf".into(),
            "NaN" => ".nan".into(),
            finite => finite.into(),
        }),
        _ => None,
    }
}

fn decoded(scalar: &Scalar<'_>, line: usize) -> Result<Decoded, ReadError> {
    let text = &*scalar.text;
    let Some(tag) = &scalar.properties.tag else {
        let found = match scalar.style {
            Style::Plain => resolve(text, Version::V2),
            _ => Resolved::Text,
        };
        return Ok(match found {
            Resolved::Text | Resolved::Timestamp => Decoded::Text(text.to_owned()),
            found => Decoded::Plain(found),
        });
    };
    let tag = tag.known();
    let Some(tag) = tag.as_deref().and_then(|tag| tag.strip_prefix(YAML_TAG)) else {
        return Ok(Decoded::Text(text.to_owned()));
    };
    let found = resolve(text, Version::V2);
    let fits = match (tag, found) {
        ("binary", _) => return binary(text, line),
        ("null", Resolved::Null)
        | ("bool", Resolved::Bool(_))
        | ("int", Resolved::Int(_) | Resolved::UInt(_))
        | ("float", Resolved::Float(_)) => true,
        ("float", Resolved::Int(number)) => return Ok(Decoded::Plain(Resolved::Float(number as f64))),
        ("null" | "bool" | "int" | "float", _) => false,
        ("timestamp", Resolved::Timestamp) => return Ok(Decoded::Text(text.to_owned())),
        ("timestamp", _) => false,
        _ => return Ok(Decoded::Text(text.to_owned())),
    };
    if fits {
        return Ok(Decoded::Plain(found));
    }
    Err(meaning(line, Meaningless::Tag(tag.to_owned())))
}

fn binary(text: &str, line: usize) -> Result<Decoded, ReadError> {
    let bytes = crate::binary::decode(text).ok_or_else(|| meaning(line, Meaningless::Base64))?;
    // JSON replaces what is no UTF-8, and so does the reference.
    Ok(Decoded::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn meaning(line: usize, cause: Meaningless) -> ReadError {
    ReadError::Meaning { line, cause }
}
