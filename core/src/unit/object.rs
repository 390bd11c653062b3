//! One object of a unit: what is desired, what the inventory says, what was observed, and whether it is to be
//! checked. The row of the unit's one object table.

use std::{sync::Arc, time::Duration};

use super::{
    event::Job,
    held::{Held, Moment},
    now::Mono,
    problem::Problem,
};
use crate::{
    apply::{
        drift::{Judgement, Observation, is_untouched, judge},
        inventory::{Record, State as RecordState},
        plan,
        policy::{Decision, Policy, Skip, Write},
        stage::Stage,
    },
    digest::Digest,
    health::{Health, State as HealthState},
    id::Uid,
    object::ObjectKey,
};

/// An object as evaluation gave it, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Digest of the evaluated object as it would be sent.
    pub digest: Digest,
    /// Its own switches.
    pub policy: Policy,
    /// It is a Secret, or a value of a Secret stands in it: what is said of it may quote values.
    pub secret: bool,
    /// Why the object is not to be written although it is desired.
    pub withheld: Option<Withholding>,
}

/// Why an object is not to be written although it is desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withholding {
    /// The unit's reason: `Conflict`, `NamespaceNotWatched`, `ReconciliationFailed`.
    pub reason: &'static str,
    /// Who owns it, or what to do.
    pub message: String,
}

impl Withholding {
    /// Another unit owns it, or the agent itself.
    pub fn conflict(message: String) -> Self {
        Self {
            reason: "Conflict",
            message,
        }
    }
}

impl Desired {
    /// Tells whether its switches say not to write it, or not again.
    pub(super) fn is_held_off(&self) -> bool {
        self.policy.paused || matches!(self.policy.write, Write::Ignore | Write::IfNotPresent)
    }
}

/// What was seen of a live object last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What drift is judged by; `None` when the object does not exist.
    pub observation: Option<Observation>,
    /// Its health; of a row, as it is told.
    pub health: Health,
    /// Its resourceVersion, also that of its deletion; `None` when not told.
    pub version: Option<u64>,
    /// Its health depends on the time: look again after this.
    pub again: Option<Duration>,
}

impl Observed {
    /// Tells whether `self` cannot be newer than `known`.
    fn is_older_than(&self, known: &Self) -> bool {
        matches!((self.version, known.version), (Some(new), Some(old)) if new < old)
    }

    fn digest(&self) -> Option<Digest> {
        self.observation.as_ref().map(Observation::digest)
    }
}

/// Whether an object is to be compared with its desired state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Check {
    /// Nothing to do.
    #[default]
    Settled,
    /// To be checked.
    Due,
    /// A check is under way.
    Running,
    /// Not before a time: it is contested, could not be corrected, or looks drifted and is not.
    NotBefore {
        /// The time.
        at: Mono,
        /// Holds only for this observation; `None`: whatever is observed.
        seen: Option<Box<Option<Digest>>>,
    },
}

/// What is said of an object that is no longer desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Why it is not removed, from what is known without a look.
    Waits(String),
    /// The same by what the last look has shown, or what holds its deletion up.
    Looked(String),
    /// The server refuses to delete it.
    Failed(Problem),
}

/// A row of the object table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    /// Its place in the inventory.
    pub record: Option<Arc<Record>>,
    /// What is desired of it; `None` when it left the desired state.
    pub desired: Option<Desired>,
    /// What was seen last; `None` when nothing was yet.
    pub observed: Option<Observed>,
    /// The UID under which it was seen finished: what is known of that outlasts the object, and comes before the
    /// record where a job is still to bring it.
    pub finished: Option<Box<Uid>>,
    /// The last pass has found it to be left alone, and nothing was observed since: no watch shows what is there
    /// without our mark.
    pub left: bool,
    /// What the last pass met.
    pub pass_problem: Option<Box<Problem>>,
    /// What the last check met.
    pub check_problem: Option<Box<Problem>>,
    /// How far its removal has come, once it is no longer desired.
    pub leaving: Option<Box<Leaving>>,
    /// Whether it is to be checked.
    pub check: Check,
    /// The version that a list told while a check ran, as in [`super::event::Event::Listed`].
    pub listed: Option<Box<Option<u64>>>,
    /// Checks that failed in a row, or were overtaken by what a watch has shown.
    pub tries: u32,
    /// What is held back of its health.
    pub(super) held: Option<Box<Held>>,
    /// The job during which a watch has brought something last, by the end of its number.
    pub(super) shown: u16,
}

