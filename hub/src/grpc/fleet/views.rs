//! Rows to messages.

use std::collections::BTreeMap;

use flotilla_core::status::{self as decided, Readiness, Revision, UnitFacts};
use flotilla_proto::fleet::v1 as wire;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    clock::timestamp,
    store::{
        event::EventView,
        query::{ClusterView, ObjectView, RolloutView, UnitView},
    },
};

pub(super) fn labels(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// A time as messages have it.
pub(in crate::grpc) fn ms(at: OffsetDateTime) -> i64 {
    timestamp(at).0
}

pub(super) fn cluster(row: ClusterView) -> wire::Cluster {
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    wire::Cluster {
        name: row.name,
        id: row.id.to_string(),
        state: row.state,
        labels: labels(&row.labels),
        variables: labels(row.spec.get("variables").unwrap_or(&Value::Null)),
        connected: row.connected,
        last_seen_ms: row.last_seen.map_or(0, ms),
        agent_version: row.agent_version,
        kube_version: row.kube_version,
        desired_generation: row.desired_generation.unsigned_abs(),
        accepted_generation: row.accepted_generation.unsigned_abs(),
        units: count(row.units),
        units_ready: count(row.units_ready),
        message: row.message,
    }
}

pub(super) fn unit(row: UnitView) -> wire::Unit {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let ready = decided::unit(&facts(&row));
    wire::Unit {
        id: row.id.to_string(),
        app: Some(wire::ResourceRef {
            scope: row.scope,
            group: row.api_group,
            kind: row.kind,
            namespace: row.namespace,
            name: row.name,
        }),
        cluster: row.cluster,
        state: row.state,
        version: row.version.unsigned_abs(),
        target_revision: row.target_revision,
        applied_revision: row.applied_revision,
        ready: ready.status.as_str().to_owned(),
        reason: ready.reason,
        message: ready.message,
        waiting: row.waiting.iter().map(ToString::to_string).collect(),
        cause: row.cause,
        observed_at_ms: row.observed_at.map_or(0, ms),
        stale: !row.connected && row.silent,
        objects: count(row.objects),
        objects_failed: count(row.objects_failed),
        objects_pending_removal: count(row.objects_pending_removal),
        health: row.health,
        removal_waits: row.removal_waits,
    }
}

fn facts(row: &UnitView) -> UnitFacts {
    UnitFacts {
        cluster: row.cluster.clone(),
        connected: row.connected,
        silent: row.silent,
        current: row.current,
        applied: row.applied,
        refused: row.refused,
        ready: Readiness::parse(&row.ready),
        reason: row.reason.clone(),
        message: row.message.clone(),
        notes: row.notes.clone(),
        waiting: row.waiting.0.clone(),
        revision: row.applied_revision_id.map(|id| Revision {
            id,
            name: row.applied_revision.clone(),
        }),
    }
}

pub(super) fn object(row: ObjectView) -> wire::UnitObject {
    wire::UnitObject {
        group: row.api_group,
        kind: row.kind,
        namespace: row.namespace,
        name: row.name,
        api_version: row.api_version,
        state: row.state,
        health: row.health,
        message: row.message,
        adopted: row.adopted,
    }
}

pub(super) fn event(row: EventView) -> wire::FleetEvent {
    wire::FleetEvent {
        id: row.id,
        at_ms: ms(row.at),
        warning: row.warning,
        reason: row.reason,
        message: row.message,
        resource: row.kind.map(|kind| wire::ResourceRef {
            scope: row.scope.unwrap_or_default(),
            group: row.api_group.unwrap_or_default(),
            kind,
            namespace: row.namespace.unwrap_or_default(),
            name: row.name.unwrap_or_default(),
        }),
        cluster: row.cluster.unwrap_or_default(),
        object: row.object,
        revision: row.revision,
    }
}

pub(super) fn rollout(row: RolloutView) -> wire::Rollout {
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    wire::Rollout {
        id: row.id,
        app: Some(wire::ResourceRef {
            scope: row.scope,
            group: String::new(),
            kind: row.kind,
            namespace: row.namespace,
            name: row.name,
        }),
        revision: row.revision,
        state: row.state,
        cause: row.cause,
        clusters: count(row.clusters),
        clusters_applied: count(row.clusters_applied),
        waiting: vec![],
        created_at_ms: ms(row.created_at),
        finished_at_ms: row.finished_at.map_or(0, ms),
    }
}
