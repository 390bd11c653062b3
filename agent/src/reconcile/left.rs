//! Which fields units leave to others, read once for each set of rules: watches and jobs ask again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use flotilla_core::{
    apply::ignore::{IgnoreRule, Rules},
    id::UnitId,
    unit::Entry,
};

/// What an app says, and how it was read.
type Known = (Vec<IgnoreRule>, Arc<Rules>);

/// The rules of units that have some.
#[derive(Debug, Default)]
pub(super) struct LeftFields(Mutex<BTreeMap<UnitId, Known>>);

impl LeftFields {
    /// The rules of an entry. Of those that cannot be read there are none: its evaluation says so, and nothing is written.
    pub(super) fn of(&self, entry: &Entry) -> Arc<Rules> {
        let rules = &entry.settings.ignore;
        if rules.is_empty() {
            return Arc::default();
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, read)) = known.get(&entry.unit)
            && of == rules
        {
            return read.clone();
        }
        let read = Arc::new(Rules::new(rules).unwrap_or_default());
        known.insert(entry.unit, (rules.clone(), read.clone()));
        read
    }

    /// Forgets a unit that is here no more.
    pub(super) fn forget(&self, unit: UnitId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&unit);
    }
}
