//! What of a unit's objects no watch shows, and why: drift there is not seen, which its people should know.

use std::collections::BTreeSet;

use flotilla_core::id::UnitId;

use super::Reconciler;
use crate::ledger::state::State;

/// Kinds and namespaces that are named.
const NAMED: usize = 3;

/// What is said of a unit's objects that no watch shows.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Unseen {
    /// In words; empty when all are shown.
    pub(in crate::reconcile) note: Box<str>,
    /// What that was found out of: which refusals there were, and how many objects.
    of: (u64, usize),
}

impl Reconciler {
    /// Says anew what of a unit's objects is not seen, where that may have changed; `None`: it is as it was.
    pub(in crate::reconcile) fn unseen(&self, id: UnitId) -> Option<Unseen> {
        // As a rule nothing is refused, and the agent works everywhere.
        if self.watches.refusals == 0 && self.context.namespaces.is_empty() {
            return None;
        }
        let items = |state: &State| state.units.get(&id).map_or(0, |unit| unit.items.len());
        let of = (self.watches.refusals, self.context.ledger.read(items));
        let before = &self.units.get(&id)?.unseen;
        (before.of != of).then(|| Unseen {
            note: self.unseen_note(id).into(),
            of,
        })
    }

    fn unseen_note(&self, id: UnitId) -> String {
        let (mut refused, mut outside) = (BTreeSet::new(), BTreeSet::new());
        self.context.ledger.read(|state| {
            for (key, _) in state.units.get(&id).into_iter().flat_map(|unit| unit.scopes()) {
                let Some(scope) = self.scope(&key.group, &key.kind, &key.namespace) else {
                    outside.insert(key.namespace.clone());
                    continue;
                };
                if self.watches.refused.keys().any(|stream| stream.scope == scope) {
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
                "drift of {} is not seen, since the API server refuses to list and watch it",
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

    /// What is watched has changed: what is not seen is to be said anew of the units that it concerns.
    pub(super) fn note_unseen(&mut self) {
        self.watches.refusals += 1;
        self.changed.extend(self.units.keys());
    }
}

fn named(places: &BTreeSet<String>) -> String {
    let first: Vec<&str> = places.iter().take(NAMED).map(String::as_str).collect();
    match places.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
