//! What agents tell (`hub/src/store/report.rs`, `session.rs`, `session/told.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{desired::Held, digest::Digest, object::ObjectKey, unit::UnitState};
use uuid::Uuid;

use super::{Accepted, Leaving, LeavingState, ObjectRow, Session, Status, Store};

/// A report. A row that is `None` is gone.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) cluster: Uuid,
    pub(crate) epoch: u64,
    /// Rows that are not named are dropped.
    pub(crate) full: bool,
    pub(crate) units: BTreeMap<Uuid, Status>,
    pub(crate) objects: BTreeMap<(Uuid, ObjectKey), Option<ObjectRow>>,
    pub(crate) observed_root: Digest,
}

/// What an agent tells of the desired states that it is offered.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) cluster: Uuid,
    pub(crate) epoch: u64,
    pub(crate) accepted: Option<(u64, u64)>,
    pub(crate) units: BTreeMap<Uuid, Accepted>,
}

impl Store {
    /// Opens a session. Returns its epoch, whether the agent is to report everything, and whether it was put back.
    pub(crate) fn open_session(
        &mut self,
        cluster: Uuid,
        held: Held,
        observed_root: Option<Digest>,
        epoch_seen: u64,
    ) -> (u64, bool, bool) {
        let (accepted, root) = ((held.incarnation, held.generation), held.root);
        // A state that was not published here is of another history, and answers for no entry.
        let is_other = self.desired.get(&cluster).is_some_and(|desired| {
            let is_same = desired.generation == accepted.1 && root.is_some_and(|root| root != desired.root);
            desired.incarnation == accepted.0 && (desired.generation < accepted.1 || is_same)
        });
        let known = self.sessions.get(&cluster);
        let report_everything = match known {
            None => observed_root.is_some(),
            Some(known) => {
                known.left_out || known.observed_root.is_none() || known.observed_root != observed_root
            }
        };
        let furthest = known.map_or((0, 0), |known| known.furthest);
        let was_put_back = held.was_put_back(furthest);
        let session = Session {
            epoch: known.map_or(0, |known| known.epoch).max(epoch_seen) + 1,
            accepted: (if is_other { 0 } else { accepted.0 }, accepted.1),
            furthest: if is_other {
                furthest
            } else {
                furthest.max(accepted)
            },
            observed_root: known.and_then(|known| known.observed_root),
            left_out: known.is_some_and(|known| known.left_out),
        };
        let epoch = session.epoch;
        self.sessions.insert(cluster, session);
        if was_put_back {
            self.put_back(cluster);
        }
        (epoch, report_everything || was_put_back, was_put_back)
    }

    /// A cluster was put back: what was told of it is of a time that is no more, and its agent tells it anew.
    fn put_back(&mut self, cluster: Uuid) {
        self.accepted.retain(|(of, _), _| *of != cluster);
        let units = &self.units;
        self.statuses
            .retain(|id, _| units.get(id).is_none_or(|unit| unit.cluster != cluster));
        let leaving: Vec<Uuid> = self
            .leaving
            .iter()
            .filter(|(_, row)| row.cluster == cluster)
            .map(|(id, _)| *id)
            .collect();
        for id in leaving {
            let row = self.leaving.remove(&id);
            if row.is_some_and(|row| row.state == LeavingState::Cleared) {
                self.unpublished.insert((cluster, id));
            }
        }
    }

    fn holds(&self, cluster: Uuid, epoch: u64) -> bool {
        self.sessions
            .get(&cluster)
            .is_some_and(|session| session.epoch == epoch)
    }

    /// Whether a unit is this cluster's: of others its agent says nothing.
    fn is_of(&self, unit: Uuid, cluster: Uuid) -> bool {
        self.units.get(&unit).is_some_and(|unit| unit.cluster == cluster)
    }

