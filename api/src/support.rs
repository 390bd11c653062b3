//! What this release does not reconcile yet. A resource that asks for it is stored, shown as `NotSupported`
//! with the fields, and nothing of it is published: never half-applied.
//!
//! Each list is a table; a feature that lands deletes its row.

use serde_json::Value;

use crate::kind::Kind;
use crate::resource::Resource;

/// Something a resource asks for that this release does not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsupported {
    /// The whole kind.
    Kind(Kind),
    /// One field, as its path: `spec.kubeConfig`.
    Field(String),
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsupported::Kind(kind) => write!(f, "{kind}"),
            Unsupported::Field(path) => f.write_str(path),
        }
    }
}

/// The kinds this release reconciles.
pub const RECONCILED: &[Kind] = &[
    Kind::GitRepository,
    Kind::Kustomization,
    Kind::Receiver,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::Cluster,
    Kind::Placement,
    Kind::ClusterGroup,
];

/// When a field counts as asked for.
#[derive(Clone, Copy, Debug)]
enum When {
    /// It is there, and not false, empty or null.
    Set,
    /// It is there with another value than this.
    Not(&'static str),
}

/// A field below `spec`, with `*` for every element of a list.
type Row = (&'static [&'static str], When);

const KUSTOMIZATION: &[Row] = &[
    (&["decryption", "serviceAccountName"], When::Set),
    (&["sourceRef", "kind"], When::Not("GitRepository")),
];

const GIT_REPOSITORY: &[Row] = &[(&["serviceAccountName"], When::Set)];

const RECEIVER: &[Row] = &[
    (&["type"], When::Not("generic-hmac")),
    (&["resourceFilter"], When::Set),
    (&["oidcProviders"], When::Set),
    (&["resources", "*", "filter"], When::Set),
];

const CLUSTER: &[Row] = &[(&["flux"], When::Set), (&["hub"], When::Set)];

const PLACEMENT: &[Row] = &[
    (&["apps", "*", "kind"], When::Not("Kustomization")),
    (&["overrides", "*", "patches"], When::Set),
    (&["overrides", "*", "values"], When::Set),
    (&["rollout"], When::Set),
];

/// Returns what the resource asks for that this release does not do; empty when it can be reconciled whole.
pub fn unsupported(resource: &Resource) -> Vec<Unsupported> {
    let kind = resource.id.kind;
    if !RECONCILED.contains(&kind) {
        return vec![Unsupported::Kind(kind)];
    }
    let rows = match kind {
        Kind::Kustomization => KUSTOMIZATION,
        Kind::GitRepository => GIT_REPOSITORY,
        Kind::Receiver => RECEIVER,
        Kind::Cluster => CLUSTER,
        Kind::Placement => PLACEMENT,
        _ => &[],
    };
    let Some(spec) = resource.value() else {
        return Vec::new();
    };
    rows.iter()
        .flat_map(|(path, when)| asked(spec, path, *when, "spec"))
        .map(Unsupported::Field)
        .collect()
}

/// Returns the paths at which the field is asked for.
fn asked(value: &Value, path: &[&str], when: When, at: &str) -> Vec<String> {
    match path {
        [] => {
            if holds(value, when) {
                vec![at.to_owned()]
            } else {
                Vec::new()
            }
        }
        ["*", rest @ ..] => value
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .flat_map(|(index, value)| asked(value, rest, when, &format!("{at}[{index}]")))
            .collect(),
        [field, rest @ ..] => match value.get(field) {
            Some(value) => asked(value, rest, when, &format!("{at}.{field}")),
            None => Vec::new(),
        },
    }
}

fn holds(value: &Value, when: When) -> bool {
    match (when, value) {
        (_, Value::Null) => false,
        (When::Set, Value::Bool(set)) => *set,
        (When::Set, Value::String(text)) => !text.is_empty(),
        (When::Set, Value::Array(elements)) => !elements.is_empty(),
        (When::Set, _) => true,
        (When::Not(only), value) => value != only,
    }
}
