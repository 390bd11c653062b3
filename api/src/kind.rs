//! The kinds Flotilla keeps: one table of group, versions and names, which everything else reads.

use std::fmt;

use flotilla_core::text::edit::closest;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `source.toolkit.fluxcd.io` GitRepository.
    GitRepository,
    /// `source.toolkit.fluxcd.io` OCIRepository.
    OciRepository,
    /// `source.toolkit.fluxcd.io` HelmRepository.
    HelmRepository,
    /// `source.toolkit.fluxcd.io` HelmChart.
    HelmChart,
    /// `source.toolkit.fluxcd.io` Bucket.
    Bucket,
    /// `source.toolkit.fluxcd.io` ExternalArtifact.
    ExternalArtifact,
    /// `kustomize.toolkit.fluxcd.io` Kustomization.
    Kustomization,
    /// `helm.toolkit.fluxcd.io` HelmRelease.
    HelmRelease,
    /// `notification.toolkit.fluxcd.io` Receiver.
    Receiver,
    /// `notification.toolkit.fluxcd.io` Provider.
    Provider,
    /// `notification.toolkit.fluxcd.io` Alert.
    Alert,
    /// `image.toolkit.fluxcd.io` ImageRepository.
    ImageRepository,
    /// `image.toolkit.fluxcd.io` ImagePolicy.
    ImagePolicy,
    /// `image.toolkit.fluxcd.io` ImageUpdateAutomation.
    ImageUpdateAutomation,
    /// Core ConfigMap.
    ConfigMap,
    /// Core Secret.
    Secret,
    /// `fleet.flotilla.dev` Cluster.
    Cluster,
    /// `fleet.flotilla.dev` ClusterGroup.
    ClusterGroup,
    /// `fleet.flotilla.dev` Placement.
    Placement,
    /// `fleet.flotilla.dev` Tenant.
    Tenant,
}

/// A kind's row in the table.
struct Row {
    kind: Kind,
    name: &'static str,
    plural: &'static str,
    group: &'static str,
    /// The current version first, then the old ones that are converted.
    versions: &'static [&'static str],
    namespaced: bool,
    /// Whether the content stands under `spec`, or at the top as in a ConfigMap.
    has_spec: bool,
}

const SOURCE: &str = "source.toolkit.fluxcd.io";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
const NOTIFICATION: &str = "notification.toolkit.fluxcd.io";
const IMAGE: &str = "image.toolkit.fluxcd.io";
/// The group of Flotilla's own kinds.
pub const FLEET: &str = "fleet.flotilla.dev";

const V1: &[&str] = &["v1", "v1beta2", "v1beta1"];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    flux(Kind::GitRepository, "GitRepository", "gitrepositories", SOURCE, V1),
    flux(Kind::OciRepository, "OCIRepository", "ocirepositories", SOURCE, &["v1", "v1beta2"]),
    flux(Kind::HelmRepository, "HelmRepository", "helmrepositories", SOURCE, V1),
    flux(Kind::HelmChart, "HelmChart", "helmcharts", SOURCE, V1),
    flux(Kind::Bucket, "Bucket", "buckets", SOURCE, V1),
    flux(Kind::ExternalArtifact, "ExternalArtifact", "externalartifacts", SOURCE, &["v1"]),
    flux(Kind::Kustomization, "Kustomization", "kustomizations", KUSTOMIZE, V1),
    flux(Kind::HelmRelease, "HelmRelease", "helmreleases", HELM, &["v2", "v2beta2", "v2beta1"]),
    flux(Kind::Receiver, "Receiver", "receivers", NOTIFICATION, V1),
    flux(Kind::Provider, "Provider", "providers", NOTIFICATION, &["v1beta3", "v1beta2", "v1beta1"]),
    flux(Kind::Alert, "Alert", "alerts", NOTIFICATION, &["v1beta3", "v1beta2", "v1beta1"]),
    flux(Kind::ImageRepository, "ImageRepository", "imagerepositories", IMAGE, V1),
    flux(Kind::ImagePolicy, "ImagePolicy", "imagepolicies", IMAGE, V1),
    flux(Kind::ImageUpdateAutomation, "ImageUpdateAutomation", "imageupdateautomations", IMAGE, V1),
    core(Kind::ConfigMap, "ConfigMap", "configmaps"),
    core(Kind::Secret, "Secret", "secrets"),
    fleet(Kind::Cluster, "Cluster", "clusters"),
    fleet(Kind::ClusterGroup, "ClusterGroup", "clustergroups"),
    fleet(Kind::Placement, "Placement", "placements"),
    fleet(Kind::Tenant, "Tenant", "tenants"),
];

const fn flux(
    kind: Kind,
    name: &'static str,
    plural: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
) -> Row {
    Row {
        kind,
        name,
        plural,
        group,
        versions,
        namespaced: true,
        has_spec: true,
    }
}

const fn core(kind: Kind, name: &'static str, plural: &'static str) -> Row {
    Row {
        kind,
        name,
        plural,
        group: "",
        versions: &["v1"],
        namespaced: true,
        has_spec: false,
    }
}

