//! How far a rollout is: of each cluster that it moves what became of that, and of all of them together whether it has
//! ended. The caller brings counted states and commits the end that comes out.

use super::plan::{Current, Next};
use crate::unit::UnitState;

/// What became of a cluster that a rollout moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdmissionState {
    /// Its unit was given the target, and its agent has not said that it is applied.
    Admitted,
    /// The target was applied.
    Applied,
    /// It was let go of: nobody waits for it, until it is chosen again. One that is suspended is still waited for: its
    /// rollout stands still and has not ended.
    Withdrawn,
    /// Its unit was given a newer target before this one was applied.
    Superseded,
}

impl AdmissionState {
    /// A word for the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::Applied => "Applied",
            Self::Withdrawn => "Withdrawn",
            Self::Superseded => "Superseded",
        }
    }
}

/// What turns an admission into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The agent has applied the unit's present target.
    Applied,
    /// The cluster is no longer chosen, or the unit is to be removed.
    Withdrawn,
    /// The cluster is chosen again.
    Chosen,
    /// The unit has a newer target.
    Retargeted,
}

impl Turn {
    /// What it turns; all else stays as it is.
    pub fn from(self) -> &'static [AdmissionState] {
        match self {
            Self::Applied | Self::Retargeted => &[AdmissionState::Admitted, AdmissionState::Withdrawn],
            Self::Withdrawn => &[AdmissionState::Admitted],
            Self::Chosen => &[AdmissionState::Withdrawn],
        }
    }

    /// What it turns that into.
    pub fn to(self) -> AdmissionState {
        match self {
            Self::Applied => AdmissionState::Applied,
            Self::Withdrawn => AdmissionState::Withdrawn,
            Self::Chosen => AdmissionState::Admitted,
            Self::Retargeted => AdmissionState::Superseded,
        }
    }

    /// How a rollout ends of which it has turned anything, once no cluster of it is waited for; `None`: the others tell.
    pub fn end(self) -> Option<End> {
        match self {
            Self::Retargeted => Some(End::Superseded),
            Self::Applied | Self::Withdrawn | Self::Chosen => None,
        }
    }

    /// What a plan turns of the rollout that a unit was moved by; `None`: nothing.
    pub fn of(unit: &Current, next: &Next) -> Option<Self> {
        if next.retargeted {
            return Some(Self::Retargeted);
        }
        let is_placed = |state: &UnitState| match state {
            UnitState::Active | UnitState::Suspended => true,
            UnitState::Detached | UnitState::Removing(_) => false,
        };
        match (is_placed(&unit.state), is_placed(&next.state)) {
            (false, true) => Some(Self::Chosen),
            (true, false) => Some(Self::Withdrawn),
            _ => None,
        }
    }
}

/// How a rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every cluster has applied it.
    Complete,
    /// Some cluster was let go of before it had applied it. It goes on if that is chosen again within a day, and is complete
    /// once all of them have applied it all the same.
    Withdrawn,
    /// Some cluster was given something newer before it had applied it.
    Superseded,
}

impl End {
    /// Reads what [`Self::as_str`] gives; `None`: it has not ended.
    pub fn parse(state: &str) -> Option<Self> {
        [Self::Complete, Self::Withdrawn, Self::Superseded]
            .into_iter()
            .find(|end| end.as_str() == state)
    }

    /// A word for the store and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "Complete",
            Self::Withdrawn => "Withdrawn",
            Self::Superseded => "Superseded",
        }
    }
}

/// How many clusters of a rollout are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`AdmissionState::Admitted`].
    pub admitted: i64,
    /// [`AdmissionState::Applied`].
    pub applied: i64,
    /// [`AdmissionState::Withdrawn`].
    pub withdrawn: i64,
    /// [`AdmissionState::Superseded`].
    pub superseded: i64,
}

