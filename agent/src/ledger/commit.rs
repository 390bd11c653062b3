//! From records to storage: what waits is written with what comes, by one task at a time; what does not fit is
//! compacted first; memory follows storage, or runs ahead of it by the queue.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla_core::{backoff::Backoff, digest::Digest};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    BATCH,
    error::LedgerError,
    head::Standing,
    health::{HealthState, LedgerHealth},
    key_value::{KeyValue, KeyValueError},
    record::{self, Record},
    state::{Parsed, State},
    writer::{Binding, Writer},
};
use crate::random::random;

mod deltas;
mod earlier;
mod group;
mod rewrite;

pub use earlier::Recovered;
use group::Waiting;
use rewrite::{Snapshot, Stored};

/// Below this nothing is worth compacting.
const COMPACT_MIN: usize = 256 << 10;
/// Bytes that wait while storage takes nothing; beyond, all is written anew from memory once it does.
const QUEUE_MAX: usize = 1 << 20;
/// Room that the queue keeps when nothing waits.
const BURST: usize = 16 << 10;
/// Repairs of one write: where storage went back, a segment may tell first that it is another one, and the head then
/// why.
const REPAIRS: u32 = 2;
/// How long damage that was repaired at once is told.
const REPAIRED: Duration = Duration::from_secs(60);
/// The part of what storage takes that contents and entries are not given: units write there what they do with them, and
/// garbage gathers there, so that not each write is one of all that is held.
const KEPT: usize = 10;
/// Waits after a batch that could not be written.
const RETRY: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

pub(super) struct Shared {
    pub(super) key_value: Arc<dyn KeyValue>,
    pub(super) name: String,
    state: RwLock<State>,
    queue: Mutex<Queue>,
    pub(super) writer: tokio::sync::Mutex<Writer>,
    /// What is to be written with whatever is written next.
    waiting: Mutex<Vec<Waiting>>,
    pub(super) health: watch::Sender<LedgerHealth>,
    /// Objects that only an earlier state knew, until the reconciler takes them.
    recovered: Mutex<Recovered>,
    has_recovered: Notify,
    /// How often all was made bytes.
    encodings: AtomicU64,
    /// When the head was last known to be this agent's.
    confirmed: Mutex<Instant>,
    /// It is of another cluster than the one that was last asked about.
    elsewhere: AtomicBool,
}

/// What is in memory and not yet durable.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    /// What is stored lacks more than `bytes`: all is to be written from memory.
    rewrite: bool,
    /// The head says something that is not stored: it is to be written, with no record too.
    head: bool,
    /// The task that is going to write it, by number. An earlier one that wakes has nothing to do any more.
    scheduled: Option<u64>,
    /// Number of the last such task.
    tasks: u64,
    /// Batches that failed in a row.
    failures: u32,
    /// Why the last batch was not written, until somebody was told.
    pub(super) failed: Option<LedgerError>,
    /// Another agent writes: nothing is written any more.
    pub(super) lost: bool,
    /// What was damaged when the ledger was opened, until a desired state is held again.
    damaged: Option<String>,
    /// What was damaged and is written anew, for as long as that is told.
    repaired: Option<String>,
}

impl Queue {
    /// Tells whether something is to be written.
    fn waits(&self) -> bool {
        !self.bytes.is_empty() || self.rewrite || self.head
    }
}

/// How records are to be stored.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Append,
    Rewrite,
}

/// Decides for `more` bytes after `used`, of which `live` are no garbage.
fn plan(fits_tail: bool, used: usize, more: usize, live: usize, limit: usize) -> Plan {
    let all = used + more;
    let garbage = all.saturating_sub(live + more);
    if !fits_tail && (all > limit || (used >= COMPACT_MIN && 2 * garbage >= all)) {
        Plan::Rewrite
    } else {
        Plan::Append
    }
}

