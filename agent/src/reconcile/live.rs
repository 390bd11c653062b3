//! What is known of live objects: for each object of a unit a record of fixed size, made from whatever showed it
//! last, an answer to a write or a watch event. The objects themselves are not kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flotilla_core::{
    apply::drift::Observation,
    health::{Health, State},
    id::UnitId,
    object::ObjectKey,
};
use tokio::sync::watch;

/// One live object.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What drift is judged by; `None` when the object does not exist.
    pub observation: Option<Observation>,
    /// Its health.
    pub health: Health,
}

/// All live objects of all units.
#[derive(Debug)]
pub struct Live {
    objects: Mutex<HashMap<UnitId, HashMap<ObjectKey, Seen>>>,
    changed: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            objects: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<UnitId, HashMap<ObjectKey, Seen>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was seen of an object.
    pub fn note(&self, unit: UnitId, key: ObjectKey, seen: Seen) {
        self.lock().entry(unit).or_default().insert(key, seen);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Forgets an object that is no longer the unit's.
    pub fn forget(&self, unit: UnitId, key: &ObjectKey) {
        if let Some(objects) = self.lock().get_mut(&unit) {
            objects.remove(key);
        }
    }

    /// Forgets a unit.
    pub fn forget_unit(&self, unit: UnitId) {
        self.lock().remove(&unit);
    }

    /// Returns what was seen of an object; `None` when nothing was yet.
    pub fn get(&self, unit: UnitId, key: &ObjectKey) -> Option<Seen> {
        self.lock().get(&unit)?.get(key).cloned()
    }

    /// Returns the health of an object.
    pub fn health(&self, unit: UnitId, key: &ObjectKey) -> Health {
        self.get(unit, key).map_or_else(unknown, |seen| seen.health)
    }

    /// Waits until all of `keys` are current. Returns those that are not when `deadline` comes, and at once when
    /// one has failed or is being deleted.
    pub async fn current(
        &self,
        unit: UnitId,
        keys: &[ObjectKey],
        deadline: tokio::time::Instant,
    ) -> Vec<(ObjectKey, Health)> {
        let mut changed = self.changed.subscribe();
        loop {
            let waiting: Vec<(ObjectKey, Health)> = keys
                .iter()
                .map(|key| (key.clone(), self.health(unit, key)))
                .filter(|(_, health)| health.state != State::Current)
                .collect();
            let is_over = |health: &Health| matches!(health.state, State::Failed | State::Terminating);
            if waiting.is_empty() || waiting.iter().any(|(_, health)| is_over(health)) {
                return waiting;
            }
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                return waiting;
            }
        }
    }
}

/// Nothing was seen yet.
pub fn unknown() -> Health {
    Health {
        state: State::Unknown,
        reason: String::new(),
        message: String::new(),
    }
}

/// Writes objects that are not ready as Flux does.
pub fn not_ready(objects: &[(ObjectKey, Health)]) -> String {
    /// More than this says nothing more.
    const NAMED: usize = 20;
    let mut named: Vec<String> = objects
        .iter()
        .take(NAMED)
        .map(|(key, health)| format!("{key} status: '{}'", health.state.as_str()))
        .collect();
    if objects.len() > NAMED {
        named.push(format!("and {} more", objects.len() - NAMED));
    }
    format!("[{}]", named.join(", "))
}
