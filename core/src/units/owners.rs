//! Who owns an object that several units of a cluster want.
//!
//! Not asked by the agent yet: today the hub says with each entry what is withheld from a unit
//! ([`Entry::withheld`](crate::unit::Entry)), and marks on live objects settle the rest. It is carried for the agent to
//! decide by the keys of its own evaluation, which may differ from those that the hub has guessed, and each of its
//! functions is held by the tests of this folder.
//!
//! Whoever desires it goes before one that merely still has it: an object that moves from one unit to another is
//! handed over. Of several that desire it, the one that has it keeps it; else the unit with the lowest id gets it, so
//! that the answer does not depend on who came first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{id::UnitId, object::ObjectKey};

/// What a unit has to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its evaluated content has the object.
    pub desired: bool,
    /// Its inventory has the object.
    pub held: bool,
}

/// The claims of all units of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// By object, in order of units; mostly one.
    claims: BTreeMap<Arc<ObjectKey>, Vec<(UnitId, Claim)>>,
    units: BTreeMap<UnitId, BTreeSet<Arc<ObjectKey>>>,
}

impl Owners {
    /// Takes in all claims of a unit. Returns the units, itself perhaps among them, to which an object was given or
    /// from which one was withheld.
    pub fn set(&mut self, unit: UnitId, claims: BTreeMap<Arc<ObjectKey>, Claim>) -> BTreeSet<UnitId> {
        let known = self.units.remove(&unit).unwrap_or_default();
        let mut concerned = BTreeSet::new();
        for key in known.iter().filter(|key| !claims.contains_key(*key)) {
            self.put(key, unit, None, &mut concerned);
        }
        let mut keys = BTreeSet::new();
        for (key, claim) in claims {
            self.put(&key, unit, Some(claim), &mut concerned);
            keys.insert(key);
        }
        if !keys.is_empty() {
            self.units.insert(unit, keys);
        }
        concerned
    }

    /// Forgets a unit that is gone or was released. Returns the units to which an object was given.
    pub fn remove(&mut self, unit: UnitId) -> BTreeSet<UnitId> {
        let mut concerned = self.set(unit, BTreeMap::new());
        concerned.remove(&unit);
        concerned
    }

    /// The unit that owns an object.
    pub fn owner(&self, key: &ObjectKey) -> Option<UnitId> {
        owner(self.claims.get(key)?)
    }

    /// The objects that a unit desires and another owns, with that owner.
    pub fn withheld(&self, unit: UnitId) -> BTreeMap<Arc<ObjectKey>, UnitId> {
        let keys = self.units.get(&unit).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), withheld(self.claims.get(key)?, unit)?)))
            .collect()
    }

    fn put(
        &mut self,
        key: &Arc<ObjectKey>,
        unit: UnitId,
        claim: Option<Claim>,
        concerned: &mut BTreeSet<UnitId>,
    ) {
        let before = self.claims.get(key).cloned().unwrap_or_default();
        let mut after: Vec<(UnitId, Claim)> = before.iter().copied().filter(|(id, _)| *id != unit).collect();
        if let Some(claim) = claim {
            let at = after.partition_point(|(id, _)| *id < unit);
            after.insert(at, (unit, claim));
        }
        let all = before.iter().chain(&after).map(|(id, _)| *id);
        concerned.extend(all.filter(|id| withheld(&before, *id) != withheld(&after, *id)));
        match after.is_empty() {
            true => self.claims.remove(key),
            false => self.claims.insert(key.clone(), after),
        };
    }
}

/// The owner among these, who are in order of ids.
fn owner(claims: &[(UnitId, Claim)]) -> Option<UnitId> {
    let rank = |claim: &Claim| match (claim.desired, claim.held) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    };
    let owner = claims.iter().min_by_key(|(unit, claim)| (rank(claim), *unit));
    owner.map(|(unit, _)| *unit)
}

/// Who owns the object instead of a unit that desires it.
fn withheld(claims: &[(UnitId, Claim)], unit: UnitId) -> Option<UnitId> {
    let desires = claims.iter().any(|(id, claim)| *id == unit && claim.desired);
    owner(claims).filter(|owner| desires && *owner != unit)
}
