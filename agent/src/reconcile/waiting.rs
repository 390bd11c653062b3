//! Units that wait for others of this cluster, by `dependsOn`: judged anew when one that they need has changed.

use flotilla_core::{id::UnitId, unit::event::Event, units::Wait};
use serde_json::Value;

use super::Reconciler;

impl Reconciler {
    /// Tells units what they wait for, where that has changed. What follows for those behind them follows, too.
    pub(super) fn judge_waiting(&mut self) {
        // Ends: a cycle is one whatever its members do, and without one each unit comes after those that it needs.
        while let Some(id) = self.unjudged.pop_first() {
            let waits = self.waits_for(id);
            let known = self.units.get(&id).map(|unit| unit.state.waits_for());
            if known.is_some_and(|known| known != waits.as_ref()) {
                self.feed(id, Event::Edge(waits));
            }
        }
    }

    /// What a unit waits for.
    pub(super) fn waits_for(&self, id: UnitId) -> Option<Wait> {
        let status = |id| {
            let unit = self.units.get(&id);
            unit.map_or(Value::Null, |unit| unit.state.flux_status())
        };
        self.edges
            .waits_for(id, |id| Some(self.units.get(&id)?.standing), status)
    }
}
