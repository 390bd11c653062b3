//! Jobs, one request at a time.

use std::{collections::VecDeque, sync::Arc};

use flotilla_core::{
    id::UnitId,
    unit::{
        Entry,
        event::{Action, EvaluatedFrom, Evaluation, EvaluationFailure, Event, JobFailure},
        object::{Desired, Withholding},
    },
};

use super::{Agent, Env, apply::Apply, check::Check, ledger::Memory, remove::Remove};
use crate::git::{Contents, Key};

/// A job that a unit has asked for.
pub(crate) struct Job {
    pub(crate) unit: UnitId,
    job: u64,
    pub(crate) cancelled: bool,
    pub(crate) begun: bool,
    pub(super) work: Work,
}

pub(super) enum Work {
    Evaluate {
        entry: Arc<Entry>,
        enforced: Option<Arc<Entry>>,
        before: Option<EvaluatedFrom>,
        result: Option<Event>,
    },
    Apply(Apply),
    Check(Check),
    Remove(Remove),
}

/// What a step of a job came to.
pub(super) enum Step {
    Goes,
    Ended(Event),
}

impl Job {
    pub(super) fn new(unit: UnitId, job: u64, action: Action) -> Self {
        let work = match action {
            Action::Evaluate {
                entry,
                enforced,
                before,
                ..
            } => Work::Evaluate {
                entry,
                enforced,
                before,
                result: None,
            },
            Action::Apply { entry, keys, .. } => Work::Apply(Apply::new(entry, keys)),
            Action::Check { entry, objects, .. } => Work::Check(Check::new(entry, objects)),
            Action::Remove { keys, .. } => Work::Remove(Remove::new(keys)),
            other => panic!("no job: {other:?}"),
        };
        Self {
            unit,
            job,
            cancelled: false,
            begun: false,
            work,
        }
    }

    pub(super) fn is(&self, unit: UnitId, job: u64) -> bool {
        (self.unit, self.job) == (unit, job)
    }

    /// Its outcome when it is taken back before it began.
    pub(super) fn not_begun(self) -> Event {
        let job = self.job;
        match self.work {
            Work::Evaluate { .. } => Event::Evaluated {
                job,
                failure: None,
                evaluation: None,
            },
            Work::Apply(_) => Event::Applied {
                job,
                outcomes: Vec::new(),
                failure: None,
            },
            Work::Check(_) => Event::Checked {
                job,
                outcomes: Vec::new(),
                failure: None,
            },
            Work::Remove(_) => Event::Removed {
                job,
                outcomes: Vec::new(),
                failure: None,
            },
        }
    }
}

impl Agent {
    /// Goes one step on with a job.
    pub(crate) fn advance(&mut self, index: usize, env: &mut Env<'_>) {
        let mut job = self.jobs.swap_remove(index);
        job.begun = true;
        let (unit, number, cancelled) = (job.unit, job.job, job.cancelled);
        let step = match &mut job.work {
            Work::Evaluate {
                entry,
                enforced,
                before,
                result,
            } => match result.take() {
                Some(event) => Step::Ended(event),
                None => {
                    let memory = &self.ledger.live;
                    *result = Some(evaluated(
                        number,
                        entry,
                        enforced.as_deref(),
                        *before,
                        memory,
                        env,
                    ));
                    Step::Goes
                }
            },
            Work::Apply(apply) => self.apply(unit, number, apply, cancelled, env),
            Work::Check(check) => self.check(unit, number, check, cancelled, env),
            Work::Remove(remove) => self.remove(unit, number, remove, cancelled, env),
        };
        match step {
            Step::Goes => self.jobs.push(job),
            Step::Ended(event) => self.finished(unit, number, event, env),
        }
    }
}

fn evaluated(
    job: u64,
    entry: &Entry,
    enforced: Option<&Entry>,
    before: Option<EvaluatedFrom>,
    memory: &Memory,
    env: &Env<'_>,
) -> Event {
    if env.silent {
        return Event::Failed {
            job,
            failure: JobFailure::Unavailable("discovery failed: no answer".into()),
        };
    }
    let evaluation = evaluate(entry, before, memory, env.contents);
    let failure = evaluation.is_none().then(|| EvaluationFailure {
        reason: "ContentMissing",
        message: "content has not come".into(),
        lacks_content: true,
        again: None,
    });
    let evaluation = evaluation.or_else(|| evaluate(enforced?, before, memory, env.contents));
    Event::Evaluated {
        job,
        failure,
        evaluation,
    }
}

/// What an entry desires; what has the same bytes as before is taken over.
fn evaluate(
    entry: &Entry,
    before: Option<EvaluatedFrom>,
    memory: &Memory,
    contents: &Contents,
) -> Option<Evaluation> {
    let digest = entry.content.filter(|digest| memory.contents.contains(digest))?;
    let basis = flotilla_core::digest::Digest::of_json("basis", &(&entry.settings, &entry.withheld));
    let same = before.filter(|before| before.basis == basis);
    let same = same.map(|before| contents.get(&before.content));
    let mut evaluation = Evaluation {
        complete: true,
        from: Some(EvaluatedFrom {
            content: digest,
            basis,
        }),
        ..Evaluation::default()
    };
    for (key, body) in &contents.get(&digest).objects {
        if same.is_some_and(|same| same.objects.get(key) == Some(body)) {
            evaluation.unchanged.insert(key.clone());
            continue;
        }
        let withheld = entry.withheld.iter().find(|one| one.key == **key);
        let desired = Desired {
            digest: body.sent(),
            policy: body.policy,
            secret: false,
            withheld: withheld.map(|one| Withholding::conflict(format!("{key} is owned by {}", one.owner))),
        };
        evaluation.objects.insert(key.clone(), desired);
    }
    Some(evaluation)
}

/// What is still to be done of a job.
pub(super) type Rest<T> = VecDeque<T>;

/// The body of an object of an entry.
pub(super) fn body(entry: &Entry, key: &Key, contents: &Contents) -> Option<crate::git::Body> {
    contents.get(&entry.content?).objects.get(key).copied()
}
