//! A cluster of a few objects, and what an executor would do with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    apply::{
        drift::{Corrections, Drift, Judgement, Observation, Suspicion, Verdict, judge},
        inventory::{Record, State as RecordState},
        policy::{Decision, Policy, Skip, Write},
        protected::Protected,
        removal::{self, Blocker, Wait},
    },
    clock::Timestamp,
    digest::Digest,
    health::{Health, State as HealthState},
    object::ObjectKey,
    unit::{
        event::{Applied, CheckOutcome, Checked, Outcome},
        object::{Desired, Observed},
        problem::{Problem, Retry},
        remove::Removed,
    },
};

/// The unit, as marks name it.
const UNIT: &str = "00000000-0000-0000-0000-000000000001";

pub(super) type Key = Arc<ObjectKey>;
/// An object's value and switches.
pub(super) type Content = BTreeMap<Key, (String, Policy)>;

/// What stands in the way of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Refused,
    Silent,
    Unserved,
    Terminating,
    StillManaged,
}

/// A live object.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) value: String,
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) policy: Policy,
    pub(super) health: HealthState,
    pub(super) folded: Vec<String>,
    pub(super) finished: bool,
    pub(super) again: Option<Duration>,
    /// The unit that its mark names.
    pub(super) mark: Option<String>,
    pub(super) deleting: bool,
    /// Something holds its deletion up.
    pub(super) is_held: bool,
}

/// The cluster, and the durable records of its objects.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) live: BTreeMap<Key, Live>,
    pub(super) records: BTreeMap<Key, Record>,
    pub(super) faults: BTreeMap<Key, Fault>,
    /// Whoever changes these puts the value back at once.
    pub(super) fought: BTreeSet<Key>,
    /// These are in progress once written.
    pub(super) slow: BTreeSet<Key>,
    /// What watches have seen and not told yet.
    pub(super) seen: VecDeque<(Key, Observed)>,
    /// The UIDs of what this unit has written.
    pub(super) written: BTreeSet<(Key, String)>,
    /// What was asked to go, as it was.
    pub(super) deleted: Vec<(Key, Live)>,
    versions: u64,
}

pub(super) fn key(kind: &str, name: &str) -> Key {
    let group = match kind {
        "CustomResourceDefinition" => "apiextensions.k8s.io",
        "Job" => "batch",
        _ => "",
    };
    let namespace = if matches!(kind, "Namespace" | "CustomResourceDefinition") {
        ""
    } else {
        "a"
    };
    Arc::new(ObjectKey::new(group, kind, namespace, name))
}

pub(super) fn config(name: &str) -> Key {
    key("ConfigMap", name)
}

/// The switches stand in the manifest, so that they count.
pub(super) fn sent(value: &str, policy: Policy) -> Digest {
    Digest::of_json("sent", &(value, policy))
}

pub(super) fn desired(value: &str, policy: Policy) -> Desired {
    Desired {
        digest: sent(value, policy),
        policy,
        secret: false,
        withheld: None,
    }
}

impl Live {
    fn observation(&self) -> Observation {
        Observation {
            uid: Some(self.uid.as_str().into()),
            policy: self.policy,
            finished: self.finished,
            deleting: self.deleting,
            projection: Some(Digest::of("projection", self.value.as_bytes())),
            folded: self.folded.clone().into(),
            ..Observation::default()
        }
    }
}

impl World {
    pub(super) fn observed(&self, key: &Key) -> Observed {
        match self.live.get(key) {
            Some(live) => Observed {
                observation: Some(live.observation()),
                health: Health {
                    state: live.health,
                    reason: "".into(),
                    message: "".into(),
                },
                version: Some(live.version),
                again: live.again,
            },
            None => Observed {
                observation: None,
                health: Health::not_found(),
                version: Some(self.versions),
                again: None,
            },
        }
    }

    /// Somebody else's object, of which no watch tells.
    pub(super) fn put(&mut self, key: &Key, value: &str, policy: Policy) {
        let (records, written) = (self.records.clone(), self.written.clone());
        self.write(key, value, policy);
        (self.records, self.written) = (records, written);
        self.seen.clear();
    }

    fn tell(&mut self, key: &Key) {
        let seen = self.observed(key);
        self.seen.push_back((key.clone(), seen));
    }

