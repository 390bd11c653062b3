//! What a ledger says when all its records are read: held desired state, units with their inventories, contents.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flotilla_core::{
    apply::inventory::{Record as ObjectRecord, State as ObjectState},
    clock::Timestamp,
    desired::acceptance::{Known, is_releasable},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, root},
};

use super::{
    entry::EntryBytes,
    items,
    record::{Accepted, Record, UNIT_OVERHEAD},
};

mod encode;
mod live;
pub(super) mod outlook;
mod usage;

use live::{Change, References};
pub use usage::{Place, Usage};

pub(crate) use super::blob::Storing;
pub use super::{
    blob::{Blob, BlobKind, Parsed, Reader},
    blobs::Blobs,
};

/// An entry in its own bytes.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    /// The bytes that came.
    pub bytes: Arc<[u8]>,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The entry; `None` when this version cannot read it. It still counts in the root.
    pub entry: Option<Arc<Entry>>,
    /// When it was accepted.
    pub at: Timestamp,
}

impl StoredEntry {
    /// Keeps an entry.
    fn new(entry: &EntryBytes, at: Timestamp) -> Self {
        Self {
            bytes: entry.bytes().clone(),
            digest: entry.digest(),
            entry: entry.entry().cloned(),
            at,
        }
    }

    /// The same as it is written.
    fn to_written(&self) -> EntryBytes {
        EntryBytes::of(self.bytes.clone(), self.digest, self.entry.clone())
    }
}

/// A unit of this cluster.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// What the hub wants.
    pub offered: Option<StoredEntry>,
    /// The entry last evaluated with success: enforced while a newer one cannot be.
    pub enforced: Option<StoredEntry>,
    /// Its objects.
    pub items: BTreeMap<Arc<ObjectKey>, Arc<ObjectRecord>>,
    /// What its loop remembers, in its own bytes.
    pub record: Option<Arc<[u8]>>,
    /// The hub's history that is accepted does not name it: the hub was restored from a backup that did not have it, or
    /// has not confirmed it yet. It is kept and enforced as it is, and is no part of the accepted root.
    pub is_unknown: bool,
    /// How many of its objects are not to be removed.
    standing: usize,
}

impl Unit {
    /// Returns the entry that was offered last and can be read, else the one that is enforced.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        let mut entries = [&self.offered, &self.enforced].into_iter().flatten();
        entries.find_map(|stored| stored.entry.as_ref())
    }

    /// Returns one object of each kind and namespace: as many steps as there are of these, however many objects.
    pub fn scopes(&self) -> impl Iterator<Item = (&Arc<ObjectKey>, &Arc<ObjectRecord>)> {
        let first = self.items.first_key_value();
        std::iter::successors(first, |(key, _)| {
            // No text sorts between a namespace and the same with a zero byte.
            let after = ObjectKey::new(&key.group, &key.kind, &format!("{}\0", key.namespace), "");
            self.items.range::<ObjectKey, _>(&after..).next()
        })
    }

    /// Returns an object of each kind: as many steps as there are kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let first = self.items.first_key_value();
        let firsts = std::iter::successors(first, |(key, _)| {
            // No text sorts between a kind and the same with a zero byte.
            let after = ObjectKey::new(&key.group, &format!("{}\0", key.kind), "", "");
            self.items.range::<ObjectKey, _>(&after..).next()
        });
        firsts.map(|(key, _)| key)
    }

    fn is_releasable(&self) -> bool {
        let entry = self.offered.as_ref().and_then(|stored| stored.entry.as_ref());
        is_releasable(entry.map(|entry| &entry.state), !self.items.is_empty())
    }
}

/// Tells whether an object is not to be removed.
fn stands(record: &ObjectRecord) -> bool {
    record.state != ObjectState::PendingRemoval
}

/// All that is held.
#[derive(Debug, Default, Clone)]
pub struct State {
    /// Which desired state.
    pub accepted: Accepted,
    /// Its units.
    pub units: BTreeMap<UnitId, Unit>,
    /// Contents, objects and configurations.
    pub blobs: Blobs,
    /// Whether objects of a kind (group, kind) live in namespaces, as discovery last said.
    pub kinds: Arc<BTreeMap<(String, String), bool>>,
    /// What is needed and what is garbage.
    references: References,
    /// Which kinds the inventories have.
    usage: Usage,
    /// Contents that are stored as deltas, and how many stand behind one another up to each.
    chains: HashMap<Digest, u8>,
    /// Deltas that could not be read.
    unreadable: usize,
}

/// Kinds that are remembered; more than any cluster serves.
const KINDS_MAX: usize = 20_000;
/// Bytes that the scope of a kind takes beside its names.
const KIND_OVERHEAD: usize = 64;

