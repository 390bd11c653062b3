//! Values while charts share them: maps that several holders see and change, as Go's maps are.
//!
//! Coalescing gives a chart and its subcharts the same nested maps, and what one adds the others see;
//! copies would lose that. They are the maps that templates get in the end.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::helm::value::{Entries, MapKind, MapVal, Val};
use crate::yaml::{Map, Value, map_bytes};

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
    /// Makes a table of a map; what it takes, [`bytes_of`] tells.
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

    pub(crate) fn into_val(self) -> Val {
        Val::Map(self.0)
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.unset(key);
    }

    /// Returns how many entries a change copies.
    pub(crate) fn copied_by_change(&self) -> usize {
        self.0.entries.copied_by_change()
    }

    /// Tells whether any of its own values is a map.
    pub(crate) fn holds_tables(&self) -> bool {
        self.0
            .entries
            .borrow()
            .values()
            .any(|value| matches!(value, Val::Map(_)))
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
        Self(MapVal {
            kind: MapKind::Any,
            nil: false,
            ..self.0.copy()
        })
    }

    /// Returns a copy that shares no map that can be changed: entries that hold no map stay the same until they are.
    pub(crate) fn deep_copy(&self) -> Result<Self, TooDeep> {
        copy_map(&self.0, MAX_DEPTH).map(Self)
    }

    /// Returns what making a copy takes, as far as the most, as maps may hold each other many times.
    pub(crate) fn size(&self, most: Size) -> Result<Size, TooDeep> {
        let mut size = Size::default();
        match measure_map(&self.0, MAX_DEPTH, &mut size, most) {
            Ok(()) | Err(End::TooMany) => Ok(size),
            Err(End::TooDeep) => Err(TooDeep),
        }
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
                let entries = map.entries.take();
                waiting.extend(entries.values().filter_map(as_table));
            }
        }
    }
}

/// Tells whether nothing changes where one value takes the place of another: neither is a map, and they are equal.
pub(crate) fn is_same(one: &Val, other: &Val) -> bool {
    match (one, other) {
        (Val::Nil, Val::Nil) => true,
        (Val::Bool(one), Val::Bool(other)) => one == other,
        (Val::Int64(one), Val::Int64(other)) => one == other,
        (Val::UInt(one), Val::UInt(other)) => one == other,
        (Val::Float(one), Val::Float(other)) => one.to_bits() == other.to_bits(),
        (Val::Str(one), Val::Str(other)) => Rc::ptr_eq(one, other),
        (Val::List(one), Val::List(other)) => Rc::ptr_eq(&one.items, &other.items),
        _ => false,
    }
}

/// Returns the map that a value is.
pub(crate) fn as_table(value: &Val) -> Option<Table> {
    match value {
        Val::Map(map) => Some(Table(map.clone())),
        _ => None,
    }
}

/// What making a copy takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    /// Values that are looked at.
    pub(crate) seen: usize,
    /// Values that are made, those included that maps and lists count for by themselves.
    pub(crate) made: usize,
    /// Bytes that it takes as JSON.
    pub(crate) json: usize,
}

/// Why a copy is not measured to the end.
enum End {
    TooDeep,
    TooMany,
}

/// What a value takes in memory where a list holds it.
pub(super) const BYTES_PER_VALUE: usize = 64;
/// What a map or a list takes without its entries, in values.
pub(super) const VALUES_PER_HOLDER: usize = 3;
/// What a text takes beside its bytes.
const BYTES_PER_TEXT: usize = 32;

/// Returns what so many entries of a map take, in values.
pub(super) fn values_of_entries(entries: usize) -> usize {
    map_bytes::<Rc<str>, Val>(entries).div_ceil(BYTES_PER_VALUE)
}

/// Returns how many bytes a table takes that is made of a map, which itself takes about as many.
pub(super) fn bytes_of(map: &Map) -> usize {
    let inside = map
        .iter()
        .map(|(key, value)| BYTES_PER_TEXT + key.len() + bytes_below(value));
    VALUES_PER_HOLDER * BYTES_PER_VALUE + map_bytes::<Rc<str>, Val>(map.len()) + inside.sum::<usize>()
}

fn bytes_below(value: &Value) -> usize {
    match value {
        Value::String(text) => BYTES_PER_TEXT + text.len(),
        Value::List(items) => {
            let inside = items.iter().map(|item| size_of::<Val>() + bytes_below(item));
            BYTES_PER_VALUE + inside.sum::<usize>()
        }
        Value::Map(map) => bytes_of(map),
        _ => 0,
    }
}

fn measure_map(map: &MapVal, depth: usize, size: &mut Size, most: Size) -> Result<(), End> {
    let entries = map.entries.borrow();
    let is_copied = measure(entries.values(), depth, size, most)?;
    size.made += VALUES_PER_HOLDER;
    size.made += if is_copied {
        values_of_entries(entries.len())
    } else {
        0
    };
    let keys = entries.keys().map(|key| BYTES_PER_TEXT + key.len());
    size.json += map_bytes::<String, Json>(entries.len()) + keys.sum::<usize>();
    is_within(size, most)
}

/// Measures what is in a map or a list; tells whether there is a map, so that this has to be copied itself.
fn measure<'v>(
    values: impl Iterator<Item = &'v Val>,
    depth: usize,
    size: &mut Size,
    most: Size,
) -> Result<bool, End> {
    let depth = depth.checked_sub(1).ok_or(End::TooDeep)?;
    let mut is_copied = false;
    for value in values {
        size.seen += 1;
        let text = value.as_str().map_or(0, str::len);
        size.json += 2 * size_of::<Json>() + BYTES_PER_TEXT + text;
        match value {
            Val::Map(map) => {
                is_copied = true;
                measure_map(map, depth, size, most)?;
            }
            Val::List(list) if measure(list.items.iter(), depth, size, most)? => {
                is_copied = true;
                size.made += VALUES_PER_HOLDER + list.items.len();
            }
            _ => {}
        }
        is_within(size, most)?;
    }
    Ok(is_copied)
}

fn is_within(size: &Size, most: Size) -> Result<(), End> {
    match size.seen > most.seen || size.made > most.made {
        true => Err(End::TooMany),
        false => Ok(()),
    }
}

fn copy_map(map: &MapVal, depth: usize) -> Result<MapVal, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    let mut copied = Vec::new();
    for (key, value) in map.entries.borrow().iter() {
        if let Some(copy) = copy_below(value, depth)? {
            copied.push((key.clone(), copy));
        }
    }
    let copy = map.copy();
    for (key, value) in copied {
        copy.set(&key, value);
    }
    Ok(copy)
}

/// Returns a copy of a map, or of a list in which one is; none of what nobody can change.
fn copy_below(value: &Val, depth: usize) -> Result<Option<Val>, TooDeep> {
    match value {
        Val::Map(map) => Ok(Some(Val::Map(copy_map(map, depth)?))),
        Val::List(list) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            let mut items: Option<Vec<Val>> = None;
            for (at, item) in list.items.iter().enumerate() {
                if let Some(copy) = copy_below(item, depth)? {
                    items.get_or_insert_with(|| list.items.to_vec())[at] = copy;
                }
            }
            Ok(items.map(Val::list))
        }
        _ => Ok(None),
    }
}
