//! The commands, a file each.

mod app;
mod apply;
mod approve;
mod below;
mod cluster;
mod completion;
mod create;
mod deadline;
mod delete;
mod departure;
mod envsubst;
mod events;
mod explain;
mod get;
mod history;
mod inventory;
mod kustomize;
mod reconcile;
mod suspend;
mod template;
mod tree;
mod version;

use std::time::Duration;

use clap::Subcommand;
use flotilla_api::Kind;
use flotilla_api::text::GoDuration;
use flotilla_proto::fleet::v1::ResourceRef;

use crate::error::CommandError;
use crate::{Global, Host};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Apply(apply::ApplyArgs),
    Create(create::CreateArgs),
    Get(get::GetArgs),
    Inventory(inventory::InventoryArgs),
    Tree(tree::TreeArgs),
    Explain(explain::ExplainArgs),
    History(history::HistoryArgs),
    Cluster(cluster::ClusterArgs),
    Reconcile(reconcile::ReconcileArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    Approve(approve::ApproveArgs),
    Delete(delete::DeleteArgs),
    Events(events::EventsArgs),
    Kustomize(kustomize::KustomizeArgs),
    Template(Box<template::TemplateArgs>),
    Envsubst(envsubst::EnvsubstArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}

impl Command {
    /// Tells whether it shows changes until it is interrupted.
    pub(crate) fn is_watch(&self) -> bool {
        match self {
            Self::Get(args) => args.is_watch(),
            Self::Events(args) => args.is_watch(),
            _ => false,
        }
    }
}

/// Runs a command.
pub(crate) async fn run(command: Command, global: &Global, host: &mut Host) -> Result<(), CommandError> {
    match command {
        Command::Apply(args) => apply::cmd_apply(&args, global, host).await,
        Command::Create(args) => create::cmd_create(&args, global, host).await,
        Command::Get(args) => get::cmd_get(&args, global, host).await,
        Command::Inventory(args) => inventory::cmd_inventory(&args, global, host).await,
        Command::Tree(args) => tree::cmd_tree(&args, global, host).await,
        Command::Explain(args) => explain::cmd_explain(&args, global, host).await,
        Command::History(args) => history::cmd_history(&args, global, host).await,
        Command::Cluster(args) => cluster::cmd_cluster(&args, global, host).await,
        Command::Reconcile(args) => reconcile::cmd_reconcile(&args, global, host).await,
        Command::Suspend(args) => suspend::cmd_suspend(&args, global, host).await,
        Command::Resume(args) => suspend::cmd_resume(&args, global, host).await,
        Command::Delete(args) => delete::cmd_delete(&args, global, host).await,
        Command::Approve(args) => approve::cmd_approve(&args, global, host).await,
        Command::Events(args) => events::cmd_events(&args, global, host).await,
        Command::Kustomize(args) => kustomize::cmd_kustomize(&args, host),
        Command::Template(args) => template::cmd_template(&args, host),
        Command::Envsubst(args) => envsubst::cmd_envsubst(&args, host),
        Command::Version(args) => version::cmd_version(&args, global, host).await,
        Command::Completion(args) => {
            completion::cmd_completion(&args, host);
            Ok(())
        }
    }
}

/// Reads a duration as Go writes it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    GoDuration::new(text)
        .map(|duration| duration.get())
        .map_err(|error| error.message)
}

/// Names of one list that are shown.
const NAMED: usize = 20;

/// The first of so many names.
fn first(names: impl Iterator<Item = String>, all: usize) -> String {
    let named: Vec<String> = names.take(NAMED).collect();
    match all.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

/// A number of things.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

/// Reads `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not of the form key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Which source, by Flux's words.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum SourceWord {
    /// A GitRepository
    Git,
    /// An OCIRepository
    Oci,
    /// A HelmRepository
    Helm,
    /// A HelmChart
    Chart,
    /// A Bucket
    Bucket,
    /// An ExternalArtifact
    External,
}

impl SourceWord {
    pub(crate) fn kind(self) -> Kind {
        match self {
            SourceWord::Git => Kind::GitRepository,
            SourceWord::Oci => Kind::OciRepository,
            SourceWord::Helm => Kind::HelmRepository,
            SourceWord::Chart => Kind::HelmChart,
            SourceWord::Bucket => Kind::Bucket,
            SourceWord::External => Kind::ExternalArtifact,
        }
    }
}

/// An object that can be reconciled, suspended and resumed.
#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// A source
    Source {
        /// Its kind
        kind: SourceWord,
        /// Its name
        name: String,
    },
    /// A Kustomization
    #[command(alias = "ks")]
    Kustomization {
        /// Its name
        name: String,
    },
    /// A HelmRelease
    #[command(alias = "hr")]
    Helmrelease {
        /// Its name
        name: String,
    },
}

impl Target {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Target::Source { kind, .. } => kind.kind(),
            Target::Kustomization { .. } => Kind::Kustomization,
            Target::Helmrelease { .. } => Kind::HelmRelease,
        }
    }

    /// Returns the reference, in the fleet or in the scope of a cluster.
    pub(crate) fn reference(&self, namespace: &str, cluster: Option<&str>) -> ResourceRef {
        let (Target::Source { name, .. } | Target::Kustomization { name } | Target::Helmrelease { name }) =
            self;
        let kind = self.kind();
        ResourceRef {
            scope: cluster.unwrap_or_default().to_owned(),
            group: kind.group().to_owned(),
            kind: kind.name().to_owned(),
            namespace: namespace.to_owned(),
            name: name.clone(),
        }
    }
}

/// Names a resource as `Kind namespace/name`, with its cluster when it belongs to one.
pub(crate) fn describe(reference: &ResourceRef) -> String {
    let mut text = format!("{} ", reference.kind);
    if !reference.namespace.is_empty() {
        text.push_str(&format!("{}/", reference.namespace));
    }
    text.push_str(&reference.name);
    if !reference.scope.is_empty() {
        text.push_str(&format!(" (cluster {})", reference.scope));
    }
    text
}
