//! Brings the values that a user gives together with the defaults of a chart and of its subcharts.
//!
//! The user wins over a chart, a chart over its subcharts; maps are merged, all else is replaced, and null
//! takes a default away. `global` is handed down. The steps and their quirks are the reference's: which nulls
//! stay, and which nested maps a chart shares with its parent.

use std::fmt::{self, Display, Formatter};

use super::copies::Copies;
use super::table::{MAX_DEPTH, Table, TooDeep, as_table, is_same};
use crate::helm::dependencies::Resolved;
use crate::helm::value::Val;
use crate::helm::warning::{Warn, Warning};

/// The key whose values every chart sees.
const GLOBAL: &str = "global";

/// Why values cannot be brought together. Nothing helps but other values or another chart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoalesceError {
    /// The values for a subchart are no map.
    #[error("type mismatch on {0}: its values are not a map")]
    NotMap(String),
    /// Maps hold each other.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// A bound was reached, or the caller asked to stop.
    #[error("bringing the values of the charts together: {0}")]
    TooLarge(String),
}

/// A value that does not count, since it is of another kind than what it meets. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueWarning {
    /// A chart's default for a table is none, and is left out.
    Skipped(String),
    /// A table of defaults meets something else that was given, which stays.
    NotOverwritten(String),
    /// A default that is no table meets a table that was given, which stays.
    Ignored(String),
    /// Globals of the chart named are no table: none are handed down.
    Globals(&'static str),
    /// A global that is a table meets one that is none.
    GlobalConflict(String),
    /// A global that is none meets a table.
    GlobalTable(String),
}

impl Display for ValueWarning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(path) => write!(f, "skipped value for {path}: Not a table"),
            Self::NotOverwritten(path) => write!(f, "cannot overwrite table with non table for {path}"),
            Self::Ignored(path) => write!(f, "destination for {path} is a table. Ignoring non-table value"),
            Self::Globals(which) => write!(f, "skipping globals because {which} {GLOBAL} is not a table"),
            Self::GlobalConflict(key) => {
                write!(f, "cannot merge map onto non-map for {key:?}. Skipping")
            }
            Self::GlobalTable(key) => write!(f, "key {key} is table. Skipping"),
        }
    }
}

/// What happens to null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// It takes away the default and itself.
    Remove,
    /// It stays, to take away a default in a later step.
    Keep,
}

/// Returns the values that a chart is rendered with, and tells of those that do not count.
pub(crate) fn coalesce(
    chart: &Resolved<'_>,
    given: &Table,
    nulls: Nulls,
    copies: &Copies<'_>,
    warn: Warn<'_>,
) -> Result<Table, CoalesceError> {
    let values = copies.copy(given)?;
    coalesce_into(chart, &values, (nulls, copies), chart.name(), warn)?;
    Ok(values)
}

