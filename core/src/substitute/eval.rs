//! Gives expressions their values. All functions work on bytes, as in the reference.

use super::{
    MAX_BYTES, MAX_PATTERN_STEPS, SubstituteError, Variables,
    parse::{Expression, Function, Node},
};
use crate::text::{
    glob::{self, Budget, Stop},
    runes,
};

const TOO_MUCH_WORK: SubstituteError = SubstituteError::TooMuchWork {
    limit: MAX_PATTERN_STEPS,
};

/// One run over one text.
pub(super) struct Evaluation<'a> {
    variables: &'a Variables,
    strict: bool,
    budget: Budget,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(variables: &'a Variables, strict: bool) -> Self {
        Self {
            variables,
            strict,
            budget: Budget(MAX_PATTERN_STEPS),
        }
    }

    /// Joins the values of all nodes.
    pub(super) fn run(&mut self, nodes: &[Node]) -> Result<Vec<u8>, SubstituteError> {
        let mut out = Vec::new();
        for node in nodes {
            append(&mut out, &self.value(node)?)?;
        }
        Ok(out)
    }

    fn value(&mut self, node: &Node) -> Result<Vec<u8>, SubstituteError> {
        match node {
            Node::Text(text) => Ok(text.clone().into_bytes()),
            Node::Expression(expression) => self.expression(expression),
        }
    }

    /// Parameters first, also those that turn out not to be needed: in strict mode a missing variable inside
    /// an unused default is an error.
    fn expression(&mut self, expression: &Expression) -> Result<Vec<u8>, SubstituteError> {
        let args = expression
            .args
            .iter()
            .map(|arg| self.value(arg))
            .collect::<Result<Vec<_>, _>>()?;
        let value = match self.variables.get(&expression.name) {
            Some(value) => value,
            None if self.strict && expression.function != Function::Default => {
                return Err(SubstituteError::NotSet(expression.name.clone()));
            }
            None => b"",
        };
        self.call(expression.function, value, &args)
    }

    fn call(
        &mut self,
        function: Function,
        value: &[u8],
        args: &[Vec<u8>],
    ) -> Result<Vec<u8>, SubstituteError> {
        let arg = args.first().map(Vec::as_slice).unwrap_or_default();
        let with = args.get(1).map(Vec::as_slice);
        Ok(match function {
            Function::Value => value.to_vec(),
            Function::Length => value.len().to_string().into_bytes(),
            Function::Default if value.is_empty() => bounded(args.concat())?,
            Function::Default => value.to_vec(),
            Function::Lower => map_all(value, runes::lower),
            Function::Upper => map_all(value, runes::upper),
            Function::LowerFirst => map_first(value, runes::lower),
            Function::UpperFirst => map_first(value, runes::upper),
            Function::Substring => substring(value, arg, with).to_vec(),
            Function::TrimPrefix => self.trim_shortest(value, arg)?.to_vec(),
            Function::TrimLongestPrefix => self.trim_longest(value, arg)?.to_vec(),
            Function::TrimSuffix => reversed(self.trim_shortest(&reversed(value), &reversed(arg))?),
            Function::TrimLongestSuffix => reversed(self.trim_longest(&reversed(value), &reversed(arg))?),
            Function::ReplaceFirst => replace(value, arg, with.unwrap_or_default(), 1)?,
            Function::ReplaceAll => replace(value, arg, with.unwrap_or_default(), usize::MAX)?,
            Function::ReplacePrefix => replace_prefix(value, arg, with)?,
            Function::ReplaceSuffix => replace_suffix(value, arg, with)?,
        })
    }

    /// Removes the shortest prefix that matches and is not empty. Goes on to shorter prefixes after a match,
    /// since one on which the pattern proves malformed leaves the value alone.
    fn trim_shortest<'v>(&mut self, value: &'v [u8], pattern: &[u8]) -> Result<&'v [u8], SubstituteError> {
        let mut shortest = 0;
        for end in (1..=value.len()).rev() {
            match glob::matches(pattern, &value[..end], &mut self.budget) {
                Ok(true) => shortest = end,
                Ok(false) => {}
                Err(Stop::BadPattern) => return Ok(value),
                Err(Stop::TooMuchWork) => return Err(TOO_MUCH_WORK),
            }
        }
        Ok(&value[shortest..])
    }

    /// Removes the longest prefix that matches.
    fn trim_longest<'v>(&mut self, value: &'v [u8], pattern: &[u8]) -> Result<&'v [u8], SubstituteError> {
        for end in (1..=value.len()).rev() {
            match glob::matches(pattern, &value[..end], &mut self.budget) {
                Ok(true) => return Ok(&value[end..]),
                Ok(false) => {}
                Err(Stop::BadPattern) => return Ok(value),
                Err(Stop::TooMuchWork) => return Err(TOO_MUCH_WORK),
            }
        }
        Ok(value)
    }
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>, SubstituteError> {
    if bytes.len() > MAX_BYTES {
        return Err(SubstituteError::TooLong { limit: MAX_BYTES });
    }
    Ok(bytes)
}

