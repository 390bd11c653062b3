//! Writes TOML as BurntSushi's library does, plain keys first, then tables, each level indented; [`read`] reads it.

mod read;

use super::object::{Object, is_hidden};
use super::value::Val;
use crate::yaml::number::shortest;

use super::funcs::room;

pub(super) use read::{is_bound, read};

/// Why a value has no text in TOML.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    /// The reference's library does not write it, and says so.
    #[error("{0}")]
    Wrong(String),
    /// The text would be longer than is allowed.
    #[error("{0}")]
    TooLong(String),
}

impl From<String> for WriteError {
    fn from(reason: String) -> Self {
        WriteError::Wrong(reason)
    }
}

/// The names that the reference's library gives to the zone of what has none.
const LOCAL: &str = "datetime-local";
const LOCAL_DATE: &str = "date-local";
const LOCAL_TIME: &str = "time-local";

/// The most levels of maps and lists that are written.
const MAX_DEPTH: usize = 200;

/// What Go says when it is asked for nothing as TOML.
pub(super) const OF_NIL: &str = "reflect: call of reflect.Value.Type on zero Value";

/// A value as TOML has it.
enum Toml {
    /// What Go has as nil, which has no text in TOML.
    Nothing,
    /// A text, a number, a boolean or a time, as it is written.
    Plain(String),
    List(Vec<Toml>),
    Table(Vec<(String, Toml)>),
}

/// Returns the value as TOML; one that is no map stands alone, as the reference's library writes it.
pub(super) fn write(value: &Val) -> Result<String, WriteError> {
    let mut out = String::new();
    match Toml::of(value, 0)? {
        Toml::Table(fields) => table(&fields, &mut Vec::new(), &mut out)?,
        Toml::Nothing => return Err(WriteError::Wrong(OF_NIL.to_owned())),
        tables if tables.is_table() => {
            let reason = "toml: top-level values must be Go maps or structs";
            return Err(WriteError::Wrong(reason.to_owned()));
        }
        other => inline(&other, &mut out)?,
    }
    Ok(out)
}

impl Toml {
    fn of(value: &Val, depth: usize) -> Result<Toml, String> {
        if depth > MAX_DEPTH {
            return Err("value is nested too deep".to_owned());
        }
        let plain = |text: String| Ok(Toml::Plain(text));
        match value {
            Val::Invalid | Val::Nil => Ok(Toml::Nothing),
            Val::Bool(flag) => plain(flag.to_string()),
            Val::Int(number) | Val::Int64(number) => plain(number.to_string()),
            Val::UInt(number) => plain(number.to_string()),
            Val::Byte(number) => plain(number.to_string()),
            Val::Float(number) => plain(float(*number)),
            Val::Str(text) => plain(string(text)),
            Val::List(list) if list.nil => Ok(Toml::Nothing),
            Val::Map(map) if map.nil => Ok(Toml::Nothing),
            Val::List(list) => {
                let items = list.items.iter().map(|item| Toml::of(item, depth + 1));
                items.collect::<Result<_, _>>().map(Toml::List)
            }
            Val::Map(map) => {
                let entries = map.entries.borrow();
                let fields = entries
                    .iter()
                    .map(|(key, item)| Ok((key.to_string(), Toml::of(item, depth + 1)?)));
                fields.collect::<Result<_, String>>().map(Toml::Table)
            }
            Val::Object(object) => Toml::of_object(object, depth),
        }
    }

