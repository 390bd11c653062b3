//! Writes all that is held as records, for storage that is written anew.

use std::collections::{HashMap, HashSet};

use flotilla_core::{digest::Digest, id::UnitId};

use super::{Blob, Record, State, Unit};
use crate::ledger::record;

impl State {
    /// Writes the records that say all, without blobs that are garbage. Blobs that `alone` has are taken from there.
    pub(in crate::ledger) fn encode(
        &self,
        garbage: &HashSet<Digest>,
        alone: &HashMap<Digest, Blob>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.live_size());
        let blobs = |claimed: bool| {
            self.blobs
                .iter()
                .filter(move |(digest, refs, _)| (*refs > 0) == claimed && !garbage.contains(*digest))
                .map(|(digest, _, blob)| Record::Blob(*digest, alone.get(digest).cloned().unwrap_or(blob)))
        };
        for blob in blobs(true) {
            record::encode(&[blob], &mut out);
        }
        for ((group, kind), namespaced) in &*self.kinds {
            let kind = Record::Kind {
                group: group.clone(),
                kind: kind.clone(),
                namespaced: *namespaced,
            };
            record::encode(&[kind], &mut out);
        }
        for (id, unit) in &self.units {
            record::encode(&unit.facts(*id), &mut out);
            let rows = unit.items.iter().map(|(key, record)| (&**key, Some(&**record)));
            record::encode_rows(*id, rows, &mut out);
        }
        record::encode(&[Record::Accepted(self.accepted)], &mut out);
        // After what is held, as they came.
        for blob in blobs(false) {
            record::encode(&[blob], &mut out);
        }
        out
    }
}

impl Unit {
    /// Returns the records of a unit without its objects.
    fn facts(&self, id: UnitId) -> Vec<Record> {
        let offered = self.offered.iter().map(|stored| Record::Offered {
            unit: id,
            entry: stored.to_written(),
            at: stored.at,
        });
        let unknown = self.is_unknown.then_some(Record::Unknown { unit: id });
        let enforced = self.enforced.iter().map(|stored| Record::Enforced {
            unit: id,
            entry: stored.to_written(),
        });
        let record = self.record.iter().map(|state| Record::Unit {
            unit: id,
            state: state.to_vec(),
        });
        offered.chain(unknown).chain(enforced).chain(record).collect()
    }
}
