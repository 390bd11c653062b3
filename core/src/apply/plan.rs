//! Plans one pass over a unit: what to write, in which stage, and what is no longer desired.
//!
//! Only what changed is written: objects that are new, whose evaluated form differs from the one last sent,
//! whose write was not finished, or that drifted. Nothing is deleted: an object that left the desired state is
//! marked, and stays.

use std::collections::{BTreeSet, HashSet};

use super::{
    inventory::{Inventory, State},
    policy::{Policy, Write},
    stage::{Stage, stages},
};
use crate::{digest::Digest, object::ObjectKey};

/// A desired object, evaluated and its key normalised by discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Its key.
    pub key: ObjectKey,
    /// Digest of the evaluated object as it would be sent.
    pub digest: Digest,
    /// Its own switches.
    pub policy: Policy,
}

/// One pass over a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to write, stage by stage. Only stages with a write.
    pub stages: Vec<StagePlan>,
    /// Indices of desired objects that their own switches exclude.
    pub skipped: Vec<usize>,
    /// Objects of the inventory that are desired again, as last sent.
    pub kept: Vec<ObjectKey>,
    /// Objects of the inventory that are no longer desired and not marked so yet.
    pub removed: Vec<ObjectKey>,
}

/// The writes of one stage, and what must be ready before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// The stage.
    pub stage: Stage,
    /// Index of the desired object and why it is written, in order of apply.
    pub writes: Vec<(usize, Reason)>,
    /// Indices of desired objects of the earlier stages that must be ready first, written in this pass or not:
    /// a definition that is not served yet makes its objects fail whenever it was written.
    pub after: Vec<usize>,
}

/// Why an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not in the inventory.
    New,
    /// An intent stands, but no finished write.
    Unfinished,
    /// Its evaluated form differs from the one last sent.
    Changed,
    /// The live object is not what was sent.
    Drifted,
}

impl Plan {
    /// Tells whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.kept.is_empty() && self.removed.is_empty()
    }

    /// How many objects it writes.
    pub fn writes(&self) -> usize {
        self.stages.iter().map(|stage| stage.writes.len()).sum()
    }
}

/// Plans a pass. `drifted` holds the keys of objects whose drift is confirmed and to be corrected now. `desired`
/// has each key once.
pub fn plan(desired: &[Desired], inventory: &Inventory, drifted: &BTreeSet<ObjectKey>) -> Plan {
    let is_skipped = |object: &Desired| object.policy.paused || object.policy.write == Write::Ignore;
    let mut plan = Plan {
        skipped: (0..desired.len())
            .filter(|&index| is_skipped(&desired[index]))
            .collect(),
        ..Plan::default()
    };
    let keys: Vec<ObjectKey> = desired.iter().map(|object| object.key.clone()).collect();
    let mut awaited = Vec::new();
    for (stage, members) in stages(&keys) {
        let members: Vec<usize> = members
            .into_iter()
            .filter(|&index| !is_skipped(&desired[index]))
            .collect();
        let writes: Vec<(usize, Reason)> = members
            .iter()
            .filter_map(|&index| Some((index, reason(&desired[index], inventory, drifted)?)))
            .collect();
        if !writes.is_empty() {
            plan.stages.push(StagePlan {
                stage,
                writes,
                after: awaited.clone(),
            });
        }
        if stage.waits() {
            awaited.extend(members);
        }
    }
    let wanted: HashSet<&ObjectKey> = keys.iter().collect();
    for (key, record) in inventory.iter() {
        match (wanted.contains(key), record.state) {
            (true, State::PendingRemoval) => plan.kept.push(key.clone()),
            (false, State::Intent | State::Applied) => plan.removed.push(key.clone()),
            _ => {}
        }
    }
    plan
}

