//! What people, Git, and bad luck do to a fleet: chosen by the seed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    apply::policy::Policy,
    id::{ClusterId, UnitId},
    removal::DeletionPolicy,
};
use uuid::Uuid;

use crate::{
    git::{Body, Folder, Key, Repository, Tree, key},
    hub::named,
    store::Resource,
    world::World,
};

/// Objects that there may be.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Objects of a large folder.
const MANY: usize = 24;

impl World {
    /// A fleet that has apps and is about to be told of them.
    pub(crate) fn begin(&mut self) {
        for _ in 0..1 + self.random.below(2) {
            self.add_site();
        }
        for _ in 0..1 + self.random.below(2) {
            let source = self.number();
            let mut tree = Tree::new();
            for folder in 0..3 {
                tree.insert(folder, Folder::default());
            }
            let commits = vec![tree];
            self.repositories.insert(source, Repository { commits });
            self.store.sources.insert(source, crate::store::Source::default());
            for _ in 0..3 {
                self.commit(source);
            }
        }
        for folder in 0..2 + self.random.below(2) {
            self.add_app(u8::try_from(folder).expect("few"));
        }
    }

    fn source(&mut self) -> Uuid {
        let sources: Vec<Uuid> = self.repositories.keys().copied().collect();
        *self.random.pick(&sources).expect("a source")
    }

    fn app(&mut self) -> Option<Uuid> {
        let apps: Vec<Uuid> = self.store.resources.keys().copied().collect();
        self.random.pick(&apps).copied()
    }

    fn clusters(&mut self) -> BTreeSet<Uuid> {
        let ids: Vec<Uuid> = self.sites.iter().map(|site| site.id).collect();
        ids.into_iter().filter(|_| !self.random.once_in(4)).collect()
    }

    fn add_app(&mut self, folder: u8) {
        let names = self.store.resources.len() + self.random.below(3);
        let name = format!("app{names}");
        let source = self.source();
        let placed = self.clusters();
        let prune = !self.random.once_in(8);
        self.apply(&name, source, folder, placed, prune);
    }

    /// Applies an app, new or changed.
    fn apply(&mut self, name: &str, source: Uuid, folder: u8, placed: BTreeSet<Uuid>, prune: bool) {
        let known = self.store.resources.iter().find(|(_, one)| one.name == name);
        let known = known.map(|(app, one)| (*app, one.clone()));
        let (app, before) = match known {
            Some((app, before)) => (app, Some(before)),
            None => (self.number(), None),
        };
        self.trace
            .say(|| format!("* apply {name}: folder {folder} of {source}, on {placed:?}, prune {prune}"));
        self.store.keep(app);
        for site in &self.sites {
            let unit = UnitId::of(ClusterId(site.id), named(name));
            match placed.contains(&site.id) && prune {
                true => self.oracle.take_up(site.id, unit),
                false => self.oracle.let_go(site.id, unit),
            }
        }
        let resource = Resource {
            name: name.to_owned(),
            source,
            folder,
            prune,
            suspended: before.as_ref().is_some_and(|one| one.suspended),
            placed,
            needs: before.as_ref().map(|one| one.needs.clone()).unwrap_or_default(),
            generation: before.as_ref().map_or(0, |one| one.generation) + 1,
            deletion: None,
            changed: true,
        };
        self.wishes.insert(name.to_owned(), resource.clone());
        self.store.resources.insert(app, resource);
        self.store.wake_apps([app]);
    }

    fn change_app(&mut self, change: impl FnOnce(&mut World, &mut Resource)) {
        let Some(app) = self.app() else { return };
        let mut one = self.store.resources[&app].clone();
        if one.deletion.is_none() {
            change(self, &mut one);
            self.apply(&one.name, one.source, one.folder, one.placed, one.prune);
        }
    }

