//! Kustomization: what to build from a source, and how to apply it.

use std::collections::BTreeMap;

use flotilla_core::cel::{Expression, Variables};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::git_repository::check_interval;
use super::{Spec, is_false};
use crate::kind::Kind;
use crate::meta::{
    CommonMetadata, DependencyRef, HealthCheckExpr, IgnoreRule, Image, KubeConfigRef, LocalRef, ObjectRef,
    Patch,
};
use crate::problem::Check;
use crate::text::{GoDuration, InnerPath, Label, Name};

/// What a Kustomization asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KustomizationSpec {
    /// How often to verify what is applied.
    pub interval: GoDuration,
    /// How soon to try again after a failure; the interval when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<GoDuration>,
    /// The longest that applying and health checks may take; the interval less 30s, at least 30s, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// The directory in the source; its root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<InnerPath>,
    /// Whether objects that leave the source are removed.
    pub prune: bool,
    /// What becomes of the objects when the Kustomization is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Where the manifests come from.
    pub source_ref: SourceRef,
    /// Apps that must be ready first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<DependencyRef>,
    /// Labels and annotations forced on every object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_metadata: Option<CommonMetadata>,
    /// Namespace forced on every object; it is not created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_namespace: Option<Label>,
    /// Put before every object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// Put behind every object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_suffix: Option<String>,
    /// Patches to the objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Images to replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Kustomize components to add, as paths in the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Whether a component that is not there is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_missing_components: bool,
    /// Which origins kustomize notes on the objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_metadata: Vec<BuildMetadata>,
    /// Variables to put into the built manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_build: Option<PostBuild>,
    /// How to decrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<Decryption>,
    /// ServiceAccount to apply as, in the Kustomization's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
    /// The cluster to apply to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_config: Option<KubeConfigRef>,
    /// Whether objects with changed immutable fields are made anew.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Whether every object must become healthy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub wait: bool,
    /// Objects that must become healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<ObjectRef>,
    /// How to judge the health of custom kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_check_exprs: Vec<HealthCheckExpr>,
    /// Fields whose drift is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<IgnoreRule>,
    /// Whether to leave everything alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// What becomes of an app's objects when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// What `prune` says.
    MirrorPrune,
    /// They are deleted.
    Delete,
    /// They are deleted and waited for.
    WaitForTermination,
    /// They stay.
    Orphan,
}

/// Where a Kustomization's manifests come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRef {
    /// The source's `apiVersion`; its kind's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The source's kind.
    pub kind: SourceKind,
    /// The source's name.
    pub name: Name,
    /// The source's namespace; that of the Kustomization when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
}

/// The kinds of source a Kustomization takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceKind {
    /// An OCIRepository.
    #[serde(rename = "OCIRepository")]
    OciRepository,
    /// A GitRepository.
    GitRepository,
    /// A Bucket.
    Bucket,
    /// An ExternalArtifact.
    ExternalArtifact,
}

impl SourceKind {
    /// Returns the kind.
    pub fn kind(self) -> Kind {
        match self {
            SourceKind::OciRepository => Kind::OciRepository,
            SourceKind::GitRepository => Kind::GitRepository,
            SourceKind::Bucket => Kind::Bucket,
            SourceKind::ExternalArtifact => Kind::ExternalArtifact,
        }
    }
}

/// Which origins kustomize notes on objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BuildMetadata {
    /// The file an object comes from.
    OriginAnnotations,
    /// The transformers that changed it.
    TransformerAnnotations,
}

/// Variables put into the built manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostBuild {
    /// Values by variable; win over `substituteFrom`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub substitute: BTreeMap<String, String>,
    /// ConfigMaps and Secrets whose keys are variables; later ones win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub substitute_from: Vec<SubstituteRef>,
    /// When to substitute; only where there are variables when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substitute_strategy: Option<SubstituteStrategy>,
}

