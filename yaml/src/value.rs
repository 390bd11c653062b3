//! The plain data that files, chart values and Kubernetes objects are made of: JSON's kinds, with map keys
//! kept in byte order, as Go writes them.
//!
//! It holds what a document means, not how it was written: comments, key order and styles belong to
//! the `node` module. It has value semantics too: the maps that a Helm template shares and changes in
//! place (`set`, `merge`, `append`) are `helm::value::Val`, built from this type and turned back into it.

use std::collections::BTreeMap;

use serde_json::Number;

/// A map with its keys in byte order, the order in which Go's encoders and `range` walk one.
pub type Map = BTreeMap<String, Value>;

/// A decoded YAML or JSON value.
///
/// Numbers are what remains after a trip through JSON, as `sigs.k8s.io/yaml` makes one: `1.0` and `1e3` are
/// integers, `1e21` and `0.5` are floats, and a float is never infinite or not a number.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`, or a key with nothing after it.
    #[default]
    Null,
    /// `true` or `false`, in any of YAML 1.1's spellings.
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer above `i64::MAX`; smaller ones are always [`Value::Int`].
    UInt(u64),
    /// Any other finite number.
    Float(f64),
    /// Text; bytes under `!!binary` are decoded, and must be UTF-8.
    String(String),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping; keys that were numbers, booleans or null are their text.
    Map(Map),
}

impl Value {
    /// Returns the value under `key` when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// Returns the text when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the map when this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the map, to change it, when this is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the items when this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Value::UInt(value), Value::Int)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::String(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Value::List(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Value::Map(value)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => Value::Bool(flag),
            serde_json::Value::Number(number) => from_number(&number),
            serde_json::Value::String(text) => Value::String(text),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Value::from).collect()),
            serde_json::Value::Object(map) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| (key, Value::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => flag.into(),
            Value::Int(number) => number.into(),
            Value::UInt(number) => number.into(),
            Value::Float(number) => number.into(),
            Value::String(text) => text.into(),
            Value::List(items) => items.into_iter().map(serde_json::Value::from).collect(),
            Value::Map(map) => map
                .into_iter()
                .map(|(key, value)| (key, serde_json::Value::from(value)))
                .collect(),
        }
    }
}

fn from_number(number: &Number) -> Value {
    if let Some(signed) = number.as_i64() {
        Value::Int(signed)
    } else if let Some(unsigned) = number.as_u64() {
        Value::UInt(unsigned)
    } else {
        from_float(number.as_f64().unwrap_or_default())
    }
}

/// Returns the value of a finite float: an integer where its JSON text would be one that fits 64 bits and keeps its
/// sign.
pub fn from_float(number: f64) -> Value {
    // Go's JSON encoder writes an exponent from 1e21 on, and below it the shortest digits filled up with
    // zeros, which from 2^53 on need not be the exact value.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // A negative zero is no integer.
    if number.fract() != 0.0 || number.abs() >= 1e21 || (number == 0.0 && number.is_sign_negative()) {
        return Value::Float(number);
    }
    if number.abs() < EXACT {
        return Value::Int(number as i64);
    }
    let text = crate::number::json(number);
    text.parse()
        .map(Value::Int)
        .or_else(|_| text.parse().map(Value::UInt))
        .unwrap_or(Value::Float(number))
}
