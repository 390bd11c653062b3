//! What becomes of the objects that an app renders and the hub keeps, in the scope of one cluster: which are applied, which
//! their owner lets go of, which are deleted, and why others are left as they are. Pure.

pub mod account;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    apply::{
        policy::{Decision, Policy},
        removal::most,
    },
    object::ObjectKey,
    rollout::waiting::Waiting,
};

/// Bounds of what one app may have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Apps that render one another: the last of so many keeps nothing.
    pub depth: usize,
    /// Objects of one app in one cluster.
    pub objects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 5,
            objects: 10_000,
        }
    }
}

/// The app that renders.
#[derive(Debug, Clone)]
pub struct Parent<'a> {
    /// Its uid.
    pub uid: Uuid,
    /// What it is called.
    pub key: &'a ObjectKey,
    /// Its own scope is the one that is decided about: what it renders under its own name is itself.
    pub is_in_scope: bool,
    /// The apps by which it is kept: its owner, that one's owner, and so on.
    pub ancestors: &'a [Uuid],
    /// It acts as a ServiceAccount: what a person has applied is not its to change.
    pub has_account: bool,
    /// What leaves its rendering is deleted.
    pub prune: bool,
    /// All that it renders could be read: what is not among it has left.
    pub is_complete: bool,
}

/// An object that it renders.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// What it is called.
    pub key: ObjectKey,
    /// Its switches.
    pub policy: Policy,
    /// It is valid.
    pub is_valid: bool,
    /// Its parent may not have it kept: it is as if it were not rendered, and does not leave.
    pub is_denied: bool,
}

/// An object that is kept already: of one of the names that are rendered, or the parent's own.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its uid.
    pub uid: Uuid,
    /// What it is called.
    pub key: ObjectKey,
    /// The app that keeps it.
    pub owner: Option<Uuid>,
    /// `Kind/namespace/name` of that.
    pub owner_name: String,
    /// Nobody keeps it, and the parent was the last to change it.
    pub was_parents: bool,
    /// Its switches, those that a person has set among them.
    pub policy: Policy,
    /// It is being deleted.
    pub is_deleting: bool,
    /// It is, because the app that keeps it renders it no more.
    pub is_given_up: bool,
    /// Another app renders it, and may have it.
    pub is_wanted: bool,
    /// What its units have in the cluster, and those of all that it keeps.
    pub objects: u64,
    /// One of these of a kind of which none goes unasked.
    pub unasked: Option<ObjectKey>,
}

/// What is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nested {
    /// Places of what is applied among what is rendered, in order.
    pub apply: Vec<usize>,
    /// Those of them that are the parent's from now on.
    pub own: Vec<ObjectKey>,
    /// Those of these that another app has given up: they are on their way to the parent, and not deleted.
    pub take: Vec<Uuid>,
    /// What the parent renders no more and another app does: it is that one's.
    pub hand_over: Vec<Uuid>,
    /// What the parent lets go of: it stays as it is, and nobody's.
    pub release: Vec<Uuid>,
    /// What is deleted, as each says.
    pub delete: Vec<Uuid>,
    /// Why not all is done, each with the object.
    pub problems: Vec<Problem>,
}

/// Why something is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Another app keeps it.
    Conflict {
        /// The object.
        key: ObjectKey,
        /// The app.
        owner: String,
    },
    /// A person has applied it, and its parent acts as a ServiceAccount.
    Denied(ObjectKey),
    /// It is one of the apps by which its parent is kept.
    Cycle(ObjectKey),
    /// Too many apps render one another.
    TooDeep(usize),
    /// There are too many.
    TooMany(usize),
    /// Nothing of what is kept would be left.
    Empty {
        /// Objects that are kept and would go.
        going: usize,
    },
    /// An object would go with it of a kind of which none goes unasked.
    Unasked {
        /// What is kept and would go.
        key: ObjectKey,
        /// That object.
        object: ObjectKey,
    },
    /// Too much would go at once.
    Blocked {
        /// Objects that are kept and would go.
        going: usize,
        /// Objects in the cluster that would go with them.
        objects: usize,
        /// So many of both may go.
        most: usize,
    },
}

