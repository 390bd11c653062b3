//! What enters the ledger: entries whose content is here, and the generation once all of them are stored.

use std::collections::HashMap;

use flotilla_core::{id::UnitId, unit::Entry};
use flotilla_proto::agent::v1::UnitAcceptance;

use super::{
    Acceptance,
    answers::{accepted, rejected, stored_digest, unknown_content},
    content::{Arrived, Content},
    room::{Room, room},
};
use crate::ledger::{
    Ledger, LedgerError,
    record::{Accepted, Record},
};

impl Acceptance {
    /// Stores every entry whose content is all here, or cannot be had; and the generation, when none is left.
    pub(super) async fn settle(&mut self, ledger: &Ledger) -> Result<Vec<UnitAcceptance>, LedgerError> {
        if !self.untaken.is_empty() {
            let now = Room::of(ledger);
            self.untaken.retain(|_, untaken| !untaken.may_fit(now));
        }
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
        let complete: Vec<(UnitId, Vec<Record>)> = self
            .lacking
            .iter()
            .filter(|(unit, _)| !self.untaken.contains_key(*unit))
            .filter(|(_, entry)| self.arrived.how_far(ledger, &self.absent, entry) == Content::Here)
            .map(|(unit, entry)| (*unit, self.arrived.records(ledger, entry)))
            .collect();
        for (unit, appended) in append_fitting(ledger, complete).await? {
            match appended {
                Ok(()) => {
                    let entry = self.lacking.remove(&unit);
                    units.push(accepted(unit, stored_digest(ledger, unit), entry.as_deref()));
                }
                Err(e) => units.push(self.not_taken(ledger, unit, &e)),
            }
        }
        if self.awaits_offer {
            return Ok(units);
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
        let entries: Vec<&Entry> = pending
            .chain(self.lacking.values())
            .map(|entry| &**entry)
            .collect();
        self.arrived.keep_only(ledger, &entries);
        self.unsaved
            .retain(|(digest, _)| self.arrived.blobs.contains_key(digest));
    }

    /// Stores entries together, in one write; when there is no room for all, those that there is room for.
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
        let sets = ready
            .iter()
            .map(|(unit, _)| (*unit, self.records(ledger, *unit)))
            .collect();
        let contents: HashMap<UnitId, &Content> =
            ready.iter().map(|(unit, content)| (*unit, content)).collect();
        let mut units = Vec::new();
        for (unit, appended) in append_fitting(ledger, sets).await? {
            match (appended, contents.get(&unit)) {
                (Ok(()), Some(content)) => units.push(self.stored(ledger, unit, content)),
                (Ok(()), None) => {}
                (Err(e), _) => units.push(self.not_taken(ledger, unit, &e)),
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
            cluster: accepted.cluster,
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
                accepted(unit, digest, pending.as_ref().map(|pending| &*pending.entry))
            }
        }
    }
}

/// Appends what there is room for of what each unit needs, in one write, the smallest first: a large one takes no room
/// that small ones need. Returns what became of each.
async fn append_fitting(
    ledger: &Ledger,
    mut sets: Vec<(UnitId, Vec<Record>)>,
) -> Result<Vec<(UnitId, Result<(), LedgerError>)>, LedgerError> {
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    sets.sort_by_key(|(_, records)| room(records));
    let (units, sets): (Vec<UnitId>, Vec<Vec<Record>>) = sets.into_iter().unzip();
    let fits = ledger.fitting(&sets).await;
    let taken = sets.into_iter().zip(&fits).filter(|(_, fits)| fits.is_ok());
    let appended = match ledger.append(taken.flat_map(|(set, _)| set).collect()).await {
        Err(LedgerError::Lost) => return Err(LedgerError::Lost),
        appended => appended,
    };
    let outcomes = fits.into_iter().map(|fits| fits.and_then(|()| appended.clone()));
    Ok(units.into_iter().zip(outcomes).collect())
}
