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
                    ("patternProperties", Json::Object(named)) => sum(named.keys().map(|key| of_one(key))),
                    _ => 0,
                };
                own.saturating_add(ranges(value))
            });
            sum(below)
        }
        Json::Array(items) => sum(items.iter().map(ranges)),
        _ => 0,
    }
}

/// Adds sizes, of which one alone may be the largest number.
fn sum(sizes: impl Iterator<Item = usize>) -> usize {
    sizes.fold(0, usize::saturating_add)
}

fn of_one(pattern: &str) -> usize {
    re2::ranges(pattern).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ranges, sum};

    #[test]
    fn patterns_are_counted_wherever_they_stand() {
        let schema = json!({
            "pattern": "ab",
            "items": [{"patternProperties": {"c": {"pattern": "d"}, "(": {}}}],
        });
        assert_eq!(ranges(&schema), 4);
    }

    #[test]
    fn a_sum_is_no_larger_than_the_largest_number() {
        assert_eq!(sum([usize::MAX, 1].into_iter()), usize::MAX);
    }
}
