//! What became of the objects of a batch that was applied.

use std::{sync::Arc, vec};

use super::{
    event::{Action, Adoption, Applied, Job, JobFailure, Notice, Outcome},
    intake::{Intake, PIECE},
    now::Now,
    object::Check,
    problem::{Problem, Retry},
    state::{Running, State},
};
use crate::object::ObjectKey;

/// What became of objects that were to be applied, and is not taken in yet.
#[derive(Debug)]
pub(super) struct AppliedIntake {
    job: Job,
    cancelled: bool,
    failure: Option<JobFailure>,
    outcomes: vec::IntoIter<Outcome<Applied>>,
}

impl State {
    /// Begins to take in what became of objects that were to be applied. `failure`: what ended the job before its end.
    pub(super) fn applied(
        &mut self,
        running: Running,
        outcomes: Vec<Outcome<Applied>>,
        failure: Option<JobFailure>,
    ) {
        if let Some(pass) = self.pass.as_mut() {
            pass.take_back(&outcomes);
        }
        self.intake = Some(Box::new(Intake::Applied(AppliedIntake {
            job: running.job,
            cancelled: running.cancelled,
            failure,
            outcomes: outcomes.into_iter(),
        })));
    }

    /// Takes in a piece of it.
    pub(super) fn take_in_applied(&mut self, mut intake: AppliedIntake, now: Now, actions: &mut Vec<Action>) {
        for outcome in intake.outcomes.by_ref().take(PIECE) {
            self.applied_one(intake.job, outcome, now, actions);
        }
        if !intake.outcomes.as_slice().is_empty() {
            self.intake = Some(Box::new(Intake::Applied(intake)));
            return;
        }
        let failed = intake
            .failure
            .map(|failure| self.job_failed(failure, now))
            .is_some();
        if failed || intake.cancelled {
            self.abandon_pass(failed, now);
        }
    }

    fn applied_one(&mut self, job: Job, outcome: Outcome<Applied>, now: Now, actions: &mut Vec<Action>) {
        let Outcome {
            key,
            record,
            observed,
            adopted,
            result,
        } = outcome;
        let again = observed.as_ref().and_then(|observed| observed.again);
        let written = matches!(result, Applied::Written);
        // A write that failed may have been stored all the same, and then no later look finds what was there before.
        if let Some(adoption) = adopted {
            self.adoptions.insert(key.clone(), adoption);
        }
        if written && let Some(adoption) = self.adoptions.remove(&key) {
            actions.push(Action::Tell(adoption_notice(&key, &adoption)));
        }
        let left = matches!(result, Applied::Left);
        let (problem, retry) = match result {
            Applied::Written | Applied::Left => (None, None),
            Applied::NotBegun => {
                self.change(&key, |object| {
                    if record.is_some() {
                        object.record = record;
                    }
                });
                self.judge(&key, now.mono);
                return;
            }
            Applied::Unknown => {
                self.is_outdated = true;
                let message = format!("{key}: what the cluster serves has changed; evaluated again");
                (Some(Problem::Unserved(message)), Some(Retry::Soon))
            }
            Applied::Problem { problem, retry } => (Some(problem), Some(retry)),
        };
        if let Some(pass) = self.pass.as_mut()
            && let Some(retry) = retry
        {
            pass.retry(retry);
        }
        let was_there = self.objects.get(&key).is_some_and(|object| object.is_there());
        let at = self.moment(now.mono);
        self.change(&key, |object| {
            if record.is_some() {
                object.record = record;
            }
            object.left = left;
            if let Some(observed) = observed {
                // What was not written may have been read for an earlier job of the pass.
                match written {
                    true => object.observe_by(job, observed, at),
                    false => object.observe(observed, at),
                };
            }
            object.pass_problem = problem.map(Box::new);
            if written {
                object.check_problem = None;
                object.tries = 0;
            }
        });
        if written {
            self.set_check(&key, Check::Settled);
        }
        self.judge(&key, now.mono);
        self.look_again(&key, again, now);
        self.appeared(&key, was_there, now);
    }
}

fn adoption_notice(key: &Arc<ObjectKey>, adoption: &Adoption) -> Notice {
    let message = match adoption {
        Adoption::Unmarked => format!("{key} was there already and is now managed by this unit"),
        Adoption::Marked(mark) => format!(
            "{key} had the mark of unit {mark}, which this agent does not have, and is now managed by this unit: if \
             another installation of Flotilla manages it as well, they undo each other's changes"
        ),
    };
    Notice {
        key: Some(key.clone()),
        warning: matches!(adoption, Adoption::Marked(_)),
        reason: "Adopted".to_owned(),
        message,
    }
}
