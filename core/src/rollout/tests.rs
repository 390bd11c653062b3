//! Scenarios of the planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;

use super::{
    plan::{Admission, Admitted, Cause, Current, Input, Next, Planned, check, plan, unplaced},
    waiting::Waiting,
};
use crate::{
    digest::Digest,
    fleet::placement::{Chosen, OverrideConflict},
    id::{ClusterId, UnitId},
    removal::{DeletionPolicy, Removal},
    unit::{Settings, Substitution, UnitState, VariableLayer},
};

const REMOVAL: Removal = Removal {
    policy: DeletionPolicy::Delete,
    approval: None,
};

fn content(name: &str) -> Digest {
    Digest::of("content", name.as_bytes())
}

fn cluster(number: u128) -> Chosen {
    Chosen {
        id: ClusterId(Uuid::from_u128(number)),
        name: format!("c{number}"),
        variables: BTreeMap::from([("region".into(), format!("r{number}"))]),
        overrides: Ok(BTreeMap::new()),
    }
}

fn input() -> Input {
    Input {
        admission: admitted(1, "one"),
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
        layers: vec![],
        suspended: false,
        requested: String::new(),
        chosen: vec![cluster(1), cluster(2)],
        unreadable: BTreeMap::new(),
        draining: BTreeSet::new(),
        retiring: BTreeSet::new(),
        deletion_policy: DeletionPolicy::MirrorPrune,
        units: vec![],
        withheld: BTreeMap::new(),
        dependencies: Default::default(),
    }
}

fn admitted(revision: i64, name: &str) -> Admission {
    Admission::Admitted(Admitted {
        revision,
        content: content(name),
    })
}

/// Plans, proves the plan, and takes it as recorded.
fn step(input: &mut Input) -> Planned {
    let planned = plan(input);
    assert_eq!(check(input, &planned), Ok(()));
    for next in &planned.units {
        record(input, next);
    }
    assert_eq!(plan(input), Planned::default(), "a recorded plan is settled");
    planned
}

fn record(input: &mut Input, next: &Next) {
    let unit = Current {
        id: next.id.unwrap_or(UnitId(next.cluster.0)),
        cluster: next.cluster,
        content: next.content,
        revision: next.revision,
        target: next.target,
        keyset: None,
        settings: next.settings.clone(),
        variables: next.variables.clone(),
        withheld: next.withheld.clone(),
        depends_on: next.depends_on.clone(),
        state: next.state.clone(),
        requested: next.requested.clone(),
        waiting: next.waiting.clone(),
    };
    input.units.retain(|old| old.cluster != unit.cluster);
    input.units.push(unit);
}

fn causes(planned: &Planned) -> Vec<(u128, Cause, bool)> {
    planned
        .units
        .iter()
        .map(|unit| (unit.cluster.0.as_u128(), unit.cause, unit.retargeted))
        .collect()
}

#[test]
fn chosen_clusters_get_a_unit_and_a_new_content_moves_them() {
    let mut input = input();
    assert_eq!(
        causes(&step(&mut input)),
        [(1, Cause::Placed, true), (2, Cause::Placed, true)]
    );
    input.admission = admitted(2, "two");
    let planned = step(&mut input);
    assert_eq!(
        causes(&planned),
        [(1, Cause::Content, true), (2, Cause::Content, true)]
    );
    assert_eq!(planned.units[0].revision, Some(2));
}

#[test]
fn a_commit_that_changes_nothing_writes_nothing() {
    let mut input = input();
    step(&mut input);
    input.admission = admitted(9, "one");
    assert_eq!(step(&mut input), Planned::default());
}

#[test]
fn without_content_nothing_is_made_and_existing_units_keep_theirs() {
    let mut input = input();
    input.admission = Admission::Held(vec![]);
    assert_eq!(step(&mut input), Planned::default());
    input.admission = admitted(1, "one");
    step(&mut input);
    input.admission = Admission::Held(vec![]);
    assert_eq!(step(&mut input), Planned::default());
    assert_eq!(input.units[0].content, Some(content("one")));
}

#[test]
fn a_cluster_no_longer_chosen_is_detached_and_keeps_its_content() {
    let mut input = input();
    step(&mut input);
    input.chosen = vec![];
    let planned = step(&mut input);
    assert_eq!(
        causes(&planned),
        [(1, Cause::Unplaced, false), (2, Cause::Unplaced, false)]
    );
    assert!(
        planned
            .units
            .iter()
            .all(|unit| unit.state == UnitState::Detached && unit.content.is_some())
    );
    input.chosen = vec![cluster(1)];
    assert_eq!(causes(&step(&mut input)), [(1, Cause::Placed, false)]);
}

