//! What an evaluation gave becomes what is desired of the rows. Only rows of which something else is desired than
//! before are touched: a commit that changes one of many objects costs a comparison of each, and no more.

use std::sync::Arc;

use super::{
    event::{Action, Evaluation, EvaluationFailure},
    now::Now,
    object::{Check, Desired, Object},
    state::State,
};
use crate::{
    apply::inventory::{Left, Record, State as RecordState},
    object::ObjectKey,
};

impl State {
    /// Takes in what was evaluated.
    pub(super) fn evaluated(
        &mut self,
        failure: Option<EvaluationFailure>,
        evaluation: Option<Evaluation>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.job_failure = None;
        if self.is_without_ground(evaluation.as_ref()) {
            return;
        }
        self.dirty_unit = true;
        let offered = self.offered();
        self.record.attempted = Some(offered);
        let failed = failure.is_some();
        self.evaluation_failure = failure;
        self.is_evaluated = true;
        let Some(evaluation) = evaluation else { return };
        if !failed {
            if self.enforced.as_ref() != Some(&self.entry) {
                actions.push(Action::Enforce(self.bytes.clone()));
            }
            self.enforced = Some(self.entry.clone());
        }
        self.desire(evaluation, !failed, now, actions);
        self.begin_pass(now.mono);
    }

    /// Takes in what is enforced while the offered entry waits for others.
    pub(super) fn held(&mut self, evaluation: Option<Evaluation>, now: Now, actions: &mut Vec<Action>) {
        self.job_failure = None;
        if self.is_without_ground(evaluation.as_ref()) {
            return;
        }
        self.is_evaluated = true;
        if let Some(evaluation) = evaluation {
            self.desire(evaluation, false, now, actions);
            self.begin_pass(now.mono);
        }
    }

    /// Tells whether an evaluation takes over what no row has, as when a variable makes another name of an object than its
    /// manifest lets expect. All is evaluated again then.
    fn is_without_ground(&mut self, evaluation: Option<&Evaluation>) -> bool {
        // Both are sorted: one walk over the rows, whatever is taken over.
        let mut rows = self.objects.iter();
        let has = |key: &Arc<ObjectKey>| {
            let row = rows.find(|(row, _)| Arc::ptr_eq(row, key) || *row >= key);
            row.is_some_and(|(row, object)| row == key && object.desired.is_some())
        };
        let stands = evaluation.is_none_or(|evaluation| evaluation.unchanged.iter().all(has));
        if !stands {
            (self.evaluated_from, self.evaluate_due) = (None, true);
        }
        !stands
    }

    /// Takes in what is desired. Only a complete set of the offered entry says that an object is not; even then it
    /// stays, marked.
    fn desire(&mut self, evaluation: Evaluation, is_offered: bool, now: Now, actions: &mut Vec<Action>) {
        let Evaluation {
            mut objects,
            unchanged,
            from,
            complete,
        } = evaluation;
        (self.knows_desired, self.evaluated_from) = (true, from);
        let left = (complete && is_offered).then_some(Left {
            version: self.entry.version,
            content: self.entry.content,
        });
        let mut records = Vec::new();
        let mut changed: Vec<Arc<ObjectKey>> = Vec::new();
        // What was seen of these was found harmless for what was desired then.
        let mut doubted: Vec<Arc<ObjectKey>> = Vec::new();
        // Each has a row, and both are sorted.
        let mut unchanged = unchanged.iter().peekable();
        for (key, object) in &mut self.objects {
            let object = object.as_mut();
            let is_unchanged = unchanged.next_if(|one| Arc::ptr_eq(one, key) || *one == key);
            let now = is_unchanged.is_none().then(|| objects.remove(key));
            let is_same = now.as_ref().is_none_or(|now| *now == object.desired);
            let desired = now.as_ref().unwrap_or(&object.desired).as_ref();
            let record = object.record.as_deref();
            let noted = record.and_then(|record| noted(record, desired, left));
            let is_idle = object.record.is_none() && desired.is_none();
            if is_same && noted.is_none() && !is_idle {
                continue;
            }
            if !is_same && matches!(object.check, Check::NotBefore { seen: Some(_), .. }) {
                doubted.push(key.clone());
            }
            object.left &= is_same;
            if let Some(now) = now {
                object.desired = now;
            }
            if let Some(record) = noted.map(Arc::new) {
                object.record = Some(record.clone());
                records.push((key.clone(), Some(record)));
            }
            changed.push(key.clone());
        }
        for (key, desired) in objects {
            let object = Object {
                desired: Some(desired),
                ..Object::default()
            };
            changed.push(key.clone());
            self.objects.insert(key, Box::new(object));
        }
        for key in doubted {
            self.set_check(&key, Check::Settled);
            let again = self
                .objects
                .get(&key)
                .and_then(|object| object.observed.as_ref()?.again);
            self.look_again(&key, again, now);
        }
        for key in &changed {
            self.desired_changed(key, now);
        }
        if !records.is_empty() {
            self.dirty.extend(records.iter().map(|(key, _)| key.clone()));
            actions.push(Action::SaveObjects(records));
        }
    }

    /// Brings a row of which something else is desired to where it belongs.
    fn desired_changed(&mut self, key: &Arc<ObjectKey>, now: Now) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        if object.record.is_none() && object.desired.is_none() {
            return self.forget(key);
        }
        // What was never seen to exist is looked at: it may not have been created at all.
        let is_unwritten = object.observed.is_none()
            && object
                .record
                .as_ref()
                .is_some_and(|record| record.state == RecordState::PendingRemoval && record.sent.is_none());
        // No pass comes to what its own manifest keeps from being written, so nothing else tells of it.
        if object.is_left_alone() {
            self.dirty.insert(key.clone());
        }
        self.reindex(key);
        match is_unwritten {
            true => self.set_check(key, Check::Due),
            false => self.judge(key, now.mono),
        }
    }
}

/// What an object's record becomes by what is desired of it; `None`: it stays as it is. `left`: it leaves when nothing
/// is.
fn noted(record: &Record, desired: Option<&Desired>, left: Option<Left>) -> Option<Record> {
    match desired {
        Some(desired) => {
            let is_back = record.state == RecordState::PendingRemoval;
            // Switches that hold the object off are never written to it, and count all the same, until what was written
            // before is desired again.
            let counts = desired.is_held_off() || record.sent == Some(desired.digest);
            let is_switched = counts && record.policy != desired.policy;
            (is_back || is_switched).then(|| {
                let mut record = record.clone();
                record.keep();
                if is_switched {
                    record.set_policy(desired.policy);
                }
                record
            })
        }
        None => left.filter(|_| record.left.is_none()).map(|left| {
            let mut record = record.clone();
            record.leave(left);
            record
        }),
    }
}
