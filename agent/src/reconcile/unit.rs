//! The run of one unit: what was tried last, what came of it, and when it is due again; [`status`] says what follows.
//! Decides; the loop acts.

mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{
    apply::drift::Corrections,
    backoff::Backoff,
    clock::Timestamp,
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, UnitState},
};
use tokio::time::Instant;

use super::{
    context::Context,
    pass::{Outcome, Problem},
};
use crate::random::jittered;

/// A full verification of each unit about this often; nothing else asks the cluster without a cause.
pub const VERIFY: Duration = Duration::from_secs(3600);
/// Wait for a kind that is not served, should its definition be missed.
const UNSERVED: Duration = Duration::from_secs(60);
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
            .retain(|_, corrections| !corrections.is_empty(wall));
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
