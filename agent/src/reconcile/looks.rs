//! Looks at objects that units wait for and that are not theirs: each is read as the unit's identity, and reduced to its
//! health.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_core::{
    health::{Health, Judge, State},
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, health::HealthCheck},
};
use futures::{StreamExt as _, future::BoxFuture, stream};

use super::{
    context::{Context, UnitContext},
    message::truncate,
    observe::health,
};
use crate::cluster::{ClusterError, Discovery, Resource, Served};

/// Reads of one look at the same time.
const READS: usize = 4;
/// A read that takes longer tells nothing.
const READ: Duration = Duration::from_secs(15);
/// Longest words of an error that are kept.
const WORDS: usize = 256;

/// What a look has shown.
pub(super) struct Looked {
    pub(super) unit: UnitId,
    /// The version of the unit that it was for.
    pub(super) version: u64,
    pub(super) seen: BTreeMap<ObjectKey, Health>,
}

/// Looks at objects. Whatever fails is what is known of that one object.
pub(super) fn look(
    context: &Arc<Context>,
    unit: UnitId,
    entry: Arc<Entry>,
    checks: Vec<HealthCheck>,
) -> BoxFuture<'static, Looked> {
    let context = context.clone();
    Box::pin(async move {
        let version = entry.version;
        let unit_context = UnitContext::new(&context, unit, entry);
        let judge = context.judges.of(unit);
        let reads = checks
            .into_iter()
            .map(|check| one(&unit_context, check, judge.as_deref()));
        let seen = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(READS)
            .collect()
            .await;
        Looked { unit, version, seen }
    })
}

async fn one(unit: &UnitContext, check: HealthCheck, judge: Option<&Judge>) -> (ObjectKey, Health) {
    let read = tokio::time::timeout(READ, read(unit, &check, judge)).await;
    let health = match read {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => unknown(&error.to_string()),
        Err(_) => unknown("the API server does not answer"),
    };
    (check.key, health)
}

async fn read(
    unit: &UnitContext,
    check: &HealthCheck,
    judge: Option<&Judge>,
) -> Result<Health, ClusterError> {
    let key = &check.key;
    let Some(resource) = resource(unit, check).await? else {
        return Ok(unknown(&format!(
            "no matches for kind {:?} in version {:?}",
            key.kind, check.api_version
        )));
    };
    // Of a kind that lives in namespaces it is one of the app's own, unless another is named.
    let namespace = match resource.namespaced && key.namespace.is_empty() {
        true => &unit.entry.app.namespace,
        false => &key.namespace,
    };
    let live = unit.cluster.get(&resource, namespace, &key.name).await?;
    Ok(match live {
        Some(live) => health(&live, unit.context.wall(), judge),
        None => Health::not_found(),
    })
}

/// How the kind is served; it may be since the last answer.
async fn resource(unit: &UnitContext, check: &HealthCheck) -> Result<Option<Resource>, ClusterError> {
    let find = |discovery: &Discovery| match check.api_version.is_empty() {
        true => discovery.preferred(&check.key.group, &check.key.kind).cloned(),
        false => match discovery.find(&check.api_version, &check.key.kind) {
            Served::Yes(resource) => Some(resource.clone()),
            _ => None,
        },
    };
    let known = unit.context.discovered_for([&check.key].into_iter()).await?;
    match find(&known) {
        Some(resource) => Ok(Some(resource)),
        None => Ok(find(&*unit.context.rediscovered().await?)),
    }
}

fn unknown(words: &str) -> Health {
    let mut message = words.to_owned();
    truncate(&mut message, WORDS);
    Health {
        state: State::Unknown,
        reason: "".into(),
        message: message.into(),
    }
}
