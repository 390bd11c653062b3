//! Makes of a unit's entry the objects to apply: variables, substitution, parsing, labels, namespaces. Pure over
//! what the ledger holds and what the cluster serves. A set is given whole or not at all: one object that cannot
//! be evaluated must not look like one that is no longer wanted.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_core::{
    apply::{UNIT_LABEL, plan::Desired, policy::Policy},
    content::{Form, ObjectEntry},
    digest::{Digest, canonical_json},
    object::{ObjectKey, group_of},
    substitute::{self, Variables},
    unit::{Entry, Substitution, VariableLayer, Withheld},
};
use flotilla_render::yaml;
use serde_json::{Map, Value, json};

use crate::{
    cluster::{Discovery, Resource, Served},
    ledger::state::State,
};

/// Bytes of one object after substitution; an API server takes less.
const OBJECT_MAX: usize = 8 << 20;

/// An object as it would be sent.
#[derive(Debug, Clone)]
pub struct Object {
    /// Key, digest and switches.
    pub desired: Desired,
    /// Its API version.
    pub api_version: String,
    /// How the cluster serves its kind; `None` when it does not.
    pub resource: Option<Resource>,
    /// The object.
    pub value: Value,
}

/// A unit's objects.
#[derive(Debug, Clone, Default)]
pub struct Evaluated {
    /// The objects, in the renderer's order.
    pub objects: Vec<Object>,
    /// Objects that another unit of the cluster owns, as the hub knows: left alone.
    pub withheld: Vec<Withheld>,
    /// Whoever rendered asserts that nothing is missing.
    pub complete: bool,
}

/// Why there are no objects. Each says which reason the unit's status gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// Nothing was rendered for this unit yet.
    #[error("nothing is rendered yet")]
    NotRendered,
    /// The ledger lacks the content or a part of it.
    #[error("{0}")]
    Missing(String),
    /// The entry asks for what this version cannot do.
    #[error("{0}")]
    NotSupported(String),
    /// Building failed, in Flux's words.
    #[error("{0}")]
    Build(String),
}

impl EvaluateError {
    /// The reason for the unit's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotRendered => "ArtifactFailed",
            Self::Missing(_) => "ContentMissing",
            Self::NotSupported(_) => "NotSupported",
            Self::Build(_) => "BuildFailed",
        }
    }
}

/// Evaluates an entry. `key` is the ledger's own, for digests of what is sent. With `only`, objects that cannot be
/// among these are passed over, and the set is not complete.
pub fn evaluate(
    state: &State,
    entry: &Entry,
    discovery: &Discovery,
    key: &[u8; 32],
    only: Option<&[ObjectKey]>,
) -> Result<Evaluated, EvaluateError> {
    let (variables, secret) = variables(state, entry)?;
    let digest = entry.content.ok_or(EvaluateError::NotRendered)?;
    let content = state
        .content(&digest)
        .ok_or_else(|| EvaluateError::Missing(format!("content {} is not here", digest.short())))?;
    let flotilla_core::content::Content::Objects(objects) = &content;
    let wanted = only.map(|keys| Wanted::new(keys, discovery));
    let taken = |object: &&ObjectEntry| wanted.as_ref().is_none_or(|wanted| wanted.may_be(object));
    let mut values = Vec::new();
    for object in objects.entries.iter().filter(taken) {
        let value = parse(state, entry, object, &variables, secret)?;
        values.push(decorate(value, entry)?);
    }
    let scopes = defined_scopes(&values);
    let mut seen = HashSet::new();
    let mut evaluated = Evaluated {
        objects: Vec::with_capacity(values.len()),
        withheld: Vec::new(),
        complete: objects.complete && only.is_none(),
    };
    for value in values {
        let object = normalise(value, entry, discovery, &scopes, key)?;
        if !seen.insert(object.desired.key.clone()) {
            return Err(EvaluateError::Build(format!(
                "kustomize build failed: {} occurs twice",
                object.desired.key
            )));
        }
        match entry
            .withheld
            .iter()
            .find(|withheld| withheld.key == object.desired.key)
        {
            Some(withheld) => evaluated.withheld.push(withheld.clone()),
            None => evaluated.objects.push(object),
        }
    }
    Ok(evaluated)
}

/// Which objects of a content may give some keys.
struct Wanted<'a> {
    names: HashSet<(&'a str, &'a str, &'a str)>,
    /// Definitions say where kinds live that are not served.
    definitions: bool,
}

impl<'a> Wanted<'a> {
    fn new(keys: &'a [ObjectKey], discovery: &Discovery) -> Self {
        let served = |key: &ObjectKey| discovery.preferred(&key.group, &key.kind).is_some();
        Self {
            // Namespaces are settled by evaluation.
            names: keys.iter().map(name).collect(),
            definitions: !keys.iter().all(served),
        }
    }

    fn may_be(&self, object: &ObjectEntry) -> bool {
        // Substitution may change a template's name.
        object.form == Form::Yaml
            || self.names.contains(&name(&object.key))
            || (self.definitions && object.key.kind == "CustomResourceDefinition")
    }
}

