//! Cluster and ClusterGroup: the members of the fleet and named sets of them. A cluster's labels are its
//! metadata's; its identity and join tokens are not configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kustomization::check_variables;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::LabelSelector;
use crate::problem::Check;
use crate::text::{Label, Name, NamespacedRef};

/// What a fleet says about one of its clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Variables put into the manifests of apps that ask for substitution.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The kubeconfigs by which apps name this cluster: `[cluster:]namespace/name` of a Secret or ConfigMap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kube_config_refs: Vec<NamespacedRef>,
    /// What this cluster's Flux controllers were told about security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<FluxPolicy>,
    /// Whether apps of the hub without another target go here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hub: bool,
}

/// Arguments of Flux's controllers that mean security.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FluxPolicy {
    /// Whether references to other namespaces are refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_cross_namespace_refs: bool,
    /// The ServiceAccount for apps that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_service_account: Option<Name>,
    /// Feature gates that were set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
}

impl Spec for ClusterSpec {
    const KIND: Kind = Kind::Cluster;

    fn check(&self, at: &mut Check<'_>) {
        check_variables(self.variables.keys(), &mut at.at("variables"));
    }
}

/// A named set of clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterGroupSpec {
    /// Clusters with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Clusters by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Label>,
    /// Clusters left out by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Label>,
}

impl Spec for ClusterGroupSpec {
    const KIND: Kind = Kind::ClusterGroup;

    fn check(&self, at: &mut Check<'_>) {
        if self.selector.is_none() && self.names.is_empty() {
            at.problem("needs a selector or names");
        }
        if let Some(selector) = &self.selector {
            selector.check(&mut at.at("selector"));
        }
    }
}
