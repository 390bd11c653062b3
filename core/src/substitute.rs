//! Variable substitution in rendered manifests, as Flux's `spec.postBuild` does it: `${name}` with its
//! functions, `$${name}` for a literal `${name}`, anything else untouched.
//!
//! Decides what a text becomes. Does not read YAML, fetch variables, or judge the result: types come from
//! parsing afterwards. Lengths, positions and patterns count bytes, as in Flux.

use std::collections::BTreeSet;

use serde_json::Value;

mod eval;
mod parse;
mod variables;

pub use variables::{InvalidName, Variables};

/// Label or annotation that switches substitution off for one object when its value is `disabled`.
pub const SUBSTITUTE_KEY: &str = "kustomize.toolkit.fluxcd.io/substitute";

/// The longest text taken and the longest result given, in bytes. Twice what the API server takes in one
/// request, so that no object that could be applied is refused here.
pub const MAX_BYTES: usize = 6 << 20;
/// The deepest nesting of `${a:=${b:=…}}`.
pub const MAX_DEPTH: usize = 64;
/// Steps that all patterns of one text may take together. A pattern over a long value costs the square of its
/// length; a text within its size limit could otherwise keep an agent busy for hours.
pub const MAX_PATTERN_STEPS: u64 = 50_000_000;

/// Why a text cannot be substituted. Nothing helps until the text or the variables change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// A `${` holds something that is no expression.
    #[error("bad substitution")]
    BadSubstitution,
    /// A name is followed by what is neither a function nor `}`.
    #[error("missing closing brace")]
    MissingClosingBrace,
    /// No name follows `${`.
    #[error("unable to parse variable name")]
    VariableName,
    /// A function lacks its parameter.
    #[error("unable to parse substitution within function")]
    FunctionParameter,
    /// Strict mode: a variable without a default is not set.
    #[error("variable not set (strict mode): \"{0}\"")]
    NotSet(String),
    /// The text holds a NUL character. The reference implementation would silently end the text there.
    #[error("text holds a NUL character")]
    Nul,
    /// The result is not UTF-8: a value was cut inside a character, or a Secret's binary value was used.
    #[error("result is not valid UTF-8")]
    NotUtf8,
    /// The text or its result is longer than [`MAX_BYTES`].
    #[error("text or result is longer than {limit} bytes")]
    TooLong {
        /// The limit in force.
        limit: usize,
    },
    /// Expressions nest deeper than [`MAX_DEPTH`].
    #[error("expressions nest deeper than {limit}")]
    TooDeep {
        /// The limit in force.
        limit: usize,
    },
    /// The patterns take more than [`MAX_PATTERN_STEPS`].
    #[error("patterns take more than {limit} steps")]
    TooMuchWork {
        /// The limit in force.
        limit: u64,
    },
}

impl SubstituteError {
    /// What went wrong, without anything of the text: that may be a secret.
    pub fn told_quietly(&self) -> String {
        match self {
            Self::NotSet(_) => "variable not set (strict mode)".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Replaces every expression in `text`. With `strict`, a variable that is not set and has no default is an
/// error; without, it is empty. The whole text is parsed before any variable is looked up.
pub fn substitute(text: &str, variables: &Variables, strict: bool) -> Result<String, SubstituteError> {
    if text.len() > MAX_BYTES {
        return Err(SubstituteError::TooLong { limit: MAX_BYTES });
    }
    if text.contains('\0') {
        return Err(SubstituteError::Nul);
    }
    let nodes = parse::parse(text)?;
    let bytes = eval::Evaluation::new(variables, strict).run(&nodes)?;
    String::from_utf8(bytes).map_err(|_| SubstituteError::NotUtf8)
}

/// The names of all variables that a text looks up, also of those in defaults and patterns that turn out not to be needed.
pub fn names(text: &str) -> Result<BTreeSet<String>, SubstituteError> {
    if text.len() > MAX_BYTES {
        return Err(SubstituteError::TooLong { limit: MAX_BYTES });
    }
    let mut names = BTreeSet::new();
    let mut left = parse::parse(text)?;
    while let Some(node) = left.pop() {
        if let parse::Node::Expression(expression) = node {
            names.insert(expression.name);
            left.extend(expression.args);
        }
    }
    Ok(names)
}

/// Tells whether an object opts out of substitution by its labels or annotations. `metadata` is the object's
/// `metadata`.
pub fn is_disabled(metadata: &Value) -> bool {
    ["labels", "annotations"]
        .iter()
        .any(|field| metadata[*field][SUBSTITUTE_KEY] == "disabled")
}

/// Tells whether a unit's objects are substituted at all: with any variable, or always when its strategy says
/// so, which lets defaults such as `${x:=y}` work without variables.
pub fn runs(variables: &Variables, always: bool) -> bool {
    always || !variables.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_all_variables_that_a_text_looks_up_and_of_no_escaped_ones() {
        let of = |text: &str| names(text).expect("readable").into_iter().collect::<Vec<_>>();
        assert_eq!(
            of("a ${B:1} ${#C} ${D:=${E/x/${F}}} $${G} $H"),
            ["B", "C", "D", "E", "F"]
        );
        assert_eq!(of("nothing"), [""; 0]);
        assert_eq!(names("${"), Err(SubstituteError::VariableName));
    }

    #[test]
    fn an_error_about_a_secret_quotes_nothing_of_it() {
        let error = substitute("x${hunter2}y", &Variables::default(), true).expect_err("not set");
        assert!(error.to_string().contains("hunter2"));
        assert_eq!(error.told_quietly(), "variable not set (strict mode)");
        assert_eq!(
            SubstituteError::Nul.told_quietly(),
            SubstituteError::Nul.to_string()
        );
    }
}
