//! Rows for the hub: what has changed since it acknowledged last.

use std::collections::BTreeMap;

use flotilla_core::{
    apply::inventory::State as RecordState,
    digest::Digest,
    object::ObjectKey,
    unit::{object::Object, problem::Problem, record::Ready, state::State},
};
use uuid::Uuid;

use crate::store::{ObjectRow, PENDING, Report, Status};

/// All rows of an agent.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rows {
    units: BTreeMap<Uuid, Status>,
    objects: BTreeMap<(Uuid, ObjectKey), ObjectRow>,
}

impl Rows {
    fn root(&self) -> Digest {
        Digest::of("rows", format!("{self:?}").as_bytes())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reports {
    now: Rows,
    /// What the hub has acknowledged; `None`: it is to be told everything.
    known: Option<Rows>,
    /// What is on its way.
    sent: Option<(u64, Rows)>,
    seq: u64,
    /// Units whose rows are told again, whatever the hub has acknowledged, with the report that does so.
    again: BTreeMap<Uuid, Option<u64>>,
    /// Rows are told.
    is_released: bool,
}

fn ready(ready: Ready) -> &'static str {
    match ready {
        Ready::True => "True",
        Ready::False => "False",
        Ready::Unknown => "Unknown",
    }
}

/// The word of an object, as it is reported; `None`: it is gone.
fn word(object: Option<&Object>) -> Option<&'static str> {
    let record = object.and_then(|object| object.record.as_ref());
    let problem = object.and_then(Object::problem);
    Some(match (record, problem) {
        (_, Some(Problem::Unpruned(_))) => PENDING,
        (_, Some(Problem::Failed(_))) => "Failed",
        (_, Some(Problem::Withheld { .. })) => "Conflict",
        (_, Some(_)) => "Waiting",
        (None, None) if object.is_some_and(|object| object.desired.is_some()) => "Waiting",
        (None, None) => return None,
        (Some(record), None) => match record.state {
            RecordState::Intent => "Waiting",
            RecordState::Applied => "Applied",
            RecordState::PendingRemoval => PENDING,
        },
    })
}

impl Reports {
    /// Notes the rows of a unit that may have changed.
    pub(super) fn note(&mut self, unit: Uuid, state: &mut State) {
        let (objects, is_dirty) = state.take_dirty();
        for key in objects {
            let object = state.objects().get(&key).map(AsRef::as_ref);
            let place = (unit, key.as_ref().clone());
            match word(object) {
                Some(word) => {
                    let record = object.and_then(|object| object.record.as_ref());
                    let uid = record.and_then(|record| record.uid.as_ref());
                    let row = ObjectRow {
                        state: word,
                        uid: uid.map_or_else(String::new, ToString::to_string),
                    };
                    self.now.objects.insert(place, row);
                }
                None => drop(self.now.objects.remove(&place)),
            }
        }
        if is_dirty {
            let (condition, counts) = (state.condition(), state.counts());
            let status = Status {
                version: state.entry().version,
                applied: state.record().applied,
                ready: ready(condition.ready),
                reason: condition.reason,
                objects: counts.objects,
                pending: counts.pending_removal,
            };
            self.now.units.insert(unit, status);
        }
    }

    pub(super) fn forget(&mut self, unit: Uuid) {
        self.now.units.remove(&unit);
        self.now.objects.retain(|(of, _), _| *of != unit);
    }

    /// Has the rows of a unit told again: the hub may not have known it when it was told of them.
    pub(super) fn again(&mut self, unit: Uuid) {
        self.again.insert(unit, None);
    }

    pub(super) fn release(&mut self) {
        self.is_released = true;
    }

    /// Digest of what the hub has acknowledged.
    pub(crate) fn observed_root(&self) -> Option<Digest> {
        self.known.as_ref().map(Rows::root)
    }

    /// A stream has opened.
    pub(crate) fn opened(&mut self, everything: bool) {
        self.sent = None;
        self.again.values_mut().for_each(|report| *report = None);
        if everything {
            self.known = None;
        }
    }

    pub(crate) fn has_news(&self) -> bool {
        self.is_released
            && self.sent.is_none()
            && (self.known.as_ref() != Some(&self.now) || !self.again.is_empty())
    }

    /// The next report.
    pub(crate) fn next(&mut self, cluster: Uuid, epoch: u64) -> (u64, Report) {
        let nothing = Rows::default();
        let known = self.known.as_ref().unwrap_or(&nothing);
        let units = self.now.units.iter();
        let objects = self.now.objects.iter();
        let gone = known
            .objects
            .keys()
            .filter(|key| !self.now.objects.contains_key(*key));
        let report = Report {
            cluster,
            epoch,
            full: self.known.is_none(),
            units: units
                .filter(|(id, row)| known.units.get(*id) != Some(*row) || self.again.contains_key(*id))
                .map(|(id, row)| (*id, row.clone()))
                .collect(),
            objects: objects
                .filter(|(key, row)| known.objects.get(*key) != Some(*row) || self.again.contains_key(&key.0))
                .map(|(key, row)| (key.clone(), Some(row.clone())))
                .chain(gone.map(|key| (key.clone(), None)))
                .collect(),
            observed_root: self.now.root(),
        };
        self.seq += 1;
        self.again
            .values_mut()
            .for_each(|report| *report = Some(self.seq));
        self.sent = Some((self.seq, self.now.clone()));
        (self.seq, report)
    }

    pub(crate) fn acknowledged(&mut self, seq: u64) {
        if self.sent.as_ref().is_some_and(|(sent, _)| *sent == seq)
            && let Some((_, rows)) = self.sent.take()
        {
            self.known = Some(rows);
            self.again.retain(|_, report| *report != Some(seq));
        }
    }
}