fn append(out: &mut Vec<u8>, piece: &[u8]) -> Result<(), SubstituteError> {
    if out.len() + piece.len() > MAX_BYTES {
        return Err(SubstituteError::TooLong { limit: MAX_BYTES });
    }
    out.extend_from_slice(piece);
    Ok(())
}

fn map_all(value: &[u8], case: fn(char) -> char) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    runes::chars(value).for_each(|c| runes::push(&mut out, case(c)));
    out
}

fn map_first(value: &[u8], case: fn(char) -> char) -> Vec<u8> {
    let (first, width) = runes::decode(value);
    let mut out = Vec::with_capacity(value.len());
    if width > 0 {
        runes::push(&mut out, case(first));
    }
    out.extend_from_slice(&value[width..]);
    out
}

fn reversed(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    runes::chars(value).rev().for_each(|c| runes::push(&mut out, c));
    out
}

/// A position or length that is no number leaves the value whole.
fn substring<'v>(value: &'v [u8], position: &[u8], length: Option<&[u8]>) -> &'v [u8] {
    let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let Some(position) = integer(position) else {
        return value;
    };
    let start = if position < 0 {
        size.saturating_add(position).max(0)
    } else {
        position
    };
    let end = match length.map(integer) {
        None => size,
        Some(None) => return value,
        Some(Some(length)) if length < 0 => size.saturating_add(length),
        Some(Some(length)) => start.saturating_add(length).min(size),
    };
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) => value.get(start..end).unwrap_or_default(),
        _ => b"",
    }
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Replaces the first `limit` occurrences. An empty `old` stands before each character and at the end.
fn replace(value: &[u8], old: &[u8], new: &[u8], limit: usize) -> Result<Vec<u8>, SubstituteError> {
    let mut out = Vec::with_capacity(value.len());
    let (mut rest, mut left) = (value, limit);
    while left > 0 {
        let Some(at) = find(rest, old) else {
            break;
        };
        append(&mut out, &rest[..at])?;
        append(&mut out, new)?;
        rest = &rest[at + old.len()..];
        left -= 1;
        if old.is_empty() {
            let (_, width) = runes::decode(rest);
            if width == 0 {
                break;
            }
            // With the limit reached, what is left is copied below.
            if left > 0 {
                append(&mut out, &rest[..width])?;
                rest = &rest[width..];
            }
        }
    }
    append(&mut out, rest)?;
    Ok(out)
}

fn find(value: &[u8], sought: &[u8]) -> Option<usize> {
    if sought.is_empty() {
        return Some(0);
    }
    value.windows(sought.len()).position(|window| window == sought)
}

/// Without a replacement nothing happens: `${v/#p/}` gives the value, as in the reference.
fn replace_prefix(value: &[u8], old: &[u8], new: Option<&[u8]>) -> Result<Vec<u8>, SubstituteError> {
    match (value.strip_prefix(old), new) {
        (Some(rest), Some(new)) => bounded([new, rest].concat()),
        _ => Ok(value.to_vec()),
    }
}

fn replace_suffix(value: &[u8], old: &[u8], new: Option<&[u8]>) -> Result<Vec<u8>, SubstituteError> {
    match (value.strip_suffix(old), new) {
        (Some(rest), Some(new)) => bounded([rest, new].concat()),
        _ => Ok(value.to_vec()),
    }
}
