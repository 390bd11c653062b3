//! The rows, by unit and object, and what the hub has acknowledged of each.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{digest::Digest, id::UnitId, object::ObjectKey};

use super::row::{Row, RowKey};

/// A row, and what the hub has of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: Row,
    /// The change that this row is.
    pub(super) change: u64,
    /// What the hub has acknowledged of it.
    acked: Acked,
}

/// What the hub has of a row. Most rows are as it has them: their digest is made when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Acked {
    Nothing,
    This,
    Other(Box<Digest>),
}

impl Entry {
    /// A row that takes the place of another.
    pub(super) fn new(key: &RowKey, row: Row, change: u64, before: Option<&Self>) -> Self {
        let acked = before.and_then(|before| before.acked(key));
        Self {
            row,
            change,
            acked: acked.map_or(Acked::Nothing, |digest| Acked::Other(Box::new(digest))),
        }
    }

    /// Digest of what the hub has acknowledged.
    pub(super) fn acked(&self, key: &RowKey) -> Option<Digest> {
        match &self.acked {
            Acked::Nothing => None,
            Acked::This => Some(self.row.digest(key)),
            Acked::Other(digest) => Some(**digest),
        }
    }

    /// Takes in what the hub has: the row of a change, or that of none.
    pub(super) fn acknowledge(&mut self, change: u64, digest: Option<Digest>) {
        self.acked = match digest {
            None => Acked::Nothing,
            Some(_) if change == self.change => Acked::This,
            Some(digest) => Acked::Other(Box::new(digest)),
        };
    }

    /// The hub has it as it is.
    pub(super) fn adopt(&mut self) {
        self.acked = Acked::This;
    }

    /// The hub has nothing of it.
    pub(super) fn disown(&mut self) {
        self.acked = Acked::Nothing;
    }
}

/// The rows, by unit and object.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<UnitId, OfUnit>);

#[derive(Debug, Default)]
struct OfUnit {
    own: Option<Box<Entry>>,
    /// Each boxed: a tree leaves up to half of its places empty.
    objects: BTreeMap<Arc<ObjectKey>, Box<Entry>>,
}

impl Rows {
    pub(super) fn get(&self, key: &RowKey) -> Option<&Entry> {
        match key {
            RowKey::Unit(unit) => self.0.get(unit)?.own.as_deref(),
            RowKey::Object(unit, key) => self.0.get(unit)?.objects.get(key).map(AsRef::as_ref),
        }
    }

    pub(super) fn get_mut(&mut self, key: &RowKey) -> Option<&mut Entry> {
        match key {
            RowKey::Unit(unit) => self.0.get_mut(unit)?.own.as_deref_mut(),
            RowKey::Object(unit, key) => self.0.get_mut(unit)?.objects.get_mut(key).map(AsMut::as_mut),
        }
    }

    pub(super) fn insert(&mut self, key: RowKey, entry: Entry) {
        match key {
            RowKey::Unit(unit) => self.0.entry(unit).or_default().own = Some(Box::new(entry)),
            RowKey::Object(unit, key) => {
                let of_unit = self.0.entry(unit).or_default();
                of_unit.objects.insert(key, Box::new(entry));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &RowKey) {
        match key {
            RowKey::Unit(unit) => {
                if let Some(of_unit) = self.0.get_mut(unit) {
                    of_unit.own = None;
                }
            }
            RowKey::Object(unit, key) => {
                if let Some(of_unit) = self.0.get_mut(unit) {
                    of_unit.objects.remove(key);
                }
            }
        }
    }

    /// Takes out what there is of a unit. Returns what the hub has acknowledged of it.
    pub(super) fn forget(&mut self, unit: UnitId) -> Vec<Digest> {
        let of_unit = self.0.remove(&unit).unwrap_or_default();
        let own = of_unit.own.into_iter().map(|entry| (RowKey::Unit(unit), entry));
        let objects = of_unit.objects.into_iter();
        let objects = objects.map(|(key, entry)| (RowKey::Object(unit, key), entry));
        own.chain(objects)
            .filter_map(|(key, entry)| entry.acked(&key))
            .collect()
    }

    /// Makes a change of each row of a unit as it is. Returns them.
    pub(super) fn again(&mut self, unit: UnitId, change: u64) -> Vec<RowKey> {
        let Some(of_unit) = self.0.get_mut(&unit) else {
            return Vec::new();
        };
        let mut keys = Vec::with_capacity(of_unit.objects.len() + 1);
        if let Some(own) = &mut of_unit.own {
            own.change = change;
            keys.push(RowKey::Unit(unit));
        }
        for (key, entry) in &mut of_unit.objects {
            entry.change = change;
            keys.push(RowKey::Object(unit, key.clone()));
        }
        keys
    }

    /// Goes through all, units first.
    pub(super) fn keys(&self) -> impl Iterator<Item = RowKey> {
        let units = self.0.iter().filter(|(_, of_unit)| of_unit.own.is_some());
        let objects = self.0.iter().flat_map(|(unit, of_unit)| {
            let keys = of_unit.objects.keys();
            keys.map(|key| RowKey::Object(*unit, key.clone()))
        });
        units.map(|(unit, _)| RowKey::Unit(*unit)).chain(objects)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0
            .values_mut()
            .flat_map(|of_unit| of_unit.own.iter_mut().chain(of_unit.objects.values_mut()))
            .map(AsMut::as_mut)
    }
}
