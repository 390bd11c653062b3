//! What guards keep agents from deleting, that a person allows it, and what of that waits for its agents.

use flotilla_core::digest::Digest;
use flotilla_proto::fleet::v1 as wire;
use tonic::Status;
use uuid::Uuid;

use super::{Fleet, unregistered, views};
use crate::{
    grpc::status::from_store,
    store::approval::{AllowedRemoval, BlockedRemoval, BlockedUnit},
};

/// Objects of a set that are named.
const NAMED: usize = 1000;
/// Units that are allowed together.
const UNITS: usize = 20_000;

pub(super) async fn list(
    fleet: &Fleet,
    request: &wire::ListBlockedRemovalsRequest,
) -> Result<wire::ListBlockedRemovalsResponse, Status> {
    let app = fleet.find_app(request.app.as_ref(), &request.cluster).await?;
    if !request.cluster.is_empty() {
        let known = fleet
            .store
            .cluster_by_name(&request.cluster)
            .await
            .map_err(from_store)?;
        known.ok_or_else(|| unregistered(&request.cluster))?;
    }
    let sets = fleet
        .store
        .blocked_removals(app.uid, &request.cluster)
        .await
        .map_err(from_store)?;
    let allowed = fleet
        .store
        .allowed_removals(app.uid, &request.cluster)
        .await
        .map_err(from_store)?;
    Ok(wire::ListBlockedRemovalsResponse {
        removals: sets.into_iter().map(set).collect(),
        allowed: allowed.into_iter().map(waiting).collect(),
    })
}

fn waiting(allowed: AllowedRemoval) -> wire::AllowedRemoval {
    wire::AllowedRemoval {
        cluster: allowed.cluster,
        principal: allowed.principal,
        at_ms: views::ms(allowed.at),
        connected: allowed.connected,
        objects_total: allowed.total,
    }
}

fn set(set: BlockedRemoval) -> wire::BlockedRemoval {
    wire::BlockedRemoval {
        units: set.units.into_iter().map(unit).collect(),
        objects_total: set.total,
        objects: set.objects.into_iter().take(NAMED).map(views::object).collect(),
        message: set.message,
    }
}

fn unit(unit: BlockedUnit) -> wire::BlockedUnit {
    wire::BlockedUnit {
        unit_id: unit.unit.to_string(),
        cluster: unit.cluster,
        target: unit.target.as_bytes().to_vec().into(),
        version: unit.version,
    }
}

pub(super) async fn approve(
    fleet: &Fleet,
    principal: &str,
    request: &wire::ApproveRemovalsRequest,
) -> Result<wire::ApproveRemovalsResponse, Status> {
    if request.units.len() > UNITS {
        return Err(Status::invalid_argument(format!(
            "units: at most {UNITS} at a time"
        )));
    }
    let units: Result<Vec<BlockedUnit>, Status> = request.units.iter().map(read).collect();
    let approved = fleet
        .store
        .approve_removals(&units?, principal)
        .await
        .map_err(from_store)?;
    Ok(wire::ApproveRemovalsResponse {
        approved: approved.iter().map(Uuid::to_string).collect(),
    })
}

fn read(unit: &wire::BlockedUnit) -> Result<BlockedUnit, Status> {
    Ok(BlockedUnit {
        unit: Uuid::parse_str(&unit.unit_id)
            .map_err(|_| Status::invalid_argument("units.unit_id: it is not a UUID"))?,
        cluster: unit.cluster.clone(),
        target: Digest::try_from_slice(&unit.target)
            .map_err(|_| Status::invalid_argument("units.target: it is not a digest"))?,
        version: unit.version,
    })
}
