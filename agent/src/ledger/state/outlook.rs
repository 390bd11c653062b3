//! What a ledger needs: what it holds, and the rows that its units are going to write of their objects. And what it
//! would need with more, counted before anything of that is made, copied or taken in.

use std::collections::HashMap;

use flotilla_core::{content::Table, digest::Digest, unit::Entry};

use super::{
    Blob, Parsed, Record, State, Unit,
    live::{blob_size, entry_size_of},
};
use crate::ledger::{LedgerError, items, record::UNIT_OVERHEAD};

/// Bytes of a row of an inventory, as it is counted before it is written: texts of usual length, UID and digests.
const ROW: usize = 192;

impl State {
    /// Returns the bytes that are needed, also for rows that are still to be written. Contents that no entry names yet
    /// are not counted: they make room.
    pub fn need(&self) -> usize {
        let owed = self.units.values().map(|unit| self.owed(unit));
        self.live_size().saturating_sub(self.unclaimed_size()) + owed.sum::<usize>()
    }

    /// Bytes of rows, and of the entry that is going to be enforced, that a unit is still to write.
    fn owed(&self, unit: &Unit) -> usize {
        let Some(offered) = &unit.offered else {
            return 0;
        };
        let table = content_of(unit).and_then(|content| self.table(&content));
        let rows = table.map_or(0, |table| table.len().saturating_sub(unit.standing));
        rows * ROW + enforced_later(unit, offered.bytes.len())
    }

    /// Tells whether records may be taken in under a limit for contents and entries: whatever they are where they need
    /// no more than before, and at once where there is room even if nothing of them were here.
    pub(in crate::ledger) fn admits(
        &self,
        records: &[Record],
        parsed: &HashMap<Digest, Parsed>,
        limit: usize,
    ) -> Result<(), LedgerError> {
        let brings = |record: &Record| matches!(record, Record::Blob(..) | Record::Offered { .. });
        if !records.iter().any(brings) {
            return Ok(());
        }
        let most = records.iter().map(|record| self.most(record, parsed));
        if self.need() + self.unclaimed_size() + most.sum::<usize>() <= limit {
            return Ok(());
        }
        // Contents alone take the place of no others that no entry names.
        let is_named = !records.iter().all(|record| matches!(record, Record::Blob(..)));
        Outlook::new(self, parsed, is_named).take(records, limit)
    }

    /// Tells whether records bring contents, or name any that their units have not named before.
    pub(in crate::ledger) fn brings_contents(&self, records: &[Record]) -> bool {
        records.iter().any(|record| match record {
            Record::Blob(..) => true,
            Record::Offered { unit, entry, .. } => {
                let offered = self.units.get(unit).and_then(|unit| unit.offered.as_ref());
                let before = offered.and_then(|stored| stored.entry.as_deref());
                let (Some(before), Some(now)) = (before, entry.entry()) else {
                    return true;
                };
                now.contents()
                    .any(|digest| before.contents().all(|known| known != digest))
            }
            _ => false,
        })
    }

    /// The most that a record may need.
    fn most(&self, record: &Record, parsed: &HashMap<Digest, Parsed>) -> usize {
        match record {
            Record::Blob(_, blob) => blob_size(blob.room()),
            Record::Offered { entry, .. } => {
                let content = entry.entry().and_then(|entry| entry.content);
                let table = content.and_then(|content| self.table_of(&content, parsed));
                UNIT_OVERHEAD + 2 * entry_size_of(entry.bytes().len()) + table.map_or(0, Table::len) * ROW
            }
            _ => 0,
        }
    }

    fn table_of<'a>(&'a self, content: &Digest, parsed: &'a HashMap<Digest, Parsed>) -> Option<&'a Table> {
        let parsed = parsed.get(content).map(|parsed| &*parsed.table);
        parsed.or_else(|| self.table(content).map(|table| &**table))
    }
}

/// The content that a unit is offered.
fn content_of(unit: &Unit) -> Option<Digest> {
    unit.offered.as_ref()?.entry.as_ref()?.content
}

/// Bytes of the mark that the accepted state does not name a unit.
fn mark_size(unit: &Unit) -> usize {
    match unit.is_unknown {
        true => UNIT_OVERHEAD,
        false => 0,
    }
}

/// Bytes that a unit's entry needs more once it is the one that is enforced.
fn enforced_later(unit: &Unit, offered: usize) -> usize {
    let enforced = unit.enforced.as_ref();
    entry_size_of(offered).saturating_sub(enforced.map_or(0, |stored| entry_size_of(stored.bytes.len())))
}

