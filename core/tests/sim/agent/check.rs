//! Checks of objects that look drifted, and their correction (`agent/src/reconcile/check.rs`, `correct.rs`).

use std::sync::Arc;

use flotilla_core::{
    apply::{
        drift::{Drift, Judgement, Suspicion, Verdict, judge},
        inventory::{Record, State},
    },
    id::UnitId,
    unit::{
        Entry,
        event::{CheckOutcome, Checked, Event, Outcome, ToCheck},
        object::Observed,
        problem::{Problem, Retry},
    },
};

use super::{
    Agent, Env,
    apply::Look,
    jobs::{Rest, Step, body},
};
use crate::{
    cluster::{Live, gone},
    git::{Body, Key},
};

pub(super) struct Check {
    entry: Arc<Entry>,
    rest: Rest<ToCheck>,
    correct: Option<Correction>,
    outcomes: Vec<CheckOutcome>,
}

/// A correction that was decided, and what was seen.
struct Correction {
    object: ToCheck,
    body: Body,
    seen: Option<Live>,
    suspicion: Suspicion,
    drift: Drift,
}

impl Check {
    pub(super) fn new(entry: Arc<Entry>, objects: Vec<ToCheck>) -> Self {
        Self {
            entry,
            rest: objects.into(),
            correct: None,
            outcomes: Vec::new(),
        }
    }

    fn end(&mut self, key: Key, record: Option<Arc<Record>>, observed: Option<Observed>, result: Checked) {
        self.outcomes.push(CheckOutcome {
            outcome: Outcome {
                key,
                record,
                observed,
                adopted: None,
                result,
            },
            corrections: None,
        });
    }
}

impl Agent {
    pub(super) fn check(
        &mut self,
        unit: UnitId,
        job: u64,
        check: &mut Check,
        cancelled: bool,
        env: &mut Env<'_>,
    ) -> Step {
        if let Some(correction) = check.correct.take() {
            if !cancelled {
                self.correct(unit, check, correction, env);
            }
            return Step::Goes;
        }
        match check.rest.pop_front().filter(|_| !cancelled) {
            Some(object) => {
                self.look_at(unit, check, object, env);
                Step::Goes
            }
            None => Step::Ended(Event::Checked {
                job,
                outcomes: std::mem::take(&mut check.outcomes),
                failure: None,
            }),
        }
    }

    fn look_at(&mut self, unit: UnitId, check: &mut Check, mut object: ToCheck, env: &mut Env<'_>) {
        let key = object.key.clone();
        if env.silent {
            let problem = Problem::Unanswered(format!("{key}: no answer"));
            let retry = Retry::Soon;
            check.end(key, None, None, Checked::Problem { problem, retry });
            return;
        }
        let live = env.cluster.get(&key).cloned();
        let observed = live.as_ref().map_or_else(|| gone(None), Live::observed);
        let record = self.ledger.live.item(unit, &key);
        let Some(body) = body(&check.entry, &key, env.contents) else {
            let is_pending = record.is_some_and(|record| record.state == State::PendingRemoval);
            let (observed, result) = match (is_pending, &live) {
                (false, _) => (None, Checked::InSync),
                (true, None) => (Some(observed), Checked::Gone),
                (true, Some(_)) => (Some(observed), Checked::InSync),
            };
            check.end(key, None, observed, result);
            return;
        };
        let is_withheld = check.entry.withheld.iter().any(|one| one.key == *key);
        let Some(record) = record.filter(|_| !is_withheld) else {
            check.end(key, None, None, Checked::InSync);
            return;
        };
        let suspicion = match judge(&record, observed.observation.as_ref()) {
            Judgement::Suspicious(suspicion) => suspicion,
            Judgement::InSync | Judgement::NotJudged => {
                check.end(key, None, Some(observed), Checked::InSync);
                return;
            }
        };
        match self.look(unit, &key, &body, live.as_ref()) {
            Look::Write(_) => {}
            Look::Leave => {
                let mut record = record;
                if let Some(observation) = &observed.observation {
                    Arc::make_mut(&mut record).accept(observation);
                }
                check.end(key, Some(record), Some(observed), Checked::InSync);
                return;
            }
            Look::Withhold(problem) => {
                let retry = Retry::Interval;
                check.end(key, None, Some(observed), Checked::Problem { problem, retry });
                return;
            }
        }
        let drift = match &live {
            None => Drift::gone(),
            Some(_) => Drift {
                paths: vec!["/data".to_owned()],
                manager: Some("them".to_owned()),
            },
        };
        let wall = self.wall(env.now);
        let verdict = object
            .corrections
            .decide(&drift, wall, check.entry.settings.interval);
        if let Verdict::Contested { until } = verdict {
            check.end(key, None, Some(observed), Checked::Contested { until, drift });
            if let Some(last) = check.outcomes.last_mut() {
                last.corrections = Some(object.corrections);
            }
            return;
        }
        if suspicion == Suspicion::Gone {
            // After a crash the new object must not look like one that somebody put in its place.
            let mut record = record;
            if Arc::make_mut(&mut record).recreate() {
                self.ledger.live.put(unit, &key, Some(record));
                self.ledger.flush();
            }
        }
        check.correct = Some(Correction {
            object,
            body,
            seen: live,
            suspicion,
            drift,
        });
    }

    /// Writes a correction, of the version that was seen; of another one it is looked at again by the next check.
    fn correct(&mut self, unit: UnitId, check: &mut Check, correction: Correction, env: &mut Env<'_>) {
        let Correction {
            object,
            body,
            seen,
            suspicion,
            drift,
        } = correction;
        let key = object.key;
        if env.silent {
            let problem = Problem::Unanswered(format!("{key}: no answer"));
            let retry = Retry::Soon;
            check.end(key, None, None, Checked::Problem { problem, retry });
            return;
        }
        let of = seen.as_ref().map(|live| (live.uid.as_str(), live.version));
        let Ok(live) = env.cluster.apply(&key, &body, &unit.to_string(), of) else {
            return;
        };
        let entry = check.entry.clone();
        let (record, observed) = self.written(unit, &entry, &key, &body, &live, env);
        self.ledger.live.put(unit, &key, Some(record.clone()));
        let drift = Some(drift);
        check.end(
            key,
            Some(record),
            Some(observed),
            Checked::Corrected { suspicion, drift },
        );
        if let Some(last) = check.outcomes.last_mut() {
            last.corrections = Some(object.corrections);
        }
    }
}
