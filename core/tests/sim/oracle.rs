//! What must be true, found the slow way and apart from the code that it judges: from the commits, what people have asked
//! for, and who wrote which object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{
    apply::{policy::Policy, removal::holds},
    digest::Digest,
    id::UnitId,
    unit::{
        Entry, UnitState,
        event::Action,
        record::{Attained, UnitRecord},
        state::State,
    },
};
use uuid::Uuid;

use crate::{
    agent::ledger::{Memory, Stored},
    cluster::{Cluster, Live},
    git::{Contents, Key, Repository},
    store::{LeavingState, PENDING, Store},
};

/// The last write of an object.
#[derive(Debug, Clone)]
struct Writer {
    unit: UnitId,
    uid: String,
    policy: Policy,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By cluster and object.
    writers: BTreeMap<(Uuid, Key), Writer>,
    /// What may be deleted of a unit: by incarnation, unit and version. Judged when the hub decides it.
    clearings: BTreeMap<(u64, UnitId, u64), BTreeSet<Key>>,
    /// Targets of units for which a person has allowed more.
    approvals: BTreeSet<(UnitId, Digest)>,
    /// Apps that a person has had deleted, by name: also where that was taken back, an agent may not have heard of it.
    deletions: BTreeSet<String>,
    /// Clusters that a person has had drained: also where that was taken back.
    drains: BTreeSet<Uuid>,
    /// How many objects of a unit went at a version.
    went: BTreeMap<(Uuid, UnitId, u64), usize>,
    /// The largest content of a unit that was seen.
    largest: BTreeMap<UnitId, usize>,
    attained: BTreeSet<(Uuid, UnitId, u64, Digest)>,
    /// Objects that somebody has deleted since a unit wrote them.
    vanished: BTreeSet<(Uuid, Key)>,
    /// Units that may leave behind what they wrote: they are not placed any more, or do not prune.
    loose: BTreeSet<(Uuid, UnitId)>,
    /// Objects that no unit knows any more, and that stay.
    left_behind: BTreeSet<(Uuid, Key)>,
    /// Deletions, for whoever looks whether the story is about anything.
    pub(crate) deletions_seen: usize,
}

impl Oracle {
    pub(crate) fn allow(&mut self, unit: UnitId, target: Digest) {
        self.approvals.insert((unit, target));
    }

    pub(crate) fn delete_app(&mut self, name: &str) {
        self.deletions.insert(name.to_owned());
    }

    pub(crate) fn drain(&mut self, cluster: Uuid) {
        self.drains.insert(cluster);
    }

    /// Somebody has deleted an object.
    pub(crate) fn vanished(&mut self, cluster: Uuid, key: &Key) {
        self.vanished.insert((cluster, key.clone()));
    }

    /// A unit may leave behind what it wrote.
    pub(crate) fn let_go(&mut self, cluster: Uuid, unit: UnitId) {
        self.loose.insert((cluster, unit));
    }

    /// A unit has what it wrote again.
    pub(crate) fn take_up(&mut self, cluster: Uuid, unit: UnitId) {
        self.loose.remove(&(cluster, unit));
    }

    /// An agent forgets a unit: what it has stays.
    pub(crate) fn forgotten(&mut self, cluster: Uuid, stored: &Stored) {
        let keys = stored.items.keys().map(|key| (cluster, key.clone()));
        self.left_behind.extend(keys);
    }

    /// All that is there may stay: what of it was to go is not known any more.
    pub(crate) fn put_back(&mut self, cluster: Uuid, objects: &Cluster) {
        for key in objects.objects.keys() {
            self.left_behind.insert((cluster, key.clone()));
        }
        // Whoever wrote these last did so in a time that is no more.
        for (key, live) in &objects.objects {
            let unit = live.mark.as_ref().and_then(|mark| mark.parse().ok()).map(UnitId);
            if let Some(unit) = unit {
                let writer = Writer {
                    unit,
                    uid: live.uid.clone(),
                    policy: live.policy,
                };
                self.writers.insert((cluster, key.clone()), writer);
            }
        }
    }