#[test]
fn a_held_admission_keeps_content_settings_and_variables_and_says_why() {
    let mut input = input();
    input.settings.substitution = Substitution::Always;
    input.layers = vec![VariableLayer::Literal {
        values: BTreeMap::from([("size".into(), "1".into())]),
    }];
    step(&mut input);
    let before = input.units.clone();
    let why = Waiting::BuildFailed {
        message: "kustomize build failed".into(),
    };
    input.admission = Admission::Held(vec![why.clone()]);
    input.settings.substitution = Substitution::Off;
    input.settings.prune = false;
    input.layers = vec![];
    let planned = step(&mut input);
    for (unit, old) in planned.units.iter().zip(&before) {
        assert!(!unit.retargeted, "{unit:?}");
        assert_eq!((unit.content, unit.target), (old.content, old.target));
        assert_eq!((&unit.settings, &unit.variables), (&old.settings, &old.variables));
        assert_eq!(unit.waiting, std::slice::from_ref(&why));
    }
    assert_eq!(planned.units.len(), 2);
    input.admission = admitted(2, "two");
    let planned = step(&mut input);
    assert!(
        planned
            .units
            .iter()
            .all(|unit| unit.retargeted && unit.waiting.is_empty())
    );
    assert_eq!(planned.units[0].settings.substitution, Substitution::Off);
}

#[test]
fn a_held_unit_is_suspended_resumed_and_detached_all_the_same() {
    let mut input = input();
    step(&mut input);
    input.admission = Admission::Held(vec![Waiting::NoArtifact]);
    step(&mut input);
    input.suspended = true;
    assert_eq!(
        causes(&step(&mut input)),
        [(1, Cause::Suspend, false), (2, Cause::Suspend, false)]
    );
    input.suspended = false;
    assert_eq!(
        causes(&step(&mut input)),
        [(1, Cause::Suspend, false), (2, Cause::Suspend, false)]
    );
    input.chosen = vec![cluster(1)];
    assert_eq!(causes(&step(&mut input)), [(2, Cause::Unplaced, false)]);
}

#[test]
fn a_cluster_that_cannot_be_read_keeps_its_unit_as_it_is() {
    let mut input = input();
    step(&mut input);
    let why = Waiting::Unreadable {
        object: "Cluster/c1".into(),
        message: "labels".into(),
    };
    input.chosen = vec![cluster(2)];
    input.unreadable = BTreeMap::from([(ClusterId(Uuid::from_u128(1)), why.clone())]);
    let planned = step(&mut input);
    assert_eq!(causes(&planned), [(1, Cause::Waiting, false)]);
    assert_eq!(planned.units[0].state, UnitState::Active);
    assert_eq!(planned.units[0].waiting, [why]);
}

#[test]
fn a_suspended_app_holds_its_units_at_their_target() {
    let mut input = input();
    step(&mut input);
    input.suspended = true;
    input.admission = admitted(2, "two");
    let planned = step(&mut input);
    assert!(
        planned
            .units
            .iter()
            .all(|unit| unit.state == UnitState::Suspended && !unit.retargeted)
    );
    assert!(
        planned
            .units
            .iter()
            .all(|unit| unit.content == Some(content("one")))
    );
    input.suspended = false;
    let planned = step(&mut input);
    assert!(
        planned
            .units
            .iter()
            .all(|unit| unit.content == Some(content("two")) && unit.retargeted)
    );
}

#[test]
fn cluster_variables_do_not_switch_substitution_on() {
    let mut input = input();
    let planned = step(&mut input);
    assert!(planned.units.iter().all(|unit| unit.variables.is_empty()));
}

#[test]
fn variables_are_layered_app_then_cluster_then_override() {
    let mut input = input();
    let literal = |name: &str| VariableLayer::Literal {
        values: BTreeMap::from([("x".into(), name.into())]),
    };
    input.settings.substitution = Substitution::WithVariables;
    input.layers = vec![literal("app")];
    input.chosen[0].overrides = Ok(BTreeMap::from([("x".into(), "override".into())]));
    let planned = step(&mut input);
    let region = VariableLayer::Literal {
        values: BTreeMap::from([("region".into(), "r1".into())]),
    };
    assert_eq!(
        planned.units[0].variables,
        [literal("app"), region, literal("override")]
    );
    assert_eq!(planned.units[1].variables.len(), 2);
}

