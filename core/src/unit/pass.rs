//! A pass over a unit: what differs from what was sent is written, stage by stage.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    event::{Action, Applied, JobFailure, Outcome},
    held::PROVING,
    now::{Mono, Now},
    object::{Object, Withholding},
    problem::{Problem, Retry},
    record::Attained,
    state::State,
};
use crate::{
    apply::{
        plan::{StagePlan, plan},
        stage::STAGE_WAIT,
    },
    health::State as HealthState,
    object::ObjectKey,
};

/// Objects of one job: as many bodies are in memory at once.
const BATCH: usize = 1000;
/// And at least, when the time of a batch is over before all of it is reached.
const SLOW_BATCH: usize = 16;
/// Objects named in a message, of which each object that waits has a copy on its way to the hub.
const NAMED: usize = 3;

/// A pass under way.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) target: Attained,
    revision: String,
    stages: VecDeque<StagePlan>,
    /// What of the present stage is not handed out yet; `None` before it begins.
    left: Option<VecDeque<Arc<ObjectKey>>>,
    /// What was handed out last.
    handed: Vec<Arc<ObjectKey>>,
    /// A batch has ended: what looks drifted is checked before the next.
    checks: bool,
    /// How many objects the next batch has.
    batch: usize,
    /// Why no further stage begins.
    closed: Option<Arc<str>>,
    /// Until when the present stage waits for what must be ready before it.
    pub(super) deadline: Option<Mono>,
    retry: Option<Retry>,
}

impl Pass {
    /// Takes back what a batch did not reach: its time was over. It goes behind the rest of its stage, which may be
    /// faster, and in smaller batches, since each looks at all of its objects first.
    pub(super) fn take_back(&mut self, outcomes: &[Outcome<Applied>]) {
        let reached: BTreeSet<&ObjectKey> = outcomes
            .iter()
            .filter(|outcome| outcome.is_reached())
            .map(|outcome| &*outcome.key)
            .collect();
        let mut rest = std::mem::take(&mut self.handed);
        rest.retain(|key| !reached.contains(&**key));
        self.checks = true;
        if rest.is_empty() {
            self.batch = (self.batch * 4).min(BATCH);
            return;
        }
        self.batch = (reached.len() * 2).clamp(SLOW_BATCH, BATCH);
        self.left.get_or_insert_default().extend(rest);
    }

    pub(super) fn retry(&mut self, retry: Retry) {
        self.retry = Some(self.retry.map_or(retry, |known| known.min(retry)));
    }
}

impl State {
    /// Plans what is to be written.
    pub(super) fn begin_pass(&mut self, now: Mono) {
        let Some(entry) = self.enforced.clone() else {
            return;
        };
        let target = Attained {
            version: entry.version,
            target: entry.target,
        };
        let is_again = self.tried.replace(target) == Some(target);
        if !is_again && self.record.applied != Some(target) {
            self.begin_proving(now);
        }
        let stages = plan(&self.index.to_write, &self.index.awaited);
        // A second try of the same says what it met anew, object by object, and until then the first one's word stands.
        let mut kept = BTreeSet::new();
        if is_again {
            kept.extend(stages.iter().flat_map(|stage| stage.writes.iter().cloned()));
        }
        let problems: Vec<_> = self
            .index
            .problems
            .iter()
            .filter(|key| !kept.contains(*key))
            .cloned()
            .collect();
        for key in problems {
            self.change(&key, |object| object.pass_problem = None);
        }
        for key in self.index.withheld.clone() {
            self.change(&key, |object| {
                let why = object
                    .desired
                    .as_ref()
                    .and_then(|desired| desired.withheld.clone());
                object.pass_problem = why
                    .map(|Withholding { reason, message }| Box::new(Problem::Withheld { reason, message }));
            });
        }
        self.pass = Some(Pass {
            target,
            revision: entry.revision.clone(),
            stages: stages.into(),
            left: None,
            handed: Vec::new(),
            checks: false,
            batch: BATCH,
            closed: None,
            deadline: None,
            retry: None,
        });
        self.retry = None;
    }