const fn fleet(kind: Kind, name: &'static str, plural: &'static str) -> Row {
    Row {
        kind,
        name,
        plural,
        group: FLEET,
        versions: &["v1alpha1"],
        namespaced: false,
        has_spec: true,
    }
}

/// Why an object is not of a kind Flotilla keeps; the text says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// The group is one of ours or Flux's, the kind is not.
    #[error("{} has no kind {kind:?} that Flotilla keeps; it has {}", if group.is_empty() { "v1" } else { group }, known.join(", "))]
    UnknownKind {
        /// The group asked for.
        group: String,
        /// The kind asked for.
        kind: String,
        /// The kinds of that group.
        known: Vec<&'static str>,
        /// The kind probably meant.
        meant: Option<&'static str>,
    },
    /// The kind exists, but not in this version.
    #[error("{kind} has no version {version:?}; it has {}", known.join(", "))]
    UnknownVersion {
        /// The kind.
        kind: &'static str,
        /// The version asked for.
        version: String,
        /// Known versions, the current one first.
        known: &'static [&'static str],
    },
    /// A known kind's name under another group.
    #[error("{kind} of {api_version:?} is not a kind Flotilla keeps")]
    OtherGroup {
        /// The kind asked for.
        kind: &'static str,
        /// The apiVersion asked for.
        api_version: String,
        /// The apiVersion under which Flotilla keeps a kind of that name.
        meant: String,
    },
    /// The hub makes objects of this kind itself.
    #[error("{0} objects are made by the hub and cannot be applied")]
    MadeByHub(&'static str),
    /// A kind of flux-operator, which Flotilla leaves to it.
    #[error("kinds of {0} are not reconciled by Flotilla")]
    NotReconciled(String),
    /// Anything else: it belongs in a source.
    #[error("{0} is not a kind Flotilla keeps; put it in Git and let a Kustomization apply it")]
    Foreign(String),
}

impl KindError {
    /// Returns what was probably meant, as a phrase.
    pub fn hint(&self) -> Option<String> {
        match self {
            KindError::UnknownKind {
                meant: Some(meant), ..
            } => Some(format!("did you mean {meant:?}?")),
            KindError::OtherGroup { meant, .. } => Some(format!("did you mean apiVersion {meant:?}?")),
            _ => None,
        }
    }
}

impl Kind {
    /// Returns every kind, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|row| row.kind)
    }

    /// Finds the kind that an object's `apiVersion` and `kind` name, and the version within its group.
    pub fn resolve(api_version: &str, kind: &str) -> Result<(Kind, &'static str), KindError> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        match TABLE.iter().find(|row| row.group == group && row.name == kind) {
            Some(row) => match row.versions.iter().find(|known| **known == version) {
                Some(version) => Ok((row.kind, version)),
                None => Err(KindError::UnknownVersion {
                    kind: row.name,
                    version: version.to_owned(),
                    known: row.versions,
                }),
            },
            None => Err(unresolved(api_version, group, kind)),
        }
    }

    /// Finds a kind by the word a person types: its name or plural, in any case, or Flux's short name.
    pub fn from_word(word: &str) -> Option<Kind> {
        let word = word.to_lowercase();
        let short = match word.as_str() {
            "ks" => Some(Kind::Kustomization),
            "hr" => Some(Kind::HelmRelease),
            "gitrepo" => Some(Kind::GitRepository),
            "ocirepo" => Some(Kind::OciRepository),
            "helmrepo" => Some(Kind::HelmRepository),
            "hc" => Some(Kind::HelmChart),
            "cm" => Some(Kind::ConfigMap),
            _ => None,
        };
        short.or_else(|| {
            TABLE
                .iter()
                .find(|row| row.name.to_lowercase() == word || row.plural == word)
                .map(|row| row.kind)
        })
    }

    /// Returns whether `group` holds kinds of Flux or our own, so that objects of it in a rendered set are
    /// configuration for the hub and not for the cluster.
    pub fn is_configuration_group(group: &str) -> bool {
        TABLE
            .iter()
            .any(|row| !row.group.is_empty() && row.group == group)
    }

    /// Returns the kind's name as written in `kind`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the lower-case plural.
    pub fn plural(self) -> &'static str {
        self.row().plural
    }

    /// Returns the API group; empty for core kinds.
    pub fn group(self) -> &'static str {
        self.row().group
    }

    /// Returns the current version.
    pub fn version(self) -> &'static str {
        self.row().versions[0]
    }

    /// Returns `group/version`, or `v1` for core kinds.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// Returns whether objects of this kind have a namespace.
    pub fn is_namespaced(self) -> bool {
        self.row().namespaced
    }

    /// Returns whether the content stands under `spec`, or at the top as in a ConfigMap.
    pub fn has_spec(self) -> bool {
        self.row().has_spec
    }

    /// Returns whether the kind is an app: a Kustomization or HelmRelease.
    pub fn is_app(self) -> bool {
        matches!(self, Kind::Kustomization | Kind::HelmRelease)
    }

    /// Returns whether this release makes units of objects of this kind.
    pub fn is_planned(self) -> bool {
        matches!(self, Kind::Kustomization)
    }

    /// Returns whether this release fetches objects of this kind: others of a source's kinds are kept, and said to be
    /// not supported.
    pub fn is_fetched(self) -> bool {
        matches!(self, Kind::GitRepository)
    }

    /// Finds a kind by its name as written in `kind`: no two groups have one of the same.
    pub fn named(name: &str) -> Option<Kind> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.kind == self)
            .expect("every kind has a row; a test goes through them all")
    }
}

