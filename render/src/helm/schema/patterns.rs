//! What the patterns of a schema take before any is compiled.

use flotilla_core::text::re2;
use serde_json::Value as Json;

use crate::helm::values::coalesce::CoalesceError;
use crate::helm::values::copies::Copies;

type Result<T> = std::result::Result<T, CoalesceError>;

/// Returns how many ranges of characters all patterns are compiled of, or that the caller stopped before one of them.
/// One that is no expression is told later.
pub(super) fn ranges(schema: &Json, copies: &Copies<'_>) -> Result<usize> {
    let of_one = |pattern: &str| {
        copies.go_on()?;
        Ok(re2::ranges(pattern).unwrap_or(0))
    };
    match schema {
        Json::Object(fields) => sum(fields.iter().map(|(name, value)| {
            let own = match (name.as_str(), value) {
                ("pattern", Json::String(pattern)) => of_one(pattern)?,
                ("patternProperties", Json::Object(named)) => sum(named.keys().map(|key| of_one(key)))?,
                _ => 0,
            };
            Ok(own.saturating_add(ranges(value, copies)?))
        })),
        Json::Array(items) => sum(items.iter().map(|item| ranges(item, copies))),
        _ => Ok(0),
    }
}

/// Adds sizes, of which one alone may be the largest number.
fn sum(mut sizes: impl Iterator<Item = Result<usize>>) -> Result<usize> {
    sizes.try_fold(0, |sum: usize, size| Ok(sum.saturating_add(size?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ranges, sum};
    use crate::helm::context::Context;
    use crate::helm::values::copies::Copies;

    #[test]
    fn patterns_are_counted_wherever_they_stand() {
        let schema = json!({
            "pattern": "ab",
            "items": [{"patternProperties": {"c": {"pattern": "d"}, "(": {}}}],
        });
        let context = Context::default();
        assert_eq!(ranges(&schema, &Copies::new(&context)), Ok(4));
    }

    #[test]
    fn a_sum_is_no_larger_than_the_largest_number() {
        assert_eq!(sum([Ok(usize::MAX), Ok(1)].into_iter()), Ok(usize::MAX));
    }
}
