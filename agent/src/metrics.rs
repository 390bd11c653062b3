//! The metrics of the agent. Reconciler, ledger and link write a value here when it changes, so that a scrape computes
//! nothing. No label bears the name of an app or an object, so the number of series is fixed.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::link::LinkState;

/// Upper bounds of the buckets of apply latency, in seconds: from one object of a near API server to the longest
/// wait for a definition.
const APPLY_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// How many units stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitStates {
    /// Ready is True.
    pub ready: usize,
    /// Ready is False.
    pub failed: usize,
    /// Ready is Unknown: something is waited for.
    pub progressing: usize,
    /// Not enforced: suspended, or let go.
    pub suspended: usize,
}

/// How many objects stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectStates {
    /// As the unit says.
    pub applied: usize,
    /// Refused by the API server.
    pub failed: usize,
    /// For a kind, an earlier stage, or an answer of the API server.
    pub waiting: usize,
    /// Somebody else's: another unit's, or Flux's.
    pub conflict: usize,
    /// No longer wanted, and still there.
    pub pending_removal: usize,
}

impl Add for UnitStates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            ready: self.ready + other.ready,
            failed: self.failed + other.failed,
            progressing: self.progressing + other.progressing,
            suspended: self.suspended + other.suspended,
        }
    }
}

impl Sub for UnitStates {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            ready: self.ready.saturating_sub(other.ready),
            failed: self.failed.saturating_sub(other.failed),
            progressing: self.progressing.saturating_sub(other.progressing),
            suspended: self.suspended.saturating_sub(other.suspended),
        }
    }
}

impl Add for ObjectStates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            failed: self.failed + other.failed,
            waiting: self.waiting + other.waiting,
            conflict: self.conflict + other.conflict,
            pending_removal: self.pending_removal + other.pending_removal,
        }
    }
}

impl Sub for ObjectStates {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            applied: self.applied.saturating_sub(other.applied),
            failed: self.failed.saturating_sub(other.failed),
            waiting: self.waiting.saturating_sub(other.waiting),
            conflict: self.conflict.saturating_sub(other.conflict),
            pending_removal: self.pending_removal.saturating_sub(other.pending_removal),
        }
    }
}

