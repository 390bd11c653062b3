//! Which of what leaves a unit is asked to go next, and why the rest is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Again, Plan, is_in_leaving};
use crate::{
    apply::{
        removal::{Release, Terms, Verdict, Wait, foresee, guard, holds, is_container},
        stage::removal_rank,
    },
    object::ObjectKey,
    unit::{UnitState, event::Action, now::Now, object::Leaving, state::State},
};

/// Objects of one job: a newer entry waits for no more than what of these is under way.
const BATCH: usize = 200;

impl State {
    /// Begins to remove what may go.
    pub(in crate::unit) fn begin_removal(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.may_remove() {
            self.tell_removed(actions);
            self.forget_stalled();
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
            self.tell_stalled(now, actions);
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
        // What is let go of takes nothing with it.
        let contents = match self.is_parting() {
            true => BTreeMap::new(),
            false => self.contents_of(&candidates),
        };
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
            removing: matches!(self.entry.state, UnitState::Removing(_)),
            parting: self.is_parting(),
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
    pub(super) fn leaving_containers(&self) -> Vec<Arc<ObjectKey>> {
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
        let is_allowed = self.is_parting() || self.entry.prune_approved == Some(self.entry.target);
        if is_allowed || !candidates.iter().any(|key| stands(&key)) {
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
}
