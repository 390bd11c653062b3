//! Expressions of which only is asked whether and where they match.

use std::ops::Range;

use regex_automata::Input;
pub use regex_automata::meta::Cache;
use regex_automata::meta::{self, BuildError};
use regex_automata::nfa::thompson::WhichCaptures;

use super::size::Size;
use super::{SyntaxError, beyond, fault, syntax, translate};

/// The most bytes that the states of an automaton may take which is built while it searches, forwards and backwards each.
const MAX_CACHE: usize = 64 << 10;

/// An expression ready to match, whose groups are not asked for.
#[derive(Debug, Clone)]
pub struct Regex {
    regex: meta::Regex,
    translated: String,
    states: usize,
    ranges: usize,
}

impl Regex {
    /// Compiles an expression, which may take so many bytes.
    ///
    /// # Errors
    ///
    /// An expression that cannot be translated, and one that takes more.
    pub fn compile(pattern: &str, size_limit: usize) -> Result<Regex, SyntaxError> {
        let translated = translate(pattern)?;
        Self::build(translated, size_limit).or_else(|error| refused(&error, pattern))
    }

    /// Compiles an expression in the syntax of Rust's crate, which may take so many bytes.
    ///
    /// # Errors
    ///
    /// An expression that cannot be read, and one that takes more, for which the error says that it is a bound.
    pub fn compile_translated(translated: &str, size_limit: usize) -> Result<Regex, SyntaxError> {
        Self::build(translated.to_owned(), size_limit).or_else(|error| match error.size_limit() {
            Some(_) => refused(&error, translated),
            None => fault("cannot be read", translated),
        })
    }

    fn build(translated: String, size_limit: usize) -> Result<Regex, Box<BuildError>> {
        let regex = meta::Regex::builder()
            .syntax(syntax())
            .configure(config(size_limit).which_captures(WhichCaptures::Implicit))
            .build(&translated)
            .map_err(Box::new)?;
        let Size { states, ranges, .. } = Size::of(&translated);
        Ok(Regex {
            regex,
            translated,
            states,
            ranges,
        })
    }

    /// Returns how many states a match may be in at each character, about: with the length of the text, what matching
    /// takes at worst.
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

    /// Returns whether a text holds a match.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Returns the first match of a text.
    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        self.regex.find(text).map(|found| found.range())
    }

    /// Returns the matches of a text, one behind the other.
    pub fn find_iter<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.regex.find_iter(text).map(|found| found.range())
    }

    /// Returns room for what a search finds out about the expression, which the next one uses again.
    pub fn cache(&self) -> Cache {
        self.regex.create_cache()
    }

    /// Returns whether a text holds a match, and keeps what was found out in a cache of this expression, whose size its
    /// owner sees.
    pub fn is_match_with(&self, cache: &mut Cache, text: &str) -> bool {
        let input = Input::new(text).earliest(true);
        self.regex.search_half_with(cache, &input).is_some()
    }
}

/// How searches go. Going back and forth in the text is left out: it keeps a stack of states times bytes of the text.
pub(super) fn config(size_limit: usize) -> meta::Config {
    meta::Config::new()
        .nfa_size_limit(Some(size_limit))
        .hybrid_cache_capacity(MAX_CACHE)
        .backtrack(false)
}

/// Tells why a translated expression is not compiled.
pub(super) fn refused<T>(error: &BuildError, pattern: &str) -> Result<T, SyntaxError> {
    match error.size_limit() {
        Some(_) => beyond("expression too large", pattern),
        None => beyond("expression nests too deeply", pattern),
    }
}
