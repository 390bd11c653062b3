//! What enters the ledger: entries whose content is here, and the generation once all of them are stored.

use flotilla_core::{id::UnitId, unit::Entry};
use flotilla_proto::agent::v1::UnitAcceptance;

use super::{
    Acceptance,
    answers::{accepted, rejected, stored_digest, unknown_content},
    content::{Arrived, Content},
    room::{Appends, room},
};
use crate::ledger::{
    Ledger, LedgerError,
    record::{Accepted, Record},
};

impl Acceptance {
    /// Stores every entry whose content is all here, or cannot be had; and the generation, when none is left.
    pub(super) async fn settle(&mut self, ledger: &Ledger) -> Result<Vec<UnitAcceptance>, LedgerError> {
        self.untaken.retain(|_, untaken| !untaken.may_fit(ledger));
        let mut ready = Vec::new();
        for (unit, pending) in &self.pending {
            // All of a large one is looked up for it.
            if self.untaken.contains_key(unit) {
                continue;
            }
            let content = self.arrived.how_far(ledger, &self.absent, &pending.entry);
            if content != Content::Coming {
                ready.push((*unit, content));
            }
        }
        let mut units = self.store(ledger, &ready).await?;
        // Entries that are stored already, and whose content has come.
        let mut complete: Vec<(UnitId, Vec<Record>)> = self
            .lacking
            .iter()
            .filter(|(unit, _)| !self.untaken.contains_key(*unit))
            .filter(|(_, entry)| self.arrived.how_far(ledger, &self.absent, entry) == Content::Here)
            .map(|(unit, entry)| (*unit, self.arrived.records(ledger, entry)))
            .collect();
        complete.sort_by_key(|(_, records)| room(records));
        let mut appends = Appends::default();
        for (unit, records) in complete {
            let Some(entry) = self.lacking.get(&unit) else {
                continue;
            };
            match appends.append(ledger, None, records).await {
                Ok(()) => {
                    units.push(accepted(unit, stored_digest(ledger, unit), Some(entry)));
                    self.lacking.remove(&unit);
                }
                Err(LedgerError::Lost) => return Err(LedgerError::Lost),
                Err(e) => units.push(self.not_taken(ledger, unit, &e)),
            }
        }
        if self.pending.is_empty() && self.lacking.is_empty() {
            self.arrived = Arrived::default();
            self.unsaved = Vec::new();
        } else if self.in_flight.is_empty() && self.pending.keys().all(|unit| self.untaken.contains_key(unit))
        {
            self.let_go(ledger);
        }
        Ok(units)
    }

    /// Lets go of what came for others than those that are waited for: one that is not taken may wait for ever.
    fn let_go(&mut self, ledger: &Ledger) {
        let pending = self.pending.values().map(|pending| &pending.entry);
        let entries: Vec<&Entry> = pending.chain(self.lacking.values()).collect();
        self.arrived.keep_only(ledger, &entries);
        self.unsaved
            .retain(|(digest, _)| self.arrived.blobs.contains_key(digest));
    }

    /// Stores entries together, in one write; when there is no room for all, each alone, as long as there is room.
    async fn store(
        &mut self,
        ledger: &Ledger,
        ready: &[(UnitId, Content)],
    ) -> Result<Vec<UnitAcceptance>, LedgerError> {
        let mut records = Vec::new();
        for (unit, _) in ready {
            records.extend(self.records(ledger, *unit));
        }
        if ready.len() == self.pending.len() {
            records.extend(self.generation(ledger));
        }
        match ledger.append(records).await {
            Ok(()) => {
                if ready.len() == self.pending.len() {
                    self.target = None;
                }
                return Ok(ready
                    .iter()
                    .map(|(unit, content)| self.stored(ledger, *unit, content))
                    .collect());
            }
            Err(LedgerError::Full { .. }) if ready.len() > 1 => {}
            Err(LedgerError::Lost) => return Err(LedgerError::Lost),
            Err(e) => {
                let told = ready.iter().map(|(unit, _)| self.not_taken(ledger, *unit, &e));
                return Ok(told.collect());
            }
        }
        let mut each: Vec<_> = ready
            .iter()
            .map(|(unit, content)| (*unit, content, self.records(ledger, *unit)))
            .collect();
        // A large one takes no room that small ones need.
        each.sort_by_key(|(.., records)| room(records));
        let mut units = Vec::new();
        let mut appends = Appends::default();
        for (unit, content, records) in each {
            match appends.append(ledger, Some(unit), records).await {
                Ok(()) => units.push(self.stored(ledger, unit, content)),
                Err(LedgerError::Lost) => return Err(LedgerError::Lost),
                Err(e) => units.push(self.not_taken(ledger, unit, &e)),
            }
        }
        if self.pending.is_empty() {
            let generation = self.generation(ledger).into_iter().collect();
            match ledger.append(generation).await {
                Ok(()) => self.target = None,
                Err(LedgerError::Lost) => return Err(LedgerError::Lost),
                // The next try stores it.
                Err(e) => tracing::warn!("accepted units are stored, their generation is not: {e}"),
            }
        }
        Ok(units)
    }

    fn records(&self, ledger: &Ledger, unit: UnitId) -> Vec<Record> {
        let Some(pending) = self.pending.get(&unit) else {
            return Vec::new();
        };
        let mut records = self.arrived.records(ledger, &pending.entry);
        records.push(Record::Offered {
            unit,
            entry: pending.bytes.clone(),
            at: pending.at,
        });
        records
    }

    fn generation(&self, ledger: &Ledger) -> Option<Record> {
        let accepted = ledger.read(|state| state.accepted);
        let next = Accepted {
            epoch: accepted.epoch,
            ..self.target?
        };
        (next != accepted).then_some(Record::Accepted(next))
    }

    fn stored(&mut self, ledger: &Ledger, unit: UnitId, content: &Content) -> UnitAcceptance {
        let digest = stored_digest(ledger, unit);
        let pending = self.pending.remove(&unit);
        self.lacking.remove(&unit);
        match content {
            Content::Missing(why) => {
                if let Some(pending) = pending {
                    self.lacking.insert(unit, pending.entry);
                }
                rejected(unit, digest, "ContentMissing", why.clone())
            }
            Content::Unknown => unknown_content(unit, digest),
            Content::Here | Content::Coming => {
                accepted(unit, digest, pending.as_ref().map(|pending| &pending.entry))
            }
        }
    }
}
