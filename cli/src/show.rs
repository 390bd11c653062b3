//! What lists look like: columns for people, objects for programs.

mod configuration;

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{Cluster, Resource, ResourceRef, Unit};
use serde_json::{Value, json};

use crate::Host;
use crate::error::CommandError;
use crate::output::{Format, ago, list, short_revision, structured, title_bool};
use crate::table::Table;

pub(crate) use configuration::show_configuration;

/// A list as fetched.
pub(crate) struct Shown {
    /// As a table.
    pub(crate) table: Table,
    names: Vec<String>,
    items: Vec<Value>,
    single: bool,
}

impl Shown {
    fn empty(columns: Vec<&'static str>, single: bool) -> Self {
        Self {
            table: Table::new(columns),
            names: Vec::new(),
            items: Vec::new(),
            single,
        }
    }

    /// Adds a configured object.
    fn add(&mut self, row: Vec<String>, reference: &ResourceRef, object: Value) {
        self.table.row(row);
        self.names
            .push(format!("{}/{}", reference.kind.to_lowercase(), reference.name));
        self.items.push(object);
    }

    /// Prints the list in the form asked for.
    pub(crate) fn print(self, output: Format, header: bool, host: &mut Host) -> Result<(), CommandError> {
        match output {
            Format::Json | Format::Yaml => structured(&mut host.ui, output, &list(self.items, self.single)),
            Format::Name => {
                self.names.iter().for_each(|name| host.ui.line(name));
                Ok(())
            }
            Format::Table | Format::Wide => {
                self.table
                    .lines(header)
                    .iter()
                    .for_each(|line| host.ui.line(line));
                Ok(())
            }
        }
    }
}

/// Shows resources in Flux's columns.
pub(crate) fn show_resources(
    resources: &[Resource],
    namespaces: bool,
    wide: bool,
    now_ms: i64,
    single: bool,
) -> Result<Shown, CommandError> {
    let mut columns = vec!["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"];
    if namespaces {
        columns.insert(0, "NAMESPACE");
    }
    let objects: Vec<Value> = resources.iter().map(object).collect::<Result<_, _>>()?;
    // Only where something is kept for an app that renders it.
    let owned = wide && objects.iter().any(|object| owner(object).is_some());
    if owned {
        columns.push("OWNER");
    }
    if wide {
        columns.push("AGE");
    }
    let mut shown = Shown::empty(columns, single);
    for (resource, object) in resources.iter().zip(objects) {
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
        if namespaces {
            row.insert(0, reference.namespace.clone());
        }
        if owned {
            row.push(owner(&object).unwrap_or_default());
        }
        if wide {
            row.push(ago(resource.created_at_ms, now_ms));
        }
        shown.add(row, &reference, object);
    }
    Ok(shown)
}

/// The app that renders an object and for which it is kept, `Kind/name`.
fn owner(object: &Value) -> Option<String> {
    let owner = object.pointer("/metadata/ownerReferences/0")?;
    Some(format!("{}/{}", owner["kind"].as_str()?, owner["name"].as_str()?))
}

/// Reads the object of a resource.
fn object(resource: &Resource) -> Result<Value, CommandError> {
    serde_json::from_str(&resource.json)
        .map_err(|error| CommandError::failed(format!("the hub sent an object that is not JSON: {error}")))
}

/// Returns the status and message of a resource's Ready condition.
pub(crate) fn readiness(resource: &Resource) -> (&str, &str) {
    match resource.conditions.iter().find(|one| one.r#type == "Ready") {
        Some(ready) => (&ready.status, &ready.message),
        None => ("Unknown", "waiting to be reconciled"),
    }
}

/// Shows clusters.
pub(crate) fn show_clusters(clusters: &[Cluster], wide: bool, now_ms: i64, single: bool) -> Shown {
    let mut columns = vec!["NAME", "STATE", "CONNECTED", "UNITS", "LAST SEEN", "MESSAGE"];
    if wide {
        columns.extend(["KUBERNETES", "AGENT", "GENERATION", "LABELS"]);
    }
    let mut shown = Shown::empty(columns, single);
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
fn cluster_json(cluster: &Cluster) -> Value {
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

/// Shows units.
pub(crate) fn show_units(units: &[Unit], wide: bool, now_ms: i64) -> Shown {
    let mut columns = vec!["NAMESPACE", "APP", "CLUSTER", "REVISION", "READY", "MESSAGE"];
    if wide {
        columns.extend(["STATE", "TARGET", "OBJECTS", "HEALTH", "CAUSE", "OBSERVED"]);
    }
    let mut shown = Shown::empty(columns, false);
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

/// Says what a person should know first: that the facts are old, then why it is as it is.
pub(crate) fn unit_message(unit: &Unit, now_ms: i64) -> String {
    let mut parts = Vec::new();
    if unit.stale {
        parts.push(format!(
            "stale, reported {} ago",
            ago(unit.observed_at_ms, now_ms)
        ));
    }
    if !unit.message.is_empty() {
        parts.push(unit.message.clone());
    }
    if unit.objects_pending_removal > 0 {
        parts.push(match unit.objects_pending_removal {
            1 => "1 object pending removal".to_owned(),
            more => format!("{more} objects pending removal"),
        });
        if !unit.removal_waits.is_empty() {
            parts.push(unit.removal_waits.clone());
        }
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
            "removalWaits": unit.removal_waits,
        },
    })
}
