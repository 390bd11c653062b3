//! A backup put back (`hub/src/store/restore.rs`).

use flotilla_core::{
    desired::next_incarnation,
    unit::{UnitState, root},
};
use uuid::Uuid;

use super::{Desired, Store};

impl Store {
    /// Makes a backup the hub of a new history. `known`: the highest incarnation of what it replaces.
    pub(crate) fn restore(&mut self, clock: u64, known: u64) {
        let incarnation = next_incarnation(clock, known.max(self.incarnation));
        self.incarnation = incarnation;
        self.unconfirmed.extend(self.resources.keys());
        self.unconfirmed.extend(self.sources.keys());
        self.unpublished.clear();
        self.entries.clear();
        for desired in self.desired.values_mut() {
            *desired = Desired {
                incarnation,
                generation: desired.generation + 1,
                root: root([]),
            };
        }
        let apps: Vec<Uuid> = self.resources.keys().copied().collect();
        self.wake_apps(apps);
        for session in self.sessions.values_mut() {
            session.observed_root = None;
        }
        for resource in self.resources.values_mut() {
            resource.deletion = None;
        }
        for unit in self.units.values_mut() {
            if matches!(unit.state, UnitState::Removing(_)) {
                unit.state = UnitState::Detached;
            }
            unit.released = false;
        }
        self.leaving.clear();
        self.statuses.retain(|_, status| status.pending == 0);
        self.approvals.clear();
    }
}
