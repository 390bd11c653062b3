//! What an app is given: its units, and why nothing, or not everything, moves.

use crate::rollout::{
    dependencies::Dependencies,
    plan::{Admission, Input, Planned, check, plan, unplaced},
    waiting::Waiting,
};

/// What is decided of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The units to write.
    pub planned: Planned,
    /// The app's own reasons to wait, in order.
    pub waiting: Vec<Waiting>,
    /// Something new of it waits for other apps: so does all that it renders.
    pub is_held: bool,
}

/// What an app may be given: what is rendered, or why not; `problems` (of support, of variables) hold it as well. A
/// suspended app is held without a reason of its own.
pub fn admission(rendered: Admission, problems: impl IntoIterator<Item = Waiting>) -> Admission {
    let mut problems = problems.into_iter().peekable();
    if problems.peek().is_none() {
        return rendered;
    }
    let mut reasons = match rendered {
        Admission::Admitted(_) => Vec::new(),
        Admission::Held(reasons) => reasons,
    };
    reasons.extend(problems);
    Admission::Held(reasons)
}

/// Decides an app; `is_named`: a placement names it; `departing`: clusters that placements would choose and that depart. The error
/// says what the planner did wrong: nothing is committed.
pub fn decide(input: &Input, is_named: bool, departing: &[String]) -> Result<Decision, String> {
    let mut waiting = match &input.admission {
        Admission::Held(reasons) => reasons.clone(),
        Admission::Admitted(_) => Vec::new(),
    };
    if input.chosen.is_empty() && input.unreadable.is_empty() {
        waiting.push(match (is_named, departing) {
            (false, _) => Waiting::NoTarget,
            (true, []) => Waiting::NoClusterMatches,
            (true, departing) => Waiting::departing(departing),
        });
    }
    waiting.extend(unplaced(input));
    let planned = plan(input);
    // What is given nothing new goes on, whatever becomes of those that it needed.
    if planned.is_rollout() && !input.dependencies.unready.is_empty() {
        let held = Input {
            admission: Admission::Held(input.dependencies.unready.clone()),
            dependencies: Dependencies::default(),
            ..input.clone()
        };
        let decision = decide(&held, is_named, departing)?;
        return Ok(Decision {
            is_held: true,
            ..decision
        });
    }
    check(input, &planned)?;
    Ok(Decision {
        planned,
        waiting,
        is_held: false,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use super::*;
    use crate::{
        digest::Digest,
        fleet::placement::Chosen,
        id::ClusterId,
        removal::DeletionPolicy,
        rollout::plan::Admitted,
        unit::{Settings, Substitution},
    };

    fn admitted() -> Admission {
        Admission::Admitted(Admitted {
            revision: 1,
            content: Digest::of("content", b"x"),
        })
    }

    fn input(admission: Admission, clusters: u128) -> Input {
        let chosen = |number| Chosen {
            id: ClusterId(uuid::Uuid::from_u128(number)),
            name: format!("c{number}"),
            variables: BTreeMap::new(),
            overrides: Ok(BTreeMap::new()),
        };
        Input {
            admission,
            settings: Settings {
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
            },
            layers: Vec::new(),
            suspended: false,
            requested: String::new(),
            chosen: (0..clusters).map(chosen).collect(),
            unreadable: BTreeMap::new(),
            draining: BTreeSet::new(),
            retiring: BTreeSet::new(),
            deletion_policy: DeletionPolicy::MirrorPrune,
            units: Vec::new(),
            withheld: BTreeMap::new(),
            dependencies: Default::default(),
        }
    }

    #[test]
    fn whatever_holds_an_app_is_named_with_all_else_that_does() {
        let problem = || Waiting::NotSupported {
            object: None,
            what: "x".into(),
        };
        let broken = || Waiting::BuildFailed { message: "y".into() };
        assert_eq!(admission(admitted(), []), admitted());
        assert_eq!(
            admission(admitted(), [problem()]),
            Admission::Held(vec![problem()])
        );
        assert_eq!(
            admission(Admission::Held(vec![broken()]), [problem()]),
            Admission::Held(vec![broken(), problem()])
        );
    }

    #[test]
    fn an_app_without_clusters_says_whether_a_placement_names_it() {
        let waiting = |is_named, departing: &[String]| {
            decide(&input(admitted(), 0), is_named, departing)
                .expect("decided")
                .waiting
        };
        assert_eq!(waiting(true, &[]), [Waiting::NoClusterMatches]);
        assert_eq!(waiting(false, &[]), [Waiting::NoTarget]);
    }

    #[test]
    fn an_app_whose_clusters_all_depart_names_them_and_one_that_has_another_does_not() {
        let departing = ["c1".to_owned(), "c2".to_owned()];
        let waiting = |clusters| {
            decide(&input(admitted(), clusters), true, &departing)
                .expect("decided")
                .waiting
        };
        assert_eq!(waiting(0), [Waiting::departing(&departing)]);
        assert_eq!(waiting(1), []);
    }

    #[test]
    fn an_app_moves_once_those_that_it_needs_are_planned_and_one_that_stays_takes_no_notice() {
        let why = Waiting::DependencyNotReady {
            cluster: String::new(),
            name: "infra/db".into(),
            why: "is not ready".into(),
        };
        let mut waits = input(admitted(), 1);
        waits.dependencies.unready = vec![why.clone()];
        let decided = decide(&waits, true, &[]).expect("decided");
        assert!(decided.is_held, "and so is what it renders");
        assert!(decided.planned.units.is_empty());
        assert_eq!(decided.waiting, [why]);
        let chosen = BTreeMap::from([(ClusterId(uuid::Uuid::from_u128(0)), Vec::new())]);
        waits.dependencies = Dependencies {
            edges: chosen,
            unready: Vec::new(),
            ..Dependencies::default()
        };
        let moved = decide(&waits, true, &[]).expect("decided");
        assert!(!moved.is_held);
        assert!(moved.planned.is_rollout() && moved.waiting.is_empty());
    }

    #[test]
    fn what_is_admitted_goes_to_every_cluster_and_what_is_held_to_none() {
        let decided = decide(&input(admitted(), 2), true, &[]).expect("decided");
        assert_eq!((decided.planned.units.len(), decided.waiting.len()), (2, 0));
        let reason = Waiting::NoArtifact;
        let held = decide(&input(Admission::Held(vec![reason.clone()]), 2), true, &[]).expect("decided");
        assert!(held.planned.units.is_empty());
        assert_eq!(held.waiting, [reason]);
    }
}
