//! What a unit's status says: from what was tried and observed to a condition, to what was attained, and to the
//! events that tell of a change.

use std::{sync::Arc, time::Duration};

use super::{
    UnitState,
    event::{Action, JobFailure, Notice},
    now::{Mono, Now},
    object::Object,
    problem::Problem,
    record::{Condition, Ready},
    state::State,
};
use crate::{
    apply::inventory::{Record, State as RecordState},
    clock::go_duration,
    digest::Digest,
    health::State as HealthState,
    object::ObjectKey,
};

/// Objects named in a unit's message.
const NAMED: usize = 10;

/// How a unit's objects count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Desired.
    pub objects: usize,
    /// With a problem.
    pub failed: usize,
    /// No longer desired, still there.
    pub pending_removal: usize,
}

impl State {
    /// Counts the unit's objects.
    pub fn counts(&self) -> Counts {
        Counts {
            objects: self
                .objects
                .values()
                .filter(|object| self.counts_as_desired(object))
                .count(),
            failed: match self.earlier_word_stands() {
                true => self.record.failed,
                false => self.index.problems.len(),
            },
            pending_removal: self.index.leaving.len(),
        }
    }

    /// Tells whether what was told before a restart stands: too little is known yet.
    fn earlier_word_stands(&self) -> bool {
        !self.is_evaluated || self.restoring.is_some()
    }

    /// Until it is evaluated what is desired, all of the inventory counts that had not left.
    fn counts_as_desired(&self, object: &Object) -> bool {
        let is_kept = |record: &Record| record.state != RecordState::PendingRemoval;
        object.desired.is_some() || (!self.is_evaluated && object.record.as_ref().is_some_and(is_kept))
    }

    /// The health of all objects in one word: the worst there is. After a restart the last word stands until all
    /// objects were seen.
    pub fn health(&self) -> HealthState {
        if self.earlier_word_stands() {
            return self.record.health.unwrap_or(HealthState::Unknown);
        }
        let rank = |state: HealthState| match state {
            HealthState::Current => 0,
            HealthState::Unknown => 1,
            HealthState::InProgress => 2,
            HealthState::Terminating => 3,
            HealthState::NotFound => 4,
            HealthState::Failed => 5,
        };
        self.index
            .unhealthy
            .iter()
            .filter_map(|key| self.objects.get(key))
            .map(Object::health_state)
            .max_by_key(|state| rank(*state))
            .unwrap_or(HealthState::Current)
    }

    /// The unit's condition, as it was settled last.
    pub fn condition(&self) -> Condition {
        self.record.condition.clone().unwrap_or_else(progressing)
    }

    /// When the status changes by time alone.
    pub(super) fn status_deadline(&self, now: Mono) -> Option<Mono> {
        let timeout = self.entry.settings.timeout;
        let unhealthy = self
            .health_deadline
            .filter(|_| self.entry.settings.wait && self.is_applied());
        let silent = self
            .silent_since
            .filter(|_| !self.index.problems.is_empty() || self.job_failure.is_some())
            .map(|since| since + timeout);
        [unhealthy, silent]
            .into_iter()
            .flatten()
            .filter(|deadline| *deadline > now)
            .min()
    }

    fn is_applied(&self) -> bool {
        self.record.applied == Some(self.offered())
    }

    /// Takes in what the rows say now: health and its clocks, the condition, and an event when that is news.
    pub(super) fn settle_status(&mut self, now: Now, actions: &mut Vec<Action>) {
        let is_seen = self.enforced.is_some() && self.index.unseen.is_empty();
        let is_idle = !self.evaluate_due && self.running.is_none() && self.pass.is_none();
        if !self.is_active() || (is_seen && is_idle) {
            self.dirty_unit |= self.restoring.take().is_some();
        }
        if self.restoring.is_some() {
            return;
        }
        self.settle_health(now);
        if !self.earlier_word_stands() {
            (self.record.health, self.record.failed) = (Some(self.health()), self.index.problems.len());
        }
        let condition = self.judge_condition(now.mono);
        if self.record.condition.as_ref() != Some(&condition) {
            self.dirty_unit = true;
            self.tell(&condition, actions);
            self.record.condition = Some(condition);
        }
    }

    fn settle_health(&mut self, now: Now) {
        if !self.is_active() || !self.is_applied() {
            return;
        }
        if self.index.unhealthy.is_empty() {
            if self.record.healthy != self.record.applied {
                self.record.healthy = self.record.applied;
                self.record.healthy_since = None;
            }
            self.record.healthy_since.get_or_insert(now.wall);
            self.health_deadline = None;
            self.record.unhealthy_since = None;
        } else if self.health_deadline.is_none() {
            self.record.healthy_since = None;
            self.health_deadline = Some(now.mono + self.entry.settings.timeout);
            self.record.unhealthy_since = Some(now.wall);
        }
    }

    /// A change of (ready, reason, objects concerned) is told once; what is under way is not.
    fn tell(&mut self, condition: &Condition, actions: &mut Vec<Action>) {
        if condition.ready == Ready::Unknown || !self.is_active() {
            return;
        }
        let concerned: Vec<&ObjectKey> = match condition.ready {
            Ready::True => Vec::new(),
            _ if condition.reason == "HealthCheckFailed" => {
                self.index.unhealthy.iter().map(Arc::as_ref).collect()
            }
            _ => self.index.problems.iter().map(Arc::as_ref).collect(),
        };
        let version = self.record.attempted.map(|attempted| attempted.version);
        let news = Digest::of_json(
            "condition",
            &(condition.ready, &condition.reason, concerned, version),
        );
        if self.record.reported == Some(news) {
            return;
        }
        self.record.reported = Some(news);
        actions.push(Action::Tell(Notice {
            key: None,
            warning: condition.ready == Ready::False,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }));
    }

