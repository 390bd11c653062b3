//! Deleting configured objects: what would follow is told first, and done when that is confirmed.

use flotilla_core::{removal::DeletionPolicy, rollout::removal::deletes};
use flotilla_proto::fleet::v1 as wire;
use serde_json::Value;
use tonic::Status;

use super::Fleet;
use crate::{
    grpc::status::from_store,
    store::{removal::DeletedUnit, resource::ResourceRow},
};

/// Users that are named.
const NAMED: usize = 1000;

pub(super) async fn delete(
    fleet: &Fleet,
    principal: &str,
    request: wire::DeleteRequest,
) -> Result<wire::DeleteResponse, Status> {
    let row = fleet.find(request.resource.as_ref()).await?;
    if row.kind == "Cluster" {
        return Err(Status::failed_precondition(format!(
            "Cluster/{0}: clusters have a way of their own out of the fleet: `flotilla cluster retire|delete {0}`",
            row.name
        )));
    }
    let policy = match row.is_suspended() {
        // Whatever becomes of it meanwhile: what it has was said to stay.
        true => DeletionPolicy::Orphan,
        false => policy(&row, &request.policy)?,
    };
    let preview = fleet.store.deletion_preview(row.uid).await.map_err(from_store)?;
    if row.is_source() && !preview.used_by.is_empty() {
        return Err(Status::failed_precondition(format!(
            "{} is the source of {}: delete these first, or give them another source",
            row.display(),
            first(&preview.used_by)
        )));
    }
    if request.confirmed {
        let done = match row.is_app() {
            true => fleet.store.request_deletion(row.uid, policy, principal).await,
            false => fleet.store.delete_object(row.uid, principal).await,
        };
        if !done.map_err(from_store)? {
            return Err(Status::aborted(format!(
                "{} was changed meanwhile: try again",
                row.display()
            )));
        }
    }
    let unit = |unit: DeletedUnit| wire::DeletedUnit {
        deletes: deletes(policy, unit.suspended, unit.prune),
        cluster: unit.cluster,
        connected: unit.connected,
        objects: unit.objects,
    };
    Ok(wire::DeleteResponse {
        deleted: request.confirmed,
        used_by: preview.used_by.into_iter().take(NAMED).collect(),
        places: preview.places,
        policy: match row.is_app() {
            true => policy.as_str().to_owned(),
            false => String::new(),
        },
        units: preview.units.into_iter().map(unit).collect(),
        kinds: preview
            .kinds
            .into_iter()
            .map(|(kind, objects)| wire::DeletedKind { kind, objects })
            .collect(),
    })
}

/// What was asked for, else what the app says.
fn policy(row: &ResourceRow, asked: &str) -> Result<DeletionPolicy, Status> {
    let said = row
        .spec
        .get("deletionPolicy")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match (asked, said) {
        ("", "") => Ok(DeletionPolicy::MirrorPrune),
        ("", said) => DeletionPolicy::parse(said).ok_or_else(|| {
            Status::failed_precondition(format!(
                "spec.deletionPolicy: {said} is not known to this hub; name one"
            ))
        }),
        (asked, _) => DeletionPolicy::parse(asked).ok_or_else(|| {
            Status::invalid_argument("policy: MirrorPrune, Delete, WaitForTermination or Orphan is needed")
        }),
    }
}

fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
