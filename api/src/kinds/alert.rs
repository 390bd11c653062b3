//! Alert: which events are told to a Provider.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LocalRef;
use crate::problem::Check;
use crate::text::{Label, Pattern};

/// What an Alert asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSpec {
    /// The Provider, in the same namespace.
    pub provider_ref: LocalRef,
    /// The least severity told; `info`, which is all, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_severity: Option<EventSeverity>,
    /// The objects whose events are told.
    pub event_sources: Vec<EventSource>,
    /// Patterns of messages to tell; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inclusion_list: Vec<Pattern>,
    /// Patterns of messages not to tell; win over inclusion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusion_list: Vec<Pattern>,
    /// Added to every event.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_metadata: BTreeMap<String, String>,
    /// Whether nothing is told.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventSeverity {
    /// Something happened.
    Info,
    /// Something failed.
    Error,
}

/// Objects whose events are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSource {
    /// The `apiVersion`; the kind's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind.
    pub kind: String,
    /// The name, or `*` for all.
    pub name: String,
    /// The namespace; the Alert's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Labels that must be there, with name `*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

impl Spec for AlertSpec {
    const KIND: Kind = Kind::Alert;

    fn check(&self, at: &mut Check<'_>) {
        if self.event_sources.is_empty() {
            at.at("eventSources").problem("needs at least one source");
        }
        at.each("eventSources", &self.event_sources, |source, at| {
            if source.name != "*" && !source.match_labels.is_empty() {
                at.at("matchLabels").problem("is only taken with name \"*\"");
            }
        });
    }
}
