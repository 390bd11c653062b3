//! The kinds: a file per kind, each a `spec` type with the checks its schema cannot say.

pub mod alert;
pub mod bucket;
pub mod cluster;
pub mod config;
pub mod external_artifact;
pub mod git_repository;
pub mod helm_chart;
pub mod helm_release;
pub mod helm_repository;
pub mod image;
pub mod kustomization;
pub mod oci_repository;
pub mod placement;
pub mod provider;
pub mod receiver;
pub mod tenant;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kind::Kind;
use crate::problem::{Check, FieldPath, Problem};
use crate::shape::{self, Shape};

/// The typed content of a kind.
pub trait Spec: DeserializeOwned + Serialize + JsonSchema {
    /// The kind whose content this is.
    const KIND: Kind;

    /// Reports what the schema cannot say: fields that exclude each other, values that contradict.
    fn check(&self, at: &mut Check<'_>) {
        let _ = at;
    }
}

/// What validation needs of a kind, without its type.
struct Entry {
    shape: Shape,
    schema: fn() -> Schema,
    check: fn(&Value, &FieldPath, &mut Vec<Problem>),
}

static ENTRIES: LazyLock<BTreeMap<Kind, Entry>> = LazyLock::new(|| {
    BTreeMap::from([
        entry::<git_repository::GitRepositorySpec>(),
        entry::<oci_repository::OciRepositorySpec>(),
        entry::<helm_repository::HelmRepositorySpec>(),
        entry::<helm_chart::HelmChartSpec>(),
        entry::<bucket::BucketSpec>(),
        entry::<external_artifact::ExternalArtifactSpec>(),
        entry::<kustomization::KustomizationSpec>(),
        entry::<helm_release::HelmReleaseSpec>(),
        entry::<receiver::ReceiverSpec>(),
        entry::<provider::ProviderSpec>(),
        entry::<alert::AlertSpec>(),
        entry::<image::ImageRepositorySpec>(),
        entry::<image::ImagePolicySpec>(),
        entry::<image::ImageUpdateAutomationSpec>(),
        entry::<config::ConfigMapData>(),
        entry::<config::SecretFields>(),
        entry::<cluster::ClusterSpec>(),
        entry::<cluster::ClusterGroupSpec>(),
        entry::<placement::PlacementSpec>(),
        entry::<tenant::TenantSpec>(),
    ])
});

fn entry<T: Spec>() -> (Kind, Entry) {
    (
        T::KIND,
        Entry {
            shape: Shape::of::<T>(),
            schema: shape::schema::<T>,
            check: check::<T>,
        },
    )
}

/// Returns the JSON schema of a kind's content: its `spec`, or the fields of a ConfigMap or Secret.
pub fn schema(kind: Kind) -> Schema {
    (entry_of(kind).schema)()
}

/// Returns the form of a kind's content.
pub(crate) fn shape_of(kind: Kind) -> &'static Shape {
    &entry_of(kind).shape
}

/// Returns where a kind's content stands in an object: under `spec`, or at the top.
pub(crate) fn content_path(kind: Kind) -> FieldPath {
    match kind.has_spec() {
        true => FieldPath::root().field("spec"),
        false => FieldPath::root(),
    }
}

/// Decodes the content and runs the kind's own checks. The walk has compared it with the schema before, so a
/// value that does not decode was already reported, or is reported here.
pub(crate) fn check_content(kind: Kind, value: &Value, path: &FieldPath, problems: &mut Vec<Problem>) {
    (entry_of(kind).check)(value, path, problems);
}

fn entry_of(kind: Kind) -> &'static Entry {
    ENTRIES
        .get(&kind)
        .expect("every kind has an entry; a test goes through them all")
}

fn check<T: Spec>(value: &Value, path: &FieldPath, problems: &mut Vec<Problem>) {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(spec) => spec.check(&mut Check::new(path.clone(), problems)),
        Err(_) if !problems.is_empty() => {}
        // The schema and the type come from one definition; this is the net below them. A Secret's value could
        // stand in the message.
        Err(_) if T::KIND == Kind::Secret => problems.push(Problem::new(path.clone(), "does not decode")),
        Err(error) => problems.push(Problem::new(path.clone(), error.to_string())),
    }
}

/// Whether a boolean is false, so that defaults are not written out.
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Form;

    #[test]
    fn every_kind_has_an_entry_whose_form_is_an_object() {
        for kind in Kind::all() {
            assert!(matches!(shape_of(kind), Shape::Object(_)), "{kind}");
        }
    }

    fn formats_of_texts(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                let is_text = match &schema["type"] {
                    Value::String(of) => of == "string",
                    Value::Array(of) => of.contains(&"string".into()) && !of.contains(&"integer".into()),
                    _ => false,
                };
                if is_text && let Some(format) = schema["format"].as_str() {
                    found.push(format.to_owned());
                }
                fields.values().for_each(|field| formats_of_texts(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| formats_of_texts(item, found)),
            _ => {}
        }
    }

    #[test]
    fn each_format_of_a_text_is_a_form_that_is_checked() {
        let mut found = Vec::new();
        Kind::all().for_each(|kind| formats_of_texts(schema(kind).as_value(), &mut found));
        let unknown: Vec<&String> = found
            .iter()
            .filter(|format| Form::of_format(format).is_none())
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(found.iter().any(|format| format == Form::Re2.format()));
    }
}
