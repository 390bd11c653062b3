//! What a folded scalar says once go-yaml v3 has written and read it, as kustomize makes it do.
//!
//! Its writer means to double a line break except before a line that begins with a blank, but looks at how the
//! whole text begins (`yaml_emitter_write_folded_scalar`): lines that are indented gain an empty one before them.

use super::parse::{Limits, parse_whole};
use crate::write::is_block_allowed;

/// Returns the text that is read again; none when it is the same.
pub(super) fn refolded(text: &str) -> Option<String> {
    let is_blank = |c: char| matches!(c, ' ' | '\t');
    let is_even = |line: &str| !line.starts_with(is_blank);
    if text.is_empty() || (text.lines().all(is_even) && !text.starts_with('\n') && !text.ends_with("\n\n")) {
        return None;
    }
    if !is_block_allowed(text) {
        return None;
    }
    let document = format!(
        "a: >{}\n{}",
        hints(text),
        written(text, text.starts_with(is_blank))
    );
    let read = parse_whole(&document, Limits::default()).ok()??;
    read.get("a").map(|node| node.text().to_string())
}

/// Writes the lines; the break before a line is doubled where the line before began with no blank, and the whole text
/// does not.
fn written(text: &str, begins_blank: bool) -> String {
    let mut out = String::new();
    let (mut in_breaks, mut leading_blank) = (true, true);
    for c in text.chars() {
        if c == '\n' {
            if !in_breaks && !leading_blank && !begins_blank {
                out.push('\n');
            }
            out.push('\n');
            in_breaks = true;
        } else {
            if in_breaks {
                out.push_str("  ");
                leading_blank = matches!(c, ' ' | '\t');
            }
            out.push(c);
            in_breaks = false;
        }
    }
    out
}

/// The header behind `>`, as `yaml_emitter_write_block_scalar_hints` writes it.
fn hints(text: &str) -> &'static str {
    let indent = text.starts_with([' ', '\n']);
    let chomping = if !text.ends_with('\n') {
        '-'
    } else if text == "\n" || text.ends_with("\n\n") {
        '+'
    } else {
        ' '
    };
    match (indent, chomping) {
        (false, '-') => "-",
        (false, '+') => "+",
        (false, _) => "",
        (true, '-') => "2-",
        (true, '+') => "2+",
        (true, _) => "2",
    }
}
