//! A unit's entry in a cluster's desired state, and the digests that name it.
//!
//! An entry travels in its canonical JSON; its digest covers all its fields, also those a reader does not know.
//! The target digest covers only what decides the cluster's objects: content, settings and variables. A commit
//! that changes none of them changes no unit.

mod applied;
pub mod attempt;
mod check;
pub mod condition;
mod desire;
pub mod event;
pub mod health;
mod held;
mod index;
mod intake;
mod looks;
pub mod now;
pub mod object;
mod pass;
pub mod problem;
pub mod record;
pub mod remove;
pub mod state;
mod step;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use health::HealthChecks;

use crate::{
    apply::ignore::IgnoreRule,
    digest::{Digest, canonical_json},
    id::{ResourceUid, UnitId},
    object::ObjectKey,
    removal::{Clearing, DeletionPolicy, Removal},
};

/// What one cluster should do about one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The unit.
    pub unit: UnitId,
    /// Rises with each change of the target; echoed in reports, so that A → B → A never shows an old status.
    pub version: u64,
    /// Whose objects these are.
    pub app: AppRef,
    /// Digest of the content; `None` while nothing was ever rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// Digest of content, settings and variables: what status names.
    pub target: Digest,
    /// The source revision admitted here, for people and events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// What is to be done with the objects.
    pub state: UnitState,
    /// What may be deleted of what has left the content; unset: nothing may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_cleared: Option<Clearing>,
    /// The target with which a person has allowed that more is deleted than guards let pass: void with any other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_approved: Option<Digest>,
    /// How to apply.
    pub settings: Settings,
    /// Variables in order: a later layer overrides an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<VariableLayer>,
    /// Units of this cluster that have to be ready first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Objects of the content that another unit of this cluster owns: left alone, reported as `Conflict`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// A value that changes with each request to reconcile now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requested: String,
}

/// An app that has to be ready first: in this cluster the first of the units that its name may lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// `namespace/name`, for people.
    pub name: String,
    /// The units that it may be, in the order in which its name resolves.
    pub units: Vec<Needed>,
    /// Says when it is ready, in place of its own condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Box<ReadyExpr>>,
}

impl Dependency {
    /// On this one unit, whichever version it has.
    pub fn on(name: &str, unit: UnitId) -> Self {
        Self {
            name: name.to_owned(),
            units: vec![Needed {
                unit,
                version: 0,
                app: None,
            }],
            ready: None,
        }
    }
}

/// A unit that a dependency may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    /// The unit.
    pub unit: UnitId,
    /// The version that it must have applied, or a later one; 0: whichever it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub version: u64,
    /// Its app without status, for an expression that looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Box<Value>>,
}

/// When a dependency is ready, in the words of whoever needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyExpr {
    /// The CEL expression, over `dep` and `self`.
    pub expr: String,
    /// The app of this unit without status.
    pub app: Value,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An object of the content that this unit may not write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// The object.
    pub key: ObjectKey,
    /// Who owns it, `Kind/namespace/name` of the app.
    pub owner: String,
}

/// The app of a unit, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AppRef {
    /// The resource.
    pub uid: ResourceUid,
    /// `Kustomization`, later `HelmRelease`.
    pub kind: String,
    /// Namespace of the app in its scope.
    pub namespace: String,
    /// Name of the app in its scope.
    pub name: String,
}

impl std::fmt::Display for AppRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// What is to be done with a unit's objects. Every state but `Removing` keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum UnitState {
    /// Applied and enforced.
    Active,
    /// Kept, reported, not enforced.
    Suspended,
    /// The inventory is kept, nothing is enforced: unassigned, or let go.
    Detached,
    /// To be removed: how, and whether that is allowed.
    Removing(Removal),
}

/// How a unit is applied: the fields of the app's spec that the agent acts on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Full verification of the unit at least this often.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// Time between attempts after a failure.
    #[serde(with = "millis")]
    pub retry_interval: Duration,
    /// Bound of health checks.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Ready needs the health of all applied objects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// Objects that leave the content are to be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prune: bool,
    /// Labels put on every object (not on pod templates).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub common_labels: BTreeMap<String, String>,
    /// Annotations put on every object (not on pod templates).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub common_annotations: BTreeMap<String, String>,
    /// How variables are substituted.
    #[serde(default, skip_serializing_if = "Substitution::is_off")]
    pub substitution: Substitution,
    /// Namespace of namespaced objects that name none; empty: these are refused, as Flux does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default_namespace: String,
    /// ServiceAccount in the app's namespace of the cluster as which everything is asked there; empty: the agent's default,
    /// or the agent itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// Objects with changed fields that cannot be changed are made anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Fields that are left to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<IgnoreRule>,
    /// Whose health it waits for beside that of its own objects, and how kinds are judged.
    #[serde(default, skip_serializing_if = "HealthChecks::is_empty")]
    pub health: HealthChecks,
    /// How what is encrypted of the content is decrypted in the cluster; `None`: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<Decryption>,
    /// What the hub keeps of what the app renders: for the agent a number, by which a change of that alone is applied in its turn,
    /// after what the app needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Digest>,
}

