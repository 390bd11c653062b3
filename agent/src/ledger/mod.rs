//! The agent's memory across restarts: accepted entries, contents by digest, inventories. An append-only log of
//! records in segments and a tail, named by one head cell that is written by compare-and-set. What is not in the
//! head has not happened; a writer that loses the race for the head is not the only agent and must exit.

pub mod accept;
pub mod cells;
pub mod directory;
mod error;
pub mod health;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod record;
pub mod secrets;
pub mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::Duration,
};

use cells::{Cell, CellError, Cells, Version};
pub use error::LedgerError;
use flotilla_core::backoff::Backoff;
use health::LedgerHealth;
use record::Record;
use serde::{Deserialize, Serialize};
use state::State;
use tokio::sync::watch;

/// How long records of [`Ledger::append_later`] wait for others before they are written.
const BATCH: Duration = Duration::from_millis(30);
/// Waits after a batch that could not be written.
const RETRY: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

/// Bytes of records that stay in the head itself, so that a small append is one write.
const TAIL_MAX: usize = 64 << 10;
/// Attempts at a write whose outcome is unknown.
const ATTEMPTS: u32 = 5;
/// Below this nothing is worth compacting.
const COMPACT_MIN: usize = 256 << 10;

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

impl Writer {
    fn used(&self) -> usize {
        self.head
            .segments
            .iter()
            .map(|segment| segment.bytes)
            .sum::<usize>()
            + self.tail.len()
    }
}

/// The ledger. Reads are from memory. [`append`](Self::append) returns when its records are durable;
/// [`append_later`](Self::append_later) returns at once and its records are durable a moment later. Both take
/// effect in the order of the calls, in memory as in storage.
pub struct Ledger {
    shared: Arc<Shared>,
    key: [u8; 32],
}

struct Shared {
    cells: Arc<dyn Cells>,
    name: String,
    state: RwLock<State>,
    queue: Mutex<Queue>,
    writer: tokio::sync::Mutex<Writer>,
    health: watch::Sender<LedgerHealth>,
}

/// What is in memory and not yet durable.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// A task is going to write it.
    scheduled: bool,
    /// Batches that failed in a row.
    failures: u32,
    /// Why the last batch was not written, until somebody was told.
    failed: Option<LedgerError>,
    /// Another agent writes: nothing is written any more.
    lost: bool,
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
        let health = LedgerHealth::after(writer.used(), cells.limits().total, Ok(()));
        Ok(Self {
            key: *blake3::hash(writer.head.key.as_bytes()).as_bytes(),
            shared: Arc::new(Shared {
                cells,
                name: name.to_owned(),
                state: RwLock::new(state),
                queue: Mutex::default(),
                writer: tokio::sync::Mutex::new(writer),
                health: watch::Sender::new(health),
            }),
        })
    }

    /// Reads from memory.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.shared.read(read)
    }

    /// Key of the digests that only this agent computes: what it sent and what it saw.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Makes records durable, and all that was queued before them, then takes them in. All of them or none.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        if records.is_empty() {
            return Ok(());
        }
        self.commit(records).await
    }

    /// Takes records in at once, and makes them durable within 50 ms, or with the next [`append`](Self::append).
    /// For what may be found out again after a crash: outcomes and observations, never intents. An error is that
    /// of an earlier batch: these records are taken in all the same, and are tried again with that batch.
    pub fn append_later(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        let mut queue = self.shared.queue();
        if queue.lost {
            return Err(LedgerError::Lost);
        }
        if !records.is_empty() {
            for record in &records {
                record::encode(record, &mut queue.bytes);
            }
            self.shared.take_in(records);
            self.shared.schedule(&mut queue, BATCH);
        }
        queue.failed.take().map_or(Ok(()), Err)
    }

    /// Returns when all that was queued is durable.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.commit(Vec::new()).await
    }

    /// Tells how the ledger stands.
    pub fn health(&self) -> LedgerHealth {
        self.shared.health.borrow().clone()
    }

    /// Returns a receiver that wakes when [`health`](Self::health) changes its state.
    pub fn subscribe(&self) -> watch::Receiver<LedgerHealth> {
        self.shared.health.subscribe()
    }

    async fn commit(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        let shared = self.shared.clone();
        // In a task of its own: a caller that is dropped halfway would leave memory behind storage.
        match tokio::spawn(async move { shared.commit(records).await }).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LedgerError::Storage(CellError::Unavailable {
                name: self.shared.name.clone(),
                why: "the write was broken off".to_owned(),
            })),
        }
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, records: impl IntoIterator<Item = Record>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        records.into_iter().for_each(|record| state.apply(record));
    }

    /// Lets the queue be written after `wait`, unless somebody does it before.
    fn schedule(self: &Arc<Self>, queue: &mut Queue, wait: Duration) {
        if queue.scheduled {
            return;
        }
        queue.scheduled = true;
        let ledger = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(ledger) = Weak::upgrade(&ledger) {
                ledger.queue().scheduled = false;
                // Told through the health, and to whoever calls next.
                let _ = ledger.commit(Vec::new()).await;
            }
        });
    }

    /// Makes the queue and then `records` durable, and takes `records` in.
    async fn commit(self: Arc<Self>, records: Vec<Record>) -> Result<(), LedgerError> {
        let mut writer = self.writer.lock().await;
        let queued = {
            let queue = self.queue();
            if queue.lost {
                return Err(LedgerError::Lost);
            }
            if queue.bytes.is_empty() && records.is_empty() {
                return Ok(());
            }
            queue.bytes.len()
        };
        let outcome = self.write(&mut writer, queued, &records).await;
        self.settle(writer.used(), queued, records, &outcome);
        outcome?;
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

    async fn write(&self, writer: &mut Writer, queued: usize, records: &[Record]) -> Result<(), LedgerError> {
        let mut tail = writer.tail.clone();
        tail.extend_from_slice(&self.queue().bytes[..queued]);
        for record in records {
            record::encode(record, &mut tail);
        }
        let mut head = writer.head.clone();
        if tail.len() > TAIL_MAX {
            let spilled = std::mem::take(&mut tail);
            self.write_segments(writer, &mut head, &spilled).await?;
        }
        self.write_head(writer, head, tail).await
    }

    /// Takes in the outcome of a write of the first `queued` bytes of the queue and of `records`.
    fn settle(
        self: &Arc<Self>,
        bytes: usize,
        queued: usize,
        records: Vec<Record>,
        outcome: &Result<(), LedgerError>,
    ) {
        let mut queue = self.queue();
        match outcome {
            Ok(()) => {
                queue.bytes.drain(..queued);
                (queue.failures, queue.failed) = (0, None);
                self.take_in(records);
                // What was queued meanwhile is in memory already and comes after `records`: once more, so that
                // memory is what a restart will read.
                if let Ok(later) = record::decode(&queue.bytes) {
                    self.take_in(later);
                }
            }
            Err(e) => {
                queue.lost |= matches!(e, LedgerError::Lost);
                if !queue.bytes.is_empty() && !queue.lost {
                    queue.failures += 1;
                    queue.failed = Some(e.clone());
                    let wait = RETRY.delay(queue.failures, crate::random::random()).max(BATCH);
                    self.schedule(&mut queue, wait);
                }
            }
        }
        drop(queue);
        let now = LedgerHealth::after(bytes, self.cells.limits().total, outcome.as_ref().map(|()| ()));
        self.health.send_if_modified(|health| {
            let changed = health.state != now.state;
            *health = now;
            changed
        });
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
