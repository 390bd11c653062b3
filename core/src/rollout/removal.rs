//! Plans the units of an app that is to be deleted, and those of clusters that are drained: what they have is removed by the
//! steps of any other removal, as a target that holds nothing, or let go of. Pure.

use super::plan::{Cause, Current, Next, Planned, unchanged};
use crate::{
    content::{Content, Objects},
    digest::Digest,
    removal::{DeletionPolicy, Removal},
    unit::{Settings, Substitution, UnitState, target_digest},
};

/// The content that holds nothing, and of which nothing is missing.
pub fn nothing() -> Content {
    Content::Objects(Objects {
        entries: Vec::new(),
        count: 0,
        complete: true,
    })
}

/// Whether what a unit has is deleted with its app, in Flux's words. `prunes`: its app says so now, whatever its units were
/// planned from last.
pub fn deletes(policy: DeletionPolicy, suspended: bool, prunes: bool) -> bool {
    // Whoever suspends an app wants nothing done to it.
    !suspended
        && match policy {
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            DeletionPolicy::Orphan => false,
            DeletionPolicy::MirrorPrune => prunes,
        }
}

/// Whether what a unit has is deleted where its cluster is drained. `policy`: what its app says; by one of a newer hub (`None`)
/// nothing is. `suspended`: its app is. `prunes`: as for [`deletes`].
pub fn drains(state: &UnitState, policy: Option<DeletionPolicy>, suspended: bool, prunes: bool) -> bool {
    // What was let go of before stays let go of.
    let is_kept = suspended || matches!(state, UnitState::Suspended | UnitState::Detached);
    policy.is_some_and(|policy| deletes(policy, is_kept, prunes))
}

/// Plans the units of an app that a person has said is to be deleted: that is the permission for all that they have.
/// `suspended`: the app is; `prunes`: it says so now.
pub fn plan_removal(units: &[Current], policy: DeletionPolicy, suspended: bool, prunes: bool) -> Planned {
    let next = units.iter().map(|unit| {
        let suspended = suspended || unit.state == UnitState::Suspended;
        match deletes(policy, suspended, prunes) {
            true => remove(unit, policy, Cause::Deleted),
            false => part(unit, Cause::Deleted),
        }
    });
    let mut units: Vec<Next> = next
        .zip(units)
        .filter(|(next, unit)| next.retargeted || next.state != unit.state || !unit.waiting.is_empty())
        .map(|(next, _)| next)
        .collect();
    units.sort_by_key(|unit| unit.cluster);
    Planned { units }
}

/// Plans a unit of a cluster that a person has said is to be drained.
pub(super) fn drain(unit: &Current, policy: DeletionPolicy, suspended: bool, prunes: bool) -> Next {
    match drains(&unit.state, Some(policy), suspended, prunes) {
        true => remove(unit, policy, Cause::Drained),
        false => let_go(unit, Cause::Drained),
    }
}

/// Plans a unit of a cluster that retires: all that it has stays, and is nobody's.
pub(super) fn retire(unit: &Current) -> Next {
    part(unit, Cause::Unplaced)
}

/// All that it has stays in its cluster, and bears its mark no more. Nothing of it is deleted, whatever an agent makes of that.
fn part(unit: &Current, cause: Cause) -> Next {
    empty(unit, DeletionPolicy::Orphan, cause)
}

fn remove(unit: &Current, policy: DeletionPolicy, cause: Cause) -> Next {
    empty(unit, policy, cause)
}

fn empty(unit: &Current, policy: DeletionPolicy, cause: Cause) -> Next {
    let content: Option<Digest> = Some(nothing().digest());
    let settings = Settings {
        prune: policy != DeletionPolicy::Orphan,
        substitution: Substitution::Off,
        ..unit.settings.clone()
    };
    let target = target_digest(content, &settings, &[]);
    Next {
        content,
        target,
        settings,
        variables: Vec::new(),
        withheld: Vec::new(),
        depends_on: Vec::new(),
        state: UnitState::Removing(Removal {
            policy,
            approval: Some(target),
        }),
        retargeted: target != unit.target,
        ..let_go(unit, cause)
    }
}

