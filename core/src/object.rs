//! Identity of a Kubernetes object, everywhere the same: in claims, inventories, reports and plans.

use std::fmt;

use serde::{Deserialize, Serialize};

/// (group, kind, namespace, name). The API version is an attribute and not part of the identity: an object
/// written under another version of its group is the same object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// API group, empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind, e.g. `Deployment`.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// Makes a key from its parts.
    pub fn new(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Reads the key of an object from its JSON. `None` when it has no kind, apiVersion or name.
    pub fn of(object: &serde_json::Value) -> Option<Self> {
        let api_version = object.get("apiVersion")?.as_str()?;
        let metadata = object.get("metadata")?;
        Some(Self::new(
            group_of(api_version),
            object.get("kind")?.as_str().filter(|kind| !kind.is_empty())?,
            metadata.get("namespace").and_then(|v| v.as_str()).unwrap_or(""),
            metadata.get("name")?.as_str().filter(|name| !name.is_empty())?,
        ))
    }

    /// Tells whether this is a Secret, whose payload is sealed at rest and masked everywhere.
    pub fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }
}

/// The group of an `apiVersion`: what stands before the slash, empty for the core group.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// `Kind/namespace/name`, as Flux names objects in messages; without namespace `Kind/name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_read_from_an_object_without_its_version() {
        let old = json!({"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"}});
        let new = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"}});
        assert_eq!(ObjectKey::of(&old), ObjectKey::of(&new));
        assert_eq!(
            ObjectKey::of(&new).map(|key| key.to_string()).as_deref(),
            Some("Deployment/a/web")
        );
        assert_eq!(
            ObjectKey::of(&json!({"kind": "ConfigMap", "metadata": {"name": "x"}})),
            None
        );
        assert_eq!(
            ObjectKey::of(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})),
            None
        );
    }
}
