//! An agent: the loop of `agent/src/reconcile`, over the same state machines, with a ledger that a crash puts back to what
//! is durable. Jobs go step by step, one request each, so that anything may happen between two.

pub(crate) mod acceptance;
mod apply;
mod check;
mod claims;
pub(crate) mod jobs;
pub(crate) mod ledger;
mod remove;
pub(crate) mod reports;
pub(crate) mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    clock::Timestamp,
    desired::Held,
    id::UnitId,
    unit::{
        Entry,
        event::{Action, Event},
        now::{Mono, Now},
        state::State,
    },
    units::{Edges, Wait},
};
use uuid::Uuid;

use self::{
    acceptance::Acceptance, claims::Claiming, jobs::Job, ledger::Ledger, reports::Reports, watch::Watch,
};
use crate::{
    cluster::Cluster,
    git::{Contents, Key},
    oracle::Oracle,
    random::Random,
    trace::Trace,
};

/// What an agent is given with each call.
pub(crate) struct Env<'a> {
    /// Milliseconds since the story began.
    pub(crate) now: u64,
    pub(crate) random: &'a mut Random,
    pub(crate) contents: &'a Contents,
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a mut Trace,
    /// The API server does not answer.
    pub(crate) silent: bool,
}

/// A unit and its job.
pub(crate) struct Unit {
    pub(crate) state: State,
    job: Option<u64>,
}

pub(crate) struct Agent {
    pub(crate) cluster: Uuid,
    pub(crate) ledger: Ledger,
    pub(crate) acceptance: Acceptance,
    pub(crate) units: BTreeMap<UnitId, Unit>,
    pub(crate) jobs: Vec<Job>,
    claiming: Claiming,
    /// Who waits for whom.
    edges: Edges,
    /// The desired state that all units were told of.
    told: Held,
    /// The hub's history, and the units that it does not name, when the ledger was looked at last.
    history: u64,
    unknown: BTreeSet<UnitId>,
    pub(crate) watch: Watch,
    pub(crate) reports: Reports,
    /// The first lists have shown what there is.
    is_shown: bool,
    began: u64,
    /// What its clock is ahead, in milliseconds.
    pub(crate) clock: i64,
    pub(crate) epoch_seen: u64,
    /// Something has happened since the last turn of its loop.
    is_woken: bool,
    /// A person asks for a full look.
    pub(crate) asked: BTreeSet<UnitId>,
    /// The ledger has news.
    pub(crate) needs_sync: bool,
}

/// After a start, rows that were seen are told after this, in milliseconds.
const RESTORED: u64 = 10_000;

impl Agent {
    pub(crate) fn new(cluster: Uuid, ledger: Ledger, now: u64) -> Self {
        Self {
            cluster,
            ledger,
            acceptance: Acceptance::default(),
            units: BTreeMap::new(),
            jobs: Vec::new(),
            claiming: Claiming::default(),
            edges: Edges::default(),
            told: Held::NOTHING,
            history: 0,
            unknown: BTreeSet::new(),
            watch: Watch::default(),
            reports: Reports::default(),
            is_shown: false,
            began: now,
            clock: 0,
            epoch_seen: 0,
            is_woken: true,
            asked: BTreeSet::new(),
            needs_sync: false,
        }
    }

    /// The process ends here and begins anew.
    pub(crate) fn crash(&mut self, now: u64) {
        self.ledger.crash();
        let ledger = self.ledger.clone();
        let (clock, epoch_seen) = (self.clock, self.epoch_seen);
        *self = Self {
            clock,
            epoch_seen,
            ..Self::new(self.cluster, ledger, now)
        };
    }

    pub(crate) fn wall(&self, now: u64) -> Timestamp {
        let millis = i64::try_from(now).expect("not for ever");
        Timestamp(1_700_000_000_000 + millis + self.clock)
    }

    fn time(&self, env: &mut Env<'_>) -> Now {
        Now {
            mono: Mono(Duration::from_millis(env.now - self.began)),
            wall: self.wall(env.now),
            random: env.random.next(),
        }
    }