impl Problem {
    /// As the reason of an app to wait, in this cluster.
    pub fn waiting(self, cluster: &str) -> Waiting {
        let cluster = cluster.to_owned();
        match self {
            Self::Conflict { key, owner } => Waiting::KeptElsewhere {
                cluster,
                object: Box::new(key),
                owner,
            },
            Self::Denied(object) => Waiting::KeptDenied {
                cluster,
                object: Box::new(object),
                message: "it was applied by a person, and is not taken over by what acts as a ServiceAccount"
                    .to_owned(),
            },
            Self::Cycle(object) => Waiting::KeptCycle { cluster, object },
            Self::TooDeep(limit) => Waiting::KeptTooDeep { cluster, limit },
            Self::TooMany(limit) => Waiting::KeptTooMany { cluster, limit },
            Self::Empty { going } => Waiting::KeptEmpty { cluster, going },
            Self::Unasked { key, object } => Waiting::KeptUnasked {
                cluster,
                object: key,
                what: object,
            },
            Self::Blocked { going, objects, most } => Waiting::KeptBlocked {
                cluster,
                going,
                objects,
                most,
            },
        }
    }
}

/// Decides what is done in one scope. `found`: what is there of the rendered names, and all that the parent keeps.
pub fn nest(parent: &Parent<'_>, rendered: &[Rendered], found: &[Found], limits: Limits) -> Nested {
    let mut nested = Nested::default();
    if rendered.len() > limits.objects {
        nested.problems.push(Problem::TooMany(limits.objects));
        return nested;
    }
    let is_too_deep = parent.ancestors.len() >= limits.depth;
    let by_key: BTreeMap<&ObjectKey, &Found> = found.iter().map(|one| (&one.key, one)).collect();
    let mut is_new_too_deep = false;
    for (place, one) in rendered.iter().enumerate() {
        if one.is_denied {
            continue;
        }
        let live = by_key.get(&one.key).copied();
        let is_itself = one.key == *parent.key;
        // One that is placed on clusters is the fleet's: what a cluster's scope has of its name would be another app. One that
        // another app keeps is for that one to change.
        if is_itself && (!parent.is_in_scope || parent.ancestors.is_empty()) {
            if parent.is_in_scope && one.is_valid {
                nested.apply.push(place);
            }
            continue;
        }
        if live.is_some_and(|live| parent.ancestors.contains(&live.uid)) {
            nested.problems.push(Problem::Cycle(one.key.clone()));
            continue;
        }
        if let Some(live) = live
            && live.owner.is_some_and(|owner| owner != parent.uid)
            && !live.is_given_up
        {
            nested.problems.push(Problem::Conflict {
                key: one.key.clone(),
                owner: live.owner_name.clone(),
            });
            continue;
        }
        if parent.has_account && live.is_some_and(|live| live.owner.is_none() && !live.was_parents) {
            nested.problems.push(Problem::Denied(one.key.clone()));
            continue;
        }
        if is_too_deep {
            is_new_too_deep = true;
            continue;
        }
        let decision = one.policy.decide(live.map(|live| live.policy));
        if one.is_valid && matches!(decision, Decision::Apply { .. }) {
            nested.apply.push(place);
            nested.own.push(one.key.clone());
            let given_up = live.filter(|live| live.owner != Some(parent.uid) && live.is_given_up);
            nested.take.extend(given_up.map(|live| live.uid));
        }
    }
    if is_new_too_deep {
        nested.problems.push(Problem::TooDeep(limits.depth));
    }
    if parent.is_complete {
        leave(parent, rendered, found, &mut nested);
    }
    nested
}