    fn of_object(object: &Object, depth: usize) -> Result<Toml, String> {
        match object {
            Object::Time(time) => Ok(Toml::Plain(time.format(match time.zone_name() {
                LOCAL => "2006-01-02T15:04:05.999999999",
                LOCAL_DATE => "2006-01-02",
                LOCAL_TIME => "15:04:05.999999999",
                _ => "2006-01-02T15:04:05.999999999Z07:00",
            }))),
            Object::Duration(_) | Object::Version(_) | Object::VersionValue(_) => {
                Ok(Toml::Plain(string(&object.text().unwrap_or_default())))
            }
            Object::Month(number) | Object::Weekday(number) => Ok(Toml::Plain(number.to_string())),
            Object::Files(_) => {
                let files = object.entries().unwrap_or_default();
                let fields = files.iter().map(|(name, data)| {
                    let name = name.as_str().unwrap_or_default().to_owned();
                    Ok((name, Toml::of(data, depth + 1)?))
                });
                fields.collect::<Result<_, String>>().map(Toml::Table)
            }
            Object::Bytes(_) | Object::ApiVersions(_) => {
                let items = object.entries().unwrap_or_default();
                let items = items.iter().map(|(_, item)| Toml::of(item, depth + 1));
                items.collect::<Result<_, _>>().map(Toml::List)
            }
            Object::Capabilities(_)
            | Object::KubeVersion(_)
            | Object::HelmVersion
            | Object::Certificate { .. } => {
                let fields = object.fields().unwrap_or_default();
                let seen = fields.iter().filter(|(name, _)| !is_hidden(name));
                let fields = seen.map(|(name, field)| Ok(((*name).to_owned(), Toml::of(field, depth + 1)?)));
                fields.collect::<Result<_, String>>().map(Toml::Table)
            }
        }
    }

    fn is_table(&self) -> bool {
        match self {
            Toml::Table(_) => true,
            Toml::List(items) => !items.is_empty() && items.iter().all(|item| matches!(item, Toml::Table(_))),
            Toml::Nothing | Toml::Plain(_) => false,
        }
    }
}

/// A key and its value.
type Field = (String, Toml);

/// Splits fields into those that are written with their key, and those that make a table of their own; those of
/// nothing are not written at all.
fn split(fields: &[Field]) -> (Vec<&Field>, Vec<&Field>) {
    let written = fields.iter().filter(|(_, value)| !matches!(value, Toml::Nothing));
    written.partition(|(_, value)| !value.is_table())
}

fn table(fields: &[Field], path: &mut Vec<String>, out: &mut String) -> Result<(), WriteError> {
    let indent = "  ".repeat(path.len());
    let (plain, tables) = split(fields);
    for (key, value) in plain {
        out.push_str(&format!("{indent}{} = ", name(key)));
        inline(value, out)?;
        out.push('\n');
    }
    for (key, value) in tables {
        path.push(name(key));
        match value {
            Toml::Table(inner) => {
                separate(path.len(), out);
                header(&indent, ("[", "]"), path, out)?;
                table(inner, path, out)?;
            }
            Toml::List(items) => {
                for item in items {
                    if !out.is_empty() {
                        out.push('\n');
                    }
                    header(&indent, ("[[", "]]"), path, out)?;
                    if let Toml::Table(inner) = item {
                        table(inner, path, out)?;
                    }
                }
            }
            Toml::Nothing | Toml::Plain(_) => {}
        }
        path.pop();
    }
    Ok(())
}

/// Writes the names of all tables that a table is in, which may be far longer than what it holds.
fn header(
    indent: &str,
    (open, close): (&str, &str),
    path: &[String],
    out: &mut String,
) -> Result<(), WriteError> {
    let names: usize = path.iter().map(|name| name.len() + 1).sum();
    room(out.len().checked_add(names)).map_err(WriteError::TooLong)?;
    out.push_str(indent);
    out.push_str(open);
    for (at, name) in path.iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        out.push_str(name);
    }
    out.push_str(close);
    out.push('\n');
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

fn inline(value: &Toml, out: &mut String) -> Result<(), WriteError> {
    match value {
        Toml::Nothing => {
            let reason = "toml: cannot encode array with nil element";
            return Err(WriteError::Wrong(reason.to_owned()));
        }
        Toml::Plain(written) => out.push_str(written),
        Toml::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                inline(item, out)?;
            }
            out.push(']');
        }
        Toml::Table(fields) => {
            out.push('{');
            let (plain, tables) = split(fields);
            for (at, (key, item)) in plain.into_iter().chain(tables).enumerate() {
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
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let text = shortest(number);
    if text.contains(['e', '.']) {
        text
    } else {
        format!("{text}.0")
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