/// The figures of one agent. Clones and threads share them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    units: Family<State, Gauge>,
    objects: Family<State, Gauge>,
    corrections: Counter,
    contested: Counter,
    apply: Histogram,
    ledger_bytes: Gauge,
    link: Family<State, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes figures that are all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("flotilla_agent");
        let units = Family::<State, Gauge>::default();
        let objects = Family::<State, Gauge>::default();
        let link = Family::<State, Gauge>::default();
        let (corrections, contested) = (Counter::default(), Counter::default());
        let apply = Histogram::new(APPLY_SECONDS);
        let ledger_bytes = Gauge::default();
        registry.register("units", "Units, by how they stand", units.clone());
        registry.register("objects", "Objects of units, by how they stand", objects.clone());
        registry.register(
            "drift_corrections",
            "Objects put back after somebody else changed or deleted them",
            corrections.clone(),
        );
        registry.register(
            "drift_contested",
            "Objects found to be changed back again and again, and left to the unit's interval",
            contested.clone(),
        );
        registry.register_with_unit(
            "apply_duration",
            "Time from the acceptance of a unit's entry until all its objects were written",
            Unit::Seconds,
            apply.clone(),
        );
        registry.register_with_unit(
            "ledger",
            "Size of what the agent keeps across restarts",
            Unit::Bytes,
            ledger_bytes.clone(),
        );
        registry.register(
            "link",
            "1 for how the link to the hub stands, 0 for the others",
            link.clone(),
        );
        let metrics = Self {
            registry,
            units,
            objects,
            corrections,
            contested,
            apply,
            ledger_bytes,
            link,
        };
        metrics.unit_states(UnitStates::default());
        metrics.object_states(ObjectStates::default());
        metrics.link_state(&LinkState::Unenrolled);
        metrics
    }

    /// Takes in how many units stand how.
    pub fn unit_states(&self, states: UnitStates) {
        let UnitStates {
            ready,
            failed,
            progressing,
            suspended,
        } = states;
        set(
            &self.units,
            [
                ("ready", ready),
                ("failed", failed),
                ("progressing", progressing),
                ("suspended", suspended),
            ],
        );
    }

    /// Takes in how many objects stand how.
    pub fn object_states(&self, states: ObjectStates) {
        let ObjectStates {
            applied,
            failed,
            waiting,
            conflict,
            pending_removal,
        } = states;
        set(
            &self.objects,
            [
                ("applied", applied),
                ("failed", failed),
                ("waiting", waiting),
                ("conflict", conflict),
                ("pending_removal", pending_removal),
            ],
        );
    }

    /// Counts an object that was put back.
    pub fn corrected(&self) {
        self.corrections.inc();
    }

    /// Counts an object that somebody puts back again and again.
    pub fn contested(&self) {
        self.contested.inc();
    }

    /// Takes in how long it took from the acceptance of a unit's entry until all its objects were written.
    pub fn apply_latency(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    /// Takes in how large the ledger is.
    pub fn ledger_bytes(&self, bytes: usize) {
        self.ledger_bytes.set(number(bytes));
    }

    /// Takes in how the link stands.
    pub fn link_state(&self, state: &LinkState) {
        let (unenrolled, away, connected, broken) = match state {
            LinkState::Unenrolled => (1, 0, 0, 0),
            LinkState::Away => (0, 1, 0, 0),
            LinkState::Connected { .. } => (0, 0, 1, 0),
            LinkState::Broken(_) => (0, 0, 0, 1),
        };
        set(
            &self.link,
            [
                ("unenrolled", unenrolled),
                ("away", away),
                ("connected", connected),
                ("broken", broken),
            ],
        );
    }

    /// Writes all figures in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written to it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn set<const N: usize>(family: &Family<State, Gauge>, states: [(&'static str, usize); N]) {
    for (state, count) in states {
        family.get_or_create(&State { state }).set(number(count));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_text_shows_what_was_taken_in_last() {
        let metrics = Metrics::new();
        metrics.unit_states(UnitStates {
            ready: 3,
            failed: 1,
            ..UnitStates::default()
        });
        metrics.unit_states(UnitStates {
            ready: 4,
            ..UnitStates::default()
        });
        metrics.object_states(ObjectStates {
            applied: 40,
            pending_removal: 2,
            ..ObjectStates::default()
        });
        metrics.corrected();
        metrics.corrected();
        metrics.contested();
        metrics.apply_latency(Duration::from_millis(70));
        metrics.apply_latency(Duration::from_secs(1000));
        metrics.ledger_bytes(4096);
        metrics.link_state(&LinkState::Connected {
            cluster: "one".to_owned(),
        });
        let text = metrics.text();
        for line in [
            "flotilla_agent_units{state=\"ready\"} 4",
            "flotilla_agent_units{state=\"failed\"} 0",
            "flotilla_agent_units{state=\"suspended\"} 0",
            "flotilla_agent_objects{state=\"applied\"} 40",
            "flotilla_agent_objects{state=\"pending_removal\"} 2",
            "flotilla_agent_drift_corrections_total 2",
            "flotilla_agent_drift_contested_total 1",
            "flotilla_agent_apply_duration_seconds_bucket{le=\"0.05\"} 0",
            "flotilla_agent_apply_duration_seconds_bucket{le=\"0.1\"} 1",
            "flotilla_agent_apply_duration_seconds_bucket{le=\"+Inf\"} 2",
            "flotilla_agent_ledger_bytes 4096",
            "flotilla_agent_link{state=\"connected\"} 1",
            "flotilla_agent_link{state=\"unenrolled\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line}:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn every_metric_is_explained_in_the_readme_of_the_chart() {
        let readme = include_str!("../../deploy/agent/README.md");
        let text = Metrics::new().text();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut count = 0;
        for line in names {
            let mut words = line.split(' ');
            let (name, kind) = (words.next().unwrap_or_default(), words.next());
            let total = if kind == Some("counter") { "_total" } else { "" };
            assert!(
                readme.contains(&format!("`{name}{total}")),
                "{name} is not explained"
            );
            count += 1;
        }
        assert_eq!(count, 7);
    }
}
