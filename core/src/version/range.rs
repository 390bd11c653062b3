//! Ranges of versions: `>=1.2 <2 || ~3.1`, `^0.4`, `1.x`, `1.2 - 1.4`.
//!
//! Alternatives are joined by `||`, conditions within one by spaces or commas. A pre-release is only inside
//! an alternative that itself names one.

use std::cmp::Ordering;

use super::{Scan, Version};

/// The longest range text that is read, in bytes.
pub const MAX_RANGE_BYTES: usize = 512;
/// The most alternatives that a range may have.
pub const MAX_ALTERNATIVES: usize = 32;

/// A set of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    alternatives: Vec<Alternative>,
}

/// Why a text is not a range. Nothing helps but another text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A part of the range is not a list of conditions.
    #[error("improper constraint: {0:?}")]
    Improper(String),
    /// A condition has the form of one, and its version cannot be read.
    #[error("constraint parser error")]
    Version,
    /// The text is longer than [`MAX_RANGE_BYTES`].
    #[error("constraint string is too long (max {MAX_RANGE_BYTES} bytes)")]
    TooLong,
    /// There are more than [`MAX_ALTERNATIVES`] alternatives.
    #[error("too many constraint groups (max {MAX_ALTERNATIVES})")]
    TooManyAlternatives,
}

impl VersionRange {
    /// Reads a range.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        if text.len() > MAX_RANGE_BYTES {
            return Err(RangeError::TooLong);
        }
        let text = without_hyphen_ranges(text);
        if text.split("||").count() > MAX_ALTERNATIVES {
            return Err(RangeError::TooManyAlternatives);
        }
        let alternatives = text
            .split("||")
            .map(Alternative::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Returns whether `version` is in the range.
    pub fn contains(&self, version: &Version) -> bool {
        self.alternatives
            .iter()
            .any(|alternative| alternative.contains(version))
    }

    /// Returns whether both texts can be read and the version is in the range.
    pub fn matches(range: &str, version: &str) -> bool {
        match (Self::parse(range), Version::parse(version)) {
            (Ok(range), Ok(version)) => range.contains(&version),
            _ => false,
        }
    }
}

/// Conditions that must hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    conditions: Vec<Condition>,
    names_prerelease: bool,
}

impl Alternative {
    fn parse(text: &str) -> Result<Self, RangeError> {
        let tokens = tokens(text).ok_or_else(|| RangeError::Improper(text.to_owned()))?;
        let conditions = tokens
            .into_iter()
            .map(|(op, bound)| Condition::new(op, bound))
            .collect::<Result<Vec<_>, _>>()?;
        let names_prerelease = conditions.iter().any(|condition| !condition.bound.pre.is_empty());
        Ok(Self {
            conditions,
            names_prerelease,
        })
    }

    fn contains(&self, version: &Version) -> bool {
        (version.pre.is_empty() || self.names_prerelease)
            && self.conditions.iter().all(|condition| condition.allows(version))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Tilde,
    Caret,
}

/// How much of a bound was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    /// Nothing but a wildcard.
    Any,
    /// The major number.
    Major,
    /// The major and minor numbers.
    Minor,
    /// All three numbers.
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    op: Op,
    bound: Version,
    precision: Precision,
}

impl Condition {
    fn new(op: Op, text: &str) -> Result<Self, RangeError> {
        let parts = Scan::new(text)
            .version(wildcard_digit)
            .ok_or(RangeError::Version)?;
        let pre = parts.pre.map(|pre| format!("-{pre}")).unwrap_or_default();
        let numbers = [Some(parts.major), parts.minor, parts.patch];
        let written = numbers
            .iter()
            .take_while(|part| part.is_some_and(|part| !is_wildcard(part)))
            .count();
        let (precision, full) = match written {
            0 => (Precision::Any, format!("0.0.0{pre}")),
            1 => (Precision::Major, format!("{}.0.0{pre}", parts.major)),
            2 => (
                Precision::Minor,
                format!("{}.{}.0{pre}", parts.major, parts.minor.unwrap_or_default()),
            ),
            _ => (Precision::Full, text.to_owned()),
        };
        let bound = Version::parse(&full).map_err(|_| RangeError::Version)?;
        Ok(Self { op, bound, precision })
    }

    fn allows(&self, version: &Version) -> bool {
        let order = version.precedence(&self.bound);
        match self.op {
            Op::Equal if self.precision == Precision::Full => order == Ordering::Equal,
            Op::Equal | Op::Tilde => self.tilde(version, order),
            Op::NotEqual => self.differs(version, order),
            Op::Greater => self.is_passed(version, order),
            Op::GreaterEqual => order != Ordering::Less,
            Op::Less => order == Ordering::Less,
            Op::LessEqual => self.is_reached(version, order),
            Op::Caret => self.caret(version, order),
        }
    }

    fn same_major(&self, version: &Version) -> bool {
        version.major == self.bound.major
    }

