//! A release's values as Flux composes them: references in their order, then what stands inline.
//!
//! What the references name is read by the caller. A value set at a path is merged over the inline values,
//! and then these are merged over all: it lasts only where the two are one in the reference program's
//! memory. The `shared` module keeps account of that, so that the results are the same.

mod shared;

use std::collections::BTreeMap;

use super::{ValuesError, floats};
use crate::helm::bytes;
use crate::helm::growth::Growth;
use crate::helm::strvals::{self, Syntax};
use crate::yaml::{Map, Value};

use shared::Shared;

/// The key that a reference means when it names none.
const DEFAULT_KEY: &str = "values.yaml";

/// What a ConfigMap or Secret holds, decoded.
pub type Data = BTreeMap<String, Vec<u8>>;

/// A reference to values outside of the release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// The object's name, in the release's namespace.
    pub name: String,
    /// The key that holds the values; `values.yaml` when it is empty.
    pub values_key: String,
    /// Where in the values the key's text goes, as `--set` writes paths; when empty, the text is a values file.
    pub target_path: String,
    /// Whether the release does without the object or the key.
    pub optional: bool,
    /// Whether the text is taken as it is written; it means something at a path only.
    pub literal: bool,
}

impl Reference {
    fn key(&self) -> &str {
        if self.values_key.is_empty() {
            DEFAULT_KEY
        } else {
            &self.values_key
        }
    }
}

/// Why a reference gives no values. None holds a value, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The object may appear; ask again when it does.
    #[error("{kind} {name} of valuesFrom is not found")]
    NotFound {
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The key may appear; ask again when the object changes.
    #[error("{kind} {name} of valuesFrom has no key {key:?}")]
    KeyNotFound {
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// Only another reference helps.
    #[error("valuesFrom takes a ConfigMap or a Secret, not {kind:?}")]
    UnsupportedKind {
        /// The kind that was named.
        kind: String,
    },
    /// Only another text under the key helps.
    #[error("key {key:?} of {kind} {name} is no values file")]
    Unreadable {
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: Box<ValuesError>,
    },
    /// The path, or the text at it, cannot be read.
    #[error("key {key:?} of {kind} {name} cannot be set at {path:?}")]
    NotSet {
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The path.
        path: String,
    },
}

/// Composes the values; `find` returns what a kind and a name stand for.
///
/// # Errors
///
/// The first reference that gives none and is not optional.
pub fn compose<'o>(
    references: &[Reference],
    inline: Map,
    find: impl Fn(&str, &str) -> Option<&'o Data>,
) -> Result<Map, ReferenceError> {
    let Value::Map(mut inline) = floats(Value::Map(inline)) else {
        return Ok(Map::new());
    };
    let mut values = Map::new();
    let mut shared = Shared::default();
    // All of them together may grow to what one may.
    let mut growth = Growth::of_values();
    for reference in references {
        let Some(bytes) = text(reference, &find)? else {
            continue;
        };
        if reference.target_path.is_empty() {
            shared.merge(&mut values, &layer(reference, bytes, &mut growth)?);
            continue;
        }
        shared.merge_inline(&mut values, &inline);
        // The reader of paths takes text by characters.
        set(&mut values, reference, &bytes::lossy(&bytes::text(bytes)))?;
        shared.follow(&values, &mut inline, &reference.target_path);
    }
    super::merge(&mut values, inline);
    Ok(values)
}

/// Returns the text that a reference means; none when it may be missing and is.
fn text<'o>(
    reference: &Reference,
    find: &impl Fn(&str, &str) -> Option<&'o Data>,
) -> Result<Option<&'o Vec<u8>>, ReferenceError> {
    let (kind, name) = (reference.kind.clone(), reference.name.clone());
    if !matches!(kind.as_str(), "ConfigMap" | "Secret") {
        return Err(ReferenceError::UnsupportedKind { kind });
    }
    let Some(data) = find(&kind, &name) else {
        if reference.optional {
            return Ok(None);
        }
        return Err(ReferenceError::NotFound { kind, name });
    };
    match data.get(reference.key()) {
        None if !reference.optional => Err(ReferenceError::KeyNotFound {
            kind,
            name,
            key: reference.key().to_owned(),
        }),
        found => Ok(found),
    }
}

fn layer(reference: &Reference, text: &[u8], growth: &mut Growth<'_>) -> Result<Map, ReferenceError> {
    let read = match super::decoded(text).and_then(|text| Ok(growth.read(&text, false)?)) {
        Ok(Value::Null) => Ok(Map::new()),
        Ok(value) => match floats(value) {
            Value::Map(map) => Ok(map),
            other => Err(ValuesError::NotMap(crate::helm::typed::kind(&other))),
        },
        Err(cause) => Err(cause),
    };
    read.map_err(|source| ReferenceError::Unreadable {
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        key: reference.key().to_owned(),
        source: Box::new(source),
    })
}

/// Sets the text at the reference's path. Text in quotes is text whatever it looks like.
fn set(values: &mut Map, reference: &Reference, text: &str) -> Result<(), ReferenceError> {
    let quoted = |quote: char| text.starts_with(quote) && text.ends_with(quote);
    let path = &reference.target_path;
    let (line, syntax) = if reference.literal {
        (format!("{path}={}", escaped(text)), Syntax::Text)
    } else if quoted('\'') || quoted('"') {
        (format!("{path}={}", text.trim_matches(['\'', '"'])), Syntax::Text)
    } else {
        (format!("{path}={text}"), Syntax::Typed)
    };
    // The cause may quote a part of the text behind a comma, which may be secret.
    strvals::parse_into(&line, values, syntax).map_err(|_| ReferenceError::NotSet {
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        key: reference.key().to_owned(),
        path: path.clone(),
    })
}

/// Escapes what means something to `--set`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | ',' | '[' | ']' | '{' | '}') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
