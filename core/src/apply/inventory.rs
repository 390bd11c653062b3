//! What a unit has in its cluster, object by object. Write-ahead: an intent stands here, durable, before the
//! object is created, so that nothing the agent made can be forgotten; the UID follows after.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{drift::Observation, policy::Policy};
use crate::{digest::Digest, object::ObjectKey};

/// A unit's objects by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inventory {
    #[serde(with = "rows")]
    records: BTreeMap<ObjectKey, Record>,
}

/// What is known of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// API version it was last written with. An attribute, not identity.
    pub api_version: String,
    /// How far it has come.
    pub state: State,
    /// It stood in the cluster without our mark when the unit first met it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The live object's UID, once known. A live object with another UID is not the one we wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Digest of the evaluated object last sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Digest>,
    /// Digest of the response at the paths of our `managedFields` entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Digest>,
    /// Digest of an observation that looked like drift and was found to be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Digest>,
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
    pub left: Option<Left>,
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
    pub api_version: String,
    /// Digest of the evaluated object sent.
    pub sent: Digest,
    /// The switches of the object sent.
    pub policy: Policy,
    /// UID and projection of the response.
    pub response: Observation,
}

impl Inventory {
    /// The record of an object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Record> {
        self.records.get(key)
    }

    /// All records, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Record)> {
        self.records.iter()
    }

    /// How many objects it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Tells whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Notes that an object is about to be created or adopted; must be durable before the write. An object
    /// known already keeps what is known of it.
    pub fn intend(&mut self, key: ObjectKey, api_version: &str, adopted: bool) {
        let record = self.records.entry(key).or_insert_with(|| Record {
            api_version: api_version.to_owned(),
            state: State::Intent,
            adopted,
            ..Record::default()
        });
        if record.state != State::Applied {
            record.state = State::Intent;
            record.left = None;
        }
    }

    /// Notes what a write gave.
    pub fn written(&mut self, key: &ObjectKey, written: Written) {
        let adopted = self.records.get(key).is_some_and(|record| record.adopted);
        let record = Record {
            api_version: written.api_version,
            state: State::Applied,
            adopted,
            uid: written.response.uid,
            sent: Some(written.sent),
            projection: written.response.projection,
            accepted: None,
            policy: written.policy,
            finished: written.response.finished,
            left: None,
        };
        self.records.insert(key.clone(), record);
    }

    /// Notes that an object that is gone is about to be created again; must be durable before the write. Its
    /// UID belongs to an object that is no more: were the agent to stop between the write and its record, the
    /// new object would be taken for a stranger's. Returns whether anything changed.
    pub fn recreate(&mut self, key: &ObjectKey) -> bool {
        let Some(record) = self.records.get_mut(key) else {
            return false;
        };
        let forgotten = Record {
            state: State::Intent,
            uid: None,
            sent: None,
            projection: None,
            accepted: None,
            finished: false,
            left: None,
            ..record.clone()
        };
        let changed = *record != forgotten;
        *record = forgotten;
        changed
    }

    /// Notes that an object has done its work: see [`Record::finished`]. Returns whether that is new.
    pub fn finish(&mut self, key: &ObjectKey) -> bool {
        let record = self.records.get_mut(key);
        record.is_some_and(|record| !std::mem::replace(&mut record.finished, true))
    }

    /// Notes the switches of a desired object that is not written for their sake, so that drift is judged by
    /// them. Returns whether they are new.
    pub fn set_policy(&mut self, key: &ObjectKey, policy: Policy) -> bool {
        let record = self.records.get_mut(key);
        record.is_some_and(|record| std::mem::replace(&mut record.policy, policy) != policy)
    }

    /// Notes that an object is no longer desired since `left`; an object that left before keeps when it did.
    /// What was never written leaves the inventory only once it is seen to be absent, since the write may have
    /// reached the cluster.
    pub fn remove_later(&mut self, key: &ObjectKey, left: Left) {
        if let Some(record) = self.records.get_mut(key) {
            record.state = State::PendingRemoval;
            record.left.get_or_insert(left);
        }
    }

    /// Notes that an object pending removal is desired again, as it was last sent.
    pub fn keep(&mut self, key: &ObjectKey) {
        if let Some(record) = self
            .records
            .get_mut(key)
            .filter(|r| r.state == State::PendingRemoval)
        {
            record.left = None;
            record.state = if record.sent.is_some() {
                State::Applied
            } else {
                State::Intent
            };
        }
    }

    /// Notes that an observation is no drift, so that it is not asked about again.
    pub fn accept(&mut self, key: &ObjectKey, observation: &Observation) {
        if let Some(record) = self.records.get_mut(key) {
            record.accepted = Some(observation.digest());
        }
    }

    /// Forgets an object that is not in the cluster and not desired.
    pub fn forget(&mut self, key: &ObjectKey) -> Option<Record> {
        self.records.remove(key)
    }
}

