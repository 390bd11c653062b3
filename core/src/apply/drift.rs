//! Whether a live object still is what was written.
//!
//! An event is judged by digests alone, so that the agent need not keep objects. A suspicion is confirmed by
//! one dry-run, attributed to the manager that made it, and corrected at once unless it is contested.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    MANAGER, fields,
    inventory::{Record, State},
    managers,
};
use crate::digest::Digest;

mod confirm;
mod corrections;

pub use confirm::{Drift, MAX_PATHS, confirm};
pub use corrections::{CONTESTED_AFTER, CONTESTED_WITHIN, Corrections, Verdict};

/// What is kept of a live object to judge it: fixed in size but for a few manager names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Its UID.
    pub uid: Option<String>,
    /// Its values at the paths of our `managedFields` entry; `None` when we have no entry.
    pub projection: Option<Digest>,
    /// Other appliers that have an entry and should have none.
    pub folded: Vec<String>,
}

/// What a look at a live object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// As written.
    InSync,
    /// Not judged: nothing of it is known to be written yet, or it is on its way out.
    NotJudged,
    /// Perhaps drifted; a dry-run tells.
    Suspicious(Suspicion),
}

/// Why an object may have drifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Suspicion {
    /// It is not there.
    #[error("object is gone")]
    Gone,
    /// Another object stands under its name.
    #[error("object was replaced: uid {found} instead of {expected}")]
    Replaced {
        /// The UID we wrote to.
        expected: String,
        /// The UID found.
        found: String,
    },
    /// Our `managedFields` entry is gone.
    #[error("no field is ours any more")]
    Disowned,
    /// Other fields are ours, or they hold other values.
    #[error("owned fields changed")]
    Fields,
    /// Another applier, whose fields are folded into ours, wrote to it. Its entry is folded even when the
    /// dry-run changes nothing: a field that it added would otherwise stay for ever.
    #[error("{0} applied to the object")]
    Applied(String),
}

/// Observes a live object. `key` is the agent's own projection key.
pub fn observe(live: &Value, key: &[u8; 32]) -> Observation {
    let metadata = &live["metadata"];
    let mut folded: Vec<String> = fields::entries(metadata)
        .iter()
        .filter(|entry| managers::is_folded(entry))
        .filter_map(|entry| entry["manager"].as_str())
        .map(str::to_owned)
        .collect();
    folded.sort_unstable();
    folded.dedup();
    Observation {
        uid: metadata["uid"].as_str().map(str::to_owned),
        projection: fields::entry(metadata, MANAGER, "Apply")
            .map(|entry| fields::projection(&entry["fieldsV1"], live, key)),
        folded,
    }
}

impl Observation {
    /// Names this observation, so that one found harmless is recognised.
    pub fn digest(&self) -> Digest {
        Digest::of_json("observation", self)
    }
}

/// Compares what is live with what was written. `live` is `None` when the object does not exist.
pub fn judge(record: &Record, live: Option<&Observation>) -> Judgement {
    if record.state != State::Applied {
        return Judgement::NotJudged;
    }
    match live {
        None => Judgement::Suspicious(Suspicion::Gone),
        Some(live) if record.accepted.is_some_and(|accepted| accepted == live.digest()) => Judgement::InSync,
        Some(live) => suspicion(record, live).map_or(Judgement::InSync, Judgement::Suspicious),
    }
}

fn suspicion(record: &Record, live: &Observation) -> Option<Suspicion> {
    if let (Some(expected), Some(found)) = (&record.uid, &live.uid)
        && expected != found
    {
        return Some(Suspicion::Replaced {
            expected: expected.clone(),
            found: found.clone(),
        });
    }
    if let Some(manager) = live.folded.first() {
        return Some(Suspicion::Applied(manager.clone()));
    }
    if live.projection.is_none() && record.projection.is_some() {
        return Some(Suspicion::Disowned);
    }
    (live.projection != record.projection).then_some(Suspicion::Fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &[u8; 32] = &[5; 32];

    pub(super) fn live() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "uid": "u-1", "resourceVersion": "1", "labels": {"app": "web"},
                "managedFields": [
                    {"manager": MANAGER, "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:replicas": {}},
                    }},
                    {"manager": "controller", "operation": "Update", "subresource": "status",
                     "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:status": {"f:replicas": {}}}},
                ],
            },
            "spec": {"replicas": 2, "paused": false},
            "status": {"replicas": 2},
        })
    }

    fn record() -> Record {
        let written = observe(&live(), KEY);
        Record {
            api_version: "apps/v1".into(),
            state: State::Applied,
            adopted: false,
            uid: written.uid,
            sent: Some(Digest::of("test", b"1")),
            projection: written.projection,
            accepted: None,
        }
    }

    pub(super) fn changed(change: impl FnOnce(&mut Value)) -> Value {
        let mut object = live();
        change(&mut object);
        object
    }

    pub(super) fn edited_by(manager: &str, time: &str) -> Value {
        json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    }

    fn judged(object: &Value) -> Judgement {
        judge(&record(), Some(&observe(object, KEY)))
    }

    #[test]
    fn what_others_write_is_no_suspicion() {
        assert_eq!(judged(&live()), Judgement::InSync);
        for object in [
            changed(|o| o["status"]["replicas"] = json!(0)),
            changed(|o| o["spec"]["paused"] = json!(true)),
            changed(|o| o["metadata"]["resourceVersion"] = json!("99")),
            changed(|o| o["metadata"]["annotations"] = json!({"theirs": "1"})),
        ] {
            assert_eq!(judged(&object), Judgement::InSync);
        }
    }

    #[test]
    fn each_kind_of_drift_is_suspected() {
        assert_eq!(judge(&record(), None), Judgement::Suspicious(Suspicion::Gone));
        let cases = [
            (
                changed(|o| o["metadata"]["uid"] = json!("u-2")),
                Suspicion::Replaced {
                    expected: "u-1".into(),
                    found: "u-2".into(),
                },
            ),
            (changed(|o| o["spec"]["replicas"] = json!(5)), Suspicion::Fields),
            (
                changed(|o| {
                    o["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = json!({"f:paused": {}})
                }),
                Suspicion::Fields,
            ),
            (
                changed(|o| o["metadata"]["managedFields"] = json!([])),
                Suspicion::Disowned,
            ),
            (
                changed(|o| {
                    o["metadata"]["managedFields"][1] = edited_by("kubectl-edit", "2026-01-01T00:00:10Z")
                }),
                Suspicion::Applied("kubectl-edit".into()),
            ),
        ];
        for (object, expected) in cases {
            assert_eq!(judged(&object), Judgement::Suspicious(expected));
        }
    }

    #[test]
    fn an_accepted_observation_is_not_suspected_again_until_it_changes() {
        let object = changed(|o| o["spec"]["replicas"] = json!(5));
        let mut record = record();
        record.accepted = Some(observe(&object, KEY).digest());
        assert_eq!(judge(&record, Some(&observe(&object, KEY))), Judgement::InSync);
        let other = changed(|o| o["spec"]["replicas"] = json!(6));
        assert_eq!(
            judge(&record, Some(&observe(&other, KEY))),
            Judgement::Suspicious(Suspicion::Fields)
        );
    }

    #[test]
    fn what_is_not_applied_is_not_judged() {
        for state in [State::Intent, State::PendingRemoval] {
            assert_eq!(judge(&Record { state, ..record() }, None), Judgement::NotJudged);
        }
    }
}
