//! Removal of what is no longer desired: when it begins, in which order, and what its outcomes mean. What may go at all is
//! decided in [`crate::apply::removal`]. Nothing is remembered that the records do not say: after a restart all of it is
//! judged anew, and a deletion that is under way is found so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    event::{Action, Notice},
    now::{Mono, Now},
    object::Leaving,
    problem::{Problem, Retry},
    state::State,
};
use crate::{
    apply::{
        removal::{Blocker, Claim, Release, Terms, Verdict, Wait, foresee, guard, holds, is_container},
        stage::{RemovalRank, removal_rank},
    },
    object::ObjectKey,
};

/// Objects of one job: a newer entry waits for no more than what of these is under way.
const BATCH: usize = 200;
/// A deletion that something holds up is looked at again after this, should no watch show that it is over.
const AGAIN: Duration = Duration::from_secs(3600);
/// Objects named in an event.
const NAMED: usize = 10;

/// What other units of the cluster have to do with objects that leave this one.
pub type Claims = BTreeMap<Arc<ObjectKey>, Claim>;

/// What became of an object that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is not there any more.
    Gone,
    /// Its deletion has begun and is held up.
    Deleting(Blocker),
    /// It stays in the cluster and is this unit's no more.
    Released(Release),
    /// It is not to be removed, until something else is known.
    Kept(Wait),
    /// There was no answer; in words.
    Unknown(String),
    /// Whether it is there cannot be asked for a while: its kind is not served; in words.
    Unseen(String),
    /// Somebody has written it since it was read.
    Overtaken,
    /// The server refuses to delete it.
    Refused {
        /// Its words.
        message: String,
        /// When trying again may help.
        retry: Retry,
    },
}

/// What is known of removals, and none of it durable.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// `None`: not known.
    claims: Option<Claims>,
    /// Why the set does not go, if it does not; `None`: to be judged anew.
    plan: Option<Plan>,
    /// What may go and was not tried.
    due: BTreeSet<(RemovalRank, Arc<ObjectKey>)>,
    /// What the job under way has.
    running: BTreeSet<Arc<ObjectKey>>,
    /// What was tried, how often in a row, and when it is tried again.
    tried: BTreeMap<Arc<ObjectKey>, (u32, Again)>,
    later: BTreeSet<(Mono, Arc<ObjectKey>)>,
    /// What is to be told.
    done: Done,
}

/// When an object is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Now,
    At(Mono),
    /// Not before something else is known.
    Never,
}

#[derive(Debug)]
struct Plan {
    /// Why nothing of it goes, for people.
    blocked: Option<Arc<str>>,
}

/// What came of a round.
#[derive(Debug, Default)]
struct Done {
    deleted: Vec<Arc<ObjectKey>>,
    deleting: Vec<Arc<ObjectKey>>,
    released: Vec<(Arc<ObjectKey>, Release)>,
}

impl Removals {
    /// All is to be judged anew: another entry, other claims, other objects.
    pub(super) fn reconsider(&mut self) {
        self.plan = None;
        self.due.clear();
    }

    /// What was tried is tried again at once.
    pub(super) fn retry(&mut self) {
        self.reconsider();
        self.tried.clear();
        self.later.clear();
    }

    /// Other objects leave than before: what others want of these is not known yet.
    pub(super) fn forget_claims(&mut self) {
        self.reconsider();
        self.claims = None;
    }

    /// Why nothing of the set goes.
    pub(super) fn blocked(&self) -> Option<&Arc<str>> {
        self.plan.as_ref()?.blocked.as_ref()
    }

    fn set_tried(&mut self, key: &Arc<ObjectKey>, tried: Option<(u32, Again)>) {
        let before = match tried {
            Some(tried) => self.tried.insert(key.clone(), tried),
            None => self.tried.remove(key),
        };
        if let Some((_, Again::At(at))) = before {
            self.later.remove(&(at, key.clone()));
        }
        if let Some((_, Again::At(at))) = tried {
            self.later.insert((at, key.clone()));
        }
    }
}

impl State {
    /// Tells whether something of the unit may be removed one day.
    pub fn wants_removal(&self) -> bool {
        self.is_active() && !self.index.leaving.is_empty()
    }

    /// What is no longer desired and still in the inventory.
    pub fn leaving(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.index.leaving.iter()
    }

    /// What other units want of that, as it was told last.
    pub fn claims(&self) -> Option<&Claims> {
        self.removals.claims.as_ref()
    }

