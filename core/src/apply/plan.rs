//! Plans one pass over a unit: what to write, in which stage.
//!
//! Only what changed is written: objects that are new, whose evaluated form differs from the one last sent, or
//! whose write was not finished. Drift of the rest is a check's to correct. Nothing is deleted.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    inventory::{Record, State},
    policy::{Policy, Write},
    stage::stages,
};
use crate::{digest::Digest, object::ObjectKey, unit::object::Desired as DesiredRow};

/// A desired object, evaluated and its key normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Its key.
    pub key: ObjectKey,
    /// Digest of the evaluated object as it would be sent.
    pub digest: Digest,
    /// Its own switches.
    pub policy: Policy,
}

/// The writes of one stage, and what must be ready before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// What is written, in order of apply.
    pub writes: Vec<Arc<ObjectKey>>,
    /// Desired objects of earlier stages that must be ready first, written in this pass or not: a definition that
    /// is not served yet makes its objects fail whenever it was written.
    pub after: Vec<Arc<ObjectKey>>,
}

/// Plans a pass over a unit's desired objects and what the inventory says of each. Only stages with a write are
/// given.
pub fn plan(objects: &BTreeMap<&Arc<ObjectKey>, (&DesiredRow, Option<&Record>)>) -> Vec<StagePlan> {
    let keys: Vec<Arc<ObjectKey>> = objects
        .iter()
        .filter(|(_, (desired, _))| is_ours(desired))
        .map(|(key, _)| Arc::clone(key))
        .collect();
    let mut plan = Vec::new();
    let mut awaited: Vec<Arc<ObjectKey>> = Vec::new();
    for (stage, members) in stages(&keys) {
        let members: Vec<Arc<ObjectKey>> = members.into_iter().map(|index| keys[index].clone()).collect();
        let is_written = |key: &&Arc<ObjectKey>| {
            objects
                .get(key)
                .is_some_and(|(desired, record)| is_due(desired, *record))
        };
        let writes: Vec<_> = members.iter().filter(is_written).cloned().collect();
        if !writes.is_empty() {
            plan.push(StagePlan {
                writes,
                after: awaited.clone(),
            });
        }
        if stage.waits() {
            awaited.extend(members);
        }
    }
    plan
}

/// Tells whether an object is this unit's to write, as far as its manifest and the hub say.
fn is_ours(desired: &DesiredRow) -> bool {
    desired.withheld.is_none() && !desired.policy.paused && desired.policy.write != Write::Ignore
}

fn is_due(desired: &DesiredRow, record: Option<&Record>) -> bool {
    match record {
        None => true,
        Some(record) if record.sent.is_none() || record.state == State::Intent => true,
        // Created once and never changed: what it was created as does not matter any more.
        Some(record) => record.sent != Some(desired.digest) && desired.policy.write != Write::IfNotPresent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, name: &str) -> Arc<ObjectKey> {
        let group = if kind == "CustomResourceDefinition" {
            "apiextensions.k8s.io"
        } else {
            ""
        };
        Arc::new(ObjectKey::new(group, kind, "", name))
    }

    fn desired(content: &str) -> DesiredRow {
        DesiredRow {
            digest: Digest::of("test", content.as_bytes()),
            policy: Policy::default(),
            secret: false,
            withheld: None,
        }
    }

    fn sent(content: &str) -> Record {
        Record {
            api_version: "v1".into(),
            state: State::Applied,
            sent: Some(Digest::of("test", content.as_bytes())),
            ..Record::default()
        }
    }

    fn planned(rows: &[(Arc<ObjectKey>, DesiredRow, Option<Record>)]) -> Vec<StagePlan> {
        let rows = rows
            .iter()
            .map(|(key, desired, record)| (key, (desired, record.as_ref())));
        plan(&rows.collect())
    }

    fn names(plan: &[StagePlan]) -> Vec<Vec<String>> {
        let names = |stage: &StagePlan| stage.writes.iter().map(|key| key.name.clone()).collect();
        plan.iter().map(names).collect()
    }

    #[test]
    fn only_new_changed_and_unfinished_objects_are_written() {
        let intent = Record {
            state: State::Intent,
            ..Record::default()
        };
        let plan = planned(&[
            (key("ConfigMap", "same"), desired("1"), Some(sent("1"))),
            (key("ConfigMap", "changed"), desired("2"), Some(sent("1"))),
            (key("ConfigMap", "unfinished"), desired("1"), Some(intent)),
            (key("ConfigMap", "new"), desired("1"), None),
        ]);
        assert_eq!(names(&plan), [["changed", "new", "unfinished"]]);
    }

    #[test]
    fn a_stage_waits_for_definitions_that_were_written_before() {
        let crd = key("CustomResourceDefinition", "widgets");
        let plan = planned(&[
            (crd.clone(), desired("1"), Some(sent("1"))),
            (key("Widget", "w"), desired("1"), None),
        ]);
        assert_eq!(
            plan,
            [StagePlan {
                writes: vec![key("Widget", "w")],
                after: vec![crd]
            }]
        );
    }

    #[test]
    fn withheld_paused_ignored_and_created_once_are_not_written() {
        let mut rows = Vec::new();
        for name in ["withheld", "paused", "ignored", "once"] {
            rows.push((key("ConfigMap", name), desired("2"), Some(sent("1"))));
        }
        rows[0].1.withheld = Some("other".into());
        rows[1].1.policy.paused = true;
        rows[2].1.policy.write = Write::Ignore;
        rows[3].1.policy.write = Write::IfNotPresent;
        assert_eq!(planned(&rows), []);
        rows[3].2 = None;
        assert_eq!(names(&planned(&rows)), [["once"]]);
    }
}
