//! What a unit's status says: from what was tried and observed to a condition, to what was attained, and to the
//! events that tell of a change.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    UnitState,
    event::{Action, JobFailure, Notice},
    now::{Mono, Now},
    problem::Problem,
    record::{Condition, Ready},
    state::State,
};
use crate::{
    clock::go_duration, digest::Digest, health::State as HealthState, object::ObjectKey, status::GONE,
    units::Standing,
};

/// What a unit says that desires no object.
const EMPTY: &str = "nothing in it is for this cluster: its path holds no manifests, or none that go here";
/// Objects named in a unit's message.
const NAMED: usize = 10;
/// Problems that are looked through for these.
const LOOKED_THROUGH: usize = 200;
/// Objects named of those that are merely worth a note.
const NOTED: usize = 3;
/// How often it is told and saved at most that more or fewer objects are concerned by what was told before.
const EXTENT: Duration = Duration::from_secs(60);

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

/// How a unit's objects stand, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Written, and as far as is known as they should be.
    pub applied: usize,
    /// Refused by the server.
    pub failed: usize,
    /// For an answer, a definition or something before them, or not written yet.
    pub waiting: usize,
    /// Somebody else's.
    pub conflict: usize,
    /// No longer desired, still there.
    pub pending_removal: usize,
}

impl State {
    /// Counts the unit's objects by how they stand. Walks over none of them.
    pub fn tally(&self) -> Tally {
        let index = &self.index;
        let problems = |rank| index.by_rank.count(rank);
        let waiting = [Problem::UNANSWERED, Problem::UNSERVED, Problem::WAITING];
        // A problem says more than the inventory.
        let mut tally = Tally {
            applied: 0,
            failed: problems(Problem::FAILED),
            waiting: index.unwritten.len() - index.problems_unwritten
                + waiting.into_iter().map(problems).sum::<usize>(),
            conflict: problems(Problem::WITHHELD),
            // What cannot be deleted is still pending.
            pending_removal: index.leaving.len() - index.problems_leaving + problems(Problem::UNPRUNED),
        };
        let others = tally.failed + tally.waiting + tally.conflict + tally.pending_removal;
        tally.applied = self.objects.len().saturating_sub(others);
        tally
    }

    /// Whether the unit is ready, as was settled last.
    pub fn ready(&self) -> Ready {
        let said = self.record.condition.as_ref();
        said.map_or(Ready::Unknown, |condition| condition.ready)
    }

    /// Counts the unit's objects.
    pub fn counts(&self) -> Counts {
        Counts {
            // Until it is evaluated what is desired, all of the inventory counts that had not left.
            objects: self.objects.len().saturating_sub(match self.knows_desired {
                true => self.index.undesired.len(),
                false => self.index.leaving.len(),
            }),
            failed: match self.earlier_word_stands() {
                true => self.record.failed,
                false => self.index.problems.len(),
            },
            pending_removal: self.index.leaving.len(),
        }
    }

    /// Tells whether what was told before a restart stands: too little is known yet.
    fn earlier_word_stands(&self) -> bool {
        !self.knows_desired || self.restoring.is_some() || self.awaits_lists()
    }

    /// The health of all objects in one word: the worst there is. After a restart the last word stands until all
    /// objects were seen.
    pub fn health(&self) -> HealthState {
        if self.earlier_word_stands() {
            return self.record.health.unwrap_or(HealthState::Unknown);
        }
        let from_worst = [
            HealthState::Failed,
            HealthState::NotFound,
            HealthState::Terminating,
            HealthState::InProgress,
            HealthState::Unknown,
        ];
        from_worst
            .into_iter()
            .find(|state| self.index.by_health.count(*state) > 0)
            .unwrap_or(HealthState::Current)
    }

    /// The unit's condition, as it was settled last.
    pub fn condition(&self) -> Condition {
        self.record.condition.clone().unwrap_or_else(progressing)
    }

