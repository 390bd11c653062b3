//! The status of a resource as Flux's columns want it: a source's own conditions; an app's decided by
//! [`flotilla_core::status`] from facts of all its units.

use std::collections::{BTreeSet, HashMap};

use flotilla_core::status::{self as decided, AppFacts, GONE, Readiness, Ready, Revision, SourceFacts};
use flotilla_proto::fleet::v1 as wire;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Fleet, views};
use crate::store::{
    Result, Store,
    reference::{Reference, sources_named},
    resource::{Condition, ResourceRow},
    source::SourceShown,
};

/// Resources with their status; apps cost two statements together, however many there are, and one where the units of
/// many are counted already; sources cost one.
pub(super) async fn resources(fleet: &Fleet, rows: Vec<ResourceRow>) -> Result<Vec<wire::Resource>> {
    let apps: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.is_app())
        .map(|row| row.uid)
        .collect();
    let facts = match apps.as_slice() {
        [] => HashMap::new(),
        apps => fleet.counts.facts(apps).await?,
    };
    let sources: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.is_source())
        .map(|row| row.uid)
        .collect();
    let mut sources = match sources.as_slice() {
        [] => HashMap::new(),
        sources => fleet.store.sources_shown(sources).await?,
    };
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let (conditions, revision) = if row.is_app() {
            let unknown = AppFacts::default();
            let facts = facts.get(&row.uid).unwrap_or(&unknown);
            let revision = facts.revision().map(|revision| revision.name.clone());
            let mut said = match &row.deletion {
                Some(policy) => deleting(&row, policy, facts.total(), &decided::app(facts)),
                None => condition(&row, decided::app(facts)),
            };
            said.since_ms = decided::turned(facts).map_or(said.since_ms, |at| at.0);
            (vec![said], revision.unwrap_or_default())
        } else {
            other(fleet, &row, sources.remove(&row.uid).unwrap_or_default())
        };
        shown.push(resource(row, conditions, revision));
    }
    Ok(shown)
}

fn other(fleet: &Fleet, row: &ResourceRow, shown: SourceShown) -> (Vec<Condition>, String) {
    match row.kind.as_str() {
        "Receiver" if row.not_supported.is_empty() => (vec![receiver(fleet, row)], String::new()),
        _ if row.is_source() => source(row, shown),
        _ => (vec![stored(row)], String::new()),
    }
}

fn resource(row: ResourceRow, conditions: Vec<Condition>, revision: String) -> wire::Resource {
    wire::Resource {
        r#ref: Some(reference(&row)),
        uid: row.uid.to_string(),
        api_version: row.api_version.clone(),
        generation: row.generation,
        json: object(&row, &conditions, &revision).to_string(),
        revision,
        suspended: row.is_suspended(),
        handled_request: row.handled_at.clone(),
        created_at_ms: views::ms(row.created_at),
        conditions: conditions
            .into_iter()
            .map(|one| wire::Condition {
                r#type: one.type_,
                status: one.status,
                reason: one.reason,
                message: one.message,
                since_ms: one.since_ms,
            })
            .collect(),
    }
}

/// What names a resource.
pub(super) fn reference(row: &ResourceRow) -> wire::ResourceRef {
    wire::ResourceRef {
        scope: row.cluster.clone(),
        group: row.api_group.clone(),
        kind: row.kind.clone(),
        namespace: row.namespace.clone(),
        name: row.name.clone(),
    }
}

/// The source that an app names, and its row when there is one.
pub(super) async fn source_of(store: &Store, app: &ResourceRow) -> Result<(String, Option<ResourceRow>)> {
    let mut shown = String::new();
    for named in sources_named(app.scope, &app.namespace, &app.spec) {
        let Reference {
            kind,
            scope,
            namespace,
            name,
        } = &named;
        shown = format!("{kind}/{namespace}/{name}");
        let row = store.resource_by_name(*scope, kind, namespace, name).await?;
        if row.is_some() {
            return Ok((shown, row));
        }
    }
    Ok((shown, None))
}

/// What is known of a source.
pub(super) async fn source_facts(store: &Store, row: &ResourceRow) -> Result<SourceFacts> {
    let mut shown = store.sources_shown(&[row.uid]).await?;
    let shown = shown.remove(&row.uid).unwrap_or_default();
    let ready = shown
        .said
        .filter(|(generation, _)| *generation == row.generation)
        .and_then(|(_, conditions)| conditions.into_iter().find(|one| one.type_ == "Ready"));
    Ok(SourceFacts {
        suspended: row.is_suspended(),
        not_supported: row.not_supported.clone(),
        ready: ready.map(|ready| Ready {
            status: Readiness::parse(&ready.status),
            reason: ready.reason,
            message: ready.message,
        }),
        revision: shown.revision.map(|(id, name)| Revision { id, name }),
    })
}

