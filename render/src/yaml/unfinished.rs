//! The last line of a text when no line break ends it.
//!
//! Our parser ends it with one where it belongs to a block scalar; for go-yaml there is none to keep.

use granit_parser::{ScalarStyle, Span};

/// A line that the end of the input ends.
pub(super) struct Unfinished {
    /// Where it starts, in characters.
    from: usize,
    /// How many spaces it begins with.
    spaces: usize,
    /// Whether it is nothing else.
    is_blank: bool,
}

impl Unfinished {
    /// Returns the last line of a text; none when a line break ends it.
    pub(super) fn of(text: &str) -> Option<Unfinished> {
        let from = text.rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line = &text[from..];
        let spaces = line.len() - line.trim_start_matches(' ').len();
        (!line.is_empty()).then(|| Unfinished {
            from: text[..from].chars().count(),
            spaces,
            is_blank: spaces == line.len(),
        })
    }

    /// Returns what of a scalar's text stands in the input: without the line break, if the line is of this scalar.
    pub(super) fn chomped<'t>(&self, text: &'t str, style: ScalarStyle, span: &Span) -> &'t str {
        let in_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        // Where nothing but line breaks is read, the span tells of what follows.
        let has_lines = text.contains(|c| c != '\n');
        if in_block && has_lines && self.is_of(span) {
            text.strip_suffix('\n').unwrap_or(text)
        } else {
            text
        }
    }

    /// Returns whether it is a line of the block scalar there, and not a comment behind it.
    fn is_of(&self, scalar: &Span) -> bool {
        let indent = scalar.start.col();
        let inside = if self.is_blank {
            self.spaces > indent
        } else {
            self.spaces >= indent
        };
        inside && scalar.end.index() > self.from
    }
}
