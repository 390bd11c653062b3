//! `flotilla get`: lists what the hub keeps and what it knows, in Flux's columns.

use clap::Subcommand;
use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{ListResourcesRequest, ListUnitsRequest, Resource};

use super::SourceWord;
use crate::changes::Changes;
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::fetch::{PAGE, clusters, resources, units};
use crate::output::Format;
use crate::show::{Shown, show_clusters, show_configuration, show_resources, show_units};
use crate::{Global, Host};

/// List objects and their state
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

/// What to list.
#[derive(Debug, Subcommand)]
enum What {
    /// Sources of one kind
    #[command(alias = "source")]
    Sources {
        /// Their kind
        kind: SourceWord,
        /// One of them
        name: Option<String>,
    },
    /// Kustomizations
    #[command(aliases = ["kustomization", "ks"])]
    Kustomizations {
        /// One of them
        name: Option<String>,
    },
    /// HelmReleases
    #[command(aliases = ["helmrelease", "hr"])]
    Helmreleases {
        /// One of them
        name: Option<String>,
    },
    /// Clusters of the fleet
    #[command(alias = "cluster")]
    Clusters {
        /// One of them
        name: Option<String>,
    },
    /// Placements: which apps go to which clusters
    #[command(alias = "placement")]
    Placements {
        /// One of them
        name: Option<String>,
    },
    /// Named sets of clusters
    #[command(alias = "clustergroup")]
    Clustergroups {
        /// One of them
        name: Option<String>,
    },
    /// ConfigMaps that apps refer to: their keys, and no values
    #[command(aliases = ["configmap", "cm"])]
    Configmaps {
        /// One of them
        name: Option<String>,
    },
    /// Secrets that sources and apps refer to: their keys, and no values
    #[command(alias = "secret")]
    Secrets {
        /// One of them
        name: Option<String>,
    },
    /// Apps by cluster
    #[command(alias = "unit")]
    Units {
        /// One app
        app: Option<String>,
    },
}

/// How to list it.
#[derive(Debug, clap::Args)]
struct How {
    /// Objects of all namespaces
    #[arg(long, short = 'A', global = true)]
    all_namespaces: bool,
    /// Objects in the scope of this cluster; units on it
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
    /// Only objects with these labels, as kubectl takes them
    #[arg(long, short = 'l', global = true, value_name = "LABELS")]
    label_selector: Option<String>,
    /// Only objects with this condition, such as ready=false
    #[arg(long, global = true, value_name = "CONDITION=STATUS", value_parser = super::pair)]
    status_selector: Option<(String, String)>,
    /// How to show them
    #[arg(long, short, global = true, default_value = "table")]
    output: Format,
    /// Leave out the header
    #[arg(long, global = true)]
    no_header: bool,
    /// Show changes until interrupted
    #[arg(long, short = 'w', global = true)]
    watch: bool,
}

impl GetArgs {
    /// Tells whether it shows changes until it is interrupted.
    pub(super) fn is_watch(&self) -> bool {
        self.how.watch
    }
}

pub(crate) async fn cmd_get(args: &GetArgs, global: &Global, host: &mut Host) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let list = Listing {
        what: &args.what,
        how: &args.how,
        namespace: &global.namespace,
        now_ms: host.now_ms,
    };
    if !args.how.watch {
        let shown = list.fetch(&mut fleet).await?;
        return shown.print(args.how.output, !args.how.no_header, host);
    }
    if !matches!(args.how.output, Format::Table | Format::Wide) {
        return Err(CommandError::usage("--watch shows tables only"));
    }
    let mut changes = Changes::start(&mut fleet).await?;
    let mut before: Vec<String> = Vec::new();
    loop {
        let lines = list.fetch(&mut fleet).await?.table.lines(!args.how.no_header);
        for line in lines.iter().filter(|line| !before.contains(&unpadded(line))) {
            host.ui.line(line);
        }
        before = lines.iter().map(|line| unpadded(line)).collect();
        if host.ui.is_closed() {
            return Ok(());
        }
        changes.next().await?;
    }
}

/// A line without its padding, which changes with the longest cell of other lines.
fn unpadded(line: &str) -> String {
    line.split('\t').map(str::trim_end).collect::<Vec<_>>().join("\t")
}

/// One question to the hub.
struct Listing<'a> {
    what: &'a What,
    how: &'a How,
    namespace: &'a str,
    now_ms: fn() -> i64,
}

