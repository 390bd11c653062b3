//! The formats that SOPS reads and writes. Each makes a tree of a text, and a text of a tree as SOPS would.

mod binary;
mod dotenv;
mod flat;
mod ini;
mod json;
mod yaml;

use std::fmt;

use memchr::memmem;
use serde_json::Value;

use crate::{
    error::Error,
    limits,
    tree::{Field, Node},
};

/// The field, or the beginning of the fields, that says how a document is encrypted.
const STANZA: &str = "sops";

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Any bytes, in an envelope of JSON while they are encrypted.
    Binary,
    /// `NAME=value` lines.
    Dotenv,
    /// Sections of names and values.
    Ini,
    /// JSON.
    Json,
    /// YAML, of one document or several.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Dotenv => "dotenv",
            Self::Ini => "INI",
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        })
    }
}

/// What an encrypted text of a format holds somewhere, and nothing else does.
const MARKERS: &[(Format, &str)] = &[
    // A binary one looks the same, and is read in the same way.
    (Format::Json, "\"mac\": \"ENC["),
    (Format::Dotenv, "sops_mac=ENC["),
    (Format::Yaml, "mac: ENC["),
    (Format::Ini, "[sops]"),
];

impl Format {
    /// The format that a file's name says.
    pub fn of_name(name: &str) -> Self {
        let ends = |end: &str| name.ends_with(end);
        match () {
            () if ends(".dockerconfigjson") || ends(".json") => Self::Json,
            () if ends(".yaml") || ends(".yml") => Self::Yaml,
            () if ends(".env") => Self::Dotenv,
            () if ends(".ini") => Self::Ini,
            () => Self::Binary,
        }
    }

    /// The format in which a text is encrypted; `None`: it is not.
    pub fn of_content(content: &[u8]) -> Option<Self> {
        let is_in = |marker: &str| memmem::find(content, marker.as_bytes()).is_some();
        MARKERS
            .iter()
            .find(|(_, marker)| is_in(marker))
            .map(|(format, _)| *format)
    }

    pub(crate) fn unreadable(self, why: impl Into<String>) -> Error {
        Error::Unreadable {
            format: self,
            why: why.into(),
        }
    }

    pub(crate) fn inexpressible(self, why: impl Into<String>) -> Error {
        Error::Inexpressible {
            format: self,
            why: why.into(),
        }
    }
}

/// An encrypted text as read: its documents, and the stanza of the first.
pub(crate) struct Loaded {
    pub(crate) documents: Vec<Vec<Field>>,
    pub(crate) stanza: Value,
}

/// Reads an encrypted text.
pub(crate) fn load(content: &[u8], format: Format) -> Result<Loaded, Error> {
    if content.len() > limits::BYTES {
        return Err(Error::TooMuch {
            what: "bytes",
            limit: limits::BYTES,
        });
    }
    match format {
        Format::Json | Format::Binary => nested(vec![json::read(content)?], format),
        Format::Yaml => nested(yaml::read(content)?, format),
        Format::Dotenv => {
            let mut fields = dotenv::read(content)?;
            let stanza = flat::prefixed(&mut fields, "sops_");
            unflattened(vec![fields], stanza, format)
        }
        Format::Ini => {
            let mut sections = ini::read(content)?;
            let stanza = flat::section(&mut sections, STANZA);
            unflattened(vec![sections], stanza, format)
        }
    }
}

/// Takes the stanza out of documents that have it as a map.
fn nested(mut documents: Vec<Vec<Field>>, format: Format) -> Result<Loaded, Error> {
    let mut stanzas = documents.iter_mut().map(|fields| {
        let is_stanza = |field: &mut Field| matches!(field, Field::Value(name, _) if name.as_str() == STANZA);
        fields.extract_if(.., is_stanza).collect::<Vec<Field>>()
    });
    let mut first = stanzas.next().unwrap_or_default();
    stanzas.for_each(drop);
    let stanza = match (first.pop(), first.is_empty()) {
        (Some(Field::Value(_, stanza @ Node::Map(_))), true) => stanza,
        (None, _) => return Err(format.unreadable("sops metadata not found")),
        _ => return Err(format.unreadable("sops stands there twice, or is no map")),
    };
    Ok(Loaded {
        documents,
        stanza: flat::value(&stanza),
    })
}

fn unflattened(
    documents: Vec<Vec<Field>>,
    stanza: Vec<(String, Vec<u8>)>,
    format: Format,
) -> Result<Loaded, Error> {
    if stanza.is_empty() {
        return Err(format.unreadable("sops metadata not found"));
    }
    let stanza = flat::unflatten(stanza).ok_or_else(|| format.unreadable("sops metadata is broken"))?;
    Ok(Loaded { documents, stanza })
}

/// Writes decrypted documents. `source`: the text that they were read from, where it is of the same format.
pub(crate) fn emit(
    documents: &[Vec<Field>],
    format: Format,
    source: Option<yaml::Source<'_>>,
) -> Result<Vec<u8>, Error> {
    let first = documents.first().map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Json => json::write(first),
        Format::Yaml => yaml::write(documents, source),
        Format::Dotenv => dotenv::write(first),
        Format::Ini => ini::write(first),
        Format::Binary => binary::write(documents),
    }
}

pub(crate) use dotenv::{escaped, unescaped};
pub(crate) use flat::unflatten_texts;
pub(crate) use yaml::Source;

/// A scalar as text, where a format has nothing else.
fn scalar_text(node: &Node) -> Option<Vec<u8>> {
    Some(match node {
        Node::Text(bytes) | Node::Time(bytes) | Node::Bytes(bytes) => bytes.clone(),
        Node::Int(number) => number.to_string().into(),
        Node::Float(number) => format!("{number}").into(),
        Node::Bool(flag) => flag.to_string().into(),
        Node::Null | Node::Comment(_) | Node::List(_) | Node::Map(_) => return None,
    })
}
