//! What a ledger says when all its records are read: held desired state, units with their inventories, contents.

use std::{
    collections::{BTreeMap, HashMap},
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

use super::{
    items,
    record::{Held, Record, UNIT_OVERHEAD},
};

mod live;
mod usage;

use live::{Change, References};
pub use usage::{Place, Usage};

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
    /// How often it is referred to: kept with the blob because a map beside would cost more than the counts.
    refs: u32,
}

impl Blob {
    /// Compresses bytes.
    pub fn new(kind: BlobKind, bytes: &[u8]) -> std::io::Result<Self> {
        let size = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
        Ok(Self::stored(kind, size, zstd::bulk::compress(bytes, 3)?.into()))
    }

    /// Takes bytes that are compressed already.
    pub(super) fn stored(kind: BlobKind, size: u32, zstd: Arc<[u8]>) -> Self {
        Self {
            kind,
            size,
            zstd,
            refs: 0,
        }
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
    pub items: BTreeMap<Arc<ObjectKey>, Arc<ObjectRecord>>,
    /// What its loop remembers, in its own bytes.
    pub record: Option<Arc<[u8]>>,
}

impl Unit {
    /// Returns the entry that was offered last and can be read, else the one that is enforced.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        let mut entries = [&self.offered, &self.enforced].into_iter().flatten();
        entries.find_map(|kept| kept.entry.as_ref())
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
#[derive(Debug, Default, Clone)]
pub struct State {
    /// Which desired state.
    pub held: Held,
    /// Its units.
    pub units: BTreeMap<UnitId, Unit>,
    /// Contents, objects and configurations.
    pub blobs: HashMap<Digest, Blob>,
    /// Whether objects of a kind (group, kind) live in namespaces, as discovery last said.
    pub kinds: BTreeMap<(String, String), bool>,
    /// What is needed and what is garbage.
    references: References,
    /// Which kinds the inventories have.
    usage: Usage,
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
/// Bytes that the scope of a kind takes beside its names.
const KIND_OVERHEAD: usize = 64;

impl State {
    /// Takes in one record. What is said of a unit that was never offered, or let go since, is passed over: a
    /// job that ends late must not bring a unit back.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Held(held) => self.hold(held),
            Record::Offered { unit, entry, at } => {
                let kept = Kept::new(entry, at);
                self.refer_entry(&kept, Change::More);
                self.grow_entry(&kept);
                if let Some(before) = self.units.entry(unit).or_default().offered.replace(kept) {
                    self.shrink_entry(&before);
                    self.refer_entry(&before, Change::Less);
                }
            }
            Record::Enforced { unit, entry } => {
                if self.units.contains_key(&unit) {
                    let kept = Kept::new(entry, Timestamp::default());
                    self.refer_entry(&kept, Change::More);
                    self.grow_entry(&kept);
                    if let Some(before) = self.units.entry(unit).or_default().enforced.replace(kept) {
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
            Record::Blob(digest, blob) => self.insert_blob(digest, blob),
            Record::Item { unit, key, record } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    let before = unit.items.get(&key).map_or(0, |before| items::size(&key, before));
                    self.references.live = self.references.live + items::size(&key, &record) - before;
                    let before = unit.items.insert(key.clone(), record.clone());
                    self.usage.replace(&key, before.as_deref(), Some(&record));
                }
            }
            Record::Dropped { unit, key } => {
                let unit = self.units.get_mut(&unit);
                if let Some(before) = unit.and_then(|unit| unit.items.remove(&key)) {
                    self.references.live -= items::size(&key, &before);
                    self.usage.replace(&key, Some(&before), None);
                }
            }
            Record::Unit { unit, state } => {
                if let Some(unit) = self.units.get_mut(&unit) {
                    self.references.live += state.len() + UNIT_OVERHEAD;
                    if let Some(before) = unit.record.replace(state.into()) {
                        self.references.live -= before.len() + UNIT_OVERHEAD;
                    }
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
                    self.kinds.insert(key, namespaced);
                }
            }
        }
    }

    /// Returns which kinds the inventories have.
    pub fn usage(&self) -> &Usage {
        &self.usage
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
            // What is there and not readable is of a newer hub: fetching it again would change nothing.
            None if self.blobs.contains_key(&digest) => {}
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
