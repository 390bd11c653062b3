//! Whether an object has become what it was asked to be, read from its status by the rules of kstatus, and
//! whether a unit's objects together are ready.
//!
//! Judges one object as it stands; it asks the cluster nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{clock::Timestamp, object::group_of};

mod custom;
mod kinds;
mod read;

pub use custom::Judge;

use read::{Conditions, Fields};

/// Where an object stands on its way to its desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// As desired.
    Current,
    /// Being worked on.
    InProgress,
    /// Failed, and will not get further by itself.
    Failed,
    /// Being deleted.
    Terminating,
    /// Not in the cluster.
    NotFound,
    /// Its status cannot be read.
    Unknown,
}

impl State {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Current,
        Self::InProgress,
        Self::Failed,
        Self::Terminating,
        Self::NotFound,
        Self::Unknown,
    ];

    /// The name that kstatus prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::NotFound => "NotFound",
            Self::Unknown => "Unknown",
        }
    }
}

/// The health of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Where it stands.
    pub state: State,
    /// One word for why it is not current, as kstatus or the object's condition says; empty when current.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub reason: Box<str>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub message: Box<str>,
}

impl Health {
    /// The health of an object that is not there.
    pub fn not_found() -> Self {
        Self::new(State::NotFound, "", "Resource not found")
    }

    fn new(state: State, reason: &str, message: impl Into<Box<str>>) -> Self {
        Self {
            state,
            reason: reason.into(),
            message: message.into(),
        }
    }

    fn current(message: impl Into<Box<str>>) -> Self {
        Self::new(State::Current, "", message)
    }

    fn in_progress(reason: &str, message: impl Into<Box<str>>) -> Self {
        Self::new(State::InProgress, reason, message)
    }

    fn failed(reason: &str, message: impl Into<Box<str>>) -> Self {
        Self::new(State::Failed, reason, message)
    }
}

/// A status that is not of the form the rules expect; the text names the field.
type Unreadable = String;

/// Assesses an object as it stands in the cluster. An object that cannot be read is `Unknown`, with the field
/// that is at fault.
pub fn assess(object: &Value, now: Timestamp) -> Health {
    judge(object, now).unwrap_or_else(|fault| Health::new(State::Unknown, "Unreadable", fault))
}

/// Tells after which time the health of an object changes although the object does not; `None`: never.
pub fn changes_in(object: &Value, now: Timestamp) -> Option<Duration> {
    // Only a Pod's health depends on the time.
    let waits = *assess(object, now).reason == *kinds::NOT_SCHEDULED;
    let until = kinds::schedule_deadline(Fields(object)).filter(|_| waits)?;
    Some(until.since(now)).filter(|left| !left.is_zero())
}

/// Tells whether an object is a Job or a Pod that has done its work, well or not. Its controller may delete it
/// from then on.
pub fn is_finished(object: &Value) -> bool {
    let fields = Fields(object);
    let group = group_of(fields.text(&["apiVersion"], ""));
    match (group, fields.text(&["kind"], "")) {
        ("batch", "Job") => Conditions::of(object).is_ok_and(|conditions| {
            ["Complete", "Failed"]
                .iter()
                .any(|kind| conditions.with(kind, "True").is_some())
        }),
        ("", "Pod") => matches!(fields.text(&["status", "phase"], ""), "Succeeded" | "Failed"),
        _ => false,
    }
}

/// What holds for all kinds first, then what holds for the kind; a `Ready` condition last, since it is common
/// but not a convention.
fn judge(object: &Value, now: Timestamp) -> Result<Health, Unreadable> {
    let fields = Fields(object);
    if let Some(health) = terminating(fields)? {
        return Ok(health);
    }
    let kind = fields.text(&["kind"], "");
    if kind == "Job" && group_of(fields.text(&["apiVersion"], "")) == "batch" {
        return kinds::job(fields);
    }
    if let Some(health) = unobserved(fields, kind)? {
        return Ok(health);
    }
    let conditions = Conditions::of(object)?;
    for condition in &conditions.0 {
        match (condition.kind, condition.status) {
            ("Reconciling", "True") => return Ok(Health::in_progress(condition.reason, condition.message)),
            ("Stalled", "True") => return Ok(Health::failed(condition.reason, condition.message)),
            _ => {}
        }
    }
    match kinds::judge(fields, &conditions, now)? {
        Some(health) => Ok(health),
        None => Ok(by_ready_condition(&conditions)),
    }
}

