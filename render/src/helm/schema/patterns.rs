//! What the patterns of a schema take before any is compiled.

use flotilla_core::text::re2;
use serde_json::Value as Json;

/// Returns how many ranges of characters all patterns are compiled of. One that is no expression is told later.
pub(super) fn ranges(schema: &Json) -> usize {
    match schema {
        Json::Object(fields) => {
            let below = fields.iter().map(|(name, value)| {
                let own = match (name.as_str(), value) {
                    ("pattern", Json::String(pattern)) => of_one(pattern),
                    ("patternProperties", Json::Object(named)) => named.keys().map(|key| of_one(key)).sum(),
                    _ => 0,
                };
                own + ranges(value)
            });
            below.sum()
        }
        Json::Array(items) => items.iter().map(ranges).sum(),
        _ => 0,
    }
}

fn of_one(pattern: &str) -> usize {
    re2::ranges(pattern).unwrap_or(0)
}
