//! Rows for the hub: the last status of each unit and object, states of the cluster, and events. A row is kept
//! until the report that carried it is acknowledged, and sent again after a reconnect; an unchanged row is never
//! sent twice. How far behind the hub is costs no memory: there is one row per thing, whatever happened to it
//! meanwhile. A report is filled up to the wire's bound; what is left goes in the next.

mod fill;
mod known;
mod row;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_core::{clock::Timestamp, digest::Digest, id::UnitId, object::ObjectKey};
use flotilla_proto::{
    agent::v1::{ClusterCondition, ClusterConditionKind, Event, ObjectStatus, Report, UnitStatus},
    limits::{MESSAGE_BYTES, OBJECT_MESSAGE_BYTES, WORD_BYTES, cut},
};
pub use known::HubRows;
use prost::Message as _;
use row::{Row, RowKey, Sum};
use rows::{Entry, Rows};
use tokio::sync::Notify;

/// Events kept for the hub, in number and in bytes; older ones are dropped, and their number is told.
const EVENTS_MAX: usize = 1000;
const EVENTS_BYTES: usize = 512 << 10;

/// What was sent to the hub since the start: after the happy end none of it rises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reports.
    pub reports: u64,
    /// Rows of units, objects and conditions.
    pub rows: u64,
    /// Events.
    pub events: u64,
}

/// Where a full report has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Full {
    /// None is to be sent.
    No,
    /// Rows after this one are still to come; `None`: all are.
    After(Option<RowKey>),
    /// The hub has the rows; the conditions alone are to be told, since it may have some of before.
    Conditions,
}

/// What is held back after a start: the hub has rows as they were told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// All rows.
    Rows,
    /// A full report: the hub forgets what that does not name, and not all is known. Rows that are go alone.
    Full,
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct InFlight {
    seq: u64,
    rows: Vec<(RowKey, u64, Option<Digest>)>,
    conditions: Vec<(i32, u64)>,
    last_event: u64,
    /// Dropped events that it told of.
    dropped: u64,
    /// Events of its own that had to leave meanwhile: lost only if it is.
    evicted: u64,
    full: Full,
    /// Its rows went before a full report, which is to name them again.
    before_full: bool,
    root: Option<Digest>,
}

#[derive(Debug)]
struct Condition {
    state: ClusterCondition,
    change: u64,
    acked: u64,
}

#[derive(Debug)]
struct Inner {
    rows: Rows,
    /// Rows that the hub does not have as they are.
    pending: BTreeSet<RowKey>,
    conditions: BTreeMap<i32, Condition>,
    events: VecDeque<(u64, Event)>,
    events_bytes: usize,
    events_dropped: u64,
    change: u64,
    seq: u64,
    full: Full,
    in_flight: Option<InFlight>,
    hold: Hold,
    /// Root of the rows that the hub has, before a full report that tells them only if they are others.
    expected: Option<Digest>,
    /// Over the rows as the hub has them.
    acked: Sum,
    acked_root: Option<Digest>,
    counts: Counts,
}

