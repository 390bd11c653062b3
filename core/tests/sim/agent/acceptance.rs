//! Desired states on their way into the ledger, as `agent/src/link/accept.rs` takes them: an entry enters once its content
//! is there, or cannot be had; the state is accepted once all of its entries are in.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    clock::Timestamp,
    desired::{
        Held,
        acceptance::{Judged, Known, Offer, Refusal, judge},
    },
    digest::Digest,
    id::UnitId,
    unit::event::Accepted,
};

use super::ledger::{Ledger, Stored, accepted};

#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    /// What is accepted once nothing is pending.
    target: Option<Held>,
    pending: BTreeMap<UnitId, Accepted>,
}

impl Acceptance {
    /// Takes in an offer.
    pub(crate) fn offer(
        &mut self,
        ledger: &mut Ledger,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let held = self.target.unwrap_or(ledger.live.held);
        let durable = ledger.live.known_units();
        let mut known = durable.clone();
        known.extend(self.pending.iter().map(|(unit, pending)| {
            let known = Known {
                digest: pending.digest,
                releasable: durable.get(unit).is_none_or(|known| known.releasable),
                is_unknown: false,
            };
            (*unit, known)
        }));
        let (changed, released, unknown) = match judge(&held, &known, offer)? {
            Judged::Accepted => (Vec::new(), Vec::new(), Vec::new()),
            Judged::New {
                changed,
                released,
                unknown,
            } => (changed, released, unknown),
        };
        for position in changed {
            let offered = &offer.entries[position];
            let entry = accepted(&offered.bytes, now);
            if durable.get(&offered.unit).map(|known| known.digest) == Some(entry.digest) {
                if let Some(unit) = ledger.live.units.get_mut(&offered.unit) {
                    unit.is_unknown = false;
                }
                self.pending.remove(&offered.unit);
            } else {
                self.pending.insert(offered.unit, entry);
            }
        }
        for unit in &released {
            ledger.live.units.remove(unit);
            self.pending.remove(unit);
        }
        for unit in unknown {
            if let Some(stored) = ledger.live.units.get_mut(&unit) {
                stored.is_unknown = true;
            }
            self.pending.remove(&unit);
        }
        self.target = Some(Held {
            incarnation: offer.incarnation,
            generation: offer.generation,
            root: Some(offer.root),
        });
        ledger.flush();
        self.settle(ledger);
        Ok(())
    }

    /// Stores the entries whose content is here, and accepts the state once all are.
    fn settle(&mut self, ledger: &mut Ledger) {
        let ready: Vec<UnitId> = self
            .pending
            .iter()
            .filter(|(_, pending)| ledger.live.has(pending.entry.content))
            .map(|(unit, _)| *unit)
            .collect();
        for unit in ready {
            self.store(ledger, unit);
        }
        if self.pending.is_empty()
            && let Some(target) = self.target.take()
        {
            ledger.live.held = target;
        }
        ledger.compact();
    }

    fn store(&mut self, ledger: &mut Ledger, unit: UnitId) {
        if let Some(entry) = self.pending.remove(&unit) {
            let stored: &mut Stored = ledger.live.units.entry(unit).or_default();
            stored.offered = Some(entry);
            stored.is_unknown = false;
        }
    }

    /// Contents that are lacking: of entries on their way, and of such as are stored without.
    pub(crate) fn lacking(&self, ledger: &Ledger) -> BTreeSet<Digest> {
        let stored = ledger
            .live
            .units
            .values()
            .filter_map(|unit| unit.offered.as_ref());
        self.pending
            .values()
            .chain(stored)
            .filter_map(|offered| offered.entry.content)
            .filter(|content| !ledger.live.contents.contains(content))
            .collect()
    }

    /// A content has come.
    pub(crate) fn arrived(&mut self, ledger: &mut Ledger, content: Digest) {
        ledger.live.contents.insert(content);
        self.settle(ledger);
    }

    /// A content cannot be had for now: its entries are stored, and their units keep what they have.
    pub(crate) fn absent(&mut self, ledger: &mut Ledger, content: Digest) {
        let units: Vec<UnitId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.entry.content == Some(content))
            .map(|(unit, _)| *unit)
            .collect();
        for unit in units {
            self.store(ledger, unit);
        }
        self.settle(ledger);
    }

    /// The stream is gone: what it was about to bring comes again with the next.
    pub(crate) fn broke_off(&mut self) {
        self.pending.clear();
        self.target = None;
    }
}
