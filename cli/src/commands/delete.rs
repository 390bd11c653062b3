//! `flotilla delete`: deletes a configured object, and of an app what it has applied. What would follow is shown first.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{DeleteRequest, DeleteResponse, ResourceRef};

use crate::client::connect;
use crate::error::CommandError;
use crate::{Global, Host};

/// Delete a configured object, and of an app what it has applied
///
/// What an app has applied is deleted or kept as its spec.deletionPolicy says: by default where it prunes, and not where it is
/// suspended. Without --yes this only shows what would follow. Applying the object again stops a deletion that is under way.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Its kind: kustomization (ks), gitrepository, placement, clustergroup, configmap, secret, receiver …
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Its name
    name: String,
    /// Keep in the clusters what the app has applied
    #[arg(long)]
    orphan: bool,
    /// The object in the scope of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_word(text).ok_or_else(|| format!("{text} is not a kind that the hub stores"))
}

pub(crate) async fn cmd_delete(
    args: &DeleteArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    if args.kind == Kind::Cluster {
        return super::departure::delete(&args.name, args.yes, global, host).await;
    }
    let mut fleet = connect(global, host).await?;
    let namespace = match args.kind.is_namespaced() {
        true => global.namespace.clone(),
        false => String::new(),
    };
    let shown = match namespace.is_empty() {
        true => format!("{}/{}", args.kind.name(), args.name),
        false => format!("{}/{namespace}/{}", args.kind.name(), args.name),
    };
    let request = DeleteRequest {
        resource: Some(ResourceRef {
            scope: args.cluster.clone().unwrap_or_default(),
            group: args.kind.group().to_owned(),
            kind: args.kind.name().to_owned(),
            namespace,
            name: args.name.clone(),
        }),
        policy: match args.orphan {
            true => "Orphan".to_owned(),
            false => String::new(),
        },
        confirmed: args.yes,
    };
    let told = fleet.delete(request).await?.into_inner();
    follows(&told, host);
    if !args.yes {
        return Err(CommandError::failed(format!("nothing was deleted of {shown}"))
            .hint("run it again with --yes to do what is shown"));
    }
    host.ui.success(&match told.units.is_empty() {
        true => format!("{shown} deleted"),
        false => format!("deletion of {shown} has begun; `flotilla get` shows it until it has ended"),
    });
    Ok(())
}

/// Says what follows from it.
fn follows(told: &DeleteResponse, host: &mut Host) {
    if !told.used_by.is_empty() {
        let names = told.used_by.iter().cloned();
        host.ui
            .line(&format!("used by {}", super::first(names, told.used_by.len())));
    }
    if !told.places.is_empty() {
        host.ui.line(&format!(
            "lets go of {} where nothing else places it: what it has applied stays, and is not enforced any more",
            super::first(told.places.iter().cloned(), told.places.len())
        ));
    }
    for (deletes, what) in [(true, "is deleted"), (false, "stays")] {
        let units: Vec<_> = told.units.iter().filter(|unit| unit.deletes == deletes).collect();
        if units.is_empty() {
            continue;
        }
        let objects: u64 = units.iter().map(|unit| unit.objects).sum();
        let away = units.iter().filter(|unit| !unit.connected).count();
        let names = units.iter().map(|unit| unit.cluster.clone());
        let away = match away {
            0 => String::new(),
            away => format!("; {away} not connected, done once back"),
        };
        host.ui.line(&format!(
            "what it has {what} ({}): {} on {} ({}){away}",
            told.policy,
            super::counted(usize::try_from(objects).unwrap_or(usize::MAX), "object"),
            super::counted(units.len(), "cluster"),
            super::first(names, units.len())
        ));
    }
    if told.units.iter().any(|unit| unit.deletes) && !told.kinds.is_empty() {
        let kinds = told
            .kinds
            .iter()
            .map(|one| format!("{} {}", one.objects, one.kind));
        host.ui
            .line(&format!("  {}", kinds.collect::<Vec<_>>().join(", ")));
    }
}
