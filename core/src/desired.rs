//! Where the desired states of a cluster stand: the one that the hub has published, and the one that its agent holds. Their
//! order is (incarnation, generation).

pub mod acceptance;

use crate::digest::Digest;

/// The number and digest of a cluster's published desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the hub's history.
    pub incarnation: u64,
    /// Number of this state.
    pub generation: u64,
    /// Root digest.
    pub root: Digest,
}

impl Head {
    /// What comes later in the hub's histories is greater.
    pub fn order(&self) -> (u64, u64) {
        (self.incarnation, self.generation)
    }
}

/// What an agent holds, as far as the hub knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Number of the hub's history.
    pub incarnation: u64,
    /// Number of the state; 0: none.
    pub generation: u64,
    /// Root of that; `None`: it is not known.
    pub root: Option<Digest>,
}

impl From<Head> for Held {
    fn from(head: Head) -> Self {
        Self {
            incarnation: head.incarnation,
            generation: head.generation,
            root: Some(head.root),
        }
    }
}

/// What an agent is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It has it.
    Nothing,
    /// What has changed after this generation, which it holds.
    Since(u64),
    /// All of it.
    Whole,
}

impl Held {
    /// No state.
    pub const NOTHING: Self = Self {
        incarnation: 0,
        generation: 0,
        root: None,
    };

    /// Tells whether the agent holds a later state of this history than what is published, or another under the same number:
    /// the hub's store was restored from a backup. `incarnation` is the hub's own.
    pub fn is_ahead(&self, published: Option<Head>, incarnation: u64) -> bool {
        let (incarnation, generation) = published.map_or((incarnation, 0), |head| head.order());
        let is_other = published
            .zip(self.root)
            .is_some_and(|(head, root)| self.generation == head.generation && root != head.root);
        self.incarnation == incarnation && (self.generation > generation || is_other)
    }

    /// Tells whether the agent holds an earlier state than it has accepted before: its ledger, and as a rule its cluster, was
    /// put back. `furthest`: incarnation and generation of the latest state that it has said it accepted.
    pub fn was_put_back(&self, furthest: (u64, u64)) -> bool {
        self.generation > 0 && (self.incarnation, self.generation) < furthest
    }

    /// What the agent is sent of a published state. What is read for a stream may be later than what was published to it.
    pub fn offer(&self, head: Head) -> Offer {
        match self.incarnation == head.incarnation {
            true if self.generation >= head.generation => Offer::Nothing,
            true if self.generation > 0 => Offer::Since(self.generation),
            _ => Offer::Whole,
        }
    }

    /// Tells whether all is to be sent to an agent that was sent this, all of it or changes, and has refused something since
    /// it lacks what that is based on. Once for each state that is published: what was sent whole would be refused again,
    /// whichever generation the agent says it refuses.
    pub fn is_sent_again(&self, whole: bool) -> bool {
        *self != Self::NOTHING && !whole
    }
}

/// The number of a history that begins with a restore: above all that are known, and above those that the lost hub may
/// have given itself since the backup. It took them from a clock as this one does, in seconds.
pub fn next_incarnation(clock: u64, known: u64) -> u64 {
    clock.max(known.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(incarnation: u64, generation: u64, root: &str) -> Head {
        Head {
            incarnation,
            generation,
            root: Digest::of("root", root.as_bytes()),
        }
    }

    fn held(incarnation: u64, generation: u64, root: &str) -> Held {
        head(incarnation, generation, root).into()
    }

    #[test]
    fn an_agent_is_ahead_with_a_later_state_of_this_history_or_another_of_the_same_number() {
        let published = head(2, 5, "a");
        let cases = [
            ("earlier", held(2, 4, "b"), false),
            ("the same", held(2, 5, "a"), false),
            ("another of the same number", held(2, 5, "b"), true),
            ("later", held(2, 6, "a"), true),
            ("of a former history", held(1, 9, "b"), false),
            ("of a later history", held(3, 9, "b"), false),
            (
                "the same number, root unknown",
                Held {
                    root: None,
                    ..held(2, 5, "a")
                },
                false,
            ),
            ("nothing", Held::NOTHING, false),
        ];
        for (name, held, expected) in cases {
            assert_eq!(held.is_ahead(Some(published), 2), expected, "{name}");
        }
        // Nothing is published in a store that was put back to its beginning.
        assert!(held(2, 1, "a").is_ahead(None, 2));
        assert!(!held(1, 1, "a").is_ahead(None, 2));
        assert!(!Held::NOTHING.is_ahead(None, 2));
    }

    #[test]
    fn an_agent_was_put_back_that_holds_less_than_it_has_accepted_before() {
        let cases = [
            (held(2, 4, "a"), (2, 5), true),
            (held(2, 5, "a"), (2, 5), false),
            (held(2, 6, "a"), (2, 5), false),
            (held(1, 9, "a"), (2, 5), true),
            (held(3, 1, "a"), (2, 5), false),
            (held(2, 4, "a"), (0, 0), false),
            // Whoever lost all has nothing that was let go of.
            (Held::NOTHING, (2, 5), false),
        ];
        for (held, furthest, expected) in cases {
            assert_eq!(held.was_put_back(furthest), expected, "{held:?} {furthest:?}");
        }
    }

    #[test]
    fn an_agent_is_sent_changes_of_what_it_holds_in_this_history_and_else_the_whole() {
        let published = head(2, 5, "a");
        for (held, expected) in [
            (held(2, 4, "b"), Offer::Since(4)),
            (held(2, 5, "a"), Offer::Nothing),
            (held(2, 6, "a"), Offer::Nothing),
            (held(1, 9, "b"), Offer::Whole),
            (held(3, 4, "b"), Offer::Whole),
            (held(2, 0, ""), Offer::Whole),
            (Held::NOTHING, Offer::Whole),
        ] {
            assert_eq!(held.offer(published), expected, "{held:?}");
        }
    }

    #[test]
    fn a_history_that_begins_with_a_restore_is_later_than_all_that_are_known() {
        for (clock, known) in [(1_800, 1_700), (1_800, 1_800), (1_600, 1_800), (0, u64::MAX - 1)] {
            let next = next_incarnation(clock, known);
            assert!(next > known && next >= clock, "{clock} {known}");
        }
    }

    #[test]
    fn what_was_refused_is_sent_whole_once() {
        let sent = held(2, 5, "a");
        assert!(sent.is_sent_again(false));
        assert!(!sent.is_sent_again(true));
        assert!(!Held::NOTHING.is_sent_again(false));
    }
}