fn unresolved(api_version: &str, group: &str, kind: &str) -> KindError {
    if group == FLEET && kind == "Rollout" {
        return KindError::MadeByHub("Rollout");
    }
    if group == "fluxcd.controlplane.io" || group == "source.extensions.fluxcd.io" {
        return KindError::NotReconciled(group.to_owned());
    }
    let known: Vec<_> = TABLE
        .iter()
        .filter(|row| row.group == group)
        .map(|row| row.name)
        .collect();
    let meant = closest(kind, known.iter().copied());
    if Kind::is_configuration_group(group) || meant.is_some() {
        return KindError::UnknownKind {
            group: group.to_owned(),
            kind: kind.to_owned(),
            known,
            meant,
        };
    }
    match TABLE.iter().find(|row| row.name == kind) {
        // A Cluster of Cluster API is a foreign kind, not a misspelt one of ours.
        Some(row) if row.group != FLEET || group.contains("flotilla") => KindError::OtherGroup {
            kind: row.name,
            api_version: api_version.to_owned(),
            meant: row.kind.api_version(),
        },
        _ => KindError::Foreign(kind.to_owned()),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_each_of_its_versions() {
        for row in TABLE {
            assert_eq!(row.kind.row().name, row.name);
            for version in row.versions {
                let api_version = if row.group.is_empty() {
                    (*version).to_owned()
                } else {
                    format!("{}/{version}", row.group)
                };
                assert_eq!(Kind::resolve(&api_version, row.name), Ok((row.kind, *version)));
            }
        }
    }

    #[test]
    fn an_object_of_no_kept_kind_says_what_to_do() {
        let cases = [
            ("apps/v1", "Deployment"),
            ("v1", "Pod"),
            ("v1", "Configmap"),
            ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
            ("kustomize.toolkit.fluxcd.io/v1", "Kustomisation"),
            ("kustomize.toolkit.fluxcd.io/v3", "Kustomization"),
            ("notification.toolkit.fluxcd.io/v1", "Alert"),
            ("source.toolkit.fluxcd.io/v1", "ArtifactGenerator"),
            ("fluxcd.controlplane.io/v1", "FluxInstance"),
            ("fleet.flotilla.dev/v1alpha1", "Rollout"),
            ("fleet.flotilla.io/v1alpha1", "Placement"),
            ("cluster.x-k8s.io/v1beta2", "Cluster"),
        ];
        let said: Vec<_> = cases
            .iter()
            .map(|(api_version, kind)| {
                let error = Kind::resolve(api_version, kind).expect_err(kind);
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                format!("{error}{hint}")
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
    Deployment is not a kind Flotilla keeps; put it in Git and let a Kustomization apply it
    Pod is not a kind Flotilla keeps; put it in Git and let a Kustomization apply it
    v1 has no kind "Configmap" that Flotilla keeps; it has ConfigMap, Secret (did you mean "ConfigMap"?)
    Kustomization of "kustomize.config.k8s.io/v1beta1" is not a kind Flotilla keeps (did you mean apiVersion "kustomize.toolkit.fluxcd.io/v1"?)
    kustomize.toolkit.fluxcd.io has no kind "Kustomisation" that Flotilla keeps; it has Kustomization (did you mean "Kustomization"?)
    Kustomization has no version "v3"; it has v1, v1beta2, v1beta1
    Alert has no version "v1"; it has v1beta3, v1beta2, v1beta1
    source.toolkit.fluxcd.io has no kind "ArtifactGenerator" that Flotilla keeps; it has GitRepository, OCIRepository, HelmRepository, HelmChart, Bucket, ExternalArtifact
    kinds of fluxcd.controlplane.io are not reconciled by Flotilla
    Rollout objects are made by the hub and cannot be applied
    Placement of "fleet.flotilla.io/v1alpha1" is not a kind Flotilla keeps (did you mean apiVersion "fleet.flotilla.dev/v1alpha1"?)
    Cluster is not a kind Flotilla keeps; put it in Git and let a Kustomization apply it
    "#);
    }

    #[test]
    fn a_person_may_type_names_plurals_and_short_names() {
        for (word, kind) in [
            ("ks", Kind::Kustomization),
            ("Kustomization", Kind::Kustomization),
            ("gitrepositories", Kind::GitRepository),
            ("OCIRepository", Kind::OciRepository),
            ("clusters", Kind::Cluster),
        ] {
            assert_eq!(Kind::from_word(word), Some(kind), "{word}");
        }
        assert_eq!(Kind::from_word("deployment"), None);
    }
}
