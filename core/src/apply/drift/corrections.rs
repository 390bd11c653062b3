//! How often an object has been corrected, and when correcting stops to help. A manager that puts the same field
//! back again and again is not fought: the unit's interval decides when to try next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Corrections {
    recent: VecDeque<Correction>,
    /// Paths that a manager keeps putting back, and when each is corrected next.
    contested: Vec<Contest>,
}

/// The contested paths of one object: all of its corrections that a restart must not forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contests(Vec<Contest>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contest {
    path: String,
    manager: Option<String>,
    until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Correction {
    at: Timestamp,
    path: String,
    manager: Option<String>,
}

impl Corrections {
    /// Most corrections remembered: every path of a drift, as often as makes it contested.
    const KEPT: usize = MAX_PATHS * CONTESTED_AFTER;

    /// Decides about a confirmed drift and, where it is to be corrected, remembers that. `interval` is the
    /// unit's: a contested path is corrected once in it, for as long as the same manager goes on. A drift of any
    /// other path, or by another manager, is corrected at once all the same; an object that is gone has a path of
    /// its own.
    pub fn decide(&mut self, drift: &Drift, now: Timestamp, interval: Duration) -> Verdict {
        self.forget_old(now);
        // A clock that was set back must not make a contest longer than the interval.
        for contest in &mut self.contested {
            contest.until = contest.until.min(now + interval);
        }
        let next = |path: &String| {
            let contests = self.contested.iter();
            let same = contests.filter(|contest| contest.is_of(path, drift));
            same.map(|contest| contest.until).max().unwrap_or(now)
        };
        if let Some(until) = drift.paths.iter().map(next).min().filter(|&until| now < until) {
            return Verdict::Contested { until };
        }
        for path in &drift.paths {
            match self
                .contested
                .iter_mut()
                .find(|contest| contest.is_of(path, drift))
            {
                Some(contest) if now < contest.until => {}
                // It was left alone for an interval, and the other manager has gone on.
                Some(contest) => contest.until = now + interval,
                None => self.count(path, &drift.manager, now, interval),
            }
        }
        Verdict::Correct
    }

    /// Tells whether a path is contested, or was until lately.
    pub fn has_contests(&self) -> bool {
        !self.contested.is_empty()
    }

    /// Tells when the first of the object's contested paths is corrected again; `None` when none is contested.
    pub fn contested(&self, now: Timestamp) -> Option<Timestamp> {
        self.contested
            .iter()
            .map(|contest| contest.until)
            .filter(|&until| now < until)
            .min()
    }

    /// Names who changes which fields, as far as that is known: `hpa at /spec/replicas; vpa at /spec/paused`. The same
    /// whatever the order in which they were contested.
    pub fn contestants(&self) -> String {
        let is_deletion = |contest: &&Contest| contest.path == Drift::EXISTENCE;
        let is_deleted = self.contested.iter().any(|contest| is_deletion(&contest));
        let mut fields: BTreeMap<Option<&str>, BTreeSet<&str>> = BTreeMap::new();
        for contest in self.contested.iter().filter(|contest| !is_deletion(contest)) {
            let paths = fields.entry(contest.manager.as_deref()).or_default();
            paths.insert(&contest.path);
        }
        let deleted = is_deleted.then(|| "deleted each time".to_owned());
        let managers = fields.iter().map(|(manager, paths)| {
            let who = manager.unwrap_or("somebody");
            format!("{who} at {}", first(paths.iter().copied(), paths.len(), ", "))
        });
        let all = fields.len() + usize::from(is_deleted);
        first(deleted.into_iter().chain(managers), all, "; ")
    }

    /// Returns what a restart must not forget; `None` when no path is contested.
    pub fn contests(&self) -> Option<Contests> {
        self.has_contests().then(|| Contests(self.contested.clone()))
    }

