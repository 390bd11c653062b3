//! The last line of a text when no line break ends it.
//!
//! Our parser ends it with one where it belongs to a block scalar; for go-yaml there is none to keep.

use std::borrow::Cow;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::v1_1::block_header;

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

/// Returns the text so that a reader which ends its last line reads it as one that does not: a block scalar there is
/// told to keep no line break at its end.
pub(super) fn finished(text: Cow<'_, str>, options: Options) -> Cow<'_, str> {
    let Some(line) = Unfinished::of(&text).filter(|_| text.contains(['|', '>'])) else {
        return text;
    };
    let (mut read, mut header_behind) = (0, None);
    let mut parser = Parser::new_from_str_with_options(&text, options);
    while let Some(Ok((event, span))) = parser.next_event() {
        if let Event::Scalar(value, style, ..) = event {
            if line.chomped(&value, style, &span).len() < value.len() {
                header_behind = Some(read);
            }
            read = span.end.index();
        }
    }
    let chars: Vec<char> = text.chars().collect();
    let Some(header) = header_behind.and_then(|at| block_header(&chars, at)) else {
        return text;
    };
    let flags = chars[header + 1..]
        .iter()
        .take_while(|c| c.is_ascii_digit() || matches!(c, '+' | '-'));
    let length = flags.clone().count();
    let kept = flags.filter(|c| c.is_ascii_digit());
    let before = chars[..=header].iter().chain(kept);
    let after = std::iter::once(&'-').chain(&chars[header + 1 + length..]);
    Cow::Owned(before.chain(after).collect())
}