    /// A job begins.
    pub(crate) fn begins(&self, cluster: Uuid, state: &State, action: &Action) {
        let entry = match action {
            Action::Apply { entry, .. } | Action::Check { entry, .. } => entry,
            Action::Remove { entry, .. } => {
                assert!(
                    Arc::ptr_eq(entry, state.entry()),
                    "a removal of a superseded entry in {cluster}"
                );
                entry
            }
            _ => return,
        };
        assert!(state.is_active(), "{} is not enforced", entry.unit);
        let is_newest = entry.version == state.entry().version && entry.target == state.entry().target;
        assert!(
            is_newest || state.lacks_inputs() || state.waits_for().is_some(),
            "{}: version {} is applied after {} was accepted",
            entry.unit,
            entry.version,
            state.entry().version
        );
    }

    pub(crate) fn wrote(&mut self, cluster: Uuid, unit: UnitId, entry: &Entry, key: &Key, live: &Live) {
        assert!(
            !entry.withheld.iter().any(|one| one.key == **key),
            "{unit} wrote {key}, which is another's"
        );
        let writer = Writer {
            unit,
            uid: live.uid.clone(),
            policy: live.policy,
        };
        self.writers.insert((cluster, key.clone()), writer);
        self.vanished.remove(&(cluster, key.clone()));
        self.left_behind.remove(&(cluster, key.clone()));
    }

    /// A unit's record says that something is attained.
    pub(crate) fn attains(
        &mut self,
        cluster: Uuid,
        state: &State,
        record: &UnitRecord,
        live: &Cluster,
        contents: &Contents,
    ) {
        let entry = state.entry();
        let Some(Attained { version, target }) = record.applied else {
            return;
        };
        if !self.attained.insert((cluster, entry.unit, version, target)) {
            return;
        }
        assert_eq!(
            (version, target),
            (entry.version, entry.target),
            "{} is said to have applied another version",
            entry.unit
        );
        let content = entry.content.map(|content| contents.get(&content));
        for (key, body) in content.into_iter().flat_map(|content| &content.objects) {
            if entry.withheld.iter().any(|one| one.key == **key) {
                continue;
            }
            match live.get(key) {
                Some(live) => assert!(
                    live.touched || live.value == body.value,
                    "{} v{version} is said to be applied, and {key} is {}",
                    entry.unit,
                    live.value
                ),
                None => assert!(
                    self.vanished.contains(&(cluster, key.clone())),
                    "{} v{version} is said to be applied, and {key} is not there",
                    entry.unit
                ),
            }
        }
    }

    /// The hub has stored a status.
    pub(crate) fn told(&self, store: &Store) {
        for (id, status) in &store.statuses {
            let (Some(unit), Some(applied)) = (store.units.get(id), status.applied) else {
                continue;
            };
            let known = (unit.cluster, UnitId(*id), applied.version, applied.target);
            assert!(
                self.attained.contains(&known),
                "{id} is shown applied at version {}, which its agent never attained",
                applied.version
            );
        }
    }

