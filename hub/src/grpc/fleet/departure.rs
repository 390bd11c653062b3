//! Clusters that are drained, retired or forgotten: what would follow is told first, and done when that is confirmed.

use flotilla_core::{fleet::departure::Departure, rollout::removal::deletes};
use flotilla_proto::fleet::v1 as wire;
use tonic::Status;

use super::{Fleet, unregistered};
use crate::{
    grpc::status::from_store,
    store::departure::{Deleted, DepartingUnit},
};

/// What becomes of a cluster.
enum Asked {
    Stays,
    Departs(Departure),
    Deleted,
}

pub(super) async fn depart(
    fleet: &Fleet,
    principal: &str,
    request: &wire::DepartClusterRequest,
) -> Result<wire::DepartClusterResponse, Status> {
    let asked = match request.departure() {
        wire::ClusterDeparture::Stay => Asked::Stays,
        wire::ClusterDeparture::Drain => Asked::Departs(Departure::Drain),
        wire::ClusterDeparture::Retire => Asked::Departs(Departure::Retire),
        wire::ClusterDeparture::Delete => Asked::Deleted,
        wire::ClusterDeparture::Unspecified => {
            return Err(Status::invalid_argument(
                "departure: STAY, DRAIN, RETIRE or DELETE is needed",
            ));
        }
    };
    let name = &request.cluster;
    let preview = fleet.store.departure_preview(name).await.map_err(from_store)?;
    let preview = preview.ok_or_else(|| unregistered(name))?;
    // What retires is let go of, and would count as removed.
    if preview.departure == Some(Departure::Retire) && matches!(asked, Asked::Departs(Departure::Drain)) {
        return Err(Status::failed_precondition(format!(
            "cluster {name} retires, and what apps have there is being let go of: `flotilla cluster resume {name}` first"
        )));
    }
    let done = match (&asked, request.confirmed) {
        (_, false) => Some(false),
        (Asked::Stays, true) => fleet
            .store
            .request_departure(name, None, principal)
            .await
            .map_err(from_store)?,
        (Asked::Departs(departure), true) => fleet
            .store
            .request_departure(name, Some(*departure), principal)
            .await
            .map_err(from_store)?,
        (Asked::Deleted, true) => match fleet
            .store
            .delete_cluster(name, principal)
            .await
            .map_err(from_store)?
        {
            Deleted::Done => Some(true),
            Deleted::Unknown => None,
            Deleted::UsedElsewhere(apps) => {
                return Err(Status::failed_precondition(format!(
                    "apps that have their names in the scope of cluster {name} are placed on others ({}): delete them first",
                    apps.join(", ")
                )));
            }
        },
    };
    let changed = done.ok_or_else(|| unregistered(name))?;
    let is_drain = matches!(asked, Asked::Departs(Departure::Drain));
    Ok(wire::DepartClusterResponse {
        changed,
        connected: preview.connected,
        joined: preview.joined,
        units: preview
            .units
            .into_iter()
            .map(|unit| view(unit, is_drain))
            .collect(),
    })
}

fn view(unit: DepartingUnit, is_drain: bool) -> wire::DepartingUnit {
    let policy = unit.policy.filter(|_| is_drain);
    wire::DepartingUnit {
        deletes: policy.is_some_and(|policy| deletes(policy, unit.is_kept, unit.prune)),
        app: unit.app,
        objects: unit.objects,
    }
}
