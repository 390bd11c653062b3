//! Whether a live object still is what was written, and what to do when it is not.
//!
//! An event is judged by digests alone, so that the agent need not keep objects. A suspicion is confirmed by
//! one dry-run, corrected at once, and attributed to the manager that made it. A manager that puts the same
//! field back again and again is not fought: the unit's interval decides when to try next.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    MANAGER, fields,
    fields::Segment,
    inventory::{Record, State},
    managers,
};
use crate::{clock::Timestamp, digest::Digest};

/// Corrections of one field against one manager after which it counts as contested.
pub const CONTESTED_AFTER: usize = 3;
/// The time within which they count.
pub const CONTESTED_WITHIN: Duration = Duration::from_secs(600);
/// The most paths that a drift names.
pub const MAX_PATHS: usize = 32;

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

/// A confirmed difference between the live and the desired object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// JSON pointers of what differs, sorted, at most [`MAX_PATHS`]. Empty for an object that is gone.
    pub paths: Vec<String>,
    /// Who made it, as far as `managedFields` tell.
    pub manager: Option<String>,
}

/// What to do about a confirmed drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Correct it now.
    Correct,
    /// Leave it until then: it has been corrected too often against the same manager.
    Contested {
        /// When to try again.
        until: Timestamp,
    },
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

/// Confirms a suspicion by the result of a dry-run apply over the live object. `None`: applying would change
/// nothing. Compares labels, annotations and everything outside `metadata` and `status`.
pub fn confirm(live: &Value, dry_run: &Value) -> Option<Drift> {
    let mut differences = Differences::default();
    let (live_map, dry_map) = (live.as_object()?, dry_run.as_object()?);
    for field in keys(live_map, dry_map).filter(|field| !matches!(*field, "metadata" | "status")) {
        differences.compare(
            &mut vec![Segment::Field(field.into())],
            live_map.get(field),
            dry_map.get(field),
        );
    }
    for field in ["labels", "annotations"] {
        let mut path = vec![Segment::Field("metadata".into()), Segment::Field(field.into())];
        differences.compare(
            &mut path,
            live["metadata"].get(field),
            dry_run["metadata"].get(field),
        );
    }
    let first = differences.paths.first()?;
    let manager = manager_of(live, first);
    let mut paths: Vec<String> = differences
        .paths
        .iter()
        .map(|path| fields::pointer(path))
        .collect();
    paths.sort_unstable();
    Some(Drift { paths, manager })
}

#[derive(Default)]
struct Differences {
    paths: Vec<Vec<Segment>>,
}

impl Differences {
    /// Notes the deepest places that differ. Depth is that of parsed JSON, which the parser bounds.
    fn compare(&mut self, path: &mut Vec<Segment>, live: Option<&Value>, dry: Option<&Value>) {
        if live == dry || is_empty(live) && is_empty(dry) || self.paths.len() == MAX_PATHS {
            return;
        }
        match (live, dry) {
            (Some(Value::Object(live)), Some(Value::Object(dry))) => {
                for field in keys(live, dry) {
                    path.push(Segment::Field(field.into()));
                    self.compare(path, live.get(field), dry.get(field));
                    path.pop();
                }
            }
            (Some(Value::Array(live)), Some(Value::Array(dry))) if live.len() == dry.len() => {
                for (index, (live, dry)) in live.iter().zip(dry).enumerate() {
                    path.push(Segment::Index(index));
                    self.compare(path, Some(live), Some(dry));
                    path.pop();
                }
            }
            _ => self.paths.push(path.clone()),
        }
    }
}

/// An absent map and an empty one are the same to the API server.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

fn keys<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let only_b = b.keys().filter(|key| !a.contains_key(*key));
    a.keys().chain(only_b).map(String::as_str)
}

/// Who wrote what stands at `path`: of the others that own it, whoever wrote last. A field that was removed has
/// no owner; whoever wrote last to the object is then the likeliest.
fn manager_of(live: &Value, path: &[Segment]) -> Option<String> {
    let others = || {
        fields::entries(&live["metadata"])
            .iter()
            .filter(|entry| entry["manager"] != MANAGER && fields::is_whole(entry))
    };
    let latest = |a: &&Value, b: &&Value| a["time"].as_str().cmp(&b["time"].as_str());
    others()
        .filter(|entry| fields::owns(&entry["fieldsV1"], live, path))
        .max_by(latest)
        .or_else(|| others().max_by(latest))
        .and_then(|entry| entry["manager"].as_str())
        .map(str::to_owned)
}

/// The recent corrections of one object, and where it is contested. Bounded: old ones are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Corrections {
    recent: VecDeque<Correction>,
    contested_until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Correction {
    at: Timestamp,
    path: String,
    manager: Option<String>,
}

impl Corrections {
    /// Most corrections remembered: every path of a drift, as often as makes it contested.
    const KEPT: usize = MAX_PATHS * CONTESTED_AFTER;

