//! Clusters that are drained, retired or forgotten: what would follow is told first, and done when that is confirmed.

use flotilla_core::{
    fleet::departure::{Departure, Request, request},
    rollout::removal::drains,
};
use flotilla_proto::fleet::v1 as wire;
use tonic::Status;

use super::{Fleet, unregistered};
use crate::{
    grpc::status::from_store,
    store::departure::{Deleted, DepartingUnit},
};

/// What becomes of a cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It departs, or stays.
    Departs(Option<Departure>),
    Deleted,
}

pub(super) async fn depart(
    fleet: &Fleet,
    principal: &str,
    message: &wire::DepartClusterRequest,
) -> Result<wire::DepartClusterResponse, Status> {
    let asked = match message.departure() {
        wire::ClusterDeparture::Stay => Asked::Departs(None),
        wire::ClusterDeparture::Drain => Asked::Departs(Some(Departure::Drain)),
        wire::ClusterDeparture::Retire => Asked::Departs(Some(Departure::Retire)),
        wire::ClusterDeparture::Delete => Asked::Deleted,
        wire::ClusterDeparture::Unspecified => {
            return Err(Status::invalid_argument(
                "departure: STAY, DRAIN, RETIRE or DELETE is needed",
            ));
        }
    };
    let name = &message.cluster;
    let preview = fleet.store.departure_preview(name).await.map_err(from_store)?;
    let preview = preview.ok_or_else(|| unregistered(name))?;
    let changed = match (asked, message.confirmed) {
        (Asked::Departs(departure), true) => ask(fleet, principal, name, departure).await?,
        (Asked::Deleted, true) => delete(fleet, principal, name).await?,
        // What would be refused is not shown.
        (Asked::Departs(departure), false) if request(preview.departure, departure) == Request::Retires => {
            return Err(retires(name));
        }
        (_, false) => false,
    };
    let is_drain = asked == Asked::Departs(Some(Departure::Drain));
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

/// Has a cluster depart, or stay. `false`: it does already.
async fn ask(
    fleet: &Fleet,
    principal: &str,
    name: &str,
    departure: Option<Departure>,
) -> Result<bool, Status> {
    let asked = fleet.store.request_departure(name, departure, principal).await;
    match asked.map_err(from_store)? {
        Some(Request::Taken) => Ok(true),
        Some(Request::Same) => Ok(false),
        Some(Request::Retires) => Err(retires(name)),
        None => Err(unregistered(name)),
    }
}

/// Forgets a cluster.
async fn delete(fleet: &Fleet, principal: &str, name: &str) -> Result<bool, Status> {
    let deleted = fleet.store.delete_cluster(name, principal).await;
    match deleted.map_err(from_store)? {
        Deleted::Done => Ok(true),
        Deleted::Unknown => Err(unregistered(name)),
        Deleted::UsedElsewhere(apps) => Err(Status::failed_precondition(format!(
            "apps that have their names in the scope of cluster {name} are placed on others ({}): delete them first",
            apps.join(", ")
        ))),
    }
}

fn retires(name: &str) -> Status {
    Status::failed_precondition(format!(
        "cluster {name} retires, and what apps have there is being let go of: `flotilla cluster resume {name}` first"
    ))
}

fn view(unit: DepartingUnit, is_drain: bool) -> wire::DepartingUnit {
    wire::DepartingUnit {
        deletes: is_drain && drains(&unit.state, unit.policy, unit.suspended, unit.prune),
        app: unit.app,
        objects: unit.objects,
    }
}
