//! `flotilla cluster drain|retire|delete|resume`: the ways of a cluster out of the fleet, and back. What would follow is shown
//! first.

use flotilla_proto::fleet::v1::{ClusterDeparture, DepartClusterRequest, DepartClusterResponse};
use serde_json::{Value, json};

use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, structured};
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
    /// How to show what follows
    #[arg(long, short, default_value = "table")]
    output: Format,
}

/// Shows what follows, and has it done if that was confirmed.
pub(super) async fn depart(
    args: &DepartureArgs,
    departure: ClusterDeparture,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let DepartureArgs { name, yes, output } = args;
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
    if output.is_structured() {
        structured(&mut host.ui, *output, &as_json(&told, departure, name))?;
    } else {
        follows(&told, departure, &mut host.ui);
    }
    warns(&told, departure, name, &mut host.ui);
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
        output: Format::Table,
    };
    depart(&args, ClusterDeparture::Stay, global, host).await
}

/// Forgets a cluster, as `flotilla cluster delete` does.
pub(super) async fn delete(
    name: &str,
    yes: bool,
    output: Format,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let args = DepartureArgs {
        name: name.to_owned(),
        yes,
        output,
    };
    depart(&args, ClusterDeparture::Delete, global, host).await
}

/// Says what follows from it.
fn follows(told: &DepartClusterResponse, departure: ClusterDeparture, ui: &mut Ui) {
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
}

/// Warns of an agent that goes on, or that has to come back first.
fn warns(told: &DepartClusterResponse, departure: ClusterDeparture, name: &str, ui: &mut Ui) {
    match (
        departure == ClusterDeparture::Delete,
        told.connected,
        told.joined,
    ) {
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

/// What follows from it; `changed`: it was done just now.
fn as_json(told: &DepartClusterResponse, departure: ClusterDeparture, name: &str) -> Value {
    let word = match departure {
        ClusterDeparture::Drain => "drain",
        ClusterDeparture::Retire => "retire",
        _ => "delete",
    };
    let units = told
        .units
        .iter()
        .map(|unit| json!({ "app": unit.app, "deletes": unit.deletes, "objects": unit.objects }));
    json!({
        "cluster": name,
        "departure": word,
        "changed": told.changed,
        "connected": told.connected,
        "joined": told.joined,
        "units": units.collect::<Vec<_>>(),
    })
}
