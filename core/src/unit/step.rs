//! The transitions of a unit's state machine.

use std::{sync::Arc, time::Duration};

use super::{
    Entry, UnitState,
    event::{Accepted, Action, Event, JobFailure, Outcome},
    now::Now,
    object::{Check, Object, Observed},
    problem::{Problem, Retry},
    state::{Running, State},
};
use crate::{apply::inventory::Record, object::ObjectKey};

impl State {
    /// Takes in an event, and gives what is to be done, in this order. What a watch or a list tells of one object changes
    /// the unit's status with the next event of another kind: see [`is_unsettled`](Self::is_unsettled). What was evaluated
    /// is taken in in pieces, one with each tick: see [`is_taking_in`](Self::is_taking_in); whatever else happens comes
    /// after all of them.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_taking_in() {
            if matches!(event, Event::Tick) {
                self.take_in(now, &mut actions);
                self.go_on(true, now, &mut actions);
                return actions;
            }
            while self.is_taking_in() {
                self.take_in(now, &mut actions);
            }
        }
        self.prune_corrections(now);
        let settles = !matches!(
            event,
            Event::Observed { .. } | Event::Listed { .. } | Event::WentBack { .. } | Event::Recovered { .. }
        );
        match event {
            Event::Accepted(accepted) => self.accept(accepted, now, &mut actions),
            Event::Requested => self.request(now, &mut actions),
            Event::Observed { key, observed } => self.observe(&key, observed, now, &mut actions),
            Event::Listed { key, version } => self.listed(&key, version),
            Event::WentBack { key } => self.change(&key, Object::forget_version),
            Event::Recovered { key, record } => self.recovered(&key, record),
            Event::Shown => self.shown(),
            Event::KindServed => self.kind_served(now),
            Event::InputsChanged => self.evaluate_due |= self.is_active(),
            Event::Freed(keys) => {
                self.again |= self.is_busy();
                self.try_again(&keys, now);
            }
            Event::Edge(edge) => {
                self.dirty_unit |= self.edge != edge;
                self.edge = edge;
            }
            Event::Evaluated {
                job,
                failure,
                evaluation,
            } => match self.end_job(job).filter(|running| !running.cancelled) {
                Some(running) if running.holds => self.held(evaluation),
                Some(_) => self.evaluated(failure, evaluation, now, &mut actions),
                None => {}
            },
            Event::Failed { job, failure } => {
                if self.end_job(job).is_some() {
                    self.evaluate_due = true;
                    self.job_failed(failure, now);
                }
            }
            Event::Applied {
                job,
                outcomes,
                failure,
            } => {
                if let Some(running) = self.end_job(job) {
                    let idle = !running.cancelled && !outcomes.iter().any(Outcome::is_reached);
                    let failure = failure.or_else(|| idle.then(reached_nothing));
                    self.applied(job, outcomes, now, &mut actions);
                    let failed = failure.map(|failure| self.job_failed(failure, now)).is_some();
                    if failed || running.cancelled {
                        self.abandon_pass(failed, now);
                    }
                }
            }
            Event::Checked {
                job,
                outcomes,
                failure,
            } => {
                if self.end_job(job).is_some() {
                    self.checked(job, outcomes, now, &mut actions);
                    match failure {
                        Some(failure) => self.job_failed(failure, now),
                        None => self.job_done(),
                    }
                }
            }
            Event::Claims(claims) => self.set_claims(claims, &mut actions),
            Event::Removed {
                job,
                outcomes,
                failure,
            } => {
                if let Some(running) = self.end_job(job) {
                    let idle = !running.cancelled && outcomes.is_empty();
                    let failure = failure.or_else(|| idle.then(reached_nothing));
                    // What was kept for what held then is judged by what holds now.
                    let outcomes = match running.cancelled {
                        true => outcomes
                            .into_iter()
                            .filter(|(_, removed)| !removed.is_kept())
                            .collect(),
                        false => outcomes,
                    };
                    self.removed(outcomes, now, &mut actions);
                    match failure {
                        Some(failure) => self.job_failed(failure, now),
                        None => self.job_done(),
                    }
                }
            }
            Event::Looked { version, seen } => self.looked(version, seen, now),
            Event::Tick => {}
            Event::Stopping => {
                self.stopping = true;
                self.cancel(&mut actions);
            }
        }
        self.take_in(now, &mut actions);
        self.go_on(settles, now, &mut actions);
        actions
    }

    /// Does what follows from an event, unless the rows are on their way between two evaluations.
    fn go_on(&mut self, settles: bool, now: Now, actions: &mut Vec<Action>) {
        if self.is_taking_in() {
            return;
        }
        self.keep_finished(now, actions);
        self.keep_contests(actions);
        self.release_health(now.mono);
        self.advance(now, actions);
        self.is_unsettled = !settles;
        if settles {
            self.settle_status(now, actions);
            self.save(actions);
            self.look(now, actions);
        }
    }

    fn accept(&mut self, accepted: Accepted, now: Now, actions: &mut Vec<Action>) {
        self.tell_removed(actions);
        let was_active = self.is_active();
        let changed = self.digest != accepted.digest;
        let retargeted = self.offered() != offered(&accepted.entry);
        let requested = self.entry.requested != accepted.entry.requested;
        let before = std::mem::replace(&mut self.entry, accepted.entry);
        self.bytes = accepted.bytes;
        self.digest = accepted.digest;
        self.accepted_at = accepted.at;
        self.dirty_unit = true;
        self.claims_made += 1;
        if changed {
            self.removals.retry();
        }
        self.removals.forget_claims();
        if retargeted {
            self.release_turns(now.mono);
        }
        if !self.is_active() {
            self.cancel(actions);
            self.pass = None;
            return;
        }
        // The same entry again means that content has come for it.
        let evaluates = self.running.is_some_and(|running| running.evaluates);
        if changed || self.evaluation_failure.is_some() || evaluates {
            self.evaluate_due = true;
            (self.evaluate_at, self.evaluation_failures) = (None, 0);
            self.pass = None;
            self.hold = None;
            self.retry = None;
            self.cancel(actions);
        }
        if retargeted {
            self.look_anew();
            self.judge_anew(&before);
            self.failures = 0;
            self.unserved_since = None;
            self.health_deadline = None;
            self.record.unhealthy_since = None;
            self.restoring = None;
        }
        if requested {
            self.request(now, actions);
        }
        // What runs now is of the entry before; the next pass knows all of this one.
        self.again &= !self.evaluate_due;
        if !was_active {
            // Nothing was enforced meanwhile, what was observed was not acted on, and nothing was waited for.
            self.health_deadline = None;
            self.record.unhealthy_since = None;
            let keys: Vec<_> = self.objects.keys().cloned().collect();
            for key in keys {
                self.judge(&key, now.mono);
            }
        }
    }

    /// Has objects looked at whose kinds are judged in another way than before.
    fn judge_anew(&mut self, before: &Entry) {
        let (old, new) = (&before.settings.health.exprs, &self.entry.settings.health.exprs);
        if old == new {
            return;
        }
        let exprs = old.iter().chain(new);
        let concerned: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, object)| {
                object.record.is_some() && exprs.clone().any(|one| one.is_of(&key.group, &key.kind))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in concerned {
            self.set_check(&key, Check::Due);
        }
    }

    fn request(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.is_active() {
            return;
        }
        self.hold = None;
        self.again |= self.is_busy();
        // Who asks wants it as desired now, whoever else changes it back.
        self.forget_corrections();
        self.removals.retry();
        let waiting: Vec<_> = self.index.later.iter().map(|(_, key)| key.clone()).collect();
        for key in waiting {
            self.set_check(&key, Check::Due);
        }
        if self.retry.is_some() {
            self.retry = Some(now.mono);
        }
        if self.evaluation_failure.is_some() {
            self.evaluate_due = true;
        }
        actions.push(Action::Verify);
    }

    fn observe(&mut self, key: &Arc<ObjectKey>, observed: Observed, now: Now, actions: &mut Vec<Action>) {
        let has_newer_records = self.has_newer_records();
        let running = self.running;
        let at = self.moment(now.mono);
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if object.is_ahead_of(&observed) {
            return;
        }
        if let Some(running) = running {
            object.note_shown(running.job);
        }
        let seen = observed.observation.as_ref().filter(|seen| seen.finished);
        if let Some(uid) = seen
            .and_then(|seen| seen.uid.clone())
            .filter(|_| has_newer_records)
            && object.record.as_ref().is_none_or(|record| !record.finished)
        {
            let key = key.clone();
            actions.push(Action::Finish { key, uid });
        }
        let again = observed.again;
        let was_there = object.is_there();
        let was_left_alone = object.is_left_alone();
        if object.observe(observed, at) {
            self.dirty.insert(key.clone());
        }
        self.reindex(key);
        self.judge(key, now.mono);
        self.look_again(key, again, now);
        self.appeared(key, was_there, now);
        let object = self.objects.get(key);
        let is_outdated = object.is_some_and(|object| !object.is_left_alone() && object.is_outdated());
        // A change may be refused of an object that is there, and taken of one that is created.
        let has_vanished = was_there && object.is_some_and(|object| !object.is_there());
        // An evaluation that is due begins a pass itself, of what is offered now.
        if (was_left_alone || has_vanished) && is_outdated && !self.evaluate_due {
            // A pass has left it alone, or could not write it, that is to be written after all.
            match self.pass.is_some() {
                true => self.again = true,
                false => self.retry = Some(now.mono),
            }
        }
    }

    /// Tells whether a job under way may have records that are newer than those of the rows.
    pub(super) fn has_newer_records(&self) -> bool {
        self.running.is_some_and(|running| !running.evaluates)
    }

    /// Notes in the records that objects were seen finished, unless a job is to bring newer ones.
    fn keep_finished(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.index.finished.is_empty() || self.has_newer_records() {
            return;
        }
        let keys: Vec<_> = self.index.finished.iter().cloned().collect();
        for key in keys {
            let mut finished = None;
            self.change(&key, |object| {
                if let Some(record) = object.record.as_mut() {
                    Arc::make_mut(record).finish();
                    finished = Some(record.clone());
                }
            });
            actions.push(Action::SaveObjects(vec![(key.clone(), finished)]));
            self.judge(&key, now.mono);
        }
    }

    /// What waits for a namespace to go is tried again when it is there anew.
    pub(super) fn appeared(&mut self, key: &Arc<ObjectKey>, was_there: bool, now: Now) {
        let is_there = self.objects.get(key).is_some_and(|object| object.is_there());
        if is_there && !was_there && key.kind == "Namespace" && key.group.is_empty() {
            self.namespace_is_back(&key.name, now);
        }
    }

    /// Health that depends on the time is looked at again by itself.
    pub(super) fn look_again(&mut self, key: &Arc<ObjectKey>, again: Option<Duration>, now: Now) {
        let settled = self.objects.get(key).is_some_and(|o| o.check == Check::Settled);
        if let Some(again) = again
            && settled
        {
            let seen = self.objects.get(key).map(|object| Box::new(object.seen()));
            self.set_check(
                key,
                Check::NotBefore {
                    at: now.mono + again.max(Duration::from_secs(1)),
                    seen,
                },
            );
        }
    }

    fn namespace_is_back(&mut self, namespace: &str, now: Now) {
        let waiting = self.index.by_rank.of(Problem::WAITING);
        let waiting: Vec<_> = waiting
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect();
        self.try_again(&waiting, now);
    }

    /// Tries again now what waited for something else, by a check or by another pass.
    pub(super) fn try_again(&mut self, keys: &[Arc<ObjectKey>], now: Now) {
        for key in keys {
            let Some(object) = self.objects.get(key) else {
                continue;
            };
            if object.pass_problem.is_some() && self.retry.is_some() {
                self.retry = Some(now.mono);
            }
            if matches!(object.check, Check::NotBefore { .. }) {
                self.set_check(key, Check::Due);
            }
        }
    }

    pub(super) fn listed(&mut self, key: &Arc<ObjectKey>, version: Option<u64>) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if object.check == Check::Running {
            object.listed = Some(Box::new(version));
            return;
        }
        let is_there = object
            .observed
            .as_ref()
            .map(|observed| observed.observation.as_ref().and(observed.version));
        // A version that a watch is about to bring costs one read, and nothing more.
        if is_there != Some(version) && object.record.is_some() {
            self.set_check(key, Check::Due);
        }
    }

    /// An object that had left the unit may be there again. It is looked at; what is desired is written as it is.
    fn recovered(&mut self, key: &Arc<ObjectKey>, record: Arc<Record>) {
        let object = self.objects.entry(key.clone()).or_default();
        if object.desired.is_some() || object.record.is_some() {
            return;
        }
        object.record = Some(record);
        self.dirty.insert(key.clone());
        self.claims_made += 1;
        self.removals.forget_claims();
        self.set_check(key, Check::Due);
    }

    /// Tells whether something is under way that may have begun too early to know what has just happened.
    fn is_busy(&self) -> bool {
        self.running.is_some() || self.pass.is_some()
    }

    fn kind_served(&mut self, now: Now) {
        self.again |= self.is_busy();
        let waiting: Vec<_> = self.unserved().cloned().collect();
        // The kind's scope may have been unknown, so objects are evaluated again; that asks nothing of the cluster.
        self.evaluate_due |= !waiting.is_empty();
        self.try_again(&waiting, now);
    }

    /// A job could not be done at all: nothing else is begun for a while.
    fn job_failed(&mut self, failure: JobFailure, now: Now) {
        self.failures = self.failures.saturating_add(1);
        let wait = match &failure {
            JobFailure::Unavailable(_) => self.backoff(self.failures, Retry::Soon, now),
            JobFailure::Panicked(_) => self
                .backoff(self.failures, Retry::Interval, now)
                .max(Duration::from_secs(60)),
        };
        if matches!(failure, JobFailure::Unavailable(_)) {
            self.silent_since.get_or_insert(now.mono);
        }
        self.hold = Some(now.mono + wait);
        self.job_failure = Some(failure);
        self.dirty_unit = true;
    }

    /// Forgets the failure of an earlier job.
    fn job_done(&mut self) {
        self.dirty_unit |= self.job_failure.take().is_some();
        if self.pass.is_none() && self.retry.is_none() {
            self.failures = 0;
        }
    }

    /// Begins what is due, unless a job is under way.
    fn advance(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.restoring.is_some_and(|until| until <= now.mono) {
            self.restoring = None;
            self.dirty_unit = true;
        }
        if self.stopping || !self.is_active() || self.running.is_some() {
            return;
        }
        if self.hold.is_some_and(|hold| now.mono < hold) {
            return;
        }
        self.hold = None;
        if self.evaluate_at.is_some_and(|at| at <= now.mono) {
            (self.evaluate_at, self.evaluate_due) = (None, true);
        }
        while let Some((at, key)) = self.index.later.first().cloned()
            && at <= now.mono
        {
            self.set_check(&key, Check::Due);
        }
        loop {
            if let Some(entry) = self.to_evaluate() {
                self.begin_evaluation(entry, actions);
                return;
            }
            if self.retry.is_some_and(|at| at <= now.mono) {
                self.retry = None;
                if std::mem::take(&mut self.is_outdated) && self.edge.is_none() {
                    self.evaluate_due = true;
                    continue;
                }
                self.begin_pass(now.mono);
            }
            self.proceed(now, actions);
            let is_due = self.to_evaluate().is_some() || self.retry.is_some_and(|at| at <= now.mono);
            if self.running.is_some() || !is_due {
                break;
            }
        }
        if self.running.is_none() {
            self.begin_check(actions);
        }
        if self.running.is_none() {
            self.begin_removal(now, actions);
        }
        // Nothing is left to do of what could not be done.
        if self.running.is_none() && self.job_failure.is_some() {
            self.job_done();
            self.silent_since = None;
        }
    }

    /// What is to be evaluated now. An entry that waits for others lets the one before be evaluated once after a
    /// restart, so that it goes on being enforced.
    pub(super) fn to_evaluate(&self) -> Option<Arc<Entry>> {
        match (&self.edge, self.evaluate_due) {
            (_, false) => None,
            (None, true) => Some(self.entry.clone()),
            (Some(_), true) => self.enforced.clone().filter(|_| !self.is_evaluated),
        }
    }

    fn begin_evaluation(&mut self, entry: Arc<Entry>, actions: &mut Vec<Action>) {
        let holds = self.edge.is_some();
        self.evaluate_due = holds;
        let job = self.begin_job();
        self.running = self.running.map(|running| Running {
            evaluates: true,
            holds,
            ..running
        });
        let enforced = self.enforced.clone();
        let before = self.evaluated_from;
        actions.push(Action::Evaluate {
            job,
            entry,
            enforced,
            before,
        });
    }
}

/// A batch whose first object took all of its time before it was begun: not handed out again at once.
fn reached_nothing() -> JobFailure {
    JobFailure::Unavailable("no object was reached".to_owned())
}

fn offered(entry: &Entry) -> super::record::Attained {
    super::record::Attained {
        version: entry.version,
        target: entry.target,
    }
}

/// Tells whether a unit in this state is the agent's to enforce.
impl UnitState {
    /// Tells whether the unit is enforced: one that is to be removed is, as a content that holds nothing.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active | Self::Removing(_))
    }
}
