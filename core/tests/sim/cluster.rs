//! A cluster's API server: objects with UIDs and versions, marks, switches and finalizers; whoever writes them; and
//! what watches are told.

use std::collections::BTreeMap;

use flotilla_core::{
    apply::{
        UNIT_LABEL,
        drift::Observation,
        policy::{Decision, Policy},
        removal,
    },
    digest::Digest,
    health::{Health, State as HealthState},
    unit::object::Observed,
};
use serde_json::{Value, json};

use super::git::{Body, Key};

/// A live object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Live {
    pub(crate) value: u32,
    pub(crate) policy: Policy,
    pub(crate) uid: String,
    pub(crate) version: u64,
    /// The unit that its label names.
    pub(crate) mark: Option<String>,
    pub(crate) deleting: bool,
    /// Something holds its deletion up.
    pub(crate) held: bool,
    /// Somebody else has written it since a unit did.
    pub(crate) touched: bool,
}

/// What a watch is told of an object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) mark: Option<String>,
    pub(crate) observed: Observed,
}

/// Why the server has not done what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is another, or another version.
    Conflict,
    /// It is not there.
    NotFound,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) objects: BTreeMap<Key, Live>,
    pub(crate) version: u64,
    /// UIDs are never given twice, also when the store was put back.
    uids: u64,
    /// What happened and no watch was told of yet.
    pub(crate) changes: Vec<Change>,
}

impl Live {
    /// As the server shows its metadata.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({"uid": self.uid, "resourceVersion": self.version.to_string()});
        if let Some(mark) = &self.mark {
            metadata["labels"][UNIT_LABEL] = mark.as_str().into();
        }
        if self.policy.keep {
            metadata["annotations"]["kustomize.toolkit.fluxcd.io/prune"] = "disabled".into();
        }
        if self.policy.paused {
            metadata["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] = "disabled".into();
        }
        if self.deleting {
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if self.held {
            metadata["finalizers"] = json!(["example.com/hold"]);
        }
        metadata
    }

    /// As a removal looks at it.
    pub(crate) fn look(&self) -> removal::Live {
        removal::Live::of(&self.metadata())
    }

    pub(crate) fn observation(&self) -> Observation {
        Observation {
            uid: Some(self.uid.as_str().into()),
            mark: self.mark.as_deref().map(Into::into),
            policy: self.policy,
            deleting: self.deleting,
            projection: Some(Digest::of_json("projection", &(self.value, &self.mark))),
            ..Observation::default()
        }
    }

    pub(crate) fn observed(&self) -> Observed {
        Observed {
            observation: Some(self.observation()),
            health: Health {
                state: match self.deleting {
                    true => HealthState::Terminating,
                    false => HealthState::Current,
                },
                reason: "".into(),
                message: "".into(),
            },
            version: Some(self.version),
            again: None,
        }
    }
}

/// What is known of an object that is not there.
pub(crate) fn gone(version: Option<u64>) -> Observed {
    Observed {
        observation: None,
        health: Health::not_found(),
        version,
        again: None,
    }
}

impl Cluster {
    pub(crate) fn get(&self, key: &Key) -> Option<&Live> {
        self.objects.get(key)
    }

    /// Tells the watch. One that selects by the label is told of an object without as of one that is gone.
    fn tell(&mut self, key: &Key, mark: Option<String>) {
        let shown = self.objects.get(key).filter(|live| live.mark.is_some());
        let observed = shown.map_or_else(|| gone(Some(self.version)), Live::observed);
        self.changes.push(Change {
            key: key.clone(),
            mark,
            observed,
        });
    }

    /// Server-side apply of a unit. `of`: only that object in that version.
    pub(crate) fn apply(
        &mut self,
        key: &Key,
        body: &Body,
        unit: &str,
        of: Option<(&str, u64)>,
    ) -> Result<Live, Refused> {
        let known = self.objects.get(key);
        if let Some((uid, version)) = of
            && known.is_none_or(|live| (live.uid.as_str(), live.version) != (uid, version))
        {
            return Err(Refused::Conflict);
        }
        let next = match known {
            Some(known) => Live {
                value: body.value,
                policy: body.policy,
                mark: Some(unit.to_owned()),
                touched: false,
                ..known.clone()
            },
            None => {
                self.uids += 1;
                Live {
                    value: body.value,
                    policy: body.policy,
                    uid: format!("00000000-0000-4000-8000-{:012}", self.uids),
                    version: 0,
                    mark: Some(unit.to_owned()),
                    deleting: false,
                    held: false,
                    touched: false,
                }
            }
        };
        // What changes nothing is no write.
        if known == Some(&next) {
            return Ok(next);
        }
        Ok(self.put(key, next))
    }

    fn put(&mut self, key: &Key, mut live: Live) -> Live {
        self.version += 1;
        live.version = self.version;
        let before = self.objects.insert(key.clone(), live.clone());
        let mark = live.mark.clone().or_else(|| before.and_then(|live| live.mark));
        self.tell(key, mark);
        live
    }

    /// A DELETE with preconditions. Returns whether it is gone.
    pub(crate) fn delete(&mut self, key: &Key, uid: &str, version: &str) -> Result<bool, Refused> {
        let live = self.objects.get(key).ok_or(Refused::NotFound)?;
        if live.uid != uid || live.version.to_string() != version {
            return Err(Refused::Conflict);
        }
        Ok(self.remove(key))
    }

    /// Somebody deletes an object. Returns whether it is gone.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let Some(live) = self.objects.get(key).cloned() else {
            return true;
        };
        if live.held {
            self.put(
                key,
                Live {
                    deleting: true,
                    ..live
                },
            );
            return false;
        }
        self.version += 1;
        self.objects.remove(key);
        self.tell(key, live.mark);
        true
    }

    /// Somebody else writes an object, or makes one.
    pub(crate) fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Live)) {
        let known = self.objects.get(key).cloned();
        let is_new = known.is_none();
        let mut live = known.unwrap_or_else(|| {
            self.uids += 1;
            Live {
                value: 0,
                policy: Policy::default(),
                uid: format!("00000000-0000-4000-9000-{:012}", self.uids),
                version: 0,
                mark: None,
                deleting: false,
                held: false,
                touched: true,
            }
        });
        let before = live.clone();
        change(&mut live);
        if is_new || live != before {
            live.touched = true;
            self.put(key, live);
        }
    }

    /// What holds objects up is done.
    pub(crate) fn release(&mut self, key: &Key) {
        let deleting = self.objects.get(key).is_some_and(|live| live.deleting);
        if let Some(live) = self.objects.get_mut(key) {
            live.held = false;
        }
        match deleting {
            true => drop(self.remove(key)),
            false => self.edit(key, |live| live.held = false),
        }
    }

    /// Puts the store back; UIDs and what comes after are new.
    pub(crate) fn restore(&mut self, backup: &Self) {
        self.objects.clone_from(&backup.objects);
        self.version = backup.version;
        self.changes.clear();
    }
}

/// Whether an object's switches let it be written, and how.
pub(crate) fn is_left(body: &Body, live: Option<&Live>) -> bool {
    let decision = body.policy.decide(live.map(|live| live.policy));
    matches!(decision, Decision::Skip(_))
}
