//! Who waits for whom, by `dependsOn`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{cycle, readiness};
use crate::{
    cel::Work,
    id::UnitId,
    unit::{Dependency, Entry, Needed, UnitState},
};

/// Where a unit stands for those that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It is ready at the entry that is held.
    pub ready: bool,
    /// The version that was applied last.
    pub applied: Option<u64>,
    /// Changes with whatever is said of it, for those whose expressions look at that.
    pub said: u64,
}

/// What a unit waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// In words.
    pub message: String,
    /// It may be over at any moment: a rolling update makes a unit not ready for a while. A unit that has applied what
    /// it was to apply takes no notice, as Flux takes none before it reconciles the next time.
    pub passes: bool,
}

impl Wait {
    /// A wait that passes.
    pub fn passing(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            passes: true,
        }
    }

    /// A wait for somebody to change an entry.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            passes: false,
        }
    }
}

/// Whether it is known what a unit waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is.
    Now(Option<Wait>),
    /// Its expressions are evaluated in a later turn.
    Later,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// `namespace/name` of the app, for messages.
    name: String,
    /// The cluster is to have it: one that is let go of is no app of this cluster any more.
    is_here: bool,
    needs: Vec<Dependency>,
}

/// The edges between the units of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edges {
    nodes: BTreeMap<UnitId, Node>,
    /// Units that name a unit, which need not be known.
    dependents: BTreeMap<UnitId, BTreeSet<UnitId>>,
    /// Of each unit in a cycle, all members of that.
    cycles: BTreeMap<UnitId, Arc<BTreeSet<UnitId>>>,
    /// All units, each after those that it needs.
    order: Vec<UnitId>,
}