    pub(crate) fn told(&mut self, told: &Told) -> bool {
        if !self.holds(told.cluster, told.epoch) {
            return false;
        }
        for (unit, accepted) in &told.units {
            if self.is_of(*unit, told.cluster) {
                self.accepted.insert((told.cluster, *unit), *accepted);
            }
        }
        if let Some(session) = self.sessions.get_mut(&told.cluster) {
            session.accepted = told.accepted.unwrap_or(session.accepted);
            session.furthest = session.furthest.max(session.accepted);
        }
        true
    }

    /// Takes a report in. `false`: its stream was replaced.
    pub(crate) fn ingest(&mut self, report: &Report) -> bool {
        let cluster = report.cluster;
        if !self.holds(cluster, report.epoch) {
            return false;
        }
        let before = self.leaving.clone();
        let held: BTreeSet<(Uuid, ObjectKey)> = self.objects.keys().cloned().collect();
        for (id, status) in &report.units {
            // A status of a history that was lost may be told again as it stands here.
            let is_undecided = status.pending > 0 && !self.leaving.contains_key(id);
            let is_news = self.statuses.get(id) != Some(status) || is_undecided;
            if !self.is_of(*id, cluster) || !is_news {
                continue;
            }
            self.statuses.insert(*id, status.clone());
            self.note_leaving(*id, status, before.get(id));
        }
        for (key, row) in &report.objects {
            if !self.is_of(key.0, cluster) {
                continue;
            }
            match row {
                Some(row) => self.objects.insert(key.clone(), row.clone()),
                None => self.objects.remove(key),
            };
        }
        if report.full {
            let mine: BTreeSet<Uuid> = self
                .units
                .iter()
                .filter(|(_, unit)| unit.cluster == cluster)
                .map(|(id, _)| *id)
                .collect();
            self.statuses
                .retain(|id, _| !mine.contains(id) || report.units.contains_key(id));
            self.objects.retain(|key, _| {
                !mine.contains(&key.0) || report.objects.get(key).is_some_and(Option::is_some)
            });
        }
        let gone = held.iter().filter(|key| !self.objects.contains_key(key));
        let let_go: BTreeSet<Uuid> = gone
            .filter_map(|(id, _)| self.units.get(id))
            .filter(|unit| unit.state == UnitState::Detached)
            .map(|unit| unit.app)
            .collect();
        for app in let_go {
            self.withdraw(app, &[cluster], &[]);
            self.wake_claims(app, &[cluster]);
        }
        let named = report
            .units
            .keys()
            .chain(report.objects.keys().map(|(unit, _)| unit));
        let left_out = named.into_iter().any(|unit| !self.is_of(*unit, cluster));
        if let Some(session) = self.sessions.get_mut(&cluster) {
            session.observed_root = Some(report.observed_root);
            session.left_out = session.left_out && !report.full || left_out;
        }
        true
    }

    fn note_leaving(&mut self, id: Uuid, status: &Status, old: Option<&Leaving>) {
        if status.pending == 0 {
            self.leaving.remove(&id);
            return;
        }
        let Some(unit) = self.units.get(&id).filter(|unit| unit.version == status.version) else {
            return;
        };
        if old.is_some_and(|old| (old.version, old.objects) == (status.version, status.pending)) {
            return;
        }
        let state = match self.targets[&unit.target].settings.prune {
            true => LeavingState::Open,
            false => LeavingState::Off,
        };
        // What was decided stands for less of the same. Of more it is decided anew.
        let stands = old.filter(|old| {
            old.version == status.version
                && old.state == LeavingState::Cleared
                && status.pending <= old.objects
        });
        let row = Leaving {
            cluster: unit.cluster,
            app: unit.app,
            version: status.version,
            objects: status.pending,
            state: stands.map_or(state, |old| old.state),
            except: stands.map(|old| old.except.clone()).unwrap_or_default(),
            waits: old
                .filter(|old| old.version == status.version)
                .map(|old| old.waits.clone())
                .unwrap_or_default(),
        };
        let was_cleared =
            old.is_some_and(|old| old.version == status.version && old.state == LeavingState::Cleared);
        if was_cleared && row.state != LeavingState::Cleared {
            self.unpublished.insert((unit.cluster, id));
        }
        self.leaving.insert(id, row);
    }
}
