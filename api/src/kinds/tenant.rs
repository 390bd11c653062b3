//! Tenant: what a team may use of the fleet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spec;
use super::placement::ClusterChoice;
use crate::kind::Kind;
use crate::problem::Check;
use crate::text::{Label, Name};

/// What a team may use of the fleet. What is not listed is not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// Namespaces whose resources the team owns.
    pub namespaces: Vec<Label>,
    /// Clusters the team's apps may go to; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterChoice>,
    /// URL prefixes of sources the team may use; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// ServiceAccount the team's apps run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
}

impl Spec for TenantSpec {
    const KIND: Kind = Kind::Tenant;

    fn check(&self, at: &mut Check<'_>) {
        if self.namespaces.is_empty() {
            at.at("namespaces").problem("needs at least one namespace");
        }
        if let Some(clusters) = &self.clusters
            && let Some(selector) = &clusters.selector
        {
            selector.check(&mut at.at("clusters").at("selector"));
        }
    }
}
