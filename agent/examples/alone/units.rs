//! Units as the benchmarks make them, and what their agent says of them.

use std::time::Duration;

use anyhow::Context as _;
use flotilla_agent::sim::{self, SimAgent};
use flotilla_core::{digest::Digest, id::UnitId, unit::Entry};
use flotilla_proto::agent::v1::{Readiness, UnitStatus};
use serde_json::{Value, json};

pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// An entry of a content in a namespace.
pub(crate) fn entry(unit: UnitId, content: Digest, namespace: &str) -> Entry {
    sim::entry(unit, content, |entry| {
        entry.settings.timeout = Duration::from_secs(60);
        entry.settings.default_namespace = namespace.to_owned();
    })
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
