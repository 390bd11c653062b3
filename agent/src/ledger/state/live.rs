//! What of the ledger is needed and what is garbage, counted as records come. A content is parsed once, when the first
//! entry names it, and stays parsed as long as one does.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use flotilla_core::{content::Table, digest::Digest, id::UnitId};

use super::{Accepted, Blob, BlobKind, Parsed, Record, State, StoredEntry, Unit, Usage};
use crate::ledger::{
    blobs::Referred,
    items,
    record::{BLOB_OVERHEAD, UNIT_OVERHEAD},
};

/// Bytes of the record of what is held, and more.
const ACCEPTED_SIZE: usize = 256;

/// Counts of references, and the bytes that they keep.
#[derive(Debug, Default, Clone)]
pub(super) struct References {
    /// The most that a compacted ledger has, without what it always has.
    pub(super) live: usize,
    /// Contents that entries name.
    contents: BTreeMap<Digest, Named>,
    /// Blobs that came since the last desired state was complete and that no entry names yet. They are kept: an
    /// acceptance stores contents before the entries that need them, and may be broken off in between.
    unclaimed: HashSet<Digest>,
    /// Contents that the records which are about to be taken in bring or name.
    parsed: HashMap<Digest, Parsed>,
}

/// A content that entries name.
#[derive(Debug, Default, Clone)]
struct Named {
    /// How many do.
    entries: u32,
    /// Its objects; `None` when it is not here, or not readable.
    table: Option<Arc<Table>>,
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

impl References {
    /// What was needed is needed no longer.
    pub(super) fn free(&mut self, bytes: usize) {
        self.live -= bytes;
    }

    /// So many bytes take the place of others.
    pub(super) fn replace(&mut self, before: usize, after: usize) {
        self.live = self.live + after - before;
    }
}

/// Bytes of a blob's record.
pub(super) fn blob_size(stored: usize) -> usize {
    stored + BLOB_OVERHEAD
}

/// Bytes of an entry's record.
pub(super) fn entry_size_of(bytes: usize) -> usize {
    bytes + UNIT_OVERHEAD
}

fn entry_size(stored: &StoredEntry) -> usize {
    entry_size_of(stored.bytes.len())
}

impl State {
    /// Returns the most bytes that a compacted ledger has.
    pub fn live_size(&self) -> usize {
        self.references.live + self.units.len() * UNIT_OVERHEAD + ACCEPTED_SIZE
    }

    /// Bytes of blobs that no entry names yet.
    pub(super) fn unclaimed_size(&self) -> usize {
        let unclaimed = self.references.unclaimed.iter();
        unclaimed.map(|digest| self.blob_size(digest)).sum()
    }

    /// How many entries name a content.
    pub(super) fn entries_of(&self, content: &Digest) -> u32 {
        let named = self.references.contents.get(content);
        named.map_or(0, |named| named.entries)
    }

    pub(super) fn accept(&mut self, accepted: Accepted) {
        let same = (accepted.incarnation, accepted.generation)
            == (self.accepted.incarnation, self.accepted.generation);
        self.accepted = accepted;
        if !same {
            for digest in std::mem::take(&mut self.references.unclaimed) {
                self.references.live -= self.blob_size(&digest);
            }
        }
    }

    fn blob_size(&self, digest: &Digest) -> usize {
        self.blobs
            .stored(digest)
            .map_or(0, |(_, stored)| blob_size(stored))
    }

    pub(super) fn insert_blob(&mut self, digest: Digest, blob: &Blob) {
        // The same digest means the same bytes.
        if let Some((refs, stored)) = self.blobs.stored(&digest) {
            if refs == 0 && self.references.unclaimed.insert(digest) {
                self.references.live += blob_size(stored);
            }
            return;
        }
        if self.blobs.insert(digest, blob) == 0 {
            self.references.unclaimed.insert(digest);
        }
        self.references.live += self.blob_size(&digest);
        if self.references.contents.contains_key(&digest) {
            self.open_content(&digest);
        }
    }

