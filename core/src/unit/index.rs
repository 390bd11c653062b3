//! Which rows are in a state that something waits for, so that no event costs a walk over all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    now::Mono,
    object::{Check, Object},
    problem::Problem,
};
use crate::{
    apply::inventory::State as RecordState, digest::Digest, health::State as HealthState, object::ObjectKey,
};

/// Keys in the order of a rank, and how many there are of each.
#[derive(Debug)]
pub(super) struct Ranked<R> {
    rows: BTreeSet<(R, Arc<ObjectKey>)>,
    counts: BTreeMap<R, usize>,
}

impl<R: Ord> Default for Ranked<R> {
    fn default() -> Self {
        Self {
            rows: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }
}

impl<R: Ord + Copy> Ranked<R> {
    fn insert(&mut self, rank: R, key: &Arc<ObjectKey>) {
        if self.rows.insert((rank, key.clone())) {
            *self.counts.entry(rank).or_default() += 1;
        }
    }

    fn remove(&mut self, ranks: impl IntoIterator<Item = R>, key: &Arc<ObjectKey>) {
        for rank in ranks {
            if self.rows.remove(&(rank, key.clone()))
                && let Some(count) = self.counts.get_mut(&rank)
            {
                *count -= 1;
            }
        }
    }

    /// How many keys have this rank.
    pub(super) fn count(&self, rank: R) -> usize {
        self.counts.get(&rank).copied().unwrap_or_default()
    }

    /// The keys of this rank.
    pub(super) fn of(&self, rank: R) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let first = Arc::new(ObjectKey::new("", "", "", ""));
        let rows = self.rows.range((rank, first)..);
        rows.take_while(move |(of, _)| *of == rank).map(|(_, key)| key)
    }

    /// All keys, by rank.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(R, Arc<ObjectKey>)> {
        self.rows.iter()
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Names a set of keys without a walk over it, and tells whether it has grown.
#[derive(Debug, Default)]
pub(super) struct Extent {
    sum: u128,
    /// A key has come since this was last taken back.
    pub(super) has_grown: bool,
}

impl Extent {
    fn toggle(&mut self, key: &ObjectKey, comes: bool) {
        let digest = Digest::of("member", key.to_string().as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        self.sum ^= u128::from_le_bytes(bytes);
        self.has_grown |= comes;
    }

    /// The same for the same keys.
    pub(super) fn name(&self) -> [u8; 16] {
        self.sum.to_le_bytes()
    }
}

/// Keys, and when each is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Timed {
    of: BTreeMap<Arc<ObjectKey>, Mono>,
    by_time: BTreeSet<(Mono, Arc<ObjectKey>)>,
}

impl Timed {
    fn put(&mut self, key: &Arc<ObjectKey>, at: Option<Mono>) {
        if self.of.get(key).copied() == at {
            return;
        }
        if let Some(was) = self.of.remove(key) {
            self.by_time.remove(&(was, key.clone()));
        }
        if let Some(at) = at {
            self.of.insert(key.clone(), at);
            self.by_time.insert((at, key.clone()));
        }
    }

    /// When the first is.
    pub(super) fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The first, once its time has come.
    pub(super) fn due(&self, now: Mono) -> Option<Arc<ObjectKey>> {
        let first = self.by_time.first().filter(|(at, _)| *at <= now);
        first.map(|(_, key)| key.clone())
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.of.keys()
    }
}

/// The rows by what is to be done or told of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// How often a row was put into its sets: what an event costs.
    #[cfg(test)]
    pub(super) touched: usize,
    /// To be checked.
    pub(super) due: BTreeSet<Arc<ObjectKey>>,
    /// Being checked.
    pub(super) running: BTreeSet<Arc<ObjectKey>>,
    /// To be checked at a time.
    pub(super) later: BTreeSet<(Mono, Arc<ObjectKey>)>,
    /// Healthy in another way than is told, and until when that waits.
    pub(super) held: Timed,
    /// Desired and not current.
    pub(super) unhealthy: BTreeSet<Arc<ObjectKey>>,
    /// The same, by their health.
    pub(super) by_health: Ranked<HealthState>,
    /// The same, as a whole.
    pub(super) unhealthy_extent: Extent,
    /// With a problem.
    pub(super) problems: BTreeSet<Arc<ObjectKey>>,
    /// The same, by the rank of the problem.
    pub(super) by_rank: Ranked<u8>,
    /// The same, as a whole.
    pub(super) problem_extent: Extent,
    /// With a problem, and never written as far as is known.
    pub(super) problems_unwritten: usize,
    /// With a problem, and no longer desired.
    pub(super) problems_leaving: usize,
    /// Desired and never seen.
    pub(super) unseen: BTreeSet<Arc<ObjectKey>>,
    /// Desired, and left alone since the live object says so.
    pub(super) paused: BTreeSet<Arc<ObjectKey>>,
    /// No longer desired, and still in the inventory.
    pub(super) leaving: BTreeSet<Arc<ObjectKey>>,
    /// Seen finished, which their records do not say.
    pub(super) finished: BTreeSet<Arc<ObjectKey>>,
    /// Nothing is known to be desired of them.
    pub(super) undesired: BTreeSet<Arc<ObjectKey>>,
    /// To be written by the next pass.
    pub(super) to_write: BTreeSet<Arc<ObjectKey>>,
    /// To be ready before later stages begin.
    pub(super) awaited: BTreeSet<Arc<ObjectKey>>,
    /// Desired, and another unit's or the agent's.
    pub(super) withheld: BTreeSet<Arc<ObjectKey>>,
    /// Never written as far as is known.
    pub(super) unwritten: BTreeSet<Arc<ObjectKey>>,
    /// With paths that others change back each time.
    pub(super) contested: BTreeSet<Arc<ObjectKey>>,
}