    /// Takes in what other units want; `None`: that is not known any more. What a job under way has not begun is dropped.
    pub(super) fn set_claims(&mut self, claims: Option<Claims>, actions: &mut Vec<Action>) {
        if self.removals.claims == claims || !self.is_active() {
            return;
        }
        self.removals.claims = claims;
        self.removals.reconsider();
        if !self.removals.running.is_empty() {
            self.cancel(actions);
        }
    }

    /// Tells whether what is offered is applied whole, so that what is not in it may go.
    fn is_applied_whole(&self) -> bool {
        let is_evaluated = self.evaluation_failure.is_none() && !self.evaluate_due && self.intake.is_none();
        let is_enforced = self
            .enforced
            .as_ref()
            .is_some_and(|enforced| Arc::ptr_eq(enforced, &self.entry));
        // What a removal has met itself is tried again.
        let has_problems = self.index.problems.len() > self.index.by_rank.count(Problem::UNPRUNED);
        let is_over = self.pass.is_none() && self.retry.is_none() && !self.is_outdated;
        is_evaluated && is_enforced && is_over && !has_problems && self.record.applied == Some(self.offered())
    }

    fn may_remove(&self) -> bool {
        self.wants_removal() && self.removals.claims.is_some() && self.is_applied_whole() && self.is_complete
    }

    /// When a removal is to be tried again.
    pub(super) fn next_removal(&self) -> Option<Mono> {
        let (at, _) = self.removals.later.first()?;
        self.may_remove().then_some(*at)
    }

    /// Tells whether it is still to be found out what of a removal is to be said, as after a restart.
    pub(super) fn is_removal_undecided(&self) -> bool {
        let removals = &self.removals;
        let is_under_way =
            removals.plan.is_none() || !removals.running.is_empty() || !removals.due.is_empty();
        self.wants_removal()
            && self.entry.settings.prune
            && self.entry.prune_cleared.is_some()
            && is_under_way
    }

    /// Begins to remove what may go.
    pub(super) fn begin_removal(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.may_remove() {
            self.tell_removed(actions);
            return;
        }
        if self.removals.plan.is_none() {
            self.plan_removal(actions);
        }
        while let Some((at, key)) = self.removals.later.first().cloned()
            && at <= now.mono
        {
            let tries = self.removals.tried.get(&key).map_or(0, |(tries, _)| *tries);
            self.removals.set_tried(&key, Some((tries, Again::Now)));
            self.removals.due.insert((removal_rank(&key), key));
        }
        if self.removals.blocked().is_some() {
            self.removals.due.clear();
        }
        let keys: Vec<_> = self
            .removals
            .due
            .iter()
            .take(BATCH)
            .map(|(_, key)| key.clone())
            .collect();
        if keys.is_empty() {
            self.tell_removed(actions);
            return;
        }
        for key in &keys {
            self.removals.due.remove(&(removal_rank(key), key.clone()));
            self.removals.running.insert(key.clone());
        }
        let (job, entry) = (self.begin_job(), self.entry.clone());
        actions.push(Action::Remove { job, entry, keys });
    }