/// What holds for all kinds, however they are judged; an object that cannot be read is left to whoever judges it.
fn judged_first(object: &Value) -> Option<Health> {
    let fields = Fields(object);
    let kind = fields.text(&["kind"], "");
    let terminating = terminating(fields).ok().flatten();
    terminating.or_else(|| unobserved(fields, kind).ok().flatten())
}

fn terminating(fields: Fields<'_>) -> Result<Option<Health>, Unreadable> {
    let deleted = fields.text_strict("metadata", "deletionTimestamp")?;
    let is_deleted = deleted.is_some_and(|at| !at.is_empty());
    Ok(is_deleted.then(|| Health::new(State::Terminating, "", "Resource scheduled for deletion")))
}

/// A status that speaks of an older generation says nothing about this one.
fn unobserved(fields: Fields<'_>, kind: &str) -> Result<Option<Health>, Unreadable> {
    let Some(generation) = fields.int_strict("metadata", "generation")? else {
        return Ok(None);
    };
    let observed = fields.int_strict("status", "observedGeneration")?;
    Ok(observed
        .filter(|&observed| observed != generation)
        .map(|observed| {
            let message =
                format!("{kind} generation is {generation}, but latest observed generation is {observed}");
            Health::in_progress("LatestGenerationNotObserved", message)
        }))
}

fn by_ready_condition(conditions: &Conditions<'_>) -> Health {
    conditions
        .0
        .iter()
        .filter(|condition| condition.kind == "Ready")
        .find_map(|condition| match condition.status {
            "True" => Some(Health::current("Resource is Ready")),
            "False" | "Unknown" => Some(Health::in_progress(condition.reason, condition.message)),
            _ => None,
        })
        .unwrap_or_else(|| Health::current("Resource is current"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_and_pods_finish_well_or_not_and_nothing_else_does() {
        let job = |kind: &str, status: &str| {
            json!({"apiVersion": "batch/v1", "kind": "Job",
                "status": {"conditions": [{"type": kind, "status": status}]}})
        };
        let pod = |phase: &str| json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": phase}});
        for finished in [
            job("Complete", "True"),
            job("Failed", "True"),
            pod("Succeeded"),
            pod("Failed"),
        ] {
            assert!(is_finished(&finished), "{finished}");
        }
        let foreign = json!({"apiVersion": "example.com/v1", "kind": "Job",
            "status": {"conditions": [{"type": "Complete", "status": "True"}]}});
        for running in [
            job("Complete", "False"),
            job("Suspended", "True"),
            pod("Running"),
            json!({"apiVersion": "batch/v1", "kind": "Job", "status": "x"}),
            foreign,
            json!(null),
        ] {
            assert!(!is_finished(&running), "{running}");
        }
    }

    #[test]
    fn a_pod_that_is_not_scheduled_fails_by_time_alone() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "1970-01-01T00:01:00Z"},
            "status": {"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"},
            ]},
        });
        let mut previous = None;
        for second in [60, 65, 74] {
            let now = Timestamp(second * 1000);
            let left = changes_in(&pod, now).expect("it changes");
            assert_eq!(assess(&pod, now).state, State::InProgress);
            assert_eq!(
                assess(&pod, now + left - Duration::from_millis(1)).state,
                State::InProgress
            );
            assert_eq!(assess(&pod, now + left).state, State::Failed);
            assert!(previous.is_none_or(|previous| left < previous));
            previous = Some(left);
        }
        assert_eq!(changes_in(&pod, Timestamp(75_000)), None);
        let mut scheduled = pod.clone();
        scheduled["status"]["conditions"][0]["status"] = json!("True");
        assert_eq!(changes_in(&scheduled, Timestamp(60_000)), None);
        assert_eq!(changes_in(&json!({"kind": "Deployment"}), Timestamp(0)), None);
    }
}
