//! The status of a resource as Flux's columns want it: a source's own conditions; an app's drawn from its units
//! (design: READY is True only if every unit's is; MESSAGE counts; REVISION is the newest applied on all).

use flotilla_proto::fleet::v1 as wire;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Fleet, views};
use crate::store::{
    Result, Store,
    query::UnitFilter,
    resource::{Condition, ResourceRow},
};

/// Units looked at for an app's summary.
const UNITS: i64 = 1000;

/// A resource with its status.
pub(super) async fn resource(fleet: &Fleet, row: ResourceRow) -> Result<wire::Resource> {
    let store = &fleet.store;
    let (conditions, revision) = match row.kind.as_str() {
        "Receiver" if row.not_supported.is_empty() => (vec![receiver(fleet, &row)], String::new()),
        "Kustomization" => app(store, &row).await?,
        "GitRepository" => source(store, &row).await?,
        _ => (vec![other(&row)], String::new()),
    };
    Ok(wire::Resource {
        r#ref: Some(wire::ResourceRef {
            scope: row.scope.clone(),
            group: row.api_group.clone(),
            kind: row.kind.clone(),
            namespace: row.namespace.clone(),
            name: row.name.clone(),
        }),
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
    })
}

/// The source of an app.
pub(super) async fn source_of(store: &Store, app: &ResourceRow) -> Result<Option<ResourceRow>> {
    let field = |name: &str| app.spec["sourceRef"][name].as_str();
    let (Some(kind), Some(name)) = (field("kind"), field("name")) else {
        return Ok(None);
    };
    store
        .resource_by_name(
            &app.scope,
            kind,
            field("namespace").unwrap_or(&app.namespace),
            name,
        )
        .await
}

async fn source(store: &Store, row: &ResourceRow) -> Result<(Vec<Condition>, String)> {
    let revision = store
        .current_revision(row.uid)
        .await?
        .map(|one| one.revision)
        .unwrap_or_default();
    let conditions = match store.conditions(row.uid).await? {
        Some((generation, conditions)) if generation == row.generation || row.is_suspended() => conditions,
        _ => vec![ready(
            row,
            "Unknown",
            "Progressing",
            "reconciliation in progress".to_owned(),
        )],
    };
    Ok((conditions, revision))
}

async fn app(store: &Store, row: &ResourceRow) -> Result<(Vec<Condition>, String)> {
    let filter = UnitFilter {
        kind: row.kind.clone(),
        namespace: row.namespace.clone(),
        name: row.name.clone(),
        limit: UNITS,
        ..UnitFilter::default()
    };
    let now = OffsetDateTime::now_utc();
    let units: Vec<wire::Unit> = store
        .list_units(&filter)
        .await?
        .into_iter()
        .filter(|unit| unit.app_uid == row.uid && unit.state != "Detached")
        .map(|unit| views::unit(unit, now))
        .collect();
    let (waiting, observed) = store.app_waiting(row.uid).await?.unwrap_or_default();
    let common = units
        .first()
        .map(|unit| unit.applied_revision.clone())
        .unwrap_or_default();
    let same = units.iter().all(|unit| unit.applied_revision == common);
    let revision = if same { common } else { String::new() };
    // Whether it was suspended before its last change was looked at does not matter: it is left alone.
    if observed != row.generation && !row.is_suspended() {
        return Ok((
            vec![ready(
                row,
                "Unknown",
                "Progressing",
                "Reconciliation in progress".to_owned(),
            )],
            revision,
        ));
    }
    Ok((vec![summary(row, &units, &waiting, &revision)], revision))
}

fn summary(row: &ResourceRow, units: &[wire::Unit], waiting: &[String], revision: &str) -> Condition {
    if let Some(first) = waiting.first() {
        let (reason, message) = first.split_once(": ").unwrap_or(("Waiting", first));
        return ready(row, "False", reason, message.to_owned());
    }
    if units.is_empty() {
        return ready(
            row,
            "Unknown",
            "Progressing",
            "nothing is deployed yet".to_owned(),
        );
    }
    let behind: Vec<&wire::Unit> = units.iter().filter(|unit| unit.ready != "True").collect();
    let Some(first) = behind.first() else {
        let message = match units.len() {
            1 => format!("Applied revision: {revision}"),
            count => format!("Applied revision: {revision} on {count} clusters"),
        };
        return ready(row, "True", "ReconciliationSucceeded", message);
    };
    let done = units.len() - behind.len();
    let failed = behind.iter().find(|unit| unit.ready == "False").unwrap_or(first);
    let message = format!(
        "{done}/{} applied; {}: {}",
        units.len(),
        failed.cluster,
        failed.message
    );
    let status = if failed.ready == "False" {
        "False"
    } else {
        "Unknown"
    };
    ready(row, status, &failed.reason, message)
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
fn other(row: &ResourceRow) -> Condition {
    match row.not_supported.as_slice() {
        [] => ready(row, "True", "Stored", "stored".to_owned()),
        what => {
            let message = format!("not supported by this release: {}", what.join(", "));
            ready(row, "False", "NotSupported", message)
        }
    }
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

/// The object as JSON; a Secret's values were never in the row.
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
    metadata.insert("uid".to_owned(), json!(row.uid));
    metadata.insert("generation".to_owned(), json!(row.generation));
    let mut status = Map::new();
    status.insert("conditions".to_owned(), json!(conditions));
    if !revision.is_empty() {
        let field = if row.kind == "Kustomization" {
            "lastAppliedRevision"
        } else {
            "artifactRevision"
        };
        status.insert(field.to_owned(), json!(revision));
    }
    json!({
        "apiVersion": row.api_version, "kind": row.kind, "metadata": metadata, "spec": row.spec, "status": status
    })
}
