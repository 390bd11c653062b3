//! Reads the `crds` of a kustomization: definitions that say which fields of custom resources hold names and labels.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::config::{Config, NameReference};
use super::error::{Result, invalid, shortened};
use super::fieldspec::FieldSpec;
use super::id::GvkPattern;
use super::steps::Steps;

/// Definitions refer to each other less deeply than this in any document that means something.
const DEPTH: usize = 64;

/// Builds the configuration that a file of definitions asks for.
pub(crate) fn config(document: &Value, steps: &Steps<'_>) -> Result<Config> {
    // A file of comments alone.
    if document.is_null() {
        return Ok(Config::default());
    }
    let Value::Object(definitions) = document else {
        return Err(invalid("a map of definitions was expected"));
    };
    let mut found = Config::default();
    let mut barren = HashSet::new();
    definitions
        .iter()
        .try_for_each(|(name, definition)| check(name, definition))?;
    for (name, definition) in definitions {
        let fields = properties(definition);
        if !["kind", "apiVersion", "metadata"]
            .iter()
            .all(|field| fields.is_some_and(|f| f.contains_key(*field)))
        {
            continue;
        }
        steps.spend(1)?;
        let kind = name.rsplit('.').next().unwrap_or(name).to_string();
        let gvk = GvkPattern {
            kind,
            ..GvkPattern::default()
        };
        let mut reading = Reading {
            definitions,
            gvk: &gvk,
            path: Vec::new(),
            found: &mut found,
            count: 0,
            barren: &mut barren,
            steps,
        };
        reading.definition(name)?;
    }
    Config::default().merge(&found, steps)
}

fn schema(definition: &Value) -> Option<&Value> {
    let fields = definition.as_object()?.iter();
    let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case("schema"));
    Some(named.next()?.1)
}

fn properties(definition: &Value) -> Option<&Map<String, Value>> {
    schema(definition)?.get("properties").and_then(Value::as_object)
}

/// Refuses what is no definition, as a manifest of a CustomResourceDefinition holds: nothing would be known of it.
fn check(name: &str, definition: &Value) -> Result<()> {
    let map = |value: Option<&Value>, what: &str| match value {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(invalid(format!(
            "'{}{what}' is not a map: definitions of OpenAPI are expected, by their names, and a manifest of a CustomResourceDefinition is none",
            shortened(name)
        ))),
    };
    map(Some(definition), "")?;
    let schema = schema(definition);
    map(schema, ".Schema")?;
    let properties = schema.and_then(|schema| schema.get("properties"));
    map(properties, ".Schema.properties")?;
    let properties = properties.and_then(Value::as_object).into_iter().flatten();
    for (field, property) in properties {
        map(
            Some(property),
            &format!(".Schema.properties.{}", shortened(field)),
        )?;
    }
    Ok(())
}

/// The reading of one type, whose definition refers to others.
struct Reading<'d, 'r> {
    definitions: &'d Map<String, Value>,
    gvk: &'r GvkPattern,
    /// The fields that lead to the definition that is read.
    path: Vec<String>,
    /// The fields that say something, as they come.
    found: &'r mut Config,
    /// How many there are of this type.
    count: usize,
    /// Definitions in and below which no field says anything, whatever leads to them: they are read once.
    barren: &'r mut HashSet<&'d str>,
    steps: &'r Steps<'r>,
}

impl<'d> Reading<'d, '_> {
    fn definition(&mut self, name: &'d str) -> Result<()> {
        if self.path.len() > DEPTH {
            return Err(invalid("definitions refer to each other in a circle"));
        }
        if self.barren.contains(name) {
            return Ok(());
        }
        let before = self.count;
        let definitions = self.definitions;
        for (field, property) in definitions.get(name).and_then(properties).into_iter().flatten() {
            self.steps.spend(1 + self.path.len())?;
            self.path.push(field.clone());
            self.property(property)?;
            if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
                self.definition(reference)?;
            }
            self.path.pop();
        }
        if self.count == before {
            self.barren.insert(name);
        }
        Ok(())
    }

    /// Adds the field that the path leads to where its property says what it holds.
    fn property(&mut self, property: &Value) -> Result<()> {
        let text = |key: &str| property.get(key).and_then(Value::as_str);
        let path = self.path.join("/");
        let mut field = |more: &str| {
            self.count += 1;
            // Kept as a whole and in its parts.
            self.steps
                .spend_copy(1 + self.path.len(), 2 * (path.len() + more.len()))?;
            FieldSpec::read(self.gvk.clone(), format!("{path}{more}"), false)
        };
        for (key, list) in [
            ("x-kubernetes-annotation", &mut self.found.common_annotations),
            ("x-kubernetes-label-selector", &mut self.found.common_labels),
            ("x-kubernetes-identity", &mut self.found.name_prefix),
        ] {
            if text(key).is_some() {
                list.push(field("")?);
            }
        }
        let version = text("x-kubernetes-object-ref-api-version");
        if let (Some(version), Some(kind)) = (version, text("x-kubernetes-object-ref-kind")) {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let gvk = GvkPattern {
                version: version.into(),
                kind: kind.into(),
                ..GvkPattern::default()
            };
            let referrers = vec![field(&format!("/{key}"))?];
            self.found.name_reference.push(NameReference { gvk, referrers });
        }
        Ok(())
    }
}
