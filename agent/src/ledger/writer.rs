//! The one writer of a ledger: appends to the tail in the head, spills it into segments, writes all anew.
//!
//! A write may be stored although it was answered with an error, even after the next one was begun. So each head
//! names its writer and a number: a conflict with a head of our own is settled by reading it and going on from the
//! version found; only a head of another writer means that another agent is at work. A head that somebody stored
//! again with equal bytes (a rotation of encryption keys, a policy that adds a label) is still ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::backoff::Backoff;

use super::{
    cells::{Cell, CellError, Cells, Version},
    error::LedgerError,
    head::{Head, Reading, Segment, Standing},
    record::Held,
};
use crate::random::random;

/// Bytes of records that stay in the head itself, so that a small append is one write.
pub(super) const TAIL_MAX: usize = 64 << 10;
/// Attempts at a write whose outcome is unknown, and at one that finds another version of our own.
const ATTEMPTS: u32 = 5;
/// Damaged heads that are kept; a storage that damages more is not used any longer.
const DAMAGED_MAX: u32 = 16;

/// Waits between such attempts.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(400),
    cap: Duration::from_secs(4),
};

pub(super) struct Writer {
    cells: Arc<dyn Cells>,
    name: String,
    /// This process.
    id: String,
    /// Number of the last head that was tried.
    sequence: u64,
    head: Head,
    tail: Vec<u8>,
    stored: Option<Stored>,
    /// Versions of the segments' cells, those of no segment in use too.
    slots: BTreeMap<u32, Version>,
    /// Slots that a head of unknown outcome names, or that somebody else wrote: not to be written before a head
    /// of ours is stored again.
    avoided: BTreeSet<u32>,
    damage: Option<String>,
}

/// The head cell as it was last written or read.
struct Stored {
    version: Version,
    digest: blake3::Hash,
}

/// What a head cell holds that was expected to hold our last head.
enum Found {
    /// The bytes that were to be written: the write did happen.
    Written(Version),
    /// A head of ours, or the one we began from.
    Ours(Version),
    /// A head of another writer.
    Foreign,
    /// Nothing, or no head.
    Damaged(String),
}

impl Writer {
    /// Reads a ledger: its writer and the bytes of its records. Damage is kept in the writer, and then no records
    /// are given.
    pub(super) async fn load(cells: Arc<dyn Cells>, name: &str) -> Result<(Self, Vec<u8>), LedgerError> {
        let mut failures = 0;
        loop {
            let (error, loaded) = match Self::load_once(&cells, name).await {
                Ok((writer, bytes)) if writer.damage.is_none() => return Ok((writer, bytes)),
                Ok(damaged) => (None, Some(damaged)),
                Err(e @ LedgerError::Storage(_)) => (Some(e), None),
                Err(e) => return Err(e),
            };
            failures += 1;
            if failures == ATTEMPTS {
                return error.map_or_else(|| loaded.ok_or(LedgerError::Lost), Err);
            }
            // The other agent of a rollover may be compacting; it is about to find out that it lost.
            tokio::time::sleep(RETRY.delay(failures, random())).await;
        }
    }

    async fn load_once(cells: &Arc<dyn Cells>, name: &str) -> Result<(Self, Vec<u8>), LedgerError> {
        let mut writer = Self {
            cells: cells.clone(),
            name: name.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            sequence: 0,
            head: Head::new(),
            tail: Vec::new(),
            stored: None,
            slots: BTreeMap::new(),
            avoided: BTreeSet::new(),
            damage: None,
        };
        let Some(cell) = cells.get(name).await.map_err(LedgerError::Storage)? else {
            // Segments are written after the first head, and neither they nor kept heads are ever deleted.
            for name in [writer.slot_name(0), writer.damaged_name(0)] {
                if cells.get(&name).await.map_err(LedgerError::Storage)?.is_some() {
                    writer.damage = Some("its head is gone".to_owned());
                }
            }
            return Ok((writer, Vec::new()));
        };
        writer.stored = Some(Stored {
            version: cell.version,
            digest: blake3::hash(&cell.bytes),
        });
        match Head::read(&cell.bytes) {
            Reading::Head(head, tail) => (writer.head, writer.tail) = (*head, tail),
            Reading::Version(version) => return Err(LedgerError::Version(version)),
            Reading::Unreadable => {
                writer.damage = Some("its head is not readable".to_owned());
                return Ok((writer, Vec::new()));
            }
        }
        writer.sequence = writer.head.sequence;
        let bytes = writer.read_segments().await?;
        Ok((writer, bytes))
    }

