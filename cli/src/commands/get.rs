//! `flotilla get`: lists what the hub keeps and what it knows, in Flux's columns.

use clap::Subcommand;
use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{
    Cluster, ListClustersRequest, ListResourcesRequest, ListUnitsRequest, Resource, Unit, WatchRequest,
};
use serde_json::{Value, json};

use super::SourceWord;
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::output::{Format, ago, list, short_revision, structured, title_bool};
use crate::table::Table;
use crate::{Global, Host};

/// How many objects to ask for at once.
const PAGE: u32 = 500;

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
        return shown.print(&args.how, host);
    }
    // Watching starts before the first list, so that no change falls between them.
    let mut changes = fleet.watch(WatchRequest {}).await?.into_inner();
    let mut before: Vec<String> = Vec::new();
    loop {
        let lines = list.fetch(&mut fleet).await?.table.lines(!args.how.no_header);
        for line in lines.iter().filter(|line| !before.contains(&unpadded(line))) {
            host.ui.line(line);
        }
        before = lines.iter().map(|line| unpadded(line)).collect();
        if changes.message().await?.is_none() {
            return Err(CommandError::unreachable("the hub ended the watch"));
        }
    }
}

/// A line without its padding, which changes with the longest cell of other lines.
fn unpadded(line: &str) -> String {
    line.split('\t').map(str::trim_end).collect::<Vec<_>>().join("\t")
}

/// A list as fetched.
struct Shown {
    table: Table,
    names: Vec<String>,
    items: Vec<Value>,
    single: bool,
}

