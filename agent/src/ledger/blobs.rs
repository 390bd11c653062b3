//! Blobs by digest, in little room. In storage each is compressed by itself: secrets share no compression context with
//! anything there. In memory, where nobody sees a size, small ones are compressed together in packs: objects of a unit
//! are much alike, and most of what they cost is paid once.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{content::Table, digest::Digest};
use hashbrown::HashTable;

use super::blob::{Blob, BlobKind, Data, LEVEL, Pack};

/// Bytes of a pack when decompressed: all of them are to read one of its blobs.
const PACK: usize = 16 << 10;
/// A larger blob is compressed well by itself.
const SMALL: u32 = 4 << 10;

/// A place for what has a digest: a blob, or references to one that is not here.
#[derive(Debug, Clone)]
struct Slot {
    digest: Digest,
    /// How often it is referred to.
    refs: u32,
    /// Bytes when decompressed.
    size: u32,
    /// Bytes in storage.
    stored: u32,
    at: At,
}

/// Where the bytes of a slot are, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nowhere,
    Alone(u32),
    Pack(u32, u32),
}

/// What a change of references has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Referred {
    pub(super) before: u32,
    pub(super) now: u32,
    /// Bytes of the blob in storage; `None`: it is not here.
    pub(super) stored: Option<usize>,
}

/// Blobs that are compressed together, and which.
#[derive(Debug, Clone)]
struct Members {
    pack: Arc<Pack>,
    slots: Box<[u32]>,
    /// How many are still needed.
    live: u32,
}

/// Blobs, and references to blobs.
#[derive(Debug, Clone, Default)]
pub struct Blobs {
    ids: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Blobs that are not in a pack, with their kinds.
    alone: Vec<Option<(BlobKind, Data)>>,
    free_alone: Vec<u32>,
    packs: Vec<Option<Members>>,
    free_packs: Vec<u32>,
    /// Small objects that are not in a pack yet, and their bytes when decompressed.
    unpacked: BTreeMap<u32, u32>,
    unpacked_bytes: usize,
    /// How many blobs are here.
    count: usize,
}

impl Blobs {
    /// Returns how many blobs are here.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Tells whether no blob is here.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Tells whether a blob is here.
    pub fn contains_key(&self, digest: &Digest) -> bool {
        self.slot(digest).is_some_and(|slot| slot.at != At::Nowhere)
    }

    /// Returns a blob.
    pub fn get(&self, digest: &Digest) -> Option<Blob> {
        self.blob(self.slot(digest)?)
    }

    /// Returns the digests of the blobs that are here.
    pub fn keys(&self) -> impl Iterator<Item = &Digest> {
        self.here().map(|slot| &slot.digest)
    }

