//! Reduces a live object to what is kept of it.

use flotilla_core::{
    apply::{drift::observe_but as observation, ignore::Pointer},
    clock::Timestamp,
    health::{self, Health, Judge},
    unit::object::Observed,
};
use serde_json::Value;

use super::message::truncate;

/// Longest text of an object's own status that is kept.
const MESSAGE_MAX: usize = 256;

/// What is kept of a live object, but for the fields that are left to others. `key` is the ledger's own, and `judge` says how its
/// unit judges kinds.
pub fn observe(
    live: &Value,
    key: &[u8; 32],
    left: &[Pointer],
    now: Timestamp,
    judge: Option<&Judge>,
) -> Observed {
    Observed {
        observation: Some(observation(live, key, left)),
        health: health(live, now, judge),
        version: version(live),
        again: health::changes_in(live, now),
    }
}

/// The health of a live object.
pub(super) fn health(live: &Value, now: Timestamp, judge: Option<&Judge>) -> Health {
    let mut health = match judge {
        Some(judge) => judge.assess(live, now),
        None => health::assess(live, now),
    };
    // That all is well is said without words, since most objects are.
    let mut message = match health.state {
        health::State::Current => String::new(),
        _ => health.message.into_string(),
    };
    truncate(&mut message, MESSAGE_MAX);
    health.message = message.into();
    health
}

/// What is kept of an object that does not exist. `last` is how it was when it went, if that was told.
pub fn gone(last: Option<&Value>) -> Observed {
    Observed {
        observation: None,
        health: Health::not_found(),
        version: last.and_then(version),
        again: None,
    }
}

/// The resourceVersion, by which two observations are ordered.
pub fn version(live: &Value) -> Option<u64> {
    live["metadata"]["resourceVersion"].as_str()?.parse().ok()
}