impl Object {
    /// What is the matter with it.
    pub fn problem(&self) -> Option<&Problem> {
        let leaving = || match self.leaving.as_deref()? {
            Leaving::Failed(problem) => Some(problem),
            Leaving::Waits(_) | Leaving::Looked(_) => None,
        };
        let met = self.check_problem.as_deref().or(self.pass_problem.as_deref());
        met.or_else(leaving)
    }

    /// Tells whether something newer than this was observed.
    pub(super) fn is_ahead_of(&self, observed: &Observed) -> bool {
        self.observed
            .as_ref()
            .is_some_and(|known| observed.is_older_than(known))
    }

    /// Tells whether the object of the record was seen finished and the record does not say so.
    pub(super) fn has_news_of_finish(&self) -> bool {
        let Some(record) = self.record.as_ref().filter(|record| !record.finished) else {
            return false;
        };
        let live = self.observed.as_ref().and_then(|seen| seen.observation.as_ref());
        match &record.uid {
            Some(uid) => self.finished.as_deref() == Some(uid),
            None => live.is_some_and(|live| live.finished),
        }
    }

    /// Takes in what was observed, unless it is older than what is known. Returns whether health changed, as it is
    /// told.
    pub(super) fn observe(&mut self, observed: Observed, at: Moment) -> bool {
        if self.is_ahead_of(&observed) {
            return false;
        }
        self.take(observed, at)
    }

    /// Takes in what `job` has read or what its write was answered with. That is the latest, whatever its version,
    /// unless a watch has brought something since the job began: the cluster's store may have been put back to an
    /// earlier state, with lower versions.
    pub(super) fn observe_by(&mut self, job: Job, observed: Observed, at: Moment) -> bool {
        match self.was_shown_during(job) {
            true => self.observe(observed, at),
            false => self.take(observed, at),
        }
    }

    /// Notes that a watch has brought something while a job runs.
    pub(super) fn note_shown(&mut self, job: Job) {
        self.shown = end_of(job);
    }

    /// Tells whether a watch has brought something since a job began that ends now. That it has may be said without
    /// cause, of one job in 65,536.
    pub(super) fn was_shown_during(&self, job: Job) -> bool {
        self.shown == end_of(job)
    }

    /// Forgets which version was known: that to come may be lower.
    pub(super) fn forget_version(&mut self) {
        self.listed = None;
        if let Some(observed) = &mut self.observed {
            observed.version = None;
        }
    }

    fn take(&mut self, mut observed: Observed, at: Moment) -> bool {
        // Where there is nothing any more, the last word stands.
        if let Some(seen) = &observed.observation {
            self.finished = seen.uid.clone().filter(|_| seen.finished).map(Box::new);
        }
        self.left = false;
        let Some(known) = self.observed.take().map(|known| known.health) else {
            self.held = Held::after(&observed.health, true, at.now);
            self.observed = Some(observed);
            return true;
        };
        let before = self.held.take();
        self.held = Held::holding(&known, &observed.health, before.as_deref(), at);
        let changed = self.held.is_none() && known != observed.health;
        if changed {
            self.held = Held::after(&observed.health, known.state != observed.health.state, at.now);
        } else {
            observed.health = known;
        }
        self.observed = Some(observed);
        changed
    }

    /// Until when its health is held back.
    pub(super) fn held_until(&self) -> Option<Mono> {
        let held = self.held.as_ref()?;
        held.health.as_ref().map(|_| held.until)
    }

    /// Tells whether its health is another than is told, and not in words alone.
    pub(super) fn holds_turn(&self) -> bool {
        let told = self.observed.as_ref().map(|observed| &observed.health);
        let held = self.held.as_ref().zip(told);
        held.is_some_and(|(held, told)| held.turns(told))
    }

