//! Reads a ledger from its values.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{ATTEMPTS, RETRY, Stored, Writer, digest, not_as_named};
use crate::{
    ledger::{
        error::LedgerError,
        head::{Head, Reading},
        key_value::KeyValue,
    },
    random::random,
};

impl Writer {
    /// Reads a ledger: its writer and the bytes of its records. Damage is kept in the writer, and then no records
    /// are given.
    pub(in crate::ledger) async fn load(
        key_value: Arc<dyn KeyValue>,
        name: &str,
    ) -> Result<(Self, Vec<u8>), LedgerError> {
        let mut failures = 0;
        loop {
            let (error, loaded) = match Self::load_once(&key_value, name).await {
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

    async fn load_once(key_value: &Arc<dyn KeyValue>, name: &str) -> Result<(Self, Vec<u8>), LedgerError> {
        let mut writer = Self {
            key_value: key_value.clone(),
            name: name.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            sequence: 0,
            head: Head::new(),
            tail: Vec::new(),
            stored: None,
            slots: BTreeMap::new(),
            avoided: BTreeSet::new(),
            damage: None,
            is_away: false,
            earlier: Vec::new(),
        };
        let Some(value) = key_value.get(name).await.map_err(LedgerError::Storage)? else {
            // Segments are written after the first head, and neither they nor kept heads are ever deleted.
            for name in [writer.slot_name(0), writer.damaged_name(0)] {
                if key_value
                    .get(&name)
                    .await
                    .map_err(LedgerError::Storage)?
                    .is_some()
                {
                    writer.damage = Some(writer.head_is("gone"));
                }
            }
            return Ok((writer, Vec::new()));
        };
        writer.stored = Some(Stored {
            version: value.version,
            digest: blake3::hash(&value.bytes),
        });
        match Head::read(&value.bytes) {
            Reading::Head(head, tail) => (writer.head, writer.tail) = (*head, tail),
            Reading::Version(version) => return Err(LedgerError::Version(version)),
            Reading::Unreadable => {
                writer.damage = Some(writer.head_is("not readable"));
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
            let part = self.key_value.get(&name).await.map_err(LedgerError::Storage)?;
            match part.filter(|part| digest(&part.bytes) == segment.digest) {
                Some(part) => {
                    bytes.extend_from_slice(&part.bytes);
                    self.slots.insert(segment.slot, part.version);
                }
                None => {
                    self.damage = Some(not_as_named(&name));
                    return Ok(Vec::new());
                }
            }
        }
        bytes.extend_from_slice(&self.tail);
        // Slots are filled from the lowest and never deleted, so the first gap ends what a crash left behind.
        for slot in (0..).filter(|slot| !self.head.segments.iter().any(|segment| segment.slot == *slot)) {
            let name = self.slot_name(slot);
            match self.key_value.get(&name).await.map_err(LedgerError::Storage)? {
                Some(left) => self.slots.insert(slot, left.version),
                None => break,
            };
        }
        Ok(bytes)
    }
}