    /// Somebody changes an object.
    pub(super) fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Live)) {
        self.versions += 1;
        if let Some(live) = self.live.get_mut(key) {
            change(live);
            live.version = self.versions;
            self.tell(key);
        }
    }

    /// Somebody deletes an object.
    pub(super) fn delete(&mut self, key: &Key) {
        self.versions += 1;
        if self.live.remove(key).is_some() {
            self.tell(key);
        }
    }

    /// What holds an object up is done: one that is being deleted goes.
    pub(super) fn release(&mut self, key: &Key) {
        let is_over = self.live.get_mut(key).is_some_and(|live| {
            live.is_held = false;
            live.deleting
        });
        if is_over {
            self.delete(key);
        }
    }

    /// Looks at an object that is to be removed, and deletes it where that look proves it.
    pub(super) fn remove(&mut self, key: &Key) -> Removed {
        if let Some((problem, _)) = self.fault(key) {
            return match problem {
                Problem::Failed(message) => Removed::Refused {
                    message,
                    retry: Retry::Interval,
                },
                problem => Removed::Unknown(problem.message().to_owned()),
            };
        }
        let Some(record) = self.records.get(key) else {
            return Removed::Kept(Wait::Unproven);
        };
        let seen = self.live.get(key).map(|live| removal::Live {
            uid: live.uid.clone(),
            resource_version: live.version.to_string(),
            mark: live.mark.clone(),
            policy: live.policy,
            deleting: live.deleting,
            finalizers: live.is_held.then(|| "hold".to_owned()).into_iter().collect(),
        });
        let protected = Protected::new("fleet", "flotilla-agent");
        match removal::at_look(key, record, UNIT, &protected, seen.as_ref()) {
            removal::Verdict::Gone => Removed::Gone,
            removal::Verdict::Deleting(blocker) => Removed::Deleting(blocker),
            removal::Verdict::Release(release) => Removed::Released(release),
            removal::Verdict::Wait(wait) => Removed::Kept(wait),
            removal::Verdict::Delete {
                uid,
                resource_version,
            } => {
                let live = &self.live[key];
                assert_eq!(
                    (uid, resource_version),
                    (live.uid.clone(), live.version.to_string())
                );
                let ours = self.written.contains(&(key.clone(), live.uid.clone()));
                assert!(ours && live.mark.as_deref() == Some(UNIT), "{key} is not ours");
                assert!(!live.policy.keep && !live.policy.paused, "{key} is to stay");
                self.deleted.push((key.clone(), live.clone()));
                if !live.is_held {
                    self.delete(key);
                    return Removed::Gone;
                }
                self.edit(key, |live| live.deleting = true);
                Removed::Deleting(Blocker(vec!["hold".to_owned()]))
            }
        }
    }

    /// Lists start anew: each object of the inventory is seen, or not.
    pub(super) fn relist(&mut self) {
        self.seen.clear();
        for key in self.records.keys().cloned().collect::<Vec<_>>() {
            self.tell(&key);
        }
    }

    /// Begins to write: the intent is durable.
    pub(super) fn intend(&mut self, key: &Key) {
        let record = self.records.entry(key.clone()).or_default();
        if !self.live.contains_key(key) {
            record.uid = None;
        }
    }

    fn write(&mut self, key: &Key, value: &str, policy: Policy) -> Record {
        self.versions += 1;
        let health = match self.slow.contains(key) {
            true => HealthState::InProgress,
            false => HealthState::Current,
        };
        let known = self.live.get(key);
        let live = Live {
            value: value.to_owned(),
            uid: known.map_or(format!("u{}", self.versions), |known| known.uid.clone()),
            version: self.versions,
            policy,
            health,
            folded: match policy.decide(known.map(|known| known.policy)) {
                Decision::Apply { fold: false } => {
                    known.map(|known| known.folded.clone()).unwrap_or_default()
                }
                _ => Vec::new(),
            },
            finished: false,
            again: None,
            mark: Some(UNIT.to_owned()),
            deleting: known.is_some_and(|known| known.deleting),
            is_held: known.is_some_and(|known| known.is_held),
        };
        let observation = live.observation();
        self.written.insert((key.clone(), live.uid.clone()));
        self.live.insert(key.clone(), live);
        self.tell(key);
        let record = Record {
            api_version: "v1".into(),
            state: RecordState::Applied,
            uid: observation.uid,
            sent: Some(sent(value, policy)),
            projection: observation.projection,
            policy,
            ..Record::default()
        };
        self.records.insert(key.clone(), record.clone());
        if self.fought.contains(key) {
            self.edit(key, |live| "theirs".clone_into(&mut live.value));
        }
        record
    }

    fn fault(&mut self, key: &Key) -> Option<(Problem, Retry)> {
        Some(match self.faults.get(key)? {
            Fault::Refused => (Problem::Failed(format!("{key}: forbidden")), Retry::Interval),
            Fault::Silent => (Problem::Unanswered(format!("{key}: no answer")), Retry::Soon),
            Fault::Unserved => (Problem::Unserved(format!("{key}: not served")), Retry::Interval),
            Fault::StillManaged => (
                Problem::Withheld {
                    reason: "StillManagedByFlux",
                    message: format!("{key}: still reconciled by Flux"),
                },
                Retry::Interval,
            ),
            Fault::Terminating => (
                Problem::Waiting(format!("{key}: its namespace is being deleted").into()),
                Retry::Interval,
            ),
        })
    }

    pub(super) fn apply(&mut self, key: &Key, content: &Content) -> Outcome<Applied> {
        let mut outcome = Outcome {
            key: key.clone(),
            record: None,
            observed: None,
            adopted: None,
            result: Applied::Left,
        };
        let Some((value, policy)) = content.get(key).cloned() else {
            return outcome;
        };
        if let Some((problem, retry)) = self.fault(key) {
            if !matches!(problem, Problem::Unserved(_) | Problem::Withheld { .. }) {
                self.intend(key);
                outcome.record = self.records.get(key).cloned().map(Into::into);
            }
            outcome.result = Applied::Problem { problem, retry };
            return outcome;
        }
        if let Decision::Apply { .. } = policy.decide(self.live.get(key).map(|live| live.policy)) {
            outcome.record = Some(self.write(key, &value, policy).into());
            outcome.result = Applied::Written;
            outcome.observed = Some(self.observed(key));
        }
        outcome
    }

    pub(super) fn check(
        &mut self,
        key: &Key,
        mut corrections: Corrections,
        content: Option<&Content>,
        now: Timestamp,
    ) -> CheckOutcome {
        let mut outcome = CheckOutcome {
            outcome: Outcome {
                key: key.clone(),
                record: None,
                observed: None,
                adopted: None,
                result: Checked::InSync,
            },
            corrections: None,
        };
        if let Some((problem, retry)) = self.fault(key) {
            outcome.outcome.result = Checked::Problem { problem, retry };
            return outcome;
        }
        let observed = self.observed(key);
        let record = self.records.get(key).cloned().unwrap_or_default();
        let is_gone = observed.observation.is_none();
        let wanted = content.and_then(|content| content.get(key)).cloned();
        outcome.outcome.observed = Some(observed.clone());
        if record.state == RecordState::PendingRemoval {
            if is_gone {
                self.records.remove(key);
                outcome.outcome.result = Checked::Gone;
            }
            return outcome;
        }
        let Some((value, policy)) = wanted else {
            return outcome;
        };
        let decision = policy.decide(self.live.get(key).map(|live| live.policy));
        let left = matches!(
            decision,
            Decision::Skip(Skip::Paused | Skip::Ignored | Skip::Present)
        );
        if left || (is_gone && record.finished) {
            return outcome;
        }
        let (suspicion, drift) = match judge(&record, observed.observation.as_ref()) {
            Judgement::Suspicious(Suspicion::Gone) => (Suspicion::Gone, Some(Drift::gone())),
            Judgement::Suspicious(suspicion @ Suspicion::Applied(_)) => (suspicion, None),
            Judgement::Suspicious(suspicion) => {
                let is_same = self.live.get(key).is_some_and(|live| live.value == value);
                let drift = Drift {
                    paths: vec!["/data".to_owned()],
                    manager: Some("them".to_owned()),
                };
                (suspicion, (!is_same).then_some(drift))
            }
            Judgement::InSync | Judgement::NotJudged => return outcome,
        };
        let until = drift
            .as_ref()
            .map(|drift| corrections.decide(drift, now, Duration::from_secs(600)));
        if drift.is_some() {
            outcome.corrections = Some(corrections);
        }
        if let (Some(Verdict::Contested { until }), Some(drift)) = (until, drift.clone()) {
            outcome.outcome.result = Checked::Contested { until, drift };
            return outcome;
        }
        outcome.outcome.record = Some(self.write(key, &value, policy).into());
        outcome.outcome.observed = Some(self.observed(key));
        outcome.outcome.result = Checked::Corrected { suspicion, drift };
        outcome
    }
}

/// Switches of an object that is paused.
pub(super) fn paused() -> Policy {
    Policy {
        paused: true,
        ..Policy::default()
    }
}

/// Switches of an object that is merged with what others own.
pub(super) fn merged() -> Policy {
    Policy {
        write: Write::Merge,
        ..Policy::default()
    }
}
