//! What becomes of texts that the reference writes as JSON and reads back as YAML.

use std::borrow::Cow;

use super::WriteError;

/// A reader looks so many bytes ahead for the colon after a key, the quotes included.
const MAX_READABLE_KEY: usize = 1024;

/// Tells whether a key is found when its JSON is read as YAML.
pub(super) fn is_readable_key(key: &str) -> bool {
    json_length(key) <= MAX_READABLE_KEY && !key.contains('\u{85}')
}

/// Returns the text as a YAML reader gets it out of a JSON string: a raw next-line character is a line break
/// there, which folds.
pub(super) fn readable(text: &str) -> Result<Cow<'_, str>, WriteError> {
    if text.is_ascii() {
        return match text.contains('\x7f') {
            true => Err(WriteError::ControlCharacter),
            false => Ok(text.into()),
        };
    }
    if text.contains(|c| matches!(c, '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')) {
        return Err(WriteError::ControlCharacter);
    }
    if !text.contains('\u{85}') {
        return Ok(text.into());
    }
    Ok(fold(text).into())
}

fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut lines = text.split('\u{85}').peekable();
    let mut empty = 0;
    let mut first = true;
    while let Some(line) = lines.next() {
        // Blanks next to a break go with it; a tab is written as an escape and stays.
        let mut line = if first { line } else { line.trim_start_matches(' ') };
        if lines.peek().is_some() {
            line = line.trim_end_matches(' ');
        }
        if !first {
            if line.is_empty() && lines.peek().is_some() {
                empty += 1;
                continue;
            }
            match empty {
                0 => folded.push(' '),
                count => folded.extend(std::iter::repeat_n('\n', count)),
            }
            empty = 0;
        }
        folded.push_str(line);
        first = false;
    }
    folded
}

/// Returns how many characters the key takes as a JSON string.
fn json_length(key: &str) -> usize {
    2 + key
        .chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
            _ => 1,
        })
        .sum::<usize>()
}
