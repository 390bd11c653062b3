//! What of the ledger is needed and what is garbage, counted as records come: content manifests are parsed when an
//! entry begins or ends to name them, never to find out how large the ledger is.

use std::collections::{BTreeMap, HashMap, HashSet};

use flotilla_core::{digest::Digest, id::UnitId, unit::VariableLayer};

use super::{Blob, Held, Kept, Record, State, Unit, Usage};
use crate::ledger::{
    items,
    record::{self, BLOB_OVERHEAD, UNIT_OVERHEAD},
};

/// Bytes of the record of what is held, and more.
const HELD_SIZE: usize = 256;

/// Counts of references, and the bytes that they keep.
#[derive(Debug, Default, Clone)]
pub(super) struct References {
    /// The most that a compacted ledger has, without what it always has.
    pub(super) live: usize,
    /// How many entries name a content.
    contents: BTreeMap<Digest, u32>,
    /// How often each digest is referred to that is not here.
    absent: HashMap<Digest, u32>,
    /// Blobs that came since the last desired state was complete and that no entry names yet. They are kept: an
    /// acceptance stores contents before the entries that need them, and may be broken off in between.
    unclaimed: HashSet<Digest>,
}

/// A reference comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    More,
    Less,
}

impl Change {
    fn of(self, count: u32) -> u32 {
        match self {
            Self::More => count.saturating_add(1),
            Self::Less => count.saturating_sub(1),
        }
    }
}

fn blob_size(blob: &Blob) -> usize {
    blob.zstd.len() + BLOB_OVERHEAD
}

fn entry_size(kept: &Kept) -> usize {
    kept.bytes.len() + UNIT_OVERHEAD
}

impl State {
    /// Returns the most bytes that a compacted ledger has.
    pub fn live_size(&self) -> usize {
        self.references.live + self.units.len() * UNIT_OVERHEAD + HELD_SIZE
    }

    pub(super) fn hold(&mut self, held: Held) {
        let same = (held.incarnation, held.generation) == (self.held.incarnation, self.held.generation);
        self.held = held;
        if !same {
            for digest in std::mem::take(&mut self.references.unclaimed) {
                self.references.live -= self.blobs.get(&digest).map_or(0, blob_size);
            }
        }
    }

    pub(super) fn insert_blob(&mut self, digest: Digest, mut blob: Blob) {
        // The same digest means the same bytes.
        if let Some(here) = self.blobs.get(&digest) {
            if here.refs == 0 && self.references.unclaimed.insert(digest) {
                self.references.live += blob_size(here);
            }
            return;
        }
        blob.refs = self.references.absent.remove(&digest).unwrap_or(0);
        if blob.refs == 0 {
            self.references.unclaimed.insert(digest);
        }
        self.references.live += blob_size(&blob);
        self.blobs.insert(digest, blob);
        if self.references.contents.contains_key(&digest) {
            self.refer_objects(&digest, Change::More);
        }
    }

    pub(super) fn grow_entry(&mut self, kept: &Kept) {
        self.references.live += entry_size(kept);
    }

    pub(super) fn shrink_entry(&mut self, kept: &Kept) {
        self.references.live -= entry_size(kept);
    }

    /// Takes out what a unit held that is no longer here.
    pub(super) fn release(&mut self, unit: Unit) {
        let items = unit.items.iter().map(|(key, record)| items::size(key, record));
        let record = unit
            .record
            .as_ref()
            .map_or(0, |record| record.len() + UNIT_OVERHEAD);
        self.references.live -= items.sum::<usize>() + record;
        for (key, before) in &unit.items {
            self.usage.replace(key, Some(before), None);
        }
        for kept in [unit.offered, unit.enforced].into_iter().flatten() {
            self.shrink_entry(&kept);
            self.refer_entry(&kept, Change::Less);
        }
    }

    /// Counts what an entry names.
    pub(super) fn refer_entry(&mut self, kept: &Kept, change: Change) {
        let Some(entry) = &kept.entry else {
            return;
        };
        for layer in &entry.variables {
            if let VariableLayer::Config { digest, .. } = layer {
                self.refer(*digest, change);
            }
        }
        let Some(digest) = entry.content else {
            return;
        };
        self.refer(digest, change);
        let before = self.references.contents.get(&digest).copied().unwrap_or(0);
        match change.of(before) {
            0 => self.references.contents.remove(&digest),
            count => self.references.contents.insert(digest, count),
        };
        if before == 0 || change.of(before) == 0 {
            self.refer_objects(&digest, change);
        }
    }

    fn refer_objects(&mut self, content: &Digest, change: Change) {
        if let Some(content) = self.content(content) {
            for object in content.objects() {
                self.refer(object.digest, change);
            }
        }
    }

