//! How units judge kinds that say their health in their own way.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use flotilla_core::{health::Judge, id::UnitId, unit::health::HealthExpr};

/// Of each unit that has any expressions, these compiled. Most have none.
#[derive(Default)]
pub(super) struct Judges(RwLock<BTreeMap<UnitId, Arc<Known>>>);

struct Known {
    exprs: Vec<HealthExpr>,
    judge: Arc<Judge>,
}

impl Judges {
    /// Notes a unit's expressions.
    pub(super) fn note(&self, unit: UnitId, exprs: &[HealthExpr]) {
        let known = self.known(unit);
        if known.as_ref().map_or(&[][..], |known| &known.exprs) == exprs {
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match exprs.is_empty() {
            true => drop(all.remove(&unit)),
            false => {
                let known = Known {
                    exprs: exprs.to_vec(),
                    judge: Arc::new(Judge::new(exprs)),
                };
                all.insert(unit, Arc::new(known));
            }
        }
    }

    /// Forgets a unit.
    pub(super) fn forget(&self, unit: UnitId) {
        self.note(unit, &[]);
    }

    /// How a unit judges; `None`: as everybody does.
    pub(super) fn of(&self, unit: UnitId) -> Option<Arc<Judge>> {
        Some(self.known(unit)?.judge.clone())
    }

    fn known(&self, unit: UnitId) -> Option<Arc<Known>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&unit).cloned()
    }
}