    /// Tells whether nothing is remembered that could still count.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        let counts = |since: Timestamp| now.since(since) < CONTESTED_WITHIN;
        !self.recent.iter().any(|correction| counts(correction.at))
            && !self.contested.iter().any(|contest| counts(contest.until))
    }

    fn forget_old(&mut self, now: Timestamp) {
        let counts = |since: Timestamp| now.since(since) < CONTESTED_WITHIN;
        self.recent.retain(|correction| counts(correction.at));
        self.contested.retain(|contest| counts(contest.until));
    }

    /// Counts a correction, and contests the path when it was one too many.
    fn count(&mut self, path: &str, manager: &Option<String>, now: Timestamp, interval: Duration) {
        let is_same = |c: &&Correction| c.path == path && c.manager == *manager;
        if self.recent.iter().filter(is_same).count() + 1 < CONTESTED_AFTER {
            if self.recent.len() == Self::KEPT {
                self.recent.pop_front();
            }
            self.recent.push_back(Correction {
                at: now,
                path: path.to_owned(),
                manager: manager.clone(),
            });
            return;
        }
        self.recent.retain(|correction| !is_same(&correction));
        if self.contested.len() == MAX_PATHS
            && let Some(first) = (0..self.contested.len()).min_by_key(|&index| self.contested[index].until)
        {
            self.contested.swap_remove(first);
        }
        self.contested.push(Contest {
            path: path.to_owned(),
            manager: manager.clone(),
            until: now + interval,
        });
    }
}

/// Managers, and fields of each, that are named.
const NAMED: usize = 3;

/// The first of `all` texts.
fn first(texts: impl Iterator<Item = impl Into<String>>, all: usize, between: &str) -> String {
    let texts: Vec<String> = texts.take(NAMED).map(Into::into).collect();
    match all.saturating_sub(texts.len()) {
        0 => texts.join(between),
        more => format!("{}{between}and {more} more", texts.join(between)),
    }
}

impl From<&Contests> for Corrections {
    fn from(Contests(contested): &Contests) -> Self {
        Self {
            recent: VecDeque::new(),
            contested: contested.clone(),
        }
    }
}

impl Contest {
    /// Tells whether it is about a path that the same manager has changed again.
    fn is_of(&self, path: &str, drift: &Drift) -> bool {
        self.path == path && self.manager == drift.manager
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
        let mut both = drift("hpa", "/spec/replicas");
        both.paths.push("/spec/paused".into());
        for other in [Drift::gone(), both, drift("kubectl-edit", "/metadata/labels/app")] {
            assert_eq!(corrections.decide(&other, at(10), INTERVAL), Verdict::Correct);
        }
        assert!(corrections.contested(at(10)).is_some());
    }

    #[test]
    fn an_object_deleted_again_and_again_is_contested_apart_from_its_fields() {
        let mut corrections = Corrections::default();
        let until = at(2) + INTERVAL;
        for second in 0..3 {
            assert_eq!(
                corrections.decide(&Drift::gone(), at(second), INTERVAL),
                Verdict::Correct
            );
        }
        assert_eq!(
            corrections.decide(&Drift::gone(), at(3), INTERVAL),
            Verdict::Contested { until }
        );
        // Its fields are corrected, and contested, for themselves.
        for second in 4..7 {
            let drift = drift("hpa", "/spec/replicas");
            assert_eq!(corrections.decide(&drift, at(second), INTERVAL), Verdict::Correct);
        }
        for (drift, until) in [
            (Drift::gone(), until),
            (drift("hpa", "/spec/replicas"), at(6) + INTERVAL),
        ] {
            assert_eq!(
                corrections.decide(&drift, at(10), INTERVAL),
                Verdict::Contested { until }
            );
        }
        assert_eq!(corrections.contested(at(10)), Some(until));
    }