/// It stays in its cluster as it is.
fn let_go(unit: &Current, cause: Cause) -> Next {
    Next {
        state: UnitState::Detached,
        cause,
        ..unchanged(unit)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use uuid::Uuid;

    use super::*;
    use crate::id::{ClusterId, UnitId};

    fn unit(state: UnitState, prune: bool) -> Current {
        let settings = Settings {
            interval: Duration::from_secs(60),
            retry_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            wait: false,
            prune,
            common_labels: BTreeMap::new(),
            common_annotations: BTreeMap::new(),
            substitution: Substitution::Always,
            default_namespace: String::new(),
            ..Settings::default()
        };
        let content = Some(Digest::of("content", b"x"));
        Current {
            id: UnitId(Uuid::from_u128(1)),
            cluster: ClusterId(Uuid::from_u128(2)),
            content,
            revision: Some(3),
            target: target_digest(content, &settings, &[]),
            keyset: None,
            settings,
            variables: Vec::new(),
            withheld: Vec::new(),
            depends_on: Vec::new(),
            state,
            requested: String::new(),
            waiting: Vec::new(),
        }
    }

    /// Whether nothing of a unit is deleted, by any agent.
    fn stays(unit: &Next) -> bool {
        let is_orphan = |removal: &Removal| removal.policy == DeletionPolicy::Orphan;
        matches!(&unit.state, UnitState::Removing(removal) if is_orphan(removal)) && !unit.settings.prune
    }

    #[test]
    fn what_becomes_of_a_unit_is_what_flux_would_do() {
        use DeletionPolicy::{Delete, MirrorPrune, Orphan, WaitForTermination};
        let removes = |policy, state, prune| {
            let planned = plan_removal(&[unit(state, prune)], policy, false, prune);
            match &planned.units[..] {
                [one] => {
                    assert_eq!(
                        one.target,
                        target_digest(one.content, &one.settings, &one.variables)
                    );
                    let UnitState::Removing(removal) = &one.state else {
                        panic!("{one:?}");
                    };
                    assert!(removal.is_approved(one.target));
                    // What stays is let go of by a target that no agent prunes for.
                    assert_eq!(one.settings.prune, removal.policy != Orphan);
                    removal.policy != Orphan
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(removes(MirrorPrune, UnitState::Active, true));
        assert!(!removes(MirrorPrune, UnitState::Active, false));
        assert!(removes(Delete, UnitState::Active, false));
        assert!(removes(WaitForTermination, UnitState::Detached, false));
        assert!(!removes(Orphan, UnitState::Active, true));
        assert!(!removes(Delete, UnitState::Suspended, true));
    }

    /// What a person has said last counts, also where no plan has taken it up before the deletion.
    #[test]
    fn what_an_app_says_of_pruning_when_it_is_deleted_counts_and_not_what_its_units_were_planned_from() {
        for planned_from in [true, false] {
            for prunes in [true, false] {
                let removes = |state: &UnitState| match state {
                    UnitState::Removing(removal) => removal.policy != DeletionPolicy::Orphan,
                    _ => false,
                };
                let units = [unit(UnitState::Active, planned_from)];
                let planned = plan_removal(&units, DeletionPolicy::MirrorPrune, false, prunes);
                let state = &planned.units[0].state;
                assert_eq!(removes(state), prunes, "planned from {planned_from}");
                let drained = drain(&units[0], DeletionPolicy::MirrorPrune, false, prunes);
                assert_eq!(removes(&drained.state), prunes);
            }
        }
    }

    #[test]
    fn a_drain_deletes_what_a_deletion_would_but_for_what_was_let_go_of_and_by_policies_of_a_newer_hub() {
        use DeletionPolicy::{Delete, MirrorPrune, Orphan};
        let removing = UnitState::Removing(Removal {
            policy: MirrorPrune,
            approval: None,
        });
        for state in [UnitState::Active, removing] {
            assert!(drains(&state, Some(MirrorPrune), false, true));
            assert!(drains(&state, Some(Delete), false, false));
            assert!(!drains(&state, Some(MirrorPrune), false, false));
            assert!(!drains(&state, Some(Delete), true, true));
            assert!(!drains(&state, Some(Orphan), false, true));
            assert!(!drains(&state, None, false, true));
        }
        for state in [UnitState::Suspended, UnitState::Detached] {
            assert!(!drains(&state, Some(Delete), false, true));
        }
    }

    #[test]
    fn what_is_planned_so_is_not_planned_again() {
        let first = plan_removal(
            &[unit(UnitState::Active, true)],
            DeletionPolicy::MirrorPrune,
            false,
            true,
        );
        let next = &first.units[0];
        assert!(next.retargeted);
        let recorded = Current {
            content: next.content,
            target: next.target,
            settings: next.settings.clone(),
            state: next.state.clone(),
            ..unit(UnitState::Active, true)
        };
        assert!(
            plan_removal(&[recorded], DeletionPolicy::MirrorPrune, false, true)
                .units
                .is_empty()
        );
        let detached = unit(UnitState::Detached, false);
        let parting = plan_removal(&[detached], DeletionPolicy::MirrorPrune, false, false);
        let recorded = Current {
            content: parting.units[0].content,
            target: parting.units[0].target,
            settings: parting.units[0].settings.clone(),
            state: parting.units[0].state.clone(),
            ..unit(UnitState::Detached, false)
        };
        assert!(
            plan_removal(&[recorded], DeletionPolicy::MirrorPrune, false, false)
                .units
                .is_empty()
        );
    }

    /// The state of its units is planned by then, and says so no more.
    #[test]
    fn of_a_suspended_app_everything_stays_however_often_it_is_planned() {
        for state in [UnitState::Suspended, UnitState::Active, UnitState::Detached] {
            let first = plan_removal(&[unit(state, true)], DeletionPolicy::MirrorPrune, true, true);
            assert!(first.units.iter().all(stays), "{first:?}");
            let parting = Current {
                state: first.units[0].state.clone(),
                settings: first.units[0].settings.clone(),
                ..unit(UnitState::Detached, true)
            };
            let again = plan_removal(&[parting], DeletionPolicy::Delete, true, true);
            assert!(again.units.iter().all(stays), "{again:?}");
        }
    }
}