/// What the parent keeps and renders no more.
fn leave(parent: &Parent<'_>, rendered: &[Rendered], found: &[Found], nested: &mut Nested) {
    let own = || {
        let own = found.iter().filter(|one| one.owner == Some(parent.uid));
        // It never removes itself.
        own.filter(|one| one.uid != parent.uid && !one.is_deleting)
    };
    let keys: BTreeSet<&ObjectKey> = rendered.iter().map(|one| &one.key).collect();
    // One that is left alone stays whose it is.
    let gone = own().filter(|one| !keys.contains(&one.key) && !one.policy.paused);
    let (moved, gone): (Vec<&Found>, Vec<&Found>) = gone.partition(|one| one.is_wanted);
    nested.hand_over = moved.iter().map(|one| one.uid).collect();
    // What takes its place may be among what is not kept.
    let is_whole = rendered.iter().all(|one| one.is_valid && !one.is_denied) && nested.problems.is_empty();
    let (released, going): (Vec<&Found>, Vec<&Found>) =
        gone.into_iter().partition(|one| !parent.prune || one.policy.keep);
    nested.release = released.iter().map(|one| one.uid).collect();
    let weight = |one: &Found| {
        usize::try_from(one.objects)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
    };
    let sum = |sum: usize, one: &Found| sum.saturating_add(weight(one));
    let had = own().fold(0, sum);
    let count = going.iter().copied().fold(0, sum);
    let most = most(had);
    // What is rendered to nothing at all may be rendered wrongly.
    let is_empty = nested.own.is_empty() && !own().any(|one| keys.contains(&one.key) || one.policy.paused);
    let unasked = going
        .iter()
        .find_map(|one| Some((one.key.clone(), one.unasked.clone()?)));
    if going.is_empty() || !is_whole {
        return;
    }
    if is_empty {
        nested.problems.push(Problem::Empty { going: going.len() });
    } else if let Some((key, object)) = unasked {
        nested.problems.push(Problem::Unasked { key, object });
    } else if count > most {
        nested.problems.push(Problem::Blocked {
            going: going.len(),
            objects: count - going.len(),
            most,
        });
    } else {
        nested.delete = going.iter().map(|one| one.uid).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(
            "kustomize.toolkit.fluxcd.io",
            "Kustomization",
            "flux-system",
            name,
        )
    }

    fn rendered(names: &[&str]) -> Vec<Rendered> {
        let each = names.iter().map(|name| Rendered {
            key: key(name),
            policy: Policy::default(),
            is_valid: true,
            is_denied: false,
        });
        each.collect()
    }

    fn found(number: u128, name: &str, owner: Option<Uuid>) -> Found {
        Found {
            uid: Uuid::from_u128(number),
            key: key(name),
            owner,
            owner_name: "Kustomization/flux-system/other".into(),
            was_parents: false,
            policy: Policy::default(),
            is_deleting: false,
            is_given_up: false,
            is_wanted: false,
            objects: 0,
            unasked: None,
        }
    }

    fn parent<'a>(key: &'a ObjectKey, ancestors: &'a [Uuid]) -> Parent<'a> {
        Parent {
            uid: PARENT,
            key,
            is_in_scope: true,
            ancestors,
            has_account: false,
            prune: true,
            is_complete: true,
        }
    }

    fn decide(rendered: &[Rendered], found: &[Found]) -> Nested {
        nest(&parent(&key("root"), &[]), rendered, found, Limits::default())
    }

    #[test]
    fn what_is_rendered_is_applied_and_taken_over_and_what_another_app_keeps_is_not() {
        let known = [
            found(10, "by-hand", None),
            found(11, "own", Some(PARENT)),
            found(12, "others", Some(OTHER)),
        ];
        let nested = decide(&rendered(&["new", "by-hand", "own", "others"]), &known);
        assert_eq!(nested.apply, [0, 1, 2]);
        assert_eq!(nested.own, [key("new"), key("by-hand"), key("own")]);
        let conflict = Problem::Conflict {
            key: key("others"),
            owner: "Kustomization/flux-system/other".into(),
        };
        assert_eq!(nested.problems, [conflict]);
        assert!(nested.delete.is_empty() && nested.release.is_empty());
    }

    #[test]
    fn a_parent_with_an_account_takes_over_nothing_of_a_person_and_what_it_may_not_keep_stays() {
        let was_own = Found {
            was_parents: true,
            ..found(11, "was-own", None)
        };
        let known = [
            found(10, "by-hand", None),
            was_own,
            found(12, "denied", Some(PARENT)),
        ];
        let mut all = rendered(&["new", "by-hand", "was-own", "denied"]);
        all[3].is_denied = true;
        let root = key("root");
        let tenant = Parent {
            has_account: true,
            ..parent(&root, &[])
        };
        let nested = nest(&tenant, &all, &known, Limits::default());
        assert_eq!(nested.apply, [0, 2]);
        assert_eq!(nested.own, [key("new"), key("was-own")]);
        assert_eq!(nested.problems, [Problem::Denied(key("by-hand"))]);
        assert!(nested.delete.is_empty() && nested.release.is_empty());
        // One that it may not change is not itself either.
        let mut itself = rendered(&["root"]);
        itself[0].is_denied = true;
        assert_eq!(nest(&tenant, &itself, &[], Limits::default()), Nested::default());
    }

    #[test]
    fn a_root_that_renders_itself_updates_itself_and_is_never_its_own_nor_removed() {
        let known = [found(1, "root", Some(PARENT)), found(11, "a", Some(PARENT))];
        let nested = decide(&rendered(&["root", "a"]), &known);
        assert_eq!((nested.apply, nested.own), (vec![0, 1], vec![key("a")]));
        let without = decide(&rendered(&["a"]), &known);
        assert!(without.delete.is_empty() && without.release.is_empty());
        // Of one that is the fleet's the same name in a cluster would be another app.
        let root = key("root");
        let fleet = Parent {
            is_in_scope: false,
            ..parent(&root, &[])
        };
        let nested = nest(&fleet, &rendered(&["root", "a"]), &known[1..], Limits::default());
        assert_eq!(nested.apply, [1]);
    }

    #[test]
    fn an_app_that_renders_one_of_those_that_keep_it_is_refused_at_that_edge() {
        let ancestors = [OTHER, Uuid::from_u128(3)];
        let known = [found(3, "root", None), found(11, "b", Some(PARENT))];
        let own = key("child");
        let nested = nest(
            &parent(&own, &ancestors),
            &rendered(&["root", "b"]),
            &known,
            Limits::default(),
        );
        assert_eq!(nested.problems, [Problem::Cycle(key("root"))]);
        assert_eq!(nested.apply, [1]);
    }

    #[test]
    fn beyond_the_limits_nothing_is_applied_and_nothing_leaves() {
        let limits = Limits { depth: 2, objects: 2 };
        let known = [found(11, "left", Some(PARENT))];
        let own = key("child");
        let ancestors = [OTHER, Uuid::from_u128(3)];
        let deep = nest(&parent(&own, &ancestors), &rendered(&["a", "b"]), &[], limits);
        assert_eq!((deep.apply, deep.problems), (vec![], vec![Problem::TooDeep(2)]));
        let many = nest(&parent(&own, &[]), &rendered(&["a", "b", "c"]), &known, limits);
        assert_eq!(many.problems, [Problem::TooMany(2)]);
        assert!(many.apply.is_empty() && many.delete.is_empty());
        let leaf = nest(&parent(&own, &ancestors), &[], &[], limits);
        assert_eq!(leaf, Nested::default());
    }

    #[test]
    fn what_leaves_is_deleted_only_by_a_complete_rendering_that_prunes() {
        let known = [found(11, "left", Some(PARENT)), found(12, "others", Some(OTHER))];
        let root = key("root");
        let uid = vec![Uuid::from_u128(11)];
        assert_eq!(decide(&rendered(&["a"]), &known).delete, uid);
        let incomplete = Parent {
            is_complete: false,
            ..parent(&root, &[])
        };
        let nested = nest(&incomplete, &rendered(&["a"]), &known, Limits::default());
        assert!(nested.delete.is_empty() && nested.release.is_empty());
        let keeping = Parent {
            prune: false,
            ..parent(&root, &[])
        };
        let nested = nest(&keeping, &rendered(&["a"]), &known, Limits::default());
        assert_eq!((nested.delete, nested.release), (vec![], uid.clone()));
        // One that could not be read is still wanted.
        let mut invalid = rendered(&["left"]);
        invalid[0].is_valid = false;
        let nested = decide(&invalid, &known);
        assert!(nested.apply.is_empty() && nested.delete.is_empty());
    }

    #[test]
    fn what_moves_from_one_app_to_another_is_handed_over_whichever_is_looked_at_first() {
        // The one that has it first: it is given up, and taken.
        let given_up = Found {
            is_deleting: true,
            is_given_up: true,
            ..found(12, "moved", Some(OTHER))
        };
        let by_person = Found {
            is_deleting: true,
            ..found(13, "deleted", Some(OTHER))
        };
        let nested = decide(&rendered(&["moved", "deleted"]), &[given_up, by_person]);
        assert_eq!((nested.apply, nested.own), (vec![0], vec![key("moved")]));
        assert_eq!(nested.take, [Uuid::from_u128(12)]);
        assert_eq!(nested.problems.len(), 1);
        // The one that wants it first: however much it has, it does not go.
        let wanted = Found {
            is_wanted: true,
            objects: 1000,
            ..found(12, "moved", Some(PARENT))
        };
        let nested = decide(&rendered(&["a"]), &[wanted, found(11, "a", Some(PARENT))]);
        assert_eq!(nested.hand_over, [Uuid::from_u128(12)]);
        assert!(nested.delete.is_empty() && nested.release.is_empty() && nested.problems.is_empty());
    }

    #[test]
    fn nothing_is_deleted_while_something_of_the_rendering_is_not_kept() {
        let known = [
            found(11, "old", Some(PARENT)),
            found(12, "others", Some(OTHER)),
            found(13, "rest", Some(PARENT)),
        ];
        let mut invalid = rendered(&["new", "rest"]);
        invalid[0].is_valid = false;
        assert!(decide(&invalid, &known).delete.is_empty());
        let mut denied = rendered(&["new", "rest"]);
        denied[0].is_denied = true;
        assert!(decide(&denied, &known).delete.is_empty());
        assert!(decide(&rendered(&["others", "rest"]), &known).delete.is_empty());
        assert_eq!(decide(&rendered(&["new", "rest"]), &known).delete.len(), 1);
        // Two apps that exchange what they have do not wait for each other.
        let wanted = Found {
            is_wanted: true,
            ..found(11, "old", Some(PARENT))
        };
        let nested = decide(
            &rendered(&["others"]),
            &[wanted, found(12, "others", Some(OTHER))],
        );
        assert_eq!(nested.hand_over, [Uuid::from_u128(11)]);
    }

    #[test]
    fn the_switches_of_an_object_hold_for_kept_ones_too() {
        let with = |set: fn(&mut Policy), uid| {
            let mut one = found(uid, "left", Some(PARENT));
            set(&mut one.policy);
            one
        };
        let kept = decide(&[], &[with(|policy| policy.keep = true, 11)]);
        assert_eq!((kept.release, kept.delete), (vec![Uuid::from_u128(11)], vec![]));
        let paused = decide(&[], &[with(|policy| policy.paused = true, 11)]);
        assert_eq!(paused, Nested::default());
        let left = decide(&rendered(&["left"]), &[with(|policy| policy.paused = true, 11)]);
        assert!(left.apply.is_empty() && left.delete.is_empty());
    }

    #[test]
    fn what_would_leave_nothing_or_holds_what_never_goes_unasked_stays() {
        let all = [found(11, "a", Some(PARENT)), found(12, "b", Some(PARENT))];
        let nested = decide(&[], &all);
        assert!(nested.delete.is_empty());
        assert_eq!(nested.problems, [Problem::Empty { going: 2 }]);
        // One that takes its place is enough, and so is one that is let go of.
        assert_eq!(decide(&rendered(&["new"]), &all).delete.len(), 2);
        let volume = ObjectKey::new("", "PersistentVolumeClaim", "a", "data");
        let holding = Found {
            unasked: Some(volume.clone()),
            ..found(11, "a", Some(PARENT))
        };
        let nested = decide(&rendered(&["b"]), &[holding, found(12, "b", Some(PARENT))]);
        assert!(nested.delete.is_empty());
        let unasked = Problem::Unasked {
            key: key("a"),
            object: volume,
        };
        assert_eq!(nested.problems, [unasked]);
    }

    #[test]
    fn what_would_go_is_counted_with_all_that_it_has_and_bounded() {
        let heavy = |uid, name: &str, objects| Found {
            objects,
            ..found(uid, name, Some(PARENT))
        };
        let small = [heavy(11, "a", 9), heavy(12, "b", 0)];
        assert_eq!(decide(&rendered(&["b"]), &small).delete, [Uuid::from_u128(11)]);
        let large = [heavy(11, "a", 40), heavy(12, "b", 30)];
        let nested = decide(&rendered(&["b"]), &large);
        assert!(nested.delete.is_empty());
        let blocked = Problem::Blocked {
            going: 1,
            objects: 40,
            most: 21,
        };
        assert_eq!(nested.problems, [blocked]);
        let share = [heavy(11, "a", 20), heavy(12, "b", 200)];
        assert_eq!(decide(&rendered(&["b"]), &share).delete, [Uuid::from_u128(11)]);
    }
}
