//! The loop of one unit as a state machine: [`State::step`] takes what happened and the time, and gives what to do.
//! Pure: no clock, no IO. The agent executes the actions and reports their outcomes; it decides nothing.
//!
//! One job at a time runs for a unit. A newer entry pre-empts it; a wait holds no job. With every event the machine
//! says when it wants to be woken next, and never in the past: a settled unit wants nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Entry, UnitState,
    event::{Accepted, Action, Adoption, EvaluatedFrom, EvaluationFailure, Job, JobFailure},
    held::{Moment, PROVING},
    index::Index,
    intake::Intake,
    looks::Looks,
    now::{Mono, Now},
    object::{Check, Object},
    pass::Pass,
    problem::{Problem, Retry},
    record::{Attained, Condition, UnitRecord},
    remove::Removals,
};
use crate::{
    apply::{
        drift::{CONTESTED_WITHIN, Corrections},
        inventory::Record,
    },
    backoff::Backoff,
    clock::Timestamp,
    digest::Digest,
    object::ObjectKey,
    units::Wait,
};

/// Tries after which a race is none.
const RACES: u32 = 2;

/// After a restart, what was reported before stands until every object was seen, for at most this long.
const RESTORING: Duration = Duration::from_secs(60);

/// A job under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) job: Job,
    pub(super) cancelled: bool,
    /// It evaluates an entry.
    pub(super) evaluates: bool,
    /// The entry is the one that is enforced, while the one offered waits for others.
    pub(super) holds: bool,
}

/// What is kept of a unit between events.
#[derive(Debug)]
pub struct State {
    pub(super) entry: Arc<Entry>,
    pub(super) bytes: Arc<[u8]>,
    pub(super) digest: Digest,
    pub(super) accepted_at: Timestamp,
    /// Durable part.
    pub(super) record: UnitRecord,
    /// What of it is durable already, or on its way to be.
    saved: UnitRecord,
    /// Something is not, though `saved` says so.
    pub(super) is_unsaved: bool,
    /// Recent corrections of objects.
    pub(super) corrections: BTreeMap<Arc<ObjectKey>, Corrections>,
    /// What objects bore whose first write has not succeeded yet: it is told once one has.
    pub(super) adoptions: BTreeMap<Arc<ObjectKey>, Adoption>,
    /// Objects whose records may not say what is contested of them.
    contest_news: BTreeSet<Arc<ObjectKey>>,
    /// From when on some of them may not count any more. Nothing wakes for that.
    prune_at: Option<Mono>,
    /// Each row boxed: a tree leaves up to half of its places empty.
    pub(super) objects: BTreeMap<Arc<ObjectKey>, Box<Object>>,
    pub(super) index: Index,
    /// The entry that the desired objects are of.
    pub(super) enforced: Option<Arc<Entry>>,
    /// Why the offered entry is not what is enforced.
    pub(super) evaluation_failure: Option<EvaluationFailure>,
    /// When an evaluation that failed is tried again.
    pub(super) evaluate_at: Option<Mono>,
    /// How often one has failed so, one after the other.
    pub(super) evaluation_failures: u32,
    pub(super) evaluate_due: bool,
    /// What the rows desire is not what the entry gives now: the next retry evaluates before it writes.
    pub(super) is_outdated: bool,
    /// An evaluation has ended since the start, whether or not it gave anything.
    pub(super) is_evaluated: bool,
    /// What that was evaluated from; `None`: it is not known.
    pub(super) evaluated_from: Option<EvaluatedFrom>,
    /// What was evaluated and is not in the rows yet.
    pub(super) intake: Option<Box<Intake>>,
    /// The set that rows desire is that of the offered entry, and whoever rendered it asserts that nothing is missing.
    pub(super) is_complete: bool,
    /// What of what is no longer desired is removed, and how far that is.
    pub(super) removals: Removals,
    /// Counts what may change which objects the unit desires or has.
    pub(super) claims_made: u64,
    /// Rows know what is desired of them: before, an object that is not healthy looks like one that is not desired.
    pub(super) knows_desired: bool,
    pub(super) pass: Option<Pass>,
    /// What the last pass was for.
    pub(super) tried: Option<Attained>,
    /// When to try again what the last pass could not do.
    pub(super) retry: Option<Mono>,
    /// No job begins before: the last one could not be done at all.
    pub(super) hold: Option<Mono>,
    /// What was waited for, or asked for, came while a job ran: what that could not do is tried again at once.
    pub(super) again: bool,
    pub(super) failures: u32,
    pub(super) job_failure: Option<JobFailure>,
    pub(super) running: Option<Running>,
    /// The process is about to end.
    pub(super) stopping: bool,
    next_job: Job,
    /// What the unit waits for outside itself.
    pub(super) edge: Option<Wait>,
    /// Until when the status from before a restart stands.
    pub(super) restoring: Option<Mono>,
    /// The first lists after a restart are still to come: what they will show is not told before they do.
    pub(super) is_unshown: bool,
    /// Until when objects that are not healthy are waited for. A deadline, since the wait may have begun before this
    /// process and its clock.
    pub(super) health_deadline: Option<Mono>,
    /// From when on an object that is on its way again may be back soon. A restart begins this anew.
    pub(super) proven_from: Mono,
    /// Since when the server has not answered.
    pub(super) silent_since: Option<Mono>,
    /// Since when a kind that is not served is all that is in the way.
    pub(super) unserved_since: Option<Mono>,
    /// What was told last, but for the objects concerned.
    pub(super) told: Option<Digest>,
    /// Objects that are not the unit's, and that it waits for.
    pub(super) looks: Looks,
    /// Counts what was said of the unit.
    pub(super) said: u64,
    /// From when on it is told and saved again that more or fewer objects are concerned.
    pub(super) extent_from: Option<Mono>,
    /// More or fewer are, and that waits.
    pub(super) has_held_extent: bool,
    pub(super) dirty: BTreeSet<Arc<ObjectKey>>,
    pub(super) dirty_unit: bool,
    /// Objects have changed since the status was judged.
    pub(super) is_unsettled: bool,
}

