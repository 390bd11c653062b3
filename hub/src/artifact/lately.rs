//! Artifacts that were found in a place far away lately: whoever looks at their source again need not ask for each.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ArtifactDigest;

/// For so long what was found is taken to be there, unless it was missed since.
const LATELY: Duration = Duration::from_secs(600);
/// So many are remembered.
const MOST: usize = 10_000;

/// What was found, and when.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<HashMap<ArtifactDigest, Instant>>);

impl Lately {
    fn lock(&self) -> MutexGuard<'_, HashMap<ArtifactDigest, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether an artifact is there.
    pub(super) fn note(&self, digest: ArtifactDigest, is_there: bool, now: Instant) {
        let mut found = self.lock();
        if !is_there {
            found.remove(&digest);
            return;
        }
        if found.len() >= MOST {
            found.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        }
        if found.len() < MOST {
            found.insert(digest, now);
        }
    }

    /// Whether it was found lately, and not missed since.
    pub(super) fn knows(&self, digest: ArtifactDigest, now: Instant) -> bool {
        let found = self.lock();
        let at = found.get(&digest);
        at.is_some_and(|at| now.saturating_duration_since(*at) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_known_for_a_while_and_until_it_is_missed() {
        let (lately, began) = (Lately::default(), Instant::now());
        let (one, other) = (ArtifactDigest::of(b"1"), ArtifactDigest::of(b"2"));
        assert!(!lately.knows(one, began));
        lately.note(one, true, began);
        lately.note(other, true, began);
        assert!(lately.knows(one, began + LATELY / 2));
        assert!(!lately.knows(one, began + LATELY));
        lately.note(other, false, began);
        assert!(!lately.knows(other, began));
    }
}