impl Shared {
    pub(super) fn new(key_value: Arc<dyn KeyValue>, name: &str, state: State, writer: Writer) -> Self {
        let damaged = writer.damage().map(|why| {
            format!(
                "{why}; nothing is enforced before the hub has given the whole state, which needs no help"
            )
        });
        let mut health = LedgerHealth::after(state.live_size(), key_value.limits().total, Ok(()));
        if let Some(why) = &damaged {
            health.state = HealthState::Damaged(why.clone());
        }
        Self {
            key_value,
            name: name.to_owned(),
            state: RwLock::new(state),
            queue: Mutex::new(Queue {
                damaged,
                ..Queue::default()
            }),
            writer: tokio::sync::Mutex::new(writer),
            waiting: Mutex::default(),
            health: watch::Sender::new(health),
            recovered: Mutex::default(),
            has_recovered: Notify::new(),
            encodings: AtomicU64::new(0),
            confirmed: Mutex::new(Instant::now()),
            elsewhere: AtomicBool::new(false),
        }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_in(&self, records: impl IntoIterator<Item = Record>) {
        let mut state = self.state_mut();
        records.into_iter().for_each(|record| state.apply(record));
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the queue be written after `wait`, unless somebody does it before or is going to.
    pub(super) fn schedule(self: &Arc<Self>, queue: &mut Queue, wait: Duration) {
        if queue.scheduled.is_some() {
            return;
        }
        queue.tasks += 1;
        let number = queue.tasks;
        queue.scheduled = Some(number);
        let ledger = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(ledger) = Weak::upgrade(&ledger) else {
                return;
            };
            if ledger.queue().scheduled.take_if(|task| *task == number).is_some() {
                // Told through the health, and to whoever calls next.
                let _ = ledger.commit(Vec::new()).await;
            }
        });
    }

