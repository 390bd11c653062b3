//! The run of one unit: what was tried last, what came of it, when it is due again, and the status that follows.
//! Decides; the loop acts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::{drift::Corrections, inventory},
    backoff::Backoff,
    clock::{Timestamp, go_duration},
    digest::Digest,
    health::{
        State,
        wait::{self, Readiness as Wait},
    },
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, UnitState},
};
use flotilla_proto::agent::v1::{ObjectState, ObjectStatus, Readiness, UnitStatus};
use tokio::time::Instant;

use super::{
    context::{Context, truncate, wire_key},
    pass::{Outcome, Problem},
};
use crate::random::jittered;

/// A full verification of each unit about this often; nothing else asks the cluster without a cause.
pub const VERIFY: Duration = Duration::from_secs(3600);
/// Wait for a kind that is not served, should its definition be missed.
const UNSERVED: Duration = Duration::from_secs(60);
/// Objects named in a unit's message.
const NAMED: usize = 10;

/// One unit.
pub struct Run {
    /// The unit.
    pub id: UnitId,
    /// What the hub wants.
    pub entry: Arc<Entry>,
    /// Digest of the entry's bytes.
    pub digest: Digest,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// A job is running.
    pub busy: bool,
    /// A pass is due then.
    pub due: Option<Instant>,
    /// A full verification is due then.
    pub verify_at: Instant,
    /// Objects to look at.
    pub suspects: BTreeSet<ObjectKey>,
    /// Contested objects, and when to look at them again.
    pub contested: BTreeMap<ObjectKey, Instant>,
    /// Recent corrections by object.
    pub corrections: BTreeMap<ObjectKey, Corrections>,
    /// Objects whose row may have changed.
    pub dirty: BTreeSet<ObjectKey>,
    /// The unit's row may have changed.
    pub dirty_unit: bool,
    /// Waits for a definition.
    pub unserved: bool,
    last: Option<Last>,
    problems: BTreeMap<ObjectKey, Problem>,
    desired: Vec<ObjectKey>,
    applied: Option<Digest>,
    healthy: Option<Digest>,
    apply_ms: u64,
    failures: u32,
    waiting_since: Option<Timestamp>,
    /// The present wait has failed; told once.
    told: Option<String>,
    panicked: Option<String>,
    stopped: Option<String>,
    /// Since when the server has not answered.
    silent_since: Option<Timestamp>,
}

struct Last {
    target: Digest,
    revision: String,
    evaluation: Option<(&'static str, String)>,
    idle: bool,
}

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
    /// Begins a unit; it is due at once.
    pub fn new(id: UnitId, entry: Arc<Entry>, digest: Digest, accepted_at: Timestamp, now: Instant) -> Self {
        let spread = u32::from(id.0.as_bytes()[15]);
        Self {
            id,
            entry,
            digest,
            accepted_at,
            busy: false,
            due: Some(now),
            verify_at: now + VERIFY / 2 + VERIFY / 2 * spread / 256,
            suspects: BTreeSet::new(),
            contested: BTreeMap::new(),
            corrections: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_unit: true,
            unserved: false,
            last: None,
            problems: BTreeMap::new(),
            desired: Vec::new(),
            applied: None,
            healthy: None,
            apply_ms: 0,
            failures: 0,
            waiting_since: None,
            told: None,
            panicked: None,
            stopped: None,
            silent_since: None,
        }
    }

    /// Tells whether the unit's objects are applied and enforced.
    pub fn is_active(&self) -> bool {
        self.entry.state == UnitState::Active
    }

    /// Tells whether the last pass lacked content, which only an acceptance brings.
    pub fn lacks_content(&self) -> bool {
        let evaluation = self.last.as_ref().and_then(|last| last.evaluation.as_ref());
        evaluation.is_some_and(|(reason, _)| *reason == "ContentMissing")
    }

    /// Takes a newer entry of the same unit. Returns whether a full look was asked for.
    pub fn replace(
        &mut self,
        entry: Arc<Entry>,
        digest: Digest,
        accepted_at: Timestamp,
        now: Instant,
    ) -> bool {
        let requested = entry.requested != self.entry.requested && !entry.requested.is_empty();
        self.entry = entry;
        self.digest = digest;
        self.accepted_at = accepted_at;
        self.due = Some(now);
        self.failures = 0;
        self.told = None;
        self.dirty_unit = true;
        requested
    }

