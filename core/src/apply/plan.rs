//! Plans one pass over a unit: what to write, in which stage.
//!
//! Only what changed is written: objects that are new, whose evaluated form differs from the one last sent, or
//! whose write was not finished. Drift of the rest is a check's to correct. Nothing is deleted.

use std::{collections::BTreeSet, sync::Arc};

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

/// Plans a pass: `due` are the objects to write, `awaited` those that must be ready before later stages begin. Only
/// stages with a write are given.
pub fn plan(due: &BTreeSet<Arc<ObjectKey>>, awaited: &BTreeSet<Arc<ObjectKey>>) -> Vec<StagePlan> {
    let due: Vec<Arc<ObjectKey>> = due.iter().cloned().collect();
    let awaited: Vec<Arc<ObjectKey>> = awaited.iter().cloned().collect();
    let before = stages(&awaited);
    let members = |keys: &[Arc<ObjectKey>], indices: &[usize]| -> Vec<Arc<ObjectKey>> {
        indices.iter().map(|&index| keys[index].clone()).collect()
    };
    let plans = stages(&due).into_iter().map(|(stage, indices)| {
        let earlier = before.iter().filter(|(other, _)| *other < stage);
        StagePlan {
            writes: members(&due, &indices),
            after: earlier
                .flat_map(|(_, indices)| members(&awaited, indices))
                .collect(),
        }
    });
    plans.collect()
}

/// Tells whether an object is this unit's to write, as far as its manifest and the hub say.
pub fn is_ours(desired: &DesiredRow) -> bool {
    desired.withheld.is_none() && !desired.policy.paused && desired.policy.write != Write::Ignore
}

/// Tells whether a pass writes an object.
pub fn is_written(desired: &DesiredRow, record: Option<&Record>) -> bool {
    is_ours(desired)
        && match record {
            None => true,
            Some(record) if record.sent.is_none() || record.state == State::Intent => true,
            // Created once and never changed: what it was created as does not matter any more.
            Some(record) => {
                record.sent != Some(desired.digest) && desired.policy.write != Write::IfNotPresent
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply::stage::Stage, unit::object::Withholding};

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
        let keys = |holds: &dyn Fn(&ObjectKey, &DesiredRow, Option<&Record>) -> bool| {
            let rows = rows
                .iter()
                .filter(|(key, desired, record)| holds(key, desired, record.as_ref()));
            rows.map(|(key, ..)| key.clone()).collect()
        };
        plan(
            &keys(&|_, desired, record| is_written(desired, record)),
            &keys(&|key, desired, _| is_ours(desired) && Stage::of(key).waits()),
        )
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
        rows[0].1.withheld = Some(Withholding::conflict("other".to_owned()));
        rows[1].1.policy.paused = true;
        rows[2].1.policy.write = Write::Ignore;
        rows[3].1.policy.write = Write::IfNotPresent;
        assert_eq!(planned(&rows), []);
        rows[3].2 = None;
        assert_eq!(names(&planned(&rows)), [["once"]]);
    }
}
