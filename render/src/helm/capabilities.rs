//! What a chart is told about the cluster and about Helm: `.Capabilities`.
//!
//! Without a cluster it says what Helm's own build says; a caller that knows the cluster gives its version and
//! its API versions.

/// What a chart is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The cluster's version.
    pub kube_version: KubeVersion,
    /// The API versions, and `group/version/Kind` names, that the cluster serves.
    pub api_versions: Vec<String>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            kube_version: KubeVersion::default(),
            api_versions: API_VERSIONS.iter().map(|version| (*version).to_owned()).collect(),
        }
    }
}

/// A Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeVersion {
    /// The version as the cluster says it, with a leading `v`.
    pub version: String,
    /// The version without what vendors append; constraints are checked with it.
    pub normalized: String,
    /// The first number.
    pub major: String,
    /// The second number.
    pub minor: String,
}

impl Default for KubeVersion {
    /// Returns the version of the Kubernetes client that the reference, Helm 4.3.1, is built with.
    fn default() -> Self {
        Self {
            version: "v1.37.0".to_owned(),
            normalized: "v1.37.0".to_owned(),
            major: "1".to_owned(),
            minor: "37".to_owned(),
        }
    }
}

/// The text is not a Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid kube version {0:?}: it must begin with two or more numbers, as in 1.31")]
pub struct KubeVersionError(String);

impl KubeVersion {
    /// Reads a version as a cluster, or a user, writes it: `1.31`, `v1.33.4-gke.1245000`.
    pub fn parse(text: &str) -> Result<Self, KubeVersionError> {
        let fault = || KubeVersionError(text.to_owned());
        let trimmed = text.trim_start();
        let numbers = numeric_prefix(trimmed.strip_prefix('v').unwrap_or(trimmed));
        if numbers.len() < 2 || (numbers[0].len() > 1 && numbers[0].starts_with('0')) {
            return Err(fault());
        }
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|number| number.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| fault())?;
        let joined: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let version = if text.starts_with('v') {
            text.to_owned()
        } else {
            format!("v{text}")
        };
        Ok(Self {
            version,
            normalized: format!("v{}", joined.join(".")),
            major: joined[0].clone(),
            minor: joined[1].clone(),
        })
    }
}

/// Returns the numbers, joined by single dots, that the text begins with.
fn numeric_prefix(mut text: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    loop {
        let end = text.bytes().take_while(u8::is_ascii_digit).count();
        if end == 0 {
            return numbers;
        }
        numbers.push(&text[..end]);
        match text[end..].strip_prefix('.') {
            Some(rest) => text = rest,
            None => return numbers,
        }
    }
}

/// What `.Capabilities.HelmVersion.Version` says: the Helm whose behaviour this engine has.
pub const HELM_VERSION: &str = "v4.3.1";
/// What `.Capabilities.HelmVersion.KubeClientVersion` says.
pub const KUBE_CLIENT_VERSION: &str = "v1.37";
/// What `.Capabilities.HelmVersion.GoVersion` says.
pub const GO_VERSION: &str = "go1.26.8";

/// The API versions that Helm 4.3.1 names when it knows no cluster.
pub const API_VERSIONS: &[&str] = &[
    "v1",
    "admissionregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "internal.apiserver.k8s.io/v1alpha1",
    "apps/v1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1",
    "authentication.k8s.io/v1alpha1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1",
    "authorization.k8s.io/v1beta1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "batch/v1beta1",
    "certificates.k8s.io/v1",
    "certificates.k8s.io/v1beta1",
    "certificates.k8s.io/v1alpha1",
    "coordination.k8s.io/v1alpha2",
    "coordination.k8s.io/v1beta1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "lifecycle.k8s.io/v1alpha1",
    "networking.k8s.io/v1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "resource.k8s.io/v1",
    "resource.k8s.io/v1beta2",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1alpha3",
    "scheduling.k8s.io/v1alpha3",
    "scheduling.k8s.io/v1beta1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1beta1",
    "storage.k8s.io/v1",
    "storage.k8s.io/v1alpha1",
    "storagemigration.k8s.io/v1",
    "storagemigration.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1",
];
