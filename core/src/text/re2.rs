//! Regular expressions in the syntax of Go's `regexp`, which is RE2's.
//!
//! Rust's crate matches as Go's does, leftmost first and in linear time, but reads another syntax: some of what Go
//! reads it refuses (`[\w-.]`, `\141`), and some of what Go refuses it reads (`a**`, `[a--b]`, `(?x)`). So an
//! expression is read here as Go reads it, and written anew in what both mean alike. Flags are written with each
//! part, and groups without their names, which [`Translated`] keeps.

use std::fmt::Write as _;
use std::fmt::{self, Display, Formatter};

mod captures;
mod classes;
mod matching;
mod parser;
mod size;

pub use captures::{CaptureRegex, Captures};
pub use matching::{Cache, Regex};

use regex_automata::util::syntax;
use size::Size;

/// The most bytes of an expression. Reading one takes hundreds of bytes for each of its own, also of such parts as
/// nothing is compiled of.
const MAX_PATTERN: usize = 256 << 10;
/// The most levels of groups inside each other.
const MAX_NESTING: u32 = 250;
/// The same as Rust's crate counts them: a part that has flags is written as a group.
const NEST_LIMIT: u32 = 2 * MAX_NESTING;
/// How much of an expression beyond a bound is told.
const SHOWN: usize = 40;

/// An expression that Go refuses, or that is too large here. The text is Go's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong.
    pub code: &'static str,
    /// The part of the expression that is.
    pub part: String,
    /// Whether Go takes the expression, and a bound of this reader is in its way.
    pub is_bound: bool,
}

impl Display for SyntaxError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing regexp: {}: `{}`", self.code, self.part)
    }
}

impl std::error::Error for SyntaxError {}

fn fault<T>(code: &'static str, part: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError {
        code,
        part: part.to_owned(),
        is_bound: false,
    })
}

/// Refuses an expression for a bound of this reader.
fn beyond<T>(code: &'static str, pattern: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError {
        code,
        part: pattern.chars().take(SHOWN).collect(),
        is_bound: true,
    })
}

/// What becomes of groups that have a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    /// They stay: what each of them matched is asked.
    Captured,
    /// They only hold together what is in them. A group that is captured takes time and memory in each search, also
    /// where nobody asks for it.
    Uncaptured,
}

/// An expression in the syntax of Rust's crate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Translated {
    pattern: String,
    /// The name of each group, in their order; the first group is the second match.
    names: Vec<Option<String>>,
}

/// Reads an expression as Go's `regexp.Compile` does, and returns it in the syntax of Rust's crate, its groups without
/// numbers.
///
/// # Errors
///
/// An expression that Go refuses, one of more than 256 KiB, and one with groups nested deeper than 250.
pub fn translate(pattern: &str) -> Result<String, SyntaxError> {
    Ok(translated(pattern, Groups::Uncaptured)?.pattern)
}

fn translated(pattern: &str, groups: Groups) -> Result<Translated, SyntaxError> {
    parser::Parser::new(pattern, groups).run()
}

/// Returns how many ranges of characters and bytes an expression is compiled of, each as often as it may repeat; nothing
/// is compiled.
///
/// # Errors
///
/// An expression that cannot be translated.
pub fn ranges(pattern: &str) -> Result<usize, SyntaxError> {
    Ok(Size::of(&translate(pattern)?).ranges)
}

fn syntax() -> syntax::Config {
    syntax::Config::new().nest_limit(NEST_LIMIT)
}

/// Writes a character so that it stands for itself, within a class too, and in the dialect of JSON schemas too.
fn push_char(c: u32, out: &mut String) {
    match char::from_u32(c) {
        Some(c) if c.is_ascii_alphanumeric() || !c.is_ascii() || matches!(c, ' ' | '<' | '>') => out.push(c),
        Some(c) if c.is_ascii_punctuation() => {
            out.push('\\');
            out.push(c);
        }
        _ => _ = write!(out, "\\u{c:04x}"),
    }
}

/// What no text matches.
const NOTHING: &str = "[^\\u0000-\u{10ffff}]";

#[cfg(test)]
mod tests;
