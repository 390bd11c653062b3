//! What a unit's status says, and that of its objects: from what was tried and seen to the rows that the hub gets.

use std::time::Duration;

use flotilla_core::{
    apply::inventory,
    clock::go_duration,
    digest::Digest,
    health::{
        State,
        wait::{self, Readiness as Wait},
    },
    object::ObjectKey,
    unit::UnitState,
};
use flotilla_proto::agent::v1::{Attained, ObjectState, ObjectStatus, Readiness, UnitStatus};

use super::Run;
use crate::reconcile::{
    context::{Context, truncate, wire_key},
    pass::Problem,
};

/// Objects named in a unit's message.
const NAMED: usize = 10;

/// What a unit's status says, before it is written for the wire.
struct Condition {
    ready: Readiness,
    reason: String,
    message: String,
}

fn condition(ready: Readiness, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        ready,
        reason: reason.to_owned(),
        message: message.into(),
    }
}

impl Run {
    /// Judges health and writes the unit's row.
    pub fn report(&mut self, context: &Context) {
        let objects: Vec<wait::Checked> = self
            .desired
            .iter()
            .filter(|key| !self.problems.contains_key(key))
            .map(|key| wait::Checked {
                key: key.clone(),
                health: context.live.health(self.id, key),
                may_vanish: key.group == "batch" && key.kind == "Job",
            })
            .collect();
        let current = objects.iter().all(|object| object.health.state == State::Current);
        if current && self.problems.is_empty() && self.applied.is_some() && self.healthy != self.applied {
            self.healthy = self.applied;
            if self.entry.settings.wait {
                let took = self
                    .waiting_since
                    .map_or(Duration::ZERO, |since| context.now().since(since));
                context.event(
                    self.id,
                    None,
                    false,
                    "ReconciliationSucceeded",
                    format!("Health check passed in {}", go_duration(took)),
                );
            }
        }
        let mut condition = self.condition(context, &objects);
        truncate(&mut condition.message, 4096);
        if condition.ready == Readiness::False && self.told.as_ref() != Some(&condition.message) {
            context.event(self.id, None, true, &condition.reason, condition.message.clone());
            self.told = Some(condition.message.clone());
        }
        let pending = context.ledger.read(|state| {
            state.units.get(&self.id).map_or(0, |unit| {
                let removal = |record: &&inventory::Record| record.state == inventory::State::PendingRemoval;
                unit.items.values().filter(removal).count()
            })
        });
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let attained = |target: Option<Digest>| {
            target.map(|target| Attained {
                version: self.entry.version,
                target: bytes::Bytes::copy_from_slice(target.as_bytes()),
            })
        };
        context.reports.unit(
            self.id,
            UnitStatus {
                unit_id: self.id.to_vec().into(),
                held_version: self.entry.version,
                attempted: attained(self.last.as_ref().map(|last| last.target)),
                applied: attained(self.applied),
                healthy: attained(self.healthy),
                healthy_since_ms: 0,
                ready: condition.ready as i32,
                reason: condition.reason,
                message: condition.message,
                observed_at_ms: context.now().0,
                objects: count(self.desired.len()),
                objects_failed: count(self.problems.len()),
                objects_pending_removal: count(pending),
                apply_ms: self.apply_ms,
                health: overall(&objects).to_owned(),
            },
        );
    }

    fn condition(&self, context: &Context, objects: &[wait::Checked]) -> Condition {
        match &self.entry.state {
            UnitState::Active => {}
            UnitState::Suspended => {
                return condition(Readiness::Unknown, "Suspended", "kept as it is, not enforced");
            }
            UnitState::Detached => {
                return condition(
                    Readiness::Unknown,
                    "Detached",
                    "let go: kept as it is, not enforced",
                );
            }
            UnitState::Removing { .. } => {
                return condition(
                    Readiness::False,
                    "NotSupported",
                    "removal is not supported by this agent: kept as it is, not enforced",
                );
            }
        }
        if let Some(message) = &self.panicked {
            return condition(Readiness::False, "ReconciliationFailed", message.clone());
        }
        if let Some(message) = &self.stopped {
            let (ready, reason) = self.silence(context);
            return condition(ready, reason, message.clone());
        }
        let Some(last) = &self.last else {
            return condition(Readiness::Unknown, "Progressing", "Reconciliation in progress");
        };
        if let Some((reason, message)) = &last.evaluation {
            let kept = if last.idle {
                ""
            } else {
                "; the last good state is enforced"
            };
            return condition(Readiness::False, reason, format!("{message}{kept}"));
        }
        if last.target != self.entry.target {
            return condition(Readiness::Unknown, "Progressing", "Reconciliation in progress");
        }
        if !self.problems.is_empty() {
            return self.problem(context);
        }
        let settings = &self.entry.settings;
        if settings.wait
            && let Some(since) = self.waiting_since
        {
            return match wait::ready(objects, since, context.now(), settings.timeout) {
                Wait::Ready => applied(&last.revision),
                Wait::Waiting { pending, .. } => condition(
                    Readiness::Unknown,
                    "Progressing",
                    format!(
                        "Running health checks for revision {} with a timeout of {}: waiting for {}",
                        last.revision,
                        go_duration(settings.timeout),
                        named(pending.iter().map(ToString::to_string))
                    ),
                ),
                Wait::Failed { message } => condition(Readiness::False, "HealthCheckFailed", message),
            };
        }
        applied(&last.revision)
    }

