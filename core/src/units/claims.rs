//! What units want of each other's objects. An object that leaves one unit is not deleted while another desires it, may
//! come to desire it, or still has it: it is handed over, whichever entry comes first.
//!
//! What a unit desires is known by its rows once the entry that it was offered last is evaluated. Of a unit whose
//! evaluation fails, or is not to be, what that entry's content names counts as desired. One that was let go of desires
//! nothing any more: what it has written it has, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    apply::{
        inventory::State as RecordState,
        removal::{Claim, holds, is_container},
    },
    content::Table,
    id::UnitId,
    object::ObjectKey,
    unit::{UnitState, object::Object, remove::Claims, state::State},
};

/// The units of a cluster.
pub trait Neighbours {
    /// All of them.
    fn all(&self) -> impl Iterator<Item = (UnitId, &State)>;

    /// The loop of one.
    fn state(&self, unit: UnitId) -> Option<&State>;

    /// Those that may have a row of an object.
    fn holders(&self, key: &ObjectKey) -> Vec<UnitId>;

    /// Tells whether the content that a unit is offered names something, or may: where it cannot be read, it may.
    fn may_desire(&self, unit: UnitId, names: &dyn Fn(&Table) -> bool) -> bool;

    /// What people call a unit.
    fn app(&self, unit: UnitId) -> String;
}

/// Tells whether rows do not say all that a unit desires.
pub fn is_unsettled(state: &State) -> bool {
    !state.is_evaluated_as_offered() && !state.is_let_go()
}

/// What others want of the objects that leave a unit. `unsettled`: units of which rows do not say all that they desire.
pub fn claims_on(units: &impl Neighbours, id: UnitId, unsettled: &[UnitId]) -> Claims {
    let Some(state) = units.state(id) else {
        return Claims::new();
    };
    let keys = state.leaving();
    keys.filter_map(|key| Some((key.clone(), claim_on(units, id, key, unsettled)?)))
        .collect()
}

/// Units that desire what a unit has let go of, and have not written it: they may have met it as that unit's.
pub fn freed(units: &impl Neighbours, id: UnitId, claims: &Claims) -> BTreeMap<UnitId, Vec<Arc<ObjectKey>>> {
    let mut freed: BTreeMap<UnitId, Vec<Arc<ObjectKey>>> = BTreeMap::new();
    for key in claims.iter().filter(|(_, claim)| !claim.has).map(|(key, _)| key) {
        for other in units.holders(key).into_iter().filter(|other| *other != id) {
            freed.entry(other).or_default().push(key.clone());
        }
    }
    freed
}

fn claim_on(
    units: &impl Neighbours,
    id: UnitId,
    key: &Arc<ObjectKey>,
    unsettled: &[UnitId],
) -> Option<Claim> {
    let others = units.holders(key).into_iter().filter(|other| *other != id);
    let wants = others.filter_map(|other| {
        let state = units.state(other)?;
        let object = state.objects().get(key)?;
        let claimed = match state.is_let_go() {
            true => is_kept_by_row(object, leaves(state, key)),
            false => is_claimed_by_row(object),
        };
        claimed.map(|has| (other, has))
    });
    if let Some((other, has)) = strongest(wants) {
        let by = units.app(other).into();
        return Some(Claim {
            by,
            has,
            idle: is_idle(units, other),
        });
    }
    let others = || unsettled.iter().copied().filter(|other| *other != id);
    if let Some(other) = others().find(|other| units.may_desire(*other, &|table| names(table, key))) {
        let by = format!(
            "{}, of which it is not known whether it desires it",
            units.app(other)
        )
        .into();
        return Some(Claim {
            by,
            has: false,
            idle: is_idle(units, other),
        });
    }
    if !is_container(key) {
        return None;
    }
    // What is in it would go with it.
    let mut rest = units.all().filter(|(other, _)| *other != id);
    let in_it = rest.find_map(|(other, state)| {
        let is_here = |object: &Object| !state.is_let_go() || is_kept_by_row(object, false).is_some();
        let mut inner = state.objects().iter();
        let (inner, _) = inner.find(|(inner, object)| holds(key, inner) && is_here(object))?;
        Some(format!("{}, which has {inner} in it", units.app(other)))
    });
    let in_it = in_it.or_else(|| {
        let other = others().find(|other| units.may_desire(*other, &|table| names_within(table, key)))?;
        Some(format!("{}, which may have objects in it", units.app(other)))
    });
    in_it.map(|by| Claim {
        by: by.into(),
        has: false,
        idle: false,
    })
}

/// Whether a unit takes nothing over until somebody resumes it.
fn is_idle(units: &impl Neighbours, unit: UnitId) -> bool {
    let state = units.state(unit);
    state.is_some_and(|state| matches!(state.entry().state, UnitState::Suspended))
}

/// Of several claims that of who has written the object, or it would wait for ever for those that may not write it.
fn strongest(claims: impl Iterator<Item = (UnitId, bool)>) -> Option<(UnitId, bool)> {
    claims.reduce(|one, other| match (one.1, other.1) {
        (false, true) => other,
        _ => one,
    })
}

/// Whether a row of another unit claims its object, and whether that unit has written it.
fn is_claimed_by_row(object: &Object) -> Option<bool> {
    let state = object.record.as_ref().map(|record| record.state);
    match (&object.desired, state) {
        (Some(desired), state) => {
            let is_written = state == Some(RecordState::Applied) && desired.withheld.is_none();
            Some(is_written && object.record.as_ref().is_some_and(|record| record.uid.is_some()))
        }
        // It is not known to desire it, and has not let go of it.
        (None, Some(RecordState::Applied | RecordState::Intent)) => Some(false),
        (None, Some(RecordState::PendingRemoval) | None) => None,
    }
}

