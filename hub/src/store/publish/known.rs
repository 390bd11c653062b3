//! What large states hold that were published here last: of one of which a unit changes the others are not read again. A
//! state is known by its root, which is the digest of all it holds: whoever else has published meanwhile, or put the
//! database back, has another.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use flotilla_core::{digest::Digest, id::UnitId};
use uuid::Uuid;

/// Digests of a state's entries.
pub(super) type Entries = BTreeMap<UnitId, Digest>;

/// Fewer are read as fast as they are looked up.
const LARGE: usize = 64;
/// Entries that are kept of all states together, of some hundred bytes each.
const KEPT: usize = 100_000;

/// Large states, the one that was published first first.
#[derive(Debug, Default)]
pub(in crate::store) struct Known(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    states: HashMap<Uuid, (Digest, Entries)>,
    order: VecDeque<Uuid>,
    entries: usize,
}

impl Known {
    /// Takes what the state of this root holds. It is kept again once what becomes of it is committed.
    pub(super) fn take(&self, cluster: Uuid, root: &Digest) -> Option<Entries> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, entries) = kept.remove(cluster)?;
        (known == *root).then_some(entries)
    }

    /// Keeps what the state of this root holds.
    pub(super) fn keep(&self, cluster: Uuid, root: Digest, entries: Entries) {
        if !(LARGE..=KEPT).contains(&entries.len()) {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(cluster);
        kept.entries += entries.len();
        kept.order.push_back(cluster);
        kept.states.insert(cluster, (root, entries));
        while kept.entries > KEPT
            && let Some(first) = kept.order.front().copied()
        {
            kept.remove(first);
        }
    }
}

impl Kept {
    fn remove(&mut self, cluster: Uuid) -> Option<(Digest, Entries)> {
        let state = self.states.remove(&cluster)?;
        self.entries -= state.1.len();
        self.order.retain(|one| *one != cluster);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Entries {
        let unit = |number: usize| UnitId(Uuid::from_u128(number as u128));
        (0..count)
            .map(|number| (unit(number), Digest::of("entry", b"")))
            .collect()
    }

    #[test]
    fn a_state_is_known_by_its_root_and_taken_once() {
        let (known, cluster) = (Known::default(), Uuid::from_u128(1));
        let (one, other) = (Digest::of("root", b"one"), Digest::of("root", b"other"));
        known.keep(cluster, one, entries(LARGE));
        assert!(known.take(Uuid::from_u128(2), &one).is_none());
        assert_eq!(known.take(cluster, &one), Some(entries(LARGE)));
        assert!(known.take(cluster, &one).is_none(), "its transaction may fail");
        known.keep(cluster, one, entries(LARGE));
        assert!(known.take(cluster, &other).is_none());
        known.keep(cluster, one, entries(LARGE - 1));
        assert!(known.take(cluster, &one).is_none(), "a small one is read");
    }

    #[test]
    fn what_is_kept_of_all_states_is_bounded() {
        let (known, root) = (Known::default(), Digest::of("root", b""));
        let cluster = |number: usize| Uuid::from_u128(number as u128);
        for number in 0..5 {
            known.keep(cluster(number), root, entries(KEPT / 4));
        }
        assert!(known.take(cluster(0), &root).is_none());
        assert!((1..5).all(|number| known.take(cluster(number), &root).is_some()));
        known.keep(cluster(0), root, entries(KEPT + 1));
        assert!(known.take(cluster(0), &root).is_none());
        let kept = known.0.lock().expect("not poisoned");
        assert_eq!((kept.entries, kept.order.len()), (0, 0));
    }
}