impl Tally {
    /// How the rollout ends; `None` while a cluster is waited for. Whatever happens to other clusters of the app ends
    /// nothing.
    pub fn end(&self) -> Option<End> {
        match self {
            Self { admitted: 1.., .. } => None,
            Self { superseded: 1.., .. } => Some(End::Superseded),
            Self { withdrawn: 1.., .. } => Some(End::Withdrawn),
            _ => Some(End::Complete),
        }
    }

    /// How the rollout ends that has `ended` so, or not yet; `None`: it stays as it is. An agent may have applied a target
    /// just when its cluster was let go of, and tell it later.
    pub fn end_after(&self, ended: Option<End>) -> Option<End> {
        let end = self.end()?;
        match ended {
            None => Some(end),
            Some(End::Withdrawn) if end == End::Complete => Some(end),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use uuid::Uuid;

    use super::*;
    use crate::{
        digest::Digest,
        id::{ClusterId, UnitId},
        rollout::plan::Cause,
        unit::{Settings, Substitution},
    };

    const TURNS: [Turn; 4] = [Turn::Applied, Turn::Withdrawn, Turn::Chosen, Turn::Retargeted];

    fn turned(admission: AdmissionState, turn: Turn) -> AdmissionState {
        match turn.from().contains(&admission) {
            true => turn.to(),
            false => admission,
        }
    }

    fn tally(admissions: &[AdmissionState]) -> Tally {
        let count = |of| {
            let found = admissions.iter().filter(|one| **one == of).count();
            i64::try_from(found).expect("few")
        };
        Tally {
            admitted: count(AdmissionState::Admitted),
            applied: count(AdmissionState::Applied),
            withdrawn: count(AdmissionState::Withdrawn),
            superseded: count(AdmissionState::Superseded),
        }
    }

    /// Whatever turns three clusters, in every order, five times.
    fn every_way(visit: &mut impl FnMut(&[(usize, Turn)], &[AdmissionState; 3])) {
        fn go(
            done: &mut Vec<(usize, Turn)>,
            now: [AdmissionState; 3],
            visit: &mut impl FnMut(&[(usize, Turn)], &[AdmissionState; 3]),
        ) {
            visit(done, &now);
            if done.len() == 5 {
                return;
            }
            for place in 0..3 {
                for turn in TURNS {
                    let mut next = now;
                    next[place] = turned(now[place], turn);
                    done.push((place, turn));
                    go(done, next, visit);
                    done.pop();
                }
            }
        }
        go(&mut Vec::new(), [AdmissionState::Admitted; 3], visit);
    }

    #[test]
    fn a_rollout_ends_when_no_cluster_is_waited_for_and_never_before() {
        let mut ways = 0;
        every_way(&mut |done, now| {
            ways += 1;
            // What the turns of each cluster say, told apart from the rules above.
            let waited = (0..3).any(|place| {
                let mut waited = true;
                for (_, turn) in done.iter().filter(|(at, _)| *at == place) {
                    match turn {
                        Turn::Applied | Turn::Retargeted => return false,
                        Turn::Withdrawn => waited = false,
                        Turn::Chosen => waited = true,
                    }
                }
                waited
            });
            assert_eq!(tally(now).end().is_none(), waited, "{done:?}");
        });
        assert_eq!(ways, (0..=5).map(|n| 12_usize.pow(n)).sum::<usize>());
    }

    #[test]
    fn it_is_superseded_where_a_cluster_has_moved_on_before_it_applied_and_complete_where_all_have_applied() {
        every_way(&mut |done, now| {
            let moved_on = (0..3).any(|place| {
                let mut ends = done
                    .iter()
                    .filter(|(at, turn)| *at == place && matches!(turn, Turn::Applied | Turn::Retargeted));
                ends.next().is_some_and(|(_, first)| *first == Turn::Retargeted)
            });
            if let Some(end) = tally(now).end() {
                assert_eq!(end == End::Superseded, moved_on, "{done:?}");
                let all = now.iter().all(|one| *one == AdmissionState::Applied);
                assert_eq!(end == End::Complete, all, "{done:?}");
            }
        });
    }

    #[test]
    fn what_was_applied_or_has_moved_on_turns_no_more() {
        for ended in [AdmissionState::Applied, AdmissionState::Superseded] {
            assert!(TURNS.iter().all(|turn| turned(ended, *turn) == ended));
        }
        assert_eq!(Tally::default().end(), Some(End::Complete));
    }

    #[test]
    fn what_was_withdrawn_is_complete_once_every_cluster_has_applied_it_and_no_other_end_changes() {
        const ENDS: [End; 3] = [End::Complete, End::Withdrawn, End::Superseded];
        every_way(&mut |done, now| {
            let tally = tally(now);
            assert_eq!(tally.end_after(None), tally.end(), "{done:?}");
            for ended in ENDS {
                let all = now.iter().all(|one| *one == AdmissionState::Applied);
                let expected = (ended == End::Withdrawn && all).then_some(End::Complete);
                assert_eq!(tally.end_after(Some(ended)), expected, "{done:?} {ended:?}");
            }
        });
        assert!(ENDS.iter().all(|end| End::parse(end.as_str()) == Some(*end)));
        assert_eq!(End::parse("Progressing"), None);
    }

    fn unit(state: UnitState) -> (Current, Next) {
        let settings = Settings {
            interval: Duration::from_secs(60),
            retry_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            wait: false,
            prune: true,
            common_labels: BTreeMap::new(),
            common_annotations: BTreeMap::new(),
            substitution: Substitution::Off,
            default_namespace: String::new(),
            ..Settings::default()
        };
        let target = Digest::of("target", b"one");
        let (id, cluster) = (UnitId(Uuid::from_u128(1)), ClusterId(Uuid::from_u128(2)));
        let current = Current {
            id,
            cluster,
            content: None,
            revision: None,
            target,
            keyset: None,
            settings: settings.clone(),
            variables: Vec::new(),
            withheld: Vec::new(),
            depends_on: Vec::new(),
            state: state.clone(),
            requested: String::new(),
            waiting: Vec::new(),
        };
        let next = Next {
            id: Some(id),
            cluster,
            content: None,
            revision: None,
            target,
            settings,
            variables: Vec::new(),
            withheld: Vec::new(),
            depends_on: Vec::new(),
            state,
            requested: String::new(),
            waiting: Vec::new(),
            retargeted: false,
            cause: Cause::Suspend,
        };
        (current, next)
    }

    #[test]
    fn one_that_is_suspended_is_waited_for_and_one_that_is_let_go_of_is_not() {
        use UnitState::{Active, Detached, Suspended};
        let turn =
            |before: &UnitState, now: &UnitState| Turn::of(&unit(before.clone()).0, &unit(now.clone()).1);
        for (before, now, expected) in [
            (Active, Suspended, None),
            (Suspended, Active, None),
            (Active, Detached, Some(Turn::Withdrawn)),
            (Suspended, Detached, Some(Turn::Withdrawn)),
            (Detached, Active, Some(Turn::Chosen)),
            (Detached, Suspended, Some(Turn::Chosen)),
        ] {
            assert_eq!(turn(&before, &now), expected, "{before:?} {now:?}");
            assert_eq!(turn(&before, &before), None);
        }
    }

    #[test]
    fn whatever_became_of_the_others_one_that_has_moved_on_tells_how_it_ends() {
        for (applied, withdrawn) in [(0, 0), (3, 0), (0, 3), (3, 3)] {
            let tally = Tally {
                applied,
                withdrawn,
                superseded: 1,
                ..Tally::default()
            };
            assert_eq!(tally.end(), Turn::Retargeted.end());
            assert_eq!(Tally { admitted: 1, ..tally }.end(), None);
        }
        let others = [Turn::Applied, Turn::Withdrawn, Turn::Chosen];
        assert!(others.iter().all(|turn| turn.end().is_none()));
    }
}