    /// The hub permits what has left a unit to be deleted.
    pub(crate) fn cleared(
        &mut self,
        unit: Uuid,
        store: &Store,
        repositories: &BTreeMap<Uuid, Repository>,
        contents: &Contents,
    ) {
        let row = &store.leaving[&unit];
        let (cluster, app) = (row.cluster, row.app);
        let mine = store
            .objects
            .iter()
            .filter(|((of, _), object)| *of == unit && object.state == PENDING);
        let keys = mine.map(|((_, key), _)| Arc::new(key.clone()));
        let keys: BTreeSet<Key> = keys.filter(|key| !row.except.contains(key)).collect();
        for (id, other) in store
            .units
            .iter()
            .filter(|(id, other)| **id != unit && other.cluster == cluster)
        {
            let content = store.targets[&other.target].content;
            let named = content.map(|content| &contents.get(&content).objects);
            for key in &keys {
                assert!(
                    !named.is_some_and(|named| named.contains_key(key)) || is_let_go(store, *id, key),
                    "{key} is cleared, and unit {id} claims it"
                );
            }
        }
        let source = store.inputs.get(&app).map(|input| input.source);
        let siblings = store.resources.iter().filter(|(_, one)| {
            // Nothing comes any more where a cluster is drained.
            let is_here = one.placed.contains(&cluster) && !store.draining.contains(&cluster);
            Some(one.source) == source && one.deletion.is_none() && is_here
        });
        for (other, resource) in siblings {
            let revision = store.sources[&resource.source].revision;
            let tree = repositories[&resource.source].tree(revision);
            let folder = tree.and_then(|tree| tree.get(&resource.folder));
            let Some(folder) = folder.filter(|folder| !folder.broken) else {
                assert_eq!(*other, app, "cleared while {} cannot be rendered", resource.name);
                continue;
            };
            for key in &keys {
                assert!(
                    !folder.objects.contains_key(key),
                    "{key} is cleared, and {} is to have it at r{revision}",
                    resource.name
                );
            }
        }
        let place = (store.incarnation, UnitId(unit), row.version);
        self.clearings.entry(place).or_default().extend(keys);
    }

    /// The hub has published what it permits.
    pub(crate) fn published(&self, store: &Store, contents: &Contents) {
        for (id, row) in &store.leaving {
            let unit = store.units.get(id).filter(|unit| unit.version == row.version);
            let is_open = row.state != LeavingState::Cleared || unit.is_none();
            if is_open
                || store
                    .unpublished
                    .iter()
                    .any(|(cluster, _)| *cluster == row.cluster)
            {
                continue;
            }
            let others = store.units.iter();
            let others = others.filter(|(other, unit)| *other != id && unit.cluster == row.cluster);
            let claimed: Vec<&Key> = others
                .filter_map(|(id, unit)| Some((*id, store.targets[&unit.target].content?)))
                .flat_map(|(id, content)| {
                    let keys = contents.get(&content).objects.keys();
                    keys.filter(move |key| !is_let_go(store, id, key))
                })
                .collect();
            for ((_, key), _) in store
                .objects
                .iter()
                .filter(|((of, _), object)| of == id && object.state == PENDING)
            {
                assert!(
                    row.except.contains(key) || !claimed.iter().any(|claimed| ***claimed == *key),
                    "{key} of {id} may go as it is published, and another unit claims it"
                );
            }
        }
    }

