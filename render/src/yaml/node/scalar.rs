//! Decides what a plain scalar means, by the rules of go-yaml v3 and of its predecessor v2.
//!
//! Both differ from YAML 1.2: `0644` and `1_000` are numbers, and v2 also reads `yes` and `on` as booleans.

use super::{Content, Node, Style, Tag};

/// What a plain scalar means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer above the signed range.
    Big(u64),
    Float(f64),
    Timestamp,
    Merge,
    Text,
}

impl Meaning {
    /// The tag that a scalar of this meaning carries.
    pub(crate) fn tag(&self) -> Tag {
        match self {
            Meaning::Null => Tag::Null,
            Meaning::Bool(_) => Tag::Bool,
            Meaning::Int(_) | Meaning::Big(_) => Tag::Int,
            Meaning::Float(_) => Tag::Float,
            Meaning::Timestamp => Tag::Timestamp,
            Meaning::Merge => Tag::Merge,
            Meaning::Text => Tag::Str,
        }
    }
}

/// Reads a plain scalar as go-yaml v3 does.
pub(crate) fn resolve(text: &str) -> Meaning {
    read(text, true, Rules::V3)
}

/// Reads a plain scalar as v3 does when a tag forbids reading it as a date.
pub(crate) fn resolve_undated(text: &str) -> Meaning {
    read(text, false, Rules::V3)
}

/// Reads a plain scalar as go-yaml v2 does.
pub(crate) fn resolve_old(text: &str) -> Meaning {
    read(text, true, Rules::V2)
}

/// Tells whether a string node would be read as something else by v2 if it stood without quotes.
pub(crate) fn reads_as_non_string(node: &Node) -> bool {
    match &node.content {
        Content::Scalar(text) => {
            node.style == Style::Plain
                && node.is_string()
                && !text.is_empty()
                && !text.contains('\n')
                && !matches!(resolve_old(text), Meaning::Text | Meaning::Timestamp)
        }
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Rules {
    V2,
    V3,
}

fn read(text: &str, dated: bool, rules: Rules) -> Meaning {
    let Some(first) = text.bytes().next() else {
        return Meaning::Null;
    };
    if !matches!(first, b'+' | b'-' | b'0'..=b'9' | b'.' | b'<' | b'~') && !b"yYnNtTfFoO".contains(&first) {
        return Meaning::Text;
    }
    if let Some(known) = word(text, rules) {
        return known;
    }
    match first {
        b'.' => go_float(text).map_or(Meaning::Text, Meaning::Float),
        b'+' | b'-' | b'0'..=b'9' => number(text, dated, rules),
        _ => Meaning::Text,
    }
}

fn word(text: &str, rules: Rules) -> Option<Meaning> {
    Some(match text {
        "true" | "True" | "TRUE" => Meaning::Bool(true),
        "false" | "False" | "FALSE" => Meaning::Bool(false),
        "~" | "null" | "Null" | "NULL" => Meaning::Null,
        ".nan" | ".NaN" | ".NAN" => Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Meaning::Float(f64::NEG_INFINITY),
        "<<" => Meaning::Merge,
        _ if rules == Rules::V2 => match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Meaning::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Meaning::Bool(false),
            _ => return None,
        },
        _ => return None,
    })
}

fn number(text: &str, dated: bool, rules: Rules) -> Meaning {
    if dated && is_timestamp(text) {
        return Meaning::Timestamp;
    }
    let owned;
    let plain = if text.contains('_') {
        owned = text.replace('_', "");
        &owned
    } else {
        text
    };
    if let Some(value) = integer(plain) {
        return value;
    }
    if is_yaml_float(plain)
        && let Some(value) = go_float(plain)
    {
        return Meaning::Float(value);
    }
    // Behind these prefixes Go reads a number with a sign of its own.
    let behind = |prefix: &str, base| i64::from_str_radix(plain.strip_prefix(prefix)?, base).ok();
    let octal = || behind("0o", 8).filter(|_| rules == Rules::V3);
    if let Some(value) = behind("0b", 2).or_else(octal) {
        return Meaning::Int(value);
    }
    if rules == Rules::V3
        && let Some(digits) = plain.strip_prefix("-0o")
    {
        return signed(digits, 8, true).unwrap_or(Meaning::Text);
    }
    Meaning::Text
}

/// Reads an integer with Go's base prefixes: `0x`, `0o`, `0b`, and a bare leading zero for octal.
fn integer(text: &str) -> Option<Meaning> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let signed_text = text.len() != digits.len();
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    match signed(digits, base, negative)? {
        Meaning::Big(_) if signed_text => None,
        value => Some(value),
    }
}

