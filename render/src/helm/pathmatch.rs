//! Shell patterns as Go's `filepath.Match` reads them: `*`, `?`, `[a-z]`, `[^a]` and `\`, none across `/`.

/// The pattern has an open bracket, an empty range or a backslash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Returns whether the whole of `name` has the form of `pattern`.
///
/// A part of the pattern that the match does not walk may be malformed, as in the reference.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let mut pattern = pattern;
    let mut name = name;
    while !pattern.is_empty() {
        let (star, chunk, rest) = split_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains('/'));
        }
        if let Some(tail) = match_chunk(chunk, name)? {
            // The last chunk must end the name; otherwise a star may still have to skip more.
            if tail.is_empty() || !pattern.is_empty() {
                name = tail;
                continue;
            }
        }
        if star && let Some(tail) = skip_to_chunk(chunk, name, pattern.is_empty())? {
            name = tail;
            continue;
        }
        check_rest(pattern)?;
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Tries `chunk` at each place behind a star; returns what of the name is left behind it.
fn skip_to_chunk<'a>(chunk: &str, name: &'a str, last: bool) -> Result<Option<&'a str>, BadPattern> {
    let mut at = name;
    while let Some(next) = at.chars().next().filter(|next| *next != '/') {
        at = &at[next.len_utf8()..];
        if let Some(tail) = match_chunk(chunk, at)?
            && (!last || tail.is_empty())
        {
            return Ok(Some(tail));
        }
    }
    Ok(None)
}

fn check_rest(mut pattern: &str) -> Result<(), BadPattern> {
    while !pattern.is_empty() {
        let (_, chunk, rest) = split_chunk(pattern);
        match_chunk(chunk, "")?;
        pattern = rest;
    }
    Ok(())
}

/// Splits off the leading stars and what stands up to the next star outside brackets.
fn split_chunk(pattern: &str) -> (bool, &str, &str) {
    let body = pattern.trim_start_matches('*');
    let star = body.len() < pattern.len();
    let mut in_range = false;
    let mut bytes = body.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'[' => in_range = true,
            b']' => in_range = false,
            b'*' if !in_range => return (star, &body[..at], &body[at..]),
            _ => {}
        }
    }
    (star, body, "")
}

/// Matches a chunk without stars at the start of `text`; returns the text behind it.
fn match_chunk<'a>(chunk: &str, text: &'a str) -> Result<Option<&'a str>, BadPattern> {
    let mut chunk = chunk;
    let mut rest = text;
    let mut failed = false;
    while let Some(op) = chunk.chars().next() {
        failed |= rest.is_empty();
        let next = if failed { None } else { rest.chars().next() };
        match op {
            '[' => {
                let (found, behind) = match_range(&chunk[1..], next)?;
                chunk = behind;
                failed |= !found;
            }
            '?' => {
                failed |= next == Some('/');
                chunk = &chunk[1..];
            }
            _ => {
                if op == '\\' {
                    chunk = &chunk[1..];
                }
                let wanted = chunk.chars().next().ok_or(BadPattern)?;
                failed |= next != Some(wanted);
                chunk = &chunk[wanted.len_utf8()..];
            }
        }
        if let Some(next) = next {
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok((!failed).then_some(rest))
}

/// Reads a range up to its bracket; returns whether `c` is in it and what follows.
fn match_range(pattern: &str, c: Option<char>) -> Result<(bool, &str), BadPattern> {
    let (negated, mut pattern) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut found = false;
    let mut count = 0;
    loop {
        if count > 0 && pattern.starts_with(']') {
            return Ok((found != negated, &pattern[1..]));
        }
        let (low, rest) = range_end(pattern)?;
        let (high, rest) = match rest.strip_prefix('-') {
            Some(rest) => range_end(rest)?,
            None => (low, rest),
        };
        found |= c.is_some_and(|c| low <= c && c <= high);
        pattern = rest;
        count += 1;
    }
}

fn range_end(pattern: &str) -> Result<(char, &str), BadPattern> {
    if pattern.starts_with(['-', ']']) {
        return Err(BadPattern);
    }
    let pattern = pattern.strip_prefix('\\').unwrap_or(pattern);
    let end = pattern.chars().next().ok_or(BadPattern)?;
    let rest = &pattern[end.len_utf8()..];
    if rest.is_empty() {
        Err(BadPattern)
    } else {
        Ok((end, rest))
    }
}