impl FromIterator<(ObjectKey, Record)> for Inventory {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, Record)>>(rows: I) -> Self {
        Self {
            records: rows.into_iter().collect(),
        }
    }
}

/// As a list of rows: JSON maps take only text as keys.
mod rows {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ObjectKey, Record};

    #[derive(Serialize, Deserialize)]
    struct Row<K, R> {
        #[serde(flatten)]
        key: K,
        #[serde(flatten)]
        record: R,
    }

    pub(super) fn serialize<S: Serializer>(
        records: &BTreeMap<ObjectKey, Record>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(records.iter().map(|(key, record)| Row { key, record }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ObjectKey, Record>, D::Error> {
        let rows = Vec::<Row<ObjectKey, Record>>::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|row| (row.key, row.record)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::new("apps", "Deployment", "a", "web")
    }

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
        }
    }

    fn state(inventory: &Inventory) -> Option<State> {
        inventory.get(&key()).map(|record| record.state)
    }

    #[test]
    fn an_object_goes_from_intent_to_applied_to_pending_removal() {
        let mut inventory = Inventory::default();
        inventory.intend(key(), "apps/v1", true);
        assert_eq!(state(&inventory), Some(State::Intent));
        inventory.written(&key(), written("1"));
        let record = inventory.get(&key()).expect("a record");
        assert_eq!(
            (record.state, record.adopted, record.uid.as_deref()),
            (State::Applied, true, Some("u-1"))
        );
        inventory.remove_later(&key(), left(7));
        assert_eq!(state(&inventory), Some(State::PendingRemoval));
        inventory.remove_later(&key(), left(9));
        assert_eq!(inventory.get(&key()).and_then(|r| r.left), Some(left(7)));
        inventory.keep(&key());
        assert_eq!(state(&inventory), Some(State::Applied));
        assert_eq!(inventory.get(&key()).and_then(|r| r.left), None);
        inventory.forget(&key());
        assert!(inventory.is_empty());
    }

    #[test]
    fn an_intent_for_a_known_object_loses_nothing() {
        let mut inventory = Inventory::default();
        inventory.intend(key(), "apps/v1", false);
        inventory.written(&key(), written("1"));
        let before = inventory.clone();
        inventory.intend(key(), "apps/v1", true);
        assert_eq!(inventory, before);
    }

    #[test]
    fn an_intent_withdrawn_and_desired_again_is_an_intent() {
        let mut inventory = Inventory::default();
        inventory.intend(key(), "apps/v1", false);
        inventory.remove_later(&key(), left(1));
        inventory.keep(&key());
        assert_eq!(state(&inventory), Some(State::Intent));
    }

    #[test]
    fn an_object_created_again_has_no_uid_until_the_server_gives_one() {
        let mut inventory = Inventory::default();
        assert!(!inventory.recreate(&key()));
        inventory.intend(key(), "apps/v1", true);
        assert!(!inventory.recreate(&key()), "an intent has nothing to forget");
        inventory.written(&key(), written("1"));
        inventory.finish(&key());
        assert!(inventory.recreate(&key()));
        let intent = Record {
            api_version: "apps/v1".into(),
            adopted: true,
            ..Record::default()
        };
        assert_eq!(inventory.get(&key()), Some(&intent));
        // Withdrawn and desired again it must be written, or it never gets a UID.
        inventory.remove_later(&key(), left(2));
        inventory.keep(&key());
        assert_eq!(state(&inventory), Some(State::Intent));
    }

    #[test]
    fn what_finished_is_finished_until_it_is_written_again() {
        let mut inventory = Inventory::default();
        assert!(!inventory.finish(&key()));
        inventory.written(&key(), written("1"));
        assert!(inventory.finish(&key()));
        assert!(!inventory.finish(&key()));
        inventory.written(&key(), written("2"));
        assert!(inventory.finish(&key()));
    }

    #[test]
    fn switches_are_those_last_applied_or_set() {
        let paused = Policy {
            paused: true,
            ..Policy::default()
        };
        let mut inventory = Inventory::default();
        assert!(!inventory.set_policy(&key(), paused));
        inventory.written(&key(), written("1"));
        assert!(inventory.set_policy(&key(), paused));
        assert!(!inventory.set_policy(&key(), paused));
        assert_eq!(inventory.get(&key()).map(|r| r.policy), Some(paused));
    }

    #[test]
    fn an_inventory_reads_back() {
        let mut inventory = Inventory::default();
        inventory.intend(key(), "apps/v1", false);
        inventory.intend(ObjectKey::new("", "Namespace", "", "a"), "v1", true);
        inventory.written(&key(), written("1"));
        inventory.finish(&key());
        inventory.remove_later(&key(), left(3));
        let text = serde_json::to_string(&inventory).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Inventory>(&text).expect("readable"),
            inventory
        );
    }
}