    /// Judges all that leaves.
    fn plan_removal(&mut self, actions: &mut Vec<Action>) {
        let (mut candidates, mut going) = (BTreeSet::new(), BTreeSet::new());
        let (mut released, mut waits) = (Vec::new(), Vec::new());
        let containers = self.leaving_containers();
        for key in &self.index.leaving {
            let Some(object) = self.objects.get(key) else {
                continue;
            };
            let Some(record) = object.record.as_deref() else {
                continue;
            };
            match foresee(
                key,
                record,
                self.removals.claims.as_ref().and_then(|all| all.get(key)),
                &self.terms(),
            ) {
                None => {
                    candidates.insert(key.clone());
                    going.insert(key.clone());
                }
                // It would go with what it is in.
                Some(Verdict::Release(Release::Kept)) if is_in_leaving(&containers, key) => {
                    waits.push((key.clone(), Wait::Kept));
                }
                Some(Verdict::Release(release)) => released.push((key.clone(), release)),
                Some(Verdict::Wait(wait)) => {
                    // It goes once it is cleared: a set must not pass the guards part by part.
                    if wait == Wait::NotCleared {
                        going.insert(key.clone());
                    }
                    waits.push((key.clone(), wait));
                }
                Some(Verdict::Delete { .. } | Verdict::Deleting(_) | Verdict::Gone) => {}
            }
        }
        for (key, release) in released {
            self.let_go(&key, actions);
            self.removals.done.released.push((key, release));
        }
        let contents = self.contents_of(&candidates);
        let mut due: BTreeSet<_> = candidates.iter().cloned().collect();
        for (container, (goes, stays)) in contents {
            if let Some(stays) = stays {
                candidates.remove(&container);
                going.remove(&container);
                waits.push((container.clone(), Wait::Holds(stays.to_string().into())));
            }
            if goes || !candidates.contains(&container) {
                due.remove(&container);
            }
        }
        for (key, wait) in waits {
            let said = match wait {
                // Said of the unit, in the same words for all.
                Wait::NotCleared | Wait::Off => None,
                wait => Some(Leaving::Waits(wait.to_string())),
            };
            self.set_leaving(&key, said);
        }
        for key in &candidates {
            let leaving = self.objects.get(key).and_then(|object| object.leaving.as_deref());
            if matches!(leaving, Some(Leaving::Waits(_))) {
                self.set_leaving(key, None);
            }
        }
        let over: Vec<_> = self
            .removals
            .tried
            .keys()
            .filter(|key| !candidates.contains(*key))
            .cloned()
            .collect();
        for key in over {
            self.removals.set_tried(&key, None);
        }
        let blocked = self.blocked_by_guard(&candidates, &going);
        due.retain(|key| {
            let tried = self.removals.tried.get(key);
            tried.is_none_or(|(_, again)| *again == Again::Now)
        });
        self.removals.due = due.into_iter().map(|key| (removal_rank(&key), key)).collect();
        self.removals.plan = Some(Plan { blocked });
        self.dirty_unit = true;
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            active: self.is_active(),
            applied: self.is_applied_whole(),
            complete: self.is_complete,
            prune: self.entry.settings.prune,
            cleared: self.entry.prune_cleared.as_ref(),
            others_known: self.removals.claims.is_some(),
        }
    }

    /// Of each that holds others: whether some in it go as well, and one that stays.
    fn contents_of(
        &self,
        candidates: &BTreeSet<Arc<ObjectKey>>,
    ) -> BTreeMap<Arc<ObjectKey>, (bool, Option<Arc<ObjectKey>>)> {
        let containers = candidates.iter().filter(|key| is_container(key));
        let mut contents: BTreeMap<_, _> = containers.map(|key| (key.clone(), (false, None))).collect();
        for (container, (goes, stays)) in &mut contents {
            for key in self.objects.keys().filter(|key| holds(container, key)) {
                let never = matches!(self.removals.tried.get(key), Some((_, Again::Never)));
                match candidates.contains(key) && !never {
                    true => *goes = true,
                    false => *stays = Some(key.clone()),
                }
            }
        }
        contents
    }

    /// What leaves and holds others.
    fn leaving_containers(&self) -> Vec<Arc<ObjectKey>> {
        let containers = self.index.leaving.iter().filter(|key| is_container(key));
        containers.cloned().collect()
    }

    /// Why nothing goes, for people; `None`: the guards let the set pass, or a person has allowed just this one.
    fn blocked_by_guard(
        &self,
        candidates: &BTreeSet<Arc<ObjectKey>>,
        going: &BTreeSet<Arc<ObjectKey>>,
    ) -> Option<Arc<str>> {
        // What is on its way out cannot be kept any more.
        let stands = |key: &&Arc<ObjectKey>| {
            let object = self.objects.get(*key);
            let seen = object.and_then(|object| object.observed.as_ref()?.observation.as_ref());
            !seen.is_some_and(|seen| seen.deleting)
        };
        if !candidates.iter().any(|key| stands(&key)) || self.entry.prune_approved == Some(self.entry.target)
        {
            return None;
        }
        let going: Vec<&Arc<ObjectKey>> = going.iter().filter(stands).collect();
        let records = going.iter().filter_map(|key| {
            let record = self.objects.get(*key)?.record.as_deref()?;
            Some((key.as_ref(), record))
        });
        let left_over = self.objects.len() - self.index.undesired.len();
        let objection = guard(records, left_over)?;
        let app = &self.entry.app;
        Some(
            objection
                .message(going.iter().map(|key| key.as_ref()), app)
                .into(),
        )
    }

    /// Takes in what became of objects that were to be removed. Those that the job did not reach are due again.
    pub(super) fn removed(
        &mut self,
        outcomes: Vec<(Arc<ObjectKey>, Removed)>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let containers = self.leaving_containers();
        for (key, removed) in outcomes {
            self.removals.running.remove(&key);
            if !self.index.leaving.contains(&key) {
                continue;
            }
            let tries = self
                .removals
                .tried
                .get(&key)
                .map_or(0, |(tries, _)| *tries)
                .saturating_add(1);
            let is_set = matches!(removed, Removed::Deleting(_) | Removed::Unseen(_));
            let (leaving, again) = match removed {
                Removed::Gone => {
                    self.let_go(&key, actions);
                    self.removals.done.deleted.push(key);
                    continue;
                }
                // Forgotten, it would go with what it is in.
                Removed::Released(release) if is_in_leaving(&containers, &key) => {
                    (Some(Leaving::Looked(format!("kept: {release}"))), None)
                }
                Removed::Released(release) => {
                    self.let_go(&key, actions);
                    self.removals.done.released.push((key, release));
                    continue;
                }
                Removed::Deleting(blocker) => {
                    let said = Leaving::Looked(blocker.to_string());
                    let known = self
                        .objects
                        .get(&key)
                        .and_then(|object| object.leaving.as_deref());
                    if known != Some(&said) {
                        self.removals.done.deleting.push(key.clone());
                    }
                    self.removals
                        .set_tried(&key, Some((0, Again::At(now.mono + AGAIN))));
                    (Some(said), None)
                }
                Removed::Kept(wait) => (Some(Leaving::Looked(wait.to_string())), None),
                Removed::Unknown(why) => (Some(Leaving::Looked(why)), Some(Retry::Soon)),
                Removed::Unseen(why) => {
                    self.removals
                        .set_tried(&key, Some((0, Again::At(now.mono + AGAIN))));
                    (Some(Leaving::Looked(why)), None)
                }
                Removed::Overtaken => (None, Some(Retry::Race)),
                Removed::Refused { message, retry } => {
                    (Some(Leaving::Failed(Problem::Unpruned(message))), Some(retry))
                }
            };
            if leaving.is_some() {
                self.set_leaving(&key, leaving.clone());
            }
            if !is_set {
                let again = match again {
                    Some(retry) => Again::At(now.mono + self.backoff(tries, retry, now)),
                    None => Again::Never,
                };
                self.removals.set_tried(&key, Some((tries, again)));
            }
        }
        for key in std::mem::take(&mut self.removals.running) {
            self.removals.due.insert((removal_rank(&key), key));
        }
        if self.removals.plan.is_none() {
            self.removals.due.clear();
        }
        self.dirty_unit = true;
    }

    /// Drops an object from the inventory: it is gone, or not this unit's.
    fn let_go(&mut self, key: &Arc<ObjectKey>, actions: &mut Vec<Action>) {
        actions.push(Action::SaveObjects(vec![(key.clone(), None)]));
        self.forget(key);
    }

    fn set_leaving(&mut self, key: &Arc<ObjectKey>, leaving: Option<Leaving>) {
        let known = self.objects.get(key).map(|object| object.leaving.as_deref());
        if known.is_some_and(|known| known != leaving.as_ref()) {
            self.change(key, |object| object.leaving = leaving.map(Box::new));
        }
    }

    /// Tells what a round has removed, once for all of it.
    pub(super) fn tell_removed(&mut self, actions: &mut Vec<Action>) {
        let Done {
            deleted,
            deleting,
            released,
        } = std::mem::take(&mut self.removals.done);
        let mut said = Vec::new();
        if !deleted.is_empty() {
            said.push(format!(
                "deleted {}",
                first(deleted.iter().map(ToString::to_string), deleted.len())
            ));
        }
        if !deleting.is_empty() {
            let names = deleting.iter().map(|key| {
                let object = self.objects.get(key);
                match object.and_then(|object| object.leaving.as_deref()) {
                    Some(Leaving::Looked(blocker)) => format!("{key} ({blocker})"),
                    _ => key.to_string(),
                }
            });
            said.push(format!("deletes {}", first(names, deleting.len())));
        }
        if !released.is_empty() {
            let names = released.iter().map(|(key, why)| format!("{key} ({why})"));
            said.push(format!("let go of {}", first(names, released.len())));
        }
        if !said.is_empty() {
            actions.push(Action::Tell(Notice {
                key: None,
                warning: false,
                reason: "Pruned".to_owned(),
                message: said.join("; "),
            }));
        }
    }
}

fn is_in_leaving(containers: &[Arc<ObjectKey>], key: &ObjectKey) -> bool {
    containers.iter().any(|container| holds(container, key))
}

fn first(names: impl Iterator<Item = String>, all: usize) -> String {
    let names: Vec<String> = names.take(NAMED).collect();
    match all.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}