    /// Takes in what was held back of its health.
    pub(super) fn release_health(&mut self, now: Mono) {
        let held = self.held.take().and_then(|held| held.health);
        let Some((observed, health)) = self.observed.as_mut().zip(held) else {
            return;
        };
        self.held = Held::after(&health, observed.health.state != health.state, now);
        observed.health = health;
    }

    /// Tells whether what was observed is not what was written, as far as digests tell.
    pub(super) fn is_suspicious(&self) -> bool {
        let (Some(record), Some(observed)) = (&self.record, &self.observed) else {
            return false;
        };
        // What it is like is somebody else's to say.
        if self.is_withheld() {
            return false;
        }
        // A record that is no longer desired, and whose object is gone, can be forgotten once a read confirms it.
        if record.state == RecordState::PendingRemoval {
            return observed.observation.is_none();
        }
        let created_once = self
            .desired
            .as_ref()
            .is_some_and(|desired| desired.policy.write == Write::IfNotPresent && !desired.policy.paused);
        if created_once && observed.observation.is_some() {
            return false;
        }
        matches!(
            judge(record, observed.observation.as_ref()),
            Judgement::Suspicious(_)
        )
    }

    /// Tells whether a watch has shown the object as we left it, with nothing on it that says to leave it alone.
    pub(super) fn is_fresh(&self, unit: &str) -> bool {
        let (Some(record), Some(desired)) = (&self.record, &self.desired) else {
            return false;
        };
        let live = self.observed.as_ref().and_then(|seen| seen.observation.as_ref());
        live.is_some_and(|live| is_untouched(record, live, desired.policy, unit))
    }

    /// Tells whether its switches, or those of the live object, say to leave it alone.
    pub fn is_left_alone(&self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        if self.left {
            return true;
        }
        let live = self.observed.as_ref().and_then(|seen| seen.observation.as_ref());
        match desired.policy.decide(live.map(|live| live.policy)) {
            Decision::Skip(Skip::Paused | Skip::Ignored) => true,
            // What is created once is this unit's to wait for where it was this unit that created it.
            Decision::Skip(Skip::Present) => self.record.as_ref().is_none_or(|record| record.sent.is_none()),
            Decision::Apply { .. } => false,
        }
    }

    /// Tells whether the live object's own switches, and not those of the manifest, say to leave it alone.
    pub(super) fn is_paused_in_place(&self) -> bool {
        let Some(desired) = self.desired.as_ref().filter(|desired| desired.withheld.is_none()) else {
            return false;
        };
        let live = self.observed.as_ref().and_then(|seen| seen.observation.as_ref());
        !holds_off(desired, None) && holds_off(desired, live.map(|live| live.policy))
    }

