//! The end of a story: bad luck ceases, everything settles, and every cluster is as the last commit says.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    apply::{inventory::State, removal::holds},
    id::UnitId,
    object::ObjectKey,
    unit::UnitState,
};
use uuid::Uuid;

use crate::{
    git::{Body, Key},
    world::World,
};

/// Steps after which nothing may be left to do.
const BOUND: usize = 20_000;
/// Ten minutes, in milliseconds.
const QUIET: u64 = 600_000;
/// Who changes what a unit wrote again and again is corrected once in an interval, which is as long: so long is waited.
const CONTESTED: u64 = QUIET + 60_000;

impl World {
    /// All that stands in the way is over.
    pub(crate) fn heal(&mut self) {
        self.trace.say(|| "= all is well again".to_owned());
        self.stalled.clear();
        // What a restored hub does not know any more is asked for again.
        let asked = self.drains.clone();
        let lost = asked.symmetric_difference(&self.store.draining).copied();
        for cluster in lost.collect::<Vec<_>>() {
            self.drain(cluster, asked.contains(&cluster));
        }
        // What no hub knows is enforced in a cluster that is drained as well: it is placed there again, and that stays.
        let is_unknown = |site: &crate::world::Site| {
            let mut units = site.agent.ledger.durable.units.keys();
            units.any(|unit| !self.store.units.contains_key(&unit.0))
        };
        let stays = self
            .sites
            .iter()
            .filter(|site| is_unknown(site) && self.store.draining.contains(&site.id));
        for cluster in stays.map(|site| site.id).collect::<Vec<_>>() {
            self.drain(cluster, false);
        }
        self.ask_again();
        for repository in self.repositories.values_mut() {
            repository.commit(|tree| {
                for folder in tree.values_mut() {
                    folder.broken = false;
                }
            });
        }
        for app in self.store.resources.keys().copied().collect::<Vec<_>>() {
            self.suspend(app, false);
            self.set_needs(app, BTreeSet::new());
        }
        for at in 0..self.sites.len() {
            let site = &mut self.sites[at];
            (site.is_cut, site.is_silent, site.is_lacking) = (false, false, false);
            let keys: Vec<Key> = site.cluster.objects.keys().cloned().collect();
            for key in keys {
                site.cluster.release(&key);
            }
            self.tell_watches(at);
        }
    }

