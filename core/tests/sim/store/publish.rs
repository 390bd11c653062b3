//! Desired states of clusters (`hub/src/store/publish.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    desired::Head,
    digest::Digest,
    id::{ResourceUid, UnitId},
    removal::Clearing,
    unit::{AppRef, Dependency, Entry, UnitState, root},
};
use uuid::Uuid;

use super::{Desired, EntryRow, LeavingState, Store, Unit};

/// What of a desired state changed after a generation, or all of it.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) head: Head,
    /// Unit, bytes, and whether it is let go of.
    pub(crate) entries: Vec<(Uuid, Vec<u8>, bool)>,
}

impl Desired {
    pub(crate) fn head(&self) -> Head {
        Head {
            incarnation: self.incarnation,
            generation: self.generation,
            root: self.root,
        }
    }
}

impl Store {
    /// Publishes the units of these clusters that changed, and states of former incarnations. Returns the clusters whose
    /// state is another.
    pub(crate) fn publish(&mut self, clusters: &[Uuid]) -> Vec<Uuid> {
        let incarnation = self.incarnation;
        let asked: BTreeSet<Uuid> = clusters.iter().copied().collect();
        for (cluster, _) in self
            .unpublished
            .iter()
            .filter(|(cluster, _)| asked.contains(cluster))
        {
            self.desired.entry(*cluster).or_insert(Desired {
                incarnation,
                generation: 0,
                root: root([]),
            });
        }
        let locked: BTreeMap<Uuid, Desired> = self
            .desired
            .iter()
            .filter(|(cluster, desired)| asked.contains(*cluster) && desired.incarnation <= incarnation)
            .map(|(cluster, desired)| (*cluster, *desired))
            .collect();
        let taken: Vec<(Uuid, Uuid)> = self
            .unpublished
            .iter()
            .filter(|(cluster, unit)| {
                let unit = self.units.get(unit);
                let is_unconfirmed = unit.is_some_and(|unit| self.unconfirmed.contains(&unit.app));
                locked.contains_key(cluster) && !is_unconfirmed
            })
            .copied()
            .collect();
        for one in &taken {
            self.unpublished.remove(one);
        }
        let former = locked.iter().filter(|(_, one)| one.incarnation < incarnation);
        let mut touched: BTreeSet<Uuid> = former.map(|(cluster, _)| *cluster).collect();
        let mut written: Vec<(Uuid, Uuid, Option<Vec<u8>>)> = Vec::new();
        for (cluster, id) in taken {
            let Some(unit) = self.units.get(&id) else { continue };
            let bytes = (!unit.released).then(|| self.entry(id, unit).to_bytes());
            let known = self.entries.get(&(cluster, id)).filter(|row| !row.released);
            let digest = bytes.as_deref().map(Entry::digest_of);
            if known.map(|row| row.digest) != digest {
                written.push((cluster, id, bytes));
            }
        }
        touched.extend(written.iter().map(|(cluster, ..)| *cluster));
        for (cluster, id, bytes) in written {
            let released = bytes.is_none();
            let bytes = bytes.unwrap_or_default();
            let row = EntryRow {
                digest: Entry::digest_of(&bytes),
                bytes,
                since: locked[&cluster].generation + 1,
                released,
            };
            self.entries.insert((cluster, id), row);
        }
        for cluster in &touched {
            let generation = locked[cluster].generation + 1;
            let root = root(self.named(*cluster));
            self.desired.insert(
                *cluster,
                Desired {
                    incarnation,
                    generation,
                    root,
                },
            );
        }
        touched.into_iter().collect()
    }

    fn named(&self, cluster: Uuid) -> Vec<(UnitId, Digest)> {
        let rows = self.entries.iter().filter(|((of, _), _)| *of == cluster);
        rows.filter(|(_, row)| !row.released)
            .map(|((_, unit), row)| (UnitId(*unit), row.digest))
            .collect()
    }

    fn entry(&self, id: Uuid, unit: &Unit) -> Entry {
        let target = &self.targets[&unit.target];
        let app = &self.resources[&unit.app];
        let leaving = self.leaving.get(&id);
        let cleared = leaving
            .filter(|row| row.version == unit.version && row.state == LeavingState::Cleared)
            .map(|row| Clearing {
                version: unit.version,
                except: row.except.clone(),
            });
        let is_removed =
            matches!(&unit.state, UnitState::Removing(removal) if removal.is_approved(unit.target));
        let is_approved = self.approvals.get(&(id, unit.target)) == Some(&unit.version) || is_removed;
        Entry {
            unit: UnitId(id),
            version: unit.version,
            app: AppRef {
                uid: ResourceUid(unit.app),
                kind: "Kustomization".into(),
                namespace: "apps".into(),
                name: app.name.clone(),
            },
            content: target.content,
            target: unit.target,
            revision: unit
                .revision
                .map_or_else(String::new, |revision| format!("main@sha1:{revision}")),
            state: unit.state.clone(),
            prune_cleared: cleared,
            prune_approved: is_approved.then_some(unit.target),
            settings: target.settings.clone(),
            variables: target.variables.clone(),
            depends_on: self.depends_on(unit),
            withheld: unit.withheld.clone(),
            requested: unit.requested.clone(),
        }
    }

    /// The units of the cluster that have to be ready first.
    fn depends_on(&self, unit: &Unit) -> Vec<Dependency> {
        let app = &self.resources[&unit.app];
        let needed = self.units.iter().filter(|(_, other)| {
            let name = self.resources.get(&other.app).map(|app| &app.name);
            other.cluster == unit.cluster && name.is_some_and(|name| app.needs.contains(name))
        });
        let needed = needed.filter(|_| unit.state == UnitState::Active);
        needed
            .map(|(id, other)| {
                let name = self.resources.get(&other.app).map_or("", |app| app.name.as_str());
                Dependency::on(name, UnitId(*id))
            })
            .collect()
    }

    /// What changed after a generation.
    pub(crate) fn desired_since(&self, cluster: Uuid, since: u64) -> Option<Offered> {
        let head = self.desired.get(&cluster)?.head();
        let rows = self
            .entries
            .iter()
            .filter(|((of, _), row)| *of == cluster && row.since > since);
        Some(Offered {
            head,
            entries: rows
                .map(|((_, unit), row)| (*unit, row.bytes.clone(), row.released))
                .collect(),
        })
    }
}
