//! What a unit has in its cluster, object by object. Write-ahead: an intent stands here, durable, before the
//! object is created, so that nothing the agent made can be forgotten; the UID follows after.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    drift::{Contests, Observation},
    policy::Policy,
};
use crate::{digest::Digest, id::Uid};

/// What is known of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// API version it was last written with. An attribute, not identity.
    pub api_version: SmolStr,
    /// How far it has come.
    pub state: State,
    /// It stood in the cluster without our mark when the unit first met it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The live object's UID, once known. A live object with another UID is not the one we wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Digest of the evaluated object last sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Digest>,
    /// Digest of the response at the paths of our `managedFields` entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Digest>,
    /// Digest of an observation that looked like drift and was found to be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Box<Digest>>,
    /// The object's switches as last applied, or as last desired where they keep it from being written. Needed
    /// once the manifest is gone.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policy: Policy,
    /// A Job that was seen complete or failed, or a Pod that was seen succeeded or failed. When it vanishes it
    /// is done, until other content is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// When it left the desired state; only of an object pending removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Box<Left>>,
    /// The object with this UID is deleted so that it can be made anew, since a field of it cannot be changed. Durable before
    /// the deletion: whoever begins again after a crash knows which object it was, and that another one may be in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
    /// Paths that others change back each time: a restart must not begin to fight for them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Box<Contests>>,
}

/// The unit's state in which an object was desired no more. A permission to remove names a version, so that it
/// never covers an object that left later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Version of the unit.
    pub version: u64,
    /// Content of the unit at that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// How many written objects the unit had just before: what of them may leave at once is a share of these, and not of
    /// what has come since. `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub had: Option<u32>,
}

/// How far an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// To be written; may or may not be in the cluster.
    #[default]
    Intent,
    /// Written as `sent` says.
    Applied,
    /// No longer desired, still in the cluster.
    PendingRemoval,
}

/// What the API server answered to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// API version it was written with.
    pub api_version: SmolStr,
    /// Digest of the evaluated object sent.
    pub sent: Digest,
    /// The switches of the object sent.
    pub policy: Policy,
    /// UID and projection of the response.
    pub response: Observation,
}

impl Record {
    /// Begins with an object that is about to be created or adopted; must be durable before the write.
    pub fn intent(api_version: &str, adopted: bool, policy: Policy) -> Self {
        Self {
            api_version: api_version.into(),
            adopted,
            policy,
            ..Self::default()
        }
    }

    /// Notes that an object that had left is about to be written again. What is known of it is kept.
    pub fn intend(&mut self) {
        if self.state != State::Applied {
            self.state = State::Intent;
            self.left = None;
        }
    }

    /// What a write gave. `known` is what was known before.
    pub fn written(known: Option<&Self>, written: Written) -> Self {
        Self {
            api_version: written.api_version,
            state: State::Applied,
            adopted: known.is_some_and(|record| record.adopted),
            uid: written.response.uid,
            sent: Some(written.sent),
            projection: written.response.projection,
            accepted: None,
            policy: written.policy,
            finished: written.response.finished,
            left: None,
            replaced: false,
            contested: known.and_then(|record| record.contested.clone()),
        }
    }

    /// Notes that this object is about to be deleted and made anew; must be durable before the deletion. Returns whether
    /// anything changed.
    pub fn replace(&mut self) -> bool {
        let is_news = !self.replaced || self.projection.is_some() || self.accepted.is_some();
        self.projection = None;
        self.accepted = None;
        // Its work is to be done anew.
        self.finished = false;
        self.replaced = true;
        is_news
    }

    /// Notes which object is there.
    pub fn found(&mut self, uid: Option<Uid>) {
        self.uid = uid;
        self.replaced = false;
    }

    /// The UID that the live object has to have, unless somebody has put another one in its place; `None`: not known, as
    /// where it was about to be made anew.
    pub fn standing_uid(&self) -> Option<&Uid> {
        self.uid.as_ref().filter(|_| !self.replaced)
    }

    /// Notes that an object that is gone is about to be created again; must be durable before the write. Its UID
    /// belongs to an object that is no more: were the agent to stop between the write and its record, the new object
    /// would be taken for a stranger's. Returns whether anything changed.
    pub fn recreate(&mut self) -> bool {
        let is_news = self.uid.is_some() || self.projection.is_some() || self.accepted.is_some();
        self.uid = None;
        self.replaced = false;
        self.projection = None;
        self.accepted = None;
        is_news
    }