impl Listing<'_> {
    async fn fetch(&self, fleet: &mut Fleet) -> Result<Shown, CommandError> {
        let wide = self.how.output == Format::Wide;
        match self.what {
            What::Sources { kind, name } => self.resources(fleet, kind.kind(), name.as_deref()).await,
            What::Kustomizations { name } => {
                self.resources(fleet, Kind::Kustomization, name.as_deref()).await
            }
            What::Helmreleases { name } => self.resources(fleet, Kind::HelmRelease, name.as_deref()).await,
            What::Placements { name } => self.configured(fleet, Kind::Placement, name.as_deref()).await,
            What::Clustergroups { name } => self.configured(fleet, Kind::ClusterGroup, name.as_deref()).await,
            What::Configmaps { name } => self.configured(fleet, Kind::ConfigMap, name.as_deref()).await,
            What::Secrets { name } => self.configured(fleet, Kind::Secret, name.as_deref()).await,
            What::Clusters { name } => {
                let selector = self.how.label_selector.as_deref().unwrap_or_default();
                let clusters = clusters(fleet, name.as_deref().unwrap_or_default(), selector).await?;
                if let (Some(name), []) = (name, clusters.as_slice()) {
                    return Err(CommandError::failed(format!("cluster {name:?} not found")));
                }
                Ok(show_clusters(&clusters, wide, (self.now_ms)(), name.is_some()))
            }
            What::Units { app } => {
                let units = units(fleet, self.units_of(app.as_deref())).await?;
                let units: Vec<_> = units
                    .into_iter()
                    .filter(|unit| self.wanted(&[("ready", &unit.ready)]))
                    .collect();
                Ok(show_units(&units, wide, (self.now_ms)()))
            }
        }
    }

    fn units_of(&self, app: Option<&str>) -> ListUnitsRequest {
        ListUnitsRequest {
            cluster: self.how.cluster.clone().unwrap_or_default(),
            app_namespace: if self.how.all_namespaces {
                String::new()
            } else {
                self.namespace.to_owned()
            },
            app_name: app.unwrap_or_default().to_owned(),
            page_size: PAGE,
            ..Default::default()
        }
    }

    async fn resources(
        &self,
        fleet: &mut Fleet,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<Shown, CommandError> {
        let found = self.found(fleet, kind, name).await?;
        show_resources(
            &found,
            self.how.all_namespaces,
            self.how.output == Format::Wide,
            (self.now_ms)(),
            name.is_some(),
        )
    }

    /// Objects that say themselves all that there is to know.
    async fn configured(
        &self,
        fleet: &mut Fleet,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<Shown, CommandError> {
        let found = self.found(fleet, kind, name).await?;
        show_configuration(
            kind,
            &found,
            self.how.all_namespaces,
            self.how.output == Format::Wide,
            (self.now_ms)(),
            name.is_some(),
        )
    }

    async fn found(
        &self,
        fleet: &mut Fleet,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<Vec<Resource>, CommandError> {
        let request = ListResourcesRequest {
            kinds: vec![kind.name().to_owned()],
            namespace: if self.how.all_namespaces || !kind.is_namespaced() {
                String::new()
            } else {
                self.namespace.to_owned()
            },
            name: name.unwrap_or_default().to_owned(),
            label_selector: self.how.label_selector.clone().unwrap_or_default(),
            scope: self.how.cluster.clone().unwrap_or_default(),
            page_size: PAGE,
            page_token: String::new(),
        };
        let mut found = resources(fleet, request).await?;
        if found.is_empty() {
            return Err(self.nothing(kind, name));
        }
        found.retain(|resource| {
            let conditions: Vec<_> = resource
                .conditions
                .iter()
                .map(|one| (one.r#type.as_str(), one.status.as_str()))
                .collect();
            self.wanted(&conditions)
        });
        Ok(found)
    }

    fn nothing(&self, kind: Kind, name: Option<&str>) -> CommandError {
        let place = match (kind.is_namespaced(), self.how.all_namespaces) {
            (false, _) => String::new(),
            (true, true) => " in any namespace".to_owned(),
            (true, false) => format!(" in {:?} namespace", self.namespace),
        };
        let error = match name {
            Some(name) => CommandError::failed(format!("{kind} {name:?} not found{place}")),
            None => CommandError::failed(format!("no {kind} objects found{place}")),
        };
        if self.how.all_namespaces || !kind.is_namespaced() {
            error
        } else {
            error.hint("look everywhere with --all-namespaces")
        }
    }

    /// Tells whether the conditions hold what `--status-selector` asks for.
    fn wanted(&self, conditions: &[(&str, &str)]) -> bool {
        let Some((name, status)) = &self.how.status_selector else {
            return true;
        };
        conditions
            .iter()
            .any(|(have, is)| have.eq_ignore_ascii_case(name) && is.eq_ignore_ascii_case(status))
    }
}
