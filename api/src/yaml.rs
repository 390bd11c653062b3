//! Reads YAML as Kubernetes means it, one document at a time, within bounds, and finds the line of a field.
//!
//! The one place of this crate that knows a YAML library. It decides nothing about what a document means.

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{ErrorKind, Event, Parser};
use serde_saphyr::localizer::ExternalMessageSource;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{DeserializeError, Options};

use crate::problem::{FieldPath, Step};

/// The most bytes one text may have.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// The most bytes one document may have. The API server takes objects of up to 3 MiB; a `List` may hold several.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// The most documents one text may hold.
pub const MAX_DOCUMENTS: usize = 10_000;
/// The deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;
/// The most maps, lists and scalars in one document, aliases expanded.
pub const MAX_NODES: usize = 250_000;
/// The most nodes that aliases may add to one document.
pub const MAX_ALIAS_NODES: usize = 50_000;

/// One document of a text, not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its number, from 1; empty documents do not count.
    pub number: usize,
    /// The line in the text of its first content, from 1.
    pub line: usize,
    /// The line in the text at which `text` begins, from 1.
    first_line: usize,
    text: &'a str,
}

/// A text that is not YAML, or too much of it. Never quotes the text, which may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// The line in the text, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Splits a text at its `---` and `...` lines into the documents that hold something.
pub fn split(text: &str) -> Result<Vec<Document<'_>>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_TEXT_BYTES {
        return Err(over(1, "text", "bytes", MAX_TEXT_BYTES));
    }
    let mut documents = Vec::new();
    let mut open = Open {
        start: 0,
        first_line: 1,
        content: None,
        directives: false,
    };
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        match marker(line) {
            Some(Marker::Start) if open.content.is_none() && open.directives => {}
            Some(marker) => {
                open.close(text, offset, &mut documents);
                let start = if marker == Marker::Start {
                    offset
                } else {
                    offset + line.len()
                };
                let first_line = if marker == Marker::Start {
                    number
                } else {
                    number + 1
                };
                open = Open {
                    start,
                    first_line,
                    content: None,
                    directives: false,
                };
                if marker == Marker::Start && holds_content(&line[3..]) {
                    open.content = Some(number);
                }
            }
            None if open.content.is_none() && line.starts_with('%') => open.directives = true,
            None if open.content.is_none() && holds_content(line) => open.content = Some(number),
            None => {}
        }
        offset += line.len();
        if documents.len() > MAX_DOCUMENTS {
            return Err(over(number, "text", "documents", MAX_DOCUMENTS));
        }
    }
    open.close(text, offset, &mut documents);
    Ok(documents)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    Start,
    End,
}

struct Open {
    start: usize,
    first_line: usize,
    content: Option<usize>,
    directives: bool,
}

impl Open {
    fn close<'a>(&self, text: &'a str, end: usize, documents: &mut Vec<Document<'a>>) {
        if let Some(line) = self.content {
            let number = documents.len() + 1;
            documents.push(Document {
                number,
                line,
                first_line: self.first_line,
                text: &text[self.start..end],
            });
        }
    }
}

fn marker(line: &str) -> Option<Marker> {
    let (marker, rest) = match (line.strip_prefix("---"), line.strip_prefix("...")) {
        (Some(rest), _) => (Marker::Start, rest),
        (_, Some(rest)) => (Marker::End, rest),
        _ => return None,
    };
    (rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r'])).then_some(marker)
}

fn holds_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// Decodes one document: YAML 1.1 booleans and octals, merge keys, whole floats as integers; a key given twice
/// is an error, as in Kubernetes' strict decoding.
pub fn decode(document: &Document<'_>) -> Result<Value, YamlError> {
    if document.text.len() > MAX_DOCUMENT_BYTES {
        return Err(over(document.line, "document", "bytes", MAX_DOCUMENT_BYTES));
    }
    match serde_saphyr::from_str_with_options::<Value>(document.text, options()) {
        Ok(value) => Ok(whole(value)),
        Err(error) => Err(explain(&error, document)),
    }
}

fn options() -> Options {
    let mut alias_limits = serde_saphyr::options::AliasLimits::default();
    alias_limits.max_total_replayed_events = MAX_ALIAS_NODES;
    serde_saphyr::options! {
        strict_booleans: false,
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
        alias_limits: alias_limits,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: 1,
            max_total_scalar_bytes: MAX_DOCUMENT_BYTES,
        },
    }
}

/// Turns floats without a fraction into integers, as the passage through Go's JSON does.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole_number(number)),
        Value::Array(elements) => Value::Array(elements.into_iter().map(whole).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, whole(value)))
                .collect::<Map<_, _>>(),
        ),
        other => other,
    }
}

fn whole_number(number: Number) -> Number {
    match number.as_f64() {
        // Below 2^63 the cast is exact for every float without a fraction.
        Some(float)
            if number.is_f64() && float.fract() == 0.0 && float.abs() < 9_223_372_036_854_775_808.0 =>
        {
            Number::from(float as i64)
        }
        _ => number,
    }
}

