//! `flotilla approve`: allows that more is deleted than guards let pass. What would go is shown first.

use std::collections::BTreeSet;

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{
    ApproveRemovalsRequest, BlockedRemoval, BlockedUnit, ListBlockedRemovalsRequest, ResourceRef,
};

use crate::client::connect;
use crate::error::CommandError;
use crate::{Global, Host};

/// Clusters and objects that are named of each set.
const NAMED: usize = 20;

/// Allow that all that has left an app is deleted, where guards keep its agents from that
///
/// Guards stop a deletion of more than ten objects that are also more than 30% of what an app had, of everything that it had,
/// and of kinds that hold others or data (Namespace, CustomResourceDefinition, PersistentVolumeClaim, Cluster API's). Without
/// --yes this only shows what would go. What is allowed is just that: a later commit makes it void.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The app: `Kustomization/NAMESPACE/NAME`, or `kustomization/NAME` in the namespace of --namespace; `ks` and `hr` are
    /// short for the kinds
    #[arg(value_name = "APP", value_parser = app)]
    app: App,
    /// Only in this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Allow it
    #[arg(long)]
    yes: bool,
}

/// An app as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct App {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl App {
    fn reference(&self, namespace: &str) -> ResourceRef {
        ResourceRef {
            scope: String::new(),
            group: self.kind.group().to_owned(),
            kind: self.kind.name().to_owned(),
            namespace: self.namespace.as_deref().unwrap_or(namespace).to_owned(),
            name: self.name.clone(),
        }
    }
}

fn app(text: &str) -> Result<App, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, None, name),
        [kind, namespace, name] => (kind, Some(namespace.to_owned()), name),
        _ => return Err("it is not of the form KIND/NAME or KIND/NAMESPACE/NAME".to_owned()),
    };
    let kind = Kind::from_word(kind)
        .filter(|kind| kind.is_app())
        .ok_or_else(|| format!("{kind} is no kind of app: Kustomization or HelmRelease"))?;
    if name.is_empty() || namespace.as_deref() == Some("") {
        return Err("a name is empty".to_owned());
    }
    Ok(App {
        kind,
        namespace,
        name: name.to_owned(),
    })
}

pub(crate) async fn cmd_approve(
    args: &ApproveArgs,
    global: &Global,
    host: &mut Host,
) -> Result<(), CommandError> {
    let mut fleet = connect(global, host).await?;
    let app = args.app.reference(&global.namespace);
    let name = format!("{}/{}/{}", app.kind, app.namespace, app.name);
    let request = ListBlockedRemovalsRequest {
        app: Some(app),
        cluster: args.cluster.clone().unwrap_or_default(),
    };
    let blocked = fleet.list_blocked_removals(request).await?.into_inner().removals;
    if blocked.is_empty() {
        host.ui
            .success(&format!("no guard keeps anything of {name} from being deleted"));
        return Ok(());
    }
    for set in &blocked {
        show(set, host);
    }
    let units: Vec<BlockedUnit> = blocked.into_iter().flat_map(|set| set.units).collect();
    if !args.yes {
        return Err(CommandError::failed(format!(
            "nothing was allowed: {name} would lose what is shown, on {}",
            super::counted(units.len(), "cluster")
        ))
        .hint("run it again with --yes to allow just this; to keep the objects, put them back into Git"));
    }
    let asked: BTreeSet<String> = units.iter().map(|unit| unit.unit_id.clone()).collect();
    let approved = fleet
        .approve_removals(ApproveRemovalsRequest { units })
        .await?
        .into_inner()
        .approved;
    let approved: BTreeSet<String> = approved.into_iter().collect();
    host.ui.success(&format!(
        "allowed on {}",
        super::counted(approved.len(), "cluster")
    ));
    match asked.difference(&approved).count() {
        0 => Ok(()),
        changed => Err(CommandError::failed(format!(
            "{} changed meanwhile, and nothing was allowed there",
            super::counted(changed, "cluster")
        ))
        .hint("run it again to see what would go now")),
    }
}

fn show(set: &BlockedRemoval, host: &mut Host) {
    let clusters = set.units.iter().map(|unit| unit.cluster.as_str());
    host.ui.line(&format!(
        "{} would be deleted on {}: {}",
        super::counted(usize::try_from(set.objects_total).unwrap_or(usize::MAX), "object"),
        super::counted(set.units.len(), "cluster"),
        first(clusters.map(str::to_owned), set.units.len())
    ));
    for object in &set.objects {
        let place = [&object.kind, &object.namespace, &object.name];
        let place: Vec<&str> = place
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        host.ui.line(&format!("  {}", place.join("/")));
    }
    let shown = set.objects.len();
    let more = usize::try_from(set.objects_total)
        .unwrap_or(usize::MAX)
        .saturating_sub(shown);
    if more > 0 {
        host.ui.line(&format!("  and {more} more"));
    }
}

fn first(names: impl Iterator<Item = String>, all: usize) -> String {
    let named: Vec<String> = names.take(NAMED).collect();
    match all.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_as_in_messages_or_in_the_namespace_of_the_command() {
        let whole = app("Kustomization/apps/web")
            .expect("read")
            .reference("flux-system");
        assert_eq!(
            (whole.kind.as_str(), whole.namespace.as_str(), whole.name.as_str()),
            ("Kustomization", "apps", "web")
        );
        let short = app("ks/web").expect("read").reference("flux-system");
        assert_eq!(
            (short.namespace.as_str(), short.name.as_str()),
            ("flux-system", "web")
        );
        for bad in ["web", "ks/", "ks//web", "Placement/a/b", "ks/a/b/c"] {
            assert!(app(bad).is_err(), "{bad}");
        }
    }
}