    /// Begins with another target, by what is true of its objects: it is tried for the first time, or was applied.
    fn begin_proving(&mut self, now: Mono) {
        self.release_turns(now);
        self.proven_from = now + PROVING;
    }

    /// Goes on with the pass: hands out the next objects, waits, or ends.
    pub(super) fn proceed(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.running.is_none() {
            let Some(pass) = self.pass.as_mut() else { return };
            let Some(stage) = pass.stages.front() else {
                self.end_pass(now);
                return;
            };
            if pass.left.is_none() && pass.closed.is_none() {
                let after = stage.after.clone();
                match self.stage_readiness(&after) {
                    StageReadiness::Ready => {}
                    StageReadiness::Waiting(why) => {
                        let Some(pass) = self.pass.as_mut() else { return };
                        let deadline = *pass.deadline.get_or_insert(now.mono + STAGE_WAIT);
                        if now.mono < deadline {
                            return;
                        }
                        pass.closed = Some(format!("timeout waiting for: {why}").into());
                        pass.retry(Retry::Soon);
                    }
                    StageReadiness::Failed(why) => {
                        let Some(pass) = self.pass.as_mut() else { return };
                        pass.closed = Some(format!("waits for: {why}").into());
                        pass.retry(Retry::Interval);
                    }
                }
            }
            let Some(pass) = self.pass.as_mut() else { return };
            pass.deadline = None;
            if let Some(why) = pass.closed.clone() {
                let stages: Vec<StagePlan> = pass.stages.drain(..).collect();
                let rest = pass.left.take().unwrap_or_default();
                let keys = rest
                    .into_iter()
                    .chain(stages.into_iter().flat_map(|stage| stage.writes));
                for key in keys.collect::<Vec<_>>() {
                    self.change(&key, |object| {
                        object.pass_problem = Some(Box::new(Problem::Waiting(why.clone())));
                    });
                }
                continue;
            }
            if std::mem::take(&mut pass.checks) && pass.left.as_ref().is_some_and(|left| !left.is_empty()) {
                // A pass may take hours: the unit's drift does not wait for its end.
                self.begin_check(actions);
                continue;
            }
            let Some(stage) = pass.stages.front() else { return };
            let left = pass
                .left
                .get_or_insert_with(|| stage.writes.iter().cloned().collect());
            let keys: Vec<_> = left.drain(..left.len().min(pass.batch)).collect();
            if keys.is_empty() {
                self.end_stage();
                continue;
            }
            pass.handed.clone_from(&keys);
            let Some(entry) = self.enforced.clone() else {
                return;
            };
            let unit = self.entry.unit.to_string();
            let keys = keys
                .into_iter()
                .map(|key| {
                    let is_fresh = self
                        .objects
                        .get(&key)
                        .is_some_and(|object| object.is_fresh(&unit));
                    (key, is_fresh)
                })
                .collect();
            let job = self.begin_job();
            actions.push(Action::Apply { job, entry, keys });
        }
    }

    /// Whether what must be ready before a stage is.
    fn stage_readiness(&self, after: &[Arc<ObjectKey>]) -> StageReadiness {
        // What is somebody else's withholds itself and nothing after it.
        let holds_up = |object: &Object| {
            !object.is_current() && !matches!(object.problem(), Some(Problem::Withheld { .. }))
        };
        let waiting: Vec<(&Arc<ObjectKey>, HealthState)> = after
            .iter()
            .filter(|key| self.objects.get(*key).is_some_and(|object| holds_up(object)))
            .map(|key| {
                (
                    key,
                    self.objects
                        .get(key)
                        .map_or(HealthState::Unknown, |object| object.health_state()),
                )
            })
            .collect();
        if waiting.is_empty() {
            return StageReadiness::Ready;
        }
        let mut named: Vec<String> = waiting
            .iter()
            .take(NAMED)
            .map(|(key, state)| format!("{key} status: '{}'", state.as_str()))
            .collect();
        if waiting.len() > NAMED {
            named.push(format!("and {} more", waiting.len() - NAMED));
        }
        let why = format!("[{}]", named.join(", "));
        match waiting
            .iter()
            .any(|(_, state)| matches!(state, HealthState::Failed | HealthState::Terminating))
        {
            true => StageReadiness::Failed(why),
            false => StageReadiness::Waiting(why),
        }
    }

