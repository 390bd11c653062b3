//! Brings the values that a user gives together with the defaults of a chart and of the charts inside it.
//!
//! The user wins over a chart, a chart over those inside it; maps are merged, all else is replaced, and null
//! takes a default away. `global` is handed down. The steps and their quirks are the reference's: which nulls
//! stay, and which nested maps a chart shares with its parent.

use super::table::{MAX_DEPTH, Table, TooDeep, as_table};
use crate::helm::requirements::Resolved;
use crate::helm::value::Val;

/// The key whose values every chart sees.
const GLOBAL: &str = "global";

/// Why values cannot be brought together. Nothing helps but other values or another chart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoalesceError {
    /// The values for a chart inside are no map.
    #[error("type mismatch on {0}: its values are not a map")]
    NotMap(String),
    /// Maps hold each other.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
}

/// What happens to null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// It takes away the default and itself.
    Remove,
    /// It stays, to take away a default in a later step.
    Keep,
}

/// Returns the values that a chart is rendered with.
pub(crate) fn coalesce(chart: &Resolved<'_>, given: &Table, nulls: Nulls) -> Result<Table, CoalesceError> {
    let values = given.deep_copy()?;
    coalesce_into(chart, &values, nulls)?;
    Ok(values)
}

fn coalesce_into(chart: &Resolved<'_>, values: &Table, nulls: Nulls) -> Result<(), CoalesceError> {
    add_defaults(chart, values, nulls)?;
    for inside in &chart.dependencies {
        let name = inside.name();
        let below = match values.get(name) {
            Some(Val::Map(_)) => values.table(name).unwrap_or_default(),
            Some(_) => return Err(CoalesceError::NotMap(name.to_owned())),
            None => {
                let below = Table::default();
                values.insert_table(name, below.clone());
                below
            }
        };
        hand_down_globals(&below, values)?;
        coalesce_into(inside, &below, nulls)?;
    }
    Ok(())
}

/// Adds the defaults of one chart, without those of the charts inside it.
fn add_defaults(chart: &Resolved<'_>, values: &Table, nulls: Nulls) -> Result<(), CoalesceError> {
    for (key, default) in chart.default_values()?.entries() {
        match values.get(&key) {
            Some(Val::Nil) if nulls == Nulls::Remove => values.remove(&key),
            Some(given) => {
                if let (Some(given), Some(default)) = (as_table(&given), as_table(&default)) {
                    let is_chart = chart.dependencies.iter().any(|inside| inside.name() == &*key);
                    // Nulls for a chart inside are still needed when its own defaults come.
                    let nulls = if is_chart { Nulls::Keep } else { nulls };
                    if nulls == Nulls::Remove {
                        remove_nulls(&default);
                    }
                    merge_tables(&given, &default, nulls)?;
                }
            }
            None if nulls == Nulls::Keep => values.insert(&key, default),
            None if default.is_nil() => {}
            None => {
                if let Some(default) = as_table(&default) {
                    remove_nulls(&default);
                }
                values.insert(&key, default);
            }
        }
    }
    Ok(())
}

/// Merges `source` into `dest`, which wins. The source is changed too, and shares its maps with `dest` after.
pub(crate) fn merge_tables(dest: &Table, source: &Table, nulls: Nulls) -> Result<(), TooDeep> {
    merge_below(dest, source, nulls, MAX_DEPTH)
}

fn merge_below(dest: &Table, source: &Table, nulls: Nulls, depth: usize) -> Result<(), TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    for (key, value) in dest.entries() {
        if !value.is_nil() {
            continue;
        }
        let had_value = source.get(&key).is_some_and(|value| !value.is_nil());
        if nulls == Nulls::Remove && had_value {
            dest.remove(&key);
            source.remove(&key);
        } else {
            source.insert(&key, Val::Nil);
        }
    }
    for (key, value) in source.entries() {
        match (dest.get(&key), value) {
            (None, value) => dest.insert(&key, value),
            (Some(own), value) => {
                if let (Some(own), Some(value)) = (as_table(&own), as_table(&value)) {
                    merge_below(&own, &value, nulls, depth)?;
                }
            }
        }
    }
    Ok(())
}

/// Gives a chart inside the globals of its parent, whose values win over its own.
fn hand_down_globals(below: &Table, above: &Table) -> Result<(), TooDeep> {
    let is_other = |values: &Table| values.get(GLOBAL).is_some() && values.table(GLOBAL).is_none();
    if is_other(below) || is_other(above) {
        return Ok(());
    }
    let own = below.table(GLOBAL).unwrap_or_default();
    for (key, value) in above.table(GLOBAL).unwrap_or_default().entries() {
        match (own.get(&key), as_table(&value)) {
            (None, Some(value)) => own.insert_table(&key, value.shallow_copy()),
            (Some(Val::Map(_)), None) => {}
            (_, None) => own.insert(&key, value),
            (Some(mine), Some(value)) => {
                if let Some(mine) = as_table(&mine) {
                    let merged = value.shallow_copy();
                    merge_tables(&merged, &mine, Nulls::Keep)?;
                    own.insert_table(&key, merged);
                }
            }
        }
    }
    below.insert_table(GLOBAL, own);
    Ok(())
}

fn remove_nulls(table: &Table) {
    for (key, value) in table.entries() {
        match as_table(&value) {
            Some(below) => remove_nulls(&below),
            None if value.is_nil() => table.remove(&key),
            None => {}
        }
    }
}
