//! Waits until the hub has handled a request, and says what came of it.

use std::time::{Duration, Instant};

use flotilla_api::Kind;
use flotilla_proto::fleet::v1::{ListResourcesRequest, ListUnitsRequest, Resource, ResourceRef};
use tokio::time::sleep;

use crate::Host;
use crate::client::Fleet;
use crate::error::CommandError;
use crate::fetch::{PAGE, clusters, resources, units};
use crate::output::ago;
use crate::show::readiness;

/// How often to look. The hub answers from memory; a person does not notice the difference.
const EVERY: Duration = Duration::from_millis(500);

/// How long an app must have failed to count as failed. The hub may have handled a request before the clusters
/// have reported what came of it.
const SETTLED: Duration = Duration::from_secs(2);

/// Fetches one resource.
pub(crate) async fn find(fleet: &mut Fleet, reference: &ResourceRef) -> Result<Resource, CommandError> {
    let request = ListResourcesRequest {
        kinds: vec![reference.kind.clone()],
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
        scope: reference.scope.clone(),
        page_size: 1,
        ..Default::default()
    };
    let missing = || {
        CommandError::failed(format!(
            "{} {:?} not found in {:?} namespace",
            reference.kind, reference.name, reference.namespace
        ))
    };
    resources(fleet, request)
        .await?
        .into_iter()
        .next()
        .ok_or_else(missing)
}

/// Waits until the request is handled and the resource is ready or has failed.
///
/// Clusters that are offline are named and not waited for: they follow when they return.
pub(crate) async fn until_handled(
    fleet: &mut Fleet,
    reference: &ResourceRef,
    request_id: &str,
    timeout: Duration,
    host: &mut Host,
) -> Result<Resource, CommandError> {
    let kind = &reference.kind;
    host.ui.waiting(&format!("waiting for {kind} reconciliation"));
    let end = Instant::now() + timeout;
    let mut failing: Option<Instant> = None;
    loop {
        let resource = find(fleet, reference).await?;
        let handled = request_id.is_empty() || resource.handled_request == request_id;
        let (status, message) = readiness(&resource);
        let failed = status == "False";
        if !failed {
            failing = None;
        }
        match status {
            "True" if handled => return Ok(resource),
            "False" if handled && settled(kind, &mut failing) => {
                return Err(CommandError::failed(format!(
                    "{kind} reconciliation failed: '{message}'"
                )));
            }
            _ if handled && only_offline_left(fleet, reference, failed, host).await? => return Ok(resource),
            _ if Instant::now() >= end => {
                let error = CommandError::failed(format!(
                    "{kind} is not ready after {}s: '{message}'",
                    timeout.as_secs()
                ));
                return Err(error.hint("give it longer with --timeout"));
            }
            _ => sleep(EVERY).await,
        }
    }
}

/// Tells whether a failure that was just seen again has lasted long enough. A source's own state is never late.
fn settled(kind: &str, failing: &mut Option<Instant>) -> bool {
    let since = failing.get_or_insert_with(Instant::now);
    since.elapsed() >= SETTLED || !Kind::from_word(kind).is_some_and(Kind::is_app)
}

/// Tells whether every unit on a connected cluster is ready, and then names the clusters that are offline. An app
/// that has failed counts only when what failed is on one of those.
async fn only_offline_left(
    fleet: &mut Fleet,
    reference: &ResourceRef,
    failed: bool,
    host: &mut Host,
) -> Result<bool, CommandError> {
    let request = ListUnitsRequest {
        app_kind: reference.kind.clone(),
        app_namespace: reference.namespace.clone(),
        app_name: reference.name.clone(),
        page_size: PAGE,
        ..Default::default()
    };
    let units = units(fleet, request).await?;
    let fleet_clusters = clusters(fleet, "", "").await?;
    let offline = |name: &str| {
        fleet_clusters
            .iter()
            .find(|cluster| cluster.name == name && !cluster.connected)
    };
    let (away, here): (Vec<_>, Vec<_>) = units.iter().partition(|unit| offline(&unit.cluster).is_some());
    if failed && !away.iter().any(|unit| unit.ready == "False") {
        return Ok(false);
    }
    if away.is_empty() || here.iter().any(|unit| unit.ready != "True") {
        return Ok(false);
    }
    for cluster in away.iter().filter_map(|unit| offline(&unit.cluster)) {
        let seen = match cluster.last_seen_ms {
            0 => "was never connected".to_owned(),
            then => format!("is offline for {}", ago(then, (host.now_ms)())),
        };
        host.ui.warning(&format!(
            "cluster {} {seen}; it follows when it returns",
            cluster.name
        ));
    }
    Ok(true)
}