impl Shown {
    fn print(self, how: &How, host: &mut Host) -> Result<(), CommandError> {
        match how.output {
            Format::Json | Format::Yaml => {
                structured(&mut host.ui, how.output, &list(self.items, self.single))
            }
            Format::Name => {
                self.names.iter().for_each(|name| host.ui.line(name));
                Ok(())
            }
            Format::Table | Format::Wide => {
                self.table
                    .lines(!how.no_header)
                    .iter()
                    .for_each(|line| host.ui.line(line));
                Ok(())
            }
        }
    }
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
        let request = ListResourcesRequest {
            kinds: vec![kind.name().to_owned()],
            namespace: if self.how.all_namespaces {
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
        self.show_resources(&found, name.is_some())
    }

    fn nothing(&self, kind: Kind, name: Option<&str>) -> CommandError {
        let place = match self.how.all_namespaces {
            true => "any namespace".to_owned(),
            false => format!("{:?} namespace", self.namespace),
        };
        let error = match name {
            Some(name) => CommandError::failed(format!("{kind} {name:?} not found in {place}")),
            None => CommandError::failed(format!("no {kind} objects found in {place}")),
        };
        if self.how.all_namespaces {
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

    fn show_resources(&self, resources: &[Resource], single: bool) -> Result<Shown, CommandError> {
        let all = self.how.all_namespaces;
        let wide = self.how.output == Format::Wide;
        let mut columns = vec!["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"];
        if all {
            columns.insert(0, "NAMESPACE");
        }
        if wide {
            columns.push("AGE");
        }
        let mut shown = Shown {
            table: Table::new(columns),
            names: Vec::new(),
            items: Vec::new(),
            single,
        };
        for resource in resources {
            let reference = resource.r#ref.clone().unwrap_or_default();
            let (ready, message) = readiness(resource);
            let mut row = vec![
                reference.name.clone(),
                if wide {
                    resource.revision.clone()
                } else {
                    short_revision(&resource.revision)
                },
                title_bool(resource.suspended),
                ready.to_owned(),
                message.to_owned(),
            ];
            if all {
                row.insert(0, reference.namespace.clone());
            }
            if wide {
                row.push(ago(resource.created_at_ms, (self.now_ms)()));
            }
            shown.table.row(row);
            shown
                .names
                .push(format!("{}/{}", reference.kind.to_lowercase(), reference.name));
            let object = serde_json::from_str(&resource.json).map_err(|error| {
                CommandError::failed(format!("the hub sent an object that is not JSON: {error}"))
            })?;
            shown.items.push(object);
        }
        Ok(shown)
    }
}

/// Returns the status and message of a resource's Ready condition.
pub(crate) fn readiness(resource: &Resource) -> (&str, &str) {
    match resource.conditions.iter().find(|one| one.r#type == "Ready") {
        Some(ready) => (&ready.status, &ready.message),
        None => ("Unknown", "waiting to be reconciled"),
    }
}

/// Fetches all pages of resources.
pub(crate) async fn resources(
    fleet: &mut Fleet,
    mut request: ListResourcesRequest,
) -> Result<Vec<Resource>, CommandError> {
    let mut all = Vec::new();
    loop {
        let page = fleet.list_resources(request.clone()).await?.into_inner();
        all.extend(page.resources);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Fetches all pages of clusters.
pub(crate) async fn clusters(
    fleet: &mut Fleet,
    name: &str,
    selector: &str,
) -> Result<Vec<Cluster>, CommandError> {
    let mut request = ListClustersRequest {
        name: name.to_owned(),
        label_selector: selector.to_owned(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let page = fleet.list_clusters(request.clone()).await?.into_inner();
        all.extend(page.clusters);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Fetches all pages of units.
pub(crate) async fn units(
    fleet: &mut Fleet,
    mut request: ListUnitsRequest,
) -> Result<Vec<Unit>, CommandError> {
    let mut all = Vec::new();
    loop {
        let page = fleet.list_units(request.clone()).await?.into_inner();
        all.extend(page.units);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints every cluster as a table.
pub(crate) async fn print_clusters(fleet: &mut Fleet, host: &mut Host) -> Result<(), CommandError> {
    let shown = show_clusters(&clusters(fleet, "", "").await?, false, (host.now_ms)(), false);
    shown.table.lines(true).iter().for_each(|line| host.ui.line(line));
    Ok(())
}

fn show_clusters(clusters: &[Cluster], wide: bool, now_ms: i64, single: bool) -> Shown {
    let mut columns = vec!["NAME", "STATE", "CONNECTED", "UNITS", "LAST SEEN", "MESSAGE"];
    if wide {
        columns.extend(["KUBERNETES", "AGENT", "GENERATION", "LABELS"]);
    }
    let mut shown = Shown {
        table: Table::new(columns),
        names: Vec::new(),
        items: Vec::new(),
        single,
    };
    for cluster in clusters {
        let mut row = vec![
            cluster.name.clone(),
            cluster.state.clone(),
            title_bool(cluster.connected),
            format!("{}/{}", cluster.units_ready, cluster.units),
            ago(cluster.last_seen_ms, now_ms),
            cluster.message.clone(),
        ];
        if wide {
            let labels: Vec<_> = cluster
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            row.push(cluster.kube_version.clone());
            row.push(cluster.agent_version.clone());
            row.push(format!(
                "{}/{}",
                cluster.accepted_generation, cluster.desired_generation
            ));
            row.push(labels.join(","));
        }
        shown.table.row(row);
        shown.names.push(format!("cluster/{}", cluster.name));
        shown.items.push(cluster_json(cluster));
    }
    shown
}

/// Returns a cluster as its object with status.
pub(crate) fn cluster_json(cluster: &Cluster) -> Value {
    json!({
        "apiVersion": Kind::Cluster.api_version(),
        "kind": "Cluster",
        "metadata": { "name": cluster.name, "uid": cluster.id, "labels": cluster.labels },
        "spec": { "variables": cluster.variables },
        "status": {
            "state": cluster.state,
            "connected": cluster.connected,
            "lastSeenMs": cluster.last_seen_ms,
            "agentVersion": cluster.agent_version,
            "kubernetesVersion": cluster.kube_version,
            "desiredGeneration": cluster.desired_generation,
            "acceptedGeneration": cluster.accepted_generation,
            "units": cluster.units,
            "unitsReady": cluster.units_ready,
            "message": cluster.message,
        },
    })
}

fn show_units(units: &[Unit], wide: bool, now_ms: i64) -> Shown {
    let mut columns = vec!["NAMESPACE", "APP", "CLUSTER", "REVISION", "READY", "MESSAGE"];
    if wide {
        columns.extend(["STATE", "TARGET", "OBJECTS", "HEALTH", "CAUSE", "OBSERVED"]);
    }
    let mut shown = Shown {
        table: Table::new(columns),
        names: Vec::new(),
        items: Vec::new(),
        single: false,
    };
    for unit in units {
        let app = unit.app.clone().unwrap_or_default();
        let mut row = vec![
            app.namespace.clone(),
            format!("{}/{}", app.kind.to_lowercase(), app.name),
            unit.cluster.clone(),
            short_revision(&unit.applied_revision),
            unit.ready.clone(),
            unit_message(unit, now_ms),
        ];
        if wide {
            row.push(unit.state.clone());
            row.push(short_revision(&unit.target_revision));
            row.push(format!(
                "{}/{}",
                unit.objects.saturating_sub(unit.objects_failed),
                unit.objects
            ));
            row.push(unit.health.clone());
            row.push(unit.cause.clone());
            row.push(ago(unit.observed_at_ms, now_ms));
        }
        shown.table.row(row);
        shown.names.push(format!(
            "{}/{}/{}",
            app.kind.to_lowercase(),
            app.name,
            unit.cluster
        ));
        shown.items.push(unit_json(unit));
    }
    shown
}

/// Says what a person should know first: that the facts are old, why it waits, what the agent said.
pub(crate) fn unit_message(unit: &Unit, now_ms: i64) -> String {
    let mut parts = Vec::new();
    if unit.stale {
        parts.push(format!(
            "stale, reported {} ago",
            ago(unit.observed_at_ms, now_ms)
        ));
    }
    if let Some(first) = unit.waiting.first() {
        parts.push(format!("waiting on {first}"));
    }
    if !unit.message.is_empty() {
        parts.push(unit.message.clone());
    }
    if unit.objects_pending_removal > 0 {
        parts.push(format!(
            "{} objects pending removal",
            unit.objects_pending_removal
        ));
    }
    parts.join("; ")
}

fn unit_json(unit: &Unit) -> Value {
    let app = unit.app.clone().unwrap_or_default();
    json!({
        "id": unit.id,
        "app": { "kind": app.kind, "namespace": app.namespace, "name": app.name, "scope": app.scope },
        "cluster": unit.cluster,
        "state": unit.state,
        "targetRevision": unit.target_revision,
        "appliedRevision": unit.applied_revision,
        "ready": unit.ready,
        "reason": unit.reason,
        "message": unit.message,
        "waiting": unit.waiting,
        "cause": unit.cause,
        "observedAtMs": unit.observed_at_ms,
        "stale": unit.stale,
        "health": unit.health,
        "objects": {
            "total": unit.objects,
            "failed": unit.objects_failed,
            "pendingRemoval": unit.objects_pending_removal,
        },
    })
}
