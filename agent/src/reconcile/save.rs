//! Makes durable what no action depends on: the records of units, marks on objects, which entry is enforced. Several
//! go in one write. An intent does not come this way; it precedes its action.

use std::sync::Arc;

use flotilla_core::{
    apply::inventory::Record as ObjectRecord,
    id::{Uid, UnitId},
    object::ObjectKey,
    unit::record::UnitRecord,
};

use super::context::Context;
use crate::ledger::{LedgerError, record::Record};

/// Notes that an entry is enforced, also when a newer one is offered by now.
pub(super) fn enforce(context: &Context, unit: UnitId, entry: &[u8]) -> Result<(), LedgerError> {
    let entry = entry.to_vec().into();
    context.persist_later(vec![Record::Enforced { unit, entry }])
}

/// Notes objects' records; `None` removes one.
pub(super) fn objects(
    context: &Context,
    unit: UnitId,
    records: Vec<(Arc<ObjectKey>, Option<Arc<ObjectRecord>>)>,
) -> Result<(), LedgerError> {
    let records = records.into_iter().map(|(key, record)| match record {
        Some(record) => Record::Item { unit, key, record },
        None => Record::Dropped { unit, key },
    });
    context.persist_later(records.collect())
}

/// Notes that an object has done its work, in the record that there is of it now.
pub(super) fn finish(
    context: &Context,
    unit: UnitId,
    key: Arc<ObjectKey>,
    uid: &Uid,
) -> Result<(), LedgerError> {
    let known = context
        .ledger
        .read(|state| state.units.get(&unit)?.items.get(&key).cloned());
    let Some(mut record) = known.filter(|record| record.uid.as_ref() == Some(uid)) else {
        return Ok(());
    };
    match Arc::make_mut(&mut record).finish() {
        true => objects(context, unit, vec![(key, Some(record))]),
        false => Ok(()),
    }
}

/// Notes a unit's record.
pub(super) fn unit(context: &Context, unit: UnitId, record: &UnitRecord) -> Result<(), LedgerError> {
    // The record's types have string keys only, and a Vec takes every write.
    let state = serde_json::to_vec(record).expect("a unit's record serialises");
    context.persist_later(vec![Record::Unit { unit, state }])
}
