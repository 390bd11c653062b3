//! What units want of each other's objects. An object that leaves one unit is not deleted while another desires it, may
//! come to desire it, or still has it: it is handed over, whichever entry comes first.
//!
//! What a unit desires is known by its rows once the entry that it was offered last is evaluated. Until then all units wait
//! that would delete; where an evaluation fails, or is not to be, what the entry's content names counts as desired.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{
    apply::{
        inventory::State as RecordState,
        removal::{Claim, holds, is_container},
    },
    content::Table,
    id::UnitId,
    object::ObjectKey,
    unit::{event::Event, object::Object, remove::Claims},
};

use super::{
    Reconciler,
    context::{DesiredState, is_whole},
};

/// What is known of that.
#[derive(Debug, Default)]
pub(super) struct Claiming {
    /// Units that desire, or have, perhaps other objects than when all was judged last.
    is_news: bool,
    /// Units whose desires are about to be found out.
    evaluating: BTreeSet<UnitId>,
    /// Units of which objects leave.
    wanting: BTreeSet<UnitId>,
    /// Units that were offered an entry that this version cannot read.
    unread: BTreeSet<UnitId>,
    /// The count of a unit's desires when it was noted last.
    noted: BTreeMap<UnitId, u64>,
    /// The desired state that all units have been told of, and that is to be let others know.
    told: Option<DesiredState>,
}

impl Claiming {
    /// All units have been told of a desired state.
    pub(super) fn synced(&mut self, accepted: DesiredState, unread: BTreeSet<UnitId>) {
        self.told = Some(accepted);
        self.is_news = true;
        self.unread = unread;
    }

    /// Forgets units.
    pub(super) fn forget(&mut self, units: &BTreeSet<UnitId>) {
        self.is_news = true;
        for unit in units {
            self.evaluating.remove(unit);
            self.wanting.remove(unit);
            self.noted.remove(unit);
        }
    }
}

impl Reconciler {
    /// Notes what a step of a unit may have changed.
    pub(super) fn note_claims(&mut self, id: UnitId) {
        let Some(unit) = self.units.get(&id) else { return };
        let (state, claiming) = (&unit.state, &mut self.claiming);
        put(&mut claiming.evaluating, id, state.is_evaluating());
        put(&mut claiming.wanting, id, state.wants_removal());
        let made = state.claims_made();
        if claiming.noted.insert(id, made) != Some(made) {
            claiming.is_news = true;
            // Also what is desired and has no record yet.
            self.holders.note(id, state.objects().keys());
        }
        // It has forgotten what it was told, since other objects leave.
        claiming.is_news |= state.wants_removal() && state.claims().is_none();
    }

    /// Tells units what others want of the objects that leave them, where that has changed.
    pub(super) fn judge_claims(&mut self) {
        if self.claiming.is_news {
            self.tell_claims();
        }
        // Only now: whoever deletes has heard of it.
        if let Some(told) = self.claiming.told.take() {
            self.context.set_told(told);
        }
    }

    fn tell_claims(&mut self) {
        if self.claiming.wanting.is_empty() {
            self.claiming.is_news = false;
            return;
        }
        let is_known = self.claiming.evaluating.is_empty() && self.context.ledger.read(is_whole);
        self.claiming.is_news = !is_known;
        let unsettled = match is_known {
            true => self.unsettled_units(),
            false => Vec::new(),
        };
        for id in self.claiming.wanting.clone() {
            let Some(unit) = self.units.get(&id) else { continue };
            let claims = is_known.then(|| self.claims_on(id, &unsettled));
            if unit.state.claims() != claims.as_ref() {
                let freed = claims.as_ref().map(|claims| self.freed(id, claims));
                self.feed(id, Event::Claims(claims));
                for (other, keys) in freed.unwrap_or_default() {
                    self.feed(other, Event::Freed(keys));
                }
            }
        }
    }

    /// Units of which rows do not say all that they desire.
    fn unsettled_units(&self) -> Vec<UnitId> {
        let unsettled = self
            .units
            .iter()
            .filter(|(_, unit)| !unit.state.is_evaluated_as_offered());
        let unsettled = unsettled.map(|(id, _)| *id);
        unsettled.chain(self.claiming.unread.iter().copied()).collect()
    }

    /// What others want of the objects that leave a unit.
    fn claims_on(&self, id: UnitId, unsettled: &[UnitId]) -> Claims {
        let Some(unit) = self.units.get(&id) else {
            return Claims::new();
        };
        let keys = unit.state.leaving();
        keys.filter_map(|key| Some((key.clone(), self.claim_on(id, key, unsettled)?)))
            .collect()
    }

    /// Units that desire what a unit has let go of, and have not written it: they may have met it as that unit's.
    fn freed(&self, id: UnitId, claims: &Claims) -> BTreeMap<UnitId, Vec<Arc<ObjectKey>>> {
        let mut freed: BTreeMap<UnitId, Vec<Arc<ObjectKey>>> = BTreeMap::new();
        for key in claims.iter().filter(|(_, claim)| !claim.has).map(|(key, _)| key) {
            for other in self.holders.of(key).filter(|other| *other != id) {
                freed.entry(other).or_default().push(key.clone());
            }
        }
        freed
    }

    fn claim_on(&self, id: UnitId, key: &Arc<ObjectKey>, unsettled: &[UnitId]) -> Option<Claim> {
        let others = self.holders.of(key).filter(|other| *other != id);
        let mut wants = others.filter_map(|other| {
            let object = self.units.get(&other)?.state.objects().get(key)?;
            is_claimed_by_row(object).map(|has| (other, has))
        });
        if let Some((other, has)) = wants.next() {
            let by = self.context.app(other).into();
            return Some(Claim { by, has });
        }
        let others = || unsettled.iter().copied().filter(|other| *other != id);
        if let Some(other) = others().find(|other| self.may_desire(*other, |table| names(table, key))) {
            let by = format!(
                "{}, of which it is not known whether it desires it",
                self.context.app(other)
            )
            .into();
            return Some(Claim { by, has: false });
        }
        if !is_container(key) {
            return None;
        }
        // What is in it would go with it.
        let mut rest = self.units.iter().filter(|(other, _)| **other != id);
        let in_it = rest.find_map(|(other, unit)| {
            let inner = unit.state.objects().keys().find(|inner| holds(key, inner))?;
            Some(format!("{}, which has {inner} in it", self.context.app(*other)))
        });
        let in_it = in_it.or_else(|| {
            let other = others().find(|other| self.may_desire(*other, |table| names_within(table, key)))?;
            Some(format!(
                "{}, which may have objects in it",
                self.context.app(other)
            ))
        });
        in_it.map(|by| Claim {
            by: by.into(),
            has: false,
        })
    }

    /// Tells whether the content that a unit is offered, whose evaluation is not known, may name something.
    fn may_desire(&self, id: UnitId, names: impl Fn(&Table) -> bool) -> bool {
        self.context.ledger.read(|state| {
            let Some(unit) = state.units.get(&id) else {
                return false;
            };
            let Some(entry) = unit.offered.as_ref().and_then(|offered| offered.entry.as_ref()) else {
                return unit.offered.is_some();
            };
            match &entry.content {
                None => false,
                Some(content) => state.table(content).is_none_or(|table| names(table)),
            }
        })
    }
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

fn put(set: &mut BTreeSet<UnitId>, id: UnitId, holds: bool) {
    match holds {
        true => set.insert(id),
        false => set.remove(&id),
    };
}

#[cfg(test)]
mod tests {
    use flotilla_core::content::{Content, Form, ObjectEntry, Objects, object_digest};

    use super::*;

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
