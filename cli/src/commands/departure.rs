//! `flotilla cluster drain|retire|delete|resume`: the ways of a cluster out of the fleet, and back. What would follow is shown
//! first.

use flotilla_proto::fleet::v1::{ClusterDeparture, DepartClusterRequest, DepartClusterResponse};

use crate::client::connect;
use crate::error::CommandError;
use crate::ui::Ui;
use crate::{Global, Host};

/// A cluster, and whether it is to be done.
#[derive(Debug, clap::Args)]
pub(super) struct DepartureArgs {
    /// The cluster
    name: String,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Shows what follows, and has it done if that was confirmed.
pub(super) async fn depart(
    args: &DepartureArgs,
    departure: ClusterDeparture,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let DepartureArgs { name, yes } = args;
    let mut fleet = connect(global, host).await?;
    let request = DepartClusterRequest {
        cluster: name.clone(),
        departure: departure.into(),
        confirmed: *yes,
    };
    let told = fleet.depart_cluster(request).await?.into_inner();
    if departure == ClusterDeparture::Stay {
        host.ui.success(&match told.changed {
            true => format!("cluster {name} stays in the fleet"),
            false => format!("cluster {name} was not on its way out"),
        });
        return Ok(());
    }
    follows(&told, departure, name, &mut host.ui);
    if !yes {
        return Err(
            CommandError::failed(format!("nothing was done to cluster {name}"))
                .hint("run it again with --yes to do what is shown"),
        );
    }
    let done = match (departure, told.changed) {
        (ClusterDeparture::Drain, true) => "is being drained; `flotilla cluster show` shows how far that is",
        (ClusterDeparture::Drain, false) => "is being drained, or is drained",
        (ClusterDeparture::Retire, true) => "retires; it is gone from `flotilla cluster list` once it has",
        (ClusterDeparture::Retire, false) => "retires already",
        _ => "deleted",
    };
    host.ui.success(&format!("cluster {name} {done}"));
    Ok(())
}

/// Asks for a cluster to stay, which needs no confirmation.
pub(super) async fn stay(name: &str, global: &Global, host: &mut Host) -> Result<(), CommandError> {
    let args = DepartureArgs {
        name: name.to_owned(),
        yes: true,
    };
    depart(&args, ClusterDeparture::Stay, global, host).await
}

/// Forgets a cluster, as `flotilla cluster delete` does.
pub(super) async fn delete(
    name: &str,
    yes: bool,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let args = DepartureArgs {
        name: name.to_owned(),
        yes,
    };
    depart(&args, ClusterDeparture::Delete, global, host).await
}

/// Says what follows from it.
fn follows(told: &DepartClusterResponse, departure: ClusterDeparture, name: &str, ui: &mut Ui) {
    let is_deleted = departure == ClusterDeparture::Delete;
    let stays = match is_deleted {
        true => "stays there",
        false => "stays there, and is not enforced any more",
    };
    for (deletes, what) in [(true, "is deleted there"), (false, stays)] {
        let units: Vec<_> = told.units.iter().filter(|unit| unit.deletes == deletes).collect();
        if units.is_empty() {
            continue;
        }
        let objects: u64 = units.iter().map(|unit| unit.objects).sum();
        let names = units.iter().map(|unit| unit.app.clone());
        ui.line(&format!(
            "what these have {what}: {} of {} ({})",
            super::counted(usize::try_from(objects).unwrap_or(usize::MAX), "object"),
            super::counted(units.len(), "app"),
            super::first(names, units.len())
        ));
    }
    match (is_deleted, told.connected, told.joined) {
        (true, true, _) => ui.warning(&format!(
            "the agent of cluster {name} is connected: without the hub it goes on enforcing what it has until it is \
             uninstalled; `flotilla cluster retire {name}` has it let go first"
        )),
        (true, false, true) => ui.warning(&format!(
            "if the agent of cluster {name} still runs, it goes on enforcing what it has, without the hub, until it is \
             uninstalled"
        )),
        (false, false, true) => ui.warning(&format!(
            "the agent of cluster {name} is not connected: it is done once that is back, and `flotilla cluster delete \
             {name}` forgets a cluster that is lost"
        )),
        _ => {}
    }
}