    async fn read_segments(&mut self) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = Vec::new();
        for segment in self.head.segments.clone() {
            let name = self.slot_name(segment.slot);
            let part = self.cells.get(&name).await.map_err(LedgerError::Storage)?;
            match part.filter(|part| digest(&part.bytes) == segment.digest) {
                Some(part) => {
                    bytes.extend_from_slice(&part.bytes);
                    self.slots.insert(segment.slot, part.version);
                }
                None => {
                    self.damage = Some(format!("segment {name} is not what the head names"));
                    return Ok(Vec::new());
                }
            }
        }
        bytes.extend_from_slice(&self.tail);
        // Slots are filled from the lowest and never deleted, so the first gap ends what a crash left behind.
        for slot in (0..).filter(|slot| !self.head.segments.iter().any(|segment| segment.slot == *slot)) {
            let name = self.slot_name(slot);
            match self.cells.get(&name).await.map_err(LedgerError::Storage)? {
                Some(left) => self.slots.insert(slot, left.version),
                None => break,
            };
        }
        Ok(bytes)
    }

    /// Notes that the records are not readable, although they are those that the head names.
    pub(super) fn note_damage(&mut self, why: String) {
        self.damage = Some(why);
    }

    /// Tells what is damaged.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Tells whether nothing was ever stored.
    pub(super) fn is_new(&self) -> bool {
        self.stored.is_none() && self.damage.is_none()
    }

    /// Returns the bytes of all records that the head names.
    pub(super) fn used(&self) -> usize {
        self.head.used() + self.tail.len()
    }

    /// Tells whether `more` bytes still go into the tail.
    pub(super) fn fits_tail(&self, more: usize) -> bool {
        self.tail.len() + more <= TAIL_MAX
    }

    /// Adds records to what is stored.
    pub(super) async fn append(&mut self, bytes: &[u8], held: Held) -> Result<(), LedgerError> {
        let mut tail = [&self.tail, bytes].concat();
        let mut head = Head {
            held,
            ..self.head.clone()
        };
        if tail.len() > TAIL_MAX {
            if self.stored.is_none() {
                self.put_head(self.head.clone(), Vec::new()).await?;
            }
            head.segments.extend(self.put_segments(&tail).await?);
            tail = Vec::new();
        }
        self.put_head(head, tail).await
    }

    /// Stores these records instead of all that is stored. The old segments stay until the new ones are complete.
    pub(super) async fn replace(
        &mut self,
        bytes: &[u8],
        held: Held,
        standing: Standing,
    ) -> Result<(), LedgerError> {
        let mut head = Head {
            held,
            standing,
            segments: Vec::new(),
            ..self.head.clone()
        };
        if bytes.len() <= TAIL_MAX {
            return self.put_head(head, bytes.to_vec()).await;
        }
        if self.stored.is_none() {
            self.put_head(head.clone(), Vec::new()).await?;
        }
        head.segments = self.put_segments(bytes).await?;
        self.put_head(head, Vec::new()).await
    }

    /// Changes only where the ledger stands.
    pub(super) async fn set_standing(&mut self, standing: Standing) -> Result<(), LedgerError> {
        let head = Head {
            standing,
            ..self.head.clone()
        };
        self.put_head(head, self.tail.clone()).await
    }

    /// Takes the key of another ledger, which this one is to be a copy of.
    pub(super) fn take_key(&mut self, key: &str) {
        key.clone_into(&mut self.head.key);
    }

    /// Tells whether this is still the only writer, without writing.
    pub(super) async fn check(&mut self) -> Result<(), LedgerError> {
        match self.find(None).await.map_err(LedgerError::Storage)? {
            Found::Written(_) | Found::Ours(_) => Ok(()),
            Found::Foreign => Err(LedgerError::Lost),
            Found::Damaged(_) if self.is_new() => Ok(()),
            Found::Damaged(why) => Err(self.damaged(why)),
        }
    }

    /// Ends damage by beginning anew beside the damaged cells: the head is kept under another name, its segments
    /// are left alone. The caller then stores the whole state. Somebody who writes meanwhile makes that a conflict.
    pub(super) async fn begin_anew(&mut self) -> Result<(), LedgerError> {
        let storage = LedgerError::Storage;
        if let Found::Foreign = self.find(None).await.map_err(storage)? {
            return Err(LedgerError::Lost);
        }
        let damaged = self.cells.get(&self.name).await.map_err(storage)?;
        let bytes = damaged.as_ref().map_or(&[][..], |cell| &cell.bytes);
        let mut number = 0;
        loop {
            self.head.series = number + 1;
            let kept = self
                .cells
                .get(&self.damaged_name(number))
                .await
                .map_err(storage)?;
            let begun = self
                .cells
                .get(&self.slot_name(0))
                .await
                .map_err(storage)?
                .is_some();
            match kept {
                None => break,
                // A crash came between keeping the head and beginning anew.
                Some(kept) if kept.bytes == bytes && !begun => break,
                Some(_) if number == DAMAGED_MAX => {
                    return Err(LedgerError::Damaged(format!("more than {DAMAGED_MAX} times")));
                }
                Some(_) => number += 1,
            }
        }
        let name = self.damaged_name(number);
        if self.cells.get(&name).await.map_err(storage)?.is_none() {
            self.cells.put(&name, bytes, None).await.map_err(storage)?;
            tracing::warn!("the damaged head of the ledger is kept as {name}");
        }
        self.stored = damaged.map(|cell| Stored {
            version: cell.version,
            digest: blake3::hash(&cell.bytes),
        });
        (self.head.segments, self.tail) = (Vec::new(), Vec::new());
        (self.slots, self.avoided) = (BTreeMap::new(), BTreeSet::new());
        self.damage = None;
        Ok(())
    }

    /// Looks whether damage has gone: somebody put the head back.
    pub(super) async fn look_again(&mut self) -> Result<(), LedgerError> {
        match self.find(None).await.map_err(LedgerError::Storage)? {
            Found::Written(version) | Found::Ours(version) => {
                self.note_version(version);
                self.damage = None;
                Ok(())
            }
            Found::Foreign => Err(LedgerError::Lost),
            Found::Damaged(why) => Err(self.damaged(why)),
        }
    }

    fn damaged(&mut self, why: String) -> LedgerError {
        self.damage = Some(why.clone());
        LedgerError::Damaged(why)
    }

    fn note_version(&mut self, version: Version) {
        let digest = self.stored.as_ref().map(|stored| stored.digest);
        self.stored = Some(Stored {
            version,
            // The first head was stored without an answer: what it was does not matter, it is written again.
            digest: digest.unwrap_or_else(|| blake3::hash(&[])),
        });
    }

    async fn put_segments(&mut self, bytes: &[u8]) -> Result<Vec<Segment>, LedgerError> {
        if !self.avoided.is_empty() {
            // Once a newer head is stored, no earlier write can come after it: all slots are ours to use again.
            self.put_head(self.head.clone(), self.tail.clone()).await?;
        }
        let mut segments: Vec<Segment> = Vec::new();
        for part in bytes.chunks(self.cells.limits().segment) {
            let slot = self.put_segment(part, &segments).await?;
            segments.push(Segment {
                slot,
                bytes: part.len(),
                digest: digest(part),
            });
        }
        Ok(segments)
    }

    async fn put_segment(&mut self, part: &[u8], new: &[Segment]) -> Result<u32, LedgerError> {
        let mut failures = 0;
        loop {
            let used = |slot: &u32| {
                let mut segments = self.head.segments.iter().chain(new);
                self.avoided.contains(slot) || segments.any(|segment| segment.slot == *slot)
            };
            let slot = (0..).find(|slot| !used(slot)).unwrap_or(u32::MAX);
            let name = self.slot_name(slot);
            let error = match self.cells.put(&name, part, self.slots.get(&slot)).await {
                Ok(version) => {
                    self.slots.insert(slot, version);
                    return Ok(slot);
                }
                Err(error) => error,
            };
            failures += 1;
            match error {
                CellError::Conflict { .. } if failures < ATTEMPTS => {
                    let cell = self.cells.get(&name).await.map_err(LedgerError::Storage)?;
                    let Some(cell) = cell else {
                        self.slots.remove(&slot);
                        continue;
                    };
                    let written = cell.bytes == part;
                    self.slots.insert(slot, cell.version);
                    if written {
                        return Ok(slot);
                    }
                    // It may be a segment of an agent that is about to win: take another slot, and let the head
                    // tell who is alone.
                    self.avoided.insert(slot);
                }
                CellError::Unavailable { .. } if failures < ATTEMPTS => {
                    tokio::time::sleep(RETRY.delay(failures, random())).await;
                }
                error => match self.cells.get(&name).await {
                    Ok(Some(cell)) if cell.bytes == part => {
                        self.slots.insert(slot, cell.version);
                        return Ok(slot);
                    }
                    _ => return Err(LedgerError::Storage(error)),
                },
            }
        }
    }

    async fn put_head(&mut self, head: Head, tail: Vec<u8>) -> Result<(), LedgerError> {
        self.sequence += 1;
        let head = Head {
            writer: self.id.clone(),
            sequence: self.sequence,
            ..head
        };
        let bytes = head.to_bytes(&tail);
        match self.put_head_bytes(&bytes).await {
            Ok(version) => {
                self.stored = Some(Stored {
                    version,
                    digest: blake3::hash(&bytes),
                });
                (self.head, self.tail) = (head, tail);
                self.avoided = BTreeSet::new();
                Ok(())
            }
            Err(e) => {
                if let LedgerError::Storage(_) = e {
                    // It may be stored yet, and then names these.
                    self.avoided
                        .extend(head.segments.iter().map(|segment| segment.slot));
                }
                Err(e)
            }
        }
    }

    async fn put_head_bytes(&mut self, bytes: &[u8]) -> Result<Version, LedgerError> {
        let mut failures = 0;
        loop {
            let expected = self.stored.as_ref().map(|stored| &stored.version);
            let error = match self.cells.put(&self.name, bytes, expected).await {
                Ok(version) => return Ok(version),
                Err(error) => error,
            };
            failures += 1;
            match error {
                CellError::Conflict { .. } => {
                    match self.find(Some(bytes)).await.map_err(LedgerError::Storage)? {
                        Found::Written(version) => return Ok(version),
                        Found::Ours(version) => self.note_version(version),
                        Found::Foreign => return Err(LedgerError::Lost),
                        Found::Damaged(why) => return Err(self.damaged(why)),
                    }
                }
                CellError::Unavailable { .. } if failures < ATTEMPTS => {
                    tokio::time::sleep(RETRY.delay(failures, random())).await;
                }
                CellError::Unavailable { .. } => {
                    return match self.find(Some(bytes)).await {
                        Ok(Found::Written(version)) => Ok(version),
                        _ => Err(LedgerError::Storage(error)),
                    };
                }
                CellError::Refused { .. } => return Err(LedgerError::Storage(error)),
            }
            if failures == ATTEMPTS {
                return Err(LedgerError::Storage(error));
            }
        }
    }

    /// Reads the head cell, to settle what became of a write of `bytes`, or whether it is as it was.
    async fn find(&self, bytes: Option<&[u8]>) -> Result<Found, CellError> {
        let Some(Cell { bytes: held, version }) = self.cells.get(&self.name).await? else {
            return Ok(Found::Damaged("its head is gone".to_owned()));
        };
        if Some(&held[..]) == bytes {
            return Ok(Found::Written(version));
        }
        let digest = blake3::hash(&held);
        if self.stored.as_ref().is_some_and(|stored| stored.digest == digest) {
            return Ok(Found::Ours(version));
        }
        Ok(match Head::read(&held) {
            Reading::Head(head, _) if head.writer == self.id => Found::Ours(version),
            // Another version is that of another program, which is at work here.
            Reading::Head(..) | Reading::Version(_) => Found::Foreign,
            Reading::Unreadable => Found::Damaged("its head is not readable".to_owned()),
        })
    }

    fn damaged_name(&self, number: u32) -> String {
        format!("{}-damaged-{number}", self.name)
    }

    fn slot_name(&self, slot: u32) -> String {
        match self.head.series {
            0 => format!("{}-{slot}", self.name),
            series => format!("{}-{series}-{slot}", self.name),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
