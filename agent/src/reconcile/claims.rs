//! Tells units what others want of the objects that leave them; what that is, is decided in
//! `flotilla_core::units::claims`. Until the desires of all are known, all units wait that would delete.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    content::Table,
    id::UnitId,
    object::ObjectKey,
    unit::{event::Event, state::State},
    units::claims::{Neighbours, claims_on, freed, is_unsettled},
};

use super::{
    Reconciler,
    context::{DesiredState, is_whole},
};

/// What is known of that.
#[derive(Debug, Default)]
pub(super) struct Claiming {
    /// Units that desire, or have, perhaps other objects than when all was judged last.
    is_news: bool,
    /// Units whose desires are about to be found out.
    evaluating: BTreeSet<UnitId>,
    /// Units of which objects leave.
    wanting: BTreeSet<UnitId>,
    /// Units that were offered an entry that this version cannot read.
    unread: BTreeSet<UnitId>,
    /// The count of a unit's desires when it was noted last.
    noted: BTreeMap<UnitId, u64>,
    /// The desired state that all units have been told of, and that is to be let others know.
    told: Option<DesiredState>,
}

impl Claiming {
    /// All units have been told of a desired state.
    pub(super) fn synced(&mut self, accepted: DesiredState, unread: BTreeSet<UnitId>) {
        self.told = Some(accepted);
        self.is_news = true;
        self.unread = unread;
    }

    /// Forgets units.
    pub(super) fn forget(&mut self, units: &BTreeSet<UnitId>) {
        self.is_news = true;
        for unit in units {
            self.evaluating.remove(unit);
            self.wanting.remove(unit);
            self.noted.remove(unit);
        }
    }
}

impl Reconciler {
    /// Notes what a step of a unit may have changed.
    pub(super) fn note_claims(&mut self, id: UnitId) {
        let Some(unit) = self.units.get(&id) else { return };
        let (state, claiming) = (&unit.state, &mut self.claiming);
        put(&mut claiming.evaluating, id, state.is_evaluating());
        put(&mut claiming.wanting, id, state.wants_removal());
        let made = state.claims_made();
        if claiming.noted.insert(id, made) != Some(made) {
            claiming.is_news = true;
            // Also what is desired and has no record yet.
            self.holders.note(id, state.objects().keys());
        }
        // It has forgotten what it was told, since other objects leave.
        claiming.is_news |= state.wants_removal() && state.claims().is_none();
    }

    /// Tells units what others want of the objects that leave them, where that has changed.
    pub(super) fn judge_claims(&mut self) {
        if self.claiming.is_news {
            self.tell_claims();
        }
        // Only now: whoever deletes has heard of it.
        if let Some(told) = self.claiming.told.take() {
            self.context.set_told(told);
        }
    }

    fn tell_claims(&mut self) {
        if self.claiming.wanting.is_empty() {
            self.claiming.is_news = false;
            return;
        }
        let is_known = self.claiming.evaluating.is_empty() && self.context.ledger.read(is_whole);
        self.claiming.is_news = !is_known;
        let unsettled = match is_known {
            true => self.unsettled_units(),
            false => Vec::new(),
        };
        for id in self.claiming.wanting.clone() {
            let Some(unit) = self.units.get(&id) else { continue };
            let claims = is_known.then(|| claims_on(self, id, &unsettled));
            if unit.state.claims() != claims.as_ref() {
                let freed = claims.as_ref().map(|claims| freed(self, id, claims));
                self.feed(id, Event::Claims(claims));
                for (other, keys) in freed.unwrap_or_default() {
                    self.feed(other, Event::Freed(keys));
                }
            }
        }
    }

    /// Units of which rows do not say all that they desire.
    fn unsettled_units(&self) -> Vec<UnitId> {
        let unsettled = self.units.iter().filter(|(_, unit)| is_unsettled(&unit.state));
        let unsettled = unsettled.map(|(id, _)| *id);
        unsettled.chain(self.claiming.unread.iter().copied()).collect()
    }
}

impl Neighbours for Reconciler {
    fn all(&self) -> impl Iterator<Item = (UnitId, &State)> {
        self.units.iter().map(|(id, unit)| (*id, &unit.state))
    }

    fn state(&self, unit: UnitId) -> Option<&State> {
        self.units.get(&unit).map(|unit| &unit.state)
    }

    fn holders(&self, key: &ObjectKey) -> Vec<UnitId> {
        self.holders.of(key).collect()
    }

    fn may_desire(&self, unit: UnitId, names: &dyn Fn(&Table) -> bool) -> bool {
        self.context.ledger.read(|state| {
            let Some(unit) = state.units.get(&unit) else {
                return false;
            };
            let Some(entry) = unit.offered.as_ref().and_then(|offered| offered.entry.as_ref()) else {
                return unit.offered.is_some();
            };
            match &entry.content {
                None => false,
                Some(content) => state.table(content).is_none_or(|table| names(table)),
            }
        })
    }

    fn app(&self, unit: UnitId) -> String {
        self.context.app(unit)
    }
}

fn put(set: &mut BTreeSet<UnitId>, id: UnitId, holds: bool) {
    match holds {
        true => set.insert(id),
        false => set.remove(&id),
    };
}
