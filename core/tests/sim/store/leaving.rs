//! What has left units, and what is cleared of it (`hub/src/store/leaving.rs`, `approval.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    digest::Digest,
    id::ClusterId,
    object::ObjectKey,
    removal::clearing::{Left, Pending, clear},
    unit::UnitState,
};
use uuid::Uuid;

use super::{LeavingState, PENDING, Store};

/// A unit that something has left.
#[derive(Debug, Clone)]
pub(crate) struct LeavingUnit {
    pub(crate) unit: Uuid,
    pub(crate) cluster: Uuid,
    /// It is removed because its cluster is drained.
    pub(crate) is_drained: bool,
    pub(crate) left: Left,
}

impl Store {
    /// Those of these apps of which something is open.
    pub(crate) fn leaving_apps(&self) -> BTreeSet<Uuid> {
        let open = self
            .leaving
            .values()
            .filter(|row| row.state == LeavingState::Open);
        open.map(|row| row.app).collect()
    }

    /// Units of an app of which it is to be decided.
    pub(crate) fn leaving_units(&self, app: Uuid) -> Vec<LeavingUnit> {
        let open = self
            .leaving
            .iter()
            .filter(|(_, row)| row.app == app && row.state == LeavingState::Open);
        let mut found = Vec::new();
        for (id, row) in open {
            let (Some(unit), Some(status)) = (self.units.get(id), self.statuses.get(id)) else {
                continue;
            };
            let is_applied = status
                .applied
                .is_some_and(|applied| (applied.version, applied.target) == (unit.version, unit.target));
            let is_due = unit.version == row.version
                && status.version == row.version
                && matches!(unit.state, UnitState::Active | UnitState::Removing(_))
                && !unit.waits()
                && is_applied;
            if !is_due {
                continue;
            }
            let keys = self
                .objects
                .iter()
                .filter(|((of, _), object)| of == id && object.state == PENDING)
                .map(|((_, key), _)| key.clone());
            found.push(LeavingUnit {
                unit: *id,
                cluster: row.cluster,
                is_drained: matches!(unit.state, UnitState::Removing(_))
                    && self.draining.contains(&row.cluster),
                left: Left {
                    version: row.version,
                    objects: row.objects,
                    keys: keys.collect(),
                },
            });
        }
        found
    }

    /// Records why a unit's objects are not cleared.
    pub(crate) fn hold_leaving(&mut self, unit: Uuid, version: u64, why: &str) {
        let row = self.leaving.get_mut(&unit);
        if let Some(row) = row.filter(|row| row.version == version && row.state == LeavingState::Open) {
            why.clone_into(&mut row.waits);
        }
    }

    /// Records why nothing of an app is cleared.
    pub(crate) fn hold_app(&mut self, app: Uuid, why: &str) {
        for row in self.leaving.values_mut() {
            if row.app == app && row.state == LeavingState::Open {
                why.clone_into(&mut row.waits);
            }
        }
    }

    /// Decides about units of one app, with what others claim now. Returns those that are cleared.
    /// `pending`: what suspended apps of the same source take over when they are resumed, by cluster.
    pub(crate) fn clear(
        &mut self,
        app: Uuid,
        units: &[LeavingUnit],
        pending: &BTreeMap<Uuid, BTreeMap<ObjectKey, String>>,
    ) -> Vec<Uuid> {
        let keys: BTreeSet<&ObjectKey> = units.iter().flat_map(|unit| &unit.left.keys).collect();
        let keys: Vec<&ObjectKey> = keys.into_iter().collect();
        let clusters: Vec<ClusterId> = units.iter().map(|unit| ClusterId(unit.cluster)).collect();
        let others = self.other_claims(app, &clusters, &keys);
        let mut claimed: BTreeMap<Uuid, BTreeSet<&ObjectKey>> = BTreeMap::new();
        for other in &others {
            claimed
                .entry(other.cluster.0)
                .or_default()
                .extend(other.keys.iter());
        }
        let none = BTreeSet::new();
        let mut cleared = Vec::new();
        for unit in units {
            let pending = pending.get(&unit.cluster).into_iter().flatten();
            let pending: Pending<'_> = pending.map(|(key, app)| (key, app.as_str())).collect();
            match clear(&unit.left, claimed.get(&unit.cluster).unwrap_or(&none), &pending) {
                Err(why) => self.hold_leaving(unit.unit, unit.left.version, &why),
                Ok(clearing) => {
                    let row = self.leaving.get_mut(&unit.unit);
                    let row =
                        row.filter(|row| row.version == unit.left.version && row.state == LeavingState::Open);
                    if let Some(row) = row {
                        row.state = LeavingState::Cleared;
                        row.except = clearing.except;
                        row.waits = String::new();
                        self.unpublished.insert((row.cluster, unit.unit));
                        cleared.push(unit.unit);
                    }
                }
            }
        }
        cleared
    }

    /// Takes clearings of other apps away, where one claims what it may not have claimed before.
    pub(crate) fn withdraw(&mut self, app: Uuid, clusters: &[Uuid], keys: &[&ObjectKey]) {
        let mut opened = Vec::new();
        for (id, row) in &self.leaving {
            let is_other =
                row.state == LeavingState::Cleared && clusters.contains(&row.cluster) && row.app != app;
            let is_claimed = || {
                keys.iter().any(|key| {
                    let object = self.objects.get(&(*id, (*key).clone()));
                    object.is_some_and(|object| object.state == PENDING)
                })
            };
            if is_other && (!row.except.is_empty() || is_claimed()) {
                opened.push(*id);
            }
        }
        for id in opened {
            if let Some(row) = self.leaving.get_mut(&id) {
                row.state = LeavingState::Open;
                row.except = Vec::new();
                self.unpublished.insert((row.cluster, id));
            }
        }
    }

    /// Units that a guard stops.
    pub(crate) fn blocked(&self) -> Vec<(Uuid, Digest, u64)> {
        let units = self.units.iter().filter(|(id, unit)| {
            let status = self.statuses.get(id);
            let is_blocked = status
                .is_some_and(|status| status.version == unit.version && status.reason == "PruneBlocked");
            let is_approved = self.approvals.get(&(**id, unit.target)) == Some(&unit.version);
            is_blocked && unit.state == UnitState::Active && !is_approved
        });
        units.map(|(id, unit)| (*id, unit.target, unit.version)).collect()
    }

    /// Allows what guards stop.
    pub(crate) fn approve(&mut self, units: &[(Uuid, Digest, u64)]) {
        for (id, target, version) in units {
            let Some(unit) = self.units.get(id) else { continue };
            if (unit.target, unit.version) == (*target, *version) {
                self.unpublished.insert((unit.cluster, *id));
                self.approvals.insert((*id, *target), *version);
            }
        }
    }
}
