//! A list whose items are found by the values of their keys, and replaced in place.

use std::collections::{BTreeSet, HashMap};

use smol_str::SmolStr;

use super::nodes::{is_empty_map, scalar};
use super::room::Room;
use super::rows::Row;
use crate::kustomize::error::{Result, invalid};
use crate::yaml::node::{Kind, Node};

/// A list under change: what is removed leaves a gap until the end.
pub(super) struct List<'s> {
    items: Vec<Option<Node>>,
    /// Nulls and empty maps, which go with the next change.
    void: BTreeSet<usize>,
    maps: BTreeSet<usize>,
    lists: BTreeSet<usize>,
    scalars: BTreeSet<usize>,
    /// For each set of keys, the items with a given value of each.
    by_values: HashMap<Vec<&'s str>, HashMap<Row, BTreeSet<usize>>>,
    room: &'s Room<'s>,
}

/// Returns an item's values of some keys, when it has them all.
fn values(item: &Node, keys: &[&str]) -> Option<Row> {
    if let [key] = keys
        && key.is_empty()
    {
        return Some(vec![scalar(item)]);
    }
    if item.kind() != Kind::Map || item.is_null() {
        return None;
    }
    keys.iter().map(|key| item.get(key).map(scalar)).collect()
}

impl<'s> List<'s> {
    pub(super) fn new(items: Vec<Node>, room: &'s Room<'s>) -> Result<List<'s>> {
        let mut list = List {
            items: Vec::with_capacity(items.len()),
            void: BTreeSet::new(),
            maps: BTreeSet::new(),
            lists: BTreeSet::new(),
            scalars: BTreeSet::new(),
            by_values: HashMap::new(),
            room,
        };
        items.into_iter().try_for_each(|item| list.push(item))?;
        Ok(list)
    }

    pub(super) fn into_items(self) -> Vec<Node> {
        self.items.into_iter().flatten().collect()
    }

    pub(super) fn push(&mut self, item: Node) -> Result<()> {
        self.items.push(None);
        self.put(self.items.len() - 1, Some(item))
    }

    pub(super) fn item_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.items.get_mut(at).and_then(Option::as_mut)
    }

    /// Puts an item in the place of another, or leaves a gap there.
    pub(super) fn put(&mut self, at: usize, item: Option<Node>) -> Result<()> {
        let old = std::mem::replace(&mut self.items[at], item);
        for (item, present) in [(old.as_ref(), false), (self.items[at].as_ref(), true)] {
            let Some(item) = item else { continue };
            let change = |set: &mut BTreeSet<usize>| {
                let _ = if present { set.insert(at) } else { set.remove(&at) };
            };
            change(match item.kind() {
                _ if item.is_null() || is_empty_map(item) => &mut self.void,
                Kind::Map => &mut self.maps,
                Kind::Seq => &mut self.lists,
                Kind::Scalar => &mut self.scalars,
            });
            for (keys, by_values) in &mut self.by_values {
                self.room.steps.spend_few(keys.len())?;
                if let Some(values) = values(item, keys) {
                    if !by_values.contains_key(&values) {
                        self.room.rows(1, keys.len())?;
                    }
                    change(by_values.entry(values).or_default());
                }
            }
        }
        Ok(())
    }

    /// Returns where the items stand that have given values of given keys.
    fn with(&mut self, keys: &[&'s str], row: &Row) -> Result<Option<&BTreeSet<usize>>> {
        self.room.steps.spend(1)?;
        self.room
            .steps
            .spend_text(keys.iter().map(|key| key.len()).sum())?;
        if !self.by_values.contains_key(keys) {
            self.room.rows(self.items.len(), keys.len())?;
            let mut by_values: HashMap<Row, BTreeSet<usize>> = HashMap::new();
            for (at, item) in self.items.iter().enumerate() {
                if let Some(values) = item.as_ref().and_then(|item| values(item, keys)) {
                    by_values.entry(values).or_default().insert(at);
                }
            }
            self.by_values.insert(keys.to_vec(), by_values);
        }
        Ok(self.by_values.get(keys).and_then(|by_values| by_values.get(row)))
    }

    /// Returns where the first item stands that has given values of given keys.
    pub(super) fn find(&mut self, keys: &[&'s str], row: &Row) -> Result<Option<usize>> {
        let found = self.with(keys, row)?;
        Ok(found.and_then(BTreeSet::first).copied())
    }

    /// Replaces the items with given keys by an element, or removes them; adds the element when there is none.
    ///
    /// An empty value asks only for the field, and keys without a value for nothing; nulls and empty maps go in any
    /// case, and without any value everything goes. So kyaml's `ElementSetter` has it.
    pub(super) fn set(&mut self, element: Option<Node>, keys: &[&'s str], row: &[SmolStr]) -> Result<()> {
        for at in std::mem::take(&mut self.void) {
            self.put(at, None)?;
        }
        let keys = &keys[..keys.len().min(row.len())];
        let row = &row[..keys.len()];
        let found = if row.is_empty() {
            for at in 0..self.items.len() {
                self.put(at, None)?;
            }
            self.items.clear();
            Vec::new()
        } else {
            self.matching(keys, row)?
        };
        self.room.steps.spend(found.len())?;
        let Some((last, others)) = found.split_last() else {
            return match element.filter(|e| !e.is_null()) {
                Some(element) => self.push(element),
                None => Ok(()),
            };
        };
        for at in others {
            let copy = element.as_ref().map(|e| self.room.copy_to_keep(e));
            self.put(*at, copy.transpose()?)?;
        }
        self.put(*last, element)
    }

    fn matching(&mut self, keys: &[&'s str], row: &[SmolStr]) -> Result<Vec<usize>> {
        let scalars = keys[0].is_empty();
        // Without a value of the first key each item is asked for it, whatever the item is.
        let other = if scalars { &self.maps } else { &self.scalars };
        let misfit = [self.lists.first(), other.first()].into_iter().flatten().min();
        let misfit = misfit.filter(|_| scalars || row[0].is_empty());
        if let Some(item) = misfit.and_then(|at| self.items[*at].as_ref()) {
            let wanted = if scalars { Kind::Scalar } else { Kind::Map };
            return Err(invalid(format!(
                "wrong node kind: expected {wanted} but got {}",
                item.kind()
            )));
        }
        if scalars {
            let found = self.with(keys, &row.to_vec())?;
            return Ok(found.into_iter().flatten().copied().collect());
        }
        let given = || keys.iter().zip(row).filter(|(_, value)| !value.is_empty());
        let given_keys: Vec<&str> = given().map(|(key, _)| *key).collect();
        let given_values: Row = given().map(|(_, value)| value.clone()).collect();
        let found: Vec<usize> = if given_keys.is_empty() {
            self.maps.iter().copied().collect()
        } else {
            let found = self.with(&given_keys, &given_values)?;
            found.into_iter().flatten().copied().collect()
        };
        if given_keys.len() == keys.len() {
            return Ok(found);
        }
        self.room.steps.spend(found.len().saturating_mul(keys.len()))?;
        let has_all = |at: &usize| {
            let item = self.items[*at].as_ref();
            item.is_some_and(|item| keys.iter().all(|key| item.get(key).is_some()))
        };
        Ok(found.into_iter().filter(has_all).collect())
    }
}
