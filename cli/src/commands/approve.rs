//! `flotilla approve`: allows that more is deleted than guards let pass. What would go is shown first.

use std::collections::BTreeSet;

use flotilla_core::digest::Digest;
use flotilla_proto::fleet::v1::{
    AllowedRemoval, ApproveRemovalsRequest, BlockedRemoval, BlockedUnit, ListBlockedRemovalsRequest,
};
use serde_json::{Value, json};

use super::app::{App, app};
use super::inventory::named;
use crate::client::connect;
use crate::error::CommandError;
use crate::output::{Format, ago, list, structured};
use crate::{Global, Host};

/// Allow that all that has left an app is deleted, where guards keep its agents from that
///
/// Guards stop a deletion of more than ten objects that are also more than 30% of what an app had, of everything that it had,
/// and of kinds that hold others or data (Namespace, CustomResourceDefinition, PersistentVolumeClaim, Cluster API's). Without
/// --yes this only shows what would go, and what is allowed already and waits for its agents. What is allowed is just that: a
/// later commit makes it void.
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
    /// Only if it is what was shown with this code
    #[arg(long, value_name = "CODE", requires = "yes")]
    shown: Option<String>,
    /// How to show what would go
    #[arg(long, short, default_value = "table")]
    output: Format,
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
    let answer = fleet.list_blocked_removals(request).await?.into_inner();
    let (blocked, allowed) = (answer.removals, answer.allowed);
    let is_structured = args.output.is_structured();
    if is_structured {
        let mut shown = list(blocked.iter().map(as_json).collect(), false);
        shown["allowed"] = allowed.iter().map(allowed_json).collect();
        structured(&mut host.ui, args.output, &shown)?;
    } else {
        show_allowed(&allowed, host);
    }
    if blocked.is_empty() {
        let more = if allowed.is_empty() {
            "anything"
        } else {
            "anything else"
        };
        host.ui
            .success(&format!("no guard keeps {more} of {name} from being deleted"));
        return Ok(());
    }
    if !is_structured {
        blocked.iter().for_each(|set| show(set, host));
    }
    let units: Vec<BlockedUnit> = blocked.into_iter().flat_map(|set| set.units).collect();
    let code = code(&units);
    if args.shown.as_ref().is_some_and(|shown| *shown != code) {
        return Err(
            CommandError::failed("nothing was allowed: it is not what was shown any more").hint(format!(
                "what would go now is above; allow it with --yes --shown {code}"
            )),
        );
    }
    if !args.yes {
        return Err(CommandError::failed(format!(
            "nothing was allowed: {name} would lose what is shown, on {}",
            super::counted(units.len(), "cluster")
        ))
        .hint(format!(
            "run it again with --yes --shown {code} to allow just this; to keep the objects, put them back into Git"
        )));
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

/// Names what would go: the targets that it would go by, on these clusters.
fn code(units: &[BlockedUnit]) -> String {
    let mut named: Vec<(&str, u64, &[u8])> = units
        .iter()
        .map(|unit| (&*unit.unit_id, unit.version, &unit.target[..]))
        .collect();
    named.sort_unstable();
    let mut code = Digest::of_json("approval", &named).to_string();
    code.truncate(12);
    code
}

fn show(set: &BlockedRemoval, host: &mut Host) {
    let clusters = set.units.iter().map(|unit| unit.cluster.as_str());
    host.ui.line(&format!(
        "{} would be deleted on {}: {}",
        super::counted(usize::try_from(set.objects_total).unwrap_or(usize::MAX), "object"),
        super::counted(set.units.len(), "cluster"),
        super::first(clusters.map(str::to_owned), set.units.len())
    ));
    if !set.message.is_empty() {
        host.ui.line(&format!("  why: {}", set.message));
    }
    for object in &set.objects {
        host.ui.line(&format!("  {}", named(object)));
    }
    let shown = set.objects.len();
    let more = usize::try_from(set.objects_total)
        .unwrap_or(usize::MAX)
        .saturating_sub(shown);
    if more > 0 {
        host.ui.line(&format!("  and {more} more"));
    }
}

/// Says what somebody has allowed already.
fn show_allowed(allowed: &[AllowedRemoval], host: &mut Host) {
    if allowed.is_empty() {
        return;
    }
    host.ui.line(&format!(
        "allowed already on {}, and still to be done by the agent:",
        super::counted(allowed.len(), "cluster")
    ));
    let now = (host.now_ms)();
    for one in allowed.iter().take(super::NAMED) {
        let away = if one.connected { "" } else { ", not connected" };
        host.ui.line(&format!(
            "  {}: {}, by {} {} ago{away}",
            one.cluster,
            super::counted(usize::try_from(one.objects_total).unwrap_or(usize::MAX), "object"),
            one.principal,
            ago(one.at_ms, now)
        ));
    }
    let more = allowed.len().saturating_sub(super::NAMED);
    if more > 0 {
        host.ui.line(&format!("  and {more} more"));
    }
}

fn allowed_json(one: &AllowedRemoval) -> Value {
    json!({
        "cluster": one.cluster,
        "by": one.principal,
        "atMs": one.at_ms,
        "connected": one.connected,
        "objects": one.objects_total,
    })
}

fn as_json(set: &BlockedRemoval) -> Value {
    let units = set
        .units
        .iter()
        .map(|unit| json!({ "unitId": unit.unit_id, "cluster": unit.cluster, "version": unit.version }));
    let objects = set.objects.iter().map(|object| {
        json!({
            "group": object.group,
            "kind": object.kind,
            "namespace": object.namespace,
            "name": object.name,
        })
    });
    json!({
        "message": set.message,
        "units": units.collect::<Vec<_>>(),
        "total": set.objects_total,
        "objects": objects.collect::<Vec<_>>(),
    })
}
