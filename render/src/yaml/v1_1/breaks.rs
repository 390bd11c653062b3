//! The line breaks that only YAML 1.1 knows: U+0085, U+2028 and U+2029.
//!
//! There they end a line (section 4.1.4): a next line is a break like `\n`, and the two separators end a line as well
//! but stay in the scalar they stand in. In YAML 1.2 they are characters like any other.

use std::borrow::Cow;

use granit_parser::{Event, Options, Parser, ScalarStyle};

use super::block;
use super::lenient::{beyond, mended};

const LINE_SEPARATOR: char = '\u{2028}';
const PARAGRAPH_SEPARATOR: char = '\u{2029}';

/// A separator where we cannot say in YAML 1.2 what YAML 1.1 reads; the user writes it as an escape.
#[derive(Debug)]
pub(in super::super) struct Unclear {
    /// The line its scalar begins in, from 1.
    pub(in super::super) line: usize,
    /// What to do about it.
    pub(in super::super) message: String,
}

/// Returns the text with the same meaning and no line breaks but those of YAML 1.2.
///
/// A text that is no YAML comes back with its breaks made even, for the caller's parser to say so.
pub(in super::super) fn unified(text: &str, options: Options) -> Result<Cow<'_, str>, Unclear> {
    if text.is_ascii() || !text.contains(is_late) {
        return Ok(Cow::Borrowed(text));
    }
    let text = mended(text, &options).map_or(Cow::Borrowed(text), Cow::Owned);
    let chars: Vec<char> = text.chars().collect();
    let even = even(&chars);
    let even_text: String = even.iter().collect();
    if !chars.iter().copied().any(is_separator) {
        return Ok(Cow::Owned(even_text));
    }
    let mut out = String::with_capacity(text.len());
    let indent_beyond = beyond(&even);
    // How far `out` has come, and how far the events have.
    let (mut from, mut read) = (0, 0);
    let mut parser = Parser::new_from_str_with_options(&even_text, options);
    while let Some(Ok((event, span))) = parser.next_event() {
        let Event::Scalar(value, style, ..) = event else {
            continue;
        };
        let after = read;
        read = span.end.index();
        let in_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        // Without lines of its own a block scalar's span tells of what follows.
        let indent = if value.contains(|c| c != '\n') {
            span.start.col()
        } else {
            usize::MAX
        };
        let found = if in_block {
            block::range(&even, after, indent)
        } else {
            let white = even[..read].iter().rev().take_while(|c| is_white(**c));
            span.start.index()..read - white.count()
        };
        let Some(scalar) = chars.get(found.clone()).filter(|_| found.start >= from) else {
            continue;
        };
        // What is refused behind it stays as it is, to be refused again: a key of two lines is none.
        if !scalar.iter().copied().any(is_separator) || matches!(parser.peek(), Some(Err(_))) {
            continue;
        }
        out.extend(&even[from..found.start]);
        if in_block {
            if value.contains(|c| c != '\n') && !value.contains(|c| !is_white(c)) {
                return Err(unclear(&even[..found.start], scalar));
            }
            block::quoted(scalar, indent, &mut out);
        } else {
            let flow = Flow {
                scalar,
                even: &even[found.clone()],
                indent: indent_beyond,
            };
            flow.write(style, &mut out)
                .ok_or_else(|| unclear(&even[..found.start], scalar))?;
        }
        from = found.end;
        read = read.max(from);
    }
    out.extend(&even[from..]);
    Ok(Cow::Owned(out))
}

/// As [`even`], of a whole text.
pub(super) fn even_text(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(is_late) {
        return Cow::Borrowed(text);
    }
    let chars: Vec<char> = text.chars().collect();
    Cow::Owned(even(&chars).into_iter().collect())
}

/// Makes every break of YAML 1.1 one of YAML 1.2, character for character.
fn even(chars: &[char]) -> Vec<char> {
    let mut even = Vec::with_capacity(chars.len());
    for &c in chars {
        if is_late(c) {
            // Else the two would be one break.
            if even.last() == Some(&'\r') {
                even.pop();
                even.push('\n');
            }
            even.push('\n');
        } else {
            even.push(c);
        }
    }
    even
}

/// A plain or quoted scalar with separators in it.
struct Flow<'a> {
    scalar: &'a [char],
    /// The same with even breaks.
    even: &'a [char],
    /// Where a line of it may begin.
    indent: usize,
}

impl Flow<'_> {
    /// Writes it so that folding its lines leaves the separators where YAML 1.1 leaves them; none for a separator that
    /// is escaped.
    fn write(&self, style: ScalarStyle, out: &mut String) -> Option<()> {
        let mut at = 0;
        while at < self.scalar.len() {
            let length = self.scalar[at..].iter().take_while(|c| is_white(**c)).count();
            let run = &self.scalar[at..at + length];
            if run.iter().copied().any(is_separator) {
                let slashes = self.scalar[..at].iter().rev().take_while(|c| **c == '\\').count();
                if style == ScalarStyle::DoubleQuoted && slashes % 2 == 1 {
                    return None;
                }
                self.fold(run, out);
            } else {
                out.extend(&self.even[at..at + length]);
            }
            at += length;
            if let Some(c) = self.scalar.get(at) {
                out.push(*c);
                at += 1;
            }
        }
        Some(())
    }

    /// Writes blanks and breaks between two words, a separator among them.
    fn fold(&self, run: &[char], out: &mut String) {
        let mut breaks = Vec::new();
        for (i, &c) in run.iter().enumerate() {
            match c {
                ' ' | '\t' => {}
                '\n' if i > 0 && run[i - 1] == '\r' => {}
                c if is_separator(c) => breaks.push(c),
                _ => breaks.push('\n'),
            }
        }
        // The first break folds to nothing when others follow, unless it is a separator, which stays.
        let kept = &breaks[usize::from(breaks[0] == '\n')..];
        let mut before = None;
        for (i, &c) in kept.iter().enumerate() {
            if c == '\n' {
                // So many breaks fold to one less.
                out.push_str(if before == Some('\n') { "\n" } else { "\n\n" });
                if kept.get(i + 1) != Some(&'\n') {
                    out.extend(std::iter::repeat_n(' ', self.indent));
                }
            } else {
                out.push(c);
            }
            before = Some(c);
        }
    }
}

fn unclear(before: &[char], scalar: &[char]) -> Unclear {
    let paragraph = scalar.iter().find(|c| is_separator(**c)) == Some(&PARAGRAPH_SEPARATOR);
    let (code, escape) = if paragraph { ("2029", 'P') } else { ("2028", 'L') };
    Unclear {
        line: before.iter().filter(|c| **c == '\n').count() + 1,
        message: format!("U+{code} ends a line in this text; write it as \\{escape} within double quotes"),
    }
}

pub(super) fn is_separator(c: char) -> bool {
    matches!(c, LINE_SEPARATOR | PARAGRAPH_SEPARATOR)
}

/// A line break of YAML 1.1 only.
fn is_late(c: char) -> bool {
    c == '\u{85}' || is_separator(c)
}

pub(super) fn is_white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r') || is_late(c)
}