fn reason(object: &Desired, inventory: &Inventory, drifted: &BTreeSet<ObjectKey>) -> Option<Reason> {
    match inventory.get(&object.key) {
        None => Some(Reason::New),
        Some(record) if record.sent.is_none() || record.state == State::Intent => Some(Reason::Unfinished),
        // Created once and never changed: what it was created as does not matter any more.
        Some(record) if record.sent != Some(object.digest) && object.policy.write != Write::IfNotPresent => {
            Some(Reason::Changed)
        }
        Some(_) => drifted.contains(&object.key).then_some(Reason::Drifted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{
        drift::Observation,
        inventory::{Left, Written},
    };

    fn key(kind: &str, name: &str) -> ObjectKey {
        let group = if kind == "CustomResourceDefinition" {
            "apiextensions.k8s.io"
        } else {
            ""
        };
        ObjectKey::new(group, kind, "", name)
    }

    fn desired(kind: &str, name: &str, content: &str) -> Desired {
        let digest = Digest::of("test", content.as_bytes());
        Desired {
            key: key(kind, name),
            digest,
            policy: Policy::default(),
        }
    }

    fn applied(objects: &[Desired]) -> Inventory {
        let mut inventory = Inventory::default();
        for object in objects {
            inventory.intend(object.key.clone(), "v1", false);
            let response = Observation {
                uid: Some("u".into()),
                ..Observation::default()
            };
            inventory.written(
                &object.key,
                Written {
                    api_version: "v1".into(),
                    sent: object.digest,
                    policy: object.policy,
                    response,
                },
            );
        }
        inventory
    }

    fn writes(plan: &Plan) -> Vec<(usize, Reason)> {
        plan.stages
            .iter()
            .flat_map(|stage| stage.writes.clone())
            .collect()
    }

    #[test]
    fn an_unchanged_unit_writes_nothing() {
        let objects = [desired("ConfigMap", "a", "1"), desired("Namespace", "n", "1")];
        assert!(plan(&objects, &applied(&objects), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn only_new_changed_unfinished_and_drifted_objects_are_written() {
        let before = ["same", "changed", "drifted"].map(|name| desired("ConfigMap", name, "1"));
        let mut inventory = applied(&before);
        inventory.intend(key("ConfigMap", "unfinished"), "v1", false);
        let mut objects = before.to_vec();
        objects[1].digest = Digest::of("test", b"2");
        objects.extend([
            desired("ConfigMap", "unfinished", "1"),
            desired("ConfigMap", "new", "1"),
        ]);
        let plan = plan(
            &objects,
            &inventory,
            &BTreeSet::from([key("ConfigMap", "drifted")]),
        );
        assert_eq!(
            writes(&plan),
            [
                (1, Reason::Changed),
                (2, Reason::Drifted),
                (4, Reason::New),
                (3, Reason::Unfinished)
            ]
        );
    }

    #[test]
    fn a_stage_waits_for_definitions_that_were_written_before() {
        let crd = desired("CustomResourceDefinition", "widgets", "1");
        let inventory = applied(std::slice::from_ref(&crd));
        let objects = [desired("Widget", "w", "1"), crd];
        let plan = plan(&objects, &inventory, &BTreeSet::new());
        assert_eq!(
            plan.stages,
            [StagePlan {
                stage: Stage::Objects,
                writes: vec![(0, Reason::New)],
                after: vec![1]
            }]
        );
    }

    #[test]
    fn what_left_the_desired_state_is_marked_once_and_never_deleted() {
        let objects = [desired("ConfigMap", "a", "1"), desired("ConfigMap", "b", "1")];
        let mut inventory = applied(&objects);
        let left = plan(&objects[..1], &inventory, &BTreeSet::new());
        assert_eq!(left.removed, [key("ConfigMap", "b")]);
        assert_eq!(left.writes(), 0);
        inventory.remove_later(
            &key("ConfigMap", "b"),
            Left {
                version: 2,
                content: None,
            },
        );
        assert!(plan(&objects[..1], &inventory, &BTreeSet::new()).is_empty());
        let back = plan(&objects, &inventory, &BTreeSet::new());
        assert_eq!(
            (back.kept.as_slice(), back.writes()),
            (&[key("ConfigMap", "b")][..], 0)
        );
    }

    #[test]
    fn an_object_created_once_is_not_changed() {
        let mut objects = [desired("ConfigMap", "a", "1")];
        let inventory = applied(&objects);
        objects[0].digest = Digest::of("test", b"2");
        objects[0].policy.write = Write::IfNotPresent;
        assert!(plan(&objects, &inventory, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_paused_object_is_neither_written_nor_removed() {
        let mut objects = [desired("ConfigMap", "a", "1")];
        let inventory = applied(&objects);
        objects[0].digest = Digest::of("test", b"2");
        objects[0].policy.paused = true;
        let plan = plan(&objects, &inventory, &BTreeSet::from([key("ConfigMap", "a")]));
        assert_eq!((plan.skipped.as_slice(), plan.is_empty()), (&[0][..], true));
    }
}
