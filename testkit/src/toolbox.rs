//! The programs the rig runs, compiled from their Go modules on first need and kept in the user's cache folder.
//!
//! A module's programs are keyed by all that decides their bytes: its `go.mod` and `go.sum`, the build flags, and the
//! Go release. Two processes that need them at once build once: the second waits for the first one's lock.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::RigError;

mod build;

/// A program of the rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tool {
    /// The store of a control plane.
    Etcd,
    /// Kubernetes' API server.
    ApiServer,
    /// Kubernetes' controllers.
    ControllerManager,
    /// Kubernetes' scheduler.
    Scheduler,
    /// Plays the kubelets.
    Kwok,
    /// The reference that kustomizations are compared with.
    Kustomize,
    /// The reference that charts are compared with.
    Helm,
}

/// A Go module of the rig: where programs come from and what pins them.
struct Module {
    name: &'static str,
    manifest: &'static str,
    sums: &'static str,
}

static KUBERNETES: Module = Module {
    name: "kubernetes",
    manifest: include_str!("../rig/kubernetes/go.mod"),
    sums: include_str!("../rig/kubernetes/go.sum"),
};
static KWOK: Module = Module {
    name: "kwok",
    manifest: include_str!("../rig/kwok/go.mod"),
    sums: include_str!("../rig/kwok/go.sum"),
};
static KUSTOMIZE: Module = Module {
    name: "kustomize",
    manifest: include_str!("../rig/kustomize/go.mod"),
    sums: include_str!("../rig/kustomize/go.sum"),
};
/// Pinned by the program that the engine is compared with: the command is of the very release that its answers are.
static HELM: Module = Module {
    name: "helm",
    manifest: include_str!("../../render/oracle/helm/go.mod"),
    sums: include_str!("../../render/oracle/helm/go.sum"),
};

impl Tool {
    /// Every program of the rig.
    pub const ALL: [Tool; 7] = [
        Tool::Etcd,
        Tool::ApiServer,
        Tool::ControllerManager,
        Tool::Scheduler,
        Tool::Kwok,
        Tool::Kustomize,
        Tool::Helm,
    ];

    /// The file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Etcd => "etcd",
            Tool::ApiServer => "kube-apiserver",
            Tool::ControllerManager => "kube-controller-manager",
            Tool::Scheduler => "kube-scheduler",
            Tool::Kwok => "kwok",
            Tool::Kustomize => "kustomize",
            Tool::Helm => "helm",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Tool::Etcd => "go.etcd.io/etcd/server/v3",
            Tool::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Tool::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Tool::Scheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Tool::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Tool::Kustomize => "sigs.k8s.io/kustomize/kustomize/v5",
            Tool::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }

    fn module(self) -> &'static Module {
        match self {
            Tool::Etcd | Tool::ApiServer | Tool::ControllerManager | Tool::Scheduler => &KUBERNETES,
            Tool::Kwok => &KWOK,
            Tool::Kustomize => &KUSTOMIZE,
            Tool::Helm => &HELM,
        }
    }
}

/// The Kubernetes release the control planes are, such as `v1.36.3`.
#[must_use]
pub fn kubernetes_version() -> &'static str {
    required_version(&KUBERNETES, "k8s.io/kubernetes").unwrap_or("v0.0.0")
}

/// Returns the path of a program, building it first where that was not done yet.
///
/// # Errors
/// [`RigError::MissingProgram`] or [`RigError::GoTooOld`] when Go is missing or too old, [`RigError::Build`] when the
/// compiler fails.
pub async fn tool(tool: Tool) -> Result<PathBuf, RigError> {
    let mut paths = tools(&[tool]).await?;
    paths
        .pop()
        .ok_or_else(|| RigError::Invalid("no tool was asked for".to_owned()))
}

/// Returns the paths of programs in the order asked for, building what is not there yet.
///
/// # Errors
/// As [`tool`].
pub async fn tools(wanted: &[Tool]) -> Result<Vec<PathBuf>, RigError> {
    let wanted = wanted.to_vec();
    tokio::task::spawn_blocking(move || ensure(&wanted))
        .await
        .map_err(|error| RigError::Invalid(format!("building the rig was interrupted: {error}")))?
}

fn ensure(wanted: &[Tool]) -> Result<Vec<PathBuf>, RigError> {
    let go = build::go_version()?;
    let base = cache_folder()?.join("rig");
    std::fs::create_dir_all(&base).map_err(RigError::io("make", &base))?;
    wanted.iter().map(|tool| ensure_one(*tool, &base, &go)).collect()
}

fn ensure_one(tool: Tool, base: &Path, go: &str) -> Result<PathBuf, RigError> {
    let module = tool.module();
    let folder = base.join(format!("{}-{}", module.name, module.key(go)));
    let program = folder.join(tool.name());
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&folder).map_err(RigError::io("make", &folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(RigError::io("make", &lock_path))?;
    // Held until this returns: whoever comes second finds the program there.
    lock.lock().map_err(RigError::io("lock", &lock_path))?;
    if !program.exists() {
        build::build(tool, module, &folder)?;
    }
    Ok(program)
}

impl Module {
    /// Digest of all that decides the bytes of its programs.
    fn key(&self, go: &str) -> String {
        let mut digest = Sha256::new();
        for part in [self.manifest, self.sums, &build::flags(self).join(" "), go] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest
            .finalize()
            .iter()
            .take(8)
            .fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}

/// The version a module requires of another, read from its manifest.
fn required_version(module: &Module, of: &str) -> Option<&'static str> {
    module.manifest.lines().find_map(|line| {
        let line = line.trim().trim_start_matches("require ");
        let version = line.strip_prefix(of)?.strip_prefix(' ')?.split(' ').next()?;
        version.starts_with('v').then_some(version)
    })
}

/// `${XDG_CACHE_HOME:-~/.cache}/flotilla`.
pub(crate) fn cache_folder() -> Result<PathBuf, RigError> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("flotilla"))
        .ok_or_else(|| RigError::Invalid("neither XDG_CACHE_HOME nor HOME is set".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_manifest() {
        assert!(
            kubernetes_version().starts_with("v1."),
            "{}",
            kubernetes_version()
        );
        assert_eq!(required_version(&KUBERNETES, "k8s.io/nothing"), None);
    }

    #[test]
    fn another_go_release_is_another_key() {
        assert_ne!(KWOK.key("go1.26.1"), KWOK.key("go1.26.2"));
        assert_ne!(KWOK.key("go1.26.1"), KUSTOMIZE.key("go1.26.1"));
    }

    #[test]
    fn manifests_name_no_proxy() {
        for module in [&KUBERNETES, &KWOK, &KUSTOMIZE] {
            assert!(!module.manifest.contains("://"), "{}", module.name);
            assert!(!module.sums.contains("://"), "{}", module.name);
        }
    }
}
