//! Which jobs of units run at once, and which goes next: each kind of job in turn, and of a kind the unit that has waited
//! longest. No kind takes all slots, and a job that runs for long gives its slot away: it waits for the API server, and
//! what many units find slow keeps no other unit from being applied or corrected.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use flotilla_core::{id::UnitId, unit::event::Job};
use tokio::time::Instant;

/// Jobs at once that hold a slot, and of one kind.
const SLOTS: usize = 16;
const SLOTS_OF_ONE: usize = 12;
/// Jobs at once, and of one kind: each may hold the bodies of a batch in memory.
const MOST: usize = 28;
const MOST_OF_ONE: usize = 16;
/// How long a job holds its slot.
const LONG: Duration = Duration::from_secs(5);

/// The kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Evaluate,
    Apply,
    Check,
    Remove,
}

const KINDS: [Kind; 4] = [Kind::Evaluate, Kind::Apply, Kind::Check, Kind::Remove];

/// A job that waits to be begun.
struct Waiting<T> {
    unit: UnitId,
    job: Job,
    work: T,
}

/// The jobs that run, and those that wait.
pub(super) struct Queue<T> {
    waiting: [VecDeque<Waiting<T>>; KINDS.len()],
    /// The kind whose turn it is.
    turn: usize,
    running: BTreeMap<(UnitId, Job), (Kind, Instant)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: KINDS.map(|_| VecDeque::new()),
            turn: 0,
            running: BTreeMap::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds a job.
    pub(super) fn push(&mut self, kind: Kind, unit: UnitId, job: Job, work: T) {
        self.waiting[kind as usize].push_back(Waiting { unit, job, work });
    }

    /// Takes a job back that waits to be begun; `None`: it runs, or is over.
    pub(super) fn withdraw(&mut self, unit: UnitId, job: Job) -> Option<T> {
        self.waiting.iter_mut().find_map(|waiting| {
            let at = waiting
                .iter()
                .position(|waits| (waits.unit, waits.job) == (unit, job))?;
            waiting.remove(at).map(|waits| waits.work)
        })
    }

    /// Drops what waits of units that are let go of.
    pub(super) fn release(&mut self, units: &BTreeSet<UnitId>) {
        for waiting in &mut self.waiting {
            waiting.retain(|job| !units.contains(&job.unit));
        }
    }

    /// Notes that a job has ended.
    pub(super) fn ended(&mut self, unit: UnitId, job: Job) {
        self.running.remove(&(unit, job));
    }

    /// Takes the next job that may begin.
    pub(super) fn take(&mut self, now: Instant) -> Option<(UnitId, T)> {
        let next = (0..KINDS.len())
            .map(|n| (self.turn + n) % KINDS.len())
            .find(|&kind| !self.waiting[kind].is_empty() && self.has_room(KINDS[kind], now))?;
        self.turn = (next + 1) % KINDS.len();
        let Waiting { unit, job, work } = self.waiting[next].pop_front()?;
        self.running.insert((unit, job), (KINDS[next], now));
        Some((unit, work))
    }

    fn has_room(&self, kind: Kind, now: Instant) -> bool {
        let (mut all, mut of_one, mut slots, mut slots_of_one) = (0, 0, 0, 0);
        for (of, begun) in self.running.values() {
            let (is_same, holds) = (*of == kind, now < *begun + LONG);
            all += 1;
            of_one += usize::from(is_same);
            slots += usize::from(holds);
            slots_of_one += usize::from(is_same && holds);
        }
        all < MOST && of_one < MOST_OF_ONE && slots < SLOTS && slots_of_one < SLOTS_OF_ONE
    }

    /// Tells whether no job runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// When a slot becomes free by time alone for what waits.
    pub(super) fn wakes(&self, now: Instant) -> Option<Instant> {
        if self.waiting.iter().all(VecDeque::is_empty) {
            return None;
        }
        let free = self.running.values().map(|(_, begun)| *begun + LONG);
        free.filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: usize) -> UnitId {
        UnitId(Uuid::from_u128(n as u128))
    }

    fn taken(queue: &mut Queue<Kind>, now: Instant) -> Vec<Kind> {
        std::iter::from_fn(|| queue.take(now))
            .map(|(_, kind)| kind)
            .collect()
    }

    fn push(queue: &mut Queue<Kind>, kind: Kind, units: std::ops::Range<usize>) {
        for unit in units {
            queue.push(kind, id(unit), 1, kind);
        }
    }

    #[test]
    fn checks_of_many_units_leave_slots_for_applies_and_evaluations() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        push(&mut queue, Kind::Check, 0..100);
        assert_eq!(taken(&mut queue, now), [Kind::Check; SLOTS_OF_ONE]);
        push(&mut queue, Kind::Apply, 100..110);
        push(&mut queue, Kind::Evaluate, 200..210);
        let next = taken(&mut queue, now);
        assert_eq!(next, [Kind::Evaluate, Kind::Apply, Kind::Evaluate, Kind::Apply]);
    }

    #[test]
    fn jobs_that_run_for_long_give_their_slots_away_up_to_a_bound() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        push(&mut queue, Kind::Check, 0..100);
        assert_eq!(taken(&mut queue, now).len(), SLOTS_OF_ONE);
        assert_eq!(queue.wakes(now), Some(now + LONG));
        let later = now + LONG;
        assert_eq!(taken(&mut queue, later).len(), MOST_OF_ONE - SLOTS_OF_ONE);
        let last = later + LONG;
        assert_eq!(taken(&mut queue, last), []);
        assert_eq!(queue.wakes(last), None, "an end is waited for");
        push(&mut queue, Kind::Apply, 100..200);
        assert_eq!(taken(&mut queue, last), [Kind::Apply; MOST - MOST_OF_ONE]);
        queue.ended(id(0), 1);
        assert_eq!(taken(&mut queue, last), [Kind::Check]);
    }

    #[test]
    fn job_that_waits_is_taken_back_and_one_that_runs_is_not() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(Kind::Check, id(1), 1, Kind::Check);
        queue.push(Kind::Check, id(2), 1, Kind::Check);
        assert_eq!(queue.take(now).map(|(unit, _)| unit), Some(id(1)));
        assert_eq!(queue.withdraw(id(1), 1), None, "it runs");
        assert_eq!(queue.withdraw(id(2), 2), None, "it was never there");
        assert_eq!(queue.withdraw(id(2), 1), Some(Kind::Check));
        assert_eq!(taken(&mut queue, now), [], "it is gone");
        assert!(!queue.is_idle());
        queue.ended(id(1), 1);
        assert!(queue.is_idle());
    }

    #[test]
    fn unit_that_has_waited_longest_goes_first_and_one_that_is_gone_not_at_all() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (n, kind) in [(1, Kind::Check), (2, Kind::Check), (3, Kind::Check)] {
            queue.push(kind, id(n), 1, kind);
        }
        queue.release(&BTreeSet::from([id(2)]));
        let units = std::iter::from_fn(|| queue.take(now)).map(|(unit, _)| unit);
        assert_eq!(units.collect::<Vec<_>>(), [id(1), id(3)]);
        assert_eq!(queue.wakes(now), None, "nothing waits");
    }
}
