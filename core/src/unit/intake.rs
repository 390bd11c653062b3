//! What was evaluated on its way into the rows, in pieces: a unit may have many objects, and whoever drives it has more
//! to do meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::object::{Check, Desired, Object};
use crate::{
    apply::inventory::{Left, Record, State as RecordState},
    object::ObjectKey,
};

/// Rows of which something else is desired that one piece takes in.
pub(super) const PIECE: usize = 256;
/// Rows that one piece compares: most are as they were.
const COMPARED: usize = 32 * PIECE;

type Objects = BTreeMap<Arc<ObjectKey>, Box<Object>>;
/// Rows of which something else is desired, and whether what was seen of each is in doubt by that.
type Changed = Vec<(Arc<ObjectKey>, bool)>;

/// What is desired and not taken in yet.
#[derive(Debug)]
pub(super) struct Intake {
    objects: BTreeMap<Arc<ObjectKey>, Desired>,
    unchanged: BTreeSet<Arc<ObjectKey>>,
    /// What the records of objects that are not desired note; `None`: nothing.
    left: Option<Left>,
    /// The row that was compared last.
    last: Option<Arc<ObjectKey>>,
    are_rows_compared: bool,
    /// Records to make durable.
    records: Vec<(Arc<ObjectKey>, Option<Arc<Record>>)>,
}

impl Intake {
    pub(super) fn new(
        objects: BTreeMap<Arc<ObjectKey>, Desired>,
        unchanged: BTreeSet<Arc<ObjectKey>>,
        left: Option<Left>,
    ) -> Self {
        Self {
            objects,
            unchanged,
            left,
            last: None,
            are_rows_compared: false,
            records: Vec::new(),
        }
    }

    /// Takes in a piece.
    pub(super) fn piece(&mut self, rows: &mut Objects) -> Changed {
        let mut changed = match self.are_rows_compared {
            true => Vec::new(),
            false => self.compared(rows),
        };
        if self.are_rows_compared {
            self.add_rows(rows, &mut changed);
        }
        changed
    }

    /// Compares some of the rows that are there with what is desired of them.
    fn compared(&mut self, rows: &mut Objects) -> Changed {
        let mut changed = Vec::new();
        let from = |last: &Option<Arc<ObjectKey>>| match last {
            Some(last) => (Bound::Excluded(last.clone()), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        // Each has a row, and both are sorted.
        let mut unchanged = self.unchanged.range(from(&self.last)).peekable();
        let mut left_over = rows.range_mut(from(&self.last));
        let mut last = None;
        for (key, object) in left_over.by_ref().take(COMPARED) {
            last = Some(key);
            let object = object.as_mut();
            let is_unchanged = unchanged.next_if(|one| Arc::ptr_eq(one, key) || *one == key);
            let now = is_unchanged.is_none().then(|| self.objects.remove(key));
            let is_same = now.as_ref().is_none_or(|now| *now == object.desired);
            let desired = now.as_ref().unwrap_or(&object.desired).as_ref();
            let record = object.record.as_deref();
            // What was about to be deleted when the process ended may be gone: it is written, until it was seen.
            let is_seen = object.is_there();
            let noted = record.and_then(|record| noted(record, desired, self.left, is_seen));
            let is_idle = object.record.is_none() && desired.is_none();
            if is_same && noted.is_none() && !is_idle {
                continue;
            }
            let is_doubted = !is_same && matches!(object.check, Check::NotBefore { seen: Some(_), .. });
            object.left &= is_same;
            if let Some(now) = now {
                if now.is_some() {
                    object.leaving = None;
                }
                object.desired = now;
            }
            if let Some(record) = noted.map(Arc::new) {
                object.record = Some(record.clone());
                self.records.push((key.clone(), Some(record)));
            }
            changed.push((key.clone(), is_doubted));
            if changed.len() == PIECE {
                break;
            }
        }
        let last = last.cloned();
        self.are_rows_compared = left_over.next().is_none();
        self.last = last.or_else(|| self.last.take());
        changed
    }

    /// Adds rows of objects that have none.
    fn add_rows(&mut self, rows: &mut Objects, changed: &mut Changed) {
        while changed.len() < PIECE
            && let Some((key, desired)) = self.objects.pop_first()
        {
            let object = Object {
                desired: Some(desired),
                ..Object::default()
            };
            rows.insert(key.clone(), Box::new(object));
            changed.push((key, false));
        }
    }

    /// Tells whether all is taken in.
    pub(super) fn is_over(&self) -> bool {
        self.are_rows_compared && self.objects.is_empty()
    }

    pub(super) fn into_records(self) -> Vec<(Arc<ObjectKey>, Option<Arc<Record>>)> {
        self.records
    }
}

/// What an object's record becomes by what is desired of it; `None`: it stays as it is. `left`: it leaves when nothing
/// is. `is_seen`: it was there when it was seen last.
fn noted(record: &Record, desired: Option<&Desired>, left: Option<Left>, is_seen: bool) -> Option<Record> {
    match desired {
        Some(desired) => {
            let is_back = record.state == RecordState::PendingRemoval;
            // Switches that hold the object off are never written to it, and count all the same, until what was written
            // before is desired again.
            let counts = desired.is_held_off() || record.sent == Some(desired.digest);
            let is_switched = counts && record.policy != desired.policy;
            (is_back || is_switched).then(|| {
                let mut record = record.clone();
                match is_seen {
                    true => drop(record.keep()),
                    false => record.intend(),
                }
                if is_switched {
                    record.set_policy(desired.policy);
                }
                record
            })
        }
        // One that left at a later version did so in a history that the hub has lost: it is absent from what is offered now,
        // and a clearing speaks of nothing else.
        None => left
            .filter(|left| {
                record
                    .left
                    .as_ref()
                    .is_none_or(|known| known.version > left.version)
            })
            .map(|left| {
                let mut record = record.clone();
                record.leave(left);
                record
            }),
    }
}