    fn commit(&mut self, source: Uuid) {
        let mut random = self.random.clone();
        let repository = self.repositories.get_mut(&source).expect("a source");
        let history = repository.commits.len();
        let mut said = String::new();
        let back = repository.commits[random.below(history)].clone();
        repository.commit(|tree| said = changed(tree, back, &mut random));
        self.random = random;
        let head = self.repositories[&source].head();
        self.trace.say(|| format!("* commit r{head} of {source}: {said}"));
    }

    fn delete_app(&mut self) {
        let Some(app) = self.app() else { return };
        let policies = [
            DeletionPolicy::MirrorPrune,
            DeletionPolicy::Delete,
            DeletionPolicy::Orphan,
        ];
        let policy = *self.random.pick(&policies).expect("some");
        self.request_deletion(app, policy);
    }

    pub(crate) fn request_deletion(&mut self, app: Uuid, policy: DeletionPolicy) {
        let one = self.store.resources[&app].clone();
        self.trace
            .say(|| format!("* delete {} with {policy:?}", one.name));
        let deletes = match policy {
            DeletionPolicy::Orphan => false,
            DeletionPolicy::MirrorPrune => one.prune,
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
        };
        if !one.suspended && deletes {
            self.oracle.delete_app(&one.name);
        }
        let stays = one.suspended || !deletes;
        for site in self.sites.iter().filter(|_| stays) {
            let unit = UnitId::of(ClusterId(site.id), named(&one.name));
            self.oracle.let_go(site.id, unit);
        }
        if let Some(wish) = self.wishes.get_mut(&one.name) {
            wish.deletion = Some(policy);
        }
        self.store.request_deletion(app, policy);
    }

    /// A restored hub is told again what it was told since its backup.
    pub(crate) fn ask_again(&mut self) {
        for (name, mut wish) in self.wishes.clone() {
            let known = self.store.resources.iter().find(|(_, one)| one.name == name);
            let known = known.map(|(app, one)| (*app, one.clone()));
            let is_same = known.as_ref().is_some_and(|(_, one)| {
                (one.source, one.folder, &one.placed, one.prune, one.deletion)
                    == (wish.source, wish.folder, &wish.placed, wish.prune, wish.deletion)
            });
            // A unit that the hub does not know is nobody's to delete: its app is made again, and placed where it is.
            let unknown: Vec<Uuid> = self
                .sites
                .iter()
                .filter(|site| {
                    let unit = UnitId::of(ClusterId(site.id), named(&name));
                    let is_held = site.agent.ledger.durable.units.contains_key(&unit);
                    is_held && !self.store.units.contains_key(&unit.0)
                })
                .map(|site| site.id)
                .collect();
            let is_unknown = !unknown.is_empty();
            wish.placed.extend(unknown);
            if is_same && !is_unknown || known.is_none() && wish.deletion.is_some() && !is_unknown {
                continue;
            }
            let is_deleting = known.is_some_and(|(_, one)| one.deletion.is_some());
            if is_deleting && wish.deletion.is_some() && !is_unknown {
                continue;
            }
            self.apply(&name, wish.source, wish.folder, wish.placed.clone(), wish.prune);
            let app = self.store.resources.iter().find(|(_, one)| one.name == name);
            let app = app.map(|(app, _)| *app);
            if let (Some(app), Some(policy)) = (app, wish.deletion.filter(|_| !is_unknown)) {
                self.request_deletion(app, policy);
            }
        }
    }

    /// A new app takes over the folder of another one, which goes.
    fn rename(&mut self) {
        let Some(app) = self.app() else { return };
        let one = self.store.resources[&app].clone();
        if one.deletion.is_some() {
            return;
        }
        let name = format!("{}x", one.name);
        self.trace.say(|| format!("* rename {} to {name}", one.name));
        let first = self.random.once_in(2);
        if first {
            self.request_deletion(app, DeletionPolicy::MirrorPrune);
        }
        self.apply(&name, one.source, one.folder, one.placed, one.prune);
        if !first {
            self.request_deletion(app, DeletionPolicy::MirrorPrune);
        }
    }

