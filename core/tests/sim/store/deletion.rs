//! Deletions of apps, and the last steps of units (`hub/src/store/removal.rs`, `publish.rs`, `apply.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{removal::DeletionPolicy, unit::UnitState};
use uuid::Uuid;

use super::{Store, Unit};

impl Store {
    /// Records that an app is to be deleted.
    pub(crate) fn request_deletion(&mut self, app: Uuid, policy: DeletionPolicy) {
        if let Some(resource) = self.resources.get_mut(&app) {
            resource.deletion = Some(policy);
            self.wake_apps([app]);
        }
    }

    /// Whoever applies an app that is to be deleted wants it: what was not deleted of it stays.
    pub(crate) fn keep(&mut self, app: Uuid) {
        let Some(resource) = self.resources.get_mut(&app) else {
            return;
        };
        if resource.deletion.take().is_none() {
            return;
        }
        if let Some(plan) = self.plans.get_mut(&app) {
            plan.version += 1;
        }
        for (id, unit) in &mut self.units {
            if unit.app == app && matches!(unit.state, UnitState::Removing(_)) {
                unit.state = UnitState::Detached;
                self.unpublished.insert((unit.cluster, *id));
            }
        }
        self.wake_apps([app]);
    }

    /// Lets go of units of which nothing is left, or that are to stay. Returns how many.
    fn release(&mut self, units: &[Uuid]) -> usize {
        let mut released = Vec::new();
        for id in units {
            let Some(unit) = self.units.get(id) else { continue };
            let is_over =
                matches!(unit.state, UnitState::Detached | UnitState::Removing(_)) && !unit.released;
            if !is_over || self.unpublished.contains(&(unit.cluster, *id)) {
                continue;
            }
            let place = (unit.cluster, *id);
            let is_held = || self.has_taken(&place);
            let is_gone = || {
                self.statuses.get(id).is_some_and(|status| {
                    let applied = status.applied.map(|applied| (applied.version, applied.target));
                    status.version == unit.version
                        && applied == Some((unit.version, unit.target))
                        && status.pending == 0
                        && status.objects == 0
                })
            };
            let has_agent = self.sessions.contains_key(&unit.cluster);
            if !has_agent || is_held() && (unit.state == UnitState::Detached || is_gone()) {
                released.push(place);
            }
        }
        for (cluster, id) in &released {
            if let Some(unit) = self.units.get_mut(id) {
                unit.released = true;
            }
            self.unpublished.insert((*cluster, *id));
        }
        for (cluster, id) in &released {
            let app = self.units[id].app;
            self.withdraw(app, &[*cluster], &[]);
            self.wake_claims(app, &[*cluster]);
        }
        released.len()
    }

    /// Whether an agent holds an entry as it was published: it has said so, or holds a state that has it.
    fn has_taken(&self, place: &(Uuid, Uuid)) -> bool {
        let (Some(row), Some(desired)) = (self.entries.get(place), self.desired.get(&place.0)) else {
            return false;
        };
        let accepted = self.accepted.get(place).map(|accepted| accepted.entry);
        let holds = self.sessions.get(&place.0).is_some_and(|session| {
            session.accepted.0 == desired.incarnation && session.accepted.1 >= row.since
        });
        accepted == Some(row.digest) || holds
    }

    /// Forgets entries that were let go of, once agents hold a state without them. Returns how many.
    fn forget_released(&mut self) -> usize {
        let gone: Vec<(Uuid, Uuid)> = self
            .entries
            .iter()
            .filter(|((cluster, _), row)| {
                let Some(desired) = self.desired.get(cluster) else {
                    return false;
                };
                let is_taken = self.sessions.get(cluster).is_none_or(|session| {
                    session.accepted.0 == desired.incarnation && session.accepted.1 >= row.since
                });
                row.released && is_taken
            })
            .map(|(place, _)| *place)
            .collect();
        for place in &gone {
            self.entries.remove(place);
            self.accepted.remove(place);
        }
        gone.len()
    }