    #[test]
    fn contestants_are_named_with_their_fields_whatever_the_order_of_their_contests() {
        let contest = |corrections: &mut Corrections, drift: &Drift| {
            for second in 0..3 {
                corrections.decide(drift, at(second), INTERVAL);
            }
        };
        let fights = [
            drift("vpa", "/spec/paused"),
            drift("hpa", "/spec/replicas"),
            drift("hpa", "/spec/a"),
            Drift::gone(),
        ];
        let said = "deleted each time; hpa at /spec/a, /spec/replicas; vpa at /spec/paused";
        let (mut one, mut other) = (Corrections::default(), Corrections::default());
        fights.iter().for_each(|drift| contest(&mut one, drift));
        fights.iter().rev().for_each(|drift| contest(&mut other, drift));
        assert_eq!(
            (one.contestants().as_str(), other.contestants().as_str()),
            (said, said)
        );
        let unknown = Drift {
            paths: vec!["/data/a".into()],
            manager: None,
        };
        let mut many = Corrections::default();
        contest(&mut many, &unknown);
        contest(&mut many, &Drift::gone());
        assert_eq!(many.contestants(), "deleted each time; somebody at /data/a");
        for field in 0..5 {
            contest(&mut many, &drift("hpa", &format!("/spec/{field}")));
        }
        assert_eq!(
            many.contestants(),
            "deleted each time; somebody at /data/a; hpa at /spec/0, /spec/1, /spec/2, and 2 more"
        );
        assert_eq!(Corrections::default().contestants(), "");
    }

    #[test]
    fn corrections_are_dropped_when_none_of_them_counts_any_more() {
        let mut corrections = Corrections::default();
        assert!(corrections.is_empty(at(0)));
        corrections.decide(&Drift::gone(), at(0), INTERVAL);
        assert!(!corrections.is_empty(at(599)));
        assert!(corrections.is_empty(at(600)));
        for second in 1..3 {
            corrections.decide(&Drift::gone(), at(second), INTERVAL);
        }
        assert!(!corrections.is_empty(at(2 + 3600 + 599)));
        assert!(corrections.is_empty(at(2 + 3600 + 600)));
    }

    /// Numbers that look random and are the same in each run.
    fn noise(seed: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(seed | 1), |x| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            Some(x ^ (x << 17))
        })
    }

    #[test]
    fn no_path_is_corrected_more_than_three_times_in_ten_minutes_and_memory_is_bounded() {
        for seed in 1..40 {
            let mut numbers = noise(seed * 7919);
            let mut next = |below: u64| numbers.next().expect("endless") % below;
            let mut corrections = Corrections::default();
            let mut corrected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            let mut second = 0;
            for _ in 0..600 {
                second += i64::try_from(next(40)).expect("small");
                let alone = match next(4) {
                    0 => Drift::gone(),
                    path => drift("hpa", &format!("/spec/{path}")),
                };
                if corrections.decide(&alone, at(second), INTERVAL) == Verdict::Correct {
                    let times = corrected.entry(alone.paths[0].clone()).or_default();
                    times.push(second);
                    let recent = times.iter().filter(|&&then| second - then < 600).count();
                    assert!(recent <= CONTESTED_AFTER, "seed {seed}: {times:?}");
                }
                assert!(corrections.recent.len() <= Corrections::KEPT);
                assert!(corrections.contested.len() <= MAX_PATHS);
            }
        }
    }

    #[test]
    fn another_managers_change_of_a_contested_path_is_corrected() {
        let mut corrections = Corrections::default();
        for second in 0..3 {
            corrections.decide(&drift("hpa", "/spec/replicas"), at(second), INTERVAL);
        }
        let again = corrections.decide(&drift("hpa", "/spec/replicas"), at(10), INTERVAL);
        assert!(matches!(again, Verdict::Contested { .. }));
        let other = corrections.decide(&drift("kubectl-patch", "/spec/replicas"), at(11), INTERVAL);
        assert_eq!(other, Verdict::Correct);
        let again = corrections.decide(&drift("hpa", "/spec/replicas"), at(12), INTERVAL);
        assert!(matches!(again, Verdict::Contested { .. }), "the contest goes on");
    }
}
