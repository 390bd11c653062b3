//! `flotilla delete`: deletes a configured object, and of an app what it has applied. What would follow is shown first.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{DeleteRequest, DeleteResponse, ResourceRef};
use serde_json::{Value, json};

use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, structured};
use crate::{Global, Host};

/// Delete a configured object, and of an app what it has applied
///
/// What an app has applied is deleted or kept as its spec.deletionPolicy says: by default where it prunes, and not where it is
/// suspended. Without --yes this only shows what would follow. Applying the object again stops a deletion that is under way.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Its kind and its name: kustomization web, ks/web or Kustomization/flux-system/web; of any kind that the hub stores
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    object: Vec<String>,
    /// Keep in the clusters what the app has applied
    #[arg(long)]
    orphan: bool,
    /// The object in the scope of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// How to show what follows
    #[arg(long, short, default_value = "table")]
    output: Format,
}

/// What is to be deleted.
struct Named {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Named {
    /// Reads the two forms; a namespace that stands in the name goes before the one that is given for all commands.
    fn read(object: &[String], namespace: &str) -> Result<Self, CommandError> {
        let parts: Vec<&str> = match object {
            [both] => both.split('/').collect(),
            apart => apart.iter().map(String::as_str).collect(),
        };
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, namespace, name),
            [kind, namespace, name] => (kind, namespace, name),
            _ => {
                return Err(CommandError::usage(
                    "name what to delete: KIND NAME, KIND/NAME or KIND/NAMESPACE/NAME",
                ));
            }
        };
        let kind = Kind::from_word(kind)
            .ok_or_else(|| CommandError::usage(format!("{kind} is not a kind that the hub stores")))?;
        if name.is_empty() || namespace.is_empty() {
            return Err(CommandError::usage("a name is empty"));
        }
        Ok(Self {
            kind,
            namespace: match kind.is_namespaced() {
                true => namespace.to_owned(),
                false => String::new(),
            },
            name: name.to_owned(),
        })
    }
}

pub(crate) async fn cmd_delete(
    args: &DeleteArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let Named {
        kind,
        namespace,
        name,
    } = Named::read(&args.object, &global.namespace)?;
    if kind == Kind::Cluster {
        if args.orphan || args.cluster.is_some() {
            return Err(CommandError::usage(
                "a cluster is in no other's scope, and what it has stays in any case: give neither --orphan nor --cluster",
            ));
        }
        return super::departure::delete(&name, args.yes, args.output, global, host).await;
    }
    let mut fleet = connect(global, host).await?;
    let shown = match namespace.is_empty() {
        true => format!("{}/{name}", kind.name()),
        false => format!("{}/{namespace}/{name}", kind.name()),
    };
    let request = DeleteRequest {
        resource: Some(ResourceRef {
            scope: args.cluster.clone().unwrap_or_default(),
            group: kind.group().to_owned(),
            kind: kind.name().to_owned(),
            namespace,
            name,
        }),
        policy: match args.orphan {
            true => "Orphan".to_owned(),
            false => String::new(),
        },
        confirmed: args.yes,
    };
    let told = fleet.delete(request).await?.into_inner();
    match args.output.is_structured() {
        true => structured(&mut host.ui, args.output, &as_json(&shown, &told))?,
        false => follows(&told, host),
    }
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
    // Of all that it has: what is deleted of it, or, where nothing is, what stays. Of a deletion under way that is what is left.
    if !told.kinds.is_empty() {
        let kinds = told
            .kinds
            .iter()
            .map(|one| format!("{} {}", one.objects, one.kind));
        host.ui
            .line(&format!("  {}", kinds.collect::<Vec<_>>().join(", ")));
    }
}

/// What follows from it; `deleted`: it is deleted, or its deletion has begun.
fn as_json(shown: &str, told: &DeleteResponse) -> Value {
    let units = told.units.iter().map(|unit| {
        json!({
            "cluster": unit.cluster,
            "deletes": unit.deletes,
            "connected": unit.connected,
            "objects": unit.objects,
        })
    });
    let kinds = told
        .kinds
        .iter()
        .map(|one| json!({ "kind": one.kind, "objects": one.objects }));
    json!({
        "object": shown,
        "deleted": told.deleted,
        "policy": told.policy,
        "usedBy": told.used_by,
        "places": told.places,
        "units": units.collect::<Vec<_>>(),
        "kinds": kinds.collect::<Vec<_>>(),
    })
}
