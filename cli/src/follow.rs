//! Follows a request to reconcile to its end, as the hub tells it.

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{
    ClusterBehind, ReconcileProgress, ReconcileRequest, ResourceRef,
    reconcile_progress::{Outcome, Phase},
};
use tokio::time::timeout_at;

use crate::client::Fleet;
use crate::error::CommandError;
use crate::output::ago;
use crate::{Global, Host};

/// Asks for a reconciliation and waits until it has ended, saying meanwhile how far it is. Returns the revision that was
/// fetched, or that every cluster has applied. Anything less is an error that names what is missing.
pub(crate) async fn reconcile(
    fleet: &mut Fleet,
    reference: &ResourceRef,
    with_source: bool,
    global: &Global,
    host: &mut Host,
) -> Result<String, CommandError> {
    let request = ReconcileRequest {
        resource: Some(reference.clone()),
        with_source,
    };
    let mut stream = fleet.reconcile(request).await?.into_inner();
    let mut last = ReconcileProgress::default();
    let mut said = String::new();
    loop {
        let Ok(next) = timeout_at(global.end(), stream.message()).await else {
            let kind = &reference.kind;
            let seconds = global.timeout.as_secs();
            let error = CommandError::failed(format!(
                "{kind} is not ready after {seconds}s: '{}'",
                last.message
            ));
            return Err(error.hint("give it longer with --timeout; what was asked for goes on"));
        };
        let Some(progress) = next? else {
            return Err(CommandError::unreachable("the hub ended the watch"));
        };
        match progress.outcome() {
            Outcome::Unspecified => {
                let text = waiting_for(&progress);
                if text != said {
                    host.ui.waiting(&text);
                    said = text;
                }
                last = progress;
            }
            Outcome::Succeeded => return Ok(progress.revision),
            outcome => return Err(failure(outcome, &progress, host)),
        }
    }
}

/// What Flux says of a revision: sources fetch it, apps apply it.
pub(crate) fn verb(kind: Kind) -> &'static str {
    if kind.is_app() {
        "applied revision"
    } else {
        "fetched revision"
    }
}

fn waiting_for(progress: &ReconcileProgress) -> String {
    let resource = progress.resource.clone().unwrap_or_default();
    match progress.phase() {
        Phase::Clusters => format!("{}/{} clusters", progress.clusters_ready, progress.clusters),
        _ => format!("waiting for {} reconciliation", resource.kind),
    }
}

fn failure(outcome: Outcome, progress: &ReconcileProgress, host: &Host) -> CommandError {
    let resource = progress.resource.clone().unwrap_or_default();
    let kind = &resource.kind;
    let (ready, all) = (progress.clusters_ready, progress.clusters);
    match outcome {
        Outcome::ClustersOffline => {
            let names: Vec<String> = progress.behind.iter().map(|one| away(one, host)).collect();
            let more = (all - ready) as usize - names.len().min((all - ready) as usize);
            let mut text = format!("{ready}/{all} clusters; {}", names.join(", "));
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
            CommandError::failed(text).hint("clusters that are offline follow when they return")
        }
        Outcome::NothingToApply => {
            CommandError::failed(format!("{kind} is applied nowhere: '{}'", progress.message))
        }
        Outcome::Suspended => {
            // With --with-source it may be the source.
            let named = format!("{kind} {}/{}", resource.namespace, resource.name);
            CommandError::failed(format!("resource is suspended: {named}"))
                .hint(format!("resume {named} with flotilla resume"))
        }
        // Also what a newer hub tells that this command does not know.
        _ => {
            let connected = progress.behind.iter().filter(|one| one.connected);
            CommandError::failed(format!("{kind} reconciliation failed: '{}'", progress.message))
                .and(connected.map(|one| format!("cluster {}: {}", one.cluster, one.message)))
        }
    }
}

fn away(cluster: &ClusterBehind, host: &Host) -> String {
    let name = &cluster.cluster;
    match &cluster.last_seen {
        None => format!("cluster {name} was never connected"),
        Some(seen) => {
            let since = ago(seen.seconds.saturating_mul(1000), (host.now_ms)());
            format!("cluster {name} is offline for {since}")
        }
    }
}
