//! Block scalars with separators among their line breaks, written as double-quoted ones.
//!
//! The lines are put together as go-yaml does in `yaml_parser_scan_block_scalar`: a separator is never folded, and
//! chomping takes it for the line break it is.

use std::fmt::Write as _;
use std::ops::Range;

use super::breaks::{is_separator, is_white};

/// Returns where a block scalar stands: from its header, which is searched behind `after`, to its last line, blank ones
/// included. An empty range tells that it was not found.
pub(super) fn range(even: &[char], after: usize, indent: usize) -> Range<usize> {
    let Some(start) = header(even, after) else {
        return after..after;
    };
    let mut at = start + line(&even[start..]);
    while at < even.len() {
        let line = &even[at..at + line(&even[at..])];
        if spaces(line) < indent && !line.iter().copied().all(is_white) {
            break;
        }
        at += line.len();
    }
    start..at
}

/// Returns where the next block scalar's header begins; between a node and the next stand only marks, tags, anchors
/// and comments.
pub(in super::super) fn header(even: &[char], after: usize) -> Option<usize> {
    let mut at = after;
    loop {
        let before = at.checked_sub(1).and_then(|at| even.get(at));
        let begins = before.is_none_or(|c| is_white(*c));
        match even.get(at)? {
            '|' | '>' if begins => return Some(at),
            '#' if begins => at += line(&even[at..]),
            _ => at += 1,
        }
    }
}

/// Writes the scalar with its header in double quotes; its lines are indented by so much.
pub(super) fn quoted(scalar: &[char], indent: usize, out: &mut String) {
    let header = line(scalar);
    let (is_literal, chomping) = (scalar[0] == '|', chomping(&scalar[1..header]));
    let (mut text, mut last_break, mut blank_lines) = (String::new(), None, String::new());
    let mut last_is_indented = false;
    let mut rest = &scalar[header..];
    while !rest.is_empty() {
        let (line, after) = rest.split_at(line(rest));
        rest = after;
        let content = &line[spaces(line).min(indent)..];
        let (content, ended_by) = split_break(content);
        if content.is_empty() {
            blank_lines.extend(ended_by);
            continue;
        }
        let is_indented = content[0] == ' ' || content[0] == '\t';
        if !is_literal && last_break == Some('\n') && !last_is_indented && !is_indented {
            if blank_lines.is_empty() {
                text.push(' ');
            }
        } else {
            text.extend(last_break);
        }
        text.push_str(&blank_lines);
        blank_lines.clear();
        text.extend(content);
        (last_break, last_is_indented) = (ended_by, is_indented);
    }
    if chomping != Some('-') {
        text.extend(last_break);
    }
    if chomping == Some('+') {
        text.push_str(&blank_lines);
    }
    write_quoted(&text, out);
    if scalar.last().is_some_and(|c| is_white(*c)) {
        out.push('\n');
    }
}

fn chomping(header: &[char]) -> Option<char> {
    let flags = header.iter().take_while(|c| !is_white(**c));
    flags.copied().find(|c| matches!(c, '+' | '-'))
}

/// Returns the length of the first line with its break.
fn line(text: &[char]) -> usize {
    let content = text.iter().take_while(|c| !is_break(**c)).count();
    match &text[content..] {
        ['\r', '\n', ..] => content + 2,
        [] => content,
        _ => content + 1,
    }
}

/// Parts a line from its break, which is a separator or counts as `\n`.
fn split_break(line: &[char]) -> (&[char], Option<char>) {
    let content = line.iter().take_while(|c| !is_break(**c)).count();
    let ended_by = line
        .get(content)
        .map(|c| if is_separator(*c) { *c } else { '\n' });
    (&line[..content], ended_by)
}

fn is_break(c: char) -> bool {
    is_white(c) && !matches!(c, ' ' | '\t')
}

fn spaces(line: &[char]) -> usize {
    line.iter().take_while(|c| **c == ' ').count()
}

fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_white(c) && c != ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
