//! Bounds what compiling a schema takes: nobody is asked while it lasts.
//!
//! What `unevaluatedProperties` and `unevaluatedItems` have to know of the schemas beside them is compiled for each of
//! them anew, along references as often as these lead to the same schema.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::followed::same_place;
use super::names::Names;
use super::{MAX_DEPTH, Refusal};
use crate::helm::values::copies::Copies;

/// The most schemas that are compiled, one that is compiled several times counted for each.
const MAX_SCHEMAS: u32 = 200_000;
/// What it takes to compile one, in values that are copied.
const VALUES_PER_SCHEMA: usize = 16;

/// Refuses a schema that takes too much, and takes the steps of another.
pub(super) fn check(schema: &Json, names: &Names<'_>, copies: &Copies<'_>) -> Result<(), Refusal> {
    let mut compiled = Compiled {
        names,
        copies,
        tracked: HashMap::new(),
        count: 0,
    };
    compiled.count(schema)?;
    copies.spend(VALUES_PER_SCHEMA * usize::try_from(compiled.count).unwrap_or(usize::MAX))?;
    Ok(())
}

struct Compiled<'n, 'a> {
    names: &'n Names<'a>,
    copies: &'n Copies<'n>,
    /// How many schemas tell what is evaluated at the place of one; none while that is being counted.
    tracked: HashMap<usize, Option<u32>>,
    count: u32,
}

impl<'a> Compiled<'_, 'a> {
    /// Counts each schema, and of one that asks what others evaluate these as often as they are reached.
    fn count(&mut self, schema: &'a Json) -> Result<(), Refusal> {
        match schema {
            Json::Object(fields) => {
                self.add(1)?;
                for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
                    if fields.contains_key(keyword) {
                        let tracked = self.tracked(schema, 0)?;
                        self.add(tracked)?;
                    }
                }
                fields.values().try_for_each(|below| self.count(below))
            }
            Json::Array(items) => items.iter().try_for_each(|below| self.count(below)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, schemas: u32) -> Result<(), Refusal> {
        self.copies.go_on()?;
        self.count = self.count.saturating_add(schemas);
        match self.count > MAX_SCHEMAS {
            true => Err(Refusal::of_schema(format!(
                "has more than {MAX_SCHEMAS} schemas to compile"
            ))),
            false => Ok(()),
        }
    }

    fn tracked(&mut self, schema: &'a Json, depth: usize) -> Result<u32, Refusal> {
        let Json::Object(keywords) = schema else {
            return Ok(1);
        };
        let key = std::ptr::from_ref(schema).addr();
        match self.tracked.get(&key) {
            // A schema that refers to itself is compiled once.
            Some(known) => return Ok(known.unwrap_or(1)),
            None if depth > MAX_DEPTH => {
                return Err(Refusal::of_schema(format!(
                    "opens more than {MAX_DEPTH} schemas at once"
                )));
            }
            None => self.copies.go_on()?,
        }
        self.tracked.insert(key, None);
        let mut sum = 1_u32;
        for below in same_place(schema, keywords, self.names) {
            sum = sum.saturating_add(self.tracked(below, depth + 1)?);
        }
        self.tracked.insert(key, Some(sum));
        Ok(sum)
    }
}