fn signed(digits: &str, base: u32, negative: bool) -> Option<Meaning> {
    if digits.is_empty() || !digits.bytes().all(|b| (b as char).is_digit(base)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative {
        return 0i64.checked_sub_unsigned(magnitude).map(Meaning::Int);
    }
    Some(i64::try_from(magnitude).map_or(Meaning::Big(magnitude), Meaning::Int))
}

/// Parses a float as Go's `strconv.ParseFloat` does for the texts that reach it.
fn go_float(text: &str) -> Option<f64> {
    let plain = if text.contains('_') { return None } else { text };
    if !plain.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return None;
    }
    let value: f64 = plain.parse().ok()?;
    value.is_finite().then_some(value)
}

fn is_yaml_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    } else if whole == 0 {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else {
        return rest.is_empty();
    };
    let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Tells whether go-yaml reads the text as a date or a time.
fn is_timestamp(text: &str) -> bool {
    timestamp(text).is_some()
}

/// Rewrites a date or time as Go prints it in JSON: RFC 3339, in UTC when no zone is given.
pub(crate) fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut scan = Scan { rest: &text[5..] };
    let year: u32 = text[..4].parse().ok()?;
    let month = scan.number(1, 2)?;
    scan.literal(b'-')?;
    let day = scan.number(1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if scan.rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let separator = scan.byte()?;
    let zoned = match separator {
        b'T' | b't' => true,
        // Go takes any number of spaces for one.
        b' ' => {
            scan.rest = scan.rest.trim_start_matches(' ');
            false
        }
        _ => return None,
    };
    let (hour, minute, second) = (scan.number(1, 2)?, scan.sixty()?, scan.sixty()?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = scan.fraction()?;
    let zone = if zoned { scan.zone()? } else { "Z".to_string() };
    if !scan.rest.is_empty() {
        return None;
    }
    Some(format!(
        "{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
    ))
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.rest.as_bytes().first()?;
        self.rest = self.rest.get(1..)?;
        Some(byte)
    }

    fn literal(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then_some(())
    }

    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let length = self
            .rest
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if length < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.parse().ok()
    }

    fn sixty(&mut self) -> Option<u32> {
        self.literal(b':')?;
        self.number(1, 2)
    }

    /// Reads an optional fraction of a second, without the zeros at its end.
    fn fraction(&mut self) -> Option<String> {
        let Some(after) = self.rest.strip_prefix(['.', ',']) else {
            return Some(String::new());
        };
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        let digits = after[..length.min(9)].trim_end_matches('0');
        self.rest = &after[length..];
        Some(if digits.is_empty() {
            String::new()
        } else {
            format!(".{digits}")
        })
    }

    fn zone(&mut self) -> Option<String> {
        match self.byte()? {
            b'Z' => Some("Z".to_string()),
            sign @ (b'+' | b'-') => {
                let hours = self.number(2, 2)?;
                self.literal(b':')?;
                let minutes = self.number(2, 2)?;
                if hours > 24 || minutes > 60 {
                    return None;
                }
                Some(if hours == 0 && minutes == 0 {
                    "Z".to_string()
                } else {
                    format!("{}{hours:02}:{minutes:02}", sign as char)
                })
            }
            _ => None,
        }
    }
}
