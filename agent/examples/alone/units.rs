//! Units as the benchmarks make them, and what their agent says of them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use flotilla_agent::sim::SimAgent;
use flotilla_core::{
    digest::Digest,
    id::{ResourceUid, UnitId},
    unit::{AppRef, Entry, Settings, Substitution, UnitState, target_digest},
};
use flotilla_proto::agent::v1::{Readiness, UnitStatus};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// An entry of a content in a namespace.
pub(crate) fn entry(unit: UnitId, content: Digest, namespace: &str) -> Entry {
    let settings = Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: namespace.to_owned(),
    };
    Entry {
        unit,
        version: 1,
        app: AppRef {
            uid: ResourceUid(Uuid::from_u128(2)),
            kind: "Kustomization".into(),
            namespace: "flux-system".into(),
            name: "apps".into(),
        },
        content: Some(content),
        target: target_digest(Some(content), &settings, &[]),
        revision: "main@sha1:abc".into(),
        state: UnitState::Active,
        prune_cleared: None,
        settings,
        variables: Vec::new(),
        depends_on: Vec::new(),
        withheld: Vec::new(),
        requested: String::new(),
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

/// Tells whether a unit is ready, and what it was last asked for is applied.
pub(crate) fn is_applied(unit: &UnitStatus) -> bool {
    let applied = unit.applied.as_ref();
    unit.ready() == Readiness::True && applied.is_some_and(|applied| applied.version == unit.held_version)
}

/// Takes reports until one says this of the unit.
pub(crate) async fn until(
    agent: &SimAgent,
    unit: UnitId,
    holds: impl Fn(&UnitStatus) -> bool,
) -> anyhow::Result<()> {
    loop {
        let report = agent.report(WITHIN).await.context("no report")?;
        let id = unit.to_vec();
        if report.units.iter().any(|unit| unit.unit_id == id && holds(unit)) {
            return Ok(());
        }
    }
}

/// Takes in reports until there are none for a while.
pub(crate) async fn settle(agent: &SimAgent) {
    while agent.report(Duration::from_secs(10)).await.is_some() {}
}
