//! What an evaluation gave becomes what is desired of the rows. Only rows of which something else is desired than
//! before are touched: a commit that changes one of many objects costs a comparison of each, and no more.

use std::sync::Arc;

use super::{
    event::{Action, Evaluation, EvaluationFailure},
    intake::Intake,
    now::Now,
    object::Check,
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
        let again = failure.as_ref().and_then(|failure| failure.again);
        self.evaluation_failures = again.map_or(0, |_| self.evaluation_failures.saturating_add(1));
        self.evaluate_at = again.map(|retry| now.mono + self.backoff(self.evaluation_failures, retry, now));
        self.evaluation_failure = failure;
        self.is_evaluated = true;
        // Until it is taken in, and where it failed, what rows desire is not what is offered.
        self.is_complete = false;
        self.claims_made += 1;
        let Some(evaluation) = evaluation else { return };
        if !failed {
            if self.enforced.as_ref() != Some(&self.entry) {
                actions.push(Action::Enforce(self.bytes.clone()));
            }
            self.enforced = Some(self.entry.clone());
        }
        self.desire(evaluation, !failed);
    }

    /// Takes in what is enforced while the offered entry waits for others.
    pub(super) fn held(&mut self, evaluation: Option<Evaluation>) {
        self.job_failure = None;
        if self.is_without_ground(evaluation.as_ref()) {
            return;
        }
        self.is_evaluated = true;
        if let Some(evaluation) = evaluation {
            self.desire(evaluation, false);
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

    /// Begins to take in what is desired. Only a complete set of the offered entry says that an object is not; even then
    /// it stays, marked.
    fn desire(&mut self, evaluation: Evaluation, is_offered: bool) {
        let Evaluation {
            objects,
            unchanged,
            from,
            complete,
        } = evaluation;
        (self.knows_desired, self.evaluated_from) = (true, from);
        let left = (complete && is_offered).then_some(Left {
            version: self.entry.version,
            content: self.entry.content,
            had: Some(self.count_written()),
        });
        self.is_complete = left.is_some();
        self.intake = Some(Box::new(Intake::new(objects, unchanged, left)));
    }

    /// How many written objects are desired so far.
    fn count_written(&self) -> u32 {
        let is_written = |record: &Arc<Record>| record.state == RecordState::Applied;
        let records = self.objects.values().filter_map(|object| object.record.as_ref());
        u32::try_from(records.filter(|record| is_written(record)).count()).unwrap_or(u32::MAX)
    }

    /// Takes in a piece of what is desired, and begins a pass once all is.
    pub(super) fn take_in(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(mut intake) = self.intake.take() else {
            return;
        };
        for (key, is_doubted) in &intake.piece(&mut self.objects) {
            // What was seen of it was found harmless for what was desired then.
            if *is_doubted {
                self.set_check(key, Check::Settled);
                let object = self.objects.get(key);
                let again = object.and_then(|object| object.observed.as_ref()?.again);
                self.look_again(key, again, now);
            }
            self.desired_changed(key, now);
        }
        if !intake.is_over() {
            self.intake = Some(intake);
            return;
        }
        let records = intake.into_records();
        if !records.is_empty() {
            self.dirty.extend(records.iter().map(|(key, _)| key.clone()));
            actions.push(Action::SaveObjects(records));
        }
        self.claims_made += 1;
        self.removals.forget_claims();
        self.begin_pass(now.mono);
    }

    /// Brings a row of which something else is desired to where it belongs.
    fn desired_changed(&mut self, key: &Arc<ObjectKey>, now: Now) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        if object.record.is_none() && object.desired.is_none() {
            return self.forget(key);
        }
        if object.desired.is_some() {
            self.removals.is_desired(key);
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
