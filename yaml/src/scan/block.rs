//! Scans literal and folded scalars.

use super::text::Cursor;
use super::{ScanError, Style};

/// What becomes of the line breaks at the end.
#[derive(Clone, Copy, PartialEq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

/// Scans the scalar whose header begins here, in a block of that indentation.
pub(super) fn scan(
    cursor: &mut Cursor<'_>,
    style: Style,
    parent: Option<usize>,
) -> Result<String, ScanError> {
    cursor.skip_ascii(1);
    let (chomping, increment) = header(cursor)?;
    if !cursor.skip_line_end() {
        return Err(error(cursor, "did not find expected comment or line break"));
    }
    cursor.skip_break();
    let mut indent = increment.map(|increment| parent.unwrap_or(0) + increment);
    let mut text = String::new();
    let (mut last_break, mut breaks) = (None, String::new());
    skip_breaks(cursor, &mut indent, parent, &mut breaks)?;
    let mut was_indented = false;
    while Some(cursor.mark.column) == indent && !cursor.is_end(0) {
        let is_indented = cursor.is_blank(0);
        if style == Style::Folded && last_break == Some('\n') && !was_indented && !is_indented {
            if breaks.is_empty() {
                text.push(' ');
            }
        } else {
            text.extend(last_break);
        }
        text.push_str(&breaks);
        breaks.clear();
        was_indented = is_indented;
        let from = cursor.place();
        cursor.skip_to_break();
        text.push_str(cursor.since(from));
        // The end of the text is no line break.
        last_break = cursor.take_break();
        skip_breaks(cursor, &mut indent, parent, &mut breaks)?;
    }
    if chomping != Chomping::Strip {
        text.extend(last_break);
    }
    if chomping == Chomping::Keep {
        text.push_str(&breaks);
    }
    Ok(text)
}

/// Reads what stands behind `|` or `>`: chomping and indentation, in either order.
fn header(cursor: &mut Cursor<'_>) -> Result<(Chomping, Option<usize>), ScanError> {
    let before = chomping(cursor);
    let increment = increment(cursor)?;
    let chomping = before.or_else(|| increment.and_then(|_| chomping(cursor)));
    Ok((chomping.unwrap_or(Chomping::Clip), increment))
}

fn chomping(cursor: &mut Cursor<'_>) -> Option<Chomping> {
    let chomping = match cursor.byte(0) {
        b'+' => Chomping::Keep,
        b'-' => Chomping::Strip,
        _ => return None,
    };
    cursor.skip_ascii(1);
    Some(chomping)
}

fn increment(cursor: &mut Cursor<'_>) -> Result<Option<usize>, ScanError> {
    let digit = match cursor.byte(0) {
        b'0' => return Err(error(cursor, "found an indentation indicator equal to 0")),
        digit @ b'1'..=b'9' => digit,
        _ => return Ok(None),
    };
    cursor.skip_ascii(1);
    Ok(Some(usize::from(digit - b'0')))
}

/// Goes on over indentation and empty lines; where the indentation is not known, they tell it.
fn skip_breaks(
    cursor: &mut Cursor<'_>,
    indent: &mut Option<usize>,
    parent: Option<usize>,
    breaks: &mut String,
) -> Result<(), ScanError> {
    let mut widest = 0;
    loop {
        let is_short = |column: usize| indent.is_none_or(|indent| column < indent);
        while is_short(cursor.mark.column) && cursor.byte(0) == b' ' {
            cursor.skip_ascii(1);
        }
        widest = widest.max(cursor.mark.column);
        if is_short(cursor.mark.column) && cursor.byte(0) == b'\t' {
            return Err(error(
                cursor,
                "found a tab character where an indentation space is expected",
            ));
        }
        match cursor.take_break() {
            Some(read) => breaks.push(read),
            None => break,
        }
    }
    if indent.is_none() {
        let least = parent.map_or(1, |parent| parent + 1);
        *indent = Some(widest.max(least));
    }
    Ok(())
}

fn error(cursor: &Cursor<'_>, message: &'static str) -> ScanError {
    ScanError {
        line: cursor.mark.line,
        message,
    }
}
