//! Values before a chart sees them: reading values files and merging layers into what the user gives.
//!
//! Numbers from YAML and JSON are floats here, as the reference decodes them; only `--set` makes integers, and
//! a template can tell the two apart. How they meet a chart's defaults is decided by `coalesce`.

pub mod coalesce;
pub(crate) mod copies;
pub mod references;
pub mod table;

use std::borrow::Cow;

use super::growth::Growth;
use crate::yaml::{self, Map, ReadError, Value};

use super::bytes;
use super::context::Stop;
use super::strvals::{self, LineError, ReadFile, StrvalsError, Syntax};

/// Why values cannot be read. Nothing helps but other values; no variant holds one.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The text is not YAML.
    #[error("cannot unmarshal yaml document")]
    Yaml(#[from] ReadError),
    /// A document is something else than a map.
    #[error("a document of values is {0}, not a map")]
    NotMap(&'static str),
    /// Something other than a comment follows `---`.
    #[error("invalid yaml document separator in line {0}")]
    Separator(usize),
    /// A values file cannot be read.
    #[error("failed to parse {name}")]
    File {
        /// The file as the user named it.
        name: String,
        /// Why.
        #[source]
        source: Box<ValuesError>,
    },
    /// A flag that is given JSON is not.
    #[error("failed parsing --set-json data: the map given is no JSON, at its column {0}")]
    Json(usize),
    /// A flag of the `--set` family cannot be read.
    #[error("failed parsing --{flag} data of {key:?}")]
    Set {
        /// The flag.
        flag: &'static str,
        /// The key of the value that is wrong, or of the one before what is.
        key: String,
        /// Why.
        #[source]
        source: StrvalsError,
    },
    /// The caller asked to stop.
    #[error("the reading of values was stopped")]
    Stopped,
}

/// What a user gives on a command line, in the order of Helm's precedence: later fields win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--values`: names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// `--set-json`.
    pub json: Vec<String>,
    /// `--set`.
    pub set: Vec<String>,
    /// `--set-string`.
    pub string: Vec<String>,
    /// `--set-file`.
    pub file: Vec<String>,
    /// `--set-literal`.
    pub literal: Vec<String>,
}

impl Sources {
    /// Merges the sources; `read` gives the content of the files that `--set-file` names, which need be no text.
    pub fn merge(&self, read: &mut ReadFile<'_>) -> Result<Map, ValuesError> {
        self.merge_within(Growth::of_values(), read)
    }

    /// Merges the sources until the caller wants to stop: it is asked before each document and each flag.
    pub fn merge_until(&self, stop: &Stop, read: &mut ReadFile<'_>) -> Result<Map, ValuesError> {
        self.merge_within(Growth::of_values().until(stop), read)
    }

    /// Merges the sources, of which all files together may grow to what one may.
    fn merge_within(&self, mut growth: Growth<'_>, read: &mut ReadFile<'_>) -> Result<Map, ValuesError> {
        let mut values = Map::new();
        for (name, text) in &self.files {
            let layer = load_within(text, &mut growth).map_err(|source| ValuesError::File {
                name: name.clone(),
                source: Box::new(source),
            })?;
            merge(&mut values, layer);
        }
        for text in &self.json {
            go_on(&growth)?;
            set_json(text, &mut values)?;
        }
        let mut apply =
            |flag, lines: &[String], syntax: &mut dyn FnMut(&str, &mut Map) -> Result<(), LineError>| {
                lines.iter().try_for_each(|line| {
                    go_on(&growth)?;
                    syntax(line, &mut values).map_err(|error| not_set(flag, error))
                })
            };
        apply("set", &self.set, &mut |line, values| {
            strvals::parse_into(line, values, Syntax::Typed)
        })?;
        apply("set-string", &self.string, &mut |line, values| {
            strvals::parse_into(line, values, Syntax::Text)
        })?;
        apply("set-file", &self.file, &mut |line, values| {
            strvals::parse_into(line, values, Syntax::File(&mut |name| read(name)))
        })?;
        apply("set-literal", &self.literal, &mut |line, values| {
            strvals::parse_into(line, values, Syntax::Literal)
        })?;
        Ok(values)
    }
}

fn not_set(flag: &'static str, error: LineError) -> ValuesError {
    ValuesError::Set {
        flag,
        key: error.key,
        source: error.reason,
    }
}

