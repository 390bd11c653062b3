//! Reads fields of the known type that a Go struct gives them, with the leniency of the reference's decoder:
//! names match in any case, a number or boolean may stand for text, and null for nothing.
//!
//! Errors name the field and what stands there instead, never its content.

use std::collections::BTreeMap;

use crate::yaml::{Map, Value};

/// Returns the fields of a map with their names in lower case; null has none.
///
/// Of two fields whose names differ only in case, the one written in lower case comes last and so decides.
pub(super) fn fields<'a>(value: &'a Value, what: &str) -> Result<Vec<(String, &'a Value)>, String> {
    Ok(map(value, what)?
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.to_lowercase(), field))
        .collect())
}

/// Returns a map; none for null.
pub(super) fn map<'a>(value: &'a Value, what: &str) -> Result<Option<&'a Map>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Map(map) => Ok(Some(map)),
        other => Err(mismatch(what, "a map", other)),
    }
}

/// Returns the items of a list; null has none.
pub(super) fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::List(items) => Ok(items),
        other => Err(mismatch(what, "a list", other)),
    }
}

/// Returns text.
pub(super) fn text(value: &Value, what: &str) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        Value::UInt(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(go_float(*number)),
        other => Err(mismatch(what, "text", other)),
    }
}

/// Returns a list of texts.
pub(super) fn texts(value: &Value, what: &str) -> Result<Vec<String>, String> {
    list(value, what)?.iter().map(|item| text(item, what)).collect()
}

/// Returns a map of texts.
pub(super) fn text_map(value: &Value, what: &str) -> Result<BTreeMap<String, String>, String> {
    map(value, what)?
        .into_iter()
        .flatten()
        .map(|(key, item)| Ok((key.clone(), text(item, &format!("{what}.{key}"))?)))
        .collect()
}

/// Returns a boolean; text does not stand for one.
pub(super) fn flag(value: &Value, what: &str) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        other => Err(mismatch(what, "true or false", other)),
    }
}

fn mismatch(what: &str, wanted: &str, found: &Value) -> String {
    format!("{what} is {}, not {wanted}", kind(found))
}

/// Returns the name of a value's kind.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// Writes a float with the fewest digits, and an exponent where Go's `%g` has one.
fn go_float(number: f64) -> String {
    let plain = number.to_string();
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return plain;
    };
    let power: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&power) {
        return plain;
    }
    format!("{digits}e{power:+03}")
}
