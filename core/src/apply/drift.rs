//! Whether a live object still is what was written.
//!
//! An event is judged by digests alone, so that the agent need not keep objects. A suspicion is confirmed by
//! one dry-run, attributed to the manager that made it, and corrected at once unless it is contested.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    MANAGER, UNIT_LABEL, fields,
    ignore::{self, Pointer},
    inventory::{Record, State},
    managers,
    policy::{Decision, Policy},
};
use crate::{digest::Digest, health::is_finished, id::Uid};

mod confirm;
mod corrections;

pub use confirm::{Drift, MAX_PATHS, confirm, is_applied_since};
pub use corrections::{CONTESTED_AFTER, CONTESTED_WITHIN, Contests, Corrections, Verdict};

/// What is kept of a live object to judge it: fixed in size but for a few manager names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// Its UID.
    pub uid: Option<Uid>,
    /// The unit that its mark names.
    pub mark: Option<Uid>,
    /// Its own switches: a person may pause a single object in place.
    pub policy: Policy,
    /// It is being deleted.
    pub deleting: bool,
    /// It is a Job or a Pod that has done its work.
    pub finished: bool,
    /// Its values at the paths of our `managedFields` entry; `None` when we have no entry.
    pub projection: Option<Digest>,
    /// Other appliers that have an entry and should have none where the object's switches fold them.
    pub folded: Box<[String]>,
}

/// What a look at a live object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// As written.
    InSync,
    /// Not judged: nothing of it is known to be written yet, or it is on its way out, by us or by somebody else.
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
    observe_but(live, key, &[])
}

/// Observes a live object but for these fields, which are left to others.
pub fn observe_but(live: &Value, key: &[u8; 32], left: &[Pointer]) -> Observation {
    let metadata = &live["metadata"];
    let mut folded: Vec<String> = fields::entries(metadata)
        .iter()
        .filter(|entry| managers::is_folded(entry))
        .filter_map(|entry| entry["manager"].as_str())
        .map(str::to_owned)
        .collect();
    folded.sort_unstable();
    folded.dedup();
    let uid = |value: &Value| value.as_str().map(Uid::from);
    Observation {
        uid: uid(&metadata["uid"]),
        mark: uid(&metadata["labels"][UNIT_LABEL]),
        policy: Policy::of(metadata),
        deleting: metadata["deletionTimestamp"].is_string(),
        finished: is_finished(live),
        projection: fields::entry(metadata, MANAGER, "Apply").map(|entry| match left {
            [] => fields::projection(&entry["fieldsV1"], live, key),
            left => fields::projection(&ignore::without(&entry["fieldsV1"], live, left), live, key),
        }),
        folded: folded.into(),
    }
}

impl Observation {
    /// Names this observation, so that one found harmless is recognised. Covers what drift is judged by and no
    /// more: a status update gives no other.
    pub fn digest(&self) -> Digest {
        let Self {
            finished: _,
            uid,
            mark,
            policy,
            deleting,
            projection,
            folded,
        } = self;
        Digest::of_json("observation", &(uid, mark, policy, deleting, projection, folded))
    }
}

/// Compares what is live with what was written. `live` is `None` when the object does not exist. Where a check
/// would leave the object alone for its switches there is no suspicion.
///
/// Whose mark the object bears does not enter: see [`super::ownership::owner`].
pub fn judge(record: &Record, live: Option<&Observation>) -> Judgement {
    if record.state != State::Applied {
        return Judgement::NotJudged;
    }
    let Decision::Apply { fold } = record.policy.decide(live.map(|live| live.policy)) else {
        return Judgement::InSync;
    };
    match live {
        None if record.finished => Judgement::InSync,
        None => Judgement::Suspicious(Suspicion::Gone),
        Some(live) if live.deleting => Judgement::NotJudged,
        Some(live)
            if record
                .accepted
                .as_deref()
                .is_some_and(|accepted| *accepted == live.digest()) =>
        {
            Judgement::InSync
        }
        Some(live) => suspicion(record, live, fold).map_or(Judgement::InSync, Judgement::Suspicious),
    }
}

/// Tells whether a live object is as we left it, so that it may be written without another look: nobody else's
/// entry is to be folded, no switch of its own holds us off, it is not being deleted, and its mark is `unit`'s.
/// `desired` holds the switches of the object to be written.
pub fn is_untouched(record: &Record, live: &Observation, desired: Policy, unit: &str) -> bool {
    let decision = desired.decide(Some(live.policy));
    let folds = !live.folded.is_empty() && decision == Decision::Apply { fold: true };
    record.state == State::Applied
        && matches!(decision, Decision::Apply { .. })
        && !folds
        && !live.deleting
        && live.mark.as_ref().is_some_and(|mark| mark.is(unit))
        && live.uid == record.uid
        && live.projection == record.projection
}

fn suspicion(record: &Record, live: &Observation, fold: bool) -> Option<Suspicion> {
    if let (Some(expected), Some(found)) = (record.standing_uid(), &live.uid)
        && expected != found
    {
        return Some(Suspicion::Replaced {
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }
    if let Some(manager) = live.folded.first().filter(|_| fold) {
        return Some(Suspicion::Applied(manager.clone()));
    }
    if live.projection.is_none() && record.projection.is_some() {
        return Some(Suspicion::Disowned);
    }
    (live.projection != record.projection).then_some(Suspicion::Fields)
}

#[cfg(test)]
mod tests;