    /// Tells whether its manifest says to leave it alone.
    fn is_left_by_manifest(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| desired.withheld.is_none() && holds_off(desired, None))
    }

    /// Tells whether other content was written than is desired.
    pub(super) fn is_outdated(&self) -> bool {
        let sent = self.record.as_ref().and_then(|record| record.sent);
        self.desired
            .as_ref()
            .is_some_and(|desired| sent != Some(desired.digest))
    }

    /// Tells whether the object is as healthy as it can be: current, finished and vanished, or not the unit's to
    /// wait for.
    pub(super) fn is_current(&self) -> bool {
        if self.desired.is_none() || self.is_left_alone() {
            return true;
        }
        match self.health_state() {
            HealthState::Current => true,
            HealthState::NotFound => self.record.as_ref().is_some_and(|record| record.finished),
            _ => false,
        }
    }

    /// Tells whether it is another unit's, or the agent's own.
    pub(super) fn is_withheld(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| desired.withheld.is_some())
    }

    /// Tells whether a pass has to write it.
    pub(super) fn is_to_write(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| plan::is_written(desired, self.record.as_deref()))
    }

    /// Tells whether it has to be ready before later stages begin, whether or not a pass writes it.
    pub(super) fn is_awaited(&self, key: &ObjectKey) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(plan::is_ours) && Stage::of(key).waits()
    }

    /// Tells whether nothing new is known of what was written before a restart.
    pub(super) fn awaits_first_sight(&self) -> bool {
        let record = self.record.as_ref();
        let is_written = record.is_some_and(|record| record.state != RecordState::Intent);
        is_written && self.observed.is_none() && self.problem().is_none()
    }

    /// Tells whether it was there when it was seen last.
    pub(super) fn is_there(&self) -> bool {
        self.observed
            .as_ref()
            .is_some_and(|seen| seen.observation.is_some())
    }

    /// What its status says for people, or that it is left alone. Of one that may hold a secret no more than the reason
    /// in a word.
    pub fn said(&self) -> &str {
        if self.is_paused_in_place() {
            return "left alone: an annotation of the live object says that it is not to be reconciled";
        }
        if self.is_left_by_manifest() {
            return "left alone: an annotation of its manifest says that it is not to be reconciled";
        }
        if let Some(Leaving::Waits(said) | Leaving::Looked(said)) = self.leaving.as_deref() {
            return said;
        }
        let is_open = self.desired.as_ref().is_some_and(|desired| !desired.secret);
        let health = self.observed.as_ref().map(|observed| &observed.health);
        health.map_or("", |health| match is_open {
            true => &*health.message,
            false => &*health.reason,
        })
    }

    /// Its health in a word.
    pub fn health_state(&self) -> HealthState {
        self.observed
            .as_ref()
            .map_or(HealthState::Unknown, |observed| observed.health.state)
    }

    /// Whether the object is to be checked: when its observation asks for that and nothing holds it up.
    pub(super) fn judged(&self, now: Mono) -> Check {
        let suspicious = self.is_suspicious();
        let looks_again = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.again.is_some());
        match &self.check {
            Check::Running => Check::Running,
            Check::NotBefore { seen: Some(seen), .. }
                if (suspicious || looks_again) && **seen == self.seen() =>
            {
                self.check.clone()
            }
            Check::NotBefore { seen: None, at, .. } if now < *at => self.check.clone(),
            Check::Due if self.observed.is_none() => Check::Due,
            // What a check has met, only a check finds to be over.
            _ if suspicious || self.check_problem.is_some() => Check::Due,
            _ => Check::Settled,
        }
    }

    /// What follows a check: an observation that still looks drifted is not looked at again for itself.
    pub(super) fn settled(&self, again: Mono) -> Check {
        match self.is_suspicious() {
            true => Check::NotBefore {
                at: again,
                seen: Some(Box::new(self.seen())),
            },
            false => Check::Settled,
        }
    }

    /// Digest of what was seen, to recognise it.
    pub(super) fn seen(&self) -> Option<Digest> {
        self.observed.as_ref().and_then(Observed::digest)
    }
}

/// The end of a job's number: a row has no room for all of it.
fn end_of(job: Job) -> u16 {
    let [low, high, ..] = job.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Tells whether the switches of manifest and live object together say to leave it alone.
fn holds_off(desired: &Desired, live: Option<Policy>) -> bool {
    matches!(
        desired.policy.decide(live),
        Decision::Skip(Skip::Paused | Skip::Ignored)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Moment = Moment {
        now: Mono(Duration::ZERO),
        is_proven: true,
    };

    #[test]
    fn what_a_job_has_read_is_taken_whatever_its_version_unless_a_watch_brought_something_meanwhile() {
        let observed = |version: u64| Observed {
            observation: None,
            health: Health::not_found(),
            version: Some(version),
            again: None,
        };
        let known = |object: &Object| object.observed.as_ref().and_then(|seen| seen.version);
        let mut object = Object::default();
        object.observe(observed(1211), AT);
        object.observe(observed(573), AT);
        assert_eq!(known(&object), Some(1211), "of watches the newest counts");
        object.note_shown(6);
        object.observe_by(7, observed(573), AT);
        assert_eq!(known(&object), Some(573), "the store went back");
        object.observe(observed(580), AT);
        object.note_shown(8);
        object.observe_by(8, observed(575), AT);
        assert_eq!(known(&object), Some(580), "it was read before");
        object.forget_version();
        object.observe(observed(3), AT);
        assert_eq!(known(&object), Some(3));
    }

    /// An agent may have 20,000 of each. glibc gives 336 bytes the same room as 344.
    #[test]
    fn a_row_and_its_record_are_small() {
        let sizes = (size_of::<Object>(), size_of::<Record>());
        assert!(sizes.0 <= 344 && sizes.1 <= 160, "{sizes:?}");
    }
}
