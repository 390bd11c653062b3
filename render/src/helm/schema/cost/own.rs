//! What a schema costs at a place by itself, without the schemas that it leads to.

use serde_json::{Map, Value as Json};

use super::sizes::length;
use super::{Cost, Pass};
use crate::helm::values::coalesce::CoalesceError;

/// What a failure takes by itself: its kind, and the paths of schema and place.
const BYTES_PER_FAILURE: u32 = 512;
/// How many bytes of a text are looked at for one visit.
const BYTES_PER_VISIT: u32 = 16;
/// How many ranges of a pattern are gone through for one visit, at each byte of a text.
const RANGES_PER_VISIT: u32 = 64;

/// What `true` and `false` cost.
pub(super) const CONSTANT: Cost = Cost {
    held: 1,
    marked: 1,
    told: 1,
    bytes: BYTES_PER_FAILURE,
};

impl<'a> Pass<'a> {
    /// Returns what the keywords of a schema cost at a place, and takes the steps of looking at it here.
    pub(super) fn own(
        &self,
        keywords: &'a Map<String, Json>,
        place: &'a Json,
    ) -> Result<Cost, CoalesceError> {
        let (mut work, mut failures) = (1_u32, 0_u32);
        let names = place.as_object().map_or(0, |fields| length(fields.len()));
        let size = self.sizes.get(place);
        // Names are compared, or hashed.
        let compared = size / BYTES_PER_VISIT;
        for (keyword, value) in keywords {
            let count = match value {
                Json::Array(items) => length(items.len()),
                Json::Object(fields) => length(fields.len()),
                _ => 0,
            };
            let (one, failing) = match (keyword.as_str(), place) {
                ("pattern", Json::String(text)) => {
                    let pattern = value.as_str().map_or(0, |pattern| self.ranges(pattern));
                    (searched(pattern, length(text.len())), 1)
                }
                ("format" | "minLength" | "maxLength", Json::String(_)) => (compared, 1),
                ("const", _) => (compared_with(value, size), 1),
                // Each of them is another value.
                ("enum", _) => (count.saturating_mul(compared_with(value, size)), 1),
                ("required", Json::Object(_)) => (count, count),
                ("dependentRequired" | "dependencies", Json::Object(_)) => {
                    let needed = value.as_object().into_iter().flat_map(|map| map.values());
                    let needed = needed.filter_map(Json::as_array).map(|list| length(list.len()));
                    let all = needed.fold(count, u32::saturating_add);
                    (all, all)
                }
                ("uniqueItems", Json::Array(_)) => (compared, 1),
                ("properties", Json::Object(_)) => (count, 0),
                ("patternProperties", Json::Object(_)) => (self.matched(value, names), 0),
                ("additionalProperties" | "unevaluatedProperties", Json::Object(_)) => {
                    let patterns = keywords.get("patternProperties");
                    let each = patterns.map_or(0, |patterns| self.matched(patterns, names));
                    (names.saturating_add(each), 1)
                }
                _ => (0, 1),
            };
            work = work.saturating_add(one);
            failures = failures.saturating_add(failing);
        }
        self.copies.spend(usize::try_from(work).unwrap_or(usize::MAX))?;
        let of_one = BYTES_PER_FAILURE.saturating_add(size);
        Ok(Cost {
            held: work,
            marked: work.saturating_add(names),
            told: work.saturating_mul(2).saturating_add(length(keywords.len())),
            // What fails within a choice has a copy of its place.
            bytes: failures.saturating_mul(of_one),
        })
    }

    /// Returns the visits of searching names for each pattern.
    fn matched(&self, patterns: &'a Json, names: u32) -> u32 {
        let longest = self.sizes.longest.as_str().map_or(0, |name| length(name.len()));
        let each = |pattern: &'a String| searched(self.ranges(pattern), longest);
        let patterns = patterns.as_object().into_iter().flat_map(|map| map.keys());
        let all = patterns.map(each).fold(0, u32::saturating_add);
        all.saturating_mul(names)
    }
}

/// Returns the visits of comparing a place of a size with data of the schema: no more than the smaller one is.
fn compared_with(data: &Json, size: u32) -> u32 {
    let of_data = match data {
        Json::String(text) => length(text.len()),
        Json::Array(_) | Json::Object(_) => u32::MAX,
        _ => 0,
    };
    1 + size.min(of_data) / BYTES_PER_VISIT
}

/// Returns the visits of searching a text for a pattern.
fn searched(ranges: u32, bytes: u32) -> u32 {
    let states = ranges.saturating_add(1).saturating_mul(bytes) / RANGES_PER_VISIT;
    states.saturating_add(1)
}