fn over(line: usize, what: &str, unit: &str, limit: usize) -> YamlError {
    YamlError {
        line,
        message: format!("the {what} has more than {limit} {unit}"),
    }
}

/// Says what is wrong in our words: the library's text may quote the value.
fn explain(error: &DeserializeError, document: &Document<'_>) -> YamlError {
    let line = error.location().map_or(document.line, |location| {
        document.first_line + usize::try_from(location.line()).unwrap_or(1).saturating_sub(1)
    });
    let message = match innermost(error) {
        DeserializeError::DuplicateMappingKey { key: Some(key), .. } => format!("key {key:?} is given twice"),
        DeserializeError::DuplicateMappingKey { key: None, .. } => "a key is given twice".to_owned(),
        DeserializeError::UnknownAnchor { .. } => "an alias names no anchor before it".to_owned(),
        DeserializeError::Eof { .. } => "the document ends too early".to_owned(),
        DeserializeError::Budget { breach, .. } => breached(breach),
        DeserializeError::AliasReplayLimitExceeded { .. }
        | DeserializeError::AliasExpansionLimitExceeded { .. }
        | DeserializeError::AliasReplayStackDepthExceeded { .. } => {
            format!("aliases add more than {MAX_ALIAS_NODES} nodes to the document")
        }
        DeserializeError::InvalidBinaryBase64 { .. } => "a !!binary value is not base64".to_owned(),
        DeserializeError::BinaryNotUtf8 { .. } => "a !!binary value is not UTF-8 text".to_owned(),
        DeserializeError::NonFiniteFloat { .. } => "a number is infinite or not a number".to_owned(),
        DeserializeError::ExternalMessage { source, .. } => scan_message(source),
        _ => "not valid YAML".to_owned(),
    };
    YamlError { line, message }
}

/// Takes off what the library puts around an error inside an alias.
fn innermost(error: &DeserializeError) -> &DeserializeError {
    match error.without_snippet() {
        DeserializeError::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

fn breached(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach;
    match breach {
        BudgetBreach::Depth { .. } => format!("maps and lists are nested deeper than {MAX_DEPTH}"),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            format!("the document has more than {MAX_NODES} nodes")
        }
        _ => "the document is larger than its limits".to_owned(),
    }
}

/// The scanner's own messages name tokens and quote no scalars; messages made elsewhere might.
fn scan_message(source: &ExternalMessageSource) -> String {
    match source {
        ExternalMessageSource::Parser(error) if !matches!(error.kind(), ErrorKind::Custom(_)) => {
            format!("not valid YAML: {}", error.info())
        }
        _ => "not valid YAML".to_owned(),
    }
}

/// Returns the line in the text, from 1, of each path's field, or of the nearest field around it that exists.
pub fn lines(document: &Document<'_>, paths: &[FieldPath]) -> Vec<usize> {
    let root = tree(document.text);
    paths
        .iter()
        .map(|path| root.line(path.steps(), document))
        .collect()
}

/// Where each key and element of a document stands; built only when something is wrong with it.
#[derive(Default)]
struct Node {
    children: Vec<(Step, usize, Node)>,
}

impl Node {
    fn line(&self, steps: &[Step], document: &Document<'_>) -> usize {
        let (mut node, mut line) = (self, document.line);
        for step in steps {
            match node.children.iter().find(|(name, ..)| name == step) {
                Some((_, at, child)) => (node, line) = (child, document.first_line + at - 1),
                None => break,
            }
        }
        line
    }
}

/// A map or list whose end has not come yet.
struct Container {
    node: Node,
    /// For a map, the key that waits for its value.
    key: Option<(String, usize)>,
    is_map: bool,
    line: usize,
}

fn tree(text: &str) -> Node {
    let mut open: Vec<Container> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let line = span.start.line();
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => open.push(Container {
                node: Node::default(),
                key: None,
                is_map: matches!(event, Event::MappingStart(..)),
                line,
            }),
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(done) = open.pop() else { break };
                match open.last_mut() {
                    Some(parent) => parent.take(None, done.line, done.node),
                    None => return done.node,
                }
            }
            Event::Scalar(text, ..) => {
                if let Some(parent) = open.last_mut() {
                    parent.take(Some(&text), line, Node::default());
                }
            }
            Event::Alias(_) => {
                if let Some(parent) = open.last_mut() {
                    parent.take(None, line, Node::default());
                }
            }
            _ => {}
        }
    }
    // The text decoded, so its outermost node has ended unless it is a scalar.
    Node::default()
}

impl Container {
    /// Takes the next node: an element, a key, or the value of the waiting key.
    fn take(&mut self, scalar: Option<&str>, line: usize, node: Node) {
        if !self.is_map {
            let index = self.node.children.len();
            self.node.children.push((Step::Index(index), line, node));
            return;
        }
        match self.key.take() {
            Some((key, at)) => self.node.children.push((Step::Field(key), at, node)),
            None => self.key = Some((scalar.unwrap_or_default().to_owned(), line)),
        }
    }
}
