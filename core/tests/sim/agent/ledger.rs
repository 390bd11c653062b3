//! An agent's memory: what is durable, and what it knows beyond that. A crash goes back to what is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{
    apply::inventory::Record,
    clock::Timestamp,
    desired::{
        Held,
        acceptance::{Known, is_releasable},
    },
    digest::Digest,
    id::UnitId,
    unit::{Entry, event::Accepted, record::UnitRecord, root},
};

use crate::git::Key;

/// A unit's entry, its objects, and what its loop remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) offered: Option<Accepted>,
    pub(crate) enforced: Option<Arc<Entry>>,
    pub(crate) items: BTreeMap<Key, Arc<Record>>,
    pub(crate) record: Option<UnitRecord>,
    /// The accepted history does not name it.
    pub(crate) is_unknown: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) held: Held,
    pub(crate) units: BTreeMap<UnitId, Stored>,
    pub(crate) contents: BTreeSet<Digest>,
}

#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) durable: Memory,
    pub(crate) live: Memory,
}

impl Default for Ledger {
    fn default() -> Self {
        let nothing = Memory {
            held: Held::NOTHING,
            units: BTreeMap::new(),
            contents: BTreeSet::new(),
        };
        Self {
            durable: nothing.clone(),
            live: nothing,
        }
    }
}

/// An entry as it came.
pub(crate) fn accepted(bytes: &[u8], at: Timestamp) -> Accepted {
    Accepted {
        entry: Arc::new(Entry::from_bytes(bytes).expect("an entry")),
        bytes: bytes.into(),
        digest: Entry::digest_of(bytes),
        at,
    }
}

impl Memory {
    pub(crate) fn known_units(&self) -> BTreeMap<UnitId, Known> {
        let known = |unit: &Stored| {
            let offered = unit.offered.as_ref()?;
            Some(Known {
                digest: offered.digest,
                releasable: is_releasable(Some(&offered.entry.state), !unit.items.is_empty()),
                is_unknown: unit.is_unknown,
            })
        };
        self.units
            .iter()
            .filter_map(|(id, unit)| Some((*id, known(unit)?)))
            .collect()
    }

    /// Tells whether the entries that are here are those of the accepted state.
    pub(crate) fn is_whole(&self) -> bool {
        let named = self.units.iter().filter(|(_, unit)| !unit.is_unknown);
        let entries = named.filter_map(|(id, unit)| Some((*id, unit.offered.as_ref()?.digest)));
        self.held.root == Some(root(entries))
    }

    pub(crate) fn has(&self, content: Option<Digest>) -> bool {
        content.is_none_or(|content| self.contents.contains(&content))
    }

    pub(crate) fn item(&self, unit: UnitId, key: &Key) -> Option<Arc<Record>> {
        self.units.get(&unit)?.items.get(key).cloned()
    }

    /// Notes an object of a unit that is still here; `None` drops it.
    pub(crate) fn put(&mut self, unit: UnitId, key: &Key, record: Option<Arc<Record>>) {
        if let Some(unit) = self.units.get_mut(&unit) {
            match record {
                Some(record) => unit.items.insert(key.clone(), record),
                None => unit.items.remove(key),
            };
        }
    }

    /// Drops contents that no entry names.
    fn collect(&mut self) {
        let entries = self.units.values().flat_map(|unit| {
            let offered = unit.offered.as_ref().map(|offered| &offered.entry);
            offered.into_iter().chain(&unit.enforced)
        });
        let named: BTreeSet<Digest> = entries.flat_map(|entry| entry.contents()).collect();
        self.contents.retain(|content| named.contains(content));
    }
}

impl Ledger {
    /// Makes durable all that is known.
    pub(crate) fn flush(&mut self) {
        self.durable.clone_from(&self.live);
    }

    pub(crate) fn compact(&mut self) {
        self.live.collect();
        self.flush();
    }

    pub(crate) fn crash(&mut self) {
        self.live.clone_from(&self.durable);
    }
}
