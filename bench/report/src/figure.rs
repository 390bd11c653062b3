//! One measured figure and the bound it is held to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A bound; a figure on the wrong side of it fails the benchmark's program.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The value must be this or more.
    AtLeast(f64),
    /// The value must be this or less.
    AtMost(f64),
}

impl Gate {
    /// Returns whether `value` is on the right side. A value that is no number never is.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The name `make bench N=NAME` takes, and by which a newer figure replaces an older one.
    pub name: String,
    /// The measured value, in `unit`.
    pub value: f64,
    /// What `value` counts: `s`, `MiB`, `ratio`.
    pub unit: String,
    /// What the program compared with took, in the unit that the note says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<f64>,
    /// The bound, where one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What the figure is made of: samples, sizes, spread.
    pub note: String,
}

impl Figure {
    /// Returns a figure without peer and gate.
    pub fn new(
        name: impl Into<String>,
        value: f64,
        unit: impl Into<String>,
        note: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
            peer: None,
            gate: None,
            note: note.into(),
        }
    }

    /// Sets what the program compared with took.
    #[must_use]
    pub fn peer(mut self, peer: f64) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Holds the figure to `bound` or more.
    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        self.gate = Some(Gate::AtLeast(bound));
        self
    }

    /// Holds the figure to `bound` or less.
    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        self.gate = Some(Gate::AtMost(bound));
        self
    }

    /// Returns the gate if the value is on its wrong side.
    pub fn missed(&self) -> Option<Gate> {
        self.gate.filter(|gate| !gate.is_met_by(self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_holds_the_bound_itself_and_no_value_that_is_no_number() {
        let cases = [
            (Gate::AtLeast(10.0), 10.0, true),
            (Gate::AtLeast(10.0), 9.9, false),
            (Gate::AtLeast(10.0), f64::NAN, false),
            (Gate::AtMost(0.5), 0.5, true),
            (Gate::AtMost(0.5), 0.6, false),
            (Gate::AtMost(0.5), f64::NAN, false),
        ];
        for (gate, value, met) in cases {
            assert_eq!(gate.is_met_by(value), met, "{value} {gate}");
        }
    }
}
