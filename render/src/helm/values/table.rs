//! Values while charts share them: maps that several holders see and change, as Go's maps are.
//!
//! Coalescing gives a chart and its subcharts the same nested maps, and what one adds the others see;
//! copies would lose that. They are the maps that templates get in the end.

use std::collections::HashSet;
use std::rc::Rc;

use crate::helm::value::{Entries, MapKind, MapVal, Val};
use crate::yaml::Map;

/// The most maps inside each other; imports can make one hold itself.
pub(crate) const MAX_DEPTH: usize = 200;

/// A map that several holders share.
#[derive(Clone)]
pub(crate) struct Table(MapVal);

/// Maps hold each other without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("values are nested deeper than {MAX_DEPTH} maps")]
pub struct TooDeep;

impl Default for Table {
    fn default() -> Self {
        Self(MapVal::new(Entries::new()))
    }
}

impl Table {
    pub(crate) fn from_map(map: &Map) -> Self {
        let entries = map
            .iter()
            .map(|(key, value)| (Rc::from(key.as_str()), Val::from(value)));
        Self(MapVal::new(entries.collect()))
    }

    /// Returns the map as a template gets it where it is the values of a chart.
    pub(crate) fn as_values(&self) -> Val {
        Val::Map(self.0.of_kind(MapKind::Values))
    }

    pub(crate) fn get(&self, key: &str) -> Option<Val> {
        self.0.get(key)
    }

    /// Returns the value under a key when that is a map.
    pub(crate) fn table(&self, key: &str) -> Option<Table> {
        self.get(key).as_ref().and_then(as_table)
    }

    pub(crate) fn insert(&self, key: &str, value: Val) {
        self.0.set(key, value);
    }

    pub(crate) fn insert_table(&self, key: &str, table: Table) {
        self.insert(key, Val::Map(table.0));
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.entries.borrow_mut().remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.entries.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.entries.borrow().is_empty()
    }

    /// Returns what the map holds now; changing the map does not change it.
    pub(crate) fn entries(&self) -> Vec<(Rc<str>, Val)> {
        self.0
            .entries
            .borrow()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Returns a copy whose own keys can change; the maps below stay shared.
    pub(crate) fn shallow_copy(&self) -> Self {
        Self(MapVal::new(self.0.entries.borrow().clone()))
    }

    /// Returns a copy that shares no map.
    pub(crate) fn deep_copy(&self) -> Result<Self, TooDeep> {
        copy_map(&self.0, MAX_DEPTH).map(Self)
    }

    /// Counts the values that a copy would hold, maps and lists three times for what they take themselves; none when
    /// there are more than `most`, as maps may hold each other many times.
    pub(crate) fn size(&self, most: usize) -> Result<Option<usize>, TooDeep> {
        let mut left = most;
        let fits = measure(&Val::Map(self.0.clone()), MAX_DEPTH, &mut left)?;
        Ok(fits.then_some(most - left))
    }

    /// Follows dots through maps; none when a part is missing or no map.
    pub(crate) fn table_at(&self, path: &str) -> Option<Table> {
        self.follow(path).ok()
    }

    /// Follows dots through maps; an error is the part that is missing or no map.
    pub(crate) fn follow<'p>(&self, path: &'p str) -> Result<Table, &'p str> {
        path.split('.')
            .try_fold(self.clone(), |table, key| table.table(key).ok_or(key))
    }

    /// Follows dots to a value that is no map.
    pub(crate) fn value_at(&self, path: &str) -> Option<Val> {
        let found = match path.rsplit_once('.') {
            Some((tables, key)) => self.table_at(tables)?.get(key),
            None => self.get(path),
        };
        found.filter(|value| as_table(value).is_none())
    }

    /// Empties the map and all below it, so that maps which hold each other are freed.
    pub(crate) fn dismantle(&self) {
        let mut seen = HashSet::new();
        let mut waiting = vec![self.clone()];
        while let Some(Table(map)) = waiting.pop() {
            if seen.insert(Rc::as_ptr(&map.entries).addr()) {
                let entries = std::mem::take(&mut *map.entries.borrow_mut());
                waiting.extend(entries.values().filter_map(as_table));
            }
        }
    }
}

/// Returns the map that a value is.
pub(crate) fn as_table(value: &Val) -> Option<Table> {
    match value {
        Val::Map(map) => Some(Table(map.clone())),
        _ => None,
    }
}

/// Takes a value's size from what is left; false when that is not enough.
fn measure(value: &Val, depth: usize, left: &mut usize) -> Result<bool, TooDeep> {
    let own = if matches!(value, Val::Map(_) | Val::List(_)) {
        3
    } else {
        1
    };
    let Some(rest) = left.checked_sub(own) else {
        return Ok(false);
    };
    *left = rest;
    let below = || depth.checked_sub(1).ok_or(TooDeep);
    match value {
        Val::Map(map) => {
            let depth = below()?;
            for value in map.entries.borrow().values() {
                if !measure(value, depth, left)? {
                    return Ok(false);
                }
            }
        }
        Val::List(list) => {
            let depth = below()?;
            for item in list.items.iter() {
                if !measure(item, depth, left)? {
                    return Ok(false);
                }
            }
        }
        _ => {}
    }
    Ok(true)
}

fn copy_map(map: &MapVal, depth: usize) -> Result<MapVal, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    // Copying the tree as it is, and then what is inside it, takes less than to build it key by key.
    let mut copy = map.entries.borrow().clone();
    copy.values_mut().try_for_each(|value| copy_below(value, depth))?;
    Ok(MapVal {
        entries: MapVal::new(copy).entries,
        kind: map.kind,
        nil: map.nil,
    })
}

/// Puts a copy in place of a map or list that is shared.
fn copy_below(value: &mut Val, depth: usize) -> Result<(), TooDeep> {
    match value {
        Val::Map(map) => *map = copy_map(map, depth)?,
        Val::List(list) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            let mut items = list.items.to_vec();
            items.iter_mut().try_for_each(|item| copy_below(item, depth))?;
            *value = Val::list(items);
        }
        _ => {}
    }
    Ok(())
}