    /// Goes on until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..BOUND {
            if self.step(false) {
                continue;
            }
            let before = self.store.clone();
            if self.delete_unproven() {
                continue;
            }
            self.approve();
            self.look_behind();
            if self.store != before {
                continue;
            }
            match self.wake().filter(|at| *at <= self.now + CONTESTED) {
                Some(at) => self.now = self.now.max(at),
                None => return,
            }
        }
        let units = self.sites.iter().flat_map(|site| &site.agent.units);
        let said = units.map(|(id, unit)| format!("{id}: {:?}", unit.state.condition()));
        let said = said.collect::<Vec<_>>().join("\n");
        panic!("it does not come to rest at {} ms:\n{said}", self.now);
    }

    /// People delete by hand what an agent wrote before a crash and never learnt the UID of, as it tells them to. Returns
    /// whether there was any.
    fn delete_unproven(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.sites.len() {
            let site = &mut self.sites[at];
            let units = site.agent.ledger.live.units.iter();
            let items = units.flat_map(|(id, unit)| unit.items.iter().map(move |item| (id, item)));
            let unproven = items.filter(|(id, (key, record))| {
                let is_leaving = record.state == State::PendingRemoval && record.uid.is_none();
                let live = site.cluster.get(key).filter(|_| is_leaving);
                live.is_some_and(|live| live.mark == Some(id.to_string()))
            });
            let unproven: Vec<Key> = unproven.map(|(_, (key, _))| key.clone()).collect();
            any |= !unproven.is_empty();
            for key in unproven {
                site.cluster.remove(&key);
            }
            self.tell_watches(at);
        }
        any
    }

    /// The hub's look behind lost wake-ups.
    fn look_behind(&mut self) {
        let apps = self.to_clear();
        let mut task = Some(crate::hub::Task::clear(apps));
        while let Some(next) = task.take() {
            task = next.advance(&mut self.hub());
        }
    }

    /// Ten minutes in which nothing turns.
    pub(crate) fn assert_quiet(&mut self) {
        let store = self.store.clone();
        let clusters: Vec<_> = self.sites.iter().map(|site| site.cluster.version).collect();
        let jobs: usize = self.sites.iter().map(|site| site.agent.jobs.len()).sum();
        assert_eq!(jobs, 0, "jobs are left");
        for _ in 0..10 {
            self.now += QUIET / 10;
            for at in 0..self.sites.len() {
                assert!(
                    !self.sites[at].agent.is_due(self.now),
                    "an agent wants to be woken"
                );
            }
            assert!(!self.step(false), "something turns");
            self.look_behind();
            assert!(self.store == store, "the hub writes");
        }
        let now: Vec<_> = self.sites.iter().map(|site| site.cluster.version).collect();
        assert_eq!(now, clusters, "somebody writes to a cluster");
    }

    /// Every cluster is as the last commits say, and the hub says so.
    pub(crate) fn assert_equal(&self) {
        for site in &self.sites {
            let mut wanted: BTreeMap<&Key, BTreeSet<u32>> = BTreeMap::new();
            // What is to be deleted wants nothing any more, also where it waits.
            let apps = self.store.resources.values();
            for app in apps.filter(|app| app.deletion.is_none()) {
                let tree = self.repositories[&app.source].commits.last().expect("a commit");
                let is_here = app.placed.contains(&site.id) && !self.store.draining.contains(&site.id);
                let folder = tree.get(&app.folder).filter(|_| is_here);
                for (key, Body { value, .. }) in folder.into_iter().flat_map(|folder| &folder.objects) {
                    wanted.entry(key).or_default().insert(*value);
                }
            }
            for (key, values) in &wanted {
                if self.is_withheld(site.id, key) {
                    continue;
                }
                let live = site.cluster.get(key);
                let live = live.unwrap_or_else(|| {
                    let units = self
                        .store
                        .units
                        .iter()
                        .filter(|(_, unit)| unit.cluster == site.id);
                    let units: Vec<String> = units.map(|(id, _)| self.shown(*id)).collect();
                    panic!("{key} is not in {}:\n{}", site.id, units.join("\n"))
                });
                assert!(
                    values.contains(&live.value),
                    "{key} is {} in {} instead of {values:?}",
                    live.value,
                    site.id
                );
            }
            for (key, live) in &site.cluster.objects {
                let is_wanted = wanted.contains_key(key);
                assert!(
                    is_wanted
                        || self.is_withheld(site.id, key)
                        || self.is_filled(site.id, key)
                        || self.is_let_go(site.id, key)
                        || self.oracle.may_stay(site.id, key, live, &self.store),
                    "{key} is still in {}, and nobody wants it: {live:?}\n{}",
                    site.id,
                    self.shown_of(live)
                );
            }
            self.assert_told(site.id);
        }
        for (app, one) in &self.store.resources {
            let units = self.store.units_of(*app).map(|(id, _)| self.shown(id));
            assert!(
                one.deletion.is_none() || self.is_held_up(*app),
                "{} is not deleted:\n{}",
                one.name,
                units.collect::<Vec<_>>().join("\n")
            );
        }
    }

    /// Every cluster that is drained has nothing left of what was to go.
    pub(crate) fn assert_drained(&self) {
        let drained = &self.store.draining;
        let units = self.store.units.iter();
        for (id, unit) in units.filter(|(_, unit)| drained.contains(&unit.cluster)) {
            assert!(
                unit.state == UnitState::Detached || self.is_held_up(unit.app),
                "{} is not drained:\n{}",
                unit.cluster,
                self.shown(*id)
            );
        }
    }

    /// A unit as the hub and its agent see it, for people.
    fn shown(&self, id: Uuid) -> String {
        let unit = &self.store.units[&id];
        let (status, leaving) = (self.store.statuses.get(&id), self.store.leaving.get(&id));
        let accepted = self.store.accepted.get(&(unit.cluster, id));
        let site = self.sites.iter().find(|site| site.id == unit.cluster);
        let agent = site.and_then(|site| site.agent.units.get(&UnitId(id)));
        let held = agent.map(|agent| {
            let rows = agent.state.objects().iter();
            let rows = rows.map(|(key, row)| format!("{key} {:?} {}", row.record, row.said()));
            (
                agent.state.entry().version,
                agent.state.condition(),
                agent.state.record().applied,
                rows.collect::<Vec<_>>(),
            )
        });
        let source = self.store.inputs.get(&unit.app).map(|input| input.source);
        let siblings = source.map(|source| self.store.unsettled_apps(source));
        format!("{id}: {unit:?}\n {status:?}\n {leaving:?}\n {accepted:?}\n {held:?}\n {siblings:?}")
    }

    /// The unit that an object's mark names, for people.
    fn shown_of(&self, live: &crate::cluster::Live) -> String {
        let unit = live.mark.as_ref().and_then(|mark| mark.parse().ok());
        let unit = unit.filter(|unit| self.store.units.contains_key(unit));
        unit.map_or_else(String::new, |unit| self.shown(unit))
    }

    /// Whether a unit that is not placed any more has an object: no other may have it until somebody decides.
    fn is_withheld(&self, cluster: Uuid, key: &Key) -> bool {
        let mut detached = self.store.units.iter().filter(|(_, unit)| {
            unit.cluster == cluster && unit.state == UnitState::Detached && !unit.released
        });
        detached.any(|(id, _)| {
            let object = self.store.objects.get(&(*id, key.as_ref().clone()));
            object.is_some_and(|object| !object.uid.is_empty())
        })
    }

    /// Whether an object holds others that some unit has: it stays as long as these do.
    fn is_filled(&self, cluster: Uuid, key: &ObjectKey) -> bool {
        let site = self.sites.iter().find(|site| site.id == cluster).expect("a site");
        let mut units = site.agent.ledger.live.units.values();
        units.any(|unit| unit.items.keys().any(|inner| holds(key, inner)))
    }

    /// Whether a unit that is not placed any more has an object, or was about to write it when its agent ended.
    fn is_let_go(&self, cluster: Uuid, key: &Key) -> bool {
        let site = self.sites.iter().find(|site| site.id == cluster).expect("a site");
        let mut units = site.agent.ledger.live.units.values();
        units.any(|unit| {
            let offered = unit.offered.as_ref();
            let is_detached = offered.is_some_and(|offered| offered.entry.state == UnitState::Detached);
            is_detached && unit.items.contains_key(key)
        })
    }

    /// Whether the deletion of an app waits for what is in an object of it, or for such a unit of another one.
    fn is_held_up(&self, app: Uuid) -> bool {
        let units: BTreeMap<Uuid, Uuid> = self
            .store
            .units_of(app)
            .map(|(id, unit)| (id, unit.cluster))
            .collect();
        let mut rows = self.store.objects.keys();
        if rows.any(|(id, key)| units.get(id).is_some_and(|cluster| self.is_filled(*cluster, key))) {
            return true;
        }
        let mut left = self.store.units_of(app).filter_map(|(id, unit)| {
            let row = self.store.leaving.get(&id)?;
            Some((unit.cluster, &row.except))
        });
        left.any(|(cluster, except)| {
            let mut keys = except.iter().map(|key| Key::new(key.clone()));
            keys.any(|key| self.is_withheld(cluster, &key))
        })
    }

    /// What the hub knows of a cluster is what there is.
    fn assert_told(&self, cluster: Uuid) {
        let site = self.sites.iter().find(|site| site.id == cluster).expect("a site");
        // What was let go of while its app was to be deleted, and is wanted again elsewhere, is on the hub alone.
        let units = self.store.units.iter();
        let units = units.filter(|(_, unit)| unit.cluster == cluster && !unit.released);
        for (id, unit) in units {
            let agent = site.agent.units.get(&UnitId(*id));
            let agent = agent.unwrap_or_else(|| panic!("the agent does not have {id}"));
            assert_eq!(agent.state.entry().version, unit.version, "{id}");
            assert_eq!(agent.state.entry().target, unit.target, "{id}");
            if unit.state != UnitState::Active {
                continue;
            }
            let status = &self.store.statuses[id];
            let objects = agent.state.objects().len();
            let rows = self.store.objects.keys().filter(|(of, _)| of == id).count();
            assert_eq!(status.version, unit.version, "{id}");
            assert_eq!(rows, objects, "{id}: objects are not told");
            let is_whole = unit.withheld.is_empty();
            if is_whole {
                let applied = status.applied.map(|applied| (applied.version, applied.target));
                assert_eq!(
                    applied,
                    Some((unit.version, unit.target)),
                    "{id} is not applied: {} {}",
                    status.ready,
                    status.reason
                );
                assert_eq!(status.ready, "True", "{id}: {}", status.reason);
            }
        }
    }
}
