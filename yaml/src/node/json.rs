//! Reads a node tree as JSON, by the rules of go-yaml v3 for manifests and of v2 for kustomize's own files.

use std::fmt::Display;

use serde_json::{Map, Number, Value};

use super::folded::refolded;
use super::scalar::plain_tag;
use super::{Content, Node, Style, Tag};
use crate::Version;
use crate::number::shortest_of_json;
use crate::resolve::{Resolved, resolve, resolve_undated, timestamp};

/// Whose rules decide what a scalar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// go-yaml v3, which reads manifests: a key may stand once, and below the top it is text.
    New,
    /// go-yaml v2, which reads kustomization files: `yes` is true, the last of equal keys wins.
    Old,
}

/// Why a tree has no meaning as JSON.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResolveError {
    /// A key stands twice in one map.
    #[error("mapping key {0:?} already defined")]
    DuplicateKey(String),
    /// A key is not text.
    #[error("map key {0:?} is not a string")]
    Key(String),
    /// A map or a list stands in the place of a key, as a placeholder of a template reads that is not in quotes.
    #[error("a map or a list stands where a key is wanted; `{{{{ … }}}}` is not replaced here")]
    CollectionKey,
    /// The value at that path does not fit the tag it carries. The value is not told: it may be a secret.
    #[error("cannot decode '{0}' as its tag says")]
    Tag(String),
    /// The value at that path was written over one of another type, which it must be too.
    #[error("'{path}' held {kind}, and what was written over it, as a replacement does, is none")]
    Type {
        /// The path.
        path: String,
        /// What stood there.
        kind: &'static str,
    },
    /// The value at that path is a number that JSON does not have.
    #[error("'{0}' is not a number in JSON")]
    Number(String),
}

impl ResolveError {
    /// Puts a part before the path.
    fn below(mut self, part: &dyn Display) -> ResolveError {
        if let ResolveError::Tag(path) | ResolveError::Type { path, .. } | ResolveError::Number(path) =
            &mut self
        {
            *path = match path.as_str() {
                "" => part.to_string(),
                path => format!("{part}.{path}"),
            };
        }
        self
    }
}

impl Node {
    /// Reads the tree as JSON.
    pub fn to_json(&self, schema: Schema) -> Result<Value, ResolveError> {
        value(self, schema, true, false)
    }

    /// Builds the tree that kustomize has after a round trip through JSON.
    pub fn from_json(value: &Value) -> Node {
        match value {
            Value::Null => Node::tagged(Tag::Null, "null"),
            Value::Bool(flag) => Node::tagged(Tag::Bool, flag.to_string()),
            Value::Number(number) => number_node(number),
            Value::String(text) => Node::string(text.as_str()),
            Value::Array(items) => {
                let content = Content::Seq(items.iter().map(Node::from_json).collect());
                Node {
                    tag: Tag::Seq,
                    ..Node::of(content)
                }
            }
            Value::Object(fields) => {
                let pairs = fields
                    .iter()
                    .map(|(k, v)| (Node::string(k.as_str()), Node::from_json(v)));
                Node {
                    tag: Tag::Map,
                    ..Node::of(Content::Map(pairs.collect()))
                }
            }
        }
    }
}

/// Go reads every JSON number into a float, and go-yaml prints it with `%g`.
fn number_node(number: &Number) -> Node {
    let text = shortest_of_json(number.as_f64().unwrap_or_default());
    let tag = plain_tag(&text);
    Node::tagged(tag, text)
}

/// Reads a node; `flow` tells whether it stands in braces or brackets, as kustomize will print it there again.
fn value(node: &Node, schema: Schema, top: bool, flow: bool) -> Result<Value, ResolveError> {
    let flow = flow || node.style == Style::Flow;
    match &node.content {
        Content::Scalar(text) if flow && schema == Schema::New && is_quoted_in_flow(node, text) => {
            Ok(Value::String(text.to_string()))
        }
        Content::Scalar(text) => scalar(node, text, schema),
        Content::Seq(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| value(item, schema, false, flow).map_err(|error| error.below(&at)))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Content::Map(fields) => map(fields, schema, top, flow),
    }
}

/// Tells whether go-yaml quotes a plain scalar in braces or brackets, which makes text of it: an empty one, and a time.
/// One that was emptied by what was written over it is still to be what stood there, and no text.
fn is_quoted_in_flow(node: &Node, text: &str) -> bool {
    !node.tagged
        && node.style == Style::Plain
        && match node.tag {
            Tag::Bool | Tag::Int | Tag::Float => false,
            Tag::Timestamp => text.contains(':'),
            _ => text.is_empty(),
        }
}

