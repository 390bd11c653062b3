//! Text of others, fit for a log, a table and a terminal: what would move a cursor, begin a line or hide what follows is
//! shown as an escape.

/// Returns `text` with its control characters as `escape` writes them, those that reorder text among them. Line breaks
/// and tabs stay where `lines` are wanted.
fn escaped(text: &str, lines: bool, escape: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if lines => out.push(c),
            c if c.is_control() || is_bidi(c) => escape(c, &mut out),
            c => out.push(c),
        }
    }
    out
}

fn in_braces(c: char, out: &mut String) {
    out.extend(c.escape_default());
}

/// One line of somebody else's text.
pub fn printable(text: &str) -> String {
    escaped(text, false, in_braces)
}

/// Somebody else's text of several lines.
pub fn printable_lines(text: &str) -> String {
    escaped(text, true, in_braces)
}

/// Somebody else's message of several lines, of at most `max` bytes (64 or more): what is longer is cut, and told by its
/// length. A message that was made so is left as it is.
pub fn printable_message(text: &str, max: usize) -> String {
    // Escapes make a text longer, never shorter: what is behind the bound is not looked at.
    let head = &text[..text.floor_char_boundary(max + 1)];
    let mut message = printable_lines(head);
    if head.len() == text.len() && message.len() <= max {
        return message;
    }
    let tail = format!("… ({} bytes)", text.len());
    message.truncate(message.floor_char_boundary(max - tail.len()));
    message + &tail
}

/// JSON or YAML of somebody else's text: what is left of such characters in it, as escapes that both take within quotes.
pub fn printable_document(text: &str) -> String {
    escaped(text, true, |c, out| {
        out.push_str(&format!("\\u{:04x}", u32::from(c)))
    })
}

/// Characters that turn the direction of what follows, and line separators.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_and_tells_its_length() {
        assert_eq!(printable_message("a\0", 64), "a\\u{0}");
        let long = "ä\u{1b}".repeat(1000);
        let cut = printable_message(&long, 100);
        assert!(cut.len() <= 100 && cut.ends_with("… (3000 bytes)"), "{cut}");
        assert!(cut.starts_with("ä\\u{1b}ä"), "{cut}");
        assert_eq!(printable_message(&cut, 100), cut);
        let whole = "x".repeat(100);
        assert_eq!(printable_message(&whole, 100), whole);
    }

    #[test]
    fn escape_sequences_and_line_breaks_are_shown_and_not_obeyed() {
        assert_eq!(
            printable("evil \u{1b}[2J\u{7}\r\n9 ERROR"),
            r"evil \u{1b}[2J\u{7}\r\n9 ERROR"
        );
        assert_eq!(printable("\u{9b}2J \u{202e}txt.exe"), r"\u{9b}2J \u{202e}txt.exe");
        assert_eq!(printable("Grüße, 世界 ✔"), "Grüße, 世界 ✔");
        assert_eq!(
            printable_document("{\n\"a\": \"\u{9b}2J\u{202e}\"}"),
            "{\n\"a\": \"\\u009b2J\\u202e\"}"
        );
        assert_eq!(printable_lines("a\n\tb\u{1b}c\0"), "a\n\tb\\u{1b}c\\u{0}");
    }
}