/// How encrypted objects are decrypted, in the cluster and with its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decryption {
    /// What they are encrypted with. An agent that does not know it says so.
    pub provider: DecryptionProvider,
    /// Name of the Secret with the keys, in the app's namespace; empty: there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
}

/// What objects are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DecryptionProvider {
    /// SOPS.
    #[default]
    Sops,
}

/// Whether and how variables are substituted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Substitution {
    /// No object is looked at: neither the app nor a placement asks for substitution.
    #[default]
    Off,
    /// Flux's default: only when there are variables; a missing variable is an error.
    WithVariables,
    /// Also without variables, so that defaults such as `${x:=y}` work.
    Always,
}

impl Substitution {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// One layer of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum VariableLayer {
    /// Values that stand in the entry.
    Literal {
        /// Name to value.
        values: BTreeMap<String, String>,
    },
    /// Values of a ConfigMap or Secret held by the hub, fetched like content.
    Config {
        /// Digest of the canonical JSON map; keyed for a Secret.
        digest: Digest,
        /// The values came from a Secret: sealed at rest, masked everywhere.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        secret: bool,
    },
    /// A ConfigMap or Secret that only the cluster has; resolved by the agent, never sent to the hub.
    ClusterRef {
        /// `ConfigMap` or `Secret`.
        kind: String,
        /// Name in the app's namespace.
        name: String,
        /// A missing object is no error.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
}

impl VariableLayer {
    /// The digest of the values that the hub holds for it.
    pub fn config(&self) -> Option<Digest> {
        match self {
            Self::Config { digest, .. } => Some(*digest),
            Self::Literal { .. } | Self::ClusterRef { .. } => None,
        }
    }
}

#[derive(Serialize)]
struct Target<'a> {
    content: Option<Digest>,
    settings: &'a Settings,
    variables: &'a [VariableLayer],
}

/// The target digest of a unit.
pub fn target_digest(content: Option<Digest>, settings: &Settings, variables: &[VariableLayer]) -> Digest {
    Digest::of_json(
        "target",
        &Target {
            content,
            settings,
            variables,
        },
    )
}

impl Entry {
    /// Whether all of it is to be let go of, and nothing deleted.
    pub fn is_parting(&self) -> bool {
        matches!(&self.state, UnitState::Removing(removal) if removal.policy == DeletionPolicy::Orphan)
    }

    /// The canonical bytes, as they travel and as the ledger keeps them.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(self).into_bytes()
    }

    /// Digest of bytes that claim to be an entry.
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of("entry", bytes)
    }

    /// Digests of the contents that it names: configurations, then the objects.
    pub fn contents(&self) -> impl Iterator<Item = Digest> {
        let configs = self.variables.iter().filter_map(|layer| match layer {
            VariableLayer::Config { digest, .. } => Some(*digest),
            _ => None,
        });
        configs.chain(self.content)
    }

    /// Reads an entry; fields of newer hubs are passed over, yet stay covered by the digest of the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// The root digest of a cluster's desired state: over (unit id, entry digest), ordered by unit id.
