//! Bounds what checking values against a schema can cost, before it is done.
//!
//! References let a small schema visit the same place of the values over and over: without end when a schema
//! refers to itself, and exponentially when each of a chain refers twice to the next. The pass here counts
//! the visits of each schema at each place once, and adds up what they would be.

use std::cell::RefCell;
use std::collections::HashMap;

use flotilla_core::text::re2;
use regex::Regex;
use serde_json::Value as Json;

use super::Refusal;
use crate::helm::values::coalesce::CoalesceError;
use crate::helm::values::copies::Copies;

/// The most visits of a schema to a place of the values.
const MAX_VISITS: u64 = 20_000_000;
/// The most schemas inside each other that are open at once.
const MAX_DEPTH: usize = 500;
/// A pattern of names that takes more compiled is taken to match.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The most pairs of a schema and a place that are looked at.
const MAX_PAIRS: usize = 2_000_000;

/// Returns why a schema must not run over these values.
pub(super) fn check(schema: &Json, values: &Json, copies: &Copies<'_>) -> Result<(), Refusal> {
    let mut pass = Pass {
        copies,
        root: schema,
        named: HashMap::new(),
        visits: HashMap::new(),
        patterns: RefCell::default(),
    };
    pass.collect_names(schema, 0)?;
    pass.visits(schema, values, 0).map(|_| ())
}

struct Pass<'a> {
    copies: &'a Copies<'a>,
    root: &'a Json,
    /// Schemas by their `$anchor`, `$dynamicAnchor` and `$id`.
    named: HashMap<String, &'a Json>,
    /// The visits below a pair of schema and place; none while they are being counted.
    visits: HashMap<(usize, usize), Option<u64>>,
    /// The patterns of names of properties; none for one that is too large to compile here.
    patterns: RefCell<HashMap<&'a str, Option<Regex>>>,
}

impl<'a> Pass<'a> {
    fn collect_names(&mut self, schema: &'a Json, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::of_schema(format!("is nested deeper than {MAX_DEPTH}")));
        }
        let below: Vec<&'a Json> = match schema {
            Json::Object(map) => {
                for (key, prefix) in [("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", ""), ("id", "")] {
                    if let Some(name) = map.get(key).and_then(Json::as_str) {
                        self.named.entry(format!("{prefix}{name}")).or_insert(schema);
                    }
                }
                map.values().collect()
            }
            Json::Array(items) => items.iter().collect(),
            _ => return Ok(()),
        };
        below
            .into_iter()
            .try_for_each(|schema| self.collect_names(schema, depth + 1))
    }

    /// Returns how many visits checking one place costs, all that follow from it included.
    fn visits(&mut self, schema: &'a Json, place: &'a Json, depth: usize) -> Result<u64, Refusal> {
        let Json::Object(keywords) = schema else {
            return Ok(1);
        };
        let pair = (
            std::ptr::from_ref(schema).addr(),
            std::ptr::from_ref(place).addr(),
        );
        match self.visits.get(&pair) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => return Err(Refusal::of_schema("refers to itself without end")),
            None if depth > MAX_DEPTH => {
                let what = format!("opens more than {MAX_DEPTH} schemas at once");
                return Err(Refusal::of_schema(what));
            }
            None if self.visits.len() > MAX_PAIRS => {
                return Err(Refusal::of_schema("is too large for these values"));
            }
            None => self.copies.go_on()?,
        }
        self.visits.insert(pair, None);
        let mut sum: u64 = 1;
        for (schema, place) in self.followed(keywords, place)? {
            sum = sum.saturating_add(self.visits(schema, place, depth + 1)?);
        }
        if sum > MAX_VISITS {
            return Err(Refusal::of_schema("would take too long on these values"));
        }
        self.visits.insert(pair, Some(sum));
        Ok(sum)
    }

    /// Returns the schemas that one schema leads to, each with the place that it sees.
    fn followed(
        &self,
        keywords: &'a serde_json::Map<String, Json>,
        place: &'a Json,
    ) -> Result<Vec<(&'a Json, &'a Json)>, CoalesceError> {
        let mut next = Vec::new();
        for (keyword, schema) in keywords {
            match keyword.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let target = schema.as_str().and_then(|reference| self.resolve(reference));
                    next.extend(target.map(|schema| (schema, place)));
                }
                "properties" => next.extend(properties(schema, place)),
                "not" | "if" | "then" | "else" => next.push((schema, place)),
                "allOf" | "anyOf" | "oneOf" => next.extend(listed(schema).map(|schema| (schema, place))),
                "dependentSchemas" | "dependencies" => {
                    next.extend(mapped(schema).map(|schema| (schema, place)))
                }
                "patternProperties" => {
                    for (pattern, schema) in schema.as_object().into_iter().flatten() {
                        self.copies.go_on()?;
                        let fields = place.as_object().into_iter().flatten();
                        let matched = fields.filter(|(name, _)| self.may_match(pattern, name));
                        next.extend(matched.map(|(_, value)| (schema, value)));
                    }
                }
                "prefixItems" => next.extend(listed(schema).zip(items(place))),
                "items" if schema.is_array() => next.extend(listed(schema).zip(items(place))),
                "items" | "additionalItems" | "unevaluatedItems" | "contains" => {
                    next.extend(items(place).map(|item| (schema, item)));
                }
                "additionalProperties" => {
                    let named = keywords.get("properties").and_then(Json::as_object);
                    let others = place
                        .as_object()
                        .into_iter()
                        .flatten()
                        .filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)));
                    next.extend(others.map(|(_, value)| (schema, value)));
                }
                "unevaluatedProperties" => next.extend(fields(place).map(|value| (schema, value))),
                _ => {}
            }
        }
        Ok(next)
    }

    /// Tells whether a property has a name that a pattern matches, or may.
    fn may_match(&self, pattern: &'a str, name: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns.entry(pattern).or_insert_with(|| {
            let compiled = re2::compile(pattern, MAX_PATTERN_BYTES).ok()?;
            Some(compiled.regex)
        });
        compiled.as_ref().is_none_or(|regex| regex.is_match(name))
    }

    fn resolve(&self, reference: &str) -> Option<&'a Json> {
        if reference == "#" {
            return Some(self.root);
        }
        if let Some(pointer) = reference.strip_prefix("#/") {
            return self.root.pointer(&format!("/{}", percent_decoded(pointer)));
        }
        self.named.get(reference).copied()
    }
}

fn listed(keyword: &Json) -> impl Iterator<Item = &Json> {
    keyword.as_array().into_iter().flatten()
}

fn mapped(keyword: &Json) -> impl Iterator<Item = &Json> {
    keyword.as_object().into_iter().flat_map(|map| map.values())
}

fn properties<'a>(keyword: &'a Json, place: &'a Json) -> Vec<(&'a Json, &'a Json)> {
    let (Json::Object(schemas), Json::Object(fields)) = (keyword, place) else {
        return Vec::new();
    };
    schemas
        .iter()
        .filter_map(|(name, schema)| Some((schema, fields.get(name)?)))
        .collect()
}

fn items(place: &Json) -> impl Iterator<Item = &Json> {
    place.as_array().into_iter().flatten()
}

fn fields(place: &Json) -> impl Iterator<Item = &Json> {
    place.as_object().into_iter().flat_map(|fields| fields.values())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
