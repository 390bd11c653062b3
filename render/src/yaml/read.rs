//! Reads YAML as Kubernetes means it: YAML 1.1 scalars, merge keys, keys as text, numbers as JSON has them.
//!
//! Input is hostile: depth, and the number of nodes after aliases are expanded, are bounded. Nothing of where a
//! value stood is kept.
//!
//! Most texts are of the plain part of YAML that `block` reads, which is tried first; [`Reader`] reads all of it.

mod plain;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag, options};

use super::meter::{self, Meter, Over, Size};
use super::number::shortest32;
use super::resolve::{Plain, resolve};
use super::tabs::{self, Refused};
use super::unfinished::{Unfinished, finished};
use super::v1_1::{Unclear, lenient, unified};
use super::value::{Map, Value, from_float};

/// How much a document may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of input.
    pub bytes: usize,
    /// Nested lists and maps.
    pub depth: usize,
    /// Scalars, lists and maps, those that aliases repeat and that are kept for them included.
    pub nodes: usize,
    /// Bytes of texts, likewise.
    pub expanded: usize,
    /// Whether a key that occurs twice in a map is an error; otherwise the last one counts.
    pub strict: bool,
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
            floats: false,
        }
    }
}

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
    #[error("yaml: line {line}: {message}")]
    Meaning {
        /// Where the value stands.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The text costs more than allowed.
    #[error("yaml: {limit} exceeds the limit of {allowed}")]
    Limit {
        /// Which of the limits.
        limit: &'static str,
        /// Its value.
        allowed: usize,
    },
}

