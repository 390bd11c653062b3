//! The agent's memory across restarts: accepted entries, contents by digest, inventories. An append-only log of
//! records in segments and a tail, named by one head cell that is written by compare-and-set. What is not in the
//! head has not happened; a writer that loses the race for the head is not the only agent and must exit.

pub mod accept;
pub mod cells;
pub mod directory;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod record;
pub mod secrets;
pub mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use cells::{Cell, CellError, Cells, Version};
use record::{InvalidRecord, Record};
use serde::{Deserialize, Serialize};
use state::State;

/// Bytes of records that stay in the head itself, so that a small append is one write.
const TAIL_MAX: usize = 64 << 10;
/// Attempts at a write whose outcome is unknown.
const ATTEMPTS: u32 = 5;
/// Below this nothing is worth compacting.
const COMPACT_MIN: usize = 256 << 10;

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another agent has written it: this one must exit.
    #[error("another agent writes this ledger")]
    Lost,
    /// The storage does not take it now. Nothing was changed.
    #[error("ledger cannot be stored")]
    Storage(#[source] CellError),
    /// What is stored is not what was written.
    #[error("ledger is damaged: {0}")]
    Damaged(String),
    /// Larger than this form of storage takes.
    #[error("ledger of {size} bytes exceeds the {limit} that its storage takes; use a volume")]
    Full {
        /// Bytes needed.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl From<InvalidRecord> for LedgerError {
    fn from(error: InvalidRecord) -> Self {
        Self::Damaged(error.to_string())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    version: u32,
    segments: Vec<Segment>,
    /// Key of the digests that only this agent computes, hexadecimal.
    key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Segment {
    slot: u32,
    bytes: usize,
    /// BLAKE3 of the bytes: a slot that somebody wrote again is not taken for what it was.
    digest: String,
}

struct Writer {
    head: Head,
    tail: Vec<u8>,
    /// Version and bytes of the head cell as last written or read.
    cell: Option<Cell>,
    slots: BTreeMap<u32, Version>,
}

/// The ledger. Reads are from memory; writes return when they are durable.
pub struct Ledger {
    cells: Arc<dyn Cells>,
    name: String,
    key: [u8; 32],
    state: RwLock<State>,
    writer: tokio::sync::Mutex<Writer>,
}

impl Ledger {
    /// Reads the ledger called `name`, or begins one.
    pub async fn open(cells: Arc<dyn Cells>, name: &str) -> Result<Self, LedgerError> {
        let mut attempt = 0;
        let (writer, bytes) = loop {
            match load(cells.as_ref(), name).await {
                Ok(loaded) => break loaded,
                // The other agent of a rollover may be compacting; it is about to find out that it lost.
                Err(e) if attempt + 1 == ATTEMPTS => return Err(e),
                Err(_) => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                }
            }
        };
        let mut state = State::default();
        for record in record::decode(&bytes)? {
            state.apply(record);
        }
        Ok(Self {
            cells,
            name: name.to_owned(),
            key: *blake3::hash(writer.head.key.as_bytes()).as_bytes(),
            state: RwLock::new(state),
            writer: tokio::sync::Mutex::new(writer),
        })
    }

    /// Reads from memory.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Key of the digests that only this agent computes: what it sent and what it saw.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Makes records durable, then takes them in. All of them or none.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock().await;
        let mut tail = writer.tail.clone();
        for record in &records {
            record::encode(record, &mut tail);
        }
        let mut head = writer.head.clone();
        if tail.len() > TAIL_MAX {
            let spilled = std::mem::take(&mut tail);
            self.write_segments(&mut writer, &mut head, &spilled).await?;
        }
        self.write_head(&mut writer, head, tail).await?;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            records.into_iter().for_each(|record| state.apply(record));
        }
        if writer.tail.is_empty() {
            match self.compact_if_worth(&mut writer).await {
                Ok(()) => {}
                Err(LedgerError::Lost) => return Err(LedgerError::Lost),
                // The records are durable as they are; the next spill tries again.
                Err(e) => tracing::warn!("ledger is not compacted: {e}"),
            }
        }
        Ok(())
    }

    async fn compact_if_worth(&self, writer: &mut Writer) -> Result<(), LedgerError> {
        let used: usize = writer.head.segments.iter().map(|segment| segment.bytes).sum();
        if used < COMPACT_MIN || used < 2 * self.read(State::live_size) {
            return Ok(());
        }
        let records = self
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .compact();
        let mut bytes = Vec::new();
        for record in &records {
            record::encode(record, &mut bytes);
        }
        drop(records);
        // Old segments stay named by the head until the new ones are complete.
        let mut head = Head {
            segments: Vec::new(),
            ..writer.head.clone()
        };
        self.write_segments(writer, &mut head, &bytes).await?;
        self.write_head(writer, head, Vec::new()).await
    }

    async fn write_segments(
        &self,
        writer: &mut Writer,
        head: &mut Head,
        bytes: &[u8],
    ) -> Result<(), LedgerError> {
        let limits = self.cells.limits();
        let size = head.segments.iter().map(|segment| segment.bytes).sum::<usize>() + bytes.len();
        if size > limits.total {
            return Err(LedgerError::Full {
                size,
                limit: limits.total,
            });
        }
        for part in bytes.chunks(limits.segment) {
            let used = |slot: &u32| {
                writer
                    .head
                    .segments
                    .iter()
                    .chain(&head.segments)
                    .any(|segment| segment.slot == *slot)
            };
            let slot = (0..).find(|slot| !used(slot)).unwrap_or(u32::MAX);
            let name = self.slot_name(slot);
            // Slots that a crash left behind are known since the start. One that changed since is another
            // agent's, and overwriting it would damage that agent's ledger.
            let version = put(self.cells.as_ref(), &name, part, writer.slots.get(&slot))
                .await
                .map_err(lost_or_storage)?;
            writer.slots.insert(slot, version);
            head.segments.push(Segment {
                slot,
                bytes: part.len(),
                digest: blake3::hash(part).to_hex().to_string(),
            });
        }
        Ok(())
    }

    async fn write_head(&self, writer: &mut Writer, head: Head, tail: Vec<u8>) -> Result<(), LedgerError> {
        let bytes = head_bytes(&head, &tail)?;
        let expected = writer.cell.as_ref().map(|cell| &cell.version);
        let version = put(self.cells.as_ref(), &self.name, &bytes, expected)
            .await
            .map_err(lost_or_storage)?;
        writer.cell = Some(Cell {
            bytes: Vec::new(),
            version,
        });
        writer.head = head;
        writer.tail = tail;
        Ok(())
    }

    fn slot_name(&self, slot: u32) -> String {
        slot_name(&self.name, slot)
    }
}