fn name(key: &ObjectKey) -> (&str, &str, &str) {
    (&key.group, &key.kind, &key.name)
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

fn parse(
    state: &State,
    entry: &Entry,
    object: &ObjectEntry,
    variables: &Variables,
    secret: bool,
) -> Result<Value, EvaluateError> {
    let bytes = state
        .blob(&object.digest)
        .ok_or_else(|| EvaluateError::Missing(format!("{} is not here", object.key)))?;
    let failed = |why: &str| {
        let key = &object.key;
        EvaluateError::Build(format!(
            "post build failed for '{}/{}/{}': {why}",
            key.group, key.kind, key.name
        ))
    };
    match object.form {
        Form::Json => serde_json::from_slice(&bytes).map_err(|_| failed("it is not readable")),
        Form::Yaml => {
            let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))?;
            let template = read(&text).map_err(|why| failed(&why))?;
            let always = entry.settings.substitution == Substitution::Always;
            if entry.settings.substitution == Substitution::Off
                || !substitute::runs(variables, always)
                || substitute::is_disabled(&template["metadata"])
            {
                return Ok(template);
            }
            let text = substitute::substitute(&text, variables, true).map_err(|e| failed(&e.to_string()))?;
            read(&text).map_err(|why| {
                // The reader quotes what it stumbles over, and that may be a secret's value by now.
                let quotes = secret || object.key.is_secret();
                failed(if quotes {
                    "the substituted text is not valid YAML"
                } else {
                    &why
                })
            })
        }
    }
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

/// Labels and annotations, and what the API server would refuse or forget.
fn decorate(mut value: Value, entry: &Entry) -> Result<Value, EvaluateError> {
    let unreadable = || EvaluateError::Build("kustomize build failed: an object is no map".to_owned());
    let is_crd = value["kind"] == "CustomResourceDefinition";
    let is_secret = value["kind"] == "Secret" && value["apiVersion"] == "v1";
    let object = value.as_object_mut().ok_or_else(unreadable)?;
    if !is_crd {
        object.remove("status");
    }
    if is_secret {
        encode_string_data(object);
    }
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(unreadable)?;
    for field in [
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
        "selfLink",
    ] {
        metadata.remove(field);
    }
    let settings = &entry.settings;
    add(metadata, "annotations", settings.common_annotations.iter())?;
    add(metadata, "labels", settings.common_labels.iter())?;
    let group = match entry.app.kind.as_str() {
        "HelmRelease" => "helm",
        _ => "kustomize",
    };
    let owner = [
        (format!("{group}.toolkit.fluxcd.io/name"), entry.app.name.clone()),
        (
            format!("{group}.toolkit.fluxcd.io/namespace"),
            entry.app.namespace.clone(),
        ),
        (UNIT_LABEL.to_owned(), entry.unit.to_string()),
    ];
    add(
        metadata,
        "labels",
        owner.iter().map(|(name, value)| (name, value)),
    )?;
    Ok(value)
}

fn add<'a>(
    metadata: &mut Map<String, Value>,
    field: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), EvaluateError> {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let held = metadata.entry(field).or_insert(Value::Null);
    if held.is_null() {
        *held = json!({});
    }
    let held = held
        .as_object_mut()
        .ok_or_else(|| EvaluateError::Build(format!("kustomize build failed: metadata.{field} is no map")))?;
    for (name, value) in entries {
        held.insert(name.clone(), value.clone().into());
    }
    Ok(())
}

/// The server would do the same, yet leave us the owner of a field that it then forgets.
fn encode_string_data(secret: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    let data = secret.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (name, value) in plain {
            let text = value.as_str().unwrap_or_default();
            data.insert(name, BASE64.encode(text).into());
        }
    }
}

/// Kinds that the set itself defines, and whether they live in namespaces.
fn defined_scopes(values: &[Value]) -> BTreeMap<(String, String), bool> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    values
        .iter()
        .filter(|value| value["kind"] == "CustomResourceDefinition")
        .map(|crd| {
            let spec = &crd["spec"];
            (
                (text(&spec["group"]), text(&spec["names"]["kind"])),
                spec["scope"] == "Namespaced",
            )
        })
        .collect()
}

fn normalise(
    mut value: Value,
    entry: &Entry,
    discovery: &Discovery,
    scopes: &BTreeMap<(String, String), bool>,
    key: &[u8; 32],
) -> Result<Object, EvaluateError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
    let resource = match discovery.find(&api_version, &kind) {
        Served::Yes(resource) => Some(resource.clone()),
        Served::OtherVersions | Served::No | Served::Unknown => None,
    };
    let group = group_of(&api_version);
    let namespaced = match (&resource, discovery.preferred(group, &kind)) {
        (Some(resource), _) => Some(resource.namespaced),
        (None, Some(other)) => Some(other.namespaced),
        (None, None) => scopes.get(&(group.to_owned(), kind.clone())).copied(),
    };
    if let Some(metadata) = value["metadata"].as_object_mut() {
        match namespaced {
            Some(true)
                if metadata
                    .get("namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .is_empty() =>
            {
                let default = match entry.settings.default_namespace.as_str() {
                    "" => "default",
                    namespace => namespace,
                };
                metadata.insert("namespace".to_owned(), default.into());
            }
            Some(false) => {
                metadata.remove("namespace");
            }
            _ => {}
        }
    }
    let object_key = ObjectKey::of(&value).ok_or_else(|| {
        EvaluateError::Build(format!(
            "kustomize build failed: {api_version} {kind} without a name"
        ))
    })?;
    let digest = Digest::keyed(key, "sent", canonical_json(&value).as_bytes());
    let policy = Policy::of(&value["metadata"]);
    Ok(Object {
        desired: Desired {
            key: object_key,
            digest,
            policy,
        },
        api_version,
        resource,
        value,
    })
}
