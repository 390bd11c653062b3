//! Units that wait for others of this cluster, by `dependsOn`: judged anew when one that they need has changed. What their
//! expressions take is bounded in each turn of the reconciler, which does all else of all units as well.

use std::ops::Bound;

use flotilla_core::{
    cel::Work,
    id::UnitId,
    unit::event::Event,
    units::{Judgement, Wait},
};
use serde_json::Value;

use super::Reconciler;

/// What evaluates the expressions of units, of which many may be due at once.
#[derive(Default)]
pub(super) struct Turn {
    left: Work,
    /// The last that had its turn: others come first in the next one.
    last: Option<UnitId>,
}

impl Turn {
    fn anew(&mut self) {
        self.left = Work::default();
    }
}

impl Reconciler {
    /// Tells units what they wait for, where that has changed. What follows for those behind them follows, too. Those whose
    /// expressions are more than a turn may take stay for the next one.
    pub(super) fn judge_waiting(&mut self) {
        self.judging.anew();
        let mut later = Vec::new();
        // Ends: a cycle is one whatever its members do, and without one each unit comes after those that it needs.
        while let Some(id) = self.next_unjudged() {
            self.unjudged.remove(&id);
            let waits = match self.judge(id) {
                Judgement::Now(waits) => waits,
                Judgement::Later => {
                    later.push(id);
                    continue;
                }
            };
            self.judging.last = Some(id);
            let known = self.units.get(&id).map(|unit| unit.state.waits_for());
            if known.is_some_and(|known| known != waits.as_ref()) {
                self.feed(id, Event::Edge(waits));
            }
        }
        self.unjudged.extend(later);
    }

    fn next_unjudged(&self) -> Option<UnitId> {
        let after = self.judging.last.and_then(|last| {
            let mut after = self.unjudged.range((Bound::Excluded(last), Bound::Unbounded));
            after.next()
        });
        after.or_else(|| self.unjudged.first()).copied()
    }

    /// What a unit waits for, before it may do anything: it waits as well for its expressions to have their turn.
    pub(super) fn waits_for(&mut self, id: UnitId) -> Option<Wait> {
        match self.judge(id) {
            Judgement::Now(waits) => waits,
            Judgement::Later => {
                self.unjudged.insert(id);
                Some(Wait::passing("its readyExpr is evaluated in a moment"))
            }
        }
    }

    fn judge(&mut self, id: UnitId) -> Judgement {
        let status = |id| {
            let unit = self.units.get(&id);
            unit.map_or(Value::Null, |unit| unit.state.flux_status())
        };
        self.edges.judge(
            id,
            |id| Some(self.units.get(&id)?.standing),
            status,
            &mut self.judging.left,
        )
    }
}