    pub(super) fn grow_entry(&mut self, stored: &StoredEntry) {
        self.references.live += entry_size(stored);
    }

    pub(super) fn shrink_entry(&mut self, stored: &StoredEntry) {
        self.references.free(entry_size(stored));
    }

    /// Notes whether the accepted state names a unit.
    pub(super) fn set_unknown(&mut self, unit: UnitId, is_unknown: bool) {
        let Some(unit) = self.units.get_mut(&unit) else {
            return;
        };
        match (std::mem::replace(&mut unit.is_unknown, is_unknown), is_unknown) {
            (false, true) => self.references.live += UNIT_OVERHEAD,
            (true, false) => self.references.free(UNIT_OVERHEAD),
            _ => {}
        }
    }

    /// Takes out what a unit held that is no longer here.
    pub(super) fn release(&mut self, unit: Unit) {
        if unit.is_unknown {
            self.references.free(UNIT_OVERHEAD);
        }
        let items = unit.items.iter().map(|(key, record)| items::size(key, record));
        let record = unit
            .record
            .as_ref()
            .map_or(0, |record| record.len() + UNIT_OVERHEAD);
        self.references.free(items.sum::<usize>() + record);
        for (key, before) in &unit.items {
            self.usage.replace(key, Some(before), None);
        }
        for stored in [unit.offered, unit.enforced].into_iter().flatten() {
            self.shrink_entry(&stored);
            self.refer_entry(&stored, Change::Less);
        }
    }

    /// Counts what an entry names.
    pub(super) fn refer_entry(&mut self, stored: &StoredEntry, change: Change) {
        let Some(entry) = &stored.entry else {
            return;
        };
        for digest in entry.contents() {
            self.refer(digest, change);
        }
        let Some(digest) = entry.content else {
            return;
        };
        let named = self.references.contents.entry(digest).or_default();
        let before = named.entries;
        named.entries = change.of(before);
        match (before, named.entries) {
            (_, 0) => {
                if let Some(Named {
                    table: Some(table), ..
                }) = self.references.contents.remove(&digest)
                {
                    self.refer_objects(&table, Change::Less);
                }
            }
            (0, _) => self.open_content(&digest),
            _ => {}
        }
    }

    /// Parses a content that is named by now, and counts what it names.
    fn open_content(&mut self, digest: &Digest) {
        // An entry may name it before it comes, also of the same records.
        let Some(blob) = self.blobs.get(digest) else {
            return;
        };
        let ready = self.references.parsed.remove(digest);
        let parsed = ready.or_else(|| blob.parse());
        let Some(Parsed { table, is_exact }) = parsed else {
            return;
        };
        if is_exact {
            self.blobs.keep_parsed(digest, table.clone());
        }
        self.refer_objects(&table, Change::More);
        if let Some(named) = self.references.contents.get_mut(digest) {
            named.table = Some(table);
        }
    }

    /// Returns the contents that these records bring or name and that are not parsed yet.
    pub(in crate::ledger) fn unparsed(&self, records: &[Record]) -> Vec<(Digest, Blob)> {
        let mut brought = HashMap::new();
        let mut named = Vec::new();
        for record in records {
            match record {
                Record::Blob(digest, blob) if blob.kind == BlobKind::Content => {
                    brought.insert(*digest, blob);
                    named.push(*digest);
                }
                Record::Offered { entry, .. } | Record::Enforced { entry, .. } => {
                    named.extend(entry.entry().and_then(|entry| entry.content));
                }
                _ => {}
            }
        }
        named.retain(|digest| self.table(digest).is_none());
        let blob = |digest: &Digest| brought.get(digest).map(|blob| (*blob).clone());
        named
            .into_iter()
            .filter_map(|digest| Some((digest, blob(&digest).or_else(|| self.blobs.get(&digest))?)))
            .collect()
    }

