//! Drifted objects as their watches have shown them: what was just shown need not be read again. A write that rests on
//! a sighting names the UID and resourceVersion of what was seen, so that nothing is overwritten that nobody has looked
//! at.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_core::{id::UnitId, object::ObjectKey};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of memory that all sightings take at most. An object that finds no room is read.
const ROOM: usize = 4 << 20;
/// Bytes of memory that one takes at most.
const LARGEST: usize = 64 << 10;
/// Bytes of a value in a list or map beside its texts, about.
const NODE: usize = 96;

/// An object as its watch has shown it.
pub(super) struct Sighting {
    pub(super) live: Value,
    /// Its bytes.
    _room: OwnedSemaphorePermit,
}

/// The sightings of objects that are to be checked.
pub(super) struct Sightings {
    room: Arc<Semaphore>,
    kept: Mutex<HashMap<UnitId, HashMap<Arc<ObjectKey>, Sighting>>>,
}

impl Default for Sightings {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
            kept: Mutex::default(),
        }
    }
}

impl Sightings {
    /// Makes a sighting of an object, if there is room.
    pub(super) fn of(&self, live: Value) -> Option<Sighting> {
        let bytes = u32::try_from(weight(&live, LARGEST)?).ok()?;
        let room = self.room.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Sighting { live, _room: room })
    }

    /// Bytes that sightings take.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn bytes(&self) -> usize {
        ROOM - self.room.available_permits()
    }

    /// Keeps a sighting for the check of its object.
    pub(super) fn keep(&self, unit: UnitId, key: Arc<ObjectKey>, sighting: Sighting) {
        self.lock().entry(unit).or_default().insert(key, sighting);
    }

    /// Takes the sighting of an object out.
    pub(super) fn take(&self, unit: UnitId, key: &ObjectKey) -> Option<Sighting> {
        let mut kept = self.lock();
        let of_unit = kept.get_mut(&unit)?;
        let sighting = of_unit.remove(key);
        if of_unit.is_empty() {
            kept.remove(&unit);
        }
        sighting
    }

    /// Drops what was seen of those of a unit's objects that are not to be checked any more.
    pub(super) fn retain(&self, unit: UnitId, mut is_to_check: impl FnMut(&ObjectKey) -> bool) {
        let mut kept = self.lock();
        if let Some(of_unit) = kept.get_mut(&unit) {
            of_unit.retain(|key, _| is_to_check(key));
            if of_unit.is_empty() {
                kept.remove(&unit);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UnitId, HashMap<Arc<ObjectKey>, Sighting>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About as many bytes as a value takes in memory; `None`: more than `most`.
fn weight(value: &Value, most: usize) -> Option<usize> {
    let left = most.checked_sub(NODE)?;
    let left = match value {
        Value::String(text) => left.checked_sub(text.len())?,
        Value::Array(items) => items
            .iter()
            .try_fold(left, |left, item| Some(left - weight(item, left)?))?,
        Value::Object(fields) => fields.iter().try_fold(left, |left, (name, field)| {
            let left = left.checked_sub(name.len())?;
            Some(left - weight(field, left)?)
        })?,
        _ => left,
    };
    Some(most - left)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn sightings_take_no_more_than_their_room_and_give_it_back() {
        let (sightings, unit) = (Sightings::default(), UnitId(Uuid::from_u128(1)));
        let object = |bytes: usize| json!({"data": {"a": "x".repeat(bytes)}});
        assert!(sightings.of(object(LARGEST)).is_none(), "one is too large");
        let key = |n: usize| Arc::new(ObjectKey::new("", "ConfigMap", "a", &n.to_string()));
        let mut kept = 0;
        while let Some(sighting) = sightings.of(object(LARGEST / 2)) {
            sightings.keep(unit, key(kept), sighting);
            kept += 1;
        }
        assert!((100..=2 * ROOM / LARGEST).contains(&kept), "{kept}");
        let first = sightings.take(unit, &key(0)).expect("it is kept");
        assert_eq!(first.live, object(LARGEST / 2));
        assert!(sightings.take(unit, &key(0)).is_none());
        assert!(
            sightings.of(object(LARGEST / 2)).is_none(),
            "it is still in memory"
        );
        drop(first);
        assert!(
            sightings.of(object(LARGEST / 2)).is_some(),
            "what was taken makes room"
        );
        sightings.retain(unit, |_| false);
        assert_eq!(sightings.bytes(), 0);
        assert!(sightings.lock().is_empty());
    }
}
