//! Regular expressions of a source, which count what compiling, keeping and searching them take.

use std::cell::RefCell;

use flotilla_core::text::re2::{Cache, Regex};

use super::error::{Result, invalid};
use super::steps::Steps;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 1 << 20;
/// What a compiled expression takes in memory, beside what its states and ranges take, and before a text is searched.
const BYTES_PER_EXPRESSION: usize = 32 << 10;
/// What one of its states takes.
const BYTES_PER_STATE: usize = 256;
/// What one of its ranges of characters takes: automata of bytes, forwards and backwards.
const BYTES_PER_RANGE: usize = 96;
/// How many states are gone through in one step, each of them at each byte of a text.
const STATES_PER_STEP: usize = 64;
/// So many are gone through for the step that a search costs: all of what names objects in practice.
const FEW_STATES: usize = 16 << 10;
/// How many bytes of an expression are read in one step.
const BYTES_PER_STEP: usize = 64;

/// Compiles a regular expression in Go's syntax.
pub(crate) fn compiled(pattern: &str, steps: &Steps<'_>) -> Result<Regex> {
    let compiled = Regex::compile(pattern, MAX_COMPILED).map_err(|error| invalid(error.to_string()))?;
    steps.spend(compiled.ranges().saturating_add(pattern.len() / BYTES_PER_STEP))?;
    Ok(compiled)
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    regex: Regex,
    /// What searches found out, where its bytes are counted because it is kept with others.
    kept: Option<RefCell<Kept>>,
}

/// What the searches of an expression keep for the next one.
#[derive(Debug)]
struct Kept {
    cache: Cache,
    /// The most bytes that it had until now.
    charged: usize,
}

impl Expression {
    /// Compiles an expression that goes before the next of its kind is compiled.
    pub(crate) fn new(pattern: &str, steps: &Steps<'_>) -> Result<Expression> {
        let regex = compiled(pattern, steps)?;
        Ok(Expression { regex, kept: None })
    }

    /// Compiles an expression that is kept with others.
    pub(crate) fn kept(pattern: &str, steps: &Steps<'_>) -> Result<Expression> {
        steps.spend_bytes(BYTES_PER_EXPRESSION)?;
        let regex = compiled(pattern, steps)?;
        let states = regex.states().saturating_mul(BYTES_PER_STATE);
        let ranges = regex.ranges().saturating_mul(BYTES_PER_RANGE);
        steps.spend_bytes(states.saturating_add(ranges))?;
        let kept = Kept {
            cache: regex.cache(),
            charged: 0,
        };
        Ok(Expression {
            regex,
            kept: Some(RefCell::new(kept)),
        })
    }

    /// Tells whether a text holds what is looked for. At worst the expression is in all its states at each byte.
    pub(crate) fn fits(&self, text: &str, steps: &Steps<'_>) -> Result<bool> {
        let states = self.regex.states().saturating_mul(text.len());
        steps.spend(1 + states.saturating_sub(FEW_STATES) / STATES_PER_STEP)?;
        let Some(kept) = &self.kept else {
            return Ok(self.regex.is_match(text));
        };
        let mut kept = kept.borrow_mut();
        let fits = self.regex.is_match_with(&mut kept.cache, text);
        // States are found out as texts lead to them, which few texts do: what they take is known behind the search.
        let taken = kept.cache.memory_usage();
        if taken > kept.charged {
            steps.spend_bytes(taken - kept.charged)?;
            kept.charged = taken;
        }
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expression, Steps};

    /// Returns the bytes that an expression is charged for, compiled and after a search.
    fn charged(pattern: &str, text: &str) -> (usize, usize) {
        let steps = Steps::new(u64::MAX, usize::MAX, None);
        let expression = Expression::kept(pattern, &steps).expect("it compiles");
        let compiled = usize::MAX - steps.bytes_left();
        expression.fits(text, &steps).expect("steps are left");
        (compiled, usize::MAX - steps.bytes_left() - compiled)
    }

    /// A text of two letters, which leads an automaton to another state at each of them.
    fn letters(count: u32) -> String {
        let bit = |at: u32| at.wrapping_mul(at).wrapping_mul(2_654_435_761) >> 31;
        (0..count)
            .map(|at| if bit(at) == 0 { 'a' } else { 'b' })
            .collect()
    }

    #[test]
    fn kept_expressions_are_charged_for_the_automaton_that_searches_build() {
        let (_, few) = charged("^a.*$", "abc");
        let (_, many) = charged("[ab]*a[ab]{20}c1", &letters(3_000));
        assert!(few < 16 << 10, "{few}");
        assert!((32 << 10..256 << 10).contains(&many), "{many}");
    }

    #[test]
    fn groups_of_an_expression_take_no_memory_in_a_search() {
        let pattern = |groups: usize| format!("[ab]*a[ab]{{100}}c{}", "()".repeat(groups));
        let text = letters(3_000);
        let (_, without) = charged(&pattern(0), &text);
        let (_, with) = charged(&pattern(2_000), &text);
        assert_eq!(with, without);
    }
}
