//! The agent's memory across restarts: accepted entries, contents by digest, inventories. An append-only log of
//! records in segments and a tail, named by one head value that is written by compare-and-set. What is not in the
//! head has not happened; a writer that loses the race for the head is not the only agent and must exit.
//!
//! A head that is damaged while the agent runs does not end it: what is in memory goes on being enforced, nothing new
//! is accepted, and the health says so. The ledger repairs itself, from memory, only where the storage keeps every
//! other writer out (a locked directory); two agents over the same Secrets would else overwrite each other's memory.
//! A ledger that is found damaged at the start is begun anew beside the damaged values, with the first record; until
//! then there is nothing to enforce.

mod blob;
mod blobs;
mod commit;
pub(crate) mod delta;
pub mod directory;
pub mod entry;
mod error;
mod head;
pub mod health;
mod items;
pub mod key_value;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod record;
pub mod secrets;
pub mod state;
pub mod transfer;
mod writer;

use std::{collections::HashMap, sync::Arc, time::Duration};

pub use commit::Recovered;
use commit::Shared;
pub use error::{LedgerError, VOLUME};
use health::LedgerHealth;
use key_value::KeyValue;
use record::{Accepted, Record};
use state::{State, outlook::Outlook};
use tokio::{sync::watch, time::Instant};
use writer::Writer;

use crate::blocking;

/// How long records of [`Ledger::append_later`] wait for others before they are written.
const BATCH: Duration = Duration::from_millis(100);

/// The ledger. Reads are from memory. [`append`](Self::append) returns when its records are durable;
/// [`append_later`](Self::append_later) returns at once and its records are durable a moment later. Both take
/// effect in the order of the calls, in memory as in storage.
pub struct Ledger {
    shared: Arc<Shared>,
    key: [u8; 32],
    opened: Opened,
}

/// What was found when a ledger was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Records, all of them.
    Read,
    /// Nothing: the agent was never here before.
    New,
    /// Something else than was written. Nothing is held; the hub is to give the whole state. The damaged values
    /// are kept under other names.
    Damaged(String),
}

impl Ledger {
    /// Reads the ledger called `name`, or begins one.
    pub async fn open(key_value: Arc<dyn KeyValue>, name: &str) -> Result<Self, LedgerError> {
        let (mut writer, bytes) = Writer::load(key_value.clone(), name).await?;
        writer.head().check_standing()?;
        let mut state = State::default();
        if writer.damage().is_none() {
            // Contents are parsed with it, which takes long where there are many objects.
            let read = blocking::run(move || {
                let mut state = State::default();
                record::decode_each(&bytes, |record| state.apply(record)).map(|()| state)
            });
            match read.await {
                Ok(read) => state = read,
                Err(e) => writer.note_damage(e.to_string()),
            }
        }
        let opened = match writer.damage() {
            Some(why) => Opened::Damaged(why.to_owned()),
            None if writer.is_new() => Opened::New,
            None => Opened::Read,
        };
        if let Opened::Damaged(why) = &opened {
            tracing::error!(
                "ledger is damaged: {why}; nothing is enforced before the hub gives the whole state"
            );
        }
        let key = *blake3::hash(writer.head().key.as_bytes()).as_bytes();
        let unreadable = state.unreadable();
        let shared = Arc::new(Shared::new(key_value, name, state, writer));
        if unreadable > 0 {
            shared.note_repair(format!(
                "{unreadable} contents are not readable, since what they were stored against is not; they are fetched \
                 again"
            ));
        }
        shared.compact_if_worth().await?;
        Ok(Self { shared, key, opened })
    }

    /// Tells what was found when the ledger was opened.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Tells whether this is the ledger of the cluster with this UID, and no copy of another's. From now on it is, where
    /// it was of none; that is durable a moment later.
    pub async fn is_of(&self, cluster_uid: &str) -> bool {
        self.shared.is_of(cluster_uid).await
    }

    /// Tells whether it was found to be the ledger of another cluster than this one.
    pub fn is_elsewhere(&self) -> bool {
        self.shared.is_elsewhere()
    }

    /// Makes it the ledger of the cluster with this UID, without the units of the one that it is of: these were never applied
    /// here. Both at once, or neither.
    pub async fn begin_anew(&self, cluster_uid: &str) -> Result<(), LedgerError> {
        let mut records: Vec<Record> = self.read(|state| {
            let units = state.units.keys();
            units.map(|unit| Record::Released { unit: *unit }).collect()
        });
        let accepted = self.read(|state| state.accepted);
        records.push(Record::Accepted(Accepted {
            epoch: accepted.epoch,
            cluster: accepted.cluster,
            ..Accepted::default()
        }));
        let former = self.shared.move_to(Some(cluster_uid.to_owned())).await;
        if let Err(error) = self.append(records).await {
            self.shared.move_to(former).await;
            return Err(error);
        }
        self.is_of(cluster_uid).await;
        Ok(())
    }

    /// Asks storage whether this is still the only writer: [`LedgerError::Lost`] when another agent has written
    /// since. For before an act in the cluster that no record precedes.
    pub async fn check_writer(&self) -> Result<(), LedgerError> {
        self.shared.check_writer().await
    }

    /// When storage last said that this is the only writer: each write asks as well, whoever made it.
    pub fn confirmed(&self) -> Instant {
        self.shared.confirmed()
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

    /// Takes records in at once, and makes them durable within 200 ms, or with the next [`append`](Self::append).
    /// For what may be found out again after a crash: outcomes and observations of units, never intents and never
    /// what is accepted. An error is that of an earlier batch: these records are taken in all the same, and are
    /// tried again with that batch.
    pub fn append_later(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        // What makes or ends units, in a call that overlaps an append, would give another order in memory.
        debug_assert!(records.iter().all(Record::is_outcome));
        let mut queue = self.shared.queue();
        if queue.lost {
            return Err(LedgerError::Lost);
        }
        if !records.is_empty() {
            record::encode(&records, &mut queue.bytes);
            self.shared.take_in(records);
            self.shared.schedule(&mut queue, BATCH);
        }
        queue.failed.take().map_or(Ok(()), Err)
    }

    /// Returns when all that was queued is durable.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.commit(Vec::new()).await
    }

    /// Returns the most bytes that it may need with more contents: less than its storage takes.
    pub fn limit(&self) -> usize {
        self.shared.limit()
    }

    /// Tells which sets of records have room beside one another, in their order: one that has none leaves its room to
    /// those after it. Contents that no entry names yet make room.
    pub async fn fitting(&self, sets: &[Vec<Record>]) -> Vec<Result<(), LedgerError>> {
        let mut parsed = HashMap::new();
        for set in sets {
            parsed.extend(self.shared.parse(set).await);
        }
        self.read(|state| {
            let mut outlook = Outlook::new(state, &parsed, true);
            let fit = |set: &Vec<Record>| outlook.take(set, self.shared.limit_of(state, set));
            sets.iter().map(fit).collect()
        })
    }

    /// Returns how often all that is held was made bytes, to be written anew.
    pub fn encodings(&self) -> u64 {
        self.shared.encodings()
    }

    /// Waits until storage was found put back to an earlier state, and gives the objects which that knew of and no unit has
    /// any more, each once. Cancel-safe.
    pub async fn recovered(&self) -> Recovered {
        self.shared.recovered().await
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
            Err(_) => Err(self.shared.broken_off()),
        }
    }
}

#[cfg(test)]
mod tests;
