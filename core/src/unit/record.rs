//! What of a unit outlives a restart of the agent, besides its entry and its objects' records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use crate::{clock::Timestamp, digest::Digest, health::State as HealthState};

/// A version of a unit and the target that it asked for. A status counts only for the version it names, so that
/// A → B → A never shows what the first A had reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attained {
    /// The entry's version.
    pub version: u64,
    /// The entry's target.
    pub target: Digest,
}

/// Whether a unit is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ready {
    /// As desired.
    True,
    /// Not as desired, and not by waiting alone.
    False,
    /// Under way, or not known.
    Unknown,
}

impl Ready {
    /// As a condition's status is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A unit's `Ready` condition, in Flux's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Whether it is ready.
    pub ready: Ready,
    /// One word.
    pub reason: String,
    /// A sentence for people, without a running clock.
    pub message: String,
    /// What people should know of a ready unit all the same; empty when there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

impl Condition {
    /// Makes a condition.
    pub fn new(ready: Ready, reason: &str, message: impl Into<String>) -> Self {
        Self {
            ready,
            reason: reason.to_owned(),
            message: message.into(),
            notes: String::new(),
        }
    }
}

/// What the agent keeps of a unit. Written only when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitRecord {
    /// What was evaluated and tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted: Option<Attained>,
    /// What the server accepted whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Attained>,
    /// What was applied and became healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Attained>,
    /// Since when all objects have been healthy without a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Timestamp>,
    /// Since when objects have not been healthy: the wait for them began then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_since: Option<Timestamp>,
    /// Health of all objects, as it was told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthState>,
    /// How many objects had a problem, as it was told last.
    #[serde(skip_serializing_if = "is_default")]
    pub failed: usize,
    /// Source revision of `applied`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Milliseconds from acceptance to `applied`.
    #[serde(skip_serializing_if = "is_default")]
    pub apply_ms: u64,
    /// The condition reported last; a restart goes on from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Digest of (ready, reason, objects) of the event sent last, so that a state is told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Digest>,
    /// Objects of which it was told that their deletion takes too long, and what holds each up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stalled: BTreeMap<String, String>,
    /// A long action under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
