//! What units want of each other's objects, told as `agent/src/reconcile/claims.rs` tells it.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{
    content::Table,
    desired::Held,
    id::UnitId,
    object::ObjectKey,
    unit::{event::Event, state::State},
    units::claims::{Neighbours, claims_on, freed, is_unsettled},
};

use super::{Agent, Env};
use crate::git::Contents;

#[derive(Debug, Default)]
pub(super) struct Claiming {
    is_news: bool,
    evaluating: BTreeSet<UnitId>,
    wanting: BTreeSet<UnitId>,
    noted: BTreeMap<UnitId, u64>,
    told: Option<Held>,
}

impl Claiming {
    pub(super) fn synced(&mut self, held: Held) {
        self.told = Some(held);
        self.is_news = true;
    }

    pub(super) fn forget(&mut self, unit: UnitId) {
        self.is_news = true;
        self.evaluating.remove(&unit);
        self.wanting.remove(&unit);
        self.noted.remove(&unit);
    }
}

fn put(set: &mut BTreeSet<UnitId>, id: UnitId, holds: bool) {
    match holds {
        true => set.insert(id),
        false => set.remove(&id),
    };
}

/// The units, with the contents that their entries name.
struct Units<'a>(&'a Agent, &'a Contents);

impl Neighbours for Units<'_> {
    fn all(&self) -> impl Iterator<Item = (UnitId, &State)> {
        self.0.units.iter().map(|(id, unit)| (*id, &unit.state))
    }

    fn state(&self, unit: UnitId) -> Option<&State> {
        self.0.units.get(&unit).map(|unit| &unit.state)
    }

    fn holders(&self, key: &ObjectKey) -> Vec<UnitId> {
        let units = self.0.units.iter();
        units
            .filter(|(_, unit)| unit.state.objects().contains_key(key))
            .map(|(id, _)| *id)
            .collect()
    }

    fn may_desire(&self, unit: UnitId, names: &dyn Fn(&Table) -> bool) -> bool {
        let stored = self.0.ledger.live.units.get(&unit);
        let Some(offered) = stored.and_then(|stored| stored.offered.as_ref()) else {
            return false;
        };
        match offered.entry.content {
            None => false,
            Some(content) if self.0.ledger.live.contents.contains(&content) => {
                names(&self.1.get(&content).table)
            }
            Some(_) => true,
        }
    }

    fn app(&self, unit: UnitId) -> String {
        unit.to_string()
    }
}

impl Agent {
    pub(super) fn note_claims(&mut self, id: UnitId) {
        let Some(unit) = self.units.get(&id) else { return };
        let (state, claiming) = (&unit.state, &mut self.claiming);
        put(&mut claiming.evaluating, id, state.is_evaluating());
        put(&mut claiming.wanting, id, state.wants_removal());
        let made = state.claims_made();
        claiming.is_news |= claiming.noted.insert(id, made) != Some(made);
        claiming.is_news |= state.wants_removal() && state.claims().is_none();
    }

    pub(super) fn judge_claims(&mut self, env: &mut Env<'_>) {
        if self.claiming.is_news {
            self.tell_claims(env);
        }
        if let Some(told) = self.claiming.told.take() {
            self.told = told;
        }
    }

    fn tell_claims(&mut self, env: &mut Env<'_>) {
        if self.claiming.wanting.is_empty() {
            self.claiming.is_news = false;
            return;
        }
        let is_known = self.claiming.evaluating.is_empty() && self.ledger.live.is_whole();
        self.claiming.is_news = !is_known;
        let unsettled: Vec<UnitId> = self
            .units
            .iter()
            .filter(|(_, unit)| is_known && is_unsettled(&unit.state))
            .map(|(id, _)| *id)
            .collect();
        for id in self.claiming.wanting.clone() {
            let units = Units(self, env.contents);
            let Some(state) = units.state(id) else { continue };
            let claims = is_known.then(|| claims_on(&units, id, &unsettled));
            if state.claims() != claims.as_ref() {
                let freed = claims.as_ref().map(|claims| freed(&units, id, claims));
                self.feed(id, Event::Claims(claims), env);
                for (other, keys) in freed.unwrap_or_default() {
                    self.feed(other, Event::Freed(keys), env);
                }
            }
        }
    }

    /// Tells whether all of the accepted state is here, and all units were told of it.
    pub(super) fn is_told_of_all(&self) -> bool {
        self.told == self.ledger.live.held && self.ledger.live.is_whole()
    }
}
