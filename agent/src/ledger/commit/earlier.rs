//! What an earlier state of the ledger knows of objects and memory does not: storage was put back under a running agent,
//! and with it perhaps the cluster, where these objects are again.

use std::{collections::BTreeMap, mem, sync::Arc};

use flotilla_core::{
    apply::inventory::{Left, Record as ObjectRecord},
    id::UnitId,
    object::ObjectKey,
};

use super::Shared;
use crate::{
    blocking,
    ledger::{
        record::{self, InvalidRecord, Record},
        state::{State, Unit},
        writer::Writer,
    },
};

type Rows = BTreeMap<(UnitId, Arc<ObjectKey>), Arc<ObjectRecord>>;

/// Objects that were known when storage was put back to the state that knows them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Of units that are held, which are to look at them: to be removed, as far as is known.
    pub of_units: Vec<(UnitId, Arc<ObjectKey>)>,
    /// Of units that are not: nobody will remove them.
    pub unproven: Vec<Arc<ObjectKey>>,
    /// Storage was put back: with or without such objects, the cluster may have been with it.
    pub is_put_back: bool,
}

impl Recovered {
    fn is_empty(&self) -> bool {
        !self.is_put_back && self.of_units.is_empty() && self.unproven.is_empty()
    }
}

impl Shared {
    /// Takes the objects of the earlier state that no unit has by now as those that have left theirs: they were deleted,
    /// or let go of, since that state, and are back where the cluster was put back with it. They are stored with what is
    /// written anew.
    pub(super) async fn recover(self: &Arc<Self>, writer: &mut Writer, why: String) {
        // Before anything is waited for: the writer is at the earlier head already, and whoever asked may go away.
        self.note_repair(why);
        let bytes = writer.take_earlier();
        match blocking::run(move || rows(&bytes)).await {
            Ok(rows) => self.take_back(rows),
            Err(error) => {
                tracing::error!("what the earlier state of the ledger knows of objects is lost: {error}")
            }
        }
    }

    fn take_back(&self, rows: Rows) {
        let (records, recovered) = self.read(|state| lost(state, rows));
        if !records.is_empty() {
            self.take_in(records);
        }
        let mut all = self
            .recovered
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.of_units.extend(recovered.of_units);
        all.unproven.extend(recovered.unproven);
        all.is_put_back = true;
        drop(all);
        self.has_recovered.notify_one();
    }

    /// Waits until there is something to take.
    pub(in crate::ledger) async fn recovered(&self) -> Recovered {
        loop {
            self.has_recovered.notified().await;
            let all = mem::take(
                &mut *self
                    .recovered
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            );
            if !all.is_empty() {
                return all;
            }
        }
    }
}

/// The rows of objects that records end with.
fn rows(bytes: &[u8]) -> Result<Rows, InvalidRecord> {
    let mut rows = Rows::new();
    record::decode_each(bytes, |record| match record {
        Record::Item { unit, key, record } => drop(rows.insert((unit, key), record)),
        Record::Dropped { unit, key } => drop(rows.remove(&(unit, key))),
        Record::Released { unit } => rows.retain(|(of, _), _| *of != unit),
        _ => {}
    })?;
    Ok(rows)
}

/// What of these no unit has now: as records of those that have left, and by name.
fn lost(state: &State, rows: Rows) -> (Vec<Record>, Recovered) {
    let (mut records, mut recovered) = (Vec::new(), Recovered::default());
    for ((unit, key), mut record) in rows {
        let held = state.units.get(&unit);
        // As a rule its own unit has it still; it may have gone to another.
        let has = |unit: &Unit| unit.items.contains_key(&key);
        if held.is_some_and(has) || state.units.values().any(has) {
            continue;
        }
        let Some(held) = held else {
            recovered.unproven.push(key);
            continue;
        };
        // An entry that this version cannot read has no version.
        let entry = held.entry();
        Arc::make_mut(&mut record).leave(Left {
            version: entry.map_or(0, |entry| entry.version),
            content: entry.and_then(|entry| entry.content),
            had: None,
        });
        recovered.of_units.push((unit, key.clone()));
        records.push(Record::Item { unit, key, record });
    }
    (records, recovered)
}