/// Rows and events on their way to the hub.
#[derive(Debug)]
pub struct Reports {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                rows: Rows::default(),
                pending: BTreeSet::new(),
                conditions: BTreeMap::new(),
                events: VecDeque::new(),
                events_bytes: 0,
                events_dropped: 0,
                change: 0,
                seq: 0,
                full: Full::No,
                in_flight: None,
                hold: Hold::Nothing,
                expected: None,
                acked: Sum::default(),
                acked_root: None,
                counts: Counts::default(),
            }),
            changed: Notify::new(),
        }
    }
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a unit's status. When only the time of observation differs, nothing has changed.
    pub fn unit(&self, unit: UnitId, mut status: UnitStatus) {
        cut(&mut status.reason, WORD_BYTES);
        cut(&mut status.message, MESSAGE_BYTES);
        self.put(RowKey::Unit(unit), Row::Unit(Box::new(status)));
    }

    /// Takes in an object's status.
    pub fn object(&self, unit: UnitId, key: impl Into<Arc<ObjectKey>>, mut status: ObjectStatus) {
        let mut key = key.into();
        row::bound_key(&mut key);
        cut(&mut status.message, OBJECT_MESSAGE_BYTES);
        for word in [&mut status.api_version, &mut status.uid, &mut status.health] {
            cut(word, WORD_BYTES);
        }
        self.put(RowKey::Object(unit, key), Row::object(status));
    }

    /// Takes in an event.
    pub fn event(&self, mut event: Event) {
        cut(&mut event.reason, WORD_BYTES);
        cut(&mut event.message, OBJECT_MESSAGE_BYTES);
        if let Some(key) = &mut event.key {
            row::bound_wire_key(key);
        }
        let inner = &mut *self.lock();
        inner.change += 1;
        let change = inner.change;
        inner.events_bytes += event.encoded_len();
        inner.events.push_back((change, event));
        while inner.events.len() > EVENTS_MAX || inner.events_bytes > EVENTS_BYTES {
            let Some((change, dropped)) = inner.events.pop_front() else {
                break;
            };
            inner.events_bytes -= dropped.encoded_len();
            match &mut inner.in_flight {
                Some(flight) if change <= flight.last_event => flight.evicted += 1,
                _ => inner.events_dropped += 1,
            }
        }
        self.changed.notify_one();
    }

    /// Takes in a state of the cluster. Its time is that of the last turn between well and not well.
    /// What is new in it is logged: this is the one place where it is.
    pub fn condition(&self, kind: ClusterConditionKind, ok: bool, mut message: String, now: Timestamp) {
        cut(&mut message, MESSAGE_BYTES);
        let mut inner = self.lock();
        let held = inner.conditions.get(&(kind as i32)).map(|held| &held.state);
        // What was never said to be wrong need not be said to be well.
        if held.is_none() && ok || held.is_some_and(|held| held.ok == ok && held.message == message) {
            return;
        }
        let since_ms = held
            .filter(|held| held.ok == ok)
            .map_or(now.0, |held| held.since_ms);
        let turned = held.is_none_or(|held| held.ok != ok);
        inner.change += 1;
        let condition = Condition {
            state: ClusterCondition {
                kind: kind as i32,
                ok,
                message: message.clone(),
                since_ms,
            },
            change: inner.change,
            acked: 0,
        };
        inner.conditions.insert(kind as i32, condition);
        drop(inner);
        self.changed.notify_one();
        if !ok {
            tracing::warn!("{message}");
        } else if turned {
            tracing::info!("{}", well_again(kind));
        }
    }

    /// Holds back this much. Rows are sent once it is known what they are now, and where that comes soon, not twice.
    /// Events and conditions go at once.
    pub fn hold(&self, hold: Hold) {
        let inner = &mut *self.lock();
        inner.hold = hold;
        if let (Hold::Nothing, Full::After(after)) = (hold, &inner.full) {
            let named = inner.rows.keys().filter(|key| Some(key) > after.as_ref());
            inner.pending.extend(named);
        }
        self.changed.notify_one();
    }

    /// Forgets a unit that the hub has let go of.
    pub fn forget(&self, unit: UnitId) {
        let inner = &mut *self.lock();
        for acked in inner.rows.forget(unit) {
            inner.acked.replace(Some(acked), None);
        }
        inner.pending.remove(&RowKey::Unit(unit));
        let first = RowKey::Object(unit, Arc::new(ObjectKey::new("", "", "", "")));
        let objects = inner.pending.range(first..);
        let objects = objects.take_while(|key| matches!(key, RowKey::Object(id, _) if *id == unit));
        for key in objects.cloned().collect::<Vec<_>>() {
            inner.pending.remove(&key);
        }
    }

    /// Has the rows of a unit told again, also those that are on their way: the hub may not have known the unit when it was
    /// told of them, and has left them out.
    pub fn again(&self, unit: UnitId) {
        let inner = &mut *self.lock();
        inner.change += 1;
        let told = inner.rows.again(unit, inner.change);
        if !told.is_empty() {
            inner.pending.extend(told);
            self.changed.notify_one();
        }
    }

    fn put(&self, key: RowKey, row: Row) {
        let inner = &mut *self.lock();
        let held = inner.rows.get(&key);
        if held.is_some_and(|held| held.row.says(&row)) {
            return;
        }
        inner.change += 1;
        let entry = Entry::new(&key, row, inner.change, held);
        inner.pending.insert(key.clone());
        inner.rows.insert(key, entry);
        self.changed.notify_one();
    }

    /// Waits until there may be something to send.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Begins a stream: what was in flight on the last one is sent again unless the hub has it, and all is where the hub
    /// has other rows than these. `wrong`: the conditions that the hub has as wrong; `None`: it does not say.
    pub fn begin(&self, hub: HubRows, wrong: Option<&[ClusterCondition]>) {
        known::begin(&mut self.lock(), hub, wrong);
        self.changed.notify_one();
    }

    /// Returns the digest over the rows that the hub has acknowledged; `None` before the first, and while a full
    /// report has not ended.
    pub fn acked_root(&self) -> Option<Digest> {
        self.lock().acked_root
    }

    /// Returns what was sent so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Tells whether all that the next report would say is that units are on their way: what becomes of them is told as
    /// a rule within moments, and then nobody needs to have heard of it.
    pub fn is_passing(&self) -> bool {
        fill::is_passing(&self.lock())
    }

    /// Tells whether there is something to tell that may wait for more, as while much becomes of many units.
    pub fn may_gather(&self) -> bool {
        fill::may_gather(&self.lock())
    }

    /// Makes the next report, unless one is in flight or nothing has changed.
    pub fn next(&self, epoch: u64) -> Option<Report> {
        fill::next(&mut self.lock(), epoch)
    }

    /// Takes in an acknowledgement: the hub has committed that report.
    pub fn ack(&self, seq: u64) {
        let inner = &mut *self.lock();
        if inner.in_flight.as_ref().is_none_or(|flight| flight.seq != seq) {
            return;
        }
        if let Some(flight) = inner.in_flight.take() {
            known::acknowledge(inner, flight);
        }
        self.changed.notify_one();
    }
}

/// What the end of a trouble is, for people.
fn well_again(kind: ClusterConditionKind) -> &'static str {
    match kind {
        ClusterConditionKind::ApiServer => "the API server answers again",
        ClusterConditionKind::Ledger => "the ledger takes what it has to hold again",
        ClusterConditionKind::Certificate => "the certificate is renewed in time again",
        ClusterConditionKind::Watches => "every kind and namespace is watched again",
        ClusterConditionKind::Units => "the hub names every unit that is held here again",
        ClusterConditionKind::Reports | ClusterConditionKind::Clock | ClusterConditionKind::Unspecified => {
            "well again"
        }
    }
}