    /// Gives a unit's state machine an event, and does what it asks for.
    pub(crate) fn feed(&mut self, id: UnitId, event: Event, env: &mut Env<'_>) {
        self.is_woken = true;
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let now = self.time(env);
            let Some(unit) = self.units.get_mut(&id) else {
                return;
            };
            let actions = unit.state.step(event, now);
            self.note_claims(id);
            for action in actions {
                match action {
                    Action::Cancel(job) => next = self.cancel(id, job),
                    action => self.act(id, action, env),
                }
            }
        }
        if self.units.get(&id).is_some_and(|unit| unit.state.is_taking_in()) {
            self.feed(id, Event::Tick, env);
        }
    }

    /// One that has not begun is over at once.
    fn cancel(&mut self, id: UnitId, job: u64) -> Option<Event> {
        let index = self.jobs.iter().position(|one| one.is(id, job))?;
        self.jobs[index].cancelled = true;
        if self.jobs[index].begun {
            return None;
        }
        let job = self.jobs.remove(index);
        self.units.get_mut(&id)?.job = None;
        Some(job.not_begun())
    }

    fn act(&mut self, id: UnitId, action: Action, env: &mut Env<'_>) {
        match action {
            Action::Evaluate { job, .. }
            | Action::Apply { job, .. }
            | Action::Check { job, .. }
            | Action::Remove { job, .. } => {
                if let Some(unit) = self.units.get_mut(&id) {
                    assert!(unit.job.is_none(), "two jobs of a unit at once: {action:?}");
                    env.oracle.begins(self.cluster, &unit.state, &action);
                    unit.job = Some(job);
                }
                self.jobs.push(Job::new(id, job, action));
            }
            Action::Cancel(_) => {}
            Action::Verify => self.verify(id, env),
            // No app of these waits for an object that is not its own.
            Action::Look { .. } => unreachable!("nothing is named"),
            Action::Enforce(bytes) => {
                let entry = Entry::from_bytes(&bytes).expect("an entry");
                if let Some(unit) = self.ledger.live.units.get_mut(&id) {
                    unit.enforced = Some(Arc::new(entry));
                }
            }
            Action::SaveObjects(records) => {
                for (key, record) in records {
                    self.ledger.live.put(id, &key, record);
                }
            }
            Action::Finish { .. } => {}
            Action::SaveUnit(record) => {
                if let Some(unit) = self.units.get(&id) {
                    env.oracle
                        .attains(self.cluster, &unit.state, &record, env.cluster, env.contents);
                }
                if let Some(unit) = self.ledger.live.units.get_mut(&id) {
                    unit.record = Some(*record);
                }
            }
            Action::Tell(notice) => env.trace.say(|| {
                let reason = &notice.reason;
                format!("    {id}: {reason}: {}", notice.message)
            }),
        }
    }

    /// Compares all versions with a list.
    fn verify(&mut self, id: UnitId, env: &mut Env<'_>) {
        if env.silent {
            return;
        }
        let items = self.ledger.live.units.get(&id);
        let keys: Vec<Key> = items
            .into_iter()
            .flat_map(|unit| unit.items.keys().cloned())
            .collect();
        for key in keys {
            let version = env.cluster.get(&key).map(|live| live.version);
            self.feed(id, Event::Listed { key, version }, env);
        }
    }

    /// Takes in what the ledger says about units.
    pub(crate) fn sync(&mut self, env: &mut Env<'_>) {
        self.needs_sync = false;
        let held = self.ledger.live.held;
        let offered: BTreeMap<UnitId, _> = self
            .ledger
            .live
            .units
            .iter()
            .filter_map(|(id, unit)| Some((*id, unit.offered.clone()?)))
            .collect();
        let gone: Vec<UnitId> = self
            .units
            .keys()
            .filter(|id| !offered.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.units.remove(&id);
            self.jobs.retain(|job| job.unit != id || job.begun);
            for job in self.jobs.iter_mut().filter(|job| job.unit == id) {
                job.cancelled = true;
            }
            self.claiming.forget(id);
            self.reports.forget(id.0);
        }
        self.tell_again(held.incarnation);
        self.edges = Edges::new(offered.values().map(|accepted| &*accepted.entry));
        let asked = std::mem::take(&mut self.asked);
        for (id, accepted) in offered {
            match self.units.get(&id) {
                None => {
                    let stored = &self.ledger.live.units[&id];
                    let items = stored.items.clone();
                    let (record, enforced) = (stored.record.clone(), stored.enforced.clone());
                    let state = State::new(accepted, record, enforced, items, self.time(env));
                    self.units.insert(id, Unit { state, job: None });
                    let waits = self.waits_for(id);
                    self.feed(id, Event::Edge(waits), env);
                    if self.is_shown {
                        self.feed(id, Event::Shown, env);
                    }
                }
                Some(unit) => {
                    let has_inputs = || self.ledger.live.has(accepted.entry.content);
                    let is_news =
                        unit.state.digest() != accepted.digest || unit.state.lacks_inputs() && has_inputs();
                    if is_news {
                        // What it waits for holds for the new entry at once; that it waits no more, after that.
                        let waits = self.waits_for(id);
                        if waits.is_some() {
                            self.feed(id, Event::Edge(waits), env);
                        }
                        self.feed(id, Event::Accepted(accepted), env);
                    }
                }
            }
            if asked.contains(&id) {
                self.feed(id, Event::Requested, env);
            }
        }
        self.claiming.synced(held);
        self.is_woken = true;
    }

    /// Has rows told again that a hub may have left out: of units that it names by now and has not known before.
    fn tell_again(&mut self, history: u64) {
        let units = self.ledger.live.units.iter();
        let (unknown, named): (Vec<_>, Vec<_>) = units.partition(|(_, unit)| unit.is_unknown);
        let is_new = std::mem::replace(&mut self.history, history) != history;
        for (id, _) in named {
            if is_new || self.unknown.contains(id) {
                self.reports.again(id.0);
            }
        }
        self.unknown = unknown.into_iter().map(|(id, _)| *id).collect();
    }

    /// Tells whether its loop has something to do by itself.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.is_woken || self.wake(now).is_some_and(|at| at <= now)
    }

    /// When it wants to be woken, by the story's clock.
    pub(crate) fn wake(&self, now: u64) -> Option<u64> {
        let mono = Mono(Duration::from_millis(now - self.began));
        let units = self.units.values().filter_map(|unit| {
            let wake = unit.state.wake_at(mono)?;
            Some(self.began + u64::try_from(wake.0.as_millis()).expect("not for ever") + 1)
        });
        let held = (!self.is_shown && !self.units.is_empty()).then_some(self.began + RESTORED);
        units.chain(held).min()
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, env: &mut Env<'_>) {
        self.is_woken = false;
        let ids: Vec<UnitId> = self.units.keys().copied().collect();
        for id in &ids {
            let now = self.time(env).mono;
            let unit = &self.units[id].state;
            let is_due = unit.wake_at(now).is_some_and(|at| at <= now);
            if unit.is_unsettled() || is_due {
                self.feed(*id, Event::Tick, env);
            }
        }
        self.judge_waiting(env);
        self.judge_claims(env);
        // The hub lets go of what is gone: after a crash it must not be there again.
        if self.units.values().any(|unit| unit.state.is_gone()) {
            self.ledger.flush();
        }
        let rows = self.units.iter_mut();
        for (id, unit) in rows {
            self.reports.note(id.0, &mut unit.state);
        }
        self.release_rows(env);
    }

    /// Tells units what they wait for, where that has changed, and those behind them what follows.
    fn judge_waiting(&mut self, env: &mut Env<'_>) {
        let mut unjudged: BTreeSet<UnitId> = self.units.keys().copied().collect();
        while let Some(id) = unjudged.pop_first() {
            let waits = self.waits_for(id);
            if self.units[&id].state.waits_for() == waits.as_ref() {
                continue;
            }
            let before = self.units[&id].state.standing();
            self.feed(id, Event::Edge(waits), env);
            if self
                .units
                .get(&id)
                .is_some_and(|unit| unit.state.standing() != before)
            {
                unjudged.extend(
                    self.edges
                        .changed(id)
                        .into_iter()
                        .filter(|id| self.units.contains_key(id)),
                );
            }
        }
    }

    fn waits_for(&self, id: UnitId) -> Option<Wait> {
        let status = |id| {
            let unit = self.units.get(&id);
            unit.map_or(serde_json::Value::Null, |unit| unit.state.flux_status())
        };
        self.edges
            .waits_for(id, |id| Some(self.units.get(&id)?.state.standing()), status)
    }

    /// Lets rows be told after a start, once each was seen, or that takes long.
    fn release_rows(&mut self, env: &mut Env<'_>) {
        if self.is_shown || !self.watch.has_listed() {
            return;
        }
        let is_restoring = self
            .units
            .values()
            .any(|unit| unit.state.is_restoring() || unit.state.awaits_lists());
        if is_restoring && env.now < self.began + RESTORED {
            return;
        }
        self.is_shown = true;
        for id in self.units.keys().copied().collect::<Vec<_>>() {
            self.feed(id, Event::Shown, env);
        }
        for (id, unit) in &mut self.units {
            self.reports.note(id.0, &mut unit.state);
        }
        self.reports.release();
    }

    /// Ends a job with what came of it.
    fn finished(&mut self, unit: UnitId, job: u64, event: Event, env: &mut Env<'_>) {
        let known = self.units.get_mut(&unit).filter(|unit| unit.job == Some(job));
        if let Some(known) = known {
            known.job = None;
            self.feed(unit, event, env);
        }
        // What was lacking may have come while that was found out.
        let lacking = self.units.get(&unit).filter(|unit| unit.state.lacks_inputs());
        self.needs_sync |= lacking.is_some_and(|unit| self.ledger.live.has(unit.state.entry().content));
    }
}
