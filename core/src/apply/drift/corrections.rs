//! How often an object has been corrected, and when correcting stops to help. A manager that puts the same field
//! back again and again is not fought: the unit's interval decides when to try next.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Drift, MAX_PATHS};
use crate::clock::Timestamp;

/// Corrections of one field against one manager after which it counts as contested.
pub const CONTESTED_AFTER: usize = 3;
/// The time within which they count.
pub const CONTESTED_WITHIN: Duration = Duration::from_secs(600);

/// What to do about a confirmed drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Correct it now.
    Correct,
    /// Leave it until then: it has been corrected too often against the same manager.
    Contested {
        /// When to try again.
        until: Timestamp,
    },
}

/// The recent corrections of one object, and where it is contested. Bounded: old ones are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Corrections {
    recent: VecDeque<Correction>,
    contest: Option<Contest>,
}

/// Fields that another manager keeps putting back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contest {
    until: Timestamp,
    paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Correction {
    at: Timestamp,
    path: String,
    manager: Option<String>,
}

impl Corrections {
    /// Most corrections remembered: every path of a drift, as often as makes it contested.
    const KEPT: usize = MAX_PATHS * CONTESTED_AFTER;

    /// Decides about a confirmed drift and, where it is to be corrected, remembers that. `interval` is the
    /// unit's: contested fields are corrected once in it, for as long as the other manager goes on. A drift of
    /// any other field, and an object that is gone, are corrected at once all the same.
    pub fn decide(&mut self, drift: &Drift, now: Timestamp, interval: Duration) -> Verdict {
        if let Some(contest) = self.contest.as_mut().filter(|contest| contest.covers(drift)) {
            if now < contest.until {
                return Verdict::Contested { until: contest.until };
            }
            if now.since(contest.until) < CONTESTED_WITHIN {
                contest.until = now + interval;
                return Verdict::Correct;
            }
            self.contest = None;
        }
        self.recent
            .retain(|correction| now.since(correction.at) < CONTESTED_WITHIN);
        self.remember(drift, now);
        let often: Vec<String> = drift
            .paths
            .iter()
            .filter(|path| self.times(path, &drift.manager) >= CONTESTED_AFTER)
            .cloned()
            .collect();
        if !often.is_empty() {
            self.recent.retain(|correction| !often.contains(&correction.path));
            self.contest(often, now, now + interval);
        }
        Verdict::Correct
    }

    /// Tells until when fields of the object are contested.
    pub fn contested(&self, now: Timestamp) -> Option<Timestamp> {
        self.contest
            .as_ref()
            .map(|contest| contest.until)
            .filter(|&until| now < until)
    }

    /// Adds fields to those contested still.
    fn contest(&mut self, paths: Vec<String>, now: Timestamp, until: Timestamp) {
        let before = self.contest.take().filter(|contest| now < contest.until);
        let mut paths: Vec<String> = before
            .into_iter()
            .flat_map(|contest| contest.paths)
            .chain(paths)
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths.truncate(MAX_PATHS);
        self.contest = Some(Contest { until, paths });
    }

    fn times(&self, path: &str, manager: &Option<String>) -> usize {
        self.recent
            .iter()
            .filter(|c| c.path == path && c.manager == *manager)
            .count()
    }

    fn remember(&mut self, drift: &Drift, now: Timestamp) {
        for path in &drift.paths {
            if self.recent.len() == Self::KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(Correction {
                at: now,
                path: path.clone(),
                manager: drift.manager.clone(),
            });
        }
    }
}

impl Contest {
    fn covers(&self, drift: &Drift) -> bool {
        !drift.paths.is_empty() && drift.paths.iter().all(|path| self.paths.contains(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(manager: &str, path: &str) -> Drift {
        Drift {
            paths: vec![path.into()],
            manager: Some(manager.into()),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    const INTERVAL: Duration = Duration::from_secs(3600);

    #[test]
    fn the_fourth_change_in_ten_minutes_is_contested_until_the_interval() {
        let mut corrections = Corrections::default();
        for second in [0, 60, 120] {
            assert_eq!(
                corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL),
                Verdict::Correct
            );
        }
        let contested = Verdict::Contested {
            until: at(120) + INTERVAL,
        };
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(121), INTERVAL),
            contested
        );
        assert_eq!(corrections.contested(at(121)), Some(at(120) + INTERVAL));
        // Once an interval it is tried again, and contested again at once.
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(3720), INTERVAL),
            Verdict::Correct
        );
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(3721), INTERVAL),
            Verdict::Contested {
                until: at(3720) + INTERVAL
            }
        );
    }

    #[test]
    fn slow_changes_other_fields_and_other_managers_are_no_contest() {
        let mut corrections = Corrections::default();
        for (manager, path, second) in [
            ("hpa", "/spec/replicas", 0),
            ("vpa", "/spec/replicas", 1),
            ("hpa", "/spec/paused", 2),
            ("hpa", "/spec/replicas", 300),
            ("hpa", "/spec/replicas", 700),
            ("hpa", "/spec/replicas", 1200),
        ] {
            assert_eq!(
                corrections.decide(&drift(manager, path), at(second), INTERVAL),
                Verdict::Correct
            );
            assert_eq!(corrections.contested(at(second)), None);
        }
    }

    #[test]
    fn a_contest_that_ended_is_forgotten() {
        let mut corrections = Corrections::default();
        for second in 0..3 {
            corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL);
        }
        assert_eq!(
            corrections.decide(&drift("hpa", "/spec/replicas"), at(90_000), INTERVAL),
            Verdict::Correct
        );
        assert_eq!(corrections.contested(at(90_001)), None);
    }

    #[test]
    fn a_contested_field_does_not_shield_others() {
        let mut corrections = Corrections::default();
        for second in 0..3 {
            corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL);
        }
        let gone = Drift {
            paths: Vec::new(),
            manager: None,
        };
        let mut both = drift("hpa", "/spec/replicas");
        both.paths.push("/spec/paused".into());
        for other in [gone, both, drift("kubectl-edit", "/metadata/labels/app")] {
            assert_eq!(corrections.decide(&other, at(10), INTERVAL), Verdict::Correct);
        }
        assert!(corrections.contested(at(10)).is_some());
    }
}
