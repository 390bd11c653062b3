//! An object as it is sent: with the unit's labels and annotations, and without what the API server would
//! refuse, forget, or take from whoever else owns it. As Flux does where Flux does it.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_core::{apply::UNIT_LABEL, object::ObjectKey, text, unit::Entry};
use serde_json::{Map, Value, json};
use x509_parser::pem::Pem;

use super::{
    EvaluateError,
    native::{self, at},
};

/// Fields of `metadata` that the API server sets. An owner is named by its UID, which a manifest can know of one
/// cluster only: in any other the garbage collector would delete the object at once.
const SET_BY_SERVER: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Labels and annotations, and normal form.
pub(super) fn decorate(mut value: Value, entry: &Entry) -> Result<Value, EvaluateError> {
    let name = ObjectKey::of(&value).map_or_else(|| "an object".to_owned(), |key| key.to_string());
    let failed = |why: &str| EvaluateError::Build(format!("kustomize build failed: {name}: {why}"));
    normalise(&mut value).map_err(|why| failed(&why))?;
    let object = value.as_object_mut().ok_or_else(|| failed("is no map"))?;
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| failed("metadata is no map"))?;
    for field in SET_BY_SERVER {
        metadata.remove(*field);
    }
    let settings = &entry.settings;
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
    let owner = owner.iter().map(|(name, value)| (name, value));
    add(metadata, "annotations", settings.common_annotations.iter()).map_err(|why| failed(&why))?;
    add(metadata, "labels", settings.common_labels.iter().chain(owner)).map_err(|why| failed(&why))?;
    Ok(value)
}

fn add<'a>(
    metadata: &mut Map<String, Value>,
    field: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let map = map_at(metadata, field).ok_or_else(|| format!("metadata.{field} is no map"))?;
    for (name, value) in entries {
        map.insert(name.clone(), value.clone().into());
    }
    Ok(())
}

/// The map at `field`, made where there is none; `None` when something else stands there.
fn map_at<'a>(object: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    let value = object.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

fn normalise(value: &mut Value) -> Result<(), String> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_definition =
        api_version.starts_with("apiextensions.k8s.io/") && kind == "CustomResourceDefinition";
    if let Some(object) = value.as_object_mut().filter(|_| !is_definition) {
        object.remove("status");
    }
    native::normalise(value);
    match (api_version.as_str(), kind.as_str()) {
        ("v1", "Secret") => return value.as_object_mut().map_or(Ok(()), encode_string_data),
        _ if is_definition => drop_invalid_ca_bundle(value),
        _ => {}
    }
    Ok(())
}

/// The server would do the same, yet leave us the owner of a field that it then forgets.
fn encode_string_data(secret: &mut Map<String, Value>) -> Result<(), String> {
    let plain = match secret.remove("stringData") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(plain)) => plain,
        Some(_) => return Err("stringData is no map".to_owned()),
    };
    if secret.get("data").is_none_or(Value::is_null) && plain.is_empty() {
        return Ok(());
    }
    let data = map_at(secret, "data").ok_or("data is no map")?;
    for (name, value) in &*data {
        let is_base64 = value.is_null() || value.as_str().and_then(text::base64::decode).is_some();
        if !is_base64 {
            return Err(format!(
                "data.{name} is no base64; encode the value, or put it as it is in stringData"
            ));
        }
    }
    for (name, value) in plain {
        let text = match &value {
            Value::String(text) => text.as_str(),
            // As Kubernetes reads a missing text.
            Value::Null => "",
            // The value is not told: it may well be the secret.
            _ => return Err(format!("stringData.{name} is no text; put it in quotes")),
        };
        let encoded = BASE64.encode(text);
        data.insert(name, encoded.into());
    }
    Ok(())
}

/// Placeholders for the certificates of a conversion webhook are refused by the server and contested by whoever
/// injects the real ones.
fn drop_invalid_ca_bundle(definition: &mut Value) {
    let Some(config) = at(definition, &["spec", "conversion", "webhook", "clientConfig"]) else {
        return;
    };
    let is_valid = |bundle: &Value| {
        let bytes = bundle.as_str().and_then(text::base64::decode);
        bytes.is_some_and(|bytes| holds_certificate(&bytes))
    };
    if config.get("caBundle").is_some_and(|bundle| !is_valid(bundle))
        && let Some(config) = config.as_object_mut()
    {
        config.remove("caBundle");
    }
}

fn holds_certificate(bytes: &[u8]) -> bool {
    Pem::iter_from_buffer(bytes)
        .filter_map(Result::ok)
        .any(|pem| pem.label == "CERTIFICATE" && pem.parse_x509().is_ok())
}
