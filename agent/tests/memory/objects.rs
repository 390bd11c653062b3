//! A unit of many objects of 40 kinds: ConfigMaps, Secrets, Deployments and custom objects, all of them templates.

use std::collections::BTreeMap;

use flotilla_agent::sim;
use flotilla_core::{
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, Substitution, VariableLayer},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// After so many the kinds come again: ConfigMaps, Secrets, Deployments, and 37 of their own definitions.
pub(crate) const ROUND: usize = 80;
pub(crate) const CUSTOM: std::ops::Range<usize> = 43..ROUND;
pub(crate) const NAMESPACES: usize = 10;
/// Kinds and namespaces that have objects: each kind that the API server brings is in all namespaces.
pub(crate) const SCOPES: usize = 3 * NAMESPACES + CUSTOM.end - CUSTOM.start;
/// The object of a number.
pub(crate) fn object(n: usize) -> (ObjectKey, Value) {
    let name = format!("an-object-of-a-usual-name-{n}");
    let namespace = format!("team-{}", n % NAMESPACES);
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": name}});
    let value = match n % ROUND {
        0..20 => json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"level": "info", "size": "${size}", "number": n.to_string()}}),
        20..32 => json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "data": {"password": "c2VjcmV0"}}),
        32..43 => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "web", "image": format!("registry.example.com/team/web:{n}")}]}}}}),
        kind => json!({"apiVersion": "example.com/v1", "kind": format!("Custom{kind}"), "metadata": metadata,
            "spec": {"number": n}}),
    };
    (ObjectKey::of(&value).expect("a key"), value)
}

/// The unit's entry.
pub(crate) fn entry(content: Digest) -> Entry {
    sim::entry(UnitId(Uuid::from_u128(1)), content, |entry| {
        entry.settings.substitution = Substitution::WithVariables;
        entry.variables = vec![VariableLayer::Literal {
            values: BTreeMap::from([("size".to_owned(), "large".to_owned())]),
        }];
    })
}