    /// Takes the last steps of apps that are to be deleted. `true`: more may be to be done in a moment.
    pub(crate) fn end_deletions(&mut self, apps: &[Uuid]) -> bool {
        let is_named = |app: &Uuid| apps.contains(app);
        let units: Vec<(Uuid, bool)> = self
            .units
            .iter()
            .filter(|(_, unit)| is_named(&unit.app))
            .map(|(id, unit)| (*id, unit.released))
            .collect();
        let held: Vec<Uuid> = units
            .iter()
            .filter(|(_, released)| !released)
            .map(|(id, _)| *id)
            .collect();
        let mut moves = self.release(&held) > 0;
        if held.len() < units.len() {
            moves |= self.forget_released() > 0;
        }
        moves |= self.forget_units(|unit| is_named(&unit.app));
        let ended: BTreeSet<Uuid> = self
            .resources
            .iter()
            .filter(|(app, resource)| {
                is_named(app)
                    && resource.deletion.is_some()
                    && !self.due.contains_key(app)
                    && self.units.values().all(|unit| unit.app != **app)
            })
            .map(|(app, _)| *app)
            .collect();
        for app in &ended {
            self.resources.remove(app);
            self.plans.remove(app);
            self.inputs.remove(app);
            self.unconfirmed.remove(app);
        }
        moves && ended.len() < apps.len()
    }

    /// Takes away units that are let go of and that their agents have forgotten. Returns whether there were any.
    fn forget_units(&mut self, is_meant: impl Fn(&Unit) -> bool) -> bool {
        let gone: Vec<Uuid> = self
            .units
            .iter()
            .filter(|(id, unit)| {
                let place = (unit.cluster, **id);
                is_meant(unit)
                    && unit.released
                    && !self.unpublished.contains(&place)
                    && !self.entries.contains_key(&place)
            })
            .map(|(id, _)| *id)
            .collect();
        let mut claims: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for id in &gone {
            if let Some(unit) = self.units.remove(id) {
                claims.entry(unit.app).or_default().push(unit.cluster);
            }
            self.statuses.remove(id);
            self.objects.retain(|(of, _), _| of != id);
            self.leaving.remove(id);
            self.approvals.retain(|(of, _), _| of != id);
            self.accepted.retain(|(_, of), _| of != id);
        }
        for (app, clusters) in &claims {
            self.withdraw(*app, clusters, &[]);
            self.wake_claims(*app, clusters);
        }
        !gone.is_empty()
    }

    /// Has a cluster drained, or stay.
    pub(crate) fn drain(&mut self, cluster: Uuid, drains: bool) {
        match drains {
            true => self.draining.insert(cluster),
            false => self.draining.remove(&cluster),
        };
        let here = self.units.values().filter(|unit| unit.cluster == cluster);
        let apps: BTreeSet<Uuid> = here.map(|unit| unit.app).collect();
        if !drains {
            for app in &apps {
                if let Some(plan) = self.plans.get_mut(app) {
                    plan.version += 1;
                }
            }
            for (id, unit) in &mut self.units {
                let resource = self.resources.get(&unit.app);
                let is_kept = resource.is_none_or(|resource| resource.deletion.is_none());
                if unit.cluster == cluster && is_kept && matches!(unit.state, UnitState::Removing(_)) {
                    unit.state = UnitState::Detached;
                    self.unpublished.insert((cluster, *id));
                }
            }
        }
        let placed = self
            .resources
            .iter()
            .filter(|(_, one)| one.placed.contains(&cluster));
        let placed: Vec<Uuid> = placed.map(|(app, _)| *app).collect();
        self.wake_apps(apps.into_iter().chain(placed));
    }

    /// Takes the last steps of units of clusters that are drained (`hub/src/task/departure.rs`).
    pub(crate) fn end_drains(&mut self) {
        let draining = self.draining.clone();
        let removed = self.units.iter().filter(|(_, unit)| {
            draining.contains(&unit.cluster) && matches!(unit.state, UnitState::Removing(_)) && !unit.released
        });
        let removed: Vec<Uuid> = removed.map(|(id, _)| *id).collect();
        self.release(&removed);
        if !draining.is_empty() {
            self.forget_released();
            self.forget_units(|unit| draining.contains(&unit.cluster));
        }
    }
}
