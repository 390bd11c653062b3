//! Removal of what is no longer desired: what is known of it, and when it goes on. What may go at all is decided in
//! [`crate::apply::removal`]. Nothing is remembered that the records do not say: after a restart all of it is judged anew,
//! and a deletion that is under way is found so.

mod outcome;
mod plan;
mod stalled;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::stalled::HeldUp;
use super::{
    event::Action,
    now::Mono,
    problem::{Problem, Retry},
    state::State,
};
use crate::{
    apply::{
        removal::{Blocker, Claim, Release, Wait, holds},
        stage::RemovalRank,
    },
    object::ObjectKey,
};

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

impl Removed {
    /// It is not to be removed, as far as was known when it was looked at.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
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
    /// Deletions that something holds up.
    held_up: HeldUp,
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
        self.held_up.reconsider();
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

    /// An object is not in the inventory any more.
    pub(super) fn is_over(&mut self, key: &Arc<ObjectKey>) {
        self.held_up.over(key);
        // What holds it, or goes with it, may go now.
        self.reconsider();
    }

    /// An object is desired again.
    pub(super) fn is_desired(&mut self, key: &Arc<ObjectKey>) {
        self.held_up.over(key);
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

    /// When a removal is to be tried again, or one has been held up for too long.
    pub(super) fn next_removal(&self) -> Option<Mono> {
        let later = self.removals.later.first().map(|(at, _)| *at);
        let next = later.into_iter().chain(self.next_stalled()).min()?;
        self.may_remove().then_some(next)
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