impl Edges {
    /// The edges of these entries.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut edges = Self::default();
        for entry in entries {
            edges.insert(entry);
        }
        edges.arrange();
        edges
    }

    /// Takes in an entry, new or changed. Returns the units whose edges are to be judged anew.
    pub fn set(&mut self, entry: &Entry) -> BTreeSet<UnitId> {
        let known = self.nodes.get(&entry.unit).cloned();
        self.insert(entry);
        if known.as_ref() == self.nodes.get(&entry.unit) {
            return self.changed(entry.unit);
        }
        self.rearranged(&[entry.unit])
    }

    /// Forgets units that are gone, with one arrangement for all. Returns the units whose edges are to be judged anew.
    pub fn remove(&mut self, units: &[UnitId]) -> BTreeSet<UnitId> {
        let mut known = Vec::with_capacity(units.len());
        for unit in units {
            self.unlink(*unit);
            if self.nodes.remove(unit).is_some() {
                known.push(*unit);
            }
        }
        match known.is_empty() {
            true => BTreeSet::new(),
            false => self.rearranged(&known),
        }
    }

    /// The units that wait for this one: to be judged anew when it has changed.
    pub fn changed(&self, unit: UnitId) -> BTreeSet<UnitId> {
        let dependents = self.dependents.get(&unit).into_iter().flatten().copied();
        dependents
            .filter(|dependent| self.nodes.contains_key(dependent))
            .collect()
    }

    /// The units that are to be judged anew when this one stands elsewhere than `before`. What is merely said of it
    /// concerns those alone whose expressions look at it.
    pub fn moved(&self, unit: UnitId, before: Standing, now: Standing) -> BTreeSet<UnitId> {
        let mut concerned = self.changed(unit);
        if (before.ready, before.applied) == (now.ready, now.applied) {
            concerned.retain(|dependent| {
                let needs = self.nodes.get(dependent).map(|node| node.needs.as_slice());
                let mut needs = needs.unwrap_or_default().iter();
                needs.any(|need| need.ready.is_some())
            });
        }
        concerned
    }

    /// What a unit waits for; `None` when nothing holds it. `standing` gives where another unit stands, `status` what
    /// expressions see of one.
    pub fn waits_for(
        &self,
        unit: UnitId,
        standing: impl Fn(UnitId) -> Option<Standing>,
        status: impl Fn(UnitId) -> Value,
    ) -> Option<Wait> {
        self.judged(unit, standing, status, &mut Work::default())
    }

    /// The same, where something is left in this turn of what the expressions of all units may take before others have theirs;
    /// of a unit without any it is always known.
    pub fn judge(
        &self,
        unit: UnitId,
        standing: impl Fn(UnitId) -> Option<Standing>,
        status: impl Fn(UnitId) -> Value,
        turn: &mut Work,
    ) -> Judgement {
        let needs = self.nodes.get(&unit).map(|node| node.needs.as_slice());
        let mut needs = needs.unwrap_or_default().iter();
        if turn.is_spent() && needs.any(|need| need.ready.is_some()) {
            return Judgement::Later;
        }
        let mut work = Work::default();
        let waits = self.judged(unit, standing, status, &mut work);
        turn.charge(work);
        Judgement::Now(waits)
    }

    fn judged(
        &self,
        unit: UnitId,
        standing: impl Fn(UnitId) -> Option<Standing>,
        status: impl Fn(UnitId) -> Value,
        left: &mut Work,
    ) -> Option<Wait> {
        if self.cycles.contains_key(&unit) {
            let way = cycle::through(&unit, |from| self.needed(*from).into_iter().collect());
            let names: Vec<String> = way
                .unwrap_or_default()
                .iter()
                .map(|one| self.name(*one))
                .collect();
            return Some(Wait::lasting(cycle::words(&names)));
        }
        let needs = &self.nodes.get(&unit)?.needs;
        needs
            .iter()
            .find_map(|need| self.holds_up(unit, need, &standing, &status, left))
    }

    fn holds_up(
        &self,
        unit: UnitId,
        need: &Dependency,
        standing: impl Fn(UnitId) -> Option<Standing>,
        status: impl Fn(UnitId) -> Value,
        left: &mut Work,
    ) -> Option<Wait> {
        let name = &need.name;
        let found = self
            .meant(need)
            .and_then(|needed| Some((needed, standing(needed.unit)?)));
        let Some((needed, standing)) = found else {
            let missing = format!("dependency '{name}' not found: this cluster has no such app");
            return Some(Wait::lasting(missing));
        };
        let is_reached = standing.applied.is_some_and(|applied| applied >= needed.version);
        if let Some(ready) = &need.ready {
            let is_settled = is_reached && standing.ready;
            return readiness::unmet(
                name,
                ready,
                needed,
                is_settled,
                [&|| status(needed.unit), &|| status(unit)],
                left,
            );
        }
        if !standing.ready {
            return Some(Wait::passing(format!("dependency '{name}' is not ready")));
        }
        (needed.version > 0 && !is_reached)
            .then(|| Wait::passing(format!("dependency '{name}' revision is not up to date")))
    }

    /// The unit that a dependency is in this cluster.
    fn meant<'a>(&self, need: &'a Dependency) -> Option<&'a Needed> {
        let mut units = need.units.iter();
        units.find(|needed| self.nodes.get(&needed.unit).is_some_and(|node| node.is_here))
    }

    /// The members of the cycle that a unit is in.
    pub fn cycle(&self, unit: UnitId) -> Option<&BTreeSet<UnitId>> {
        self.cycles.get(&unit).map(Arc::as_ref)
    }

    /// All units, each after those that it needs; those of a cycle in some fixed order.
    pub fn apply_order(&self) -> &[UnitId] {
        &self.order
    }

    /// All units, each before those that it needs.
    pub fn removal_order(&self) -> impl Iterator<Item = UnitId> {
        self.order.iter().rev().copied()
    }

    fn name(&self, unit: UnitId) -> String {
        match self.nodes.get(&unit) {
            Some(node) => node.name.clone(),
            None => unit.to_string(),
        }
    }

    fn insert(&mut self, entry: &Entry) {
        self.unlink(entry.unit);
        for needed in entry.depends_on.iter().flat_map(|need| &need.units) {
            self.dependents.entry(needed.unit).or_default().insert(entry.unit);
        }
        let node = Node {
            name: format!("{}/{}", entry.app.namespace, entry.app.name),
            is_here: entry.state != UnitState::Detached,
            needs: entry.depends_on.clone(),
        };
        self.nodes.insert(entry.unit, node);
    }

    fn unlink(&mut self, unit: UnitId) {
        let needs = self
            .nodes
            .get(&unit)
            .map(|node| node.needs.as_slice())
            .unwrap_or_default();
        for needed in needs.iter().flat_map(|need| &need.units) {
            if let Some(dependents) = self.dependents.get_mut(&needed.unit) {
                dependents.remove(&unit);
                if dependents.is_empty() {
                    self.dependents.remove(&needed.unit);
                }
            }
        }
    }

    /// Arranges all anew after the edges of units have changed: those that are there, their dependents, and all whose
    /// cycle has changed are concerned.
    fn rearranged(&mut self, units: &[UnitId]) -> BTreeSet<UnitId> {
        let before = std::mem::take(&mut self.cycles);
        self.arrange();
        let there = units.iter().filter(|unit| self.nodes.contains_key(unit));
        let mut concerned: BTreeSet<UnitId> = there.copied().collect();
        concerned.extend(units.iter().flat_map(|unit| self.changed(*unit)));
        let mut same: BTreeMap<_, bool> = BTreeMap::new();
        for member in before.keys().chain(self.cycles.keys()) {
            let is_same = match (before.get(member), self.cycles.get(member)) {
                // Two cycles are compared once, and not for each of their members.
                (Some(was), Some(is)) => *same
                    .entry((Arc::as_ptr(was), Arc::as_ptr(is)))
                    .or_insert_with(|| was == is),
                (was, is) => was.is_none() && is.is_none(),
            };
            if !is_same && self.nodes.contains_key(member) {
                concerned.insert(*member);
            }
        }
        concerned
    }

    /// Orders the units and finds cycles: Kosaraju's two walks, in order of ids.
    fn arrange(&mut self) {
        let mut seen = BTreeSet::new();
        let mut order = Vec::with_capacity(self.nodes.len());
        for unit in self.nodes.keys() {
            self.walk(*unit, &|unit| self.needed(unit), &mut seen, &mut order);
        }
        seen.clear();
        let mut cycles = BTreeMap::new();
        for unit in order.iter().rev() {
            let mut members = Vec::new();
            self.walk(*unit, &|unit| self.needing(unit), &mut seen, &mut members);
            let needs_itself = self.needed(*unit).contains(unit);
            if members.len() > 1 || (needs_itself && members.len() == 1) {
                // Shared: of a cycle of a thousand each would have a thousand.
                let members: Arc<BTreeSet<UnitId>> = Arc::new(members.into_iter().collect());
                cycles.extend(members.iter().map(|member| (*member, members.clone())));
            }
        }
        self.order = order;
        self.cycles = cycles;
    }

    fn needed(&self, unit: UnitId) -> BTreeSet<UnitId> {
        let needs = self
            .nodes
            .get(&unit)
            .map(|node| node.needs.as_slice())
            .unwrap_or_default();
        let meant = needs.iter().filter_map(|need| self.meant(need));
        meant.map(|needed| needed.unit).collect()
    }

    /// The units that mean this one by what they need.
    fn needing(&self, unit: UnitId) -> BTreeSet<UnitId> {
        let mut dependents = self.changed(unit);
        dependents.retain(|dependent| self.needed(*dependent).contains(&unit));
        dependents
    }

    /// Walks from a unit, depth first and without recursion; a unit is given after all that `next` led to.
    fn walk(
        &self,
        from: UnitId,
        next: &dyn Fn(UnitId) -> BTreeSet<UnitId>,
        seen: &mut BTreeSet<UnitId>,
        order: &mut Vec<UnitId>,
    ) {
        if !seen.insert(from) {
            return;
        }
        let mut path = vec![(from, next(from))];
        while let Some((unit, left)) = path.last_mut() {
            match left.pop_first() {
                Some(unit) if seen.insert(unit) => path.push((unit, next(unit))),
                Some(_) => {}
                None => {
                    order.push(*unit);
                    path.pop();
                }
            }
        }
    }
}
