//! What an entry is evaluated from: its content, variables and objects, as the ledger holds them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use flotilla_core::{
    content::{Form, Table},
    substitute::{self, Variables},
    unit::{Entry, Substitution, VariableLayer},
};
use flotilla_render::yaml;
use flotilla_sops::{Error as SopsError, Unasked, object};
use serde::Deserialize;
use serde_json::Value;

use super::{EvaluateError, Keyring};
use crate::ledger::state::{Blob, Reader, State};

/// Bytes of one object after substitution; an API server takes less.
const OBJECT_MAX: usize = 8 << 20;

/// Bytes of a template from which on reading it takes long enough to be noticed.
const HEAVY: u32 = 64 << 10;

/// Bytes that an encrypted object has at least: its stanza alone has more.
const MAYBE_ENCRYPTED: u32 = 512;

/// The inputs of one evaluation. Bytes are compressed and shared with the ledger.
#[derive(Debug)]
pub(super) struct Inputs {
    unit: Arc<Entry>,
    table: Arc<Table>,
    /// Rows of the table that may be read, in the renderer's order, and their bytes.
    objects: Vec<(u32, Option<Blob>)>,
    values: Values,
    keyring: Option<Keyring>,
    reader: Mutex<Reader>,
}

/// The variables of an entry.
#[derive(Debug)]
pub(super) struct Values {
    variables: Variables,
    /// One of them came from a Secret.
    secret: bool,
    substitution: Substitution,
}

/// An object as read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// A value of a Secret, or one that was encrypted, may stand in it.
    pub(super) secret: bool,
}

/// Why an object is not read.
#[derive(Debug)]
pub(super) enum Unparsed {
    /// It can be once services were asked for keys.
    Unasked(Unasked),
    /// It cannot.
    Failed(EvaluateError),
}

impl From<EvaluateError> for Unparsed {
    fn from(error: EvaluateError) -> Self {
        Self::Failed(error)
    }
}

impl Inputs {
    /// Takes the inputs of an entry whose content this is. `rows` are in the renderer's order.
    pub(super) fn of(
        state: &State,
        entry: &Arc<Entry>,
        table: Arc<Table>,
        values: Values,
        keyring: Option<Keyring>,
        rows: impl Iterator<Item = u32>,
    ) -> Self {
        let blob = |row| (row, state.blobs.get(&table.digest(row)));
        let objects = rows.map(blob).collect();
        Self {
            unit: entry.clone(),
            table,
            objects,
            values,
            keyring,
            reader: Mutex::default(),
        }
    }

    /// Tells whether whoever rendered asserts that nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.table.is_complete()
    }

    /// Where rows stand among the objects, as far as they do.
    pub(super) fn positions(&self, rows: &[u32]) -> Vec<usize> {
        let position = |row| self.objects.binary_search_by_key(row, |(row, _)| *row).ok();
        rows.iter().filter_map(position).collect()
    }

    /// What is evaluated.
    pub(super) fn unit(&self) -> &Entry {
        &self.unit
    }

    /// Tells whether reading an object takes long: YAML is read twice, before and after substitution, and a key of OpenPGP
    /// takes milliseconds to open one.
    pub(super) fn is_heavy(&self, index: usize) -> bool {
        let (row, blob) = &self.objects[index];
        let are_slow = self
            .keyring
            .as_ref()
            .is_some_and(|keyring| keyring.keys.are_slow());
        if are_slow && blob.as_ref().is_some_and(|blob| blob.size > MAYBE_ENCRYPTED) {
            return true;
        }
        self.table.form(*row) == Form::Yaml && blob.as_ref().is_some_and(|blob| blob.size > HEAVY)
    }

    /// Asks services for the keys of an object.
    pub(super) async fn ask(&self, index: usize, unasked: &Unasked) -> Result<(), EvaluateError> {
        let Some(keyring) = &self.keyring else {
            return Ok(());
        };
        let (row, _) = self.objects[index];
        let (group, kind, name) = self.table.name(row);
        keyring
            .ask(unasked)
            .await
            .map_err(|error| EvaluateError::KeyService {
                message: format!("decryption failed for '{group}/{kind}/{name}': {error}"),
                passes: error.passes,
            })
    }

    /// Reads an object: decrypts, substitutes, then parses.
    pub(super) fn parse(&self, index: usize) -> Result<Parsed, Unparsed> {
        let (row, blob) = &self.objects[index];
        let bytes = blob.as_ref().and_then(|blob| {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.bytes(blob).ok().map(<[u8]>::to_vec)
        });
        let missing = || EvaluateError::Missing(format!("{} is not here", self.table.key(*row)));
        let bytes = bytes.ok_or_else(missing)?;
        let failed = |why: &str| {
            let (group, kind, name) = self.table.name(*row);
            EvaluateError::Build(format!("post build failed for '{group}/{kind}/{name}': {why}"))
        };
        match self.table.form(*row) {
            Form::Json => {
                let value = serde_json::from_slice(&bytes).map_err(|_| failed("it is not readable"))?;
                self.decrypted(*row, value)
            }
            Form::Yaml => {
                let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))?;
                let template = read(&text).map_err(|why| failed(&why))?;
                let template = self.decrypted(*row, template)?;
                if !self.values.runs() || substitute::is_disabled(&template.value["metadata"]) {
                    return Ok(template);
                }
                // What was decrypted is substituted in too, as text.
                let text = match template.secret {
                    true => {
                        yaml::write(&template.value.into()).map_err(|_| failed("it has no form in YAML"))?
                    }
                    false => text,
                };
                let substituted =
                    substitute::substitute(&text, &self.values.variables, true).map_err(|e| {
                        failed(&match template.secret {
                            true => e.told_quietly(),
                            false => e.to_string(),
                        })
                    })?;
                let secret = template.secret || self.values.secret && substituted != text;
                let value = read(&substituted).map_err(|why| {
                    // The reader quotes what it stumbles over, and that may be a secret's value by now.
                    let quotes = secret || self.values.secret || self.table.key(*row).is_secret();
                    failed(if quotes {
                        "the substituted text is not valid YAML"
                    } else {
                        &why
                    })
                })?;
                Ok(Parsed { value, secret })
            }
        }
    }

    /// Decrypts what is encrypted of an object.
    fn decrypted(&self, row: u32, mut value: Value) -> Result<Parsed, Unparsed> {
        let failed = |error: object::ObjectError| match error.error {
            SopsError::Unasked(unasked) => Unparsed::Unasked(unasked),
            _ => {
                let (group, kind, name) = self.table.name(row);
                Unparsed::Failed(EvaluateError::Build(format!(
                    "decryption failed for '{group}/{kind}/{name}': {error}"
                )))
            }
        };
        let secret = match &self.keyring {
            Some(keyring) => object::decrypt(&mut value, &keyring.keys).map_err(failed)?,
            None => false,
        };
        let is_secret = value["kind"] == "Secret" && value["apiVersion"] == "v1";
        if is_secret && value.get("sops").is_some() {
            return Err(Unparsed::Failed(EvaluateError::Build(format!(
                "{} is SOPS encrypted, configuring decryption is required for this secret to be reconciled",
                self.table.key(row)
            ))));
        }
        Ok(Parsed { value, secret })
    }
}

