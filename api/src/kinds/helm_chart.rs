//! HelmChart: a chart of a source, at a version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::git_repository::check_interval;
use super::oci_repository::OciVerification;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::problem::Check;
use crate::text::{GoDuration, InnerPath, Label, Name};

/// What a HelmChart asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelmChartSpec {
    /// The chart's name, or its path in a GitRepository or Bucket.
    pub chart: String,
    /// A range of versions; `*` when absent. Without effect for a GitRepository or Bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where the chart comes from, in the same namespace.
    pub source_ref: LocalChartSourceRef,
    /// How often to look for a new version.
    pub interval: GoDuration,
    /// What makes a new revision; the chart's version when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile_strategy: Option<ReconcileStrategy>,
    /// Values files of the source, later ones win; the chart's own when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<InnerPath>,
    /// Whether a values file that is not there is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_missing_values_files: bool,
    /// Which signatures the chart must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<OciVerification>,
    /// Whether to leave the source alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// Where a HelmChart comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalChartSourceRef {
    /// The source's `apiVersion`; its kind's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The source's kind.
    pub kind: ChartSourceKind,
    /// The source's name.
    pub name: Name,
}

/// Where the chart of a HelmRelease comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartSourceRef {
    /// The source's `apiVersion`; its kind's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The source's kind.
    pub kind: ChartSourceKind,
    /// The source's name.
    pub name: Name,
    /// The source's namespace; that of the HelmRelease when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
}

/// The kinds of source a chart comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChartSourceKind {
    /// A HelmRepository.
    HelmRepository,
    /// A GitRepository.
    GitRepository,
    /// A Bucket.
    Bucket,
}

/// What makes a new revision of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReconcileStrategy {
    /// A new version of the chart.
    ChartVersion,
    /// A new revision of its source.
    Revision,
}

impl Spec for HelmChartSpec {
    const KIND: Kind = Kind::HelmChart;

    fn check(&self, at: &mut Check<'_>) {
        check_interval(&self.interval, at);
        if self.chart.is_empty() {
            at.at("chart").problem("is empty");
        }
        if self.verify.is_some() && self.source_ref.kind != ChartSourceKind::HelmRepository {
            at.at("verify").problem("is only taken for a HelmRepository");
        }
    }
}
