//! Regular expressions in the syntax of Go's `regexp`, which is RE2's.
//!
//! Rust's crate matches as Go's does, leftmost first and in linear time, but reads another syntax: some of what Go
//! reads it refuses (`[\w-.]`, `\141`), and some of what Go refuses it reads (`a**`, `[a--b]`, `(?x)`). So an
//! expression is read here as Go reads it, and written anew in what both mean alike. Flags are written with each
//! part, and groups without their names, which [`Translated`] keeps.

use std::fmt::Write as _;
use std::fmt::{self, Display, Formatter};

use regex::{Regex, RegexBuilder};

mod classes;
mod parser;
mod size;

use size::Size;

/// The most levels of groups inside each other.
const MAX_NESTING: u32 = 250;
/// The same as Rust's crate counts them: a part that has flags is written as a group.
const NEST_LIMIT: u32 = 2 * MAX_NESTING;

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
        part: pattern.to_owned(),
        is_bound: true,
    })
}

/// An expression in the syntax of Rust's crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The expression.
    pub pattern: String,
    /// The name of each group, in their order; the first group is the second match.
    pub names: Vec<Option<String>>,
}

/// An expression ready to match.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What matches.
    pub regex: Regex,
    /// The name of each group, in their order.
    pub names: Vec<Option<String>>,
    /// How many states a match may be in at each character, about: with the length of the text, what matching takes
    /// at worst.
    pub states: usize,
    /// How many ranges of characters and bytes it is compiled of, each as often as it may repeat: what compiling takes.
    pub ranges: usize,
}

/// Reads an expression as Go's `regexp.Compile` does.
///
/// # Errors
///
/// An expression that Go refuses.
pub fn translate(pattern: &str) -> Result<Translated, SyntaxError> {
    parser::Parser::new(pattern).run()
}

/// Returns how many ranges of characters and bytes an expression is compiled of, each as often as it may repeat; nothing
/// is compiled.
///
/// # Errors
///
/// An expression that Go refuses.
pub fn ranges(pattern: &str) -> Result<usize, SyntaxError> {
    Ok(Size::of(&translate(pattern)?.pattern).ranges)
}

/// Compiles an expression, which may take so many bytes.
///
/// # Errors
///
/// An expression that Go refuses, one that takes more, and one with groups nested deeper than 250.
pub fn compile(pattern: &str, size_limit: usize) -> Result<Compiled, SyntaxError> {
    let Translated {
        pattern: translated,
        names,
    } = translate(pattern)?;
    let built = RegexBuilder::new(&translated)
        .size_limit(size_limit)
        .dfa_size_limit(size_limit)
        .nest_limit(NEST_LIMIT)
        .build();
    match built {
        Ok(regex) => {
            let size = Size::of(&translated);
            Ok(Compiled {
                regex,
                names,
                states: size.states,
                ranges: size.ranges,
            })
        }
        Err(regex::Error::CompiledTooBig(_)) => beyond("expression too large", pattern),
        Err(_) => beyond("expression nests too deeply", pattern),
    }
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