    /// Where the unit stands for those that wait for it. One that is suspended stays what it was, as with Flux; one that is
    /// to be removed, or let go of, is nothing to rely on.
    pub fn standing(&self) -> Standing {
        let said = self.record.condition.as_ref();
        let ready = match self.entry.state {
            UnitState::Active => said.is_some_and(|condition| condition.ready == Ready::True),
            UnitState::Suspended => !self.judges_health() || self.record.healthy == self.record.applied,
            UnitState::Detached | UnitState::Removing(_) => false,
        };
        Standing {
            ready: ready && self.is_applied(),
            applied: self.record.applied.map(|applied| applied.version),
            said: self.said,
        }
    }

    /// Tells whether the unit is ready only once its objects, or others that it names, are healthy.
    pub(super) fn judges_health(&self) -> bool {
        self.entry.settings.wait || !self.entry.settings.health.objects.is_empty()
    }

    /// What is said of the unit, in the shape of a Flux object's status.
    pub fn flux_status(&self) -> Value {
        let condition = self.condition();
        let revision = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "conditions": [{
                "type": "Ready",
                "status": condition.ready.as_str(),
                "reason": condition.reason,
                "message": condition.message,
            }],
            "lastAppliedRevision": revision(&self.record.revision),
            "lastAttemptedRevision": revision(&self.entry.revision),
        })
    }

    /// When the status changes by time alone.
    pub(super) fn status_deadline(&self, now: Mono) -> Option<Mono> {
        let timeout = self.entry.settings.timeout;
        let unhealthy = self
            .health_deadline
            .filter(|_| self.entry.settings.wait && self.is_applied() && !self.awaits_lists());
        let silent = self
            .silent_since
            .filter(|_| !self.index.problems.is_empty() || self.job_failure.is_some())
            .map(|since| since + timeout);
        let extent = self.extent_from.filter(|_| self.has_held_extent);
        let unserved = self.unserved_since.map(|since| since + timeout);
        [unhealthy, silent, extent, unserved, self.check_deadline()]
            .into_iter()
            .flatten()
            .filter(|deadline| *deadline > now)
            .min()
    }

    pub(super) fn is_applied(&self) -> bool {
        self.record.applied == Some(self.offered())
    }

    /// Takes in what the rows say now: health and its clocks, the condition, and an event when that is news.
    pub(super) fn settle_status(&mut self, now: Now, actions: &mut Vec<Action>) {
        let is_seen = self.knows_desired && self.index.unseen.is_empty();
        let is_idle =
            (!self.evaluate_due || self.edge.is_some()) && self.running.is_none() && self.pass.is_none();
        if !self.is_active() || (is_seen && is_idle) {
            self.dirty_unit |= self.restoring.take().is_some();
        }
        if self.restoring.is_some() {
            return;
        }
        self.settle_health(now);
        self.settle_looks(now.mono);
        let failed = self.record.failed;
        self.settle_unserved(now.mono);
        if !self.earlier_word_stands() {
            (self.record.health, self.record.failed) = (Some(self.health()), self.index.problems.len());
        }
        let condition = self.judge_condition(now.mono);
        let is_news = self.record.condition.as_ref() != Some(&condition);
        self.dirty_unit |= is_news;
        let was_held = self.has_held_extent;
        let is_same_word = self.is_as_told_but_for_the_message(&condition);
        if is_same_word && condition.ready != Ready::True {
            let is_extent = is_news || failed != self.record.failed;
            if (is_extent || was_held) && self.holds_extent(now.mono) {
                self.skip_saving_extent(&condition);
                self.say(condition);
                return;
            }
        } else {
            (self.extent_from, self.has_held_extent) = (None, false);
        }
        if is_news || was_held {
            self.tell(&condition, actions);
            // How far something has come that is under way is told, and is not worth a write: a restart finds out anew.
            if condition.ready == Ready::Unknown && is_same_word {
                self.skip_saving_condition(&condition);
            }
            self.say(condition);
        }
    }

    fn say(&mut self, condition: Condition) {
        self.said += 1;
        self.record.condition = Some(condition);
    }

    /// Tells whether a change of how many objects are concerned waits: each of many that recover or fail one after the
    /// other is neither told nor saved by itself.
    fn holds_extent(&mut self, now: Mono) -> bool {
        let is_early = self.extent_from.is_some_and(|from| now < from);
        if !is_early {
            self.extent_from = Some(now + EXTENT);
            self.is_unsaved |= self.has_held_extent;
        }
        self.has_held_extent = is_early;
        is_early
    }

    fn is_as_told_but_for_the_message(&self, condition: &Condition) -> bool {
        let told = self.record.condition.as_ref();
        told.is_some_and(|told| (told.ready, &told.reason) == (condition.ready, &condition.reason))
    }

    fn settle_health(&mut self, now: Now) {
        if !self.is_active() || !self.is_applied() || self.earlier_word_stands() {
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

    /// A kind is waited for as long as its objects have no other problem, and no longer than a unit may take.
    fn settle_unserved(&mut self, now: Mono) {
        let worst = self
            .index
            .by_rank
            .iter()
            .next()
            .and_then(|(_, key)| self.problem(key));
        match self.is_active() && matches!(worst, Some(Problem::Unserved(_))) {
            true => drop(self.unserved_since.get_or_insert(now)),
            // A pass under way may have forgotten what it is going to find again.
            false => self.unserved_since = self.unserved_since.filter(|_| self.pass.is_some()),
        }
    }

    /// A change of (ready, reason) is told once, and that more objects are concerned; what is under way is not, nor
    /// each further object that a pass under way meets, nor that fewer are.
    fn tell(&mut self, condition: &Condition, actions: &mut Vec<Action>) {
        if condition.ready == Ready::Unknown || !self.is_active() {
            return;
        }
        let version = self.record.attempted.map(|attempted| attempted.version);
        let word = Digest::of_json("word", &(condition.ready, &condition.reason, version));
        let is_told = self.told == Some(word);
        if self.pass.is_some() && is_told {
            return;
        }
        let mut concerned = match condition.ready {
            Ready::True => None,
            _ if condition.reason == "HealthCheckFailed" => Some(&mut self.index.unhealthy_extent),
            _ => Some(&mut self.index.problem_extent),
        };
        let name = concerned.as_ref().map(|extent| extent.name());
        let news = Digest::of_json("condition", &(condition.ready, &condition.reason, name, version));
        let has_grown = concerned
            .as_mut()
            .is_some_and(|extent| std::mem::take(&mut extent.has_grown));
        if self.record.reported.replace(news) == Some(news) || (is_told && !has_grown) {
            self.told = Some(word);
            return;
        }
        self.told = Some(word);
        actions.push(Action::Tell(Notice {
            key: None,
            warning: condition.ready == Ready::False,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }));
    }

    fn judge_condition(&self, now: Mono) -> Condition {
        match &self.entry.state {
            UnitState::Active | UnitState::Removing(_) => {}
            UnitState::Suspended => {
                return Condition::new(
                    Ready::Unknown,
                    "Suspended",
                    "suspended: kept as it is, not enforced",
                );
            }
            UnitState::Detached => {
                return Condition::new(Ready::Unknown, "Detached", "let go: kept as it is, not enforced");
            }
        }
        if let Some(message) = self.failure_message() {
            let (ready, reason) = match self.job_failure {
                Some(JobFailure::Panicked(_)) => (Ready::False, "ReconciliationFailed"),
                _ => self.silence(now),
            };
            return Condition::new(ready, reason, message);
        }
        // What is applied stays what it is while a unit that it needs is not ready for a while.
        if let Some(wait) = self
            .edge
            .as_ref()
            .filter(|wait| !wait.passes || !self.is_applied())
        {
            return Condition::new(Ready::False, "DependencyNotReady", wait.message.clone());
        }
        if self.record.attempted != Some(self.offered()) {
            return progressing();
        }
        if let Some(failure) = &self.evaluation_failure {
            let kept = match self.record.applied.is_some() {
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
        if self.entry.settings.wait && self.awaits_lists() {
            return self.unshown_condition();
        }
        if self.entry.settings.wait && !self.index.unhealthy.is_empty() {
            return self.health_condition(now);
        }
        if let Some(unhealthy) = self.checks_condition(now) {
            return unhealthy;
        }
        if let Some(blocked) = self.removals.blocked() {
            return Condition::new(Ready::False, "PruneBlocked", &**blocked);
        }
        // What was said of it before a restart, or before another permission, stands until it is judged anew.
        let said = self.record.condition.as_ref();
        let is_of_removal =
            |said: &&Condition| matches!(said.reason.as_str(), "PruneBlocked" | "PruneFailed");
        if let Some(said) = said.filter(is_of_removal)
            && self.is_removal_undecided()
        {
            return said.clone();
        }
        if matches!(self.entry.state, UnitState::Removing(_)) {
            let what = match self.is_parting() {
                true => "let go of",
                false => "removed",
            };
            return match self.objects.len() {
                0 => Condition::new(Ready::True, GONE, format!("all of it is {what}")),
                1 => Condition::new(Ready::Unknown, "Removing", format!("1 object is to be {what}")),
                left => {
                    let message = format!("{left} objects are to be {what}");
                    Condition::new(Ready::Unknown, "Removing", message)
                }
            };
        }
        let message = format!("Applied revision: {}", self.record.revision);
        Condition {
            notes: self.notes(),
            ..Condition::new(Ready::True, "ReconciliationSucceeded", message)
        }
    }

    /// What of the objects of a ready unit people should know all the same.
    fn notes(&self) -> String {
        let index = &self.index;
        let of = |keys: &BTreeSet<Arc<ObjectKey>>| {
            first(keys.iter().map(ToString::to_string), keys.len(), ", ", NOTED)
        };
        let mut notes = Vec::new();
        // A path that was emptied by accident looks well otherwise.
        if self.objects.len() == index.leaving.len() {
            notes.push(EMPTY.to_owned());
        }
        notes.extend(self.contests());
        if !index.paused.is_empty() {
            notes.push(format!(
                "left alone as the live object asks: {}",
                of(&index.paused)
            ));
        }
        if !index.leaving.is_empty() {
            notes.push(format!(
                "no longer desired and not removed: {}",
                of(&index.leaving)
            ));
        }
        notes.extend(self.stalled());
        notes.join("; ")
    }

    /// What can be said while lists take longer than the word from before a restart may stand alone.
    fn unshown_condition(&self) -> Condition {
        let unseen = &self.index.unseen;
        let objects = first(unseen.iter().map(ToString::to_string), unseen.len(), ", ", NOTED);
        Condition::new(
            Ready::Unknown,
            "Unanswered",
            format!("since the agent's start the API server has not shown yet: {objects}"),
        )
    }

    fn health_condition(&self, now: Mono) -> Condition {
        let timeout = self.entry.settings.timeout;
        let stalled = self.index.by_health.count(HealthState::Failed);
        let is_over = self.health_deadline.is_some_and(|deadline| now >= deadline);
        let failed = |why: &str, keys: &mut dyn Iterator<Item = &Arc<ObjectKey>>, all: usize| {
            let objects = keys.map(|key| self.describe(key));
            Condition::new(
                Ready::False,
                "HealthCheckFailed",
                format!("health check failed{why}: [{}]", named(objects, all, ", ")),
            )
        };
        if stalled > 0 {
            return failed(
                ": failed early due to stalled resources",
                &mut self.index.by_health.of(HealthState::Failed),
                stalled,
            );
        }
        let unhealthy = &self.index.unhealthy;
        if is_over {
            let after = format!(" after {}: timeout waiting for", go_duration(timeout));
            return failed(&after, &mut unhealthy.iter(), unhealthy.len());
        }
        let waiting = unhealthy.iter().map(ToString::to_string);
        Condition::new(
            Ready::Unknown,
            "Progressing",
            format!(
                // A newer revision with the same content is never told to the agent: it names none.
                "Running health checks with a timeout of {}: waiting for {}",
                go_duration(timeout),
                named(waiting, unhealthy.len(), "; ")
            ),
        )
    }

    fn describe(&self, key: &Arc<ObjectKey>) -> String {
        let Some(object) = self.objects.get(key) else {
            return key.to_string();
        };
        let state = object.health_state();
        let said = Some(object.said()).filter(|message| {
            !message.is_empty() && matches!(state, HealthState::Unknown | HealthState::Failed)
        });
        match said {
            Some(message) => format!("{key} status: '{}': {message}", state.as_str()),
            None => format!("{key} status: '{}'", state.as_str()),
        }
    }

    fn problems_condition(&self, now: Mono) -> Condition {
        let by_rank = &self.index.by_rank;
        let mut problems = by_rank.iter().filter_map(|(_, key)| self.problem(key)).peekable();
        let (ready, reason) = match problems.peek() {
            Some(Problem::Unanswered(_)) => self.silence(now),
            Some(Problem::Withheld { reason, .. }) => (Ready::False, *reason),
            Some(Problem::Unpruned(_)) => (Ready::False, "PruneFailed"),
            Some(Problem::Unserved(_)) => match self.outlasts(self.unserved_since, now) {
                false => (Ready::Unknown, "Progressing"),
                true => (Ready::False, "ReconciliationFailed"),
            },
            _ => (Ready::False, "ReconciliationFailed"),
        };
        // Many objects may wait for one thing: it is named once.
        let (mut messages, mut told) = (Vec::<&str>::new(), 0);
        for problem in problems.take(LOOKED_THROUGH) {
            let message = problem.message();
            if !messages.contains(&message) {
                if messages.len() == NAMED {
                    break;
                }
                messages.push(message);
            }
            told += 1;
        }
        let mut message = messages.join("; ");
        if told < by_rank.len() {
            message = format!("{message}; and {} more", by_rank.len() - told);
        }
        Condition::new(ready, reason, message)
    }

    /// Names objects that others keep changing back, and who changes which fields; `None` when there are none.
    fn contests(&self) -> Option<String> {
        let contested = &self.index.contested;
        if contested.is_empty() {
            return None;
        }
        let describe = |key: &Arc<ObjectKey>| match self.corrections.get(key) {
            Some(corrections) => format!("{key} ({})", corrections.contestants()),
            None => key.to_string(),
        };
        let names = named(contested.iter().map(describe), contested.len(), ", ");
        Some(format!(
            "others change it back each time, so it is corrected once per interval: {names}"
        ))
    }

    /// What a silence means: nothing is known while it is young, and it is a failure once it has outlasted the
    /// unit's timeout.
    fn silence(&self, now: Mono) -> (Ready, &'static str) {
        match self.outlasts(self.silent_since, now) {
            false => (Ready::Unknown, "Unanswered"),
            true => (Ready::False, "ReconciliationFailed"),
        }
    }

    /// Tells whether what began then has lasted longer than the unit may take.
    fn outlasts(&self, since: Option<Mono>, now: Mono) -> bool {
        since.is_some_and(|since| now.since(since) >= self.entry.settings.timeout)
    }
}

fn progressing() -> Condition {
    Condition::new(Ready::Unknown, "Progressing", "Reconciliation in progress")
}

/// Names the first of `all` texts. The rest are not made.
fn named(texts: impl Iterator<Item = String>, all: usize, between: &str) -> String {
    first(texts, all, between, NAMED)
}

fn first(texts: impl Iterator<Item = String>, all: usize, between: &str, most: usize) -> String {
    let first: Vec<String> = texts.take(most).collect();
    match all.saturating_sub(first.len()) {
        0 => first.join(between),
        more => format!("{}{between}and {more} more", first.join(between)),
    }
}
