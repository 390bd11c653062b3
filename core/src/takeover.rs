//! Whether two agents show the identity of one cluster: a second installation, or a copy that was restored elsewhere.
//! Each takes the cluster's stream from the other. An instance of an agent is named anew with each start, so that a
//! restart never brings a name back, and one that comes back after another was at work beside it all the time.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What lies longer back says nothing.
pub const WINDOW: Duration = Duration::from_secs(3600);
/// So often an instance has to come back within that: the old pod of an update may do so once, or twice with bad luck.
const RETURNS: usize = 3;
/// Openings that are kept; of more the oldest are forgotten.
const MOST: usize = 16;

/// The instances that opened a cluster's stream lately, oldest first; one that opens it again and again stands once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Openings(Vec<Opening>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Opening {
    instance: String,
    at: Timestamp,
}

/// Two instances that take a stream from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duel {
    /// The one that has it now.
    pub holder: String,
    /// The one that had it before.
    pub other: String,
    /// How often it changed hands within [`WINDOW`].
    pub takeovers: usize,
}

impl Openings {
    /// Takes in that an instance has opened the stream. Returns the two that take it from each other, if it is so.
    pub fn opened(&mut self, instance: &str, now: Timestamp) -> Option<Duel> {
        self.0.retain(|opening| now.since(opening.at) < WINDOW);
        match self.0.last_mut().filter(|last| last.instance == instance) {
            Some(last) => last.at = now,
            None => self.0.push(Opening {
                instance: instance.to_owned(),
                at: now,
            }),
        }
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
        let instances: BTreeSet<&str> = self.0.iter().map(|opening| opening.instance.as_str()).collect();
        let returns = self.0.len() - instances.len();
        let [.., other, holder] = self.0.as_slice() else {
            return None;
        };
        (returns >= RETURNS).then(|| Duel {
            holder: holder.instance.clone(),
            other: other.instance.clone(),
            takeovers: self.0.len() - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(n: u64) -> Timestamp {
        Timestamp(0) + Duration::from_secs(60 * n)
    }

    /// Whether the last of these openings, a minute apart, shows a duel.
    fn last<'a>(instances: impl IntoIterator<Item = &'a str>) -> Option<Duel> {
        let mut openings = Openings::default();
        let instances = (0..).zip(instances);
        instances.fold(None, |_, (n, instance)| openings.opened(instance, minute(n)))
    }

    #[test]
    fn instances_that_come_back_again_and_again_are_two_agents() {
        assert_eq!(last(["a", "b", "a", "b"]), None);
        let duel = Duel {
            holder: "a".to_owned(),
            other: "b".to_owned(),
            takeovers: 4,
        };
        assert_eq!(last(["a", "b", "a", "b", "a"]), Some(duel));
        // One of them restarts each time, which changes its name.
        assert!(last(["a", "b1", "a", "b2", "a", "b3", "a"]).is_some());
    }

    #[test]
    fn restarts_reconnects_and_updates_are_one_agent() {
        assert_eq!(last(["a"; 20]), None);
        assert_eq!(last((0..20).map(|n| &"abcdefghijklmnopqrst"[n..=n])), None);
        assert_eq!(last(["old", "new", "old", "new", "new", "next"]), None);
    }

    #[test]
    fn what_is_over_is_forgotten_after_an_hour_and_little_is_kept() {
        let mut openings = Openings::default();
        for n in 0..100 {
            openings.opened(["a", "b"][n % 2], minute(n as u64));
            assert!(openings.0.len() <= MOST);
        }
        assert!(openings.opened("a", minute(100)).is_some());
        assert_eq!(openings.opened("a", minute(160)), None);
        assert_eq!(openings.0.len(), 1);
    }
}