impl State {
    /// Begins a unit, or goes on with one after a restart: `record`, `enforced` and `inventory` are what the ledger
    /// has of it.
    pub fn new(
        accepted: Accepted,
        record: Option<UnitRecord>,
        enforced: Option<Arc<Entry>>,
        inventory: impl IntoIterator<Item = (Arc<ObjectKey>, Arc<Record>)>,
        now: Now,
    ) -> Self {
        let restored = record.is_some();
        let record = record.unwrap_or_default();
        let mut state = Self {
            saved: record.clone(),
            is_unsaved: false,
            prune_at: None,
            corrections: BTreeMap::new(),
            adoptions: BTreeMap::new(),
            contest_news: BTreeSet::new(),
            health_deadline: record.unhealthy_since.map(|since| {
                let timeout = accepted.entry.settings.timeout;
                now.mono + timeout.saturating_sub(now.wall.since(since))
            }),
            entry: accepted.entry,
            bytes: accepted.bytes,
            digest: accepted.digest,
            accepted_at: accepted.at,
            record,
            objects: BTreeMap::new(),
            index: Index::default(),
            enforced,
            evaluation_failure: None,
            evaluate_at: None,
            evaluation_failures: 0,
            evaluate_due: true,
            is_outdated: false,
            is_evaluated: false,
            evaluated_from: None,
            intake: None,
            is_complete: false,
            removals: Removals::default(),
            claims_made: 0,
            knows_desired: false,
            pass: None,
            tried: None,
            retry: None,
            hold: None,
            again: false,
            failures: 0,
            job_failure: None,
            running: None,
            stopping: false,
            // A unit that is released and comes again does not take the outcome of an old job for its own.
            next_job: u64::try_from(now.mono.0.as_nanos()).unwrap_or(1).max(1),
            edge: None,
            restoring: restored.then(|| now.mono + RESTORING),
            is_unshown: restored,
            proven_from: now.mono + PROVING,
            silent_since: None,
            unserved_since: None,
            told: None,
            looks: Looks::default(),
            said: 0,
            extent_from: None,
            has_held_extent: false,
            dirty: BTreeSet::new(),
            dirty_unit: true,
            is_unsettled: false,
        };
        for (key, record) in inventory {
            if let Some(contests) = record.contested.as_deref() {
                state.corrections.insert(key.clone(), contests.into());
                state.index.contested.insert(key.clone());
                state.prune_at = Some(now.mono);
            }
            let object = Object {
                record: Some(record),
                ..Object::default()
            };
            state.objects.insert(key.clone(), Box::new(object));
            state.reindex(&key);
            state.dirty.insert(key);
        }
        state
    }

