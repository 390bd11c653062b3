//! Writes and reads TOML as BurntSushi's library does: plain keys first, then tables, each level indented.

use std::rc::Rc;

use super::funcs::data;
use super::object::Object;
use super::time::Time;
use super::value::{Entries, Val};
use crate::yaml::number::shortest;
use crate::yaml::{Map, Value};

/// What Go says when it is asked for nothing as TOML.
pub(super) const OF_NIL: &str = "reflect: call of reflect.Value.Type on zero Value";

/// Returns the value as TOML; one that is no map stands alone, as the reference's library writes it.
pub(super) fn write(value: &Val) -> Result<String, String> {
    let mut out = String::new();
    // Its texts are written byte for byte.
    match data_with_floats(value, 0, &|text| text.to_owned())? {
        Value::Map(map) => table(&map, &mut Vec::new(), &mut out)?,
        Value::Null => return Err(OF_NIL.to_owned()),
        ref tables if is_table(tables) => {
            return Err("toml: top-level values must be Go maps or structs".to_owned());
        }
        other => inline(&other, &mut out)?,
    }
    Ok(out)
}

/// Returns the value as data in which floats stay floats, where JSON would turn whole ones into integers.
pub(super) fn data_with_floats(
    value: &Val,
    depth: usize,
    shown: &dyn Fn(&str) -> String,
) -> Result<Value, String> {
    if depth > 200 {
        return Err("value is nested too deep".to_owned());
    }
    Ok(match value {
        Val::Float(number) => Value::Float(*number),
        Val::Str(text) => Value::String(shown(text)),
        Val::List(list) if list.nil => Value::Null,
        Val::Map(map) if map.nil => Value::Null,
        Val::List(list) => Value::List(
            list.items
                .iter()
                .map(|item| data_with_floats(item, depth + 1, shown))
                .collect::<Result<_, _>>()?,
        ),
        Val::Map(map) => {
            let mut fields = Map::new();
            for (key, item) in map.entries.borrow().iter() {
                fields.insert(shown(key), data_with_floats(item, depth + 1, shown)?);
            }
            Value::Map(fields)
        }
        other => data(other, depth)?,
    })
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::List(items) => !items.is_empty() && items.iter().all(|item| matches!(item, Value::Map(_))),
        _ => false,
    }
}

fn table(map: &Map, path: &mut Vec<String>, out: &mut String) -> Result<(), String> {
    let indent = "  ".repeat(path.len());
    for (key, value) in map
        .iter()
        .filter(|(_, value)| !is_table(value) && !value.is_null())
    {
        out.push_str(&format!("{indent}{} = ", name(key)));
        inline(value, out)?;
        out.push('\n');
    }
    for (key, value) in map.iter().filter(|(_, value)| is_table(value)) {
        path.push(name(key));
        let indent = "  ".repeat(path.len() - 1);
        match value {
            Value::Map(inner) => {
                separate(path.len(), out);
                out.push_str(&format!("{indent}[{}]\n", path.join(".")));
                table(inner, path, out)?;
            }
            Value::List(items) => {
                for item in items {
                    if !out.is_empty() {
                        out.push('\n');
                    }
                    out.push_str(&format!("{indent}[[{}]]\n", path.join(".")));
                    if let Value::Map(inner) = item {
                        table(inner, path, out)?;
                    }
                }
            }
            _ => {}
        }
        path.pop();
    }
    Ok(())
}

fn separate(depth: usize, out: &mut String) {
    if depth == 1 && !out.is_empty() {
        out.push('\n');
    }
}

fn name(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { key.to_owned() } else { string(key) }
}

fn inline(value: &Value, out: &mut String) -> Result<(), String> {
    match value {
        Value::Null => return Err("toml: cannot encode array with nil element".to_owned()),
        Value::Bool(flag) => out.push_str(&flag.to_string()),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::UInt(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::String(text) => out.push_str(&string(text)),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                inline(item, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(&format!("{} = ", name(key)));
                inline(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn float(number: f64) -> String {
    let text = shortest(number);
    match text.split_once('e') {
        None if !text.contains('.') => format!("{text}.0"),
        _ => text,
    }
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a date and a time with their zone, filling in what a local one lacks as the reference's library does: UTC,
/// midnight, and the first day of the year 0.
fn whole(time: &::toml::value::Datetime) -> String {
    let mut time = *time;
    time.date.get_or_insert(::toml::value::Date {
        year: 0,
        month: 1,
        day: 1,
    });
    time.time.get_or_insert(::toml::value::Time {
        hour: 0,
        minute: 0,
        second: Some(0),
        nanosecond: None,
    });
    time.offset.get_or_insert(::toml::value::Offset::Z);
    time.to_string()
}

/// Returns the map that a TOML text holds; integers are Go's `int64`.
pub(super) fn read(text: &str) -> Result<Val, String> {
    let table: ::toml::Table = text
        .parse()
        .map_err(|cause: ::toml::de::Error| format!("toml: {}", cause.message()))?;
    Ok(value(&::toml::Value::Table(table)))
}

fn value(toml: &::toml::Value) -> Val {
    match toml {
        ::toml::Value::String(text) => text.as_str().into(),
        ::toml::Value::Integer(number) => Val::Int64(*number),
        ::toml::Value::Float(number) => Val::Float(*number),
        ::toml::Value::Boolean(flag) => Val::Bool(*flag),
        ::toml::Value::Datetime(time) => match Time::from_rfc3339(&whole(time)) {
            Some(time) => Val::Object(Rc::new(Object::Time(time))),
            None => Val::from(time.to_string()),
        },
        ::toml::Value::Array(items) => Val::list(items.iter().map(value).collect()),
        ::toml::Value::Table(table) => Val::map(
            table
                .iter()
                .map(|(key, item)| (Rc::from(key.as_str()), value(item)))
                .collect::<Entries>(),
        ),
    }
}