/// Whether a row of a unit that was let go of claims its object, and that is what it has: what it was about to write it does
/// not. `leaves`: the hub says that another has it.
fn is_kept_by_row(object: &Object, leaves: bool) -> Option<bool> {
    let record = object.record.as_ref().filter(|_| !leaves)?;
    (record.state == RecordState::Applied && record.uid.is_some()).then_some(true)
}

/// Whether a unit's entry leaves an object to another.
fn leaves(state: &State, key: &ObjectKey) -> bool {
    state.entry().withheld.iter().any(|one| one.key == *key)
}

/// Tells whether a content names an object, as far as its texts say before they are substituted and normalised.
fn names(table: &Table, key: &ObjectKey) -> bool {
    let is_there = |row: &u32| may_be_in(table.namespace(*row), &key.namespace);
    let is_open = |row: &u32| {
        let (group, kind, _) = table.name(*row);
        may_be(group, &key.group) && may_be(kind, &key.kind)
    };
    let named = table.named(&key.group, &key.kind, &key.name).iter();
    named.clone().any(is_there) || table.open().iter().any(is_open)
}

/// Tells whether a content names an object that lives in this one.
fn names_within(table: &Table, container: &ObjectKey) -> bool {
    table.rows().any(|row| {
        let (group, kind, name) = table.name(row);
        let namespace = table.namespace(row);
        let is_namespace = container.group.is_empty();
        let is_open = match is_namespace {
            true => namespace.is_empty() || namespace.contains('$'),
            false => group.contains('$'),
        };
        is_open || holds(container, &ObjectKey::new(group, kind, namespace, name))
    })
}

fn may_be(text: &str, expected: &str) -> bool {
    text == expected || text.contains('$')
}

/// An object without a namespace gets one, and one of a kind of the whole cluster loses it.
fn may_be_in(namespace: &str, expected: &str) -> bool {
    namespace.is_empty() || expected.is_empty() || may_be(namespace, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Content, Form, ObjectEntry, Objects, object_digest};

    fn table(keys: &[ObjectKey]) -> Table {
        let entries: Vec<ObjectEntry> = keys
            .iter()
            .map(|key| ObjectEntry {
                key: key.clone(),
                form: Form::Json,
                digest: object_digest(Form::Json, key.to_string().as_bytes(), None),
            })
            .collect();
        let content = Content::Objects(Objects {
            count: u32::try_from(entries.len()).expect("few"),
            entries,
            complete: true,
        });
        Table::from_bytes(&content.to_bytes()).expect("reads")
    }

    /// Of two that desire an object the hub withholds it from one, and that may be the one with the lower id.
    #[test]
    fn who_has_written_an_object_claims_it_before_those_that_merely_desire_it() {
        let unit = |number| UnitId(uuid::Uuid::from_u128(number));
        let (a, b, c) = (unit(1), unit(2), unit(3));
        let claims = |claims: &[(UnitId, bool)]| strongest(claims.iter().copied());
        assert_eq!(claims(&[(a, false), (b, true), (c, false)]), Some((b, true)));
        assert_eq!(claims(&[(a, false), (b, false)]), Some((a, false)));
        assert_eq!(claims(&[]), None);
    }

    #[test]
    fn content_that_may_name_an_object_is_told_from_one_that_cannot() {
        let x = ObjectKey::new("", "ConfigMap", "a", "x");
        let role = ObjectKey::new("rbac.authorization.k8s.io", "ClusterRole", "", "r");
        for (rendered, wanted, expected) in [
            (x.clone(), &x, true),
            (ObjectKey::new("", "ConfigMap", "", "x"), &x, true),
            (ObjectKey::new("", "ConfigMap", "${ns}", "x"), &x, true),
            (ObjectKey::new("", "ConfigMap", "a", "${name}"), &x, true),
            (ObjectKey::new("", "${kind}", "a", "x"), &x, true),
            (ObjectKey::new("", "ConfigMap", "b", "x"), &x, false),
            (ObjectKey::new("", "ConfigMap", "a", "y"), &x, false),
            (ObjectKey::new("", "Secret", "a", "${name}"), &x, false),
            (ObjectKey::new("", "Secret", "a", "x"), &x, false),
            (
                ObjectKey::new("rbac.authorization.k8s.io", "ClusterRole", "stray", "r"),
                &role,
                true,
            ),
        ] {
            assert_eq!(
                names(&table(std::slice::from_ref(&rendered)), wanted),
                expected,
                "{rendered}"
            );
        }
    }

    #[test]
    fn content_that_may_fill_a_namespace_or_a_group_is_told_from_one_that_cannot() {
        let namespace = ObjectKey::new("", "Namespace", "", "a");
        let definition = ObjectKey::new(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "",
            "widgets.example.com",
        );
        for (rendered, container, expected) in [
            (ObjectKey::new("", "ConfigMap", "a", "x"), &namespace, true),
            (ObjectKey::new("", "ConfigMap", "", "x"), &namespace, true),
            (ObjectKey::new("", "ConfigMap", "${ns}", "x"), &namespace, true),
            (ObjectKey::new("", "ConfigMap", "b", "x"), &namespace, false),
            (
                ObjectKey::new("example.com", "Widget", "b", "w"),
                &definition,
                true,
            ),
            (ObjectKey::new("", "ConfigMap", "", "x"), &definition, false),
        ] {
            let found = names_within(&table(std::slice::from_ref(&rendered)), container);
            assert_eq!(found, expected, "{rendered} in {container}");
        }
    }
}