    /// Ends the present stage. A failed object leaves its own stage alone and closes the next.
    fn end_stage(&mut self) {
        let Some(pass) = self.pass.as_mut() else { return };
        pass.left = None;
        let Some(stage) = pass.stages.pop_front() else {
            return;
        };
        pass.closed =
            stage
                .writes
                .iter()
                .find_map(|key| match self.objects.get(key)?.pass_problem.as_deref()? {
                    Problem::Failed(_) => Some(format!("waits for {key}, which failed").into()),
                    Problem::Unanswered(_) => {
                        Some(format!("waits for {key}, about which there is no answer").into())
                    }
                    _ => None,
                });
    }

    /// Drops the pass under way; what it did not reach is planned again.
    pub(super) fn abandon_pass(&mut self, failed: bool, now: Now) {
        if self.pass.take().is_some() && self.to_evaluate().is_none() {
            self.retry = Some(match (failed, self.hold) {
                (true, Some(hold)) => hold,
                _ => now.mono,
            });
        }
    }

    fn end_pass(&mut self, now: Now) {
        let Some(pass) = self.pass.take() else { return };
        let again = std::mem::take(&mut self.again);
        self.removals.reconsider();
        self.dirty_unit = true;
        self.job_failure = None;
        let unanswered = self
            .index
            .problems
            .iter()
            .any(|key| matches!(self.problem(key), Some(Problem::Unanswered(_))));
        match unanswered {
            true => {
                self.silent_since.get_or_insert(now.mono);
            }
            false => self.silent_since = None,
        }
        let failed = self.index.problems.iter().any(|key| {
            self.objects
                .get(key)
                .is_some_and(|object| object.pass_problem.is_some())
        });
        if again {
            // A kind that is served now may change what is desired.
            self.evaluate_due |= self.waits_for_definition();
            self.retry = Some(now.mono);
        }
        if !failed {
            self.failures = 0;
            let is_offered = self.evaluation_failure.is_none() && pass.target == self.offered();
            if !again && is_offered {
                // Another revision may ask for the same target.
                self.record.revision = pass.revision;
            }
            if !again && is_offered && self.record.applied != Some(pass.target) {
                self.record.applied = Some(pass.target);
                self.begin_proving(now.mono);
                let took = now.wall.since(self.accepted_at).as_millis();
                self.record.apply_ms = u64::try_from(took).unwrap_or(u64::MAX);
            }
            return;
        }
        if let Some(retry) = pass.retry.filter(|_| !again) {
            self.failures = self.failures.saturating_add(1);
            self.retry = Some(now.mono + self.backoff(self.failures, retry, now));
        }
    }

    /// What the pass under way waits for before its next stage.
    pub(super) fn stage_waits_for(&self) -> Option<String> {
        let pass = self.pass.as_ref().filter(|pass| pass.deadline.is_some())?;
        match self.stage_readiness(&pass.stages.front()?.after) {
            StageReadiness::Ready => None,
            StageReadiness::Waiting(why) | StageReadiness::Failed(why) => Some(format!("waiting for: {why}")),
        }
    }

    /// Tells of a job that could not be done.
    pub(super) fn failure_message(&self) -> Option<&str> {
        match self.job_failure.as_ref()? {
            JobFailure::Unavailable(message) | JobFailure::Panicked(message) => Some(message),
        }
    }
}

enum StageReadiness {
    Ready,
    Waiting(String),
    Failed(String),
}