    /// Tells whether the ledger is of this cluster; where it was of none it is by now. A settled agent writes nothing for
    /// weeks, and a copy of what is stored must not be of none: so that is written by itself. Nobody waits for it, since
    /// what is held is enforced also while storage takes nothing. Where nothing is stored, or what is stored is damaged,
    /// nothing can be enforced elsewhere, and the first record brings it along.
    pub(super) async fn is_of(self: &Arc<Self>, cluster_uid: &str) -> bool {
        let mut writer = self.writer.lock().await;
        let binding = writer.set_cluster(cluster_uid);
        if binding == Binding::New && !writer.is_new() && writer.damage().is_none() {
            let mut queue = self.queue();
            queue.head = true;
            self.schedule(&mut queue, Duration::ZERO);
        }
        let is_other = binding == Binding::Other;
        self.elsewhere.store(is_other, Ordering::Relaxed);
        !is_other
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Makes it that of the cluster with this UID, which is stored with the next records. Returns of which it was.
    pub(super) async fn move_to(&self, cluster_uid: Option<String>) -> Option<String> {
        self.writer.lock().await.replace_cluster(cluster_uid)
    }

    /// Takes in that a write was broken off by a panic: what waited still waits.
    pub(super) fn broken_off(self: &Arc<Self>) -> LedgerError {
        let mut queue = self.queue();
        if queue.waits() {
            queue.failures += 1;
            self.schedule_retry(&mut queue);
        }
        LedgerError::Storage(KeyValueError::Unavailable {
            name: self.name.clone(),
            why: "the write was broken off".to_owned(),
        })
    }

    fn schedule_retry(self: &Arc<Self>, queue: &mut Queue) {
        let wait = RETRY.delay(queue.failures, random()).max(BATCH);
        self.schedule(queue, wait);
    }

    pub(super) async fn check_writer(self: &Arc<Self>) -> Result<(), LedgerError> {
        let mut writer = self.writer.lock().await;
        match writer.check().await {
            // It is the only writer all the same.
            Err(LedgerError::Damaged(why)) if writer.damage().is_none() => {
                // What is scheduled waits for the writer, and comes also when whoever asks goes away.
                self.schedule(&mut self.queue(), BATCH);
                self.recover(&mut writer, why).await;
            }
            checked => checked?,
        }
        self.confirm();
        Ok(())
    }

    fn confirm(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn encodings(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    pub(super) fn confirmed(&self) -> Instant {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compacts a ledger that was just read, where that is worth while.
    pub(super) async fn compact_if_worth(self: &Arc<Self>) -> Result<(), LedgerError> {
        let (used, sound) = {
            let writer = self.writer.lock().await;
            (writer.used(), writer.damage().is_none())
        };
        let live = self.read(State::live_size);
        if !sound || plan(false, used, 0, live, self.key_value.limits().total) == Plan::Append {
            return Ok(());
        }
        self.queue().rewrite = true;
        match self.clone().commit(Vec::new()).await {
            Err(LedgerError::Lost) => Err(LedgerError::Lost),
            Err(e) => {
                tracing::warn!("ledger is not compacted: {e}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Bytes that contents and entries may bring it to.
    pub(super) fn limit(&self) -> usize {
        let total = self.key_value.limits().total;
        total - total / KEPT
    }

    /// Bytes that records may bring it to: what keeps to contents that its unit has, as where that is suspended, has
    /// all that storage takes.
    pub(super) fn limit_of(&self, state: &State, records: &[Record]) -> usize {
        match state.brings_contents(records) {
            true => self.limit(),
            false => self.key_value.limits().total,
        }
    }

    async fn write(self: &Arc<Self>, writer: &mut Writer, records: Vec<Record>) -> Result<(), LedgerError> {
        {
            let queue = self.queue();
            if queue.lost {
                return Err(LedgerError::Lost);
            }
            if !queue.waits() && records.is_empty() {
                return Ok(());
            }
        }
        let parsed = self.parse(&records).await;
        let admitted = self.read(|state| {
            let limit = self.limit_of(state, &records);
            state.admits(&records, &parsed, limit)
        });
        if let Err(error) = admitted {
            // What waits is not concerned.
            self.tell(None, Err(&error));
            return Err(error);
        }
        self.state_mut().prepare(parsed);
        let outcome = self.store(writer, &records).await;
        let outcome = self.settle(records, outcome);
        self.state_mut().prepare(HashMap::new());
        outcome
    }

    /// Parses the contents that records bring or name, before anything is locked.
    pub(super) async fn parse(&self, records: &[Record]) -> HashMap<Digest, Parsed> {
        let mut contents = HashMap::new();
        for (digest, blob) in self.read(|state| state.unparsed(records)) {
            contents.extend(blob.parsed().await.map(|parsed| (digest, parsed)));
        }
        contents
    }

    async fn store(self: &Arc<Self>, writer: &mut Writer, records: &[Record]) -> Result<Stored, LedgerError> {
        if writer.damage().is_some() {
            let found_so = self.queue().damaged.is_some();
            let again = if found_so {
                Ok(())
            } else {
                writer.look_again().await
            };
            match again {
                Err(LedgerError::Damaged(_)) if self.key_value.is_exclusive() => {
                    self.begin_anew(writer).await?
                }
                Ok(()) if found_so => self.begin_anew(writer).await?,
                Err(LedgerError::Damaged(why)) if writer.damage().is_none() => {
                    self.recover(writer, why).await;
                }
                again => again?,
            }
        }
        let mut outcome = self.store_sound(writer, records).await;
        for _ in 0..REPAIRS {
            match outcome {
                // The head is sound, and keeps another writer out: what it names is in memory and is written anew.
                Err(LedgerError::Damaged(why)) if writer.damage().is_none() => {
                    self.recover(writer, why).await;
                    outcome = self.store_sound(writer, records).await;
                }
                _ => break,
            }
        }
        match outcome {
            Err(LedgerError::Damaged(_)) if self.key_value.is_exclusive() => {
                self.begin_anew(writer).await?;
                self.store_sound(writer, records).await
            }
            outcome => outcome,
        }
    }

    /// Lets all be written from memory, and what was damaged be told for a while.
    pub(super) fn note_repair(self: &Arc<Self>, why: String) {
        let why = format!("{why}; all is written anew from memory");
        tracing::error!("ledger is damaged: {why}");
        let mut queue = self.queue();
        (queue.rewrite, queue.repaired) = (true, Some(why));
        drop(queue);
        let ledger = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(REPAIRED).await;
            let Some(ledger) = Weak::upgrade(&ledger) else {
                return;
            };
            let Some(repaired) = ledger.queue().repaired.take() else {
                return;
            };
            // What was told since by another write stands.
            if ledger.health.borrow().state == HealthState::Damaged(repaired) {
                ledger.tell(None, Ok(()));
            }
        });
    }

    async fn begin_anew(&self, writer: &mut Writer) -> Result<(), LedgerError> {
        writer.begin_anew().await?;
        self.queue().rewrite = true;
        Ok(())
    }

    async fn store_sound(&self, writer: &mut Writer, records: &[Record]) -> Result<Stored, LedgerError> {
        let limit = self.key_value.limits().total;
        let (mut bytes, rewrite) = {
            let queue = self.queue();
            (queue.bytes.clone(), queue.rewrite)
        };
        let queued = bytes.len();
        let (records_stored, chains) = self.with_deltas(records).await;
        record::encode(&records_stored, &mut bytes);
        drop(records_stored);
        let accepted = records.iter().rev().find_map(|record| match record {
            Record::Accepted(accepted) => Some(*accepted),
            _ => None,
        });
        let (accepted, live) = self.read(|state| (accepted.unwrap_or(state.accepted), state.live_size()));
        let fits = writer.fits_tail(bytes.len());
        if !rewrite && plan(fits, writer.used(), bytes.len(), live, limit) == Plan::Append {
            writer.append(&bytes, accepted).await?;
            return Ok(Stored {
                queued,
                dropped: HashSet::new(),
                chains: Some(chains),
            });
        }
        drop(bytes);
        let Snapshot { bytes, stored } = self.snapshot(records, limit).await?;
        writer.replace(&bytes, accepted, Standing::Here).await?;
        Ok(stored)
    }

    /// Takes in the outcome of a write.
    fn settle(
        self: &Arc<Self>,
        records: Vec<Record>,
        outcome: Result<Stored, LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut queue = self.queue();
        let outcome = match outcome {
            Ok(stored) => {
                self.confirm();
                queue.bytes.drain(..stored.queued);
                // A burst is over; its room is not kept.
                queue.bytes.shrink_to(BURST);
                (queue.failures, queue.failed) = (0, None);
                (queue.rewrite, queue.head) = (false, false);
                queue.scheduled = None;
                self.take_in(records);
                let is_whole = stored.chains.is_none();
                self.state_mut()
                    .note_chains(stored.chains.unwrap_or_default(), is_whole);
                // What was queued meanwhile is in memory already and comes after `records`: once more, so that
                // memory is what a restart will read.
                let later = record::decode(&queue.bytes).unwrap_or_default();
                let again = later.iter().filter_map(|record| match record {
                    Record::Blob(digest, _) => Some(*digest),
                    _ => None,
                });
                let again: HashSet<Digest> = again.collect();
                self.take_in(later);
                let needed = self.state_mut().forget(&stored.dropped, &again);
                record::encode(&needed, &mut queue.bytes);
                if !queue.bytes.is_empty() {
                    self.schedule(&mut queue, BATCH);
                }
                if self.read(|state| state.accepted.generation) > 0 {
                    queue.damaged = None;
                }
                Ok(())
            }
            Err(error) => {
                queue.lost |= matches!(error, LedgerError::Lost);
                if queue.waits() && !queue.lost {
                    if queue.bytes.len() > QUEUE_MAX {
                        (queue.bytes, queue.rewrite) = (Vec::new(), true);
                    }
                    queue.failures += 1;
                    queue.failed = Some(error.clone());
                    self.schedule_retry(&mut queue);
                }
                Err(error)
            }
        };
        let damaged = queue.damaged.clone().or_else(|| queue.repaired.clone());
        drop(queue);
        self.tell(
            damaged,
            match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(error),
            },
        );
        outcome
    }

    fn tell(&self, damaged: Option<String>, outcome: Result<(), &LedgerError>) {
        let bytes = self.read(State::live_size);
        let mut now = LedgerHealth::after(bytes, self.key_value.limits().total, outcome);
        if let (Some(why), true) = (damaged, outcome.is_ok()) {
            now.state = HealthState::Damaged(why);
        }
        self.health.send_if_modified(|health| {
            let changed = *health != now;
            *health = now;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_compacted_at_half_and_before_the_limit() {
        let plan = |used, more, live| plan(false, used, more, live, 16 << 20);
        let mib = 1 << 20;
        assert_eq!(plan(mib, mib, mib), Plan::Append);
        assert_eq!(plan(4 * mib, mib / 8, mib), Plan::Rewrite);
        assert_eq!(plan(15 * mib, mib / 8, 9 * mib), Plan::Append);
        assert_eq!(plan(16 * mib, mib / 8, 9 * mib), Plan::Rewrite);
        assert_eq!(plan(COMPACT_MIN / 2, 0, 0), Plan::Append);
        assert_eq!(super::plan(true, 16 * mib, mib / 8, mib, 16 << 20), Plan::Append);
    }
}