    /// Decides about a confirmed drift and, where it is to be corrected, remembers that. `interval` is the
    /// unit's: a contested field is corrected once in it, for as long as the other manager goes on.
    pub fn decide(&mut self, drift: &Drift, now: Timestamp, interval: Duration) -> Verdict {
        if let Some(until) = self.contested_until {
            if now < until {
                return Verdict::Contested { until };
            }
            let goes_on = now.since(until) < CONTESTED_WITHIN;
            self.contested_until = goes_on.then(|| now + interval);
            if goes_on {
                return Verdict::Correct;
            }
        }
        self.recent
            .retain(|correction| now.since(correction.at) < CONTESTED_WITHIN);
        self.remember(drift, now);
        if drift
            .paths
            .iter()
            .any(|path| self.times(path, &drift.manager) >= CONTESTED_AFTER)
        {
            self.recent.clear();
            self.contested_until = Some(now + interval);
        }
        Verdict::Correct
    }

    /// Tells until when the object is contested.
    pub fn contested(&self, now: Timestamp) -> Option<Timestamp> {
        self.contested_until.filter(|&until| now < until)
    }

    fn times(&self, path: &str, manager: &Option<String>) -> usize {
        self.recent
            .iter()
            .filter(|c| c.path == path && c.manager == *manager)
            .count()
    }

    fn remember(&mut self, drift: &Drift, now: Timestamp) {
        for path in &drift.paths {
            if self.recent.len() == Self::KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(Correction {
                at: now,
                path: path.clone(),
                manager: drift.manager.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &[u8; 32] = &[5; 32];

    fn live() -> Value {
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

    fn changed(change: impl FnOnce(&mut Value)) -> Value {
        let mut object = live();
        change(&mut object);
        object
    }

    fn edited_by(manager: &str, time: &str) -> Value {
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

    #[test]
    fn a_dry_run_confirms_and_names_paths_and_manager() {
        let object = changed(|o| {
            o["spec"]["replicas"] = json!(5);
            o["metadata"]["labels"]["app"] = json!("x");
            o["metadata"]["managedFields"]
                .as_array_mut()
                .expect("a list")
                .extend([
                    edited_by("hpa", "2026-01-01T00:00:10Z"),
                    edited_by("kubectl-scale", "2026-01-01T00:00:20Z"),
                ]);
        });
        let drift = confirm(&object, &live()).expect("drift");
        assert_eq!(drift.paths, ["/metadata/labels/app", "/spec/replicas"]);
        assert_eq!(drift.manager.as_deref(), Some("kubectl-scale"));
    }

    #[test]
    fn a_dry_run_that_changes_only_bookkeeping_confirms_nothing() {
        let object = changed(|o| {
            o["metadata"]["resourceVersion"] = json!("9");
            o["metadata"]["generation"] = json!(4);
            o["metadata"]["annotations"] = json!({});
            o["status"] = json!({});
        });
        assert_eq!(confirm(&object, &live()), None);
    }

    #[test]
    fn a_drift_names_a_bounded_number_of_paths() {
        let wide = |n: i32| json!({"data": (0..1000).map(|i| (format!("k{i}"), json!(i * n))).collect::<Map<_, _>>()});
        assert_eq!(
            confirm(&wide(1), &wide(2)).map(|drift| drift.paths.len()),
            Some(MAX_PATHS)
        );
    }

    fn drift(manager: &str, path: &str) -> Drift {
        Drift {
            paths: vec![path.into()],
            manager: Some(manager.into()),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    const INTERVAL: Duration = Duration::from_secs(3600);

    #[test]
    fn the_fourth_change_in_ten_minutes_is_contested_until_the_interval() {
        let mut corrections = Corrections::default();
        for second in [0, 60, 120] {
            assert_eq!(
                corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL),
                Verdict::Correct
            );
        }
        let contested = Verdict::Contested {
            until: at(120) + INTERVAL,
        };
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(121), INTERVAL),
            contested
        );
        assert_eq!(corrections.contested(at(121)), Some(at(120) + INTERVAL));
        // Once an interval it is tried again, and contested again at once.
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(3720), INTERVAL),
            Verdict::Correct
        );
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(3721), INTERVAL),
            Verdict::Contested {
                until: at(3720) + INTERVAL
            }
        );
    }

    #[test]
    fn slow_changes_other_fields_and_other_managers_are_no_contest() {
        let mut corrections = Corrections::default();
        for (manager, path, second) in [
            ("hpa", "/spec/replicas", 0),
            ("vpa", "/spec/replicas", 1),
            ("hpa", "/spec/paused", 2),
            ("hpa", "/spec/replicas", 300),
            ("hpa", "/spec/replicas", 700),
            ("hpa", "/spec/replicas", 1200),
        ] {
            assert_eq!(
                corrections.decide(&drift(manager, path), at(second), INTERVAL),
                Verdict::Correct
            );
            assert_eq!(corrections.contested(at(second)), None);
        }
    }

    #[test]
    fn a_contest_that_ended_is_forgotten() {
        let mut corrections = Corrections::default();
        for second in 0..3 {
            corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL);
        }
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(90_000), INTERVAL),
            Verdict::Correct
        );
        assert_eq!(corrections.contested(at(90_001)), None);
    }
}