fn map(fields: &[(Node, Node)], schema: Schema, top: bool, flow: bool) -> Result<Value, ResolveError> {
    let mut object = Map::new();
    for (key, node) in fields {
        let name = match schema {
            Schema::New => new_key(key, top)?,
            Schema::Old => old_key(key)?,
        };
        let read = value(node, schema, false, flow).map_err(|error| error.below(&name))?;
        if object.insert(name, read).is_some() && schema == Schema::New {
            return Err(ResolveError::DuplicateKey(key.text().to_string()));
        }
    }
    Ok(Value::Object(object))
}

fn new_key(key: &Node, top: bool) -> Result<String, ResolveError> {
    let text = key.text();
    let is_text = match key.tag {
        Tag::Str => true,
        Tag::None => key.style != Style::Plain || plain_tag(text) == Tag::Str,
        _ => false,
    };
    if is_text || (top && key.tag != Tag::Null && matches!(key.content, Content::Scalar(_))) {
        return Ok(text.to_string());
    }
    match key.content {
        Content::Scalar(_) => Err(ResolveError::Key(text.to_string())),
        Content::Seq(_) | Content::Map(_) => Err(ResolveError::CollectionKey),
    }
}

fn old_key(key: &Node) -> Result<String, ResolveError> {
    if !matches!(key.content, Content::Scalar(_)) {
        return Err(ResolveError::CollectionKey);
    }
    match scalar(key, key.text(), Schema::Old)? {
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(ResolveError::Key(key.text().to_string())),
    }
}

fn scalar(node: &Node, text: &str, schema: Schema) -> Result<Value, ResolveError> {
    let is_folded = schema == Schema::New && node.style == Style::Folded;
    let folded = if is_folded { refolded(text) } else { None };
    let text = folded.as_deref().unwrap_or(text);
    let untagged = matches!(node.tag, Tag::None)
        || (!node.tagged && node.tag != Tag::Str && plain_tag(text) == node.tag);
    if untagged && node.style != Style::Plain {
        return Ok(Value::String(text.to_string()));
    }
    let meaning = match schema {
        Schema::New if untagged => resolve(text, Version::V3),
        Schema::Old if !node.tagged && node.style == Style::Plain => resolve(text, Version::V2),
        _ => return tagged(node, text, schema),
    };
    plain(meaning, text, schema)
}

fn tagged(node: &Node, text: &str, schema: Schema) -> Result<Value, ResolveError> {
    let failed = || ResolveError::Tag(String::new());
    let meaning = match node.tag {
        Tag::Binary => {
            let bytes = crate::binary::decode(text).ok_or_else(failed)?;
            return String::from_utf8(bytes).map(Value::String).map_err(|_| failed());
        }
        Tag::Null | Tag::Bool | Tag::Int | Tag::Timestamp => match schema {
            Schema::New if node.tag == Tag::Timestamp => resolve(text, Version::V3),
            Schema::New => resolve_undated(text, Version::V3),
            Schema::Old => resolve(text, Version::V2),
        },
        Tag::Float => match resolve_undated(text, Version::V3) {
            Resolved::Int(value) => Resolved::Float(value as f64),
            other => other,
        },
        _ => return Ok(Value::String(text.to_string())),
    };
    if meaning.tag() != node.tag {
        return Err(match (node.tagged, kind(&node.tag)) {
            (false, Some(kind)) => ResolveError::Type {
                path: String::new(),
                kind,
            },
            _ => failed(),
        });
    }
    plain(meaning, text, schema)
}

/// Names what a plain scalar of a tag is.
fn kind(tag: &Tag) -> Option<&'static str> {
    Some(match tag {
        Tag::Null => "a null",
        Tag::Bool => "a boolean",
        Tag::Int => "an integer",
        Tag::Float => "a number",
        Tag::Timestamp => "a time",
        _ => return None,
    })
}

fn plain(meaning: Resolved, text: &str, schema: Schema) -> Result<Value, ResolveError> {
    Ok(match meaning {
        Resolved::Null => Value::Null,
        Resolved::Bool(flag) => Value::Bool(flag),
        Resolved::Int(value) => Value::from(value),
        Resolved::UInt(value) => Value::from(value),
        Resolved::Float(value) => float(value).ok_or_else(|| ResolveError::Number(String::new()))?,
        Resolved::Timestamp if schema == Schema::New => {
            Value::String(timestamp(text).unwrap_or_else(|| text.to_string()))
        }
        Resolved::Timestamp | Resolved::Text => Value::String(text.to_string()),
    })
}

/// Turns whole floats into integers where JSON prints them so: without an exponent.
fn float(value: f64) -> Option<Value> {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= WHOLE {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}
