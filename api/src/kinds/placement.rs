//! Placement: which apps go to which clusters, with which differences, and in which order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Spec;
use super::kustomization::check_variables;
use crate::kind::Kind;
use crate::meta::{LabelSelector, Patch};
use crate::problem::Check;
use crate::shape::{COUNT_OR_PERCENT, percent};
use crate::text::{GoDuration, Label, Name};

/// What a Placement asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// The apps to place.
    pub apps: Vec<AppRef>,
    /// The clusters to place them in.
    pub clusters: ClusterChoice,
    /// Differences by cluster; later ones win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// In which order a change goes out; to all clusters at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStrategy>,
}

/// An app of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct AppRef {
    /// Kustomization or HelmRelease.
    pub kind: AppKind,
    /// The app's name.
    pub name: Name,
    /// The app's namespace; `flux-system` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
}

/// The namespace of an app that a Placement names without one.
pub const DEFAULT_NAMESPACE: &str = "flux-system";

impl AppRef {
    /// Returns the app's namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or(DEFAULT_NAMESPACE, Label::as_str)
    }
}

/// The kinds of app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AppKind {
    /// A Kustomization.
    Kustomization,
    /// A HelmRelease.
    HelmRelease,
}

impl AppKind {
    /// Returns the kind.
    pub fn kind(self) -> Kind {
        match self {
            AppKind::Kustomization => Kind::Kustomization,
            AppKind::HelmRelease => Kind::HelmRelease,
        }
    }
}

/// Chooses clusters: those of the selector, the groups and the names together, less the excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterChoice {
    /// Clusters with these labels; an empty selector chooses all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Clusters of these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Label>,
    /// Clusters by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Label>,
    /// Clusters left out by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Label>,
}

/// What differs in some of the clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Override {
    /// The clusters; all of the Placement when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Variables; win over the cluster's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Patches to the objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Helm values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<BTreeMap<String, Value>>,
}

/// In which order a change goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// Waves, one after the other; clusters of no wave form a last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// What a failed wave causes; `Halt` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How long a wave may take before it counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<GoDuration>,
    /// When changes may go out; at any time when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Apps whose rollouts must be through first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<AppRef>,
}

/// A set of clusters that move together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// The wave's name.
    pub name: Label,
    /// The clusters; all that no earlier wave took when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// How many may move at once; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<CountOrPercent>,
    /// How long the wave must stay healthy before the next begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<GoDuration>,
    /// Whether a person must approve the wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What counts as a healthy wave; every cluster healthy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<WaveHealth>,
}

/// Whether a person must approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// No one is asked.
    None,
    /// Someone must approve.
    Required,
}

/// What counts as a healthy wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveHealth {
    /// How many of the wave's clusters must be healthy.
    pub min_healthy: CountOrPercent,
}

/// What a failed wave causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Nothing more moves.
    Halt,
    /// The clusters return to what was healthy there.
    Rollback,
    /// The next wave begins.
    Continue,
}

/// A time in which changes may go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it opens, in cron form.
    pub cron: String,
    /// How long it stays open.
    pub duration: GoDuration,
    /// The time zone of the cron form; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A count of clusters, or a percentage of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOrPercent {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl Serialize for CountOrPercent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CountOrPercent::Count(count) => serializer.serialize_u32(*count),
            CountOrPercent::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for CountOrPercent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let count = value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .map(CountOrPercent::Count);
        count
            .or_else(|| value.as_str().and_then(percent).map(CountOrPercent::Percent))
            .ok_or_else(|| serde::de::Error::custom("expected a count or a percentage"))
    }
}

impl JsonSchema for CountOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "CountOrPercent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": COUNT_OR_PERCENT })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Spec for PlacementSpec {
    const KIND: Kind = Kind::Placement;

    fn check(&self, at: &mut Check<'_>) {
        if self.apps.is_empty() {
            at.at("apps").problem("needs at least one app");
        }
        self.clusters.check(&mut at.at("clusters"));
        at.each("overrides", &self.overrides, |one, at| {
            if let Some(selector) = &one.selector {
                selector.check(&mut at.at("selector"));
            }
            check_variables(one.variables.keys(), &mut at.at("variables"));
        });
        if let Some(rollout) = &self.rollout {
            rollout.check(&mut at.at("rollout"));
        }
    }
}

impl ClusterChoice {
    fn check(&self, at: &mut Check<'_>) {
        if self.selector.is_none() && self.groups.is_empty() && self.names.is_empty() {
            at.advise(
                "needs a selector, groups or names",
                "\"selector: {}\" chooses every cluster",
            );
        }
        if let Some(selector) = &self.selector {
            selector.check(&mut at.at("selector"));
        }
    }
}

impl RolloutStrategy {
    fn check(&self, at: &mut Check<'_>) {
        let mut seen = Vec::new();
        for (index, wave) in self.waves.iter().enumerate() {
            if seen.contains(&&wave.name) {
                at.at("waves").problem(format!(
                    "wave {index} has the name {:?} of an earlier one",
                    wave.name.as_str()
                ));
            }
            seen.push(&wave.name);
        }
        at.each("waves", &self.waves, |wave, at| {
            if let Some(selector) = &wave.selector {
                selector.check(&mut at.at("selector"));
            }
            if matches!(
                wave.max_unavailable,
                Some(CountOrPercent::Count(0) | CountOrPercent::Percent(0))
            ) {
                at.at("maxUnavailable")
                    .problem("must let at least one cluster move");
            }
        });
        at.each("windows", &self.windows, |window, at| {
            if window.cron.split_whitespace().count() != 5 {
                at.at("cron")
                    .problem("needs five fields: minute, hour, day, month, weekday");
            }
        });
    }
}
