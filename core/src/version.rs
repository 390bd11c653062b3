//! Versions and version ranges as Masterminds' `semver` v3 reads them, which Helm and Flux decide with.
//!
//! It parses, orders and tests membership; it does not choose among a list of versions. Reading is loose
//! on purpose (`v1`, `1.2`, leading zeros in numbers): charts and tags in the wild are written that way.

use std::cmp::Ordering;
use std::fmt;

mod range;

pub use range::{MAX_ALTERNATIVES, MAX_RANGE_BYTES, RangeError, VersionRange};

/// The longest version text that is read, in bytes.
pub const MAX_VERSION_BYTES: usize = 256;

/// A semantic version, kept together with the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    pre: String,
    metadata: String,
    original: String,
}

/// Why a text is not a version. Nothing helps but another text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The text does not have the form of a version.
    #[error("invalid semantic version")]
    Malformed,
    /// The text is longer than [`MAX_VERSION_BYTES`].
    #[error("version string is too long (max {MAX_VERSION_BYTES} bytes)")]
    TooLong,
    /// A number does not fit 64 bits.
    #[error("error parsing version segment: strconv.ParseUint: parsing {0:?}: value out of range")]
    OutOfRange(String),
    /// A numeric part of the pre-release starts with a zero.
    #[error("version segment starts with 0")]
    LeadingZero,
}

impl Version {
    /// Reads a version, filling in a missing minor or patch number with zero.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        if text.len() > MAX_VERSION_BYTES {
            return Err(VersionError::TooLong);
        }
        let mut scan = Scan::new(text);
        let parts = scan.version(u8::is_ascii_digit).ok_or(VersionError::Malformed)?;
        if !scan.at_end() {
            return Err(VersionError::Malformed);
        }
        let version = Version {
            major: number(parts.major)?,
            minor: number(parts.minor.unwrap_or("0"))?,
            patch: number(parts.patch.unwrap_or("0"))?,
            pre: parts.pre.unwrap_or_default().to_owned(),
            metadata: parts.metadata.unwrap_or_default().to_owned(),
            original: text.to_owned(),
        };
        if version.pre.split('.').any(has_leading_zero) {
            return Err(VersionError::LeadingZero);
        }
        Ok(version)
    }

    /// Reads a version as tags of Git are read: all three numbers, without leading zeros, and nothing before them but a `v`.
    pub fn parse_strict(text: &str) -> Result<Self, VersionError> {
        let version = Self::parse(text)?;
        let plain = text.strip_prefix('v').unwrap_or(text);
        let numbers = plain.split(['-', '+']).next().unwrap_or_default();
        if numbers.split('.').count() != 3 {
            return Err(VersionError::Malformed);
        }
        match numbers.split('.').any(has_leading_zero) {
            true => Err(VersionError::LeadingZero),
            false => Ok(version),
        }
    }

    /// Returns the first number.
    pub fn major(&self) -> u64 {
        self.major
    }

    /// Returns the second number.
    pub fn minor(&self) -> u64 {
        self.minor
    }

    /// Returns the third number.
    pub fn patch(&self) -> u64 {
        self.patch
    }

    /// Returns what stands behind `-`, empty for a release.
    pub fn prerelease(&self) -> &str {
        &self.pre
    }

    /// Returns what stands behind `+`, which ordering ignores.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Returns the text that the version was read from.
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Orders two versions by precedence: metadata does not count, and a pre-release is before its release.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| prerelease_order(&self.pre, &other.pre))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

fn number(digits: &str) -> Result<u64, VersionError> {
    digits
        .parse()
        .map_err(|_| VersionError::OutOfRange(digits.to_owned()))
}

fn has_leading_zero(part: &str) -> bool {
    part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn prerelease_order(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some(left), Some(right)) => part_order(left, right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Orders two parts of a pre-release: numbers by value and before words, words by their bytes.
///
/// A number that does not fit 64 bits counts as a word, as in Go.
fn part_order(left: &str, right: &str) -> Ordering {
    match (left.parse::<u64>(), right.parse::<u64>()) {
        (Ok(left), Ok(right)) => left.cmp(&right),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => left.cmp(right),
    }
}

/// The pieces of a version as written, without their punctuation.
struct Parts<'a> {
    major: &'a str,
    minor: Option<&'a str>,
    patch: Option<&'a str>,
    pre: Option<&'a str>,
    metadata: Option<&'a str>,
}

/// A position in a text that is read from left to right.
#[derive(Clone, Copy)]
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes the longest run of ASCII bytes that `wanted` accepts; none when it is empty.
    fn run(&mut self, wanted: impl Fn(&u8) -> bool) -> Option<&'a str> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        self.at += rest.iter().take_while(|byte| wanted(byte)).count();
        (self.at > start).then(|| &self.text[start..self.at])
    }

    fn spaces(&mut self) -> bool {
        self.run(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c))
            .is_some()
    }

    /// Takes `token` and what `body` finds behind it, or nothing at all.
    fn after(&mut self, token: &str, body: impl Fn(&mut Self) -> Option<&'a str>) -> Option<&'a str> {
        let mut ahead = *self;
        let found = ahead.eat(token).then(|| body(&mut ahead)).flatten();
        if found.is_some() {
            *self = ahead;
        }
        found
    }

    /// Takes words of `[0-9A-Za-z-]` joined by single dots.
    fn dotted_words(&mut self) -> Option<&'a str> {
        let start = self.at;
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        self.run(word)?;
        while self.after(".", |scan| scan.run(word)).is_some() {}
        Some(&self.text[start..self.at])
    }

    /// Takes a version whose numbers are runs of `digit`.
    fn version(&mut self, digit: impl Fn(&u8) -> bool) -> Option<Parts<'a>> {
        self.eat("v");
        let major = self.run(&digit)?;
        let minor = self.after(".", |scan| scan.run(&digit));
        let patch = minor.and_then(|_| self.after(".", |scan| scan.run(&digit)));
        let pre = self.after("-", Self::dotted_words);
        let metadata = self.after("+", Self::dotted_words);
        Some(Parts {
            major,
            minor,
            patch,
            pre,
            metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_version_has_three_numbers_without_leading_zeros() {
        for text in ["1.2.3", "v1.2.3", "0.0.0", "v1.2.3-rc.1+b.07", "1.2.3+1-2.3"] {
            assert!(Version::parse_strict(text).is_ok(), "{text} was refused");
        }
        for text in [
            "1", "v1.2", "1.2-rc.1", "1.02.3", "vv1.2.3", "1.2.3.4", "1.2.3 ", "latest", "",
        ] {
            assert!(Version::parse_strict(text).is_err(), "{text} was taken");
        }
    }
}
