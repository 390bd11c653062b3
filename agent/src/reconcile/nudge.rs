//! What wakes the reconciler from outside.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use flotilla_core::id::UnitId;
use tokio::sync::Notify;

/// Wakes the reconciler. Carries no data but which units a person asked about.
#[derive(Debug, Default)]
pub struct Nudge {
    pub(super) accepted: Notify,
    asked: Mutex<HashSet<UnitId>>,
}

impl Nudge {
    /// The ledger has changed.
    pub fn accepted(&self) {
        self.accepted.notify_one();
    }

    /// A unit is to be looked at now, whatever its interval says.
    pub fn ask(&self, unit: UnitId) {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(unit);
        self.accepted.notify_one();
    }

    pub(super) fn take_asked(&self) -> HashSet<UnitId> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