pub fn root(entries: impl IntoIterator<Item = (UnitId, Digest)>) -> Digest {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable();
    let mut bytes = Vec::with_capacity(entries.len() * 48);
    for (unit, digest) in &entries {
        bytes.extend_from_slice(unit.0.as_bytes());
        bytes.extend_from_slice(digest.as_bytes());
    }
    Digest::of("root", &bytes)
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod entry_tests {
    use uuid::Uuid;

    use super::*;

    fn entry() -> Entry {
        let settings = Settings {
            interval: Duration::from_secs(600),
            retry_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(570),
            wait: false,
            prune: true,
            common_labels: BTreeMap::new(),
            common_annotations: BTreeMap::new(),
            substitution: Substitution::Off,
            default_namespace: String::new(),
            ..Settings::default()
        };
        let content = Some(Digest::of("content", b"x"));
        Entry {
            unit: UnitId(Uuid::from_u128(1)),
            version: 3,
            app: AppRef {
                uid: ResourceUid(Uuid::from_u128(2)),
                kind: "Kustomization".into(),
                namespace: "apps".into(),
                name: "web".into(),
            },
            content,
            target: target_digest(content, &settings, &[]),
            revision: "main@sha1:abc".into(),
            state: UnitState::Active,
            prune_cleared: None,
            prune_approved: None,
            settings,
            variables: Vec::new(),
            depends_on: Vec::new(),
            withheld: Vec::new(),
            requested: String::new(),
        }
    }

    #[test]
    fn an_entry_reads_back_and_unknown_fields_are_passed_over() {
        let entry = entry();
        assert_eq!(Entry::from_bytes(&entry.to_bytes()).expect("readable"), entry);
        let mut newer: serde_json::Value = serde_json::from_slice(&entry.to_bytes()).expect("JSON");
        newer["fromTheFuture"] = serde_json::json!({"x": 1});
        assert_eq!(
            Entry::from_bytes(newer.to_string().as_bytes()).expect("readable"),
            entry
        );
    }

    #[test]
    fn the_entry_form_is_pinned() {
        assert_eq!(
            String::from_utf8(entry().to_bytes()).expect("UTF-8"),
            concat!(
                r#"{"app":{"kind":"Kustomization","name":"web","namespace":"apps","#,
                r#""uid":"00000000-0000-0000-0000-000000000002"},"#,
                r#""content":"19f21edb94273fe5fa98538fafd594b7926a347eebaa1f21641e8b681af951fb","#,
                r#""revision":"main@sha1:abc","#,
                r#""settings":{"interval":600000,"prune":true,"retryInterval":60000,"timeout":570000},"#,
                r#""state":{"type":"active"},"#,
                r#""target":"cf939e075d5ac32fcd41df7ac74bc993ec9894638ac250e4b76b292c6b939949","#,
                r#""unit":"00000000-0000-0000-0000-000000000001","version":3}"#,
            )
        );
    }

    #[test]
    fn the_form_of_what_comes_first_and_of_health_is_pinned() {
        use super::health::{HealthCheck, HealthExpr};
        let mut entry = entry();
        let mut dependency = Dependency::on("infra/db", UnitId(Uuid::from_u128(9)));
        dependency.units[0].version = 4;
        dependency.units[0].app = Some(Box::new(serde_json::json!({ "kind": "Kustomization" })));
        dependency.ready = Some(Box::new(ReadyExpr {
            expr: "true".into(),
            app: Value::Null,
        }));
        entry.depends_on = vec![Dependency::on("apps/a", entry.unit), dependency];
        entry.settings.health = HealthChecks {
            objects: vec![HealthCheck {
                api_version: "apps/v1".into(),
                key: ObjectKey::new("apps", "Deployment", "a", "b"),
            }],
            exprs: vec![HealthExpr {
                api_version: "example.com/v1".into(),
                kind: String::new(),
                in_progress: String::new(),
                failed: "a".into(),
                current: "b".into(),
            }],
        };
        assert_eq!(Entry::from_bytes(&entry.to_bytes()).expect("readable"), entry);
        assert_eq!(
            canonical_json(&entry.depends_on),
            concat!(
                r#"[{"name":"apps/a","units":[{"unit":"00000000-0000-0000-0000-000000000001"}]},"#,
                r#"{"name":"infra/db","ready":{"app":null,"expr":"true"},"#,
                r#""units":[{"app":{"kind":"Kustomization"},"unit":"00000000-0000-0000-0000-000000000009","version":4}]}]"#,
            )
        );
        assert_eq!(
            canonical_json(&entry.settings.health),
            concat!(
                r#"{"exprs":[{"apiVersion":"example.com/v1","current":"b","failed":"a"}],"#,
                r#""objects":[{"apiVersion":"apps/v1","key":{"group":"apps","kind":"Deployment","name":"b","namespace":"a"}}]}"#,
            )
        );
    }

    #[test]
    fn the_form_of_decryption_is_pinned_and_is_part_of_the_target() {
        let mut settings = entry().settings;
        settings.decryption = Some(Decryption {
            provider: DecryptionProvider::Sops,
            secret: "sops-age".into(),
        });
        let text = crate::digest::canonical_json(&settings);
        assert!(
            text.contains(r#""decryption":{"provider":"sops","secret":"sops-age"}"#),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Settings>(&text).expect("reads back"),
            settings
        );
        let one = entry();
        assert_ne!(
            target_digest(one.content, &one.settings, &[]),
            target_digest(one.content, &settings, &[])
        );
    }

    #[test]
    fn the_root_does_not_depend_on_the_order_given() {
        let a = (UnitId(Uuid::from_u128(1)), Digest::of("entry", b"a"));
        let b = (UnitId(Uuid::from_u128(2)), Digest::of("entry", b"b"));
        assert_eq!(root([a, b]), root([b, a]));
        assert_ne!(root([a]), root([a, b]));
    }

    #[test]
    fn the_target_names_content_settings_and_variables_only() {
        let one = entry();
        let mut settings = one.settings.clone();
        settings.wait = true;
        let variables = [VariableLayer::Literal {
            values: BTreeMap::from([("a".into(), "1".into())]),
        }];
        let base = target_digest(one.content, &one.settings, &[]);
        assert_ne!(base, target_digest(None, &one.settings, &[]));
        assert_ne!(base, target_digest(one.content, &settings, &[]));
        assert_ne!(base, target_digest(one.content, &one.settings, &variables));
    }
}