    fn problem(&self, context: &Context) -> Condition {
        let withheld = self.problems.values().find_map(|problem| match problem {
            Problem::Withheld { reason, .. } => Some(*reason),
            _ => None,
        });
        let failed = self
            .problems
            .values()
            .any(|problem| matches!(problem, Problem::Failed(_)));
        let silent = self
            .problems
            .values()
            .any(|problem| matches!(problem, Problem::Unanswered(_)));
        let (ready, reason) = match (failed, withheld) {
            (true, _) => (Readiness::False, "ReconciliationFailed"),
            (false, _) if silent => self.silence(context),
            (false, Some(reason)) => (Readiness::False, reason),
            (false, None) if self.unserved => (Readiness::Unknown, "Progressing"),
            (false, None) => (Readiness::False, "ReconciliationFailed"),
        };
        // Failures first: what merely waits for them says less.
        let mut problems: Vec<&Problem> = self.problems.values().collect();
        problems.sort_by_key(|problem| match problem {
            Problem::Failed(_) => 0,
            Problem::Unanswered(_) => 1,
            Problem::Withheld { .. } => 2,
            Problem::Waiting(_) => 3,
        });
        condition(
            ready,
            reason,
            named(problems.into_iter().map(|problem| problem.message().to_owned())),
        )
    }

    /// Writes the row of one object.
    pub fn report_object(&self, context: &Context, key: &ObjectKey) {
        let record = context.ledger.read(|state| {
            state
                .units
                .get(&self.id)
                .and_then(|unit| unit.items.get(key).cloned())
        });
        let problem = self.problems.get(key);
        let state = match (&record, problem) {
            (_, Some(Problem::Failed(_))) => ObjectState::Failed,
            (_, Some(Problem::Withheld { .. })) => ObjectState::Conflict,
            (_, Some(Problem::Waiting(_) | Problem::Unanswered(_))) => ObjectState::Waiting,
            (None, None) => ObjectState::Gone,
            (Some(record), None) => match record.state {
                inventory::State::Intent => ObjectState::Waiting,
                inventory::State::Applied => ObjectState::Applied,
                inventory::State::PendingRemoval => ObjectState::PendingRemoval,
            },
        };
        let health = context.live.health(self.id, key);
        let message = problem.map_or(health.message, |problem| problem.message().to_owned());
        let sent = record.as_ref().and_then(|record| record.sent);
        context.reports.object(
            self.id,
            key.clone(),
            ObjectStatus {
                unit_id: self.id.to_vec().into(),
                key: Some(wire_key(key)),
                api_version: record
                    .as_ref()
                    .map(|record| record.api_version.clone())
                    .unwrap_or_default(),
                state: state as i32,
                uid: record
                    .as_ref()
                    .and_then(|record| record.uid.clone())
                    .unwrap_or_default(),
                health: health.state.as_str().to_owned(),
                message,
                adopted: record.as_ref().is_some_and(|record| record.adopted),
                sent: sent
                    .map(|sent| bytes::Bytes::copy_from_slice(sent.as_bytes()))
                    .unwrap_or_default(),
            },
        );
    }
    /// What a silence means: nothing is known while it is young, and it is a failure once it has outlasted the
    /// unit's timeout.
    fn silence(&self, context: &Context) -> (Readiness, &'static str) {
        let since = self.silent_since.unwrap_or_else(|| context.now());
        match context.now().since(since) < self.entry.settings.timeout {
            true => (Readiness::Unknown, "Unanswered"),
            false => (Readiness::False, "ReconciliationFailed"),
        }
    }
}

fn applied(revision: &str) -> Condition {
    condition(
        Readiness::True,
        "ReconciliationSucceeded",
        format!("Applied revision: {revision}"),
    )
}

fn named(mut texts: impl Iterator<Item = String>) -> String {
    let first: Vec<String> = texts.by_ref().take(NAMED).collect();
    match texts.count() {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}

/// The health of all objects in one word: the worst there is.
fn overall(objects: &[wait::Checked]) -> &'static str {
    let rank = |state: State| match state {
        State::Current => 0,
        State::Unknown => 1,
        State::InProgress => 2,
        State::Terminating => 3,
        State::NotFound => 4,
        State::Failed => 5,
    };
    objects
        .iter()
        .map(|object| object.health.state)
        .max_by_key(|state| rank(*state))
        .unwrap_or(State::Current)
        .as_str()
}