    pub(crate) fn suspend(&mut self, app: Uuid, suspended: bool) {
        let Some(one) = self.store.resources.get_mut(&app) else {
            return;
        };
        if one.suspended == suspended {
            return;
        }
        one.suspended = suspended;
        one.generation += 1;
        one.changed = true;
        let (name, deletion, prune) = (one.name.clone(), one.deletion, one.prune);
        self.trace.say(|| format!("* suspend {name}: {suspended}"));
        if !suspended
            && deletion.is_some_and(|policy| match policy {
                DeletionPolicy::Orphan => false,
                DeletionPolicy::MirrorPrune => prune,
                DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            })
        {
            self.oracle.delete_app(&name);
        }
        if suspended && deletion.is_some() {
            for site in &self.sites {
                let unit = UnitId::of(ClusterId(site.id), named(&name));
                self.oracle.let_go(site.id, unit);
            }
        }
        self.store.wake_apps([app]);
    }

    pub(crate) fn approve(&mut self) {
        let blocked = self.store.blocked();
        for (unit, target, version) in &blocked {
            self.trace
                .say(|| format!("* approve {unit} at version {version}"));
            self.oracle.allow(UnitId(*unit), *target);
        }
        self.store.approve(&blocked);
    }

    /// Has an app wait for another one, or for none.
    fn need(&mut self) {
        let (Some(app), Some(other)) = (self.app(), self.app()) else {
            return;
        };
        let other = self.store.resources[&other].name.clone();
        let one = &self.store.resources[&app];
        let needs = match one.needs.is_empty() && one.name != other {
            true => BTreeSet::from([other]),
            false => BTreeSet::new(),
        };
        self.set_needs(app, needs);
    }

    pub(crate) fn set_needs(&mut self, app: Uuid, needs: BTreeSet<String>) {
        let Some(one) = self
            .store
            .resources
            .get_mut(&app)
            .filter(|one| one.needs != needs)
        else {
            return;
        };
        self.trace.say(|| format!("* {} needs {needs:?}", one.name));
        one.needs = needs;
        let units: Vec<(Uuid, Uuid)> = self
            .store
            .units_of(app)
            .map(|(id, unit)| (unit.cluster, id))
            .collect();
        self.store.unpublished.extend(units);
    }

    /// Has a cluster drained, or stay.
    pub(crate) fn drain(&mut self, cluster: Uuid, drains: bool) {
        self.trace.say(|| format!("* drain {cluster}: {drains}"));
        match drains {
            true => self.drains.insert(cluster),
            false => self.drains.remove(&cluster),
        };
        if drains {
            self.oracle.drain(cluster);
        }
        for one in self
            .store
            .resources
            .values()
            .filter(|one| one.suspended || !one.prune)
        {
            let unit = UnitId::of(ClusterId(cluster), named(&one.name));
            self.oracle.let_go(cluster, unit);
        }
        self.store.drain(cluster, drains);
    }

    /// Something that somebody wants.
    pub(crate) fn somebody(&mut self) {
        match self.random.below(22) {
            21 => self.need(),
            20 => {
                let at = self.random.below(self.sites.len());
                let cluster = self.sites[at].id;
                let drains = !self.drains.contains(&cluster);
                self.drain(cluster, drains);
            }
            0..=6 => {
                let source = self.source();
                self.commit(source);
            }
            7 => self.change_app(|world, one| one.placed = world.clusters()),
            8 => self.delete_app(),
            9 => self.rename(),
            10 => {
                if let Some(app) = self.app() {
                    let suspended = !self.store.resources[&app].suspended;
                    self.suspend(app, suspended);
                }
            }
            11 => {
                let folder = u8::try_from(self.random.below(3)).expect("few");
                self.add_app(folder);
            }
            12 => self.approve(),
            13 => self.change_app(|world, one| match world.random.below(3) {
                0 => one.prune = !one.prune,
                1 => one.source = world.source(),
                _ => one.folder = u8::try_from(world.random.below(3)).expect("few"),
            }),
            14 => {
                let at = self.random.below(self.sites.len());
                self.request(at);
            }
            _ => {
                let at = self.random.below(self.sites.len());
                self.write_by_hand(at);
            }
        }
    }

