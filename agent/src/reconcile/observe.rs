//! Reduces a live object to what is kept of it.

use flotilla_core::{
    apply::drift::observe as observation,
    clock::Timestamp,
    health::{self, Health},
    unit::object::Observed,
};
use serde_json::Value;

use super::message::truncate;

/// Longest text of an object's own status that is kept.
const MESSAGE_MAX: usize = 256;

/// What is kept of a live object. `key` is the ledger's own.
pub fn observe(live: &Value, key: &[u8; 32], now: Timestamp) -> Observed {
    let mut health = health::assess(live, now);
    truncate(&mut health.message, MESSAGE_MAX);
    // That all is well is said without words, since most objects are.
    if health.state == health::State::Current {
        health.message = String::new();
    }
    health.message.shrink_to_fit();
    Observed {
        observation: Some(observation(live, key)),
        health,
        version: version(live),
        again: health::changes_in(live, now),
    }
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