impl State {
    /// Takes in one record. What is said of a unit that was never offered, or let go since, is passed over: a
    /// job that ends late must not bring a unit back.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Accepted(accepted) => self.accept(accepted),
            Record::Offered { unit, entry, at } => {
                let stored = StoredEntry::new(&entry, at);
                self.refer_entry(&stored, Change::More);
                self.grow_entry(&stored);
                if let Some(before) = self.units.entry(unit).or_default().offered.replace(stored) {
                    self.shrink_entry(&before);
                    self.refer_entry(&before, Change::Less);
                }
                self.set_unknown(unit, false);
            }
            Record::Unknown { unit } => self.set_unknown(unit, true),
            Record::Enforced { unit, entry } => {
                if let Some(held) = self.units.get(&unit) {
                    let at = Timestamp::default();
                    // As a rule it is what was offered: nothing of it is read again, and there is one of it.
                    let offered = held.offered.as_ref();
                    let stored = match offered.filter(|offered| offered.bytes == *entry.bytes()) {
                        Some(offered) => StoredEntry {
                            at,
                            ..offered.clone()
                        },
                        None => StoredEntry::new(&entry, at),
                    };
                    self.refer_entry(&stored, Change::More);
                    self.grow_entry(&stored);
                    if let Some(before) = self.units.entry(unit).or_default().enforced.replace(stored) {
                        self.shrink_entry(&before);
                        self.refer_entry(&before, Change::Less);
                    }
                }
            }
            Record::Released { unit } => {
                if let Some(unit) = self.units.remove(&unit) {
                    self.release(unit);
                }
            }
            Record::Blob(digest, blob) => self.insert_blob(digest, &blob),
            Record::Delta(delta) => match delta.resolve(&self.blobs) {
                Some(blob) => {
                    self.chains.insert(delta.digest, delta.depth);
                    self.insert_blob(delta.digest, &blob);
                }
                // It is not here, and is fetched as whatever an entry names and is not here.
                None => self.unreadable += 1,
            },
            Record::Item { unit, key, record } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    let before = unit.items.get(&key).map_or(0, |before| items::size(&key, before));
                    self.references.replace(before, items::size(&key, &record));
                    let before = unit.items.insert(key.clone(), record.clone());
                    unit.standing += usize::from(stands(&record));
                    unit.standing -= usize::from(before.as_deref().is_some_and(stands));
                    self.usage.replace(&key, before.as_deref(), Some(&record));
                }
            }
            Record::Dropped { unit, key } => {
                if let Some(unit) = self.units.get_mut(&unit)
                    && let Some(before) = unit.items.remove(&key)
                {
                    unit.standing -= usize::from(stands(&before));
                    self.references.free(items::size(&key, &before));
                    self.usage.replace(&key, Some(&before), None);
                }
            }
            Record::Unit { unit, state } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    let size = |bytes: &[u8]| bytes.len() + UNIT_OVERHEAD;
                    let before = unit.record.as_deref().map_or(0, size);
                    self.references.replace(before, size(&state));
                    unit.record = Some(state.into());
                }
            }
            Record::Kind {
                group,
                kind,
                namespaced,
            } => {
                let size = group.len() + kind.len() + KIND_OVERHEAD;
                let key = (group, kind);
                let is_new = !self.kinds.contains_key(&key);
                if !is_new || self.kinds.len() < KINDS_MAX {
                    self.references.live += if is_new { size } else { 0 };
                    Arc::make_mut(&mut self.kinds).insert(key, namespaced);
                }
            }
        }
    }

    /// Returns which kinds the inventories have.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns how many deltas could not be read.
    pub(super) fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Returns how many deltas stand behind one another up to a content; none where it is stored whole.
    pub(super) fn depth(&self, content: &Digest) -> u8 {
        self.chains.get(content).copied().unwrap_or(0)
    }

    /// Takes in which contents are stored as deltas by now: these as well, or these alone.
    pub(super) fn note_chains(&mut self, chains: HashMap<Digest, u8>, alone: bool) {
        if alone {
            self.chains.clear();
        }
        self.chains.extend(chains);
    }

    /// Returns all units with the digests of their offered entries, as the root covers them.
    pub fn known_units(&self) -> BTreeMap<UnitId, Known> {
        let known = |unit: &Unit| {
            Some(Known {
                digest: unit.offered.as_ref()?.digest,
                releasable: unit.is_releasable(),
                is_unknown: unit.is_unknown,
            })
        };
        self.units
            .iter()
            .filter_map(|(id, unit)| Some((*id, known(unit)?)))
            .collect()
    }

    /// Returns the digest of the entries that the accepted state names, as far as they are here.
    pub fn root(&self) -> Digest {
        let named = self.units.iter().filter(|(_, unit)| !unit.is_unknown);
        root(named.filter_map(|(id, unit)| Some((*id, unit.offered.as_ref()?.digest))))
    }

    /// Returns the apps of units that the accepted state does not name.
    pub fn unknown_apps(&self) -> Vec<String> {
        let unknown = self.units.iter().filter(|(_, unit)| unit.is_unknown);
        unknown
            .map(|(id, unit)| {
                unit.entry()
                    .map_or_else(|| id.to_string(), |entry| entry.app.to_string())
            })
            .collect()
    }

    /// Returns the decompressed bytes of a blob.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.blobs.get(digest)?.bytes().ok()
    }
}