    fn judge_condition(&self, now: Mono) -> Condition {
        match &self.entry.state {
            UnitState::Active => {}
            UnitState::Suspended => {
                return Condition::new(Ready::Unknown, "Suspended", "kept as it is, not enforced");
            }
            UnitState::Detached => {
                return Condition::new(Ready::Unknown, "Detached", "let go: kept as it is, not enforced");
            }
            UnitState::Removing { .. } => {
                return Condition::new(
                    Ready::False,
                    "NotSupported",
                    "removal is not supported by this agent: kept as it is, not enforced",
                );
            }
        }
        if let Some(message) = self.failure_message() {
            let (ready, reason) = match self.job_failure {
                Some(JobFailure::Panicked(_)) => (Ready::False, "ReconciliationFailed"),
                _ => self.silence(now),
            };
            return Condition::new(ready, reason, message);
        }
        if let Some(edge) = &self.edge {
            return Condition::new(Ready::False, "DependencyNotReady", edge.clone());
        }
        if self.record.attempted != Some(self.offered()) {
            return progressing();
        }
        if let Some(failure) = &self.evaluation_failure {
            let kept = match self.enforced.is_some() {
                true => "; the last good state is enforced",
                false => "",
            };
            return Condition::new(Ready::False, failure.reason, format!("{}{kept}", failure.message));
        }
        if !self.index.problems.is_empty() {
            return self.problems_condition(now);
        }
        if !self.is_applied() {
            return match self.stage_waits_for() {
                Some(why) => Condition::new(Ready::Unknown, "Progressing", why),
                None => progressing(),
            };
        }
        if self.entry.settings.wait && !self.index.unhealthy.is_empty() {
            return self.health_condition(now);
        }
        Condition::new(
            Ready::True,
            "ReconciliationSucceeded",
            format!("Applied revision: {}", self.record.revision),
        )
    }

    fn health_condition(&self, now: Mono) -> Condition {
        let timeout = self.entry.settings.timeout;
        let stalled: Vec<&Arc<ObjectKey>> = self
            .index
            .unhealthy
            .iter()
            .filter(|key| {
                self.objects
                    .get(*key)
                    .is_some_and(|object| object.health_state() == HealthState::Failed)
            })
            .collect();
        let is_over = self.health_deadline.is_some_and(|deadline| now >= deadline);
        let failed = |why: &str, keys: &mut dyn Iterator<Item = &Arc<ObjectKey>>| {
            let objects = keys.map(|key| self.describe(key));
            Condition::new(
                Ready::False,
                "HealthCheckFailed",
                format!("health check failed{why}: [{}]", named(objects, ", ")),
            )
        };
        if !stalled.is_empty() {
            return failed(
                ": failed early due to stalled resources",
                &mut stalled.into_iter(),
            );
        }
        if is_over {
            let after = format!(" after {}: timeout waiting for", go_duration(timeout));
            return failed(&after, &mut self.index.unhealthy.iter());
        }
        let waiting = self.index.unhealthy.iter().map(ToString::to_string);
        Condition::new(
            Ready::Unknown,
            "Progressing",
            format!(
                "Running health checks for revision {} with a timeout of {}: waiting for {}",
                self.record.revision,
                go_duration(timeout),
                named(waiting, "; ")
            ),
        )
    }

    fn describe(&self, key: &Arc<ObjectKey>) -> String {
        let Some(object) = self.objects.get(key) else {
            return key.to_string();
        };
        let state = object.health_state();
        let said = object
            .observed
            .as_ref()
            .map(|observed| observed.health.message.as_str())
            .filter(|message| {
                !message.is_empty() && matches!(state, HealthState::Unknown | HealthState::Failed)
            });
        match said {
            Some(message) => format!("{key} status: '{}': {message}", state.as_str()),
            None => format!("{key} status: '{}'", state.as_str()),
        }
    }

    fn problems_condition(&self, now: Mono) -> Condition {
        let mut problems: Vec<&Problem> = self
            .index
            .problems
            .iter()
            .filter_map(|key| self.problem(key))
            .collect();
        problems.sort_by_key(|problem| problem.rank());
        let (ready, reason) = match problems.first() {
            Some(Problem::Unanswered(_)) => self.silence(now),
            Some(Problem::Withheld { reason, .. }) => (Ready::False, *reason),
            Some(Problem::Unserved(_)) => (Ready::Unknown, "Progressing"),
            _ => (Ready::False, "ReconciliationFailed"),
        };
        let messages = problems.into_iter().map(|problem| problem.message().to_owned());
        Condition::new(ready, reason, named(messages, "; "))
    }

    /// What a silence means: nothing is known while it is young, and it is a failure once it has outlasted the
    /// unit's timeout.
    fn silence(&self, now: Mono) -> (Ready, &'static str) {
        let lasted = self.silent_since.map_or(Duration::ZERO, |since| now.since(since));
        match lasted < self.entry.settings.timeout {
            true => (Ready::Unknown, "Unanswered"),
            false => (Ready::False, "ReconciliationFailed"),
        }
    }
}

fn progressing() -> Condition {
    Condition::new(Ready::Unknown, "Progressing", "Reconciliation in progress")
}

fn named(mut texts: impl Iterator<Item = String>, between: &str) -> String {
    let first: Vec<String> = texts.by_ref().take(NAMED).collect();
    match texts.count() {
        0 => first.join(between),
        more => format!("{}{between}and {more} more", first.join(between)),
    }
}
