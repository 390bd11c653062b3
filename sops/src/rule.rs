//! Which values of a document are encrypted. A rule looks at the names of the fields that lead to a value: one that
//! matches decides for all that is below it.

use flotilla_core::text::re2;
use regex::{Regex, RegexBuilder};

use crate::limits;

/// What SOPS leaves alone where no rule is given.
const UNENCRYPTED_SUFFIX: &str = "_unencrypted";
/// Bytes of a compiled expression.
const COMPILED: usize = 1 << 20;

/// The rule of a document.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// All but what is below a field with this suffix.
    AllButSuffix(String),
    /// Only what is below a field with this suffix.
    OnlySuffix(String),
    /// All but what is below a field that matches.
    AllBut(Regex),
    /// Only what is below a field that matches.
    Only(Regex),
    /// What comments say. They are lost on the way through kustomize: what looks encrypted is.
    ByComments,
}

impl Rule {
    /// Makes the rule of the fields of a stanza. More than one is an error, as for SOPS.
    pub(crate) fn of(field: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| field(name).filter(|text| !text.is_empty());
        let mut rules = Vec::new();
        if let Some(suffix) = given("unencrypted_suffix") {
            rules.push(Self::AllButSuffix(suffix));
        }
        if let Some(suffix) = given("encrypted_suffix") {
            rules.push(Self::OnlySuffix(suffix));
        }
        if let Some(pattern) = given("unencrypted_regex") {
            rules.push(Self::AllBut(compiled("unencrypted_regex", &pattern)?));
        }
        if let Some(pattern) = given("encrypted_regex") {
            rules.push(Self::Only(compiled("encrypted_regex", &pattern)?));
        }
        for name in ["unencrypted_comment_regex", "encrypted_comment_regex"] {
            rules.extend(given(name).map(|_| Self::ByComments));
        }
        if rules.len() > 1 {
            return Err(
                "more than one of encrypted_suffix, unencrypted_suffix, encrypted_regex, unencrypted_regex, \
                 encrypted_comment_regex, or unencrypted_comment_regex"
                    .to_owned(),
            );
        }
        Ok(rules
            .pop()
            .unwrap_or_else(|| Self::AllButSuffix(UNENCRYPTED_SUFFIX.to_owned())))
    }

    /// Tells whether a field's name decides for what is below it.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::AllButSuffix(suffix) | Self::OnlySuffix(suffix) => name.ends_with(suffix.as_str()),
            Self::AllBut(pattern) | Self::Only(pattern) => pattern.is_match(name),
            Self::ByComments => false,
        }
    }

    /// Tells whether a value is encrypted. `matched`: the name of a field above it matches.
    pub(crate) fn is_encrypted(&self, matched: bool, text: Option<&str>) -> bool {
        match self {
            Self::AllButSuffix(_) | Self::AllBut(_) => !matched,
            Self::OnlySuffix(_) | Self::Only(_) => matched,
            Self::ByComments => text.is_some_and(crate::cipher::is_encrypted),
        }
    }
}

fn compiled(field: &str, pattern: &str) -> Result<Regex, String> {
    if pattern.len() > limits::PATTERN {
        return Err(format!("{field} has more than {} bytes", limits::PATTERN));
    }
    let invalid = || format!("{field} is no regular expression");
    let translated = re2::translate(pattern).map_err(|_| invalid())?;
    RegexBuilder::new(&translated)
        .size_limit(COMPILED)
        .build()
        .map_err(|_| invalid())
}