/// A ledger with sets of records that are not taken in, one after another.
pub(in crate::ledger) struct Outlook<'a> {
    state: &'a State,
    parsed: &'a HashMap<Digest, Parsed>,
    /// References that come, or go where negative.
    references: HashMap<Digest, i64>,
    /// Entries that name a content by now, or do no longer where negative.
    named: HashMap<Digest, i64>,
    /// Blobs that come, and their bytes in storage.
    brought: HashMap<Digest, usize>,
    need: usize,
    steps: Vec<Step>,
}

/// What a set has changed, to be taken back.
enum Step {
    Referred(Digest, i64),
    Named(Digest, i64),
    Brought(Digest),
}

impl<'a> Outlook<'a> {
    /// Begins with what is held. `gives_up`: contents that no entry names make room.
    pub(in crate::ledger) fn new(
        state: &'a State,
        parsed: &'a HashMap<Digest, Parsed>,
        gives_up: bool,
    ) -> Self {
        let unclaimed = if gives_up { 0 } else { state.unclaimed_size() };
        Self {
            state,
            parsed,
            references: HashMap::new(),
            named: HashMap::new(),
            brought: HashMap::new(),
            need: state.need() + unclaimed,
            steps: Vec::new(),
        }
    }

    /// Takes in a set where there is room for it, or where it needs no more than there was before. One that there is
    /// no room for leaves its room to the next.
    pub(in crate::ledger) fn take(&mut self, records: &[Record], limit: usize) -> Result<(), LedgerError> {
        let before = self.need;
        self.steps.clear();
        for record in records {
            self.add(record);
        }
        self.add_unnamed();
        let size = self.need;
        if size <= limit || size <= before {
            return Ok(());
        }
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            self.take_back(step);
        }
        self.need = before;
        let more = size - before;
        Err(LedgerError::Full { size, limit, more })
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Blob(digest, blob) => self.bring(*digest, blob),
            Record::Offered { unit, entry, .. } => {
                let state = self.state;
                let before = state.units.get(unit);
                let offered = before.and_then(|unit| unit.offered.as_ref());
                let entry_before = offered.and_then(|stored| stored.entry.as_deref());
                let (now, size) = (entry.entry(), entry.bytes().len());
                let content = now.and_then(|entry| entry.content);
                // What both name is named throughout.
                if let Some(entry) = now {
                    self.refer_entry(entry, 1);
                }
                if let Some(entry) = entry_before {
                    self.refer_entry(entry, -1);
                }
                self.less(before.map_or(0, mark_size));
                self.need += entry_size_of(size);
                self.need += if before.is_none() { UNIT_OVERHEAD } else { 0 };
                self.less(offered.map_or(0, |stored| entry_size_of(stored.bytes.len())));
                self.need += self.owed(before, entry_before, content, size);
                self.less(before.map_or(0, |unit| self.owed_before(unit)));
            }
            Record::Unknown { unit } => {
                let is_marked = self.state.units.get(unit).is_none_or(|unit| unit.is_unknown);
                self.need += if is_marked { 0 } else { UNIT_OVERHEAD };
            }
            Record::Released { unit } => {
                let Some(unit) = self.state.units.get(unit) else {
                    return;
                };
                self.less(mark_size(unit));
                let items = unit.items.iter().map(|(key, record)| items::size(key, record));
                let record = unit
                    .record
                    .as_ref()
                    .map_or(0, |record| record.len() + UNIT_OVERHEAD);
                self.less(items.sum::<usize>() + record + self.owed_before(unit) + UNIT_OVERHEAD);
                for stored in [&unit.offered, &unit.enforced].into_iter().flatten() {
                    self.less(entry_size_of(stored.bytes.len()));
                    if let Some(entry) = &stored.entry {
                        self.refer_entry(entry, -1);
                    }
                }
            }
            // What units write of themselves is counted once they offer it, and what they have stays theirs.
            _ => {}
        }
    }

    /// What a unit with a new entry is to write: rows of objects that it does not have, or that its entry before did not
    /// have: what that one had leaves no room before it is gone.
    fn owed(
        &self,
        unit: Option<&Unit>,
        before: Option<&Entry>,
        content: Option<Digest>,
        entry: usize,
    ) -> usize {
        let later = unit.map_or(entry_size_of(entry), |unit| enforced_later(unit, entry));
        let here = content.filter(|content| self.is_here(content));
        let Some(table) = here.and_then(|content| self.state.table_of(&content, self.parsed)) else {
            return later;
        };
        let missing = table.len().saturating_sub(unit.map_or(0, |unit| unit.standing));
        let before = before.and_then(|entry| self.state.table(&entry.content?));
        let is_new = |row: &u32| before.is_some_and(|before| before.find(&table.key(*row)).is_none());
        let new = table.rows().filter(is_new).count();
        missing.max(new) * ROW + later
    }

    /// What a unit was to write before it has another entry, with what has come for that one by now.
    fn owed_before(&self, unit: &Unit) -> usize {
        let offered = unit.offered.as_ref();
        let later = offered.map_or(0, |stored| enforced_later(unit, stored.bytes.len()));
        self.rows_before(unit) * ROW + later
    }

    fn rows_before(&self, unit: &Unit) -> usize {
        let here = content_of(unit).filter(|content| self.is_here(content));
        let table = here.and_then(|content| self.state.table_of(&content, self.parsed));
        table.map_or(0, |table| table.len().saturating_sub(unit.standing))
    }

    fn is_here(&self, digest: &Digest) -> bool {
        self.state.blobs.contains_key(digest) || self.brought.contains_key(digest)
    }

    fn less(&mut self, bytes: usize) {
        self.need = self.need.saturating_sub(bytes);
    }

    fn bring(&mut self, digest: Digest, blob: &Blob) {
        if self.is_here(&digest) {
            return;
        }
        let size = blob_size(blob.room());
        self.brought.insert(digest, size);
        self.steps.push(Step::Brought(digest));
        if self.refs(&digest) > 0 {
            self.need += size;
        }
        // An entry may have named it before it came.
        if self.entries(&digest) > 0 {
            self.refer_objects(&digest, 1);
            let rows = self.state.units.values().map(|unit| match content_of(unit) {
                Some(content) if content == digest => self.rows_before(unit),
                _ => 0,
            });
            self.need += rows.sum::<usize>() * ROW;
        }
    }

    /// Contents that come and that no entry names take room as well.
    fn add_unnamed(&mut self) {
        let brought = self.steps.iter().filter_map(|step| match step {
            Step::Brought(digest) if self.refs(digest) <= 0 => self.brought.get(digest),
            _ => None,
        });
        self.need += brought.sum::<usize>();
    }

    fn refer_entry(&mut self, entry: &Entry, by: i64) {
        for digest in entry.contents() {
            self.refer(digest, by);
        }
        let Some(content) = entry.content else {
            return;
        };
        let before = self.entries(&content);
        *self.named.entry(content).or_default() += by;
        self.steps.push(Step::Named(content, by));
        let after = before + by;
        match (before > 0, after > 0) {
            (false, true) if self.is_here(&content) => self.refer_objects(&content, 1),
            (true, false) if self.is_here(&content) => self.refer_objects(&content, -1),
            _ => {}
        }
    }

    fn refer_objects(&mut self, content: &Digest, by: i64) {
        let state = self.state;
        let parsed = self.parsed;
        for digest in state
            .table_of(content, parsed)
            .into_iter()
            .flat_map(Table::digests)
        {
            self.refer(*digest, by);
        }
    }

    fn refer(&mut self, digest: Digest, by: i64) {
        let before = self.refs(&digest);
        *self.references.entry(digest).or_default() += by;
        self.steps.push(Step::Referred(digest, by));
        let stored = self
            .state
            .blobs
            .stored(&digest)
            .map(|(_, stored)| blob_size(stored));
        let size = stored
            .or_else(|| self.brought.get(&digest).copied())
            .unwrap_or_default();
        match (before > 0, before + by > 0) {
            (false, true) => self.need += size,
            (true, false) => self.less(size),
            _ => {}
        }
    }

    fn refs(&self, digest: &Digest) -> i64 {
        i64::from(self.state.blobs.refs(digest)) + self.references.get(digest).copied().unwrap_or_default()
    }

    fn entries(&self, content: &Digest) -> i64 {
        i64::from(self.state.entries_of(content)) + self.named.get(content).copied().unwrap_or_default()
    }

    fn take_back(&mut self, step: Step) {
        match step {
            Step::Referred(digest, by) => *self.references.entry(digest).or_default() -= by,
            Step::Named(content, by) => *self.named.entry(content).or_default() -= by,
            Step::Brought(digest) => drop(self.brought.remove(&digest)),
        }
    }
}

#[cfg(test)]
mod tests;