/// The objects of an entry's content.
pub(super) fn content(state: &State, entry: &Entry) -> Result<Arc<Table>, EvaluateError> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: String,
    }
    let digest = entry.content.ok_or(EvaluateError::NotRendered)?;
    if let Some(table) = state.table(&digest) {
        return Ok(table.clone());
    }
    let short = digest.short();
    let bytes = state
        .blob(&digest)
        .ok_or_else(|| EvaluateError::Missing(format!("content {short} is not here")))?;
    match Table::from_bytes(&bytes) {
        // No entry of the ledger names it any more, and it is there still.
        Ok(table) => Ok(Arc::new(table)),
        Err(error) => match serde_json::from_slice::<Kind>(&bytes) {
            // What a newer hub sends is not missing: fetching it again changes nothing.
            Ok(Kind { r#type }) if r#type != "objects" => Err(EvaluateError::NotSupported(format!(
                "content of type {type:?} is not supported by this agent"
            ))),
            _ => Err(EvaluateError::Build(format!("content {short}: {error}"))),
        },
    }
}

impl Values {
    /// Takes the variables of an entry.
    pub(super) fn of(state: &State, entry: &Entry) -> Result<Self, EvaluateError> {
        let mut layers: Vec<BTreeMap<String, String>> = Vec::new();
        let mut any_secret = false;
        for layer in &entry.variables {
            match layer {
                VariableLayer::Literal { values } => layers.push(values.clone()),
                VariableLayer::Config { digest, secret } => {
                    any_secret |= secret;
                    let missing =
                        || EvaluateError::Missing(format!("variables {} are not here", digest.short()));
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
        Ok(Self {
            variables,
            secret: any_secret,
            substitution: entry.settings.substitution,
        })
    }

    /// Tells whether objects are substituted that do not opt out.
    fn runs(&self) -> bool {
        self.substitution != Substitution::Off
            && substitute::runs(&self.variables, self.substitution == Substitution::Always)
    }

    /// What substitution makes of a name; `None`: nothing.
    pub(super) fn of_name(&self, name: &str) -> Option<String> {
        match self.runs() {
            true => substitute::substitute(name, &self.variables, true).ok(),
            false => Some(name.to_owned()),
        }
    }
}

fn read(text: &str) -> Result<Value, String> {
    let limits = yaml::Limits {
        bytes: OBJECT_MAX,
        // No object of so many bytes has more, each of its maps counted for ten.
        nodes: 1_000_000,
        ..yaml::Limits::default()
    };
    let mut documents = yaml::read_all(text, &limits).map_err(|e| e.to_string())?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.into()),
        _ => Err("expected one document".to_owned()),
    }
}
