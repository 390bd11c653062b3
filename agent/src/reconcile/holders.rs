//! Which units have objects of a kind in a namespace: who may hold an object whose mark does not say it. An object of a unit
//! that was let go of keeps its mark, and its events must not cost a look through all units.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{id::UnitId, object::ObjectKey};

/// Units by kind and namespace. A unit stands here as long as it is known, also when its last object of a kind has left.
#[derive(Debug, Default)]
pub(super) struct Holders(BTreeMap<ObjectKey, BTreeSet<UnitId>>);

/// A kind and namespace: no object's name is empty.
fn place(key: &ObjectKey) -> ObjectKey {
    ObjectKey::new(&key.group, &key.kind, &key.namespace, "")
}

impl Holders {
    /// Notes objects of a unit, those of a kind and namespace side by side.
    pub(super) fn note<'a>(&mut self, unit: UnitId, keys: impl IntoIterator<Item = &'a Arc<ObjectKey>>) {
        let mut last: Option<&ObjectKey> = None;
        for key in keys {
            let is_same = last.is_some_and(|last| {
                (&last.group, &last.kind, &last.namespace) == (&key.group, &key.kind, &key.namespace)
            });
            if !is_same {
                self.0.entry(place(key)).or_default().insert(unit);
            }
            last = Some(key);
        }
    }

    /// The units that may hold an object.
    pub(super) fn of(&self, key: &ObjectKey) -> impl Iterator<Item = UnitId> {
        self.0.get(&place(key)).into_iter().flatten().copied()
    }

    /// Forgets units.
    pub(super) fn forget(&mut self, units: &BTreeSet<UnitId>) {
        self.0.retain(|_, holders| {
            holders.retain(|unit| !units.contains(unit));
            !holders.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_units_with_objects_of_the_kind_in_the_namespace_are_asked() {
        let id = |n| UnitId(Uuid::from_u128(n));
        let key = |namespace: &str, name: &str| Arc::new(ObjectKey::new("", "ConfigMap", namespace, name));
        let mut holders = Holders::default();
        for n in 0..1000 {
            holders.note(id(n), &[key(&format!("n{n}"), "a"), key(&format!("n{n}"), "b")]);
        }
        holders.note(id(7), &[key("n8", "c")]);
        let of = |holders: &Holders, namespace: &str| {
            let stray = key(namespace, "stray");
            holders.of(&stray).collect::<Vec<_>>()
        };
        assert_eq!(of(&holders, "n7"), [id(7)]);
        assert_eq!(of(&holders, "n8"), [id(7), id(8)]);
        assert_eq!(of(&holders, "elsewhere"), []);
        holders.forget(&BTreeSet::from([id(7)]));
        assert_eq!((of(&holders, "n7"), of(&holders, "n8")), (vec![], vec![id(8)]));
        assert_eq!(holders.0.len(), 999);
    }
}