    /// Somebody else writes to a cluster.
    fn write_by_hand(&mut self, at: usize) {
        let choice = self.random.below(7);
        let name = *self.random.pick(&NAMES).expect("some");
        let mut key = key(name);
        // What is about to go is written to as well.
        let units = self.sites[at].agent.units.values();
        let leaving = units.flat_map(|unit| unit.state.leaving().cloned());
        let leaving: Vec<Key> = leaving.collect();
        let there: Vec<Key> = self.sites[at].cluster.objects.keys().cloned().collect();
        let meant = match self.random.below(4) {
            0 => &[][..],
            1 => &there[..],
            _ => &leaving[..],
        };
        key = self.random.pick(meant).cloned().unwrap_or(key);
        let site = &mut self.sites[at];
        let (id, cluster) = (site.id, &mut site.cluster);
        let is_there = cluster.get(&key).is_some();
        self.trace.say(|| format!("* by hand in {id}: {choice} of {key}"));
        match choice {
            0 => {
                cluster.edit(&key, |live| live.value += 1000);
            }
            1 => {
                self.oracle.vanished(id, &key);
                cluster.remove(&key);
            }
            2 if is_there => cluster.edit(&key, |live| live.mark = None),
            3 if is_there => cluster.edit(&key, |live| live.held = true),
            4 => cluster.release(&key),
            5 if is_there => cluster.edit(&key, |live| live.policy.keep = true),
            // Deleted and made by somebody else, who copies all labels.
            6 if is_there => {
                let mark = cluster.get(&key).and_then(|live| live.mark.clone());
                self.oracle.vanished(id, &key);
                if cluster.remove(&key) {
                    cluster.edit(&key, |live| live.mark = mark);
                }
            }
            _ => {}
        }
        self.tell_watches(at);
    }

    /// Something that nobody wants.
    pub(crate) fn bad_luck(&mut self) {
        let at = self.random.below(self.sites.len());
        let choice = self.random.below(16);
        let id = self.sites[at].id;
        self.trace.say(|| format!("! bad luck {choice} at {id}"));
        match choice {
            0 | 1 => self.crash_agent(at),
            2 => {
                self.tasks.clear();
                for at in 0..self.sites.len() {
                    self.cut_streams(at, false, true);
                }
            }
            3 => {
                let (agent, hub) = (self.random.once_in(2), self.random.once_in(2));
                self.cut_streams(at, agent, hub);
            }
            4 => self.sites[at].is_cut = !self.sites[at].is_cut,
            5 => self.sites[at].is_silent = !self.sites[at].is_silent,
            6 => self.sites[at].is_lacking = !self.sites[at].is_lacking,
            7 => self.sites[at].agent.watch.cut(),
            8 => {
                let jump = i64::try_from(self.random.below(7_200_000)).expect("few") - 3_600_000;
                self.sites[at].agent.clock += jump;
            }
            9 => self.backup = Some(self.store.clone()),
            10 if self.backup.is_none() => self.backup = Some(self.store.clone()),
            10 => self.restore_hub(),
            11 => {
                let site = &mut self.sites[at];
                site.backup = Some((site.cluster.clone(), site.agent.ledger.clone()));
            }
            12 => self.restore_cluster(at),
            13 | 14 => {
                if let Some(app) = self.app()
                    && !self.stalled.remove(&app)
                {
                    self.stalled.insert(app);
                }
            }
            _ => self.now += 1 + self.random.next() % 120_000,
        }
    }

