//! A configured object after reading, conversion and validation.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::id::ResourceId;
use crate::kind::Kind;
use crate::kinds::Spec;
use crate::secret::SecretData;

/// A resource as an owner gave it, in its kind's current version.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// Its identity.
    pub id: ResourceId,
    /// The `apiVersion` it was written in, perhaps an old one.
    pub written_as: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it asks for.
    pub body: Body,
}

/// A resource's content.
#[derive(Clone, PartialEq)]
pub enum Body {
    /// Any kind but Secret: the `spec`, or for a ConfigMap its fields, in the current version.
    Open(Value),
    /// A Secret's values.
    Secret(SecretData),
}

/// A resource whose content is not of the kind asked for.
#[derive(Debug, thiserror::Error)]
#[error("{id} does not hold a {wanted}")]
pub struct SpecError {
    /// The resource.
    pub id: ResourceId,
    /// The kind asked for.
    pub wanted: Kind,
    /// Why its content does not decode, when the kind is right.
    #[source]
    pub source: Option<serde_json::Error>,
}

impl Resource {
    /// Returns the content as its kind's type.
    pub fn spec<T: Spec>(&self) -> Result<T, SpecError> {
        let error = |source| SpecError {
            id: self.id.clone(),
            wanted: T::KIND,
            source,
        };
        match &self.body {
            Body::Open(value) if T::KIND == self.id.kind => {
                serde_json::from_value(value.clone()).map_err(|source| error(Some(source)))
            }
            _ => Err(error(None)),
        }
    }

    /// Returns the content as JSON; none for a Secret.
    pub fn value(&self) -> Option<&Value> {
        match &self.body {
            Body::Open(value) => Some(value),
            Body::Secret(_) => None,
        }
    }

    /// Returns the values, if this is a Secret.
    pub fn secret(&self) -> Option<&SecretData> {
        match &self.body {
            Body::Open(_) => None,
            Body::Secret(data) => Some(data),
        }
    }

    /// Returns whether the owner asked for the resource to be left alone.
    pub fn is_suspended(&self) -> bool {
        self.value()
            .and_then(|spec| spec["suspend"].as_bool())
            .unwrap_or(false)
    }

    /// Returns the object as it would be written today: current `apiVersion`, no status. None for a Secret.
    pub fn to_object(&self) -> Option<Value> {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(self.id.name));
        if !self.id.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(self.id.namespace));
        }
        for (field, entries) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !entries.is_empty() {
                metadata.insert(field.to_owned(), json!(entries));
            }
        }
        let kind = self.id.kind;
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!(kind.api_version()));
        object.insert("kind".to_owned(), json!(kind.name()));
        object.insert("metadata".to_owned(), Value::Object(metadata));
        match self.value()? {
            spec if kind.has_spec() => {
                object.insert("spec".to_owned(), spec.clone());
            }
            Value::Object(fields) => object.extend(fields.clone()),
            _ => {}
        }
        Some(Value::Object(object))
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("id", &self.id)
            .field("written_as", &self.written_as)
            .field("labels", &self.labels)
            // Annotations may hold kubectl's copy of a whole Secret.
            .field("annotations", &self.annotations.keys())
            .field("body", &self.body)
            .finish()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Open(value) => value.fmt(f),
            Body::Secret(data) => data.fmt(f),
        }
    }
}
