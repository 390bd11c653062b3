//! The position in a `name=value` line: runs up to a stop, escapes, blanks and JSON values.

use flotilla_core::text::runes::is_space;
use serde::Deserialize;

use crate::helm::values::from_json;
use crate::surrogates::paired;
use crate::yaml::Value;

/// A line being read from left to right.
pub(super) struct Scan<'a> {
    text: &'a str,
    literal: bool,
}

impl<'a> Scan<'a> {
    /// Starts at the line's beginning; a `literal` line knows no escapes.
    pub(super) fn new(text: &'a str, literal: bool) -> Self {
        Self { text, literal }
    }

    pub(super) fn is_literal(&self) -> bool {
        self.literal
    }

    pub(super) fn at_end(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.text.len()
    }

    /// Takes all that is left.
    pub(super) fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.text)
    }

    /// Takes `wanted` if it is next.
    pub(super) fn eat(&mut self, wanted: char) -> bool {
        let rest = self.text.strip_prefix(wanted);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// Takes the text up to one of `stops` and that stop; no stop when the line ends first.
    ///
    /// A backslash makes the character behind it part of the text.
    pub(super) fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut taken = String::new();
        let mut chars = self.text.chars();
        let mut stop = None;
        while let Some(next) = chars.next() {
            if stops.contains(&next) {
                stop = Some(next);
                break;
            }
            if next == '\\' && !self.literal {
                taken.extend(chars.next());
            } else {
                taken.push(next);
            }
        }
        self.text = chars.as_str();
        (taken, stop)
    }

    /// Takes blanks and one comma behind them; returns whether that, or the end, is all there was.
    pub(super) fn blank_value(&mut self) -> bool {
        self.text = self.text.trim_start_matches(is_space);
        self.at_end() || self.eat(',')
    }

    /// Takes one JSON value; an error is the column where it stops being one.
    pub(super) fn json(&mut self) -> Result<Value, usize> {
        let text = paired(&self.text[..self.first_json()]);
        let mut reader = serde_json::Deserializer::from_str(&text);
        let value = serde_json::Value::deserialize(&mut reader).map_err(|error| error.column())?;
        let end = reader.into_iter::<serde_json::Value>().byte_offset();
        self.text = &self.text[end..];
        Ok(from_json(value))
    }

    /// Returns where a zero ends that a digit follows: to Go it is a number, and the digit begins what comes next.
    fn first_json(&self) -> usize {
        let number = self.text.trim_start_matches([' ', '\t', '\r', '\n']);
        let number = number.strip_prefix('-').unwrap_or(number);
        match number.strip_prefix('0') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => self.text.len() - rest.len(),
            _ => self.text.len(),
        }
    }
}