    fn restore_hub(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        self.trace.say(|| "! the hub is restored".to_owned());
        let known = self.store.incarnation;
        self.store = backup;
        self.store.restore(1_700_000_000 + self.now / 1000, known);
        self.tasks.clear();
        for at in 0..self.sites.len() {
            self.cut_streams(at, false, true);
        }
        // What was asked for since the backup is lost: what units have may stay.
        let units = self.store.units.iter();
        let known: BTreeMap<UnitId, Uuid> = units.map(|(id, unit)| (UnitId(*id), unit.app)).collect();
        for site in &self.sites {
            for unit in site.agent.ledger.live.units.keys() {
                let app = known.get(unit).and_then(|app| self.store.resources.get(app));
                let is_kept = app.is_some_and(|app| app.placed.contains(&site.id) && app.prune);
                if !is_kept {
                    self.oracle.let_go(site.id, *unit);
                }
            }
        }
    }

    /// The cluster's store is put back, and with it the agent's ledger, which stands in it.
    fn restore_cluster(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let Some((cluster, ledger)) = site.backup.clone() else {
            return;
        };
        self.trace.say(|| "! the cluster is restored".to_owned());
        site.cluster.restore(&cluster);
        site.agent.ledger = ledger;
        self.oracle.put_back(site.id, &site.cluster);
        self.crash_agent(at);
    }
}

/// Changes a tree, and says how.
fn changed(tree: &mut Tree, back: Tree, random: &mut crate::random::Random) -> String {
    let folder = |random: &mut crate::random::Random| u8::try_from(random.below(3)).expect("few");
    let name = |random: &mut crate::random::Random| key(random.pick(&NAMES).expect("some"));
    let value = u32::try_from(random.below(1000)).expect("few");
    let (one, other) = (folder(random), folder(random));
    match random.below(12) {
        // As it was.
        0 => {
            *tree = back;
            "as it was once".to_owned()
        }
        1 => {
            let folder = tree.entry(one).or_default();
            folder.broken = !folder.broken;
            format!("folder {one} broken: {}", folder.broken)
        }
        2 => {
            tree.entry(one).or_default().objects.clear();
            format!("folder {one} is empty")
        }
        // A path that leads to something larger, or back from it.
        3 => {
            let objects = &mut tree.entry(one).or_default().objects;
            let is_large = objects.len() > NAMES.len();
            objects.retain(|key, _| !key.name.starts_with('m'));
            if !is_large {
                objects.extend((0..MANY).map(|n| (key(&format!("m{one}-{n}")), Body::plain(value))));
            }
            format!("folder {one} is large: {}", !is_large)
        }
        4..=6 => {
            let names: Vec<Key> = tree.entry(one).or_default().objects.keys().cloned().collect();
            let moved = random.pick(&names).cloned();
            let body = moved
                .as_ref()
                .and_then(|key| tree.entry(one).or_default().objects.remove(key));
            if let (Some(key), Some(body)) = (moved.clone(), body) {
                tree.entry(other).or_default().objects.insert(key, body);
            }
            format!("{moved:?} moves from {one} to {other}")
        }
        7 | 8 => {
            let names: Vec<Key> = tree.entry(one).or_default().objects.keys().cloned().collect();
            let gone = random.pick(&names).cloned();
            if let Some(key) = &gone {
                tree.entry(one).or_default().objects.remove(key);
            }
            format!("{gone:?} leaves {one}")
        }
        _ => {
            let key = name(random);
            let policy = Policy {
                keep: random.once_in(12),
                ..Policy::default()
            };
            let said = format!("{key} = {value} in {one}");
            // One folder has an object, mostly.
            if !random.once_in(10) {
                for folder in tree.values_mut() {
                    folder.objects.remove(&key);
                }
            }
            let folder = tree.entry(one).or_default();
            folder.objects.insert(key, Body { value, policy });
            said
        }
    }
}