    /// Returns the blobs in the order in which they came, as far as none has gone, and how often each is referred to.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, u32, Blob)> {
        self.here()
            .filter_map(|slot| Some((&slot.digest, slot.refs, self.blob(slot)?)))
    }

    /// Returns digest and references of each blob.
    pub(super) fn references(&self) -> impl Iterator<Item = (&Digest, u32)> {
        self.here().map(|slot| (&slot.digest, slot.refs))
    }

    /// Returns the blobs that are not here as storage has them.
    pub(super) fn packed(&self) -> Vec<(Digest, Blob)> {
        let blobs = self
            .here()
            .filter_map(|slot| Some((slot.digest, self.blob(slot)?)));
        blobs
            .filter(|(_, blob)| !matches!(blob.data, Data::Alone(_)))
            .collect()
    }

    /// A content that is here is parsed by now, and gives its bytes.
    pub(super) fn keep_parsed(&mut self, digest: &Digest, table: Arc<Table>) {
        let at = self.slot(digest).map(|slot| slot.at);
        if let Some(At::Alone(index)) = at {
            self.alone[index as usize] = Some((BlobKind::Content, Data::Content(table)));
        }
    }

    fn here(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.at != At::Nowhere)
    }

    /// Returns how often a blob that is here is referred to, and its bytes in storage.
    pub(super) fn stored(&self, digest: &Digest) -> Option<(u32, usize)> {
        let slot = self.slot(digest).filter(|slot| slot.at != At::Nowhere)?;
        Some((slot.refs, slot.stored as usize))
    }

    /// Returns how often a blob is referred to, be it here or not.
    pub(super) fn refs(&self, digest: &Digest) -> u32 {
        self.slot(digest).map_or(0, |slot| slot.refs)
    }

    fn slot(&self, digest: &Digest) -> Option<&Slot> {
        let id = self.id(digest)?;
        Some(&self.slots[id as usize])
    }

    fn id(&self, digest: &Digest) -> Option<u32> {
        let is_it = |id: &u32| self.slots[*id as usize].digest == *digest;
        self.ids.find(hash(digest), is_it).copied()
    }

    fn blob(&self, slot: &Slot) -> Option<Blob> {
        let (kind, data) = match slot.at {
            At::Nowhere => return None,
            At::Alone(index) => {
                let (kind, data) = self.alone[index as usize].as_ref()?;
                (*kind, data.clone())
            }
            At::Pack(index, start) => {
                let pack = &self.packs[index as usize].as_ref()?.pack;
                (BlobKind::Object, Data::Packed(pack.clone(), start))
            }
        };
        Some(Blob {
            kind,
            size: slot.size,
            base: None,
            data,
            parsed: None,
        })
    }

    /// Takes in a blob that is not here. Returns how often it is referred to.
    pub(super) fn insert(&mut self, digest: Digest, blob: &Blob) -> u32 {
        let zstd = blob.zstd();
        let id = self.id_or_new(digest);
        let slot = &mut self.slots[id as usize];
        slot.size = blob.size;
        // What is small enough to be sent is.
        slot.stored = zstd.len() as u32;
        slot.at = At::Alone(put(
            &mut self.alone,
            &mut self.free_alone,
            (blob.kind, Data::Alone(zstd)),
        ));
        let refs = slot.refs;
        self.count += 1;
        self.pack_later(id, blob.kind);
        refs
    }

    /// Counts a reference more, or one less.
    pub(super) fn refer(&mut self, digest: Digest, change: impl FnOnce(u32) -> u32) -> Referred {
        let id = self.id_or_new(digest);
        let slot = &mut self.slots[id as usize];
        let before = slot.refs;
        slot.refs = change(before);
        let referred = Referred {
            before,
            now: slot.refs,
            stored: (slot.at != At::Nowhere).then_some(slot.stored as usize),
        };
        if referred.now == 0 && referred.stored.is_none() {
            self.free_slot(id);
        }
        referred
    }

    /// Drops a blob.
    pub(super) fn remove(&mut self, digest: &Digest) {
        let Some(id) = self.id(digest) else { return };
        let slot = &mut self.slots[id as usize];
        let refs = slot.refs;
        match std::mem::replace(&mut slot.at, At::Nowhere) {
            At::Nowhere => return,
            At::Alone(index) => self.take_alone(id, index),
            At::Pack(index, _) => self.leave_pack(index),
        }
        self.count -= 1;
        if refs == 0 {
            self.free_slot(id);
        }
    }

    fn id_or_new(&mut self, digest: Digest) -> u32 {
        if let Some(id) = self.id(&digest) {
            return id;
        }
        let slot = Slot {
            digest,
            refs: 0,
            size: 0,
            stored: 0,
            at: At::Nowhere,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => push(&mut self.slots, slot),
        };
        let slots = &self.slots;
        self.ids
            .insert_unique(hash(&digest), id, |id| hash(&slots[*id as usize].digest));
        id
    }

    fn free_slot(&mut self, id: u32) {
        let digest = self.slots[id as usize].digest;
        if let Ok(entry) = self.ids.find_entry(hash(&digest), |other| *other == id) {
            entry.remove();
            self.free.push(id);
        }
    }

    fn take_alone(&mut self, id: u32, index: u32) {
        self.alone[index as usize] = None;
        self.free_alone.push(index);
        if let Some(bytes) = self.unpacked.remove(&id) {
            self.unpacked_bytes -= bytes as usize;
        }
    }

    fn pack_later(&mut self, id: u32, kind: BlobKind) {
        let size = self.slots[id as usize].size;
        if kind != BlobKind::Object || size > SMALL {
            return;
        }
        self.unpacked.insert(id, size);
        self.unpacked_bytes += size as usize;
        if self.unpacked_bytes >= PACK {
            self.pack();
        }
    }

    /// Compresses what is not in a pack together. What cannot be read stays as it is.
    fn pack(&mut self) {
        self.unpacked_bytes = 0;
        let mut bytes = Vec::with_capacity(PACK + SMALL as usize);
        let mut slots = Vec::new();
        for id in std::mem::take(&mut self.unpacked).into_keys() {
            let blob = self
                .blob(&self.slots[id as usize])
                .and_then(|blob| blob.bytes().ok());
            let Some(blob) = blob else { continue };
            slots.push((id, bytes.len() as u32));
            bytes.extend_from_slice(&blob);
        }
        let Ok(zstd) = zstd::bulk::compress(&bytes, LEVEL) else {
            return;
        };
        let members = Members {
            pack: Arc::new(Pack {
                zstd: zstd.into(),
                size: bytes.len(),
            }),
            slots: slots.iter().map(|(id, _)| *id).collect(),
            live: slots.len() as u32,
        };
        let index = put(&mut self.packs, &mut self.free_packs, members);
        for (id, start) in slots {
            let slot = &mut self.slots[id as usize];
            if let At::Alone(alone) = std::mem::replace(&mut slot.at, At::Pack(index, start)) {
                self.take_alone(id, alone);
            }
        }
    }

    /// A blob of a pack has gone. The rest of one that is mostly gone is packed anew, with others.
    fn leave_pack(&mut self, index: u32) {
        let Some(members) = &mut self.packs[index as usize] else {
            return;
        };
        members.live -= 1;
        if members.live as usize * 2 > members.slots.len() {
            return;
        }
        let Some(members) = self.packs[index as usize].take() else {
            return;
        };
        for id in members.slots {
            let slot = &self.slots[id as usize];
            let At::Pack(pack, start) = slot.at else { continue };
            if pack != index {
                continue;
            }
            let blob = Blob {
                kind: BlobKind::Object,
                size: slot.size,
                base: None,
                data: Data::Packed(members.pack.clone(), start),
                parsed: None,
            };
            let zstd = blob.zstd();
            let alone = put(
                &mut self.alone,
                &mut self.free_alone,
                (BlobKind::Object, Data::Alone(zstd)),
            );
            self.slots[id as usize].at = At::Alone(alone);
            self.pack_later(id, BlobKind::Object);
        }
        // Not before: a slot that was a member once may be another blob's by now, and that in a new pack.
        self.free_packs.push(index);
    }
}

/// A digest is as good as random.
fn hash(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Puts a value where there is room.
fn put<T>(values: &mut Vec<Option<T>>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(index) => {
            values[index as usize] = Some(value);
            index
        }
        None => push(values, Some(value)),
    }
}

/// Adds a value; room for an eighth more is made, not for as many again.
fn push<T>(values: &mut Vec<T>, value: T) -> u32 {
    if values.len() == values.capacity() {
        values.reserve_exact(values.len() / 8 + 16);
    }
    values.push(value);
    // More do not fit into any ledger.
    values.len() as u32 - 1
}

#[cfg(test)]
mod tests;
