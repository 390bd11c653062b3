//! `flotilla tree`: an app, the clusters that it is on, and its objects there.

use super::app::{App, app};
use super::inventory::{named, with_objects};
use crate::client::connect;
use crate::error::CommandError;
use crate::output::short_revision;
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
        for (index, object) in objects.iter().enumerate() {
            let (branch, _) = branches(index + 1 == objects.len());
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
    }
    Ok(())
}

/// What stands before an entry, and before what is below it.
fn branches(is_last: bool) -> (&'static str, &'static str) {
    match is_last {
        true => ("\u{2514}\u{2500}\u{2500} ", "    "),
        false => ("\u{251c}\u{2500}\u{2500} ", "\u{2502}   "),
    }
}