    /// Takes in what came of a pass.
    pub fn passed(
        &mut self,
        context: &Context,
        target: Digest,
        revision: String,
        outcome: Outcome,
        now: Instant,
    ) {
        self.panicked = None;
        self.stopped = None;
        self.dirty
            .extend(outcome.problems.keys().chain(self.problems.keys()).cloned());
        self.dirty
            .extend(outcome.desired.iter().chain(&self.desired).cloned());
        self.dirty_unit = true;
        self.unserved = outcome.unserved;
        self.last = Some(Last {
            target,
            revision,
            evaluation: outcome
                .evaluation
                .as_ref()
                .map(|error| (error.reason(), error.to_string())),
            idle: outcome.idle,
        });
        if !outcome.idle {
            self.desired = outcome.desired;
            self.problems = outcome.problems;
        }
        let silent = |problem: &Problem| matches!(problem, Problem::Unanswered(_));
        self.silent_since = match self.problems.values().any(silent) {
            true => self.silent_since.or_else(|| Some(context.now())),
            false => None,
        };
        let settings = &self.entry.settings;
        if outcome.evaluation.is_none() && self.problems.is_empty() {
            if self.applied != Some(target) {
                let took = context.now().since(self.accepted_at);
                self.apply_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                self.waiting_since = Some(context.now());
                self.told = None;
            }
            self.applied = Some(target);
            self.failures = 0;
            self.due = None;
        } else {
            let wait = if outcome.unserved {
                UNSERVED.min(settings.retry_interval.max(Duration::from_secs(1)))
            } else if outcome.transient {
                backoff(self.failures, settings.retry_interval)
            } else {
                settings.retry_interval.max(Duration::from_secs(1))
            };
            self.failures = self.failures.saturating_add(1);
            // Content that is not here comes by acceptance, which makes the unit due.
            let missing = outcome
                .evaluation
                .is_some_and(|error| error.reason() == "ContentMissing");
            self.due = (!missing).then(|| now + wait);
        }
    }

    /// Takes in what came of a look at suspicious objects.
    pub fn checked(&mut self, checked: super::drift::Checked, wall: Timestamp, now: Instant) {
        self.corrections = checked.corrections;
        self.corrections
            .retain(|_, corrections| *corrections != Corrections::default());
        for key in checked.settled {
            self.contested.remove(&key);
            if matches!(
                self.problems.get(&key),
                Some(Problem::Failed(_) | Problem::Unanswered(_))
            ) {
                self.problems.remove(&key);
            }
            self.dirty.insert(key);
        }
        for (key, until) in checked.contested {
            self.dirty.insert(key.clone());
            self.contested
                .insert(key, now + until.since(wall).max(Duration::from_secs(1)));
        }
        if !checked.problems.is_empty() {
            self.failures = self.failures.saturating_add(1);
            let wait = backoff(self.failures, self.entry.settings.retry_interval);
            for (key, problem) in checked.problems {
                if matches!(problem, Problem::Unanswered(_)) {
                    self.silent_since.get_or_insert(wall);
                }
                self.dirty.insert(key.clone());
                self.contested.insert(key.clone(), now + wait);
                self.problems.insert(key, problem);
            }
        }
        self.dirty.extend(checked.gone);
        self.dirty_unit = true;
    }

    /// Takes in that a job panicked: this unit's status, and nothing else's.
    pub fn panicked(&mut self, message: String, now: Instant) {
        self.panicked = Some(message);
        self.dirty_unit = true;
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + self.entry.settings.retry_interval.max(Duration::from_secs(60)));
    }

    /// Takes in that a job could not be done at all: the ledger or discovery does not answer.
    pub fn stopped(&mut self, message: String, wall: Timestamp, now: Instant) {
        self.stopped = Some(message);
        self.silent_since = self.silent_since.or(Some(wall));
        self.dirty_unit = true;
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + backoff(self.failures, self.entry.settings.retry_interval));
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

    /// Returns when the loop has to look at this unit again, work that is due left aside.
    pub fn wakes(&self, context: &Context, now: Instant) -> Option<Instant> {
        let contested = self.contested.values().min().copied();
        let health = self.health_deadline(context, now);
        [self.due, Some(self.verify_at), contested, health]
            .into_iter()
            .flatten()
            .min()
    }

    fn health_deadline(&self, context: &Context, now: Instant) -> Option<Instant> {
        let since = self
            .waiting_since
            .filter(|_| self.entry.settings.wait && self.healthy != self.applied)?;
        let passed = context.now().since(since);
        let left = self.entry.settings.timeout.checked_sub(passed)?;
        Some(now + left)
    }

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
        let bytes = |digest: Option<Digest>| {
            digest
                .map(|digest| bytes::Bytes::copy_from_slice(digest.as_bytes()))
                .unwrap_or_default()
        };
        context.reports.unit(
            self.id,
            UnitStatus {
                unit_id: self.id.to_vec().into(),
                version: self.entry.version,
                attempted: bytes(self.last.as_ref().map(|last| last.target)),
                applied: bytes(self.applied),
                healthy: bytes(self.healthy),
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

/// Soon at first, then later and later, never later than the unit's retry interval.
fn backoff(failures: u32, most: Duration) -> Duration {
    let backoff = Backoff {
        base: Duration::from_secs(1),
        cap: most.max(Duration::from_secs(1)),
    };
    // Half of the wait is certain: an API server that just refused is not asked again at once.
    let bound = backoff.bound(failures.saturating_add(1));
    bound / 2 + jittered(bound / 2)
}
