//! What an emitter sees of what it writes.

use std::borrow::Cow;

use crate::shape::Style;
use crate::value::Value;

/// A value as an emitter sees it.
pub(crate) enum Shown<'v, V> {
    /// Nothing is written.
    Nothing,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// A text that means something else than itself.
    Plain(&'v str),
    /// A text; in that style, as far as its characters allow, or in the plainest.
    Text(&'v str, Option<Style>),
    /// A list, and whether it stands in brackets.
    List(&'v [V], bool),
    /// A map, to be sorted.
    Map(Vec<(&'v String, &'v V)>),
    /// A map in its own order, and whether it stands in braces.
    Fields(&'v [(V, V)], bool),
}

/// A value that can be written.
pub(crate) trait Tree: Sized {
    /// Shows the value; `in_flow` tells whether it stands in braces or brackets.
    fn shown(&self, in_flow: bool) -> Shown<'_, Self>;

    /// Returns the tag that is written before the value, as it is written.
    fn written_tag(&self) -> Option<Cow<'_, str>> {
        None
    }
}

impl Tree for Value {
    fn shown(&self, _: bool) -> Shown<'_, Self> {
        match self {
            Value::Null => Shown::Plain("null"),
            Value::Bool(flag) => Shown::Bool(*flag),
            Value::Int(number) => Shown::Int(*number),
            Value::UInt(number) => Shown::UInt(*number),
            Value::Float(number) => Shown::Float(*number),
            Value::String(text) => Shown::Text(text, None),
            Value::List(items) => Shown::List(items, false),
            Value::Map(map) => Shown::Map(map.iter().collect()),
        }
    }
}

impl Tree for serde_json::Value {
    fn shown(&self, _: bool) -> Shown<'_, Self> {
        match self {
            serde_json::Value::Null => Shown::Plain("null"),
            serde_json::Value::Bool(flag) => Shown::Bool(*flag),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Shown::Int(number),
                (None, Some(number)) => Shown::UInt(number),
                (None, None) => Shown::Float(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::String(text) => Shown::Text(text, None),
            serde_json::Value::Array(items) => Shown::List(items, false),
            serde_json::Value::Object(map) => Shown::Map(map.iter().collect()),
        }
    }
}
