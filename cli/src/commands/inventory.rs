//! `flotilla inventory`: the objects of an app, cluster by cluster, as its agents know them.

use flotilla_proto::fleet::v1::{ListUnitObjectsRequest, ListUnitsRequest, Unit, UnitObject};
use serde_json::json;

use super::app::{App, app};
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::fetch::{PAGE, units};
use crate::output::{Format, list, structured};
use crate::table::Table;
use crate::{Global, Host};

/// Clusters of which all objects are listed without one being named.
const CLUSTERS: usize = 20;

/// List the objects of an app, with their state in each cluster
#[derive(Debug, clap::Args)]
pub(crate) struct InventoryArgs {
    /// The app: `Kustomization/NAMESPACE/NAME`, or `kustomization/NAME` in the namespace of --namespace
    #[arg(value_name = "APP", value_parser = app)]
    app: App,
    /// Only on this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    output: Format,
    /// Leave out the header
    #[arg(long)]
    no_header: bool,
}

pub(crate) async fn cmd_inventory(
    args: &InventoryArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let found = with_objects(&mut fleet, &args.app, args.cluster.as_deref(), global).await?;
    match args.output {
        Format::Json | Format::Yaml => {
            let items = found.iter().flat_map(|(unit, objects)| {
                objects.iter().map(|object| {
                    json!({
                        "cluster": unit.cluster,
                        "group": object.group,
                        "kind": object.kind,
                        "namespace": object.namespace,
                        "name": object.name,
                        "apiVersion": object.api_version,
                        "state": object.state,
                        "health": object.health,
                        "message": object.message,
                        "adopted": object.adopted,
                    })
                })
            });
            structured(&mut host.ui, args.output, &list(items.collect(), false))
        }
        Format::Name => {
            for (_, objects) in &found {
                objects.iter().for_each(|object| host.ui.line(&named(object)));
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(vec!["CLUSTER", "OBJECT", "STATE", "HEALTH", "MESSAGE"]);
            for (unit, objects) in &found {
                for object in objects {
                    let row = [
                        &unit.cluster,
                        &named(object),
                        &object.state,
                        &object.health,
                        &object.message,
                    ];
                    table.row(row.map(String::clone).to_vec());
                }
            }
            table
                .lines(!args.no_header)
                .iter()
                .for_each(|line| host.ui.line(line));
            Ok(())
        }
    }
}

/// `Kind/namespace/name` of an object.
pub(super) fn named(object: &UnitObject) -> String {
    let parts = [&object.kind, &object.namespace, &object.name];
    let parts = parts
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

/// The units of an app, each with its objects.
pub(super) async fn with_objects(
    fleet: &mut Fleet,
    app: &App,
    cluster: Option<&str>,
    global: &Global,
) -> Result<Vec<(Unit, Vec<UnitObject>)>, CommandError> {
    let reference = app.reference(&global.namespace);
    let request = ListUnitsRequest {
        cluster: cluster.unwrap_or_default().to_owned(),
        app_kind: reference.kind.clone(),
        app_namespace: reference.namespace.clone(),
        app_name: reference.name.clone(),
        page_size: PAGE,
        ..Default::default()
    };
    let units = units(fleet, request).await?;
    let name = format!("{}/{}/{}", reference.kind, reference.namespace, reference.name);
    if units.is_empty() {
        let place = cluster.map_or_else(|| "any cluster".to_owned(), |name| format!("cluster {name}"));
        return Err(CommandError::failed(format!("{name} is not on {place}"))
            .hint("`flotilla get units -A` shows which apps are where"));
    }
    if units.len() > CLUSTERS && cluster.is_none() {
        return Err(CommandError::usage(format!(
            "{name} is on {}: name one with --cluster",
            super::counted(units.len(), "cluster")
        )));
    }
    let mut found = Vec::with_capacity(units.len());
    for unit in units {
        let request = ListUnitObjectsRequest {
            unit_id: unit.id.clone(),
        };
        let objects = fleet.list_unit_objects(request).await?.into_inner().objects;
        found.push((unit, objects));
    }
    Ok(found)
}