/// A ConfigMap or Secret whose keys are variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubstituteRef {
    /// ConfigMap or Secret.
    pub kind: ConfigKind,
    /// Its name, in the namespace of the app.
    pub name: Name,
    /// Whether it may be missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// A kind that holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl ConfigKind {
    /// Returns the kind.
    pub fn kind(self) -> Kind {
        match self {
            ConfigKind::ConfigMap => Kind::ConfigMap,
            ConfigKind::Secret => Kind::Secret,
        }
    }
}

/// When to substitute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubstituteStrategy {
    /// Only where there are variables.
    WithVariables,
    /// Even without any variable, so that defaults take effect.
    Always,
}

/// How to decrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decryption {
    /// The program's format.
    pub provider: DecryptionProvider,
    /// Secret with the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// ServiceAccount whose cloud identity decrypts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<Name>,
}

/// A format of encrypted manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecryptionProvider {
    /// SOPS.
    Sops,
}

impl Spec for KustomizationSpec {
    const KIND: Kind = Kind::Kustomization;

    fn check(&self, at: &mut Check<'_>) {
        check_interval(&self.interval, at);
        if let Some(metadata) = &self.common_metadata {
            metadata.check(&mut at.at("commonMetadata"));
        }
        if let Some(cluster) = &self.kube_config {
            cluster.check(&mut at.at("kubeConfig"));
        }
        for (field, affix) in [
            ("namePrefix", &self.name_prefix),
            ("nameSuffix", &self.name_suffix),
        ] {
            if affix
                .as_ref()
                .is_some_and(|affix| affix.is_empty() || affix.len() > 200)
            {
                at.at(field).problem("must have 1 to 200 characters");
            }
        }
        at.each("dependsOn", &self.depends_on, |one, at| {
            if let Some(expr) = one.ready_expr.as_deref().filter(|expr| !expr.is_empty()) {
                check_expr(expr, Variables::Only(&["dep", "self"]), &mut at.at("readyExpr"));
            }
        });
        for (field, count) in [
            ("dependsOn", self.depends_on.len()),
            ("healthChecks", self.health_checks.len()),
            ("healthCheckExprs", self.health_check_exprs.len()),
        ] {
            if count > MAX_NAMED {
                at.at(field)
                    .problem(format!("has {count} elements; {MAX_NAMED} are taken"));
            }
        }
        at.each("healthChecks", &self.health_checks, |one, at| {
            for (field, text) in [("kind", &one.kind), ("name", &one.name)] {
                if text.is_empty() || text.len() > 253 {
                    at.at(field).problem("must have 1 to 253 characters");
                }
            }
        });
        at.each("healthCheckExprs", &self.health_check_exprs, |one, at| {
            for (field, expr) in [
                ("inProgress", one.in_progress.as_deref()),
                ("failed", one.failed.as_deref()),
                ("current", Some(one.current.as_str())),
            ] {
                match expr {
                    Some("") if field == "current" => at.at(field).problem("is required"),
                    None | Some("") => {}
                    Some(expr) => check_expr(expr, Variables::Any, &mut at.at(field)),
                }
            }
        });
        at.each("components", &self.components, |path, at| {
            if path.contains("://") || path.starts_with('/') || path.contains('@') {
                at.problem("only paths in the source are taken");
            }
        });
        if let Some(post_build) = &self.post_build {
            check_variables(
                post_build.substitute.keys(),
                &mut at.at("postBuild").at("substitute"),
            );
        }
    }
}

/// Elements of `dependsOn`, `healthChecks` and `healthCheckExprs`.
const MAX_NAMED: usize = 256;

/// Checks a CEL expression.
fn check_expr(expr: &str, variables: Variables<'_>, at: &mut Check<'_>) {
    if let Err(error) = Expression::compile(expr, variables) {
        at.problem(format!("is no CEL expression: {error}"));
    }
}

/// Checks the names of variables: a letter or `_`, then letters, digits or `_`.
pub(crate) fn check_variables<'a>(names: impl Iterator<Item = &'a String>, at: &mut Check<'_>) {
    for name in names {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let mut at = at.at(name);
            at.problem("is not a variable's name: a letter or \"_\", then letters, digits or \"_\"");
        }
    }
}
