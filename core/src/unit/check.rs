//! Checks of objects that look drifted: which are begun, and what their outcomes mean. Every object that was checked
//! leaves the check settled, with its observation accepted, or with a time before which it is not checked again.

use std::{sync::Arc, time::Duration};

use super::{
    event::{Action, CheckOutcome, Checked, Job, Notice, Outcome, ToCheck},
    now::Now,
    object::Check,
    problem::{Problem, Retry},
    state::State,
};
use crate::{
    apply::drift::{Corrections, Drift, Suspicion},
    object::ObjectKey,
};

/// Objects of one check: a newer entry waits for no more than what of these is under way.
const BATCH: usize = 200;
/// An observation that looks drifted and is not is looked at again after this, should nothing else happen.
const ACCEPTED: Duration = Duration::from_secs(3600);

impl State {
    /// Begins a check of what is due.
    pub(super) fn begin_check(&mut self, actions: &mut Vec<Action>) {
        let Some(entry) = self.enforced.clone() else {
            return;
        };
        let keys: Vec<Arc<ObjectKey>> = self.index.due.iter().take(BATCH).cloned().collect();
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            self.set_check(key, Check::Running);
        }
        let objects = keys
            .into_iter()
            .map(|key| ToCheck {
                corrections: self.corrections.get(&*key).cloned().unwrap_or_default(),
                key,
            })
            .collect();
        let job = self.begin_job();
        actions.push(Action::Check { job, entry, objects });
    }

    /// Takes in what became of objects that were checked. Those that the check did not reach are due again.
    pub(super) fn checked(
        &mut self,
        job: Job,
        outcomes: Vec<CheckOutcome>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let mut answered = false;
        let mut absent = Vec::new();
        for CheckOutcome { outcome, corrections } in outcomes {
            answered |= !matches!(
                outcome.result,
                Checked::Problem {
                    problem: Problem::Unanswered(_),
                    ..
                }
            );
            if self.keep_corrections(&outcome.key, corrections, now)
                && let Checked::Corrected {
                    drift: Some(drift), ..
                }
                | Checked::Contested { drift, .. } = &outcome.result
            {
                actions.push(Action::Tell(contested(&outcome.key, drift)));
            }
            let was_there = self
                .objects
                .get(&outcome.key)
                .is_some_and(|object| object.is_there());
            if !was_there {
                absent.push(outcome.key.clone());
            }
            let key = outcome.key.clone();
            self.check_ended(job, outcome, now, actions);
            // The check may have read the object before the list did.
            if let Some(version) = self.objects.get_mut(&key).and_then(|object| object.listed.take()) {
                self.listed(&key, *version);
            }
        }
        for key in absent {
            self.appeared(&key, false, now);
        }
        if self.again {
            let failed: Vec<_> = self.index.problems.iter().cloned().collect();
            self.try_again(&failed, now);
            self.again = self.pass.is_some();
        }
        if answered && self.pass.is_none() {
            self.silent_since = None;
        }
        for key in self.index.running.clone() {
            self.change(&key, |object| object.listed = None);
            self.set_check(&key, Check::Due);
        }
        self.dirty_unit = true;
    }

    /// Remembers the recent corrections of an object. Returns whether a contest has begun.
    fn keep_corrections(&mut self, key: &Arc<ObjectKey>, corrections: Option<Corrections>, now: Now) -> bool {
        let Some(corrections) = corrections else {
            return false;
        };
        // One that is tried again once an interval goes on.
        let was_contested = self.corrections.get(key).is_some_and(Corrections::has_contests);
        let began = !was_contested && corrections.contested(now.wall).is_some();
        self.remember(key, corrections, now);
        began
    }

    fn check_ended(&mut self, job: Job, outcome: Outcome<Checked>, now: Now, actions: &mut Vec<Action>) {
        let Outcome {
            key,
            record,
            observed,
            result,
            ..
        } = outcome;
        let again = observed.as_ref().and_then(|observed| observed.again);
        let mut is_overtaken = false;
        let at = self.moment(now.mono);
        self.change(&key, |object| {
            if record.is_some() {
                object.record = record;
            }
            if let Some(observed) = observed {
                is_overtaken = object.was_shown_during(job) && object.is_ahead_of(&observed);
                object.observe_by(job, observed, at);
            }
        });
        match result {
            Checked::InSync => self.settle_check(&key, again, is_overtaken, now),
            Checked::Corrected { suspicion, drift } => {
                self.settle_check(&key, again, is_overtaken, now);
                actions.push(Action::Tell(corrected(&key, &suspicion, drift.as_ref())));
            }
            Checked::Contested { until, .. } => {
                let seen = self.objects.get(&key).map(|object| Box::new(object.seen()));
                let wait = until.since(now.wall).max(Duration::from_secs(1));
                self.change(&key, |object| object.check_problem = None);
                self.set_check(
                    &key,
                    Check::NotBefore {
                        at: now.mono + wait,
                        seen,
                    },
                );
            }
            Checked::Gone => {
                actions.push(Action::SaveObjects(vec![(key.clone(), None)]));
                self.forget(&key);
            }
            Checked::Problem { problem, retry } => {
                if matches!(problem, Problem::Unanswered(_)) {
                    self.silent_since.get_or_insert(now.mono);
                }
                let mut tries = 0;
                self.change(&key, |object| {
                    object.check_problem = Some(Box::new(problem));
                    object.tries = object.tries.saturating_add(1);
                    tries = object.tries;
                });
                let wait = self.backoff(tries, retry, now);
                self.set_check(
                    &key,
                    Check::NotBefore {
                        at: now.mono + wait,
                        seen: None,
                    },
                );
            }
        }
    }

    /// `is_overtaken`: what a watch has shown meanwhile is later than what the check has seen.
    fn settle_check(&mut self, key: &Arc<ObjectKey>, again: Option<Duration>, is_overtaken: bool, now: Now) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let tries = match is_overtaken && object.is_suspicious() {
            true => object.tries.saturating_add(1),
            false => 0,
        };
        let check = match tries {
            0 => object.settled(now.mono + ACCEPTED),
            1 => Check::Due,
            // Whatever shows it anew each time, it is not looked at without end.
            _ => Check::NotBefore {
                at: now.mono + self.backoff(tries, Retry::Soon, now),
                seen: None,
            },
        };
        // A problem of the last pass that the check has found mended is over, too.
        let mended = object.pass_problem.is_some()
            && !object.is_withheld()
            && object.record.as_ref().and_then(|record| record.sent)
                == object.desired.as_ref().map(|desired| desired.digest);
        self.change(key, |object| {
            object.check_problem = None;
            object.tries = tries;
            if mended {
                object.pass_problem = None;
            }
        });
        self.set_check(key, check);
        self.look_again(key, again, now);
        // Whether all is applied now is the next pass's to say.
        if mended && self.retry.is_some() {
            self.retry = Some(now.mono);
        }
    }
}

fn corrected(key: &Arc<ObjectKey>, suspicion: &Suspicion, drift: Option<&Drift>) -> Notice {
    let message = match (suspicion, drift) {
        (Suspicion::Gone, _) => format!("{key} was deleted; created again"),
        (_, Some(drift)) => {
            let who = drift.manager.as_deref().unwrap_or("somebody");
            let paths = drift.paths.join(", ");
            format!("{key} was changed by {who} at {paths}; corrected")
        }
        (suspicion, None) => format!("{key}: {suspicion}; applied again"),
    };
    Notice {
        key: Some(key.clone()),
        warning: false,
        reason: "DriftCorrected".to_owned(),
        message,
    }
}

fn contested(key: &Arc<ObjectKey>, drift: &Drift) -> Notice {
    let who = drift.manager.as_deref().unwrap_or("somebody");
    Notice {
        key: Some(key.clone()),
        warning: true,
        reason: "DriftContested".to_owned(),
        message: format!(
            "{key}: {who} changes {} back each time; it is corrected once per interval from now on",
            drift.paths.join(", ")
        ),
    }
}
