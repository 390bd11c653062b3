//! The metrics of units, kept by difference: what one unit was counted as before, and what it is now.

use std::time::Duration;

use flotilla_core::unit::{
    UnitState,
    event::Notice,
    record::{Attained, Ready},
    state::State,
};

use crate::metrics::{Metrics, ObjectStates, UnitStates};

/// What of a unit is counted in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gauged {
    unit: UnitStates,
    objects: ObjectStates,
    applied: Option<Attained>,
}

impl Gauged {
    /// A unit that is not counted yet. What it had applied before the start is not timed again.
    pub(super) fn before(state: &State) -> Self {
        Self {
            applied: state.record().applied,
            ..Self::default()
        }
    }
}

/// All units together.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    units: UnitStates,
    objects: ObjectStates,
}

impl Gauges {
    /// Counts a unit as it is now instead of as it was.
    pub(super) fn unit(&mut self, metrics: &Metrics, gauged: &mut Gauged, state: &State) {
        let (unit, objects) = (unit_states(state), object_states(state));
        let applied = state.record().applied;
        if applied.is_some() && gauged.applied != applied {
            metrics.apply_latency(Duration::from_millis(state.record().apply_ms));
        }
        self.change(
            metrics,
            *gauged,
            Gauged {
                unit,
                objects,
                applied,
            },
        );
        *gauged = Gauged {
            unit,
            objects,
            applied,
        };
    }

    /// Counts a unit no more.
    pub(super) fn remove(&mut self, metrics: &Metrics, gauged: Gauged) {
        self.change(metrics, gauged, Gauged::default());
    }

    fn change(&mut self, metrics: &Metrics, from: Gauged, to: Gauged) {
        if from.unit != to.unit {
            self.units = self.units - from.unit + to.unit;
            metrics.unit_states(self.units);
        }
        if from.objects != to.objects {
            self.objects = self.objects - from.objects + to.objects;
            metrics.object_states(self.objects);
        }
    }
}

/// Counts what people are told of.
pub(super) fn told(metrics: &Metrics, notice: &Notice) {
    match notice.reason.as_str() {
        "DriftCorrected" => metrics.corrected(),
        "DriftContested" => metrics.contested(),
        _ => {}
    }
}

fn unit_states(state: &State) -> UnitStates {
    let mut states = UnitStates::default();
    let count = match (&state.entry().state, state.ready()) {
        (UnitState::Suspended | UnitState::Detached, _) => &mut states.suspended,
        (_, Ready::True) => &mut states.ready,
        (_, Ready::False) => &mut states.failed,
        (_, Ready::Unknown) => &mut states.progressing,
    };
    *count = 1;
    states
}

fn object_states(state: &State) -> ObjectStates {
    let tally = state.tally();
    ObjectStates {
        applied: tally.applied,
        failed: tally.failed,
        waiting: tally.waiting,
        conflict: tally.conflict,
        pending_removal: tally.pending_removal,
    }
}
