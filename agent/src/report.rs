//! Rows for the hub: the last status of each unit and object, and events. A row is kept until the report that
//! carried it is acknowledged, and sent again after a reconnect; an unchanged row is never sent twice. How far
//! behind the hub is costs no memory: there is one row per thing, whatever happened to it meanwhile.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use flotilla_core::{digest::Digest, id::UnitId, object::ObjectKey};
use flotilla_proto::agent::v1::{Event, ObjectStatus, Report, UnitStatus};
use prost::Message as _;
use tokio::sync::Notify;

/// Events kept for the hub; older ones are dropped, and their number is said.
const EVENTS_MAX: usize = 1000;
/// Rows of one report, to stay far below the wire's message limit.
const ROWS_MAX: usize = 2000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum RowKey {
    Unit(UnitId),
    Object(UnitId, ObjectKey),
}

#[derive(Debug, Clone)]
enum Row {
    Unit(Box<UnitStatus>),
    Object(Box<ObjectStatus>),
    /// Reported gone; forgotten once acknowledged.
    Gone(Box<ObjectStatus>),
}

#[derive(Debug)]
struct Entry {
    row: Row,
    digest: Digest,
    /// The change that this row is.
    change: u64,
    /// The change that the hub has acknowledged.
    acked: u64,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<RowKey, Entry>,
    events: VecDeque<(u64, Event)>,
    events_dropped: u64,
    change: u64,
    seq: u64,
    everything: bool,
    in_flight: Option<InFlight>,
    acked_root: Option<Digest>,
}

#[derive(Debug)]
struct InFlight {
    seq: u64,
    rows: Vec<(RowKey, u64)>,
    last_event: u64,
    root: Digest,
}

/// Rows and events on their way to the hub.
#[derive(Debug, Default)]
pub struct Reports {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a unit's status. When only the time of observation differs, nothing has changed.
    pub fn unit(&self, unit: UnitId, status: UnitStatus) {
        let timeless = UnitStatus {
            observed_at_ms: 0,
            ..status.clone()
        };
        let digest = Digest::of("unit-status", &timeless.encode_to_vec());
        self.put(RowKey::Unit(unit), Row::Unit(Box::new(status)), digest);
    }

    /// Takes in an object's status.
    pub fn object(&self, unit: UnitId, key: ObjectKey, status: ObjectStatus) {
        let digest = Digest::of("object-status", &status.encode_to_vec());
        let gone = status.state() == flotilla_proto::agent::v1::ObjectState::Gone;
        let row = if gone {
            Row::Gone(Box::new(status))
        } else {
            Row::Object(Box::new(status))
        };
        self.put(RowKey::Object(unit, key), row, digest);
    }

