//! What became of objects that were asked to go: what that means for each, and what is told of a round.

use std::{sync::Arc, time::Duration};

use super::{Again, Done, Removed, first, is_in_leaving};
use crate::{
    apply::stage::removal_rank,
    object::ObjectKey,
    unit::{
        event::{Action, Notice},
        now::Now,
        object::Leaving,
        problem::{Problem, Retry},
        state::State,
    },
};

/// A deletion that something holds up is looked at again after this, should no watch show that it is over.
const AGAIN: Duration = Duration::from_secs(3600);

impl State {
    /// Takes in what became of objects that were to be removed. Those that the job did not reach are due again.
    pub(in crate::unit) fn removed(
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
            match &removed {
                Removed::Deleting(_) => self.hold_up(&key, now.mono),
                _ => self.removals.held_up.over(&key),
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
                Removed::Released(release) if !self.is_parting() && is_in_leaving(&containers, &key) => {
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
    pub(super) fn let_go(&mut self, key: &Arc<ObjectKey>, actions: &mut Vec<Action>) {
        actions.push(Action::SaveObjects(vec![(key.clone(), None)]));
        self.forget(key);
    }

    pub(super) fn set_leaving(&mut self, key: &Arc<ObjectKey>, leaving: Option<Leaving>) {
        let known = self.objects.get(key).map(|object| object.leaving.as_deref());
        if known.is_some_and(|known| known != leaving.as_ref()) {
            self.change(key, |object| object.leaving = leaving.map(Box::new));
        }
    }

    /// Tells what a round has removed, once for all of it.
    pub(in crate::unit) fn tell_removed(&mut self, actions: &mut Vec<Action>) {
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
