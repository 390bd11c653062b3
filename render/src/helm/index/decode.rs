//! Decodes an index: which fields there are, of which types, and which versions are left out.

use std::collections::BTreeMap;

use super::{ChartVersion, Index, IndexError};
use crate::helm::chart::Metadata;
use crate::helm::time::Time;
use crate::helm::typed;
use crate::yaml::{self, Value};

/// Fields of the index that are read only for their types.
const INDEX_FIELDS: [&str; 6] = [
    "serverinfo",
    "apiversion",
    "generated",
    "entries",
    "publickeys",
    "annotations",
];
/// Fields of a version besides those of `Chart.yaml`.
const VERSION_FIELDS: [&str; 8] = [
    "urls",
    "created",
    "removed",
    "digest",
    "checksum",
    "engine",
    "tillerversion",
    "url",
];
const METADATA_FIELDS: [&str; 17] = [
    "name",
    "home",
    "sources",
    "version",
    "description",
    "keywords",
    "maintainers",
    "icon",
    "apiversion",
    "condition",
    "tags",
    "appversion",
    "deprecated",
    "annotations",
    "kubeversion",
    "dependencies",
    "type",
];
const MAINTAINER_FIELDS: [&str; 3] = ["name", "email", "url"];
const DEPENDENCY_FIELDS: [&str; 8] = [
    "name",
    "version",
    "repository",
    "condition",
    "tags",
    "enabled",
    "import-values",
    "alias",
];

/// How many nodes an index may have: twice as many as other documents, since many of them are maps.
const MAX_NODES: usize = 8_000_000;

/// What Helm lets pass: the index of a repository that drops aliases.
const FORGIVEN: &str = "more than one dependency with name or alias";

/// Returns the index that a text holds, its versions in the order of the text.
pub(super) fn index(text: &str) -> Result<Index, IndexError> {
    // JSON may hold fields that nobody knows; YAML may not, nor a key twice.
    let (document, strict) = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => (Value::from(json), false),
        Err(_) => (read(text)?, true),
    };
    let mut decoder = Decoder {
        strict,
        index: Index::default(),
    };
    let api_version = decoder.top(&document).map_err(IndexError::Malformed)?;
    if api_version.is_empty() {
        return Err(IndexError::NoApiVersion);
    }
    Ok(decoder.index)
}

fn read(text: &str) -> Result<Value, IndexError> {
    let limits = yaml::Limits {
        strict: true,
        floats: true,
        nodes: MAX_NODES,
        ..yaml::Limits::default()
    };
    yaml::read(text, &limits).map_err(|error| IndexError::Malformed(error.to_string()))
}

struct Decoder {
    strict: bool,
    index: Index,
}

impl Decoder {
    /// Decodes the whole and returns its API version.
    fn top(&mut self, document: &Value) -> Result<String, String> {
        self.known(document, "index", &[&INDEX_FIELDS])?;
        let mut api_version = String::new();
        for (name, field) in typed::fields(document, "index")? {
            if !self.strict && matches!(name.as_str(), "apiversion" | "publickeys" | "annotations") {
                texts_only(&name, field)?;
            }
            match name.as_str() {
                "apiversion" => api_version = typed::text(field, "apiVersion")?,
                "generated" => time(field, "generated")?,
                "entries" => self.entries(field)?,
                "serverinfo" => drop(typed::map(field, "serverInfo")?),
                "publickeys" => drop(typed::texts(field, "publicKeys")?),
                "annotations" => drop(typed::text_map(field, "annotations")?),
                _ => {}
            }
        }
        Ok(api_version)
    }

    fn entries(&mut self, entries: &Value) -> Result<(), String> {
        let mut found = BTreeMap::new();
        for (chart, versions) in typed::map(entries, "entries")?.into_iter().flatten() {
            let mut kept = Vec::new();
            for version in typed::list(versions, "entries")? {
                match self.version(version)? {
                    Ok(version) => kept.push(version),
                    Err(reason) => self.index.skipped.push((chart.clone(), reason)),
                }
            }
            found.insert(chart.clone(), kept);
        }
        self.index.entries = found;
        Ok(())
    }

