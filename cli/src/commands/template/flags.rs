//! Flags of `helm template` that mean nothing where no cluster and no network is asked: taken and passed over, or
//! refused with the reason.

/// Reads a switch's value as Go does.
pub(in crate::commands) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

/// Flags of installing and of clusters, which change nothing of what is printed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Flags of Helm that change nothing here")]
pub(super) struct PassedOver {
    /// Switches of an installation
    #[command(flatten)]
    switches: Switches,
    /// How Helm would ask a cluster: client, none and false are what is done here
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "client", hide = true)]
    pub(super) dry_run: Option<String>,
    #[arg(long, value_name = "STRATEGY", num_args = 0..=1, require_equals = true, default_missing_value = "watcher", hide = true)]
    wait: Option<String>,
    #[arg(long, value_name = "TEXT", hide = true)]
    description: Option<String>,
    #[arg(short, long, value_name = "LABELS", hide = true)]
    labels: Vec<String>,
    #[arg(long, visible_alias = "colour", value_name = "WHEN", hide = true)]
    color: Option<String>,
    #[arg(long, value_name = "COUNT", hide = true)]
    burst_limit: Option<String>,
    #[arg(long, value_name = "COUNT", hide = true)]
    qps: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    kubeconfig: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    kube_context: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    registry_config: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    repository_config: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    repository_cache: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    content_cache: Option<String>,
}

/// Declares switches that take a value behind an equals sign, as those of Go do.
macro_rules! switches {
    ($(#[$doc:meta])* $name:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, clap::Args)]
        pub(super) struct $name {
            $(
                #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = $crate::commands::template::flags::go_bool, hide = true)]
                pub(super) $field: bool,
            )*
        }
    };
}

pub(in crate::commands) use switches;

switches! {
    /// Switches of installing.
    Switches {
        create_namespace, debug, dependency_update, devel, disable_openapi_validation, force_conflicts,
        force_replace, hide_notes, render_subchart_notes, replace,
        rollback_on_failure, server_side, skip_crds, take_ownership, wait_for_jobs,
    }
}

/// Flags that are refused, each with its reason.
#[derive(Debug, clap::Args)]
pub(super) struct Refused {
    #[command(flatten)]
    switches: RefusedSwitches,
    #[arg(long, value_name = "NAME", hide = true)]
    post_renderer: Option<String>,
    #[arg(long, value_name = "ARGUMENT", hide = true)]
    post_renderer_args: Vec<String>,
    #[arg(long, value_name = "URL", hide = true)]
    repo: Option<String>,
    #[arg(long, value_name = "RANGE", hide = true)]
    version: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    username: Option<String>,
    #[arg(long, value_name = "SECRET", hide = true)]
    password: Option<String>,
}

switches! {
    /// Switches that are refused.
    RefusedSwitches { enable_dns, validate, verify }
}

/// A flag that Helm has and that cannot be had here.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} is a flag of helm template that is not taken here: {reason}")]
pub(super) struct RefusedFlag {
    flag: &'static str,
    reason: &'static str,
}

impl Refused {
    /// Refuses the first flag that was given.
    pub(super) fn check(&self, dry_run: Option<&str>) -> Result<(), RefusedFlag> {
        const FETCHED: &str = "charts are not fetched; name a folder or a .tgz file";
        const CLUSTER: &str = "no cluster is asked";
        let given = [
            ("post-renderer", self.post_renderer.is_some(), "no program is run"),
            (
                "post-renderer-args",
                !self.post_renderer_args.is_empty(),
                "no program is run",
            ),
            ("repo", self.repo.is_some(), FETCHED),
            ("version", self.version.is_some(), FETCHED),
            ("username", self.username.is_some(), FETCHED),
            ("password", self.password.is_some(), FETCHED),
            (
                "enable-dns",
                self.switches.enable_dns,
                "rendering asks no network",
            ),
            ("validate", self.switches.validate, CLUSTER),
            (
                "verify",
                self.switches.verify,
                "signatures of charts are checked where they are fetched",
            ),
            ("dry-run=server", dry_run == Some("server"), CLUSTER),
        ];
        match given.into_iter().find(|(_, is_given, _)| *is_given) {
            Some((flag, _, reason)) => Err(RefusedFlag { flag, reason }),
            None => Ok(()),
        }
    }
}
