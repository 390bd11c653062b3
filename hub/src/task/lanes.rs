//! Lanes of a queue: keys that wait for the same thing, as the sources of one server do, take no more than their share of
//! its workers. A server that hangs then holds up its own sources and no others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// Keys of one lane that are worked at together.
pub const SHARE: usize = 6;

/// Which keys are in which lane, and how many of each are worked at. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    of: HashMap<Uuid, Arc<str>>,
    /// Keys that are worked at and count.
    at_work: HashMap<Uuid, Arc<str>>,
    counts: HashMap<Arc<str>, usize>,
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a key that is worked at into a lane. `false`: as many others of that lane are worked at; the key is to be left
    /// until one of them has ended, which the queue sees to when it comes to it again.
    pub fn join(&self, key: Uuid, lane: &str) -> bool {
        let mut kept = self.lock();
        if kept.at_work.get(&key).is_some_and(|at| **at == *lane) {
            return true;
        }
        kept.leave(key);
        let lane = kept.named(lane);
        kept.of.insert(key, lane);
        kept.begin(key)
    }

    /// Begins with a key. The lane that it has to wait for, where that is full; a key of no known lane waits for none.
    pub(super) fn begin(&self, key: Uuid) -> Option<Arc<str>> {
        let mut kept = self.lock();
        match kept.begin(key) {
            true => None,
            false => kept.of.get(&key).cloned(),
        }
    }

    /// Ends with a key.
    pub(super) fn end(&self, key: Uuid) {
        self.lock().leave(key);
    }

    /// Tells whether one more key of a lane may be worked at.
    pub(super) fn has_room(&self, lane: &str) -> bool {
        self.lock().counts.get(lane).copied().unwrap_or_default() < SHARE
    }
}

impl Kept {
    /// The lane's name, shared where it has been heard before.
    fn named(&self, lane: &str) -> Arc<str> {
        let known = self.counts.get_key_value(lane);
        known.map_or_else(|| lane.into(), |(name, _)| name.clone())
    }

    fn begin(&mut self, key: Uuid) -> bool {
        let Some(lane) = self.of.get(&key).cloned() else {
            return true;
        };
        let count = self.counts.entry(lane.clone()).or_default();
        if *count >= SHARE {
            return false;
        }
        *count += 1;
        self.at_work.insert(key, lane);
        true
    }

    fn leave(&mut self, key: Uuid) {
        let Some(lane) = self.at_work.remove(&key) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&lane) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    #[test]
    fn a_lane_has_its_share_and_a_key_that_changes_lanes_counts_in_one() {
        let lanes = Lanes::default();
        for number in 0..SHARE {
            assert_eq!(lanes.begin(key(number)), None, "of no lane yet");
            assert!(lanes.join(key(number), "a") && lanes.join(key(number), "a"));
        }
        let late = key(SHARE);
        assert!(lanes.begin(late).is_none() && !lanes.join(late, "a") && !lanes.has_room("a"));
        lanes.end(late);
        assert_eq!(lanes.begin(late).as_deref(), Some("a"));
        // One that goes to another lane makes room.
        assert!(lanes.join(key(0), "b") && lanes.has_room("a"));
        assert_eq!(lanes.begin(late), None);
        for number in 0..=SHARE {
            lanes.end(key(number));
        }
        let kept = lanes.lock();
        assert!(kept.counts.is_empty() && kept.at_work.is_empty());
    }
}
