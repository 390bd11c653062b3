//! What of a unit's objects no watch shows, and why: drift there is not seen, which its people should know.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use flotilla_core::id::UnitId;

use super::{Reconciler, Scope, Stream};
use crate::{ledger::state::State, reconcile::pace::Pace};

/// Kinds and namespaces that are named.
const NAMED: usize = 3;

/// What is said of a unit's objects that no watch shows.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Unseen {
    /// In words; empty when all are shown.
    pub(in crate::reconcile) note: Box<str>,
    /// Of how many objects that was found out.
    items: usize,
}

impl Reconciler {
    /// Says anew what of a unit's objects is not seen, where that may have changed; `None`: it is as it was.
    pub(in crate::reconcile) fn unseen(&mut self, id: UnitId) -> Option<Unseen> {
        let is_marked = self.watches.to_note.remove(&id);
        // As a rule nothing is refused, and the agent works everywhere.
        let shows_all = self.watches.refused.is_empty() && self.watches.unwatchable.is_empty();
        if !is_marked && shows_all && self.context.namespaces.is_empty() {
            return None;
        }
        let items = |state: &State| state.units.get(&id).map_or(0, |unit| unit.items.len());
        let items = self.context.ledger.read(items);
        let before = &self.units.get(&id)?.unseen;
        (is_marked || before.items != items).then(|| Unseen {
            note: self.unseen_note(id).into(),
            items,
        })
    }

    fn unseen_note(&self, id: UnitId) -> String {
        self.context.counters.notes.fetch_add(1, Ordering::Relaxed);
        let (mut refused, mut outside) = (BTreeSet::new(), BTreeSet::new());
        self.context.ledger.read(|state| {
            for (key, _) in state.units.get(&id).into_iter().flat_map(|unit| unit.scopes()) {
                let Some(scope) = self.scope(&key.group, &key.kind, &key.namespace) else {
                    outside.insert(key.namespace.clone());
                    continue;
                };
                if self.is_refused(scope) {
                    refused.insert(match key.namespace.as_str() {
                        "" => key.kind.clone(),
                        namespace => format!("{} in namespace {namespace}", key.kind),
                    });
                }
            }
        });
        let mut notes = Vec::new();
        if !refused.is_empty() {
            notes.push(format!(
                "drift of {} is not seen, since the API server does not list and watch it",
                named(&refused)
            ));
        }
        if !outside.is_empty() {
            notes.push(format!(
                "kept as it is and not enforced where the agent does not work (FLOTILLA_NAMESPACES): namespace {}",
                named(&outside)
            ));
        }
        notes.join("; ")
    }

    /// Tells whether the watch of a scope is refused, or the kind cannot be watched, in whatever version.
    fn is_refused(&self, scope: Scope) -> bool {
        let first = Stream {
            scope,
            version: String::new(),
        };
        let refused = self
            .watches
            .refused
            .range(&first..)
            .next()
            .map(|(stream, _)| stream);
        let unwatchable = self.watches.unwatchable.range(&first..).next();
        let next = refused.into_iter().chain(unwatchable);
        next.into_iter().any(|stream| stream.scope == first.scope)
    }

    /// What is watched of a scope has changed: what is not seen is to be said anew of the units that it concerns.
    pub(super) fn note_unseen(&mut self, scope: Scope) {
        self.watches.unsaid.insert(scope);
    }

    /// Marks the units that have objects in a scope of which that changed: once, however many scopes there are.
    pub(in crate::reconcile) async fn mark_unseen(&mut self, pace: &mut Pace) {
        if self.watches.unsaid.is_empty() {
            return;
        }
        let scopes = std::mem::take(&mut self.watches.unsaid);
        for &id in self.units.keys() {
            let (is_concerned, places) = self.context.ledger.read(|state| {
                let places = state.units.get(&id).into_iter().flat_map(|unit| unit.scopes());
                let mut count = 0;
                let mut keys = places.map(|(key, _)| key).inspect(|_| count += 1);
                // Whether it is watched as a whole or by namespaces may have changed with it.
                let is_concerned = keys.any(|key| {
                    [key.namespace.as_str(), ""].into_iter().any(|namespace| {
                        scopes.contains(&Scope {
                            group: key.group.clone(),
                            kind: key.kind.clone(),
                            namespace: namespace.to_owned(),
                        })
                    })
                });
                (is_concerned, count)
            });
            if is_concerned {
                self.changed.insert(id);
                self.watches.to_note.insert(id);
            }
            pace.handled(places).await;
        }
    }
}

fn named(places: &BTreeSet<String>) -> String {
    let first: Vec<&str> = places.iter().take(NAMED).map(String::as_str).collect();
    match places.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
