//! Deletions that something holds up, a finalizer above all: since when, and that it has taken too long, which is told once
//! of each. The wait holds no job and asks for nothing: its end is seen by whoever watches the object.
//!
//! How long an object has been held up is counted by this process. Of which it was told outlasts a restart, as far as
//! messages name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{NAMED, first};
use crate::{
    clock::go_duration,
    object::ObjectKey,
    unit::{
        event::{Action, Notice},
        now::{Mono, Now},
        object::Leaving,
        state::State,
    },
};

/// Deletions that have begun and are not over.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    since: BTreeMap<Arc<ObjectKey>, Mono>,
    /// Those of which it is not told, by since when.
    untold: BTreeSet<(Mono, Arc<ObjectKey>)>,
    told: BTreeSet<Arc<ObjectKey>>,
    /// What is said of them was found out for these, as they are.
    is_said: bool,
}

impl HeldUp {
    fn hold(&mut self, key: &Arc<ObjectKey>, now: Mono, is_told: bool) {
        // What holds it up may be another by now.
        self.is_said = false;
        if self.since.contains_key(key) {
            return;
        }
        self.since.insert(key.clone(), now);
        match is_told {
            true => self.told.insert(key.clone()),
            false => self.untold.insert((now, key.clone())),
        };
    }

    /// What leaves is judged anew.
    pub(super) fn reconsider(&mut self) {
        self.is_said = false;
    }

    /// It is gone, or desired again, or not to go.
    pub(super) fn over(&mut self, key: &Arc<ObjectKey>) {
        if let Some(since) = self.since.remove(key) {
            self.untold.remove(&(since, key.clone()));
            self.told.remove(key);
            self.is_said = false;
        }
    }

    /// Takes the oldest of which it is not told, if it began so early.
    fn take_untold(&mut self, until: impl Fn(Mono) -> bool) -> Option<Arc<ObjectKey>> {
        let (since, _) = self.untold.first()?;
        let (_, key) = until(*since).then(|| self.untold.pop_first()).flatten()?;
        self.told.insert(key.clone());
        self.is_said = false;
        Some(key)
    }
}

impl State {
    /// Takes in that the deletion of an object is held up.
    pub(super) fn hold_up(&mut self, key: &Arc<ObjectKey>, now: Mono) {
        let is_told = self.record.stalled.contains_key(&key.to_string());
        self.removals.held_up.hold(key, now, is_told);
    }

    /// When a deletion has been held up for too long.
    pub(super) fn next_stalled(&self) -> Option<Mono> {
        let (since, _) = self.removals.held_up.untold.first()?;
        Some(*since + self.entry.settings.timeout)
    }

    /// Nothing is held up where nothing leaves.
    pub(super) fn forget_stalled(&mut self) {
        if self.index.leaving.is_empty() {
            self.removals.held_up = HeldUp::default();
            self.record.stalled.clear();
        }
    }

    /// Tells of deletions that have been held up for longer than a unit may take, once of each. Called when all that may go
    /// was looked at.
    pub(super) fn tell_stalled(&mut self, now: Now, actions: &mut Vec<Action>) {
        let timeout = self.entry.settings.timeout;
        let is_late = |since| now.mono.since(since) >= timeout;
        let mut news = Vec::new();
        while let Some(key) = self.removals.held_up.take_untold(is_late) {
            news.push(key);
        }
        if std::mem::replace(&mut self.removals.held_up.is_said, true) {
            return;
        }
        let told = self.removals.held_up.told.iter().take(NAMED);
        let told: BTreeMap<_, _> = told.map(|key| (key.to_string(), self.what_holds(key))).collect();
        if told != self.record.stalled {
            self.record.stalled = told;
            self.dirty_unit = true;
        }
        if news.is_empty() {
            return;
        }
        let names = news.iter().map(|key| format!("{key} ({})", self.what_holds(key)));
        actions.push(Action::Tell(Notice {
            key: None,
            warning: true,
            reason: "PruneStalled".to_owned(),
            message: format!(
                "not gone {} after the deletion began: {}",
                go_duration(timeout),
                first(names, news.len())
            ),
        }));
    }

    fn what_holds(&self, key: &Arc<ObjectKey>) -> String {
        let object = self.objects.get(key);
        match object.and_then(|object| object.leaving.as_deref()) {
            Some(Leaving::Looked(blocker)) => blocker.clone(),
            _ => "being deleted".to_owned(),
        }
    }

    /// Names what was told of; `None`: nothing.
    pub(in crate::unit) fn stalled(&self) -> Option<String> {
        let stalled = &self.record.stalled;
        let all = self.removals.held_up.told.len().max(stalled.len());
        let names = stalled.iter().map(|(key, why)| format!("{key} ({why})"));
        (!stalled.is_empty()).then(|| format!("not gone in time: {}", first(names, all)))
    }
}
