//! In which styles a text may be written: what it means, and what its characters allow.

use crate::Version;
use crate::resolve::{Resolved, is_base60, resolve};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    Literal,
    Folded,
}

impl Style {
    /// Returns the style for what the text means, whatever its characters allow.
    pub(crate) fn wanted(text: &str) -> Style {
        if text.contains('\n') {
            Style::Literal
        } else if resolve(text, Version::V2) == Resolved::Text && !is_base60(text) {
            Style::Plain
        } else {
            Style::Double
        }
    }

    pub(crate) fn possible(self, shape: &Shape, key: bool) -> Style {
        let mut style = self;
        if key && shape.multiline {
            style = Style::Double;
        }
        if style == Style::Plain && !shape.plain {
            style = Style::Single;
        }
        if style == Style::Single && !shape.single {
            style = Style::Double;
        }
        if matches!(style, Style::Literal | Style::Folded) && (!shape.block || key) {
            style = Style::Double;
        }
        style
    }
}

/// What a text's characters allow.
pub(crate) struct Shape {
    pub(crate) multiline: bool,
    pub(crate) plain: bool,
    pub(crate) single: bool,
    pub(crate) block: bool,
    /// It holds tabs, which the reference writes as they are in blocks only, and its second version nowhere.
    pub(crate) tabs: bool,
    /// Neither blanks nor breaks nor anything beyond ASCII: no folding, and bytes are columns.
    pub(crate) simple: bool,
}

impl Shape {
    pub(crate) fn of(text: &str) -> Shape {
        let mut shape = Shape {
            multiline: false,
            plain: true,
            single: true,
            block: true,
            tabs: false,
            simple: true,
        };
        if text.is_empty() {
            return Shape {
                block: false,
                ..shape
            };
        }
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut after_space, mut after_break, mut after_blank) = (false, false, true);
        let (mut edge, mut special, mut trailing_space, mut break_space, mut space_break) =
            (false, false, false, false, false);
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let (first, next) = (at == 0, at + c.len_utf8());
            let last = next == bytes.len();
            let blank_follows = last || matches!(bytes[next], b' ' | b'\t');
            indicators |= if first {
                opens(c, blank_follows)
            } else {
                interrupts(c, blank_follows, after_blank)
            };
            shape.tabs |= c == '\t';
            special |= c != '\t' && !is_printable(c);
            shape.simple &= c.is_ascii() && c != ' ';
            if c == ' ' {
                edge |= first || last;
                trailing_space |= last;
                break_space |= after_break;
                (after_space, after_break) = (true, false);
            } else if is_break(c) {
                shape.multiline = true;
                edge |= first || last;
                space_break |= after_space;
                (after_space, after_break) = (false, true);
            } else {
                (after_space, after_break) = (false, false);
            }
            after_blank = matches!(c, ' ' | '\t' | '\0') || is_break(c);
            // What says nothing of the style unless it comes first is passed over at once.
            let ordinary = bytes[next..]
                .iter()
                .take_while(|byte| is_ordinary(**byte))
                .count();
            if ordinary > 0 {
                (after_space, after_break, after_blank) = (false, false, false);
            }
            at = next + ordinary;
        }
        let escaped = special || shape.tabs;
        shape.plain = !(edge || break_space || space_break || escaped || shape.multiline || indicators);
        shape.single = !(break_space || space_break || escaped);
        shape.block = !(trailing_space || space_break || special);
        shape
    }
}

/// Returns whether a character says nothing of the style unless it comes first.
fn is_ordinary(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b':')
}

fn opens(c: char, blank_follows: bool) -> bool {
    match c {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            true
        }
        '?' | ':' | '-' => blank_follows,
        _ => false,
    }
}

fn interrupts(c: char, blank_follows: bool, after_blank: bool) -> bool {
    match c {
        ':' => blank_follows,
        '#' => after_blank,
        _ => false,
    }
}

pub(crate) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Returns whether the reference writes `c` as it is; it escapes everything beyond 16 bits.
pub(crate) fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}
