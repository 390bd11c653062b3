//! Finds tabs at the start of a line that go-yaml refuses, and a parser of YAML 1.2 takes for blanks.
//!
//! go-yaml passes over a tab where no key can begin: within braces and brackets, within a scalar, and behind a plain
//! scalar that may go on, as long as the tab stands further in than the block. Anywhere else nothing can begin with it,
//! not even a comment or an empty line.

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};

/// A line that go-yaml refuses, from 1, and its words.
pub(super) struct Refused {
    pub(super) line: usize,
    pub(super) message: &'static str,
}

const NO_TOKEN: &str = "found character that cannot start any token";
const INDENTATION: &str = "found a tab character that violates indentation";

/// Returns the first line with such a tab. A text that the parser does not read has none: it is refused elsewhere.
pub(super) fn refused(text: &str, options: Options) -> Option<Refused> {
    let lines: Vec<&str> = text.split('\n').collect();
    let tabs: Vec<(usize, usize)> = lines.iter().enumerate().filter_map(leading_tab).collect();
    if tabs.is_empty() {
        return None;
    }
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut walk = Walk {
        lines: &lines,
        tabs: &tabs,
        next: 0,
        open: Vec::new(),
        before: Before::Nothing,
        until: None,
    };
    loop {
        let (event, span) = parser.next_event()?.ok()?;
        let (start, end) = (
            span.start.line().saturating_sub(1),
            span.end.line().saturating_sub(1),
        );
        if matches!(event, Event::StreamEnd) {
            return walk.gap(lines.len());
        }
        // The end of a block stands where the next thing begins.
        let is_end = matches!(event, Event::SequenceEnd | Event::MappingEnd);
        if let Some(found) = walk.gap(start) {
            return Some(found);
        }
        match event {
            Event::Scalar(_, style, ..) => {
                walk.skip_to(end + 1);
                walk.before = match style {
                    ScalarStyle::Plain if walk.ends_line(end, span.end.col()) => {
                        Before::Plain { ended: false }
                    }
                    _ => Before::Other,
                };
                walk.until = Some(end);
            }
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                let is_flow = style == StructureStyle::Flow;
                walk.open.push((!is_flow).then(|| span.start.col()));
                walk.before = Before::Other;
                walk.until = Some(start);
            }
            _ if is_end => {
                if let Some(None) = walk.open.pop() {
                    walk.before = Before::Other;
                    walk.until = Some(end);
                }
            }
            Event::StreamStart => {}
            _ => {
                walk.before = Before::Other;
                walk.until = Some(end);
            }
        }
    }
}

/// Returns the line and the column of a tab that only blanks precede, unless the line is ended by it and is the last.
fn leading_tab((at, line): (usize, &&str)) -> Option<(usize, usize)> {
    let blanks = line.bytes().take_while(|byte| *byte == b' ').count();
    (line.as_bytes().get(blanks) == Some(&b'\t')).then_some((at, blanks))
}

/// What stands before a line.
enum Before {
    /// The start of the text.
    Nothing,
    /// A plain scalar, which goes on unless a comment ended it.
    Plain {
        ended: bool,
    },
    Other,
}

struct Walk<'t> {
    lines: &'t [&'t str],
    tabs: &'t [(usize, usize)],
    next: usize,
    /// The column of each open block; none for braces and brackets.
    open: Vec<Option<usize>>,
    before: Before,
    /// The line where the last thing ended.
    until: Option<usize>,
}

impl Walk<'_> {
    /// Passes over tabs in lines before this one.
    fn skip_to(&mut self, line: usize) {
        while self.tabs.get(self.next).is_some_and(|(at, _)| *at < line) {
            self.next += 1;
        }
    }

    /// Judges the tabs up to the line on which the next thing begins.
    fn gap(&mut self, line: usize) -> Option<Refused> {
        while let Some((at, column)) = self.tabs.get(self.next).copied().filter(|(at, _)| *at <= line) {
            self.next += 1;
            if self.until.is_some_and(|until| at <= until) || self.open.iter().any(Option::is_none) {
                continue;
            }
            if let Some(message) = self.judge(at, column) {
                return Some(Refused {
                    line: at + 1,
                    message,
                });
            }
        }
        None
    }

    fn judge(&mut self, at: usize, column: usize) -> Option<&'static str> {
        let from = self.until.map_or(0, |until| until + 1);
        let is_comment = |line: &&str| line.trim_start_matches([' ', '\t']).starts_with('#');
        let Before::Plain { ended } = &mut self.before else {
            return Some(NO_TOKEN);
        };
        *ended |= self.lines[from..at].iter().any(is_comment);
        if *ended {
            return Some(NO_TOKEN);
        }
        self.until = at.checked_sub(1).max(self.until);
        let indent = self.open.iter().copied().flatten().max();
        indent
            .is_some_and(|indent| column <= indent)
            .then_some(INDENTATION)
    }

    /// Returns whether nothing but blanks stands behind a column of a line.
    fn ends_line(&self, line: usize, column: usize) -> bool {
        let rest = self.lines.get(line).map_or("", |line| line);
        rest.chars().skip(column).all(|c| matches!(c, ' ' | '\t' | '\r'))
    }
}

#[cfg(test)]
mod tests {
    use granit_parser::Options;

    use super::refused;

    #[test]
    fn tabs_are_refused_where_a_key_could_begin() {
        let cases = [
            ("\t# c\na: 1\n", Some(1)),
            ("a: 1\n\t\nb: 2\n", Some(2)),
            ("a: 1\n\t# c\nb: 2\n", Some(2)),
            ("a:\n  b: 1\n  \t\n  c: 2\n", Some(3)),
            ("a:\n  b: 1\n   \t\n  c: 2\n", None),
            ("a:\n\t\n  b: 1\n", Some(2)),
            ("a: 'x'\n \t\nb: 2\n", Some(2)),
            ("a: 1 # c\n  \t\nb: 2\n", Some(2)),
            ("a: 1\n# c\n  \t\nb: 2\n", Some(3)),
            ("a: [1,\n\t2]\nb: {c:\n\t3}\n", None),
            ("a: 'x\n\ty'\n", None),
            ("a: |\n  x\n  \ty\nb: 1\n", None),
            ("- a\n- b\n\t\n", Some(3)),
            ("a\n\tb\n", None),
            ("a: 1\n", None),
        ];
        for (text, want) in cases {
            let found = refused(text, Options::default()).map(|found| found.line);
            assert_eq!(found, want, "{text:?}");
        }
    }
}