#[test]
fn an_override_alone_switches_substitution_on_for_its_cluster() {
    let mut input = input();
    input.chosen[1].overrides = Ok(BTreeMap::from([("x".into(), "1".into())]));
    let planned = step(&mut input);
    assert_eq!(planned.units[0].settings.substitution, Substitution::Off);
    assert_eq!(
        planned.units[1].settings.substitution,
        Substitution::WithVariables
    );
}

#[test]
fn placements_in_conflict_leave_the_unit_as_it_is_and_say_so() {
    let mut input = input();
    step(&mut input);
    input.chosen[0].overrides = Err(OverrideConflict {
        first: "a".into(),
        second: "b".into(),
    });
    input.admission = admitted(2, "two");
    let planned = step(&mut input);
    assert_eq!(planned.units[0].content, Some(content("one")));
    assert!(matches!(
        planned.units[0].waiting[..],
        [Waiting::OverridesDiffer { .. }]
    ));
    assert_eq!(planned.units[1].content, Some(content("two")));
    assert_eq!(unplaced(&input), []);
}

/// Its app was to be deleted, and is planned as any other again.
#[test]
fn a_unit_whose_app_is_wanted_again_keeps_what_is_left_wherever_it_is() {
    let mut input = input();
    step(&mut input);
    let removing = |input: &mut Input| input.units[0].state = UnitState::Removing(REMOVAL);
    let gone = input.chosen.remove(0);
    let state = |input: &mut Input| step(input).units[0].state.clone();
    removing(&mut input);
    assert_eq!(state(&mut input), UnitState::Detached);
    // Also where it is not known whether it is chosen, or placements are in conflict over it.
    removing(&mut input);
    input.unreadable = BTreeMap::from([(gone.id, Waiting::NoArtifact)]);
    assert_eq!(state(&mut input), UnitState::Detached);
    input.unreadable.clear();
    let conflict = OverrideConflict {
        first: "a".into(),
        second: "b".into(),
    };
    input.chosen.push(Chosen {
        overrides: Err(conflict),
        ..gone.clone()
    });
    removing(&mut input);
    assert_eq!(state(&mut input), UnitState::Detached);
    *input.chosen.last_mut().expect("there") = gone;
    removing(&mut input);
    assert_eq!(state(&mut input), UnitState::Active);
}

#[test]
fn what_an_app_has_in_a_cluster_that_is_drained_is_removed_unless_somebody_wants_it_kept() {
    let drained = |change: &dyn Fn(&mut Input)| {
        let mut input = input();
        step(&mut input);
        let drained = input.chosen.remove(0);
        input.draining.insert(drained.id);
        change(&mut input);
        let planned = step(&mut input);
        let unit = input.units.iter().find(|unit| unit.cluster == drained.id);
        (unit.expect("its unit").state.clone(), planned)
    };
    let (state, planned) = drained(&|_| {});
    assert!(matches!(state, UnitState::Removing(_)), "{state:?}");
    assert_eq!(causes(&planned), [(1, Cause::Drained, true)]);
    // What cannot be rendered is removed all the same.
    let (state, _) = drained(&|input| input.admission = Admission::Held(vec![Waiting::NoArtifact]));
    assert!(matches!(state, UnitState::Removing(_)), "{state:?}");
    let (state, _) = drained(&|input| input.suspended = true);
    assert_eq!(state, UnitState::Detached);
    let (state, _) = drained(&|input| input.deletion_policy = DeletionPolicy::Orphan);
    assert_eq!(state, UnitState::Detached);
    let (state, _) = drained(&|input| input.settings.prune = false);
    assert_eq!(state, UnitState::Detached);
    // What was let go of before stays let go of.
    let (state, planned) = drained(&|input| {
        input.units[0].state = UnitState::Detached;
        input.deletion_policy = DeletionPolicy::Delete;
    });
    assert_eq!((state, planned), (UnitState::Detached, Planned::default()));
}

#[test]
fn a_cluster_that_is_not_drained_any_more_gets_all_back_and_one_that_retires_keeps_what_it_has() {
    let mut input = input();
    step(&mut input);
    let one = input.chosen.remove(0);
    input.draining.insert(one.id);
    step(&mut input);
    input.draining.clear();
    input.chosen.insert(0, one.clone());
    step(&mut input);
    let unit = |input: &Input| {
        let unit = input.units.iter().find(|unit| unit.cluster == one.id);
        unit.expect("its unit").clone()
    };
    assert_eq!(unit(&input).state, UnitState::Active);
    assert_eq!(unit(&input).content, Some(content("one")));
    // Half drained, and no longer: what is left of it stays.
    input.draining.insert(one.id);
    input.chosen.remove(0);
    step(&mut input);
    input.draining.clear();
    step(&mut input);
    assert_eq!(unit(&input).state, UnitState::Detached);
}