    /// Notes that the object has done its work: see [`Record::finished`]. Returns whether that is new.
    pub fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.finished, true)
    }

    /// Notes the switches of a desired object that is not written for their sake, so that drift is judged by them.
    /// Returns whether they are new.
    pub fn set_policy(&mut self, policy: Policy) -> bool {
        std::mem::replace(&mut self.policy, policy) != policy
    }

    /// Notes that the object is no longer desired since `left`; one that left before keeps when it did. What was never
    /// written leaves the inventory only once it is seen to be absent, since the write may have reached the cluster.
    /// Returns whether that is new.
    pub fn leave(&mut self, left: Left) -> bool {
        let is_news = self.left.is_none();
        self.state = State::PendingRemoval;
        // A later version is one of a history that the hub has lost.
        if self
            .left
            .as_ref()
            .is_none_or(|known| known.version > left.version)
        {
            self.left = Some(Box::new(left));
        }
        is_news
    }

    /// Notes that an object pending removal is desired again, as it was last sent. Returns whether that is new.
    pub fn keep(&mut self) -> bool {
        if self.state != State::PendingRemoval {
            return false;
        }
        self.left = None;
        self.state = match self.sent {
            Some(_) => State::Applied,
            None => State::Intent,
        };
        true
    }

    /// Notes that an observation is no drift, so that it is not asked about again.
    pub fn accept(&mut self, observation: &Observation) {
        self.accepted = Some(Box::new(observation.digest()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sent: &str) -> Written {
        Written {
            api_version: "apps/v1".into(),
            sent: Digest::of("test", sent.as_bytes()),
            policy: Policy::default(),
            response: Observation {
                uid: Some("u-1".into()),
                ..Observation::default()
            },
        }
    }

    fn left(version: u64) -> Left {
        Left {
            version,
            content: Some(Digest::of("test", b"content")),
            had: None,
        }
    }

    #[test]
    fn an_object_goes_from_intent_to_applied_to_pending_removal() {
        let intent = Record::intent("apps/v1", true, Policy::default());
        assert_eq!(intent.state, State::Intent);
        let mut record = Record::written(Some(&intent), written("1"));
        assert_eq!(
            (record.state, record.adopted, record.uid.clone()),
            (State::Applied, true, Some("u-1".into()))
        );
        assert!(record.leave(left(7)));
        assert!(!record.leave(left(9)), "it keeps when it left first");
        assert_eq!(
            (record.state, record.left.as_deref()),
            (State::PendingRemoval, Some(&left(7)))
        );
        assert!(record.keep() && !record.keep());
        assert_eq!((record.state, record.left.as_deref()), (State::Applied, None));
    }

    #[test]
    fn an_intent_for_a_known_object_loses_nothing() {
        let mut record = Record::written(None, written("1"));
        let before = record.clone();
        record.intend();
        assert_eq!(record, before);
    }

    #[test]
    fn an_intent_withdrawn_and_desired_again_is_an_intent() {
        let mut record = Record::intent("apps/v1", false, Policy::default());
        record.leave(left(1));
        record.keep();
        assert_eq!(record.state, State::Intent);
        record.leave(left(2));
        record.intend();
        assert_eq!((record.state, record.left.as_deref()), (State::Intent, None));
    }

    #[test]
    fn an_object_created_again_has_no_uid_until_the_server_gives_one() {
        let mut record = Record::written(None, written("1"));
        assert!(record.recreate() && !record.recreate());
        assert_eq!((record.uid.clone(), record.sent), (None, Some(written("1").sent)));
    }

    #[test]
    fn an_object_that_is_made_anew_is_known_by_its_uid_until_it_is() {
        let mut record = Record::written(None, written("1"));
        assert!(record.replace() && !record.replace());
        assert_eq!(
            (record.uid.clone(), record.standing_uid()),
            (Some(Uid::from("u-1")), None)
        );
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("readable"), record);
        let mut anew = written("2");
        anew.response.uid = Some("u-2".into());
        let anew = Record::written(Some(&record), anew);
        assert_eq!(anew.standing_uid(), Some(&Uid::from("u-2")));
        record.found(Some("u-3".into()));
        assert_eq!(record.standing_uid(), Some(&Uid::from("u-3")));
    }

    #[test]
    fn work_and_switches_are_news_once() {
        let mut record = Record::written(None, written("1"));
        assert!(record.finish() && !record.finish());
        let paused = Policy {
            paused: true,
            ..Policy::default()
        };
        assert!(record.set_policy(paused) && !record.set_policy(paused));
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("readable"), record);
        let other = Record::written(Some(&record), written("2"));
        assert!(!other.finished, "other content is other work");
    }
}
