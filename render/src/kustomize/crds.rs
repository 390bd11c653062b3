//! Reads the `crds` of a kustomization: definitions that say which fields of custom resources hold names and labels.

use serde_json::{Map, Value};

use super::config::{Config, NameReference, merge_one};
use super::error::{Result, invalid};
use super::fieldspec::FieldSpec;
use super::id::GvkPattern;

/// Definitions refer to each other less deeply than this in any document that means something.
const DEPTH: usize = 64;

/// Builds the configuration that a file of definitions asks for.
pub(crate) fn config(document: &Value) -> Result<Config> {
    let Value::Object(definitions) = document else {
        return Err(invalid("a map of definitions was expected"));
    };
    let mut result = Config::default();
    for (name, definition) in definitions {
        let fields = properties(definition);
        if !["kind", "apiVersion", "metadata"]
            .iter()
            .all(|field| fields.is_some_and(|f| f.contains_key(*field)))
        {
            continue;
        }
        let kind = name.rsplit('.').next().unwrap_or(name).to_string();
        let gvk = GvkPattern {
            kind,
            ..GvkPattern::default()
        };
        let mut config = Config::default();
        collect(&mut config, &gvk, definitions, name, &mut Vec::new())?;
        result = result.merge(&config)?;
    }
    Ok(result)
}

fn properties(definition: &Value) -> Option<&Map<String, Value>> {
    let schema = definition
        .as_object()?
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case("schema"))?
        .1;
    schema.get("properties").and_then(Value::as_object)
}

fn collect(
    config: &mut Config,
    gvk: &GvkPattern,
    definitions: &Map<String, Value>,
    name: &str,
    path: &mut Vec<String>,
) -> Result<()> {
    if path.len() > DEPTH {
        return Err(invalid("definitions refer to each other in a circle"));
    }
    for (field, property) in definitions.get(name).and_then(properties).into_iter().flatten() {
        path.push(field.clone());
        let text = |key: &str| property.get(key).and_then(Value::as_str);
        let spec = || FieldSpec::new(gvk.clone(), path.join("/"), false);
        if text("x-kubernetes-annotation").is_some() {
            merge_one(&mut config.common_annotations, &spec())?;
        }
        if text("x-kubernetes-label-selector").is_some() {
            merge_one(&mut config.common_labels, &spec())?;
        }
        if text("x-kubernetes-identity").is_some() {
            merge_one(&mut config.name_prefix, &spec())?;
        }
        let version = text("x-kubernetes-object-ref-api-version");
        if let (Some(version), Some(kind)) = (version, text("x-kubernetes-object-ref-kind")) {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = GvkPattern {
                version: version.into(),
                kind: kind.into(),
                ..GvkPattern::default()
            };
            let field = FieldSpec::new(gvk.clone(), format!("{}/{key}", path.join("/")), false);
            config.refer(NameReference {
                gvk: target,
                referrers: vec![field],
            })?;
        }
        if let Some(reference) = text("$ref") {
            collect(config, gvk, definitions, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}