impl Index {
    /// Puts a row into the sets that it belongs to; `None`: it is no more. Returns whether it is left alone now and was
    /// not before, or the other way round.
    pub(super) fn put(&mut self, key: &Arc<ObjectKey>, object: Option<&Object>) -> bool {
        #[cfg(test)]
        {
            self.touched += 1;
        }
        // Few rows stand in these, and only for those it matters where.
        if self.unhealthy.contains(key) {
            self.by_health.remove(HealthState::ALL, key);
        }
        if self.problems.contains(key) {
            self.by_rank.remove(Problem::RANKS, key);
            self.problems_unwritten -= usize::from(self.unwritten.contains(key));
            self.problems_leaving -= usize::from(self.leaving.contains(key));
        }
        if let Some(object) = object.filter(|object| !object.is_current()) {
            self.by_health.insert(object.health_state(), key);
        }
        self.held.put(key, object.and_then(Object::held_until));
        if let Some(problem) = object.and_then(|object| object.problem()) {
            self.by_rank.insert(problem.rank(), key);
        }
        // Returns whether that changed anything.
        let put = |set: &mut BTreeSet<Arc<ObjectKey>>, holds: bool| match holds {
            true => set.insert(key.clone()),
            false => set.remove(key),
        };
        put(&mut self.due, object.is_some_and(|o| o.check == Check::Due));
        put(
            &mut self.running,
            object.is_some_and(|o| o.check == Check::Running),
        );
        let is_unhealthy = object.is_some_and(|o| !o.is_current());
        if put(&mut self.unhealthy, is_unhealthy) {
            self.unhealthy_extent.toggle(key, is_unhealthy);
        }
        let has_problem = object.is_some_and(|o| o.problem().is_some());
        if put(&mut self.problems, has_problem) {
            self.problem_extent.toggle(key, has_problem);
        }
        put(
            &mut self.unseen,
            object.is_some_and(|o| o.desired.is_some() && o.observed.is_none() && o.record.is_some()),
        );
        put(&mut self.to_write, object.is_some_and(|o| o.is_to_write()));
        put(&mut self.awaited, object.is_some_and(|o| o.is_awaited(key)));
        put(&mut self.withheld, object.is_some_and(|o| o.is_withheld()));
        put(&mut self.finished, object.is_some_and(|o| o.has_news_of_finish()));
        put(&mut self.undesired, object.is_some_and(|o| o.desired.is_none()));
        put(
            &mut self.unwritten,
            object.is_some_and(|o| {
                let record = o.record.as_ref();
                !o.is_left_alone() && record.is_none_or(|record| record.state == RecordState::Intent)
            }),
        );
        put(
            &mut self.leaving,
            object.is_some_and(|o| {
                o.record
                    .as_ref()
                    .is_some_and(|record| record.state == RecordState::PendingRemoval)
            }),
        );
        self.problems_unwritten += usize::from(has_problem && self.unwritten.contains(key));
        self.problems_leaving += usize::from(has_problem && self.leaving.contains(key));
        put(&mut self.paused, object.is_some_and(|o| o.is_paused_in_place()))
    }
}