    /// Takes in an event.
    pub fn event(&self, event: Event) {
        let mut inner = self.lock();
        inner.change += 1;
        let change = inner.change;
        inner.events.push_back((change, event));
        if inner.events.len() > EVENTS_MAX {
            inner.events.pop_front();
            inner.events_dropped += 1;
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Forgets a unit that the hub has let go of.
    pub fn forget(&self, unit: UnitId) {
        self.lock().rows.retain(|key, _| match key {
            RowKey::Unit(id) | RowKey::Object(id, _) => *id != unit,
        });
    }

    fn put(&self, key: RowKey, row: Row, digest: Digest) {
        let mut inner = self.lock();
        if inner.rows.get(&key).is_some_and(|held| held.digest == digest) {
            return;
        }
        inner.change += 1;
        let change = inner.change;
        let acked = inner.rows.get(&key).map_or(0, |held| held.acked);
        inner.rows.insert(
            key,
            Entry {
                row,
                digest,
                change,
                acked,
            },
        );
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits until there may be something to send.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Begins a stream: what was in flight on the last one is to be sent again, and with `everything` all is.
    pub fn begin(&self, everything: bool) {
        let mut inner = self.lock();
        inner.in_flight = None;
        inner.everything = everything;
        if everything {
            inner.rows.values_mut().for_each(|entry| entry.acked = 0);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Returns the digest over the rows that the hub has acknowledged; `None` before the first.
    pub fn acked_root(&self) -> Option<Digest> {
        self.lock().acked_root
    }

    /// Makes the next report, unless one is in flight or nothing has changed.
    pub fn next(&self, epoch: u64) -> Option<Report> {
        let mut inner = self.lock();
        if inner.in_flight.is_some() {
            return None;
        }
        let sent_event = inner.events.back().map_or(0, |(change, _)| *change);
        let mut rows = Vec::new();
        let mut report = Report {
            epoch,
            everything: inner.everything,
            events: inner.events.iter().map(|(_, event)| event.clone()).collect(),
            ..Report::default()
        };
        // Unit rows sort first, and all of them go: in a report of everything, the hub drops what is not named.
        for (key, entry) in inner.rows.iter().filter(|(_, entry)| entry.acked < entry.change) {
            match &entry.row {
                Row::Unit(status) => report.units.push((**status).clone()),
                Row::Object(status) | Row::Gone(status) if rows.len() < ROWS_MAX => {
                    report.objects.push((**status).clone());
                }
                Row::Object(_) | Row::Gone(_) => continue,
            }
            rows.push((key.clone(), entry.change));
        }
        if rows.is_empty() && report.events.is_empty() && !report.everything {
            return None;
        }
        inner.seq += 1;
        report.seq = inner.seq;
        let root = root(&inner, &rows);
        report.observed_root = bytes::Bytes::copy_from_slice(root.as_bytes());
        inner.in_flight = Some(InFlight {
            seq: inner.seq,
            rows,
            last_event: sent_event,
            root,
        });
        Some(report)
    }

    /// Takes in an acknowledgement: the hub has committed that report.
    pub fn ack(&self, seq: u64) {
        let mut inner = self.lock();
        if inner.in_flight.as_ref().is_none_or(|flight| flight.seq != seq) {
            return;
        }
        let Some(flight) = inner.in_flight.take() else {
            return;
        };
        inner.everything = false;
        inner.acked_root = Some(flight.root);
        for (key, change) in flight.rows {
            let Some(entry) = inner.rows.get_mut(&key) else {
                continue;
            };
            entry.acked = change;
            if entry.change == change && matches!(entry.row, Row::Gone(_)) {
                inner.rows.remove(&key);
            }
        }
        inner.events.retain(|(change, _)| *change > flight.last_event);
        drop(inner);
        self.changed.notify_one();
    }
}

/// Digest over what the hub will hold once the rows in `sending` are acknowledged. It is compared only with what
/// the hub stored from an earlier report, so its form is the agent's own.
fn root(inner: &Inner, sending: &[(RowKey, u64)]) -> Digest {
    let sending: std::collections::BTreeSet<&RowKey> = sending.iter().map(|(key, _)| key).collect();
    let mut bytes = Vec::new();
    for (key, entry) in &inner.rows {
        if (entry.acked == entry.change || sending.contains(key)) && !matches!(entry.row, Row::Gone(_)) {
            bytes.extend_from_slice(entry.digest.as_bytes());
        }
    }
    Digest::of("observed", &bytes)
}

#[cfg(test)]
mod tests {
    use flotilla_proto::agent::v1::ObjectState;
    use uuid::Uuid;

    use super::*;

    fn unit() -> UnitId {
        UnitId(Uuid::from_u128(1))
    }

    fn status(message: &str, at: i64) -> UnitStatus {
        UnitStatus {
            unit_id: unit().to_vec().into(),
            message: message.to_owned(),
            observed_at_ms: at,
            ..UnitStatus::default()
        }
    }

    fn object(state: ObjectState) -> ObjectStatus {
        ObjectStatus {
            unit_id: unit().to_vec().into(),
            state: state as i32,
            ..ObjectStatus::default()
        }
    }

    fn key() -> ObjectKey {
        ObjectKey::new("", "ConfigMap", "a", "x")
    }

    #[test]
    fn an_unchanged_row_is_not_sent_twice() {
        let reports = Reports::default();
        reports.unit(unit(), status("a", 1));
        let report = reports.next(1).expect("a report");
        reports.ack(report.seq);
        reports.unit(unit(), status("a", 2));
        assert_eq!(reports.next(1), None);
        reports.unit(unit(), status("b", 3));
        assert_eq!(reports.next(1).expect("a report").units.len(), 1);
    }

    #[test]
    fn an_unacknowledged_row_is_sent_again_after_a_reconnect() {
        let reports = Reports::default();
        reports.unit(unit(), status("a", 1));
        let lost = reports.next(1).expect("a report");
        assert_eq!(reports.next(1), None, "one report at a time");
        reports.begin(false);
        let again = reports.next(2).expect("a report");
        assert_eq!(again.units, lost.units);
        assert!(again.seq > lost.seq && again.epoch == 2);
        // The late acknowledgement of the lost one proves nothing about this one.
        reports.ack(lost.seq);
        assert_eq!(reports.acked_root(), None);
        reports.ack(again.seq);
        assert!(reports.acked_root().is_some());
    }

    #[test]
    fn a_row_that_changes_in_flight_is_sent_again() {
        let reports = Reports::default();
        reports.unit(unit(), status("a", 1));
        let first = reports.next(1).expect("a report");
        reports.unit(unit(), status("b", 2));
        reports.ack(first.seq);
        assert_eq!(reports.next(1).expect("a report").units[0].message, "b");
    }

    #[test]
    fn events_are_kept_until_acknowledged_and_bounded() {
        let reports = Reports::default();
        for n in 0..EVENTS_MAX + 5 {
            reports.event(Event {
                message: n.to_string(),
                ..Event::default()
            });
        }
        let report = reports.next(1).expect("a report");
        assert_eq!(
            (report.events.len(), report.events[0].message.as_str()),
            (EVENTS_MAX, "5")
        );
        reports.event(Event::default());
        reports.ack(report.seq);
        assert_eq!(reports.next(1).expect("a report").events.len(), 1);
    }

    #[test]
    fn everything_is_all_rows_and_a_gone_object_is_forgotten_once_told() {
        let reports = Reports::default();
        reports.unit(unit(), status("a", 1));
        reports.object(unit(), key(), object(ObjectState::Applied));
        let first = reports.next(1).expect("a report");
        reports.ack(first.seq);
        reports.object(unit(), key(), object(ObjectState::Gone));
        let gone = reports.next(1).expect("a report");
        assert_eq!((gone.units.len(), gone.objects.len()), (0, 1));
        reports.ack(gone.seq);
        reports.begin(true);
        let all = reports.next(2).expect("a report");
        assert_eq!((all.everything, all.units.len(), all.objects.len()), (true, 1, 0));
        assert_eq!(all.observed_root, gone.observed_root);
    }
}
