//! Bounds what checking values against a schema can cost, before it is done: the checker asks nobody while it works.
//!
//! References let a small schema visit the same place of the values over and over: without end when a schema
//! refers to itself, and exponentially when each of a chain refers twice to the next. The pass here goes once through
//! each pair of a schema and a place that it sees, and adds up what the checker would do.

use std::cell::RefCell;
use std::collections::HashMap;

use flotilla_core::text::re2::{self, Regex};
use serde_json::Value as Json;

use super::Refusal;
use crate::helm::values::copies::Copies;
use followed::{Followed, How};
use names::Names;
use sizes::Sizes;

mod compiling;
mod followed;
mod names;
mod own;
mod sizes;

/// The most work, in visits of a schema to a place of the values.
const MAX_WORK: u32 = 20_000_000;
/// The most bytes that all failures may take.
const MAX_TOLD_BYTES: u32 = 128 << 20;
/// The most schemas inside each other that are open at once.
const MAX_DEPTH: usize = 500;
/// A pattern of names that takes more compiled is taken to match.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The most pairs of a schema and a place that are looked at.
const MAX_PAIRS: usize = 2_000_000;

/// What the checker does for a schema at a place, all that follows from it included.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Telling whether the schema holds.
    held: u32,
    /// Telling which properties and items the schema looks at, for `unevaluatedProperties` and `unevaluatedItems`.
    marked: u32,
    /// Gathering all failures.
    told: u32,
    /// The bytes of these.
    bytes: u32,
}

impl Cost {
    /// That of a pair whose cost is being counted; none costs as much in the end.
    const OPEN: Cost = Cost {
        held: u32::MAX,
        marked: 0,
        told: 0,
        bytes: 0,
    };

    fn times(self, count: u32) -> Cost {
        Cost {
            held: self.held.saturating_mul(count),
            marked: self.marked.saturating_mul(count),
            told: self.told.saturating_mul(count),
            bytes: self.bytes.saturating_mul(count),
        }
    }

    /// Adds what follows from a schema within the schema.
    fn follow(&mut self, how: How, of: Cost) {
        self.held = self.held.saturating_add(of.held);
        self.bytes = self.bytes.saturating_add(of.bytes);
        self.told = self.told.saturating_add(of.told);
        if how == How::Chosen {
            // Failures are gathered where it does not hold, which is seen before, for `oneOf` twice.
            self.told = self.told.saturating_add(of.held.saturating_mul(2));
        }
        match how {
            // Of properties and items the names and numbers tell.
            How::Below => {}
            How::BelowIfHeld => self.marked = self.marked.saturating_add(of.held),
            How::Always | How::Chosen => {
                self.marked = self.marked.saturating_add(of.held).saturating_add(of.marked);
            }
        }
    }
}

/// What the checker may be asked to do.
pub(super) struct Checked {
    /// The steps of telling whether the values are accepted, in values that are looked at.
    pub(super) held: usize,
    /// The same of telling what is not; none where that would be too much.
    pub(super) told: Option<usize>,
}

/// Returns what checking these values takes, or why a schema must not run over them.
pub(super) fn check(schema: &Json, values: &Json, copies: &Copies<'_>) -> Result<Checked, Refusal> {
    let names = Names::of(schema)?;
    compiling::check(schema, &names, copies)?;
    let sizes = Sizes::of(values);
    let mut pass = Pass {
        copies,
        names,
        sizes: &sizes,
        costs: HashMap::new(),
        patterns: RefCell::default(),
        ranges: RefCell::default(),
    };
    let cost = pass.cost(schema, values, 0)?;
    let size = |work: u32| usize::try_from(work).unwrap_or(usize::MAX);
    let can_tell = cost.told <= MAX_WORK && cost.bytes <= MAX_TOLD_BYTES;
    Ok(Checked {
        held: size(cost.held),
        told: can_tell.then(|| size(cost.told)),
    })
}

struct Pass<'a> {
    copies: &'a Copies<'a>,
    names: Names<'a>,
    sizes: &'a Sizes,
    /// What a pair of schema and place costs.
    costs: HashMap<(usize, usize), Cost>,
    /// The patterns of names of properties; none for one that is too large to compile here.
    patterns: RefCell<HashMap<&'a str, Option<Regex>>>,
    /// Of how many ranges each pattern is compiled.
    ranges: RefCell<HashMap<&'a str, u32>>,
}

impl<'a> Pass<'a> {
    /// Returns what checking one place costs.
    fn cost(&mut self, schema: &'a Json, place: &'a Json, depth: usize) -> Result<Cost, Refusal> {
        let Json::Object(keywords) = schema else {
            return Ok(own::CONSTANT);
        };
        let pair = (
            std::ptr::from_ref(schema).addr(),
            std::ptr::from_ref(place).addr(),
        );
        match self.costs.get(&pair) {
            Some(known) if known.held != Cost::OPEN.held => return Ok(*known),
            Some(_) => return Err(Refusal::of_schema("refers to itself without end")),
            None if depth > MAX_DEPTH => {
                let what = format!("opens more than {MAX_DEPTH} schemas at once");
                return Err(Refusal::of_schema(what));
            }
            None if self.costs.len() > MAX_PAIRS => {
                return Err(Refusal::of_schema("is too large for these values"));
            }
            None => {}
        }
        self.costs.insert(pair, Cost::OPEN);
        let mut sum = self.own(keywords, place)?;
        for Followed {
            schema,
            place,
            how,
            times,
        } in self.followed(schema, keywords, place)?
        {
            let cost = self.cost(schema, place, depth + 1)?;
            sum.follow(how, cost.times(times));
        }
        let unevaluated = ["unevaluatedProperties", "unevaluatedItems"];
        if unevaluated.iter().any(|keyword| keywords.contains_key(*keyword)) {
            sum.held = sum.held.saturating_add(sum.marked);
            sum.told = sum.told.saturating_add(sum.marked.saturating_mul(2));
        }
        if sum.held > MAX_WORK {
            return Err(Refusal::of_schema("would take too long on these values"));
        }
        self.costs.insert(pair, sum);
        Ok(sum)
    }

    /// Tells whether a property has a name that a pattern matches, or may.
    fn may_match(&self, pattern: &'a str, name: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns
            .entry(pattern)
            .or_insert_with(|| Regex::compile(pattern, MAX_PATTERN_BYTES).ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(name))
    }

    /// Returns of how many ranges a pattern is compiled.
    fn ranges(&self, pattern: &'a str) -> u32 {
        let mut known = self.ranges.borrow_mut();
        *known.entry(pattern).or_insert_with(|| {
            let ranges = re2::ranges(pattern).unwrap_or(0);
            u32::try_from(ranges).unwrap_or(u32::MAX)
        })
    }
}