    /// Has contents ready for the records that are taken in next; afterwards it is given none.
    pub(in crate::ledger) fn prepare(&mut self, parsed: HashMap<Digest, Parsed>) {
        self.references.parsed = parsed;
    }

    /// Returns the objects of a content that is here, readable, and named by an entry.
    pub fn table(&self, content: &Digest) -> Option<&Arc<Table>> {
        self.references.contents.get(content)?.table.as_ref()
    }

    fn refer_objects(&mut self, table: &Table, change: Change) {
        for digest in table.digests() {
            self.refer(*digest, change);
        }
    }

    fn refer(&mut self, digest: Digest, change: Change) {
        let Referred { before, now, stored } = self.blobs.refer(digest, |count| change.of(count));
        let Some(stored) = stored else { return };
        if before == 0 && now > 0 && !self.references.unclaimed.remove(&digest) {
            self.references.live += blob_size(stored);
        }
        if before > 0 && now == 0 {
            self.references.free(blob_size(stored));
        }
    }

    fn is_garbage(&self, digest: &Digest, refs: u32) -> bool {
        refs == 0 && !self.references.unclaimed.contains(digest)
    }

    /// Returns the blobs that nothing needs.
    pub(in crate::ledger) fn garbage(&self) -> HashSet<Digest> {
        let references = self.blobs.references();
        let garbage = references.filter(|(digest, refs)| self.is_garbage(digest, *refs));
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
        self.after(records).garbage()
    }

    /// Returns what is held once `records` are taken in, but for the objects of units.
    fn after(&self, records: &[Record]) -> Self {
        // Without the objects of units, which are most of what is held and name no blobs.
        let units = self.units.iter().map(|(id, unit)| {
            let bare = Unit {
                offered: unit.offered.clone(),
                enforced: unit.enforced.clone(),
                is_unknown: unit.is_unknown,
                ..Unit::default()
            };
            (*id, bare)
        });
        let mut after = State {
            accepted: self.accepted,
            units: units.collect(),
            blobs: self.blobs.clone(),
            kinds: Arc::default(),
            references: self.references.clone(),
            usage: Usage::default(),
            chains: HashMap::new(),
            unreadable: 0,
        };
        records.iter().cloned().for_each(|record| after.apply(record));
        after
    }

    /// Returns the least bytes that a compacted ledger has once `records` are taken in: contents and entries that are
    /// needed then. Nothing is compressed for that. `gives_up`: contents that no entry names yet make room.
    pub(in crate::ledger) fn least_after(&self, records: &[Record], gives_up: bool) -> usize {
        let mut after = self.after(records);
        if gives_up {
            after.disown(records);
        }
        let blobs = after.blobs.references();
        let needed = blobs.filter(|(digest, refs)| !after.is_garbage(digest, *refs));
        let blobs: usize = needed.map(|(digest, _)| after.blob_size(digest)).sum();
        let entries = after
            .units
            .values()
            .flat_map(|unit| [&unit.offered, &unit.enforced]);
        blobs + entries.flatten().map(entry_size).sum::<usize>()
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
            let stored = self.blobs.stored(&digest);
            self.references.live -= stored.map_or(0, |(_, stored)| blob_size(stored));
        }
    }

    /// Drops blobs that storage no longer has, and returns those that are needed after all: an entry has come meanwhile
    /// that names them, or they have come once more (`again`). What was given up to make room is not stored again.
    pub(in crate::ledger) fn forget(
        &mut self,
        dropped: &HashSet<Digest>,
        again: &HashSet<Digest>,
    ) -> Vec<Record> {
        let mut needed = Vec::new();
        for digest in dropped {
            let Some((refs, stored)) = self.blobs.stored(digest) else {
                continue;
            };
            if refs > 0 {
                needed.extend(self.blobs.get(digest).map(|blob| Record::Blob(*digest, blob)));
            } else if !again.contains(digest) {
                if self.references.unclaimed.remove(digest) {
                    self.references.live -= blob_size(stored);
                }
                self.blobs.remove(digest);
            }
        }
        needed
    }
}
