//! Whose health a unit waits for beside that of its own objects, and how kinds are judged that say it in their own way.

use serde::{Deserialize, Serialize};

use crate::object::{ObjectKey, group_of};

/// What an app says of health.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthChecks {
    /// Objects that have to be healthy, its own or others. With `wait` they do not count: all of its own do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<HealthCheck>,
    /// How kinds are judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exprs: Vec<HealthExpr>,
}

impl HealthChecks {
    /// Tells whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.exprs.is_empty()
    }
}

/// An object that has to be healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// In which version it is read; empty: in the one that the server prefers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The object.
    pub key: ObjectKey,
}

/// How objects of a kind are judged: the first of `in_progress`, `failed` and `current` that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthExpr {
    /// The group counts, the version does not.
    pub api_version: String,
    /// The kind; empty: all of the group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// It is being worked on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub in_progress: String,
    /// It has failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failed: String,
    /// It is as it should be.
    pub current: String,
}

impl HealthExpr {
    /// Tells whether it is about this kind.
    pub fn is_of(&self, group: &str, kind: &str) -> bool {
        group_of(&self.api_version) == group && (self.kind.is_empty() || self.kind == kind)
    }
}