fn slot_name(name: &str, slot: u32) -> String {
    format!("{name}-{slot}")
}

fn lost_or_storage(error: CellError) -> LedgerError {
    match error {
        CellError::Conflict { .. } => LedgerError::Lost,
        other => LedgerError::Storage(other),
    }
}

/// Writes a cell. A write of unknown outcome is settled by reading: it happened if the cell holds these bytes.
async fn put(
    cells: &dyn Cells,
    name: &str,
    bytes: &[u8],
    expected: Option<&Version>,
) -> Result<Version, CellError> {
    let mut unknown = false;
    for attempt in 1..=ATTEMPTS {
        match cells.put(name, bytes, expected).await {
            Ok(version) => return Ok(version),
            Err(CellError::Conflict { .. }) if unknown => {
                return match cells.get(name).await? {
                    Some(cell) if cell.bytes == bytes => Ok(cell.version),
                    _ => Err(CellError::Conflict {
                        name: name.to_owned(),
                    }),
                };
            }
            Err(CellError::Unavailable { .. }) if attempt < ATTEMPTS => {
                unknown = true;
                tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt - 1)).await;
            }
            Err(e) => return Err(e),
        }
    }
    unreachable!("the last attempt returns")
}

async fn load(cells: &dyn Cells, name: &str) -> Result<(Writer, Vec<u8>), LedgerError> {
    let Some(cell) = cells.get(name).await.map_err(LedgerError::Storage)? else {
        let head = Head {
            version: 1,
            segments: Vec::new(),
            key: format!("{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4()),
        };
        return Ok((
            Writer {
                head,
                tail: Vec::new(),
                cell: None,
                slots: BTreeMap::new(),
            },
            Vec::new(),
        ));
    };
    let (head, tail) = read_head(&cell.bytes)?;
    let mut bytes = Vec::new();
    let mut slots = BTreeMap::new();
    for segment in &head.segments {
        let slot = slot_name(name, segment.slot);
        let part = cells
            .get(&slot)
            .await
            .map_err(LedgerError::Storage)?
            .filter(|part| blake3::hash(&part.bytes).to_hex().as_str() == segment.digest)
            .ok_or_else(|| LedgerError::Damaged(format!("segment {slot} is not what the head names")))?;
        bytes.extend_from_slice(&part.bytes);
        slots.insert(segment.slot, part.version);
    }
    bytes.extend_from_slice(&tail);
    // Slots are filled from the lowest and never deleted, so the first gap ends them.
    for slot in (0..).filter(|slot| !head.segments.iter().any(|segment| segment.slot == *slot)) {
        match cells
            .get(&slot_name(name, slot))
            .await
            .map_err(LedgerError::Storage)?
        {
            Some(left) => slots.insert(slot, left.version),
            None => break,
        };
    }
    let version = cell.version;
    let cell = Some(Cell {
        bytes: Vec::new(),
        version,
    });
    Ok((
        Writer {
            head,
            tail,
            cell,
            slots,
        },
        bytes,
    ))
}

fn head_bytes(head: &Head, tail: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let json = serde_json::to_vec(head).map_err(|e| LedgerError::Damaged(e.to_string()))?;
    let length = u32::try_from(json.len()).map_err(|e| LedgerError::Damaged(e.to_string()))?;
    Ok([&length.to_le_bytes()[..], &json, tail].concat())
}

fn read_head(bytes: &[u8]) -> Result<(Head, Vec<u8>), LedgerError> {
    let damaged = || LedgerError::Damaged("head is not readable".to_owned());
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(damaged)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let (json, tail) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let head: Head = serde_json::from_slice(json).map_err(|_| damaged())?;
    if head.version != 1 {
        return Err(LedgerError::Damaged(format!(
            "version {} was written by a newer agent",
            head.version
        )));
    }
    Ok((head, tail.to_vec()))
}

#[cfg(test)]
mod tests;
