//! What a ledger says when all its records are read: held desired state, units with their inventories, contents.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use flotilla_core::{
    apply::inventory::Record as ObjectRecord,
    clock::Timestamp,
    content::{Content, Form},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, UnitState, VariableLayer},
};

use super::record::{Held, Record};

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlobKind {
    /// A content manifest.
    Content = 1,
    /// One object.
    Object = 2,
    /// Values for a variable layer.
    Config = 3,
}

impl BlobKind {
    /// Reads the byte that the ledger keeps.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Content, Self::Object, Self::Config]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Bytes under a digest, compressed each by itself: secrets share no compression context with anything.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is.
    pub kind: BlobKind,
    /// Bytes when decompressed.
    pub size: u32,
    /// The compressed bytes.
    pub zstd: Arc<[u8]>,
}

impl Blob {
    /// Compresses bytes.
    pub fn new(kind: BlobKind, bytes: &[u8]) -> std::io::Result<Self> {
        Ok(Self {
            kind,
            size: u32::try_from(bytes.len()).map_err(std::io::Error::other)?,
            zstd: zstd::bulk::compress(bytes, 3)?.into(),
        })
    }

    /// Returns the bytes. The size bounds what is read, whatever the compressed bytes claim.
    pub fn bytes(&self) -> std::io::Result<Vec<u8>> {
        zstd::bulk::decompress(&self.zstd, self.size as usize)
    }
}

/// An entry in its own bytes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The bytes that came.
    pub bytes: Arc<[u8]>,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The entry; `None` when this version cannot read it. It still counts in the root.
    pub entry: Option<Arc<Entry>>,
    /// When it was accepted.
    pub at: Timestamp,
}

impl Kept {
    /// Keeps the bytes of an entry.
    pub fn new(bytes: Vec<u8>, at: Timestamp) -> Self {
        Self {
            digest: Entry::digest_of(&bytes),
            entry: Entry::from_bytes(&bytes).ok().map(Arc::new),
            bytes: bytes.into(),
            at,
        }
    }
}

/// A unit of this cluster.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// What the hub wants.
    pub offered: Option<Kept>,
    /// The entry last evaluated with success: enforced while a newer one cannot be.
    pub enforced: Option<Kept>,
    /// Its objects.
    pub items: BTreeMap<ObjectKey, ObjectRecord>,
    /// What its loop remembers, in its own bytes.
    pub record: Option<Arc<[u8]>>,
}

impl Unit {
    /// Tells whether the hub may let go of the unit: it is detached, or to be removed and nothing is left. An
    /// entry that this version cannot read says neither.
    fn is_releasable(&self) -> bool {
        let entry = self.offered.as_ref().and_then(|kept| kept.entry.as_ref());
        match entry.map(|entry| &entry.state) {
            Some(UnitState::Detached) => true,
            Some(UnitState::Removing { .. }) => self.items.is_empty(),
            Some(UnitState::Active | UnitState::Suspended) | None => false,
        }
    }
}

/// All that is held.
#[derive(Debug, Default)]
pub struct State {
    /// Which desired state.
    pub held: Held,
    /// Its units.
    pub units: BTreeMap<UnitId, Unit>,
    /// Contents, objects and configurations.
    pub blobs: HashMap<Digest, Blob>,
    /// Whether objects of a kind (group, kind) live in namespaces, as discovery last said.
    pub kinds: BTreeMap<(String, String), bool>,
}

/// A unit of the ledger, as an offer is judged against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Digest of its offered entry.
    pub digest: Digest,
    /// The hub may let go of it: nothing of it is enforced, or nothing is left in the cluster.
    pub releasable: bool,
}

/// Kinds that are remembered; more than any cluster serves.
const KINDS_MAX: usize = 20_000;

