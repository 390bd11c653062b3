//! `flotilla tree`: an app, the clusters that it is on, and its objects there.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{ListResourcesRequest, Resource, ResourceRef};
use serde_json::Value;

use super::app::{App, app};
use super::inventory::{named, with_objects};
use crate::client::{Fleet, connect};
use crate::error::CommandError;
use crate::fetch::{PAGE, resources};
use crate::output::short_revision;
use crate::show::readiness;
use crate::{Global, Host};

/// Show an app as a tree: its clusters, and its objects in each
#[derive(Debug, clap::Args)]
pub(crate) struct TreeArgs {
    /// The app: `Kustomization/NAMESPACE/NAME`, or `kustomization/NAME` in the namespace of --namespace
    #[arg(value_name = "APP", value_parser = app)]
    app: App,
    /// Only on this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

pub(crate) async fn cmd_tree(args: &TreeArgs, global: &Global, host: &mut Host) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let found = with_objects(&mut fleet, &args.app, args.cluster.as_deref(), global).await?;
    let app = args.app.reference(&global.namespace);
    host.ui
        .line(&format!("{}/{}/{}", app.kind, app.namespace, app.name));
    for (index, (unit, objects)) in found.iter().enumerate() {
        let (branch, below) = branches(index + 1 == found.len());
        let revision = match unit.applied_revision.is_empty() {
            true => "nothing applied".to_owned(),
            false => short_revision(&unit.applied_revision),
        };
        host.ui.line(&format!(
            "{branch}{} ({revision}, ready {})",
            unit.cluster, unit.ready
        ));
        let kept = kept(&mut fleet, &app, &unit.cluster).await?;
        for (index, object) in objects.iter().enumerate() {
            let (branch, _) = branches(index + 1 == objects.len() + kept.len());
            let said: Vec<&str> = [&*object.state, &*object.health]
                .into_iter()
                .filter(|word| !word.is_empty() && !matches!(*word, "Applied" | "Current"))
                .collect();
            let said = match said.is_empty() {
                true => String::new(),
                false => format!(" ({})", said.join(", ")),
            };
            host.ui.line(&format!("{below}{branch}{}{said}", named(object)));
        }
        for (index, one) in kept.iter().enumerate() {
            let (branch, _) = branches(index + 1 == kept.len());
            let reference = one.r#ref.clone().unwrap_or_default();
            let (ready, _) = readiness(one);
            host.ui.line(&format!(
                "{below}{branch}{}/{}/{} (kept by the hub, ready {ready})",
                reference.kind, reference.namespace, reference.name
            ));
        }
    }
    Ok(())
}

/// What an app renders for a cluster and the hub keeps.
async fn kept(fleet: &mut Fleet, app: &ResourceRef, cluster: &str) -> Result<Vec<Resource>, CommandError> {
    let request = ListResourcesRequest {
        kinds: Kind::all().map(|kind| kind.name().to_owned()).collect(),
        scope: cluster.to_owned(),
        page_size: PAGE,
        ..ListResourcesRequest::default()
    };
    let mut found = resources(fleet, request).await?;
    let owner = [&app.kind, &app.namespace, &app.name];
    found.retain(|one| {
        let object: Value = serde_json::from_str(&one.json).unwrap_or_default();
        let said = &object["metadata"]["ownerReferences"][0];
        let said = ["kind", "namespace", "name"].map(|field| said[field].as_str().unwrap_or_default());
        said == owner.map(String::as_str)
    });
    Ok(found)
}

/// What stands before an entry, and before what is below it.
fn branches(is_last: bool) -> (&'static str, &'static str) {
    match is_last {
        true => ("\u{2514}\u{2500}\u{2500} ", "    "),
        false => ("\u{251c}\u{2500}\u{2500} ", "\u{2502}   "),
    }
}