    /// An agent is about to delete an object.
    pub(crate) fn proven(
        &mut self,
        cluster: Uuid,
        unit: UnitId,
        key: &Key,
        live: &Live,
        memory: &Memory,
        contents: &Contents,
    ) {
        let what = format!("{unit} deletes {key} in {cluster}");
        let writer = self.writers.get(&(cluster, key.clone()));
        let writer = writer.unwrap_or_else(|| panic!("{what}, which no unit has written"));
        assert_eq!(
            (writer.unit, writer.uid.as_str()),
            (unit, live.uid.as_str()),
            "{what}, which is another's"
        );
        assert_eq!(
            live.mark,
            Some(unit.to_string()),
            "{what}, which bears another mark"
        );
        assert!(
            !live.policy.keep && !writer.policy.keep,
            "{what}, which says that it stays"
        );
        let stored = &memory.units[&unit];
        let entry = &stored.offered.as_ref().expect("an entry").entry;
        assert!(!stored.is_unknown, "{what}, which the hub does not know");
        assert!(entry.state.is_active(), "{what}: {:?}", entry.state);
        assert!(entry.settings.prune, "{what}, which does not prune");
        let content = entry.content.expect("a content");
        let content = &contents.get(&content).objects;
        assert!(!content.contains_key(key), "{what}, which it desires");
        let place = (memory.held.incarnation, unit, entry.version);
        let cleared = self.clearings.get(&place);
        assert!(
            cleared.is_some_and(|cleared| cleared.contains(key)),
            "{what}, which the hub has not cleared at version {}",
            entry.version
        );
        let permit = entry.prune_cleared.as_ref();
        assert!(
            permit.is_some_and(|permit| !permit.except.contains(key)),
            "{what}, which is excepted"
        );
        for (other, stored) in memory.units.iter().filter(|(other, _)| **other != unit) {
            let offered = stored.offered.as_ref();
            let content = offered.and_then(|offered| offered.entry.content);
            let named = content.map(|content| &contents.get(&content).objects);
            let is_let_go = offered.is_some_and(|offered| {
                offered.entry.state == UnitState::Detached
                    && stored.items.get(key).is_none_or(|record| record.uid.is_none())
            });
            assert!(
                !named.is_some_and(|named| named.contains_key(key)) || is_let_go,
                "{what}, which {other} is to have"
            );
        }
        assert!(!entry.is_parting(), "{what}, which its unit lets go of");
        for (other, stored) in &memory.units {
            let inner = stored.items.keys().find(|inner| holds(key, inner));
            assert!(inner.is_none(), "{what}, and {other} has {inner:?} in it");
        }
        if let UnitState::Removing(_) = entry.state {
            assert!(
                self.deletions.contains(&entry.app.name) || self.drains.contains(&cluster),
                "{what}, of which nobody has asked for the deletion"
            );
        } else if !self.approvals.contains(&(unit, entry.target)) {
            let largest = self.largest.get(&unit).copied().unwrap_or_default();
            let went = self.went.get(&(cluster, unit, entry.version)).copied();
            let went = went.unwrap_or_default() + 1;
            assert!(!content.is_empty(), "{what}, and nothing is left");
            assert!(
                went <= 10.max(largest * 30 / 100),
                "{what}, with {went} others at once"
            );
        }
    }

    /// An agent is about to take its mark off an object.
    pub(crate) fn unmarks(&self, cluster: Uuid, unit: UnitId, key: &Key) {
        let writer = self.writers.get(&(cluster, key.clone()));
        assert!(
            writer.is_none_or(|writer| writer.unit == unit),
            "{unit} takes its mark off {key} in {cluster}, which another has written last"
        );
    }

    pub(crate) fn deleted(&mut self, cluster: Uuid, unit: UnitId, memory: &Memory) {
        let entry = memory.units.get(&unit).and_then(|unit| unit.offered.as_ref());
        if let Some(offered) = entry {
            let place = (cluster, unit, offered.entry.version);
            *self.went.entry(place).or_default() += 1;
        }
        self.deletions_seen += 1;
    }

    /// A unit has a content.
    pub(crate) fn holds(&mut self, unit: UnitId, objects: usize) {
        let largest = self.largest.entry(unit).or_default();
        *largest = (*largest).max(objects);
    }

    /// Whether an object that nobody wants may be there all the same.
    pub(crate) fn may_stay(&self, cluster: Uuid, key: &Key, live: &Live, store: &Store) -> bool {
        let place = (cluster, key.clone());
        let writer = self.writers.get(&place).filter(|writer| writer.uid == live.uid);
        let Some(writer) = writer.filter(|writer| live.mark == Some(writer.unit.to_string())) else {
            return true;
        };
        // What is another's keeps a unit from being applied whole, and only then anything of it goes.
        let unit = store.units.get(&writer.unit.0);
        let is_in_conflict = unit.is_some_and(|unit| !unit.withheld.is_empty());
        live.policy.keep
            || writer.policy.keep
            || is_in_conflict
            || self.loose.contains(&(cluster, writer.unit))
            || self.left_behind.contains(&place)
    }
}

/// Whether a unit was let go of and does not have an object that its content names: it will never write it.
fn is_let_go(store: &Store, unit: Uuid, key: &Key) -> bool {
    let object = store.objects.get(&(unit, key.as_ref().clone()));
    let has = object.is_some_and(|object| !object.uid.is_empty());
    store
        .units
        .get(&unit)
        .is_some_and(|unit| unit.released || unit.state == UnitState::Detached && !has)
}