fn source(row: &ResourceRow, shown: SourceShown) -> (Vec<Condition>, String) {
    let revision = shown.revision.map(|(_, name)| name).unwrap_or_default();
    let conditions = match shown.said {
        Some((generation, conditions)) if generation == row.generation || row.is_suspended() => conditions,
        _ => vec![ready(
            row,
            "Unknown",
            "Progressing",
            "reconciliation in progress".to_owned(),
        )],
    };
    (conditions, revision)
}

/// A Receiver says where it is called.
fn receiver(fleet: &Fleet, row: &ResourceRow) -> Condition {
    if let Some(why) = fleet.receivers.unreadable(row.uid) {
        let message = format!("the Secret with key 'token' cannot be read: {why}");
        return ready(row, "False", "TokenUnreadable", message);
    }
    match fleet.receivers.path_of(row.uid) {
        Some(path) => ready(
            row,
            "True",
            "Succeeded",
            format!("Receiver initialized for path: {path}"),
        ),
        None => ready(
            row,
            "False",
            "TokenNotFound",
            "the Secret with key 'token' is not on the hub".to_owned(),
        ),
    }
}

/// Kinds without a status of their own: stored is all there is to say, or that they are not reconciled.
fn stored(row: &ResourceRow) -> Condition {
    match row.not_supported.as_slice() {
        [] => ready(row, "True", "Stored", "stored".to_owned()),
        what => {
            let message = format!("not supported by this release: {}", what.join(", "));
            ready(row, "False", "NotSupported", message)
        }
    }
}

/// An app that is to be deleted says how far that is.
fn deleting(row: &ResourceRow, policy: &str, units: u64, said: &Ready) -> Condition {
    let left = match units {
        0 => "nothing of it is left to delete".to_owned(),
        // Each agent has said so, and is about to be told to forget it.
        _ if said.reason == GONE => said.message.clone(),
        1 => left_on("1 cluster", said),
        more => left_on(&format!("{more} clusters"), said),
    };
    let asked = match row.deletion_by.as_str() {
        "" => String::new(),
        by => format!(", as {by} has asked"),
    };
    ready(
        row,
        "Unknown",
        "Deleting",
        format!("being deleted ({policy}){asked}: {left}"),
    )
}

fn left_on(clusters: &str, said: &Ready) -> String {
    match said.message.as_str() {
        "" => format!("it is left on {clusters}"),
        said => format!("it is left on {clusters}; {said}"),
    }
}

fn condition(row: &ResourceRow, said: Ready) -> Condition {
    ready(row, said.status.as_str(), &said.reason, said.message)
}

fn ready(row: &ResourceRow, status: &str, reason: &str, message: String) -> Condition {
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        since_ms: views::ms(row.created_at),
    }
}

/// The spec. Of a ConfigMap its keys, as of a Secret, whose values were never in the row.
fn spec(row: &ResourceRow) -> Value {
    if row.kind != "ConfigMap" {
        return row.spec.clone();
    }
    let fields = ["data", "binaryData"].map(|field| row.spec[field].as_object());
    let keys: BTreeSet<&String> = fields.into_iter().flatten().flat_map(Map::keys).collect();
    json!({ "keys": keys })
}

/// The object as JSON, without values of a ConfigMap or a Secret.
fn object(row: &ResourceRow, conditions: &[Condition], revision: &str) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(row.name));
    for (key, value) in [
        ("namespace", json!(row.namespace)),
        ("labels", row.labels.clone()),
        ("annotations", row.annotations.clone()),
    ] {
        let empty = value.as_str().is_some_and(str::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !empty {
            metadata.insert(key.to_owned(), value);
        }
    }
    // As Kubernetes names who is responsible for an object; that may be of another namespace here.
    if let [kind, namespace, name] = row.owner.split('/').collect::<Vec<_>>()[..] {
        let owner = json!({ "kind": kind, "namespace": namespace, "name": name });
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    metadata.insert("uid".to_owned(), json!(row.uid));
    metadata.insert("generation".to_owned(), json!(row.generation));
    let mut status = Map::new();
    status.insert("conditions".to_owned(), json!(conditions));
    if !revision.is_empty() {
        let field = if row.is_app() {
            "lastAppliedRevision"
        } else {
            "artifactRevision"
        };
        status.insert(field.to_owned(), json!(revision));
    }
    json!({
        "apiVersion": row.api_version, "kind": row.kind, "metadata": metadata, "spec": spec(row), "status": status
    })
}