/// `path` leads to the chart, through its parents.
fn coalesce_into(
    chart: &Resolved<'_>,
    values: &Table,
    (nulls, copies): (Nulls, &Copies<'_>),
    path: &str,
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    add_defaults(chart, values, (nulls, copies), path, warn)?;
    for inside in &chart.dependencies {
        let name = inside.name();
        let below = match values.get(name) {
            Some(Val::Map(_)) => values.table(name).unwrap_or_default(),
            Some(_) => return Err(CoalesceError::NotMap(name.to_owned())),
            None => {
                let below = Table::default();
                copies.insert(values, name, below.clone().into_val())?;
                below
            }
        };
        copies.spend(values.table(GLOBAL).map_or(0, |globals| globals.len()))?;
        hand_down_globals(&below, values, copies, path, warn)?;
        coalesce_into(inside, &below, (nulls, copies), &format!("{path}.{name}"), warn)?;
    }
    Ok(())
}

/// Adds the defaults of one chart, without those of its subcharts.
fn add_defaults(
    chart: &Resolved<'_>,
    values: &Table,
    (nulls, copies): (Nulls, &Copies<'_>),
    path: &str,
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    for (key, default) in chart.default_values(copies)?.entries() {
        match values.get(&key) {
            Some(Val::Nil) if nulls == Nulls::Remove => copies.remove(values, &key)?,
            Some(given) => {
                let Some(given) = as_table(&given) else {
                    continue;
                };
                copies.spend(chart.dependencies.len())?;
                let path = format!("{path}.{key}");
                if let Some(default) = as_table(&default) {
                    let is_chart = chart.dependencies.iter().any(|inside| inside.name() == &*key);
                    // Nulls for a subchart are still needed when its own defaults come.
                    let nulls = if is_chart { Nulls::Keep } else { nulls };
                    if nulls == Nulls::Remove {
                        remove_nulls(&default, copies)?;
                    }
                    merge_below(&given, &default, (nulls, copies), (MAX_DEPTH, &path), warn)?;
                } else if !default.is_nil() {
                    warn(Warning::Value(ValueWarning::Skipped(path)));
                }
            }
            None if nulls == Nulls::Keep => copies.insert(values, &key, default)?,
            None if default.is_nil() => {}
            None => {
                if let Some(default) = as_table(&default) {
                    remove_nulls(&default, copies)?;
                }
                copies.insert(values, &key, default)?;
            }
        }
    }
    Ok(())
}

/// Merges `source` into `dest`, which wins. The source is changed too, and shares its maps with `dest` after.
pub(crate) fn merge_tables(
    dest: &Table,
    source: &Table,
    nulls: Nulls,
    copies: &Copies<'_>,
) -> Result<(), CoalesceError> {
    merge_below(dest, source, (nulls, copies), (MAX_DEPTH, ""), &mut |_| {})
}

fn merge_below(
    dest: &Table,
    source: &Table,
    (nulls, copies): (Nulls, &Copies<'_>),
    (depth, path): (usize, &str),
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    copies.spend(dest.len() + source.len())?;
    for (key, value) in dest.entries() {
        if !value.is_nil() {
            continue;
        }
        let had_value = source.get(&key).is_some_and(|value| !value.is_nil());
        if nulls == Nulls::Remove && had_value {
            copies.remove(dest, &key)?;
            copies.remove(source, &key)?;
        } else {
            copies.insert(source, &key, Val::Nil)?;
        }
    }
    for (key, value) in source.entries() {
        match (dest.get(&key), value) {
            (None, value) => copies.insert(dest, &key, value)?,
            (Some(own), value) => {
                let below = || format!("{path}.{key}");
                match (as_table(&own), as_table(&value)) {
                    (Some(own), Some(value)) => {
                        copies.spend_text(path.len() + key.len())?;
                        merge_below(&own, &value, (nulls, copies), (depth, &below()), warn)?;
                    }
                    (None, Some(_)) => warn(Warning::Value(ValueWarning::NotOverwritten(below()))),
                    (Some(_), None) if !value.is_nil() => {
                        warn(Warning::Value(ValueWarning::Ignored(below())))
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Gives a subchart the globals of its parent, whose values win over its own.
fn hand_down_globals(
    below: &Table,
    above: &Table,
    copies: &Copies<'_>,
    path: &str,
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    let is_other = |values: &Table| values.get(GLOBAL).is_some() && values.table(GLOBAL).is_none();
    for (which, values) in [("destination", below), ("source", above)] {
        if is_other(values) {
            warn(Warning::Value(ValueWarning::Globals(which)));
            return Ok(());
        }
    }
    let globals = above.table(GLOBAL).unwrap_or_default();
    let own = match below.table(GLOBAL) {
        Some(own) => own,
        // All of them, which the chart and its parent have the same until one of the two changes some.
        None if !globals.holds_tables() => {
            let own = copies.copy_one(&globals)?;
            return copies.insert(below, GLOBAL, own.into_val());
        }
        None => Table::default(),
    };
    for (key, value) in globals.entries() {
        match (own.get(&key), as_table(&value)) {
            (None, Some(value)) => copies.insert(&own, &key, copies.copy_one(&value)?.into_val())?,
            (Some(Val::Map(_)), None) => warn(Warning::Value(ValueWarning::GlobalTable(key.to_string()))),
            (Some(mine), None) if is_same(&mine, &value) => {}
            (_, None) => copies.insert(&own, &key, value)?,
            (Some(mine), Some(value)) => {
                let Some(mine) = as_table(&mine) else {
                    warn(Warning::Value(ValueWarning::GlobalConflict(key.to_string())));
                    continue;
                };
                let merged = copies.copy_one(&value)?;
                merge_below(
                    &merged,
                    &mine,
                    (Nulls::Keep, copies),
                    (MAX_DEPTH, &format!("{path}.{key}")),
                    warn,
                )?;
                copies.insert(&own, &key, merged.into_val())?;
            }
        }
    }
    copies.insert(below, GLOBAL, own.into_val())
}

fn remove_nulls(table: &Table, copies: &Copies<'_>) -> Result<(), CoalesceError> {
    for (key, value) in table.entries() {
        match as_table(&value) {
            Some(below) => remove_nulls(&below, copies)?,
            None if value.is_nil() => copies.remove(table, &key)?,
            None => {}
        }
    }
    Ok(())
}