/// Reads the first document, and nothing after it; an empty text is null.
///
/// # Errors
///
/// See [`ReadError`]; what a document after the first holds is not looked at.
pub fn read(text: &str, limits: &Limits) -> Result<Value, ReadError> {
    check_tabs(text, limits)?;
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
pub(crate) fn read_fields(text: &str, limits: &Limits, wanted: &[&str]) -> Result<Value, ReadError> {
    check_tabs(text, limits)?;
    if text.len() <= limits.bytes
        && let Some(value) = plain::read(text, limits, Some(wanted))
    {
        return Ok(value);
    }
    read_whole(text, limits)
}

/// Refuses tabs that go-yaml refuses.
fn check_tabs(text: &str, limits: &Limits) -> Result<(), ReadError> {
    if !text.contains('\t') || text.len() > limits.bytes {
        return Ok(());
    }
    match tabs::refused(text, options(limits)) {
        Some(Refused { line, message }) => Err(ReadError::Syntax {
            line,
            message: message.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Reads the first document with the reader that knows all of YAML.
fn read_whole(text: &str, limits: &Limits) -> Result<Value, ReadError> {
    parsed(text, limits, |mut reader| reader.document()).map(Option::unwrap_or_default)
}

/// Reads every document of a stream. A document without content is null; a stream of comments has none.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read_all(text: &str, limits: &Limits) -> Result<Vec<Value>, ReadError> {
    check_tabs(text, limits)?;
    parsed(text, limits, |mut reader| {
        let mut documents = Vec::new();
        while let Some(document) = reader.document()? {
            documents.push(document);
        }
        Ok(documents)
    })
}

/// Runs a reader over a text; over one that only YAML 1.1 takes, again.
fn parsed<T>(
    text: &str,
    limits: &Limits,
    run: impl Fn(Reader<'_>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let text = checked(text, limits)?;
    match run(Reader::new(&text, limits)) {
        Err(refused @ ReadError::Syntax { .. }) => match lenient(&text, &options(limits)) {
            Some(text) => run(Reader::new(&text, limits)),
            None => Err(refused),
        },
        other => other,
    }
}

/// Returns the documents of a stream as a reader of YAML 1.2 has to see them to read what Kubernetes reads.
///
/// For readers that say more of an error than [`read_all`] does. A stream that is no YAML comes back as it is, for the
/// reader to say so.
///
/// # Errors
///
/// See [`ReadError`]; limits are not looked at, but that of bytes.
pub fn as_yaml_1_2<'a>(text: &'a str, limits: &Limits) -> Result<Cow<'a, str>, ReadError> {
    let text = checked(text, limits)?;
    let text = lenient(&text, &options(limits)).map_or(text, Cow::Owned);
    Ok(finished(text, options(limits)))
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    limits: &'a Limits,
    /// Finished anchors with what they stand for.
    anchors: HashMap<usize, (Value, Size)>,
    meter: Meter,
    /// The last line, when no line break ends it.
    unfinished: Option<Unfinished>,
}

/// Refuses what costs too much or holds what YAML forbids, and makes line breaks those that the parser knows.
fn checked<'a>(text: &'a str, limits: &Limits) -> Result<Cow<'a, str>, ReadError> {
    if text.len() > limits.bytes {
        return Err(ReadError::Limit {
            limit: "size in bytes",
            allowed: limits.bytes,
        });
    }
    if let Some(at) = text.find(forbidden) {
        let line = text[..at].matches('\n').count() + 1;
        return Err(ReadError::Syntax {
            line,
            message: "control characters are not allowed".into(),
        });
    }
    unified(text, options(limits)).map_err(|Unclear { line, message }| ReadError::Syntax { line, message })
}

fn options(limits: &Limits) -> Options {
    let mut options: Options = options! {
        flow_nesting_limit: limits.depth + 1,
        block_nesting_limit: limits.depth + 1,
    };
    options.set_emit_comments(false);
    options
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, limits: &'a Limits) -> Self {
        let parser = Parser::new_from_str_with_options(text, options(limits));
        Reader {
            parser,
            limits,
            anchors: HashMap::new(),
            meter: Meter::new(limits.nodes, limits.expanded),
            unfinished: Unfinished::of(text),
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, ReadError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(cause)) => Err(ReadError::Syntax {
                line: cause.marker().line(),
                message: cause.info(),
            }),
        }
    }

    fn document(&mut self) -> Result<Option<Value>, ReadError> {
        loop {
            match self.next()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), _)) => break,
                Some(_) => {}
            }
        }
        self.anchors.clear();
        let Some((event, span)) = self.next()? else {
            return Ok(Some(Value::Null));
        };
        if matches!(event, Event::DocumentEnd) {
            return Ok(Some(Value::Null));
        }
        let value = self.node(event, &span, 0)?;
        // What follows the root node must end the document, or the text was no document.
        match self.next()? {
            None | Some((Event::DocumentEnd, _)) => Ok(Some(value)),
            Some((_, span)) => Err(ReadError::Syntax {
                line: span.start.line(),
                message: "did not find expected <document start>".into(),
            }),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Value, ReadError> {
        if depth > self.limits.depth {
            return Err(ReadError::Limit {
                limit: "depth",
                allowed: self.limits.depth,
            });
        }
        let before = self.meter.taken();
        self.take(Size { nodes: 1, bytes: 0 })?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = match &self.unfinished {
                    Some(line) => line.chomped(&text, style, span),
                    None => &text,
                };
                self.take(Size {
                    nodes: 0,
                    bytes: text.len(),
                })?;
                (
                    scalar(text, style, tag.as_deref(), span, self.limits.floats)?,
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => return self.alias(id, span),
            other => {
                let message = format!("did not expect {other:?} here");
                return Err(ReadError::Syntax {
                    line: span.start.line(),
                    message,
                });
            }
        };
        if anchor != 0 {
            let size = self.meter.since(before);
            self.keep(size)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn take(&mut self, size: Size) -> Result<(), ReadError> {
        self.meter.take(size).map_err(over)
    }

    fn keep(&mut self, size: Size) -> Result<(), ReadError> {
        self.meter.keep(size).map_err(over)
    }

    fn alias(&mut self, id: usize, span: &Span) -> Result<Value, ReadError> {
        let Some(size) = self.anchors.get(&id).map(|(_, size)| *size) else {
            return Err(meaning(span, "anchor value contains itself"));
        };
        self.take(size)?;
        Ok(self.anchors[&id].0.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Value, ReadError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, ReadError> {
        let mut map = Map::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merges = is_merge(&event);
            let key = if merges {
                String::new()
            } else {
                self.key(event, &span, depth)?
            };
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span, depth + 1)?;
            if merges {
                self.merge(value, &span, &mut map)?;
            } else {
                self.insert(key, value, &span, &mut map)?;
            }
        }
        Ok(Value::Map(map))
    }

    fn insert(&self, key: String, value: Value, span: &Span, map: &mut Map) -> Result<(), ReadError> {
        if self.limits.strict && map.contains_key(&key) {
            return Err(meaning(span, &format!("key {key:?} already set in map")));
        }
        map.insert(key, value);
        Ok(())
    }

    /// Lays a merged map, or several with the first the strongest, over the keys read so far.
    fn merge(&self, value: Value, span: &Span, map: &mut Map) -> Result<(), ReadError> {
        let sources = match value {
            Value::Map(_) => vec![value],
            Value::List(sources) => sources,
            _ => {
                return Err(meaning(
                    span,
                    "map merge requires map or sequence of maps as the value",
                ));
            }
        };
        for source in sources.into_iter().rev() {
            let Value::Map(source) = source else {
                return Err(meaning(
                    span,
                    "map merge requires map or sequence of maps as the value",
                ));
            };
            for (key, value) in source {
                self.insert(key, value, span, map)?;
            }
        }
        Ok(())
    }

    fn key(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<String, ReadError> {
        if let Event::Scalar(text, style, anchor, tag) = &event
            && *anchor == 0
        {
            self.take(Size {
                nodes: 1,
                bytes: text.len(),
            })?;
            return key_text(meant(text, *style, tag.as_deref(), span)?, span);
        }
        match self.node(event, span, depth + 1)? {
            Value::String(text) => Ok(text),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Int(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(shortest32(number as f32)),
            _ => Err(meaning(span, "invalid map key")),
        }
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, tag)
        if text == "<<" && tag.as_deref().is_none_or(|tag| tag.suffix() == "merge"))
}

fn over(over: Over) -> ReadError {
    let (limit, allowed) = match over {
        Over::Nodes(allowed) => ("number of nodes, aliases expanded,", allowed),
        Over::Bytes(allowed) => ("bytes of text, aliases expanded,", allowed),
    };
    ReadError::Limit { limit, allowed }
}

enum Meant {
    Plain(Plain),
    Text(String),
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: &Span,
    floats: bool,
) -> Result<Value, ReadError> {
    match meant(text, style, tag, span)? {
        Meant::Text(text) => Ok(Value::String(text)),
        Meant::Plain(found) => of_plain(found, text, floats)
            .ok_or_else(|| meaning(span, "json: unsupported value: not a finite number")),
    }
}

/// Returns the value of a plain scalar; none for what is no number in JSON.
fn of_plain(found: Plain, text: &str, floats: bool) -> Option<Value> {
    Some(match found {
        Plain::Null => Value::Null,
        Plain::Bool(flag) => Value::Bool(flag),
        Plain::Int(number) => Value::Int(number),
        Plain::UInt(number) => Value::UInt(number),
        Plain::Float(number) if number.is_finite() && floats => Value::Float(number),
        Plain::Float(number) if number.is_finite() => from_float(number),
        Plain::Float(_) => return None,
        Plain::Timestamp | Plain::Text => Value::String(text.to_owned()),
    })
}

fn key_text(meant: Meant, span: &Span) -> Result<String, ReadError> {
    match meant {
        Meant::Text(text) => Ok(text),
        Meant::Plain(found) => key_of_plain(found).ok_or_else(|| meaning(span, "unsupported map key")),
    }
}

/// Returns the key that a plain scalar other than text is; none for what is no key.
fn key_of_plain(found: Plain) -> Option<String> {
    match found {
        Plain::Bool(flag) => Some(flag.to_string()),
        Plain::Int(number) => Some(number.to_string()),
        // The reference writes such keys with the precision of 32 bits.
        Plain::Float(number) => Some(match shortest32(number as f32).as_str() {
            "+Inf" => ".inf".into(),
            "-Inf" => "-.inf".into(),
            "NaN" => ".nan".into(),
            finite => finite.into(),
        }),
        _ => None,
    }
}

fn meant(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Meant, ReadError> {
    let plain = |text: &str| match resolve(text) {
        Plain::Text | Plain::Timestamp => Meant::Text(text.to_owned()),
        found => Meant::Plain(found),
    };
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain {
            plain(text)
        } else {
            Meant::Text(text.to_owned())
        });
    };
    if tag.handle() != "tag:yaml.org,2002:" {
        return Ok(Meant::Text(text.to_owned()));
    }
    let found = resolve(text);
    let fits = match (tag.suffix(), found) {
        ("binary", _) => return binary(text, span),
        ("null", Plain::Null) | ("bool", Plain::Bool(_)) | ("int", Plain::Int(_) | Plain::UInt(_)) => true,
        ("float", Plain::Float(_)) => true,
        ("float", Plain::Int(number)) => return Ok(Meant::Plain(Plain::Float(number as f64))),
        ("null" | "bool" | "int" | "float", _) => false,
        ("timestamp", Plain::Timestamp) => return Ok(Meant::Text(text.to_owned())),
        ("timestamp", _) => false,
        _ => return Ok(Meant::Text(text.to_owned())),
    };
    if fits {
        return Ok(Meant::Plain(found));
    }
    Err(meaning(
        span,
        &format!("cannot decode `{text}` as a !!{}", tag.suffix()),
    ))
}

fn binary(text: &str, span: &Span) -> Result<Meant, ReadError> {
    use base64::Engine as _;
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map_err(|_| meaning(span, "!!binary value contains invalid base64 data"))?;
    // JSON replaces what is no UTF-8, and so does the reference.
    Ok(Meant::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn meaning(span: &Span, message: &str) -> ReadError {
    ReadError::Meaning {
        line: span.start.line(),
        message: message.to_owned(),
    }
}

fn forbidden(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c < '\u{10000}'
}
