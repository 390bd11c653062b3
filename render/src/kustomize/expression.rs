//! Regular expressions of a source, which count what compiling, keeping and searching them take.

use flotilla_core::text::re2::{self, Compiled};
use regex::Regex;

use super::error::{Result, invalid};
use super::steps::Steps;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 1 << 20;
/// What a compiled expression takes in memory, beside what its states and ranges take.
const BYTES_PER_EXPRESSION: usize = 32 << 10;
/// What one of its states takes.
const BYTES_PER_STATE: usize = 256;
/// What one of its ranges of characters takes: automata of bytes, forwards and backwards.
const BYTES_PER_RANGE: usize = 96;
/// How many states are gone through in one step, each of them at each byte of a text.
const STATES_PER_STEP: usize = 64;
/// So many are gone through for the step that a search costs: all of what names objects in practice.
const FEW_STATES: usize = 16 << 10;

/// Compiles a regular expression in Go's syntax.
pub(crate) fn compiled(pattern: &str) -> Result<Compiled> {
    re2::compile(pattern, MAX_COMPILED).map_err(|error| invalid(error.to_string()))
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    regex: Regex,
    states: usize,
}

impl Expression {
    /// Compiles an expression that goes before the next of its kind is compiled.
    pub(crate) fn new(pattern: &str, steps: &Steps<'_>) -> Result<Expression> {
        let compiled = compiled(pattern)?;
        steps.spend(compiled.ranges)?;
        Ok(Expression {
            regex: compiled.regex,
            states: compiled.states,
        })
    }

    /// Compiles an expression that is kept with others.
    pub(crate) fn kept(pattern: &str, steps: &Steps<'_>) -> Result<Expression> {
        steps.spend_bytes(BYTES_PER_EXPRESSION)?;
        let compiled = compiled(pattern)?;
        let states = compiled.states.saturating_mul(BYTES_PER_STATE);
        let ranges = compiled.ranges.saturating_mul(BYTES_PER_RANGE);
        steps.spend(compiled.ranges)?;
        steps.spend_bytes(states.saturating_add(ranges))?;
        Ok(Expression {
            regex: compiled.regex,
            states: compiled.states,
        })
    }

    /// Tells whether a text holds what is looked for. At worst the expression is in all its states at each byte.
    pub(crate) fn fits(&self, text: &str, steps: &Steps<'_>) -> Result<bool> {
        let states = self.states.saturating_mul(text.len());
        steps.spend(1 + states.saturating_sub(FEW_STATES) / STATES_PER_STEP)?;
        Ok(self.regex.is_match(text))
    }
}
