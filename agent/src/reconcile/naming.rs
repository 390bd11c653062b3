//! Units that a hub of a new history names by and by: it leaves out what it is told of units that it does not know yet, and
//! is told of them again once it names them. Nothing else would tell it before the next stream.

use std::collections::BTreeSet;

use flotilla_core::id::UnitId;

use crate::ledger::state::State;

/// What the ledger said when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Naming {
    /// The hub's history; `None`: nothing was looked at since the start, and all is told anyway.
    history: Option<u64>,
    /// Units that it does not name.
    unknown: BTreeSet<UnitId>,
}

impl Naming {
    /// Looks at the ledger. Returns the units that the hub names by now and may not have known before.
    pub(super) fn named(&mut self, state: &State) -> Vec<UnitId> {
        let history = state.accepted.incarnation;
        let is_new = self
            .history
            .replace(history)
            .is_some_and(|before| before != history);
        if !is_new && self.unknown.is_empty() && state.units.values().all(|unit| !unit.is_unknown) {
            return Vec::new();
        }
        let named = state.units.iter().filter(|(id, unit)| {
            let was_unknown = is_new || self.unknown.contains(*id);
            was_unknown && !unit.is_unknown
        });
        let named = named.map(|(id, _)| *id).collect();
        let unknown = state.units.iter().filter(|(_, unit)| unit.is_unknown);
        self.unknown = unknown.map(|(id, _)| *id).collect();
        named
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::state::Unit;

    fn ledger(history: u64, units: &[(u128, bool)]) -> State {
        let mut state = State::default();
        state.accepted.incarnation = history;
        for (number, is_unknown) in units {
            let mut unit = Unit::default();
            unit.is_unknown |= *is_unknown;
            state.units.insert(UnitId(Uuid::from_u128(*number)), unit);
        }
        state
    }

    #[test]
    fn a_unit_is_told_of_again_once_a_new_history_names_it_and_no_other_is() {
        let mut naming = Naming::default();
        let mut named = |history, units: &[(u128, bool)]| -> Vec<u128> {
            let named = naming.named(&ledger(history, units));
            named.into_iter().map(|id| id.0.as_u128()).collect()
        };
        assert_eq!(named(1, &[(1, false), (2, false)]), [0; 0]);
        assert_eq!(named(2, &[(1, false), (2, true)]), [1]);
        assert_eq!(named(2, &[(1, false), (2, true)]), [0; 0]);
        assert_eq!(named(2, &[(1, false), (2, false)]), [2]);
        assert_eq!(named(2, &[(1, false), (2, false), (3, false)]), [0; 0]);
    }
}
