//! What a writer does about values that are not as it left them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Earlier, Found, Stored, Writer, digest, not_as_named};
use crate::ledger::{
    error::LedgerError,
    head::Segment,
    key_value::{KeyValueError, Version},
};

/// Damaged heads that are kept; a storage that damages more is not used any longer.
const DAMAGED_MAX: u32 = 16;

impl Writer {
    /// Notes that the records are not readable, although they are those that the head names.
    pub(in crate::ledger) fn note_damage(&mut self, why: String) {
        self.damage = Some(why);
    }

    /// Tells whether this is still the only writer, without writing.
    pub(in crate::ledger) async fn check(&mut self) -> Result<(), LedgerError> {
        match self.find(None).await.map_err(LedgerError::Storage)? {
            Found::Written(_) | Found::Ours(_) => Ok(()),
            Found::Earlier(earlier) => Err(self.went_back(earlier).await),
            Found::Foreign => Err(LedgerError::Lost),
            Found::Damaged(_) if self.is_new() => Ok(()),
            Found::Damaged(why) => Err(self.damaged(why)),
        }
    }

    /// Ends damage by beginning anew beside the damaged values: the head is kept under another name, its segments
    /// are left alone. The caller then stores the whole state. Somebody who writes meanwhile makes that a conflict.
    pub(in crate::ledger) async fn begin_anew(&mut self) -> Result<(), LedgerError> {
        let storage = LedgerError::Storage;
        if let Found::Foreign = self.find(None).await.map_err(storage)? {
            return Err(LedgerError::Lost);
        }
        let damaged = self.key_value.get(&self.name).await.map_err(storage)?;
        let bytes = damaged.as_ref().map_or(&[][..], |value| &value.bytes);
        let mut number = 0;
        loop {
            self.head.series = number + 1;
            let kept = self
                .key_value
                .get(&self.damaged_name(number))
                .await
                .map_err(storage)?;
            let begun = self
                .key_value
                .get(&self.slot_name(0))
                .await
                .map_err(storage)?
                .is_some();
            match kept {
                None => break,
                // A crash came between keeping the head and beginning anew. Of two that are gone, the later one
                // cannot be told from the earlier by its bytes.
                Some(kept) if kept.bytes == bytes && (!begun || !bytes.is_empty()) => break,
                Some(_) if number == DAMAGED_MAX => {
                    return Err(LedgerError::Damaged(format!("more than {DAMAGED_MAX} times")));
                }
                Some(_) => number += 1,
            }
        }
        let name = self.damaged_name(number);
        if self.key_value.get(&name).await.map_err(storage)?.is_none() {
            self.key_value.put(&name, bytes, None).await.map_err(storage)?;
            tracing::warn!("the damaged head of the ledger is kept as {name}");
        }
        self.stored = damaged.map(|value| Stored {
            version: value.version,
            digest: blake3::hash(&value.bytes),
        });
        (self.head.segments, self.tail) = (Vec::new(), Vec::new());
        (self.slots, self.avoided) = (self.stored_slots().await.map_err(storage)?, BTreeSet::new());
        self.damage = None;
        Ok(())
    }

    /// Looks whether damage has gone: somebody put the head back.
    pub(in crate::ledger) async fn look_again(&mut self) -> Result<(), LedgerError> {
        match self.find(None).await.map_err(LedgerError::Storage)? {
            Found::Written(version) | Found::Ours(version) => {
                self.note_version(version);
                self.damage = None;
                Ok(())
            }
            Found::Earlier(earlier) => Err(self.went_back(earlier).await),
            Found::Foreign => Err(LedgerError::Lost),
            Found::Damaged(why) => Err(self.damaged(why)),
        }
    }

    /// Takes in that storage was put back to an earlier state. That is sound, and is what a restart would read: it stays
    /// as it is until the caller has written all anew beside it. Returns what went wrong; no damage is kept.
    pub(super) async fn went_back(&mut self, earlier: Earlier) -> LedgerError {
        let series = std::mem::replace(&mut self.head.series, earlier.head.series);
        let slots = match self.stored_slots().await {
            Ok(slots) => slots,
            Err(error) => {
                self.head.series = series;
                return LedgerError::Storage(error);
            }
        };
        let Earlier {
            mut head,
            tail,
            stored,
        } = earlier;
        match self.earlier_records(&head.segments, &tail).await {
            Ok(records) => self.earlier = records,
            Err(error) => {
                self.head.series = series;
                return LedgerError::Storage(error);
            }
        }
        let why = format!(
            "its storage was put back to an earlier state: {} holds head {} of this agent, which has stored head {}",
            self.name, head.sequence, self.head.sequence
        );
        // This process wrote it, be it before it knew in which cluster it is.
        head.cluster = head.cluster.take().or_else(|| self.head.cluster.take());
        (self.head, self.tail) = (*head, tail);
        (self.stored, self.slots) = (Some(stored), slots);
        self.damage = None;
        LedgerError::Damaged(why)
    }

    /// Reads the versions of all segments' values. Slots are filled from the lowest and never deleted; where storage was
    /// put back, some that were written since may lie behind a gap.
    async fn stored_slots(&self) -> Result<BTreeMap<u32, Version>, KeyValueError> {
        let mut slots = BTreeMap::new();
        let last = self.slots.keys().next_back().copied();
        for slot in 0.. {
            match self.key_value.get(&self.slot_name(slot)).await? {
                Some(value) => drop(slots.insert(slot, value.version)),
                None if Some(slot) >= last => break,
                None => {}
            }
        }
        Ok(slots)
    }

    /// The records of the earlier state; none where a segment is not as its head names it.
    async fn earlier_records(&self, segments: &[Segment], tail: &[u8]) -> Result<Vec<u8>, KeyValueError> {
        let mut records = Vec::new();
        for segment in segments {
            let name = self.slot_name(segment.slot);
            let part = self.key_value.get(&name).await?;
            match part.filter(|part| digest(&part.bytes) == segment.digest) {
                Some(part) => records.extend_from_slice(&part.bytes),
                None => {
                    tracing::warn!("of the earlier state of the ledger, {}", not_as_named(&name));
                    return Ok(Vec::new());
                }
            }
        }
        records.extend_from_slice(tail);
        Ok(records)
    }

    /// Takes the records that storage was put back to, if that was found since the last time.
    pub(in crate::ledger) fn take_earlier(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.earlier)
    }

    pub(super) fn damaged(&mut self, why: String) -> LedgerError {
        self.damage = Some(why.clone());
        LedgerError::Damaged(why)
    }

    pub(super) fn damaged_name(&self, number: u32) -> String {
        format!("{}-damaged-{number}", self.name)
    }
}
