//! Records of objects as the ledger has them.

use std::sync::Arc;

use flotilla_core::{
    apply::inventory::{Record, Written},
    object::ObjectKey,
    unit::object::Observed,
};

use super::{context::UnitContext, evaluate::Object};
use crate::ledger::record::Record as LedgerRecord;

/// The record of an object that was written.
pub(super) fn written(unit: &UnitContext, object: &Object, observed: &Observed) -> Option<Arc<Record>> {
    let written = Written {
        api_version: object.api_version.as_str().into(),
        sent: object.desired.digest,
        policy: object.desired.policy,
        response: observed.observation.clone()?,
    };
    let known = stored_record(unit, &object.desired.key);
    Some(Record::written(known.as_deref(), written).into())
}

/// An object's record as the ledger has it.
pub(super) fn stored_record(unit: &UnitContext, key: &ObjectKey) -> Option<Arc<Record>> {
    unit.context
        .ledger
        .read(|state| state.units.get(&unit.unit)?.items.get(key).cloned())
}

/// The ledger's record of an object's place in the inventory.
pub(super) fn item(unit: &UnitContext, key: &Arc<ObjectKey>, record: Arc<Record>) -> LedgerRecord {
    LedgerRecord::Item {
        unit: unit.unit,
        key: key.clone(),
        record,
    }
}
