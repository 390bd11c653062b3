//! Which schemas one schema leads to, and at which places of the values.

use serde_json::{Map, Value as Json};

use super::Pass;
use super::names::Names;
use super::sizes::length;
use crate::helm::values::coalesce::CoalesceError;

/// What one schema does with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It holds at the same place, or what it belongs to does not.
    Always,
    /// It may hold or not.
    Chosen,
    /// It holds of properties or items.
    Below,
    /// The same, and only those that it holds of are looked at.
    BelowIfHeld,
}

/// A schema with the place that it sees.
pub(super) struct Followed<'a> {
    pub(super) schema: &'a Json,
    pub(super) place: &'a Json,
    pub(super) how: How,
    /// How many such places there are.
    pub(super) times: u32,
}

impl<'a> Followed<'a> {
    fn once(schema: &'a Json, place: &'a Json, how: How) -> Self {
        Followed {
            schema,
            place,
            how,
            times: 1,
        }
    }
}

impl<'a> Pass<'a> {
    /// Returns the schemas that one schema leads to. The caller is asked for each pattern and each reference.
    pub(super) fn followed(
        &self,
        schema: &'a Json,
        keywords: &'a Map<String, Json>,
        place: &'a Json,
    ) -> Result<Vec<Followed<'a>>, CoalesceError> {
        let mut next = Vec::new();
        for (keyword, value) in keywords {
            let (below, always) = (
                |(schema, place)| Followed::once(schema, place, How::Below),
                |schema| Followed::once(schema, place, How::Always),
            );
            let if_held = |(schema, place)| Followed::once(schema, place, How::BelowIfHeld);
            let chosen = |schema| Followed::once(schema, place, How::Chosen);
            match keyword.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let meant = value
                        .as_str()
                        .map(|reference| self.names.meant(schema, reference));
                    let meant = meant.unwrap_or_default();
                    self.copies.spend(meant.len())?;
                    next.extend(meant.into_iter().map(always));
                }
                "properties" => next.extend(properties(value, place).map(below)),
                "not" | "if" => next.push(chosen(value)),
                "then" | "else" => next.push(always(value)),
                "allOf" => next.extend(listed(value).map(always)),
                "anyOf" | "oneOf" => next.extend(listed(value).map(chosen)),
                "dependentSchemas" | "dependencies" => next.extend(mapped(value).map(always)),
                "patternProperties" => {
                    for (pattern, schema) in value.as_object().into_iter().flatten() {
                        self.copies.go_on()?;
                        let matched = fields(place).filter(|(name, _)| self.may_match(pattern, name));
                        next.extend(matched.map(|(_, value)| below((schema, value))));
                    }
                }
                "propertyNames" => {
                    let names = length(fields(place).count());
                    // A name has no names.
                    next.extend((names > 0).then(|| Followed {
                        times: names,
                        ..Followed::once(value, &self.sizes.longest, How::Chosen)
                    }));
                }
                "prefixItems" => next.extend(listed(value).zip(items(place)).map(below)),
                "items" if value.is_array() => next.extend(listed(value).zip(items(place)).map(below)),
                "items" | "additionalItems" => {
                    next.extend(items(place).map(|item| below((value, item))));
                }
                "unevaluatedItems" | "contains" => {
                    next.extend(items(place).map(|item| if_held((value, item))));
                }
                "additionalProperties" => {
                    let named = keywords.get("properties").and_then(Json::as_object);
                    let is_other = |name: &String| named.is_none_or(|named| !named.contains_key(name));
                    let others = fields(place).filter(|(name, _)| is_other(name));
                    next.extend(others.map(|(_, field)| below((value, field))));
                }
                "unevaluatedProperties" => {
                    next.extend(fields(place).map(|(_, field)| if_held((value, field))));
                }
                _ => {}
            }
        }
        Ok(next)
    }
}

/// Returns the schemas that one schema leads to at its own place.
pub(super) fn same_place<'a>(
    schema: &'a Json,
    keywords: &'a Map<String, Json>,
    names: &Names<'a>,
) -> Vec<&'a Json> {
    let mut next = Vec::new();
    for (keyword, value) in keywords {
        match keyword.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" => {
                let meant = value.as_str().map(|reference| names.meant(schema, reference));
                next.extend(meant.into_iter().flatten());
            }
            "not" | "if" | "then" | "else" => next.push(value),
            "allOf" | "anyOf" | "oneOf" => next.extend(listed(value)),
            "dependentSchemas" | "dependencies" => next.extend(mapped(value)),
            _ => {}
        }
    }
    next
}

fn listed(keyword: &Json) -> impl Iterator<Item = &Json> {
    keyword.as_array().into_iter().flatten()
}

fn mapped(keyword: &Json) -> impl Iterator<Item = &Json> {
    keyword.as_object().into_iter().flat_map(|map| map.values())
}

fn properties<'a>(keyword: &'a Json, place: &'a Json) -> impl Iterator<Item = (&'a Json, &'a Json)> {
    let schemas = keyword.as_object().into_iter().flatten();
    schemas.filter_map(|(name, schema)| Some((schema, place.as_object()?.get(name)?)))
}

fn items(place: &Json) -> impl Iterator<Item = &Json> {
    place.as_array().into_iter().flatten()
}

fn fields(place: &Json) -> impl Iterator<Item = (&String, &Json)> {
    place.as_object().into_iter().flatten()
}