impl State {
    /// Takes in one record. What is said of a unit that was never offered, or let go since, is passed over: a
    /// job that ends late must not bring a unit back.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Held(held) => self.held = held,
            Record::Offered { unit, entry, at } => {
                self.units.entry(unit).or_default().offered = Some(Kept::new(entry, at));
            }
            Record::Enforced { unit, entry } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    unit.enforced = Some(Kept::new(entry, Timestamp::default()));
                }
            }
            Record::Released { unit } => {
                self.units.remove(&unit);
            }
            Record::Blob(digest, blob) => {
                self.blobs.insert(digest, blob);
            }
            Record::Item { unit, key, record } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    unit.items.insert(key, *record);
                }
            }
            Record::Dropped { unit, key } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    unit.items.remove(&key);
                }
            }
            Record::Unit { unit, state } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    unit.record = Some(state.into());
                }
            }
            Record::Kind {
                group,
                kind,
                namespaced,
            } => {
                let key = (group, kind);
                if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&key) {
                    self.kinds.insert(key, namespaced);
                }
            }
        }
    }

    /// Returns all units with the digests of their offered entries, as the root covers them.
    pub fn known_units(&self) -> BTreeMap<UnitId, Known> {
        let known = |unit: &Unit| {
            Some(Known {
                digest: unit.offered.as_ref()?.digest,
                releasable: unit.is_releasable(),
            })
        };
        self.units
            .iter()
            .filter_map(|(id, unit)| Some((*id, known(unit)?)))
            .collect()
    }

    /// Returns the decompressed bytes of a blob.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.blobs.get(digest)?.bytes().ok()
    }

    /// Returns a held content.
    pub fn content(&self, digest: &Digest) -> Option<Content> {
        Content::from_bytes(&self.blob(digest)?).ok()
    }

    /// Returns what an entry needs and the ledger lacks. Objects of a content that is lacking itself are not
    /// known yet.
    pub fn lacking(&self, entry: &Entry) -> Lacking {
        let mut lacking = Lacking::default();
        for layer in &entry.variables {
            if let VariableLayer::Config { digest, secret } = layer
                && !self.blobs.contains_key(digest)
            {
                lacking.configs.push((*digest, *secret));
            }
        }
        let Some(digest) = entry.content else {
            return lacking;
        };
        match self.content(&digest) {
            None => lacking.content = Some(digest),
            Some(content) => {
                let missing = content
                    .objects()
                    .iter()
                    .filter(|o| !self.blobs.contains_key(&o.digest));
                lacking
                    .objects
                    .extend(missing.map(|o| (o.digest, o.form, o.key.clone())));
            }
        }
        lacking
    }

    /// Returns every digest that an offered or enforced entry reaches.
    fn reachable(&self) -> HashSet<Digest> {
        let mut reached = HashSet::new();
        let kept = self
            .units
            .values()
            .flat_map(|unit| [&unit.offered, &unit.enforced]);
        for entry in kept.flatten().filter_map(|kept| kept.entry.as_ref()) {
            reached.extend(entry.variables.iter().filter_map(|layer| match layer {
                VariableLayer::Config { digest, .. } => Some(*digest),
                _ => None,
            }));
            if let Some(digest) = entry.content
                && reached.insert(digest)
                && let Some(content) = self.content(&digest)
            {
                reached.extend(content.objects().iter().map(|object| object.digest));
            }
        }
        reached
    }

    /// Drops what nothing refers to, and gives the records that say all the rest.
    pub fn compact(&mut self) -> Vec<Record> {
        let reached = self.reachable();
        self.blobs.retain(|digest, _| reached.contains(digest));
        let mut records: Vec<Record> = self
            .blobs
            .iter()
            .map(|(digest, blob)| Record::Blob(*digest, blob.clone()))
            .collect();
        for (id, unit) in &self.units {
            records.extend(unit.offered.iter().map(|kept| Record::Offered {
                unit: *id,
                entry: kept.bytes.to_vec(),
                at: kept.at,
            }));
            records.extend(unit.enforced.iter().map(|kept| Record::Enforced {
                unit: *id,
                entry: kept.bytes.to_vec(),
            }));
            records.extend(unit.record.iter().map(|state| Record::Unit {
                unit: *id,
                state: state.to_vec(),
            }));
            records.extend(unit.items.iter().map(|(key, record)| Record::Item {
                unit: *id,
                key: key.clone(),
                record: Box::new(record.clone()),
            }));
        }
        records.extend(self.kinds.iter().map(|((group, kind), namespaced)| Record::Kind {
            group: group.clone(),
            kind: kind.clone(),
            namespaced: *namespaced,
        }));
        records.push(Record::Held(self.held));
        records
    }

    /// Returns the bytes that a compacted ledger would have, about.
    pub fn live_size(&self) -> usize {
        let reached = self.reachable();
        let blobs = self.blobs.iter().filter(|(digest, _)| reached.contains(digest));
        let blobs: usize = blobs.map(|(_, blob)| blob.zstd.len() + 50).sum();
        let units: usize = self
            .units
            .values()
            .map(|unit| {
                let kept = [&unit.offered, &unit.enforced].into_iter().flatten();
                kept.map(|kept| kept.bytes.len() + 40).sum::<usize>() + unit.items.len() * 400
            })
            .sum();
        blobs + units
    }
}

/// What an entry needs and the ledger lacks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The content manifest.
    pub content: Option<Digest>,
    /// Objects of a content that is there.
    pub objects: Vec<(Digest, Form, ObjectKey)>,
    /// Configurations, and whether each is a Secret.
    pub configs: Vec<(Digest, bool)>,
}

impl Lacking {
    /// Tells whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        self.content.is_none() && self.objects.is_empty() && self.configs.is_empty()
    }
}
