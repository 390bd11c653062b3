//! What an entry is evaluated from: its content, variables and objects, as the ledger holds them.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    content::{Content, Form, KeyText, ObjectEntry, Objects},
    substitute::{self, Variables},
    unit::{Entry, Substitution, VariableLayer},
};
use flotilla_render::yaml;
use serde::Deserialize;
use serde_json::Value;

use super::EvaluateError;
use crate::ledger::state::{Blob, State};

/// Bytes of one object after substitution; an API server takes less.
const OBJECT_MAX: usize = 8 << 20;

/// Bytes of a template from which on reading it takes long enough to be noticed.
const HEAVY: u32 = 64 << 10;

/// The inputs of one evaluation. Bytes are compressed and shared with the ledger.
#[derive(Debug)]
pub(super) struct Inputs {
    unit: Arc<Entry>,
    objects: Vec<(ObjectEntry, Option<Blob>)>,
    /// Whoever rendered asserts that nothing is missing.
    pub(super) complete: bool,
    variables: Variables,
    /// A variable came from a Secret.
    secret: bool,
}

/// An object as read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// A value of a Secret may stand in it.
    pub(super) secret: bool,
}

impl Inputs {
    /// Takes the inputs of an entry, of the objects that `keep` holds for.
    pub(super) fn of(
        state: &State,
        entry: &Arc<Entry>,
        keep: Option<impl Fn(&KeyText<'_>) -> bool>,
    ) -> Result<Self, EvaluateError> {
        let (variables, secret) = variables(state, entry)?;
        let Objects {
            entries, complete, ..
        } = content(state, entry, keep)?;
        let blob = |entry: ObjectEntry| {
            let blob = state.blobs.get(&entry.digest).cloned();
            (entry, blob)
        };
        Ok(Self {
            unit: entry.clone(),
            objects: entries.into_iter().map(blob).collect(),
            complete,
            variables,
            secret,
        })
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// An object as the content names it.
    pub(super) fn entry(&self, index: usize) -> &ObjectEntry {
        &self.objects[index].0
    }

    /// What is evaluated.
    pub(super) fn unit(&self) -> &Entry {
        &self.unit
    }

    /// Tells whether reading an object takes long: YAML is read twice, before and after substitution.
    pub(super) fn is_heavy(&self, index: usize) -> bool {
        let (object, blob) = &self.objects[index];
        object.form == Form::Yaml && blob.as_ref().is_some_and(|blob| blob.size > HEAVY)
    }

    /// Reads an object: substitutes, then parses.
    pub(super) fn parse(&self, index: usize) -> Result<Parsed, EvaluateError> {
        let (object, blob) = &self.objects[index];
        let bytes = blob.as_ref().and_then(|blob| blob.bytes().ok());
        let bytes = bytes.ok_or_else(|| EvaluateError::Missing(format!("{} is not here", object.key)))?;
        let failed = |why: &str| {
            let key = &object.key;
            EvaluateError::Build(format!(
                "post build failed for '{}/{}/{}': {why}",
                key.group, key.kind, key.name
            ))
        };
        let plain = |value| Parsed { value, secret: false };
        match object.form {
            Form::Json => serde_json::from_slice(&bytes)
                .map(plain)
                .map_err(|_| failed("it is not readable")),
            Form::Yaml => {
                let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))?;
                let template = read(&text).map_err(|why| failed(&why))?;
                if !self.substitutes(&template) {
                    return Ok(plain(template));
                }
                let substituted = substitute::substitute(&text, &self.variables, true)
                    .map_err(|e| failed(&e.to_string()))?;
                let value = read(&substituted).map_err(|why| {
                    // The reader quotes what it stumbles over, and that may be a secret's value by now.
                    let quotes = self.secret || object.key.is_secret();
                    failed(if quotes {
                        "the substituted text is not valid YAML"
                    } else {
                        &why
                    })
                })?;
                let secret = self.secret && substituted != text;
                Ok(Parsed { value, secret })
            }
        }
    }

    fn substitutes(&self, template: &Value) -> bool {
        let substitution = self.unit.settings.substitution;
        substitution != Substitution::Off
            && substitute::runs(&self.variables, substitution == Substitution::Always)
            && !substitute::is_disabled(&template["metadata"])
    }
}

/// The content of an entry.
fn content(
    state: &State,
    entry: &Entry,
    keep: Option<impl Fn(&KeyText<'_>) -> bool>,
) -> Result<Objects, EvaluateError> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: String,
    }
    let digest = entry.content.ok_or(EvaluateError::NotRendered)?;
    let short = digest.short();
    let bytes = state
        .blob(&digest)
        .ok_or_else(|| EvaluateError::Missing(format!("content {short} is not here")))?;
    let read = match keep {
        Some(keep) => Content::select(&bytes, keep),
        None => Content::from_bytes(&bytes).map(|Content::Objects(objects)| objects),
    };
    match read {
        Ok(objects) => Ok(objects),
        Err(error) => match serde_json::from_slice::<Kind>(&bytes) {
            // What a newer hub sends is not missing: fetching it again changes nothing.
            Ok(Kind { r#type }) if r#type != "objects" => Err(EvaluateError::NotSupported(format!(
                "content of type {type:?} is not supported by this agent"
            ))),
            _ => Err(EvaluateError::Build(format!("content {short}: {error}"))),
        },
    }
}

/// The variables of an entry, and whether any of them came from a Secret.
fn variables(state: &State, entry: &Entry) -> Result<(Variables, bool), EvaluateError> {
    let mut layers: Vec<BTreeMap<String, String>> = Vec::new();
    let mut any_secret = false;
    for layer in &entry.variables {
        match layer {
            VariableLayer::Literal { values } => layers.push(values.clone()),
            VariableLayer::Config { digest, secret } => {
                any_secret |= secret;
                let missing = || EvaluateError::Missing(format!("variables {} are not here", digest.short()));
                let bytes = state.blob(digest).ok_or_else(missing)?;
                layers.push(serde_json::from_slice(&bytes).map_err(|_| {
                    EvaluateError::Build(format!("variables {} are not readable", digest.short()))
                })?);
            }
            VariableLayer::ClusterRef { kind, name, .. } => {
                return Err(EvaluateError::NotSupported(format!(
                    "variables from {kind} {name} of the cluster are not supported by this agent"
                )));
            }
        }
    }
    let variables = Variables::from_layers(layers).map_err(|e| EvaluateError::Build(e.to_string()))?;
    Ok((variables, any_secret))
}

fn read(text: &str) -> Result<Value, String> {
    let limits = yaml::Limits {
        bytes: OBJECT_MAX,
        nodes: 500_000,
        ..yaml::Limits::default()
    };
    let mut documents = yaml::read_all(text, &limits).map_err(|e| e.to_string())?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.into()),
        _ => Err("expected one document".to_owned()),
    }
}