    fn same_minor(&self, version: &Version) -> bool {
        version.minor == self.bound.minor
    }

    fn tilde(&self, version: &Version, order: Ordering) -> bool {
        let bound = &self.bound;
        let zero = (bound.major, bound.minor, bound.patch) == (0, 0, 0);
        let everything = zero && matches!(self.precision, Precision::Any | Precision::Full);
        let same_minor = self.same_minor(version) || self.precision == Precision::Major;
        order != Ordering::Less && (everything || (self.same_major(version) && same_minor))
    }

    /// Implements `!=`, in which a wildcard excludes all that it stands for (`!=*` only 0.0.0).
    fn differs(&self, version: &Version, order: Ordering) -> bool {
        match self.precision {
            Precision::Full | Precision::Any => order != Ordering::Equal,
            Precision::Major => !self.same_major(version),
            Precision::Minor => {
                !self.same_major(version) || !self.same_minor(version) || version.pre != self.bound.pre
            }
        }
    }

    /// Implements `>`: `>11` begins at 12 and `>11.1` at 11.2.
    fn is_passed(&self, version: &Version, order: Ordering) -> bool {
        match self.precision {
            Precision::Full | Precision::Any => order == Ordering::Greater,
            Precision::Major => version.major > self.bound.major,
            Precision::Minor => (version.major, version.minor) > (self.bound.major, self.bound.minor),
        }
    }

    /// Implements `<=`: `<=11` ends before 12 and `<=11.1` before 11.2.
    fn is_reached(&self, version: &Version, order: Ordering) -> bool {
        match self.precision {
            Precision::Full => order != Ordering::Greater,
            Precision::Major => version.major <= self.bound.major,
            Precision::Minor | Precision::Any => {
                (version.major, version.minor) <= (self.bound.major, self.bound.minor)
            }
        }
    }

    /// Implements `^`: the leftmost number that is not zero stays.
    fn caret(&self, version: &Version, order: Ordering) -> bool {
        let bound = &self.bound;
        if order == Ordering::Less {
            return false;
        }
        if bound.major > 0 || self.precision == Precision::Major {
            return self.same_major(version);
        }
        if version.major > 0 {
            return false;
        }
        if bound.minor > 0 || self.precision == Precision::Minor {
            return self.same_minor(version);
        }
        version.minor == 0 && version.patch == bound.patch
    }
}

fn wildcard_digit(byte: &u8) -> bool {
    // The reference's pattern lists its wildcards with bars between them, and so takes a bar for a digit.
    matches!(byte, b'0'..=b'9' | b'x' | b'X' | b'*' | b'|')
}

fn is_wildcard(part: &str) -> bool {
    matches!(part, "x" | "X" | "*")
}

/// Cuts an alternative into its conditions, each an operator and a version; none when it is malformed.
fn tokens(text: &str) -> Option<Vec<(Op, &str)>> {
    let mut scan = Scan::new(text);
    let mut found = Vec::new();
    scan.spaces();
    loop {
        let op = operator(&mut scan);
        scan.spaces();
        let start = scan.at;
        scan.version(wildcard_digit)?;
        found.push((op, &text[start..scan.at]));
        let spaced = scan.spaces();
        if scan.at_end() {
            return Some(found);
        }
        if scan.eat(",") {
            scan.spaces();
        } else if !spaced {
            return None;
        }
    }
}

fn operator(scan: &mut Scan<'_>) -> Op {
    // Longer spellings stand before their own beginnings.
    const SPELLINGS: [(&str, Op); 11] = [
        ("!=", Op::NotEqual),
        (">=", Op::GreaterEqual),
        ("=>", Op::GreaterEqual),
        ("<=", Op::LessEqual),
        ("=<", Op::LessEqual),
        ("~>", Op::Tilde),
        ("=", Op::Equal),
        (">", Op::Greater),
        ("<", Op::Less),
        ("~", Op::Tilde),
        ("^", Op::Caret),
    ];
    SPELLINGS
        .iter()
        .find(|(text, _)| scan.eat(text))
        .map_or(Op::Equal, |(_, op)| *op)
}

/// Rewrites `1.2 - 1.4` as `>= 1.2, <= 1.4`.
fn without_hyphen_ranges(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if let Some((low, high, end)) = hyphen_range(text, at) {
            out.push_str(&format!(">= {low}, <= {high} "));
            at = end;
        } else {
            let next = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + next]);
            at += next;
        }
    }
    out
}

fn hyphen_range(text: &str, at: usize) -> Option<(&str, &str, usize)> {
    let mut scan = Scan { text, at };
    scan.spaces();
    let low = scan.at;
    scan.version(wildcard_digit)?;
    let low = &text[low..scan.at];
    if !(scan.spaces() && scan.eat("-") && scan.spaces()) {
        return None;
    }
    let high = scan.at;
    scan.version(wildcard_digit)?;
    let high = &text[high..scan.at];
    scan.spaces();
    Some((low, high, scan.at))
}