fn set_json(text: &str, values: &mut Map) -> Result<(), ValuesError> {
    let trimmed = text.trim();
    if !trimmed.starts_with('{') {
        return strvals::parse_into(text, values, Syntax::Json).map_err(|error| not_set("set-json", error));
    }
    let document = super::json::read(trimmed).map_err(|error| ValuesError::Json(error.column()))?;
    if let Value::Map(layer) = from_json(document) {
        merge(values, layer);
    }
    Ok(())
}

/// Reads a values file: the documents in it, merged in their order.
pub fn load(bytes: &[u8]) -> Result<Map, ValuesError> {
    load_within(bytes, &mut Growth::of_values())
}

fn go_on(growth: &Growth<'_>) -> Result<(), ValuesError> {
    match growth.is_stopped() {
        true => Err(ValuesError::Stopped),
        false => Ok(()),
    }
}

/// Reads a values file whose documents take what they grow to from what is left.
pub(super) fn load_within(bytes: &[u8], growth: &mut Growth<'_>) -> Result<Map, ValuesError> {
    let mut values = Map::new();
    for Document { text, above } in documents(&decoded(bytes)?)? {
        go_on(growth)?;
        let value = growth.read(&text, false).map_err(|error| error.below(above))?;
        match floats(value) {
            Value::Null => {}
            Value::Map(layer) => merge(&mut values, layer),
            other => return Err(ValuesError::NotMap(super::typed::kind(&other))),
        }
    }
    Ok(values)
}

/// Returns the text of a file of values, as the engine has it.
fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, ValuesError> {
    // The reference cuts a file into lines before it knows its encoding, and ends each with the one byte of a line
    // break. In UTF-16 that breaks all files but those whose last byte is one.
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) && bytes.last() != Some(&b'\n') {
        return Ok(Cow::Owned(yaml::decode(&[bytes, b"\n"].concat())?.into_owned()));
    }
    Ok(match yaml::decode(bytes)? {
        Cow::Borrowed(text) => bytes::text(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(bytes::text(text.as_bytes()).into_owned()),
    })
}

/// Merges `over` into `base`: maps are merged, all else is replaced, also by null.
pub fn merge(base: &mut Map, over: Map) {
    if base.is_empty() {
        *base = over;
        return;
    }
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Map(below)), Value::Map(value)) => merge(below, value),
            (Some(below), value) => *below = value,
            (None, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Returns a JSON value with its numbers as floats.
pub(super) fn from_json(value: serde_json::Value) -> Value {
    floats(Value::from(value))
}

/// Returns the value with all its numbers as floats.
pub(super) fn floats(mut value: Value) -> Value {
    make_floats(&mut value);
    value
}

fn make_floats(value: &mut Value) {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "the reference loses the same digits")]
        Value::Int(number) => *value = Value::Float(*number as f64),
        #[expect(clippy::cast_precision_loss, reason = "the reference loses the same digits")]
        Value::UInt(number) => *value = Value::Float(*number as f64),
        Value::List(items) => items.iter_mut().for_each(make_floats),
        Value::Map(map) => map.values_mut().for_each(make_floats),
        _ => {}
    }
}

/// A document of a file of values.
struct Document<'t> {
    text: Cow<'t, str>,
    /// How many lines of the file stand above it.
    above: usize,
}

/// Cuts a text at the lines that begin with `---`, which may hold nothing else but a comment.
fn documents(text: &str) -> Result<Vec<Document<'_>>, ValuesError> {
    if text.ends_with('\n') && !text.starts_with("---") && !text.contains("\n---") && !text.contains('\r') {
        let text = Cow::Borrowed(text);
        return Ok(vec![Document { text, above: 0 }]);
    }
    let mut documents = Vec::new();
    let mut document = String::new();
    let mut above = 0;
    let made = |text, above| Document {
        text: Cow::Owned(text),
        above,
    };
    for (number, line) in text.lines().enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            if !rest.trim().is_empty() && !rest.trim().starts_with('#') {
                return Err(ValuesError::Separator(number + 1));
            }
            if !document.is_empty() {
                documents.push(made(std::mem::take(&mut document), above));
                above = number + 1;
                continue;
            }
        }
        document.push_str(line);
        document.push('\n');
    }
    if !document.is_empty() {
        documents.push(made(document, above));
    }
    Ok(documents)
}
