//! Reads YAML as Kubernetes means it, one document at a time, within bounds, and finds the line of a field.
//!
//! What a document means is decided by `flotilla_yaml`; here are the documents of a text, their bounds, and the words
//! of an error.

use flotilla_yaml::{Limits, Meaningless, Place, ReadError, places, read_all};
use serde_json::Value;

use crate::problem::{FieldPath, Step};

/// The most bytes one text may have.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// The most bytes one document may have. The API server takes objects of up to 3 MiB; a `List` may hold several.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// The most documents one text may hold.
pub const MAX_DOCUMENTS: usize = 10_000;
/// The deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;
/// The most maps, lists and scalars in one document, aliases expanded; a map counts for ten more.
pub const MAX_NODES: usize = 500_000;

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
    // What follows the first node of a document must not go unseen: it is all read, and there is one.
    let documents = read_all(document.text, &limits()).map_err(|error| explain(error, document))?;
    if documents.len() > 1 {
        return Err(YamlError {
            line: document.line,
            message: "another document begins behind a line break that is no line feed".to_owned(),
        });
    }
    Ok(documents.into_iter().next().unwrap_or_default().into())
}

fn limits() -> Limits {
    Limits {
        bytes: MAX_DOCUMENT_BYTES,
        depth: MAX_DEPTH,
        nodes: MAX_NODES,
        expanded: MAX_DOCUMENT_BYTES,
        strict: true,
        overrides: true,
        ..Limits::default()
    }
}

fn over(line: usize, what: &str, unit: &str, limit: usize) -> YamlError {
    YamlError {
        line,
        message: format!("the {what} has more than {limit} {unit}"),
    }
}

/// Says what is wrong in words that quote nothing but keys.
fn explain(error: ReadError, document: &Document<'_>) -> YamlError {
    let (line, message) = match error {
        ReadError::Syntax { line, message } => (line, format!("not valid YAML: {message}")),
        ReadError::Meaning { line, cause } => (line, meaningless(&cause)),
        ReadError::DuplicateKey { line, key } => (line, format!("key {key:?} is given twice")),
        ReadError::Limit { line, limit, allowed } => {
            (line, format!("the {limit} exceeds the limit of {allowed}"))
        }
    };
    YamlError {
        line: document.text_line(line),
        message,
    }
}

fn meaningless(cause: &Meaningless) -> String {
    match cause {
        Meaningless::UnknownAnchor => "an alias names no anchor before it".to_owned(),
        Meaningless::Recursive => "an alias stands within what it names".to_owned(),
        Meaningless::Merge => "<< takes a map or a list of maps".to_owned(),
        Meaningless::Key => "a key of a map is not text".to_owned(),
        Meaningless::NotFinite => "a number is infinite or not a number".to_owned(),
        Meaningless::Base64 => "a !!binary value is not base64".to_owned(),
        Meaningless::Tag(tag) => format!("a value is not what its tag !!{tag} says"),
    }
}

impl Document<'_> {
    /// Returns the line in the whole text of a line of this document, both from 1.
    fn text_line(&self, line: usize) -> usize {
        self.first_line + line.saturating_sub(1)
    }
}

/// Returns the line in the text, from 1, of each path's field, or of the nearest field around it that exists.
pub fn lines(document: &Document<'_>, paths: &[FieldPath]) -> Vec<usize> {
    let root = places(document.text);
    paths
        .iter()
        .map(|path| line(&root, path.steps(), document))
        .collect()
}

fn line(root: &Place, steps: &[Step], document: &Document<'_>) -> usize {
    let (mut place, mut line) = (root, document.line);
    for step in steps {
        let below = match step {
            Step::Field(name) => place.field(name),
            Step::Index(index) => place.item(*index),
        };
        let Some(below) = below else { break };
        (place, line) = (below, document.text_line(below.line()));
    }
    line
}
