//! Expressions of which is asked what their groups match.

use regex_automata::meta;
use regex_automata::nfa::thompson::{self, Compiler};
pub use regex_automata::util::captures::Captures;

use super::matching::{config, refused};
use super::size::Size;
use super::{Groups, SyntaxError, Translated, beyond, syntax, translated};

/// The most bytes of the places that all groups may have at once.
const MAX_PLACES: usize = 64 << 20;
/// What one place takes, in the table of the character before it and in that of the character behind it.
const BYTES_PER_PLACE: usize = 2 * size_of::<usize>();
/// So many places are copied in what going through a state takes.
const PLACES_PER_STATE: usize = 8;

/// An expression ready to match, with its groups.
#[derive(Debug, Clone)]
pub struct CaptureRegex {
    regex: meta::Regex,
    translated: String,
    names: Vec<Option<String>>,
    states: usize,
    ranges: usize,
}

impl CaptureRegex {
    /// Compiles an expression, which may take so many bytes.
    ///
    /// # Errors
    ///
    /// An expression that cannot be translated, one that takes more, and one whose groups take more than 64 MiB while it
    /// searches: where each group began and ended is kept for every state that a match may be in.
    pub fn compile(pattern: &str, size_limit: usize) -> Result<CaptureRegex, SyntaxError> {
        let Translated {
            pattern: translated,
            names,
        } = translated(pattern, Groups::Captured)?;
        let places = places(&translated, size_limit).or_else(|error| match error.size_limit() {
            Some(_) => beyond("expression too large", pattern),
            None => beyond("expression nests too deeply", pattern),
        })?;
        if places.saturating_mul(BYTES_PER_PLACE) > MAX_PLACES {
            return beyond("expression has too many groups", pattern);
        }
        let regex = meta::Regex::builder()
            .syntax(syntax())
            .configure(config(size_limit))
            .build(&translated)
            .or_else(|error| refused(&error, pattern))?;
        let size = Size::of(&translated);
        // A match is in a state, and takes along where each group began and ended.
        let weight = PLACES_PER_STATE.saturating_add(2 * names.len());
        let states = size.states.saturating_add(size.groups.saturating_mul(2));
        Ok(CaptureRegex {
            regex,
            translated,
            names,
            states: states.saturating_mul(weight) / PLACES_PER_STATE,
            ranges: size.ranges,
        })
    }

    /// Returns how many states a match may be in at each character, about, those counted more often that take many groups
    /// along: with the length of the text, what matching takes at worst.
    pub fn states(&self) -> usize {
        self.states
    }

    /// Returns of how many ranges of characters and bytes it is compiled, each as often as it may repeat: what compiling
    /// takes.
    pub fn ranges(&self) -> usize {
        self.ranges
    }

    /// Returns the expression in the syntax of Rust's crate.
    pub fn translated(&self) -> &str {
        &self.translated
    }

    /// Returns the name of each group, in their order; the first group is the second match.
    pub fn names(&self) -> &[Option<String>] {
        &self.names
    }

    /// Returns the matches of a text, one behind the other, each with its groups.
    pub fn captures_iter<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Captures> + 't {
        self.regex.captures_iter(text)
    }
}

/// Returns how many places of groups a search keeps at worst: where each of them begins and ends, for each state.
fn places(translated: &str, size_limit: usize) -> Result<usize, Box<thompson::BuildError>> {
    let nfa = Compiler::new()
        .syntax(syntax())
        .configure(thompson::Config::new().nfa_size_limit(Some(size_limit)))
        .build(translated)?;
    Ok(nfa.states().len().saturating_mul(nfa.group_info().slot_len()))
}
