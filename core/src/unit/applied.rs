//! What became of the objects of a batch that was applied.

use std::sync::Arc;

use super::{
    event::{Action, Adoption, Applied, Job, Notice, Outcome},
    now::Now,
    object::Check,
    problem::{Problem, Retry},
    state::State,
};
use crate::object::ObjectKey;

impl State {
    /// Takes in what became of objects that were to be applied.
    pub(super) fn applied(
        &mut self,
        job: Job,
        outcomes: Vec<Outcome<Applied>>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let mut retry: Option<Retry> = None;
        self.claims_made += 1;
        if let Some(pass) = self.pass.as_mut() {
            pass.take_back(&outcomes);
        }
        for Outcome {
            key,
            record,
            observed,
            adopted,
            result,
        } in outcomes
        {
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
            let (problem, wanted) = match result {
                Applied::Written | Applied::Left => (None, None),
                Applied::NotBegun => {
                    self.change(&key, |object| {
                        if record.is_some() {
                            object.record = record;
                        }
                    });
                    self.judge(&key, now.mono);
                    continue;
                }
                Applied::Unknown => {
                    self.is_outdated = true;
                    let message = format!("{key}: what the cluster serves has changed; evaluated again");
                    (Some(Problem::Unserved(message)), Some(Retry::Soon))
                }
                Applied::Problem { problem, retry } => (Some(problem), Some(retry)),
            };
            retry = match (retry, wanted) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
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
        if let Some(pass) = self.pass.as_mut()
            && let Some(retry) = retry
        {
            pass.retry(retry);
        }
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
