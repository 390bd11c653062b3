//! Bounds what bringing values together makes: copies, which charts that are named several times multiply.

use std::cell::Cell;

use super::coalesce::CoalesceError;
use super::table::{BYTES_PER_VALUE, Size, Table, VALUES_PER_HOLDER, bytes_of, values_of_entries};
use crate::helm::context::Context;
use crate::helm::value::Val;
use crate::yaml::Map;

/// How many charts may take part, one that has several aliases once for each.
const MAX_CHARTS: usize = 1000;
/// How many values are copied in one step.
const VALUES_PER_STEP: usize = 4;

/// What the copies of one rendering may still take.
pub(crate) struct Copies<'c> {
    context: &'c Context,
    steps: Cell<u64>,
    /// Bytes of the copies that are kept.
    kept: Cell<usize>,
    /// Bytes of what is made for each name that a chart has, beside its values.
    made: Cell<usize>,
    charts: Cell<usize>,
}

impl<'c> Copies<'c> {
    pub(crate) fn new(context: &'c Context) -> Self {
        Self {
            context,
            steps: Cell::new(context.limits.steps),
            kept: Cell::new(0),
            made: Cell::new(0),
            charts: Cell::new(0),
        }
    }

    /// Returns values that were read as a table, once what both take is taken: they last as long as the rendering.
    pub(crate) fn table(&self, map: &Map) -> Result<Table, CoalesceError> {
        let bytes = bytes_of(map).saturating_mul(2);
        self.made.set(self.made.get().saturating_add(bytes));
        self.fits()?;
        Ok(Table::from_map(map))
    }

    /// Returns a copy that shares no map, once what it takes is taken.
    pub(crate) fn copy(&self, table: &Table) -> Result<Table, CoalesceError> {
        let size = self.measured(table)?;
        self.keep(size.made)?;
        Ok(table.deep_copy()?)
    }

    /// Returns a copy whose own keys can change, once what it takes is taken; the maps below stay shared.
    pub(crate) fn copy_one(&self, table: &Table) -> Result<Table, CoalesceError> {
        self.keep(VALUES_PER_HOLDER)?;
        Ok(table.shallow_copy())
    }

    /// Makes sure that there is room for values as JSON beside all else; it goes again at once.
    pub(crate) fn room_for_json(&self, table: &Table) -> Result<(), CoalesceError> {
        let before = self.kept();
        self.keep(self.measured(table)?.json.div_ceil(BYTES_PER_VALUE))?;
        self.give_back_to(before);
        Ok(())
    }

    /// Sets a value in a table that copies may have the same entries as.
    pub(crate) fn insert(&self, table: &Table, key: &str, value: Val) -> Result<(), CoalesceError> {
        self.change(table)?;
        let entries = table.len();
        self.keep(1 + values_of_entries(entries + 1).saturating_sub(values_of_entries(entries)))?;
        table.insert(key, value);
        Ok(())
    }

    /// Takes a value out of a table that copies may have the same entries as.
    pub(crate) fn remove(&self, table: &Table, key: &str) -> Result<(), CoalesceError> {
        self.change(table)?;
        table.remove(key);
        Ok(())
    }

    /// Takes what a change copies.
    fn change(&self, table: &Table) -> Result<(), CoalesceError> {
        match table.copied_by_change() {
            0 => Ok(()),
            entries => {
                self.spend(entries)?;
                self.keep(values_of_entries(entries))
            }
        }
    }

    /// Takes the steps of looking at all there is in a table.
    fn measured(&self, table: &Table) -> Result<Size, CoalesceError> {
        let left = self.context.limits.bytes.saturating_sub(self.taken());
        let steps = usize::try_from(self.steps.get()).unwrap_or(usize::MAX);
        let size = table.size(Size {
            seen: steps.saturating_mul(VALUES_PER_STEP),
            made: left / BYTES_PER_VALUE,
            ..Size::default()
        })?;
        self.spend(size.seen)?;
        Ok(size)
    }

    /// Takes what so many values take.
    fn keep(&self, values: usize) -> Result<(), CoalesceError> {
        let bytes = values.saturating_mul(BYTES_PER_VALUE);
        self.kept.set(self.kept.get().saturating_add(bytes));
        self.fits()
    }

    /// Takes bytes that are going to be made for one of the names that a chart has, and lasts as long as the rendering.
    pub(crate) fn make(&self, bytes: usize) -> Result<(), CoalesceError> {
        self.spend_text(bytes)?;
        self.made.set(self.made.get().saturating_add(bytes));
        self.fits()
    }

    fn fits(&self) -> Result<(), CoalesceError> {
        match self.taken() > self.context.limits.bytes {
            true => Err(self.no_more_bytes()),
            false => Ok(()),
        }
    }

    /// Returns the bytes of all that is there now.
    pub(crate) fn taken(&self) -> usize {
        self.kept.get().saturating_add(self.made.get())
    }

    fn no_more_bytes(&self) -> CoalesceError {
        CoalesceError::TooLarge(format!("more than {} bytes of copies", self.context.limits.bytes))
    }

    /// Takes the steps of looking at so many values, and lets the caller stop.
    pub(crate) fn spend(&self, values: usize) -> Result<(), CoalesceError> {
        let steps = (values / VALUES_PER_STEP) as u64 + 1;
        let left = self.steps.get().checked_sub(steps);
        let left = left.ok_or_else(|| CoalesceError::TooLarge(self.context.no_more_steps()))?;
        self.steps.set(left);
        self.go_on()
    }

    /// Lets the caller stop in work whose steps are taken.
    pub(crate) fn go_on(&self) -> Result<(), CoalesceError> {
        self.context.go_on().map_err(CoalesceError::TooLarge)
    }

    /// Takes the steps of making texts of so many bytes.
    pub(crate) fn spend_text(&self, bytes: usize) -> Result<(), CoalesceError> {
        self.spend(bytes / BYTES_PER_VALUE)
    }

    /// Takes charts, or copies of them, that are going to be made.
    pub(crate) fn add_charts(&self, count: usize) -> Result<(), CoalesceError> {
        self.charts.set(self.charts.get().saturating_add(count));
        if self.charts.get() > MAX_CHARTS {
            return Err(CoalesceError::TooLarge(format!(
                "more than {MAX_CHARTS} charts, one that has several aliases counted for each"
            )));
        }
        self.spend(count)
    }

    /// Returns what is kept now.
    pub(crate) fn kept(&self) -> usize {
        self.kept.get()
    }

    /// Gives back what was taken since, whose copies are gone.
    pub(crate) fn give_back_to(&self, kept: usize) {
        self.kept.set(kept);
    }
}
