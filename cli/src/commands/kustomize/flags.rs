//! Flags of `kustomize build` that cannot be had where no program runs and nothing is fetched: each is refused with
//! its reason.

use crate::commands::template::flags::switches;

switches! {
    /// Switches that change nothing of what is printed: an error names file, field and object, and has no stack of Go's.
    PassedOver { stack_trace }
}

/// Flags that are refused.
#[derive(Debug, clap::Args)]
pub(super) struct Refused {
    #[command(flatten)]
    switches: RefusedSwitches,
    #[arg(short, long, value_name = "VARIABLE", hide = true)]
    env: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    mount: Vec<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    network_name: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    helm_command: Option<String>,
    #[arg(long, value_name = "VERSIONS", hide = true)]
    helm_api_versions: Vec<String>,
    #[arg(long, value_name = "VERSION", hide = true)]
    helm_kube_version: Option<String>,
}

switches! {
    /// Switches that are refused.
    RefusedSwitches { as_current_user, enable_alpha_plugins, enable_exec, enable_helm, enable_managedby_label, enable_star, helm_debug, network }
}

/// A flag that kustomize has and that cannot be had here.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} is a flag of kustomize build that is not taken here: {reason}")]
pub(super) struct RefusedFlag {
    flag: &'static str,
    reason: &'static str,
}

impl Refused {
    /// Refuses the first flag that was given.
    pub(super) fn check(&self) -> Result<(), RefusedFlag> {
        const CHARTS: &str = "kustomize renders no charts here; declare the chart as a HelmRelease";
        const FUNCTIONS: &str = "functions in containers are not run";
        const PROGRAMS: &str = "no program is run; built-in plugins work without it";
        const LABEL: &str =
            "write buildMetadata: [managedByLabel] into the kustomization, as kustomize advises";
        let on = &self.switches;
        let given = [
            ("as-current-user", on.as_current_user, FUNCTIONS),
            ("env", !self.env.is_empty(), FUNCTIONS),
            ("mount", !self.mount.is_empty(), FUNCTIONS),
            ("network", on.network, FUNCTIONS),
            ("network-name", self.network_name.is_some(), FUNCTIONS),
            ("enable-alpha-plugins", on.enable_alpha_plugins, PROGRAMS),
            ("enable-exec", on.enable_exec, PROGRAMS),
            ("enable-star", on.enable_star, PROGRAMS),
            ("enable-managedby-label", on.enable_managedby_label, LABEL),
            ("enable-helm", on.enable_helm, CHARTS),
            ("helm-command", self.helm_command.is_some(), CHARTS),
            ("helm-api-versions", !self.helm_api_versions.is_empty(), CHARTS),
            ("helm-kube-version", self.helm_kube_version.is_some(), CHARTS),
            ("helm-debug", on.helm_debug, CHARTS),
        ];
        match given.into_iter().find(|(_, is_given, _)| *is_given) {
            Some((flag, _, reason)) => Err(RefusedFlag { flag, reason }),
            None => Ok(()),
        }
    }
}