    /// Tells whether a tick is wanted now: many objects were told of one by one, and what the unit's status says of all of
    /// them is judged once for them.
    pub fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }

    /// Tells whether a tick is wanted now: the rows take in one piece after another of what was evaluated.
    pub fn is_taking_in(&self) -> bool {
        self.intake.is_some()
    }

    /// The entry that is held.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Digest of the bytes of the entry that is held.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The durable part.
    pub fn record(&self) -> &UnitRecord {
        &self.record
    }

    /// The rows of the object table.
    pub fn objects(&self) -> &BTreeMap<Arc<ObjectKey>, Box<Object>> {
        &self.objects
    }

    /// Tells whether the unit is enforced.
    pub fn is_active(&self) -> bool {
        self.entry.state.is_active()
    }

    /// Tells whether the unit was let go of, and nothing of it is under way any more: it writes nothing, and desires nothing
    /// beyond what it has.
    pub fn is_let_go(&self) -> bool {
        matches!(self.entry.state, UnitState::Detached) && self.running.is_none()
    }

    /// Tells whether the unit lets go of all that it has: nothing of it is deleted, and its marks are taken off.
    pub fn is_parting(&self) -> bool {
        self.entry.is_parting()
    }

    /// Tells whether the unit is to be removed and has nothing any more: once the hub hears of that it lets go of it.
    pub fn is_gone(&self) -> bool {
        matches!(self.entry.state, UnitState::Removing(_)) && self.objects.is_empty()
    }

    /// Tells whether what the unit desires is about to be found out anew.
    pub fn is_evaluating(&self) -> bool {
        let evaluates = self
            .running
            .is_some_and(|running| running.evaluates && !running.cancelled);
        // One that could not be tried at all may take long to be.
        let is_due = self.to_evaluate().is_some() && self.hold.is_none();
        self.is_active() && (evaluates || is_due || self.is_taking_in())
    }

    /// Tells whether the unit desires what its rows say: the entry that it was offered last is evaluated whole.
    pub fn is_evaluated_as_offered(&self) -> bool {
        self.is_active() && !self.is_evaluating() && !self.evaluate_due && self.is_complete
    }

    /// Changes whenever the unit may desire or have other objects than before.
    pub fn claims_made(&self) -> u64 {
        self.claims_made
    }

    /// What the unit waits for outside itself.
    pub fn waits_for(&self) -> Option<&Wait> {
        self.edge.as_ref()
    }

    /// Tells whether content that comes later may help.
    pub fn lacks_inputs(&self) -> bool {
        let failure = self.evaluation_failure.as_ref();
        failure.is_some_and(|failure| failure.lacks_content)
    }

    /// Tells whether a kind of the unit is not served, so that definitions are worth watching.
    pub fn waits_for_definition(&self) -> bool {
        self.is_active() && self.unserved().next().is_some()
    }

    /// Returns the objects whose kinds are not served.
    pub fn unserved(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.index.by_rank.of(Problem::UNSERVED)
    }

    /// Takes the keys of rows that may have changed since the last call, and whether the unit's own row may have.
    pub fn take_dirty(&mut self) -> (BTreeSet<Arc<ObjectKey>>, bool) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.is_unshown {
            // These become dirty once more when they are seen.
            dirty.retain(|key| {
                !self
                    .objects
                    .get(key)
                    .is_some_and(|object| object.awaits_first_sight())
            });
        }
        (dirty, std::mem::take(&mut self.dirty_unit))
    }

    /// The first lists after a restart have shown what there is.
    pub(super) fn shown(&mut self) {
        if std::mem::take(&mut self.is_unshown) {
            self.dirty_unit = true;
            let unseen = self
                .objects
                .iter()
                .filter(|(_, object)| object.awaits_first_sight());
            self.dirty.extend(unseen.map(|(key, _)| key.clone()));
        }
    }

    /// Tells whether lists are still to show objects that are desired.
    pub fn awaits_lists(&self) -> bool {
        self.is_unshown && !self.index.unseen.is_empty()
    }

    /// Tells whether what was told before a restart stands, since not all objects were seen yet.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// What the entry that is held asks for.
    pub(super) fn offered(&self) -> Attained {
        Attained {
            version: self.entry.version,
            target: self.entry.target,
        }
    }

    pub(super) fn problem(&self, key: &Arc<ObjectKey>) -> Option<&Problem> {
        self.objects.get(key)?.problem()
    }

    /// Begins a job.
    pub(super) fn begin_job(&mut self) -> Job {
        let job = self.next_job;
        self.next_job += 1;
        self.running = Some(Running {
            job,
            cancelled: false,
            evaluates: false,
            holds: false,
        });
        job
    }

    /// Ends the job under way; `None` when that is another: its outcome is of a unit that was released since.
    pub(super) fn end_job(&mut self, job: Job) -> Option<Running> {
        let running = self.running.filter(|running| running.job == job)?;
        self.running = None;
        // From now on it desires nothing more.
        self.claims_made += u64::from(self.is_let_go());
        Some(running)
    }

    /// Drops what the running job has not begun.
    pub(super) fn cancel(&mut self, actions: &mut Vec<Action>) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.cancelled) {
            running.cancelled = true;
            actions.push(Action::Cancel(running.job));
        }
    }

    /// Changes a row, and everything that follows from it.
    pub(super) fn change(&mut self, key: &Arc<ObjectKey>, change: impl FnOnce(&mut Object)) {
        if let Some(object) = self.objects.get_mut(key) {
            change(object);
            self.reindex(key);
            self.dirty.insert(key.clone());
        }
    }

    /// Puts a row into the sets that it belongs to.
    pub(super) fn reindex(&mut self, key: &Arc<ObjectKey>) {
        let object = self.objects.get(key).map(AsRef::as_ref);
        // The row says so, whatever else of it is as before.
        if self.index.put(key, object) {
            self.dirty.insert(key.clone());
        }
        self.dirty_unit = true;
    }

    /// Sets when a row is to be checked, or that it is not.
    pub(super) fn set_check(&mut self, key: &Arc<ObjectKey>, check: Check) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if let Check::NotBefore { at, .. } = object.check {
            self.index.later.remove(&(at, key.clone()));
        }
        if let Check::NotBefore { at, .. } = check {
            self.index.later.insert((at, key.clone()));
        }
        object.check = check;
        self.reindex(key);
    }

    /// Judges a row anew.
    pub(super) fn judge(&mut self, key: &Arc<ObjectKey>, now: Mono) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let judged = object.judged(now);
        if judged != object.check {
            self.set_check(key, judged);
        }
    }

    /// What it means for the unit that something is observed now. What is enforced counts, whatever else is offered.
    pub(super) fn moment(&self, now: Mono) -> Moment {
        let pass = self.pass.as_ref();
        let is_on_its_way = pass.is_some_and(|pass| Some(pass.target) != self.record.applied);
        Moment {
            now,
            is_proven: !is_on_its_way && self.proven_from <= now,
        }
    }

    /// Takes in what was held back long enough of objects' health.
    pub(super) fn release_health(&mut self, now: Mono) {
        while let Some(key) = self.index.held.due(now) {
            self.change(&key, |object| object.release_health(now));
        }
    }

    /// Takes in what objects are that look as they were: another target is begun with what is true.
    pub(super) fn release_turns(&mut self, now: Mono) {
        let turned = self.index.held.keys();
        let turned = turned.filter(|key| self.objects.get(*key).is_some_and(|object| object.holds_turn()));
        for key in turned.cloned().collect::<Vec<_>>() {
            self.change(&key, |object| object.release_health(now));
        }
    }

    /// Removes a row.
    pub(super) fn forget(&mut self, key: &Arc<ObjectKey>) {
        self.set_check(key, Check::Settled);
        self.set_corrections(key, None);
        self.adoptions.remove(key);
        self.removals.is_over(key);
        self.objects.remove(key);
        self.reindex(key);
        self.dirty.insert(key.clone());
    }

    /// The wait before the next try, after `failures` in a row.
    pub(super) fn backoff(&self, failures: u32, retry: Retry, now: Now) -> Duration {
        let interval = self.entry.settings.retry_interval.max(Duration::from_secs(1));
        match retry {
            Retry::Interval => interval,
            Retry::Race if failures > RACES => interval,
            Retry::Soon | Retry::Race => {
                let backoff = Backoff {
                    base: Duration::from_secs(1),
                    cap: interval,
                };
                // Half of the wait is certain: a server that has just refused is not asked again at once.
                let bound = backoff.bound(failures.saturating_add(1));
                bound / 2 + backoff.delay(failures.saturating_add(1), now.random) / 2
            }
        }
    }

    /// Saves the durable part when it changed.
    pub(super) fn save(&mut self, actions: &mut Vec<Action>) {
        if self.record == self.saved && !self.is_unsaved {
            return;
        }
        self.is_unsaved = false;
        self.saved = self.record.clone();
        actions.push(Action::SaveUnit(Box::new(self.record.clone())));
    }

    /// Takes a condition as saved: it differs from that which is by its message alone.
    pub(super) fn skip_saving_condition(&mut self, condition: &Condition) {
        self.saved.condition = Some(condition.clone());
    }

    /// Takes a condition as saved, and how many objects it is of.
    pub(super) fn skip_saving_extent(&mut self, condition: &Condition) {
        self.skip_saving_condition(condition);
        self.saved.failed = self.record.failed;
        self.saved.health = self.record.health;
    }

    /// Forgets corrections that do not count any more, when it is time to look.
    pub(super) fn prune_corrections(&mut self, now: Now) {
        if self.prune_at.is_none_or(|at| now.mono < at) {
            return;
        }
        let over = self.corrections.iter().filter(|(_, of)| of.is_empty(now.wall));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            self.set_corrections(&key, None);
        }
        self.prune_at = (!self.corrections.is_empty()).then(|| now.mono + CONTESTED_WITHIN);
    }

    /// Remembers the corrections of an object.
    pub(super) fn remember(&mut self, key: &Arc<ObjectKey>, corrections: Corrections, now: Now) {
        self.set_corrections(key, Some(corrections));
        self.prune_at.get_or_insert(now.mono + CONTESTED_WITHIN);
    }

    /// Forgets all corrections.
    pub(super) fn forget_corrections(&mut self) {
        self.corrections.clear();
        self.contest_news.append(&mut self.index.contested);
    }

    fn set_corrections(&mut self, key: &Arc<ObjectKey>, corrections: Option<Corrections>) {
        let was_contested = self.index.contested.remove(key);
        let is_contested = corrections.as_ref().is_some_and(Corrections::has_contests);
        if is_contested {
            self.index.contested.insert(key.clone());
        }
        if was_contested || is_contested {
            self.contest_news.insert(key.clone());
        }
        match corrections {
            Some(corrections) => self.corrections.insert(key.clone(), corrections),
            None => self.corrections.remove(key),
        };
    }

    /// Notes in the records of objects what is contested of them, unless a job is to bring newer ones.
    pub(super) fn keep_contests(&mut self, actions: &mut Vec<Action>) {
        if self.contest_news.is_empty() || self.has_newer_records() {
            return;
        }
        let mut records = Vec::new();
        for key in std::mem::take(&mut self.contest_news) {
            let contests = self.corrections.get(&key).and_then(Corrections::contests);
            let object = self.objects.get_mut(&key);
            let Some(record) = object.and_then(|object| object.record.as_mut()) else {
                continue;
            };
            if record.contested.as_deref() != contests.as_ref() {
                Arc::make_mut(record).contested = contests.map(Box::new);
                records.push((key, Some(record.clone())));
            }
        }
        if !records.is_empty() {
            actions.push(Action::SaveObjects(records));
        }
    }

    /// When the machine wants a tick; `None`: not before something happens.
    pub fn wake_at(&self, now: Mono) -> Option<Mono> {
        let held = self.index.held.next();
        if !self.is_active() {
            return held;
        }
        let later = self.index.later.first().map(|(at, _)| *at);
        let stage = self.pass.as_ref().and_then(|pass| pass.deadline);
        let work = match (self.running, self.hold) {
            // A job under way brings its outcome; what is due waits for that.
            (Some(_), _) => [None, None, None, None],
            (None, Some(hold)) => [Some(hold), None, None, None],
            (None, None) => [self.retry, later, stage, self.evaluate_at],
        };
        let removal = self
            .next_removal()
            .filter(|_| self.running.is_none() && self.hold.is_none());
        work.into_iter()
            .chain([removal])
            .chain([self.status_deadline(now), self.restoring, held, self.next_look()])
            .flatten()
            .min()
    }
}
