//! Glob patterns over bytes: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`.
//!
//! `/` is a character like any other; whoever matches paths matches their parts. A malformed pattern is noticed
//! only when matching reaches the malformed place, and never matches.

use super::runes;

/// Steps that are left to match patterns with. A pattern over a long value costs the square of its length.
#[derive(Debug)]
pub(crate) struct Budget(pub(crate) u64);

impl Budget {
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(steps as u64 + 1).ok_or(Stop::TooMuchWork)?;
        Ok(())
    }
}

/// Why matching ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The pattern is malformed.
    BadPattern,
    /// The budget is used up.
    TooMuchWork,
}

/// Tells whether `pattern` matches the whole of `name`.
pub(crate) fn matches(mut pattern: &[u8], mut name: &[u8], budget: &mut Budget) -> Result<bool, Stop> {
    while !pattern.is_empty() {
        let segment = Segment::cut(pattern);
        pattern = segment.rest;
        if segment.starred && segment.literal.is_empty() {
            return Ok(true);
        }
        match segment.place(name, budget)? {
            Some(after) => name = after,
            None => return Ok(false),
        }
    }
    Ok(name.is_empty())
}

/// A run of stars and what stands up to the next star.
struct Segment<'a> {
    starred: bool,
    literal: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Segment<'a> {
    fn cut(pattern: &'a [u8]) -> Self {
        let stars = pattern.iter().take_while(|&&b| b == b'*').count();
        let body = &pattern[stars..];
        let (mut end, mut in_class) = (0, false);
        while let Some(&byte) = body.get(end) {
            match byte {
                b'\\' if end + 1 < body.len() => end += 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'*' if !in_class => break,
                _ => {}
            }
            end += 1;
        }
        let (literal, rest) = body.split_at(end);
        Self {
            starred: stars > 0,
            literal,
            rest,
        }
    }

    /// Finds where this segment matches first and returns what of `name` follows. The last segment must use
    /// up the name.
    fn place<'n>(&self, name: &'n [u8], budget: &mut Budget) -> Result<Option<&'n [u8]>, Stop> {
        let starts = if self.starred { name.len() } else { 0 };
        for start in 0..=starts {
            budget.spend(self.literal.len().min(name.len() - start))?;
            if let Some(after) = match_literal(self.literal, &name[start..])?
                && (after.is_empty() || !self.rest.is_empty())
            {
                return Ok(Some(after));
            }
        }
        Ok(None)
    }
}

/// Matches a starless pattern at the start of `name`; returns what follows.
fn match_literal<'n>(mut pattern: &[u8], mut name: &'n [u8]) -> Result<Option<&'n [u8]>, Stop> {
    while let Some((&sign, after)) = pattern.split_first() {
        let Some(&byte) = name.first() else {
            return Ok(None);
        };
        match sign {
            b'[' => {
                let (c, width) = runes::decode(name);
                let (inside, after) = match_class(after, c)?;
                if !inside {
                    return Ok(None);
                }
                (pattern, name) = (after, &name[width..]);
            }
            b'?' => (pattern, name) = (after, &name[runes::decode(name).1..]),
            _ => {
                let (literal, after) = match sign {
                    b'\\' => after.split_first().ok_or(Stop::BadPattern)?,
                    _ => (&sign, after),
                };
                if *literal != byte {
                    return Ok(None);
                }
                (pattern, name) = (after, &name[1..]);
            }
        }
    }
    Ok(Some(name))
}

/// Matches a class whose `[` is consumed; returns whether `c` is in it, and the pattern after its `]`.
fn match_class(pattern: &[u8], c: char) -> Result<(bool, &[u8]), Stop> {
    let (negated, mut pattern) = match pattern.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let (mut inside, mut first) = (false, true);
    loop {
        match pattern.split_first() {
            Some((b']', rest)) if !first => return Ok((inside != negated, rest)),
            _ => first = false,
        }
        let (low, rest) = class_member(pattern)?;
        let (high, rest) = match rest.split_first() {
            Some((b'-', rest)) => class_member(rest)?,
            _ => (low, rest),
        };
        inside |= (low..=high).contains(&c);
        pattern = rest;
    }
}

/// Reads one end of a range. Something must follow it: at least the closing `]`.
fn class_member(pattern: &[u8]) -> Result<(char, &[u8]), Stop> {
    let pattern = match pattern.split_first() {
        None | Some((b'-' | b']', _)) => return Err(Stop::BadPattern),
        Some((b'\\', rest)) => rest,
        Some(_) => pattern,
    };
    let (c, width) = runes::decode(pattern);
    let invalid = c == char::REPLACEMENT_CHARACTER && width <= 1;
    if invalid || pattern.len() == width {
        return Err(Stop::BadPattern);
    }
    Ok((c, &pattern[width..]))
}
