//! Quoted scalars that YAML 1.2 refuses and go-yaml takes.
//!
//! Their lines may be indented less than the map or list they stand in, or by tabs (production 69,
//! `s-flow-line-prefix`): go-yaml does not look at the indentation within quotes at all, and blanks at the start of a
//! line are no content there. And `\\'` is an escape like `\\"`.

use granit_parser::{ErrorKind, Options, Parser};

use super::breaks::{even_text, is_separator, is_white};

/// How many places are mended before the text is given up.
const MAX_PLACES: usize = 64;
/// How far in a map or list may stand for its lines to be mended.
const MAX_COLUMN: usize = 1_000;
/// How many bytes are parsed for it, since every place takes a pass over the text.
const MAX_BYTES: usize = 16 << 20;

/// Returns a text that was made one of YAML 1.2 as that takes it, as far as this is the reason for its refusal; none
/// when there is nothing to mend.
pub(in super::super) fn lenient(text: &str, options: &Options) -> Option<String> {
    // Separators that are left are characters, and their lines are mended already.
    if text.contains(is_separator) {
        return None;
    }
    mended(text, options)
}

/// As [`lenient`], of a text with the line breaks of YAML 1.1.
pub(super) fn mended(text: &str, options: &Options) -> Option<String> {
    let mut current: Option<String> = None;
    for _ in 0..MAX_PLACES.min(MAX_BYTES / (text.len() + 1)) {
        let source = current.as_deref().unwrap_or(text);
        let Some(next) = mend_first(source, options) else {
            break;
        };
        current = Some(next);
    }
    current
}

/// Mends what the parser stops at.
fn mend_first(text: &str, options: &Options) -> Option<String> {
    let even = even_text(text);
    let mut parser = Parser::new_from_str_with_options(&even, options.clone());
    let error = loop {
        match parser.next_event()? {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let at: usize = text
        .chars()
        .take(error.marker().index())
        .map(char::len_utf8)
        .sum();
    match error.kind() {
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::TabInIndentation => indent_line(text, at),
        ErrorKind::UnknownQuotedScalarEscape => unescape(text, at),
        _ => None,
    }
}

fn indent_line(text: &str, at: usize) -> Option<String> {
    let is_break = |c| is_white(c) && !matches!(c, ' ' | '\t');
    let start = text[..at]
        .rfind(is_break)
        .map_or(0, |at| text.ceil_char_boundary(at + 1));
    let content = start + text[start..].find(|c| !matches!(c, ' ' | '\t'))?;
    // At the start of a line these end the document, within quotes too.
    if text[start..].starts_with("---") || text[start..].starts_with("...") {
        return None;
    }
    let before: Vec<char> = text[..start].chars().collect();
    let wanted = beyond(&before);
    if text[start..content].len() >= wanted && !text[start..content].contains('\t') {
        return None;
    }
    Some([&text[..start], &" ".repeat(wanted), &text[content..]].concat())
}

/// Returns a column that no map or list of these lines is indented as much as, unless it is further in than any that
/// is of use: blanks that are put in are paid for by every line.
pub(super) fn beyond(lines: &[char]) -> usize {
    let is_mark = |c: &&char| matches!(c, ' ' | '\t' | '-' | '?' | ':');
    let column = |line: &[char]| line.iter().take_while(is_mark).count();
    let lines = lines.split(|c| is_white(*c) && !matches!(c, ' ' | '\t'));
    1 + lines.map(column).max().unwrap_or(0).min(MAX_COLUMN)
}

/// Takes the first `\\'` of the double-quoted scalar that starts there for what it means.
fn unescape(text: &str, start: usize) -> Option<String> {
    let mut at = start + 1;
    loop {
        match text.as_bytes().get(at..)? {
            [b'\\', b'\'', ..] => return Some([&text[..at], &text[at + 1..]].concat()),
            [b'\\', ..] => at += 2,
            [b'"', ..] | [] => return None,
            _ => at += 1,
        }
    }
}