    fn refer(&mut self, digest: Digest, change: Change) {
        let Some(blob) = self.blobs.get_mut(&digest) else {
            let count = self.references.absent.entry(digest).or_default();
            *count = change.of(*count);
            if *count == 0 {
                self.references.absent.remove(&digest);
            }
            return;
        };
        let before = blob.refs;
        blob.refs = change.of(before);
        let (now, size) = (blob.refs, blob_size(blob));
        if before == 0 && now > 0 && !self.references.unclaimed.remove(&digest) {
            self.references.live += size;
        }
        if before > 0 && now == 0 {
            self.references.live -= size;
        }
    }

    fn is_garbage(&self, digest: &Digest, blob: &Blob) -> bool {
        blob.refs == 0 && !self.references.unclaimed.contains(digest)
    }

    /// Returns the blobs that nothing needs.
    pub(in crate::ledger) fn garbage(&self) -> HashSet<Digest> {
        let garbage = self
            .blobs
            .iter()
            .filter(|(digest, blob)| self.is_garbage(digest, blob));
        garbage.map(|(digest, _)| *digest).collect()
    }

    /// Returns the blobs that nothing needs once `records` are taken in.
    pub(in crate::ledger) fn garbage_after(&self, records: &[Record]) -> HashSet<Digest> {
        if records
            .iter()
            .all(|record| matches!(record, Record::Item { .. } | Record::Dropped { .. }))
        {
            return self.garbage();
        }
        // Without the objects of units, which are most of what is held and name no blobs.
        let units = self.units.iter().map(|(id, unit)| {
            let bare = Unit {
                offered: unit.offered.clone(),
                enforced: unit.enforced.clone(),
                ..Unit::default()
            };
            (*id, bare)
        });
        let mut after = State {
            held: self.held,
            units: units.collect(),
            blobs: self.blobs.clone(),
            kinds: BTreeMap::new(),
            references: self.references.clone(),
            usage: Usage::default(),
        };
        records.iter().cloned().for_each(|record| after.apply(record));
        after.garbage()
    }

    /// Gives up blobs that no entry names yet, all but those of `records`. They can be fetched again.
    pub(in crate::ledger) fn disown(&mut self, records: &[Record]) {
        let named = records.iter().filter_map(|record| match record {
            Record::Blob(digest, _) => Some(*digest),
            _ => None,
        });
        let named: HashSet<Digest> = named.collect();
        let unclaimed = &mut self.references.unclaimed;
        for digest in unclaimed.extract_if(|digest| !named.contains(digest)) {
            self.references.live -= self.blobs.get(&digest).map_or(0, blob_size);
        }
    }

    /// Drops blobs that storage no longer has, and returns those that are needed after all.
    pub(in crate::ledger) fn forget(&mut self, dropped: &HashSet<Digest>) -> Vec<Record> {
        let mut needed = Vec::new();
        for digest in dropped {
            let Some(blob) = self.blobs.get(digest) else {
                continue;
            };
            if self.is_garbage(digest, blob) {
                self.blobs.remove(digest);
            } else {
                needed.push(Record::Blob(*digest, blob.clone()));
            }
        }
        needed
    }

    /// Writes the records that say all, without these blobs.
    pub(in crate::ledger) fn encode(&self, garbage: &HashSet<Digest>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.live_size());
        let blobs = |claimed: bool| {
            self.blobs
                .iter()
                .filter(move |(digest, blob)| (blob.refs > 0) == claimed && !garbage.contains(*digest))
                .map(|(digest, blob)| Record::Blob(*digest, blob.clone()))
        };
        for blob in blobs(true) {
            record::encode(&[blob], &mut out);
        }
        for ((group, kind), namespaced) in &self.kinds {
            let kind = Record::Kind {
                group: group.clone(),
                kind: kind.clone(),
                namespaced: *namespaced,
            };
            record::encode(&[kind], &mut out);
        }
        for (id, unit) in &self.units {
            record::encode(&unit.facts(*id), &mut out);
            let rows = unit.items.iter().map(|(key, record)| (&**key, Some(&**record)));
            record::encode_rows(*id, rows, &mut out);
        }
        record::encode(&[Record::Held(self.held)], &mut out);
        // After what is held, as they came.
        for blob in blobs(false) {
            record::encode(&[blob], &mut out);
        }
        out
    }
}

impl Unit {
    /// Returns the records of a unit without its objects.
    fn facts(&self, id: UnitId) -> Vec<Record> {
        let offered = self.offered.iter().map(|kept| Record::Offered {
            unit: id,
            entry: kept.bytes.to_vec(),
            at: kept.at,
        });
        let enforced = self.enforced.iter().map(|kept| Record::Enforced {
            unit: id,
            entry: kept.bytes.to_vec(),
        });
        let record = self.record.iter().map(|state| Record::Unit {
            unit: id,
            state: state.to_vec(),
        });
        offered.chain(enforced).chain(record).collect()
    }
}
