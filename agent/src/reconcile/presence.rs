//! What lists have shown to be there, for as long as a unit's pass goes on: most objects of a first apply are not, and
//! all its batches learn that from one list of a kind.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_core::id::UnitId;
use tokio::time::Instant;

use crate::cluster::Resource;

/// What was not there so long ago may have been made by others since.
const AGE: Duration = Duration::from_secs(300);

/// A kind, and the namespace that was listed; empty for the whole cluster.
type Scope = (Resource, String);

/// Names of objects in 8 bytes each: two that look alike cost a look more, and no object is taken for absent that was
/// there.
#[derive(Default)]
pub(super) struct Presence {
    hasher: RandomState,
    units: Mutex<BTreeMap<UnitId, BTreeMap<Scope, List>>>,
}

/// What became of a list.
struct List {
    at: Instant,
    /// Whether it came to its end.
    complete: bool,
    there: HashSet<u64>,
}

impl List {
    fn is_shown(&self) -> bool {
        self.complete && self.at.elapsed() < AGE
    }
}

impl Presence {
    /// Notes a list. One that did not come to its end is not tried again in the same pass.
    pub(super) fn note(
        &self,
        unit: UnitId,
        resource: &Resource,
        namespace: &str,
        there: Option<HashSet<u64>>,
    ) {
        let list = List {
            at: Instant::now(),
            complete: there.is_some(),
            there: there.unwrap_or_default(),
        };
        let scope = (resource.clone(), namespace.to_owned());
        let mut units = self.lock();
        let lists = units.entry(unit).or_default();
        // What an earlier one has shown stands.
        let is_better = |known: &List| known.is_shown() && !list.complete;
        if !lists.get(&scope).is_some_and(is_better) {
            lists.insert(scope, list);
        }
    }

    /// Tells whether an object was there; `None`: no list has shown it.
    pub(super) fn of(&self, unit: UnitId, resource: &Resource, namespace: &str, name: &str) -> Option<bool> {
        let units = self.lock();
        let lists = units.get(&unit)?;
        let object = self.name(namespace, name);
        let shown = [namespace, ""].into_iter().find_map(|listed| {
            let list = lists.get(&(resource.clone(), listed.to_owned()))?;
            list.is_shown().then_some(list)
        })?;
        Some(shown.there.contains(&object))
    }

    /// Tells whether a list is worth a try: none has failed to come to its end lately.
    pub(super) fn may_list(&self, unit: UnitId, resource: &Resource, namespace: &str) -> bool {
        let units = self.lock();
        let list = units
            .get(&unit)
            .and_then(|lists| lists.get(&(resource.clone(), namespace.to_owned())));
        list.is_none_or(|list| list.complete || list.at.elapsed() >= AGE)
    }

    /// An object as the lists note it.
    pub(super) fn name(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// Forgets what was shown for a unit: its pass is over, or waits.
    pub(super) fn forget(&self, unit: UnitId) {
        self.lock().remove(&unit);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<UnitId, BTreeMap<Scope, List>>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
