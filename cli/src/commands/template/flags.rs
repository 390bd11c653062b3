//! Flags of `helm template` that mean nothing where no cluster and no network is asked: taken, checked as Helm checks
//! them and passed over, or refused with the reason.

use std::time::Duration;

use flotilla_render::helm::flag;

/// Reads a switch's value as Go does.
pub(in crate::commands) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

/// How Helm would ask a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DryRun {
    Client,
    Server,
}

fn dry_run(text: &str) -> Result<DryRun, String> {
    match text {
        "client" | "unset" => Ok(DryRun::Client),
        "server" => Ok(DryRun::Server),
        _ if go_bool(text) == Ok(true) => Ok(DryRun::Client),
        _ => Err("it must be client or server".to_owned()),
    }
}

fn wait(text: &str) -> Result<(), String> {
    let is_known = matches!(text, "watcher" | "hookOnly" | "legacy" | "true" | "false");
    let wrong = "it must be watcher, hookOnly or legacy";
    is_known.then_some(()).ok_or_else(|| wrong.to_owned())
}

fn color(text: &str) -> Result<(), String> {
    let is_known = matches!(text, "never" | "auto" | "always");
    let wrong = "it must be never, auto or always";
    is_known.then_some(()).ok_or_else(|| wrong.to_owned())
}

fn labels(text: &str) -> Result<(), String> {
    let wrong = "it must be of the form key=value";
    // With one equals sign, commas belong to the value.
    let is_pairs = match text.matches('=').count() {
        1 => true,
        _ => text.split(',').all(|pair| pair.contains('=')),
    };
    is_pairs.then_some(()).ok_or_else(|| wrong.to_owned())
}

fn whole(text: &str) -> Result<(), String> {
    flag::is_int(text)
        .then_some(())
        .ok_or_else(|| "it is no whole number".to_owned())
}

fn number(text: &str) -> Result<(), String> {
    flag::is_float32(text)
        .then_some(())
        .ok_or_else(|| "it is no number".to_owned())
}

/// Reads a duration as Go does; one below zero is none at all. The type is that of the flag of a hub's commands.
pub(in crate::commands) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = flag::duration(text).ok_or_else(|| "it is no duration, such as 1m30s".to_owned())?;
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()))
}

/// Flags of installing, of fetching charts and of clusters, which change nothing of what is printed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Flags of Helm that change nothing here")]
pub(super) struct PassedOver {
    #[command(flatten)]
    switches: Switches,
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "unset", value_parser = dry_run, hide = true)]
    pub(super) dry_run: Option<DryRun>,
    #[arg(long, value_name = "STRATEGY", num_args = 0..=1, require_equals = true, default_missing_value = "watcher", value_parser = wait, hide = true)]
    wait: Option<()>,
    #[arg(long, value_name = "TEXT", hide = true)]
    description: Option<String>,
    #[arg(short, long, value_name = "LABELS", value_parser = labels, hide = true)]
    labels: Vec<()>,
    #[arg(long, alias = "colour", value_name = "WHEN", value_parser = color, hide = true)]
    color: Option<()>,
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = whole, hide = true)]
    burst_limit: Option<()>,
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = number, hide = true)]
    qps: Option<()>,
    /// Chooses among charts that are fetched; Helm passes it over where the chart is on the disk
    #[arg(long, value_name = "RANGE", hide = true)]
    version: Option<String>,
    #[command(flatten)]
    texts: Texts,
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
    /// Switches of installing, fetching and clusters.
    Switches {
        atomic, create_namespace, devel, disable_openapi_validation, force, force_conflicts, force_replace, hide_notes,
        insecure_skip_tls_verify, kube_insecure_skip_tls_verify, pass_credentials, plain_http, render_subchart_notes,
        replace, rollback_on_failure, server_side, skip_crds, take_ownership, wait_for_jobs,
    }
}

/// Declares flags that take any text, once or more often.
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, clap::Args)]
        pub(super) struct $name {
            $(
                #[arg(long, value_name = "TEXT", allow_hyphen_values = true, hide = true)]
                $field: Vec<String>,
            )*
        }
    };
}

texts! {
    /// Places of certificates and caches, and who to be towards clusters and the places of charts.
    Texts {
        ca_file, cert_file, content_cache, key_file, keyring, kube_apiserver, kube_as_group, kube_as_user, kube_ca_file,
        kube_tls_server_name, kube_token, password, registry_config, repository_cache, repository_config, username,
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
    pub(super) fn check(&self, dry_run: Option<DryRun>) -> Result<(), RefusedFlag> {
        const FETCHED: &str = "charts are not fetched; name a folder or a .tgz file";
        const CLUSTER: &str = "no cluster is asked";
        const PROGRAM: &str = "no program is run";
        const NETWORK: &str = "rendering asks no network";
        const SIGNED: &str = "signatures of charts are checked where they are fetched";
        let on = &self.switches;
        // A text that is empty is that of a variable that is not set.
        let is_given = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
        let given = [
            ("post-renderer", is_given(self.post_renderer.as_ref()), PROGRAM),
            ("post-renderer-args", !self.post_renderer_args.is_empty(), PROGRAM),
            ("repo", is_given(self.repo.as_ref()), FETCHED),
            ("enable-dns", on.enable_dns, NETWORK),
            ("validate", on.validate, CLUSTER),
            ("verify", on.verify, SIGNED),
            ("dry-run=server", dry_run == Some(DryRun::Server), CLUSTER),
        ];
        match given.into_iter().find(|(_, is_given, _)| *is_given) {
            Some((flag, _, reason)) => Err(RefusedFlag { flag, reason }),
            None => Ok(()),
        }
    }
}