    /// Decodes a version; the inner error says why it is left out.
    fn version(&self, document: &Value) -> Result<Result<ChartVersion, String>, String> {
        if document.is_null() {
            return Ok(Err("empty entry".to_owned()));
        }
        self.known(document, "entry", &[&METADATA_FIELDS, &VERSION_FIELDS])?;
        let mut version = ChartVersion::default();
        for (name, field) in typed::fields(document, "entry")? {
            if METADATA_FIELDS.contains(&name.as_str()) || !self.strict {
                texts_only(&name, field)?;
            }
            match name.as_str() {
                "urls" => version.urls = typed::texts(field, "urls")?,
                "digest" => version.digest = typed::text(field, "digest")?,
                "created" => time(field, "created")?,
                "removed" => drop(typed::flag(field, "removed")?),
                "checksum" | "engine" | "tillerversion" | "url" => drop(typed::text(field, &name)?),
                "maintainers" => self.each(field, "maintainer", &MAINTAINER_FIELDS)?,
                "dependencies" => self.each(field, "dependency", &DEPENDENCY_FIELDS)?,
                _ => {}
            }
        }
        if let Some(reason) = null_item(document)? {
            return Ok(Err(reason));
        }
        version.metadata.read(document, "an entry")?;
        Ok(validated(&mut version.metadata).map(|()| version))
    }

    fn each(&self, list: &Value, what: &str, fields: &[&str]) -> Result<(), String> {
        typed::list(list, what)?
            .iter()
            .try_for_each(|item| self.known(item, what, &[fields]))
    }

    /// Refuses a field that nobody knows.
    fn known(&self, document: &Value, what: &str, known: &[&[&str]]) -> Result<(), String> {
        if !self.strict {
            return Ok(());
        }
        let unknown = typed::fields(document, what)?
            .into_iter()
            .find(|(name, _)| !known.iter().any(|fields| fields.contains(&name.as_str())));
        match unknown {
            Some((name, _)) => Err(format!("unknown field {name:?} of {what}")),
            None => Ok(()),
        }
    }
}

/// Refuses numbers and booleans where text belongs. YAML's may stand for text in `Chart.yaml`, and in what an
/// index adds to it, but not in what an index repeats of it; JSON's never.
fn texts_only(name: &str, field: &Value) -> Result<(), String> {
    match field {
        _ if matches!(name, "deprecated" | "enabled" | "import-values" | "removed") => Ok(()),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
            Err(format!("{name} is {}, not text", typed::kind(field)))
        }
        Value::List(items) => items.iter().try_for_each(|item| texts_only(name, item)),
        Value::Map(map) => map
            .iter()
            .try_for_each(|(below, field)| texts_only(&below.to_lowercase(), field)),
        Value::Null | Value::String(_) => Ok(()),
    }
}

/// Returns why a version is left out whose lists hold null, which is no fault of the index as a whole.
fn null_item(document: &Value) -> Result<Option<String>, String> {
    for (name, field) in typed::fields(document, "entry")? {
        if matches!(name.as_str(), "maintainers" | "dependencies")
            && typed::list(field, &name)?.iter().any(Value::is_null)
        {
            return Ok(Some(format!("{name} must not contain empty or null nodes")));
        }
    }
    Ok(None)
}

fn validated(metadata: &mut Metadata) -> Result<(), String> {
    if metadata.api_version.is_empty() {
        metadata.api_version = "v1".to_owned();
    }
    match metadata.validate() {
        Err(reason) if !reason.starts_with(FORGIVEN) => Err(reason),
        _ => Ok(()),
    }
}

/// Refuses what is no time of RFC 3339.
fn time(value: &Value, what: &str) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) if Time::from_rfc3339(text).is_some() => Ok(()),
        _ => Err(format!("{what} is no time of RFC 3339")),
    }
}