#[test]
fn the_checker_lets_a_drain_remove_what_nobody_wants_kept_and_nothing_else() {
    let mut drained = input();
    step(&mut drained);
    let one = drained.chosen.remove(0);
    drained.draining.insert(one.id);
    let good = plan(&drained);
    assert_eq!(check(&drained, &good), Ok(()));
    for change in [
        (|input| input.draining.clear()) as fn(&mut Input),
        |input| input.suspended = true,
        |input| input.deletion_policy = DeletionPolicy::Orphan,
        |input| {
            input
                .units
                .iter_mut()
                .for_each(|unit| unit.state = UnitState::Detached)
        },
    ] {
        let mut other = drained.clone();
        change(&mut other);
        assert!(check(&other, &good).is_err());
    }
    let mut kept = good;
    kept.units[0].content = Some(content("one"));
    assert!(check(&drained, &kept).is_err());
}

#[test]
fn placements_in_conflict_over_a_cluster_without_unit_say_so() {
    let mut input = input();
    input.chosen[0].overrides = Err(OverrideConflict {
        first: "a".into(),
        second: "b".into(),
    });
    let planned = step(&mut input);
    assert_eq!(causes(&planned), [(2, Cause::Placed, true)]);
    let differ = Waiting::OverridesDiffer {
        cluster: "c1".into(),
        first: "a".into(),
        second: "b".into(),
    };
    assert_eq!(unplaced(&input), [differ]);
}

#[test]
fn a_request_reaches_every_unit_without_a_new_target() {
    let mut input = input();
    step(&mut input);
    input.requested = "now".into();
    assert_eq!(
        causes(&step(&mut input)),
        [(1, Cause::Request, false), (2, Cause::Request, false)]
    );
}

#[test]
fn the_checker_refuses_what_the_planner_must_not_do() {
    let input = input();
    let good = plan(&input);
    let mut removing = good.clone();
    removing.units[0].state = UnitState::Removing(REMOVAL);
    assert!(check(&input, &removing).is_err());
    let mut twice = good.clone();
    twice.units.push(twice.units[0].clone());
    assert!(check(&input, &twice).is_err());
    let mut forged = good.clone();
    forged.units[0].target = Digest::of("target", b"");
    assert!(check(&input, &forged).is_err());
    let mut held = input.clone();
    held.admission = Admission::Held(vec![]);
    assert!(check(&held, &good).is_err());
    let mut stray = good;
    stray.units[0].cluster = ClusterId(Uuid::from_u128(99));
    assert!(check(&input, &stray).is_err());
}

#[test]
fn what_is_needed_in_one_cluster_holds_the_unit_there_and_no_other() {
    let mut input = input();
    let why = Waiting::DependencyNotReady {
        cluster: "c1".into(),
        name: "infra/db".into(),
        why: "is not ready".into(),
    };
    input.dependencies.unready_in = BTreeMap::from([(ClusterId(Uuid::from_u128(1)), vec![why.clone()])]);
    // No unit is made there, and the app says why.
    assert_eq!(causes(&step(&mut input)), [(2, Cause::Placed, true)]);
    assert_eq!(unplaced(&input), std::slice::from_ref(&why));
    input.dependencies.unready_in.clear();
    assert_eq!(causes(&step(&mut input)), [(1, Cause::Placed, true)]);
    assert_eq!(unplaced(&input), []);
    // One that there is keeps what it has, with the reason; one that is given nothing new takes no notice.
    input.dependencies.unready_in = BTreeMap::from([(ClusterId(Uuid::from_u128(1)), vec![why.clone()])]);
    assert_eq!((step(&mut input), unplaced(&input)), (Planned::default(), vec![]));
    input.admission = admitted(2, "two");
    let planned = step(&mut input);
    assert_eq!(
        causes(&planned),
        [(1, Cause::Waiting, false), (2, Cause::Content, true)]
    );
    assert_eq!(planned.units[0].content, Some(content("one")));
    assert_eq!(planned.units[0].waiting, std::slice::from_ref(&why));
    assert_eq!(unplaced(&input), [why]);
}
