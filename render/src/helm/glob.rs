//! Patterns of `.Files.Glob`, as gobwas/glob reads them: `*` and `?` within a segment, `**` across segments, a class
//! that is one range or one list, alternatives in braces.

use flotilla_core::text::re2::Regex;

/// The most bytes of a pattern.
const MAX_PATTERN: usize = 4096;
/// The most bytes that a compiled pattern may take.
const MAX_COMPILED: usize = 1 << 20;
/// The most braces inside each other.
const MAX_NESTING: usize = 100;

/// Returns what matches the pattern; none for one that cannot be read.
///
/// # Errors
///
/// A pattern that is too long, or takes too much compiled.
pub(super) fn compile(pattern: &str) -> Result<Option<Regex>, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("pattern of files of more than {MAX_PATTERN} bytes"));
    }
    let Some(translated) = Parser::new(pattern).run() else {
        return Ok(None);
    };
    match Regex::compile_translated(&translated, MAX_COMPILED) {
        Err(error) if error.is_bound => Err(format!(
            "pattern of files that takes more than {MAX_COMPILED} bytes compiled"
        )),
        built => Ok(built.ok()),
    }
}

struct Parser<'p> {
    rest: std::iter::Peekable<std::str::Chars<'p>>,
    /// Open braces.
    depth: usize,
    /// Whether one character may be one outside of ASCII: the reference counts bytes where others stand beside it.
    wide: bool,
    out: String,
}

impl<'p> Parser<'p> {
    fn new(pattern: &'p str) -> Self {
        let alone = pattern.chars().count() == 1
            || (pattern.starts_with('[') && pattern.find(']') == Some(pattern.len() - 1));
        Self {
            rest: pattern.chars().peekable(),
            depth: 0,
            wide: alone || pattern.chars().all(|c| matches!(c, '?' | '*')),
            out: String::from("(?s)\\A"),
        }
    }

    fn run(mut self) -> Option<String> {
        while let Some(c) = self.rest.next() {
            match c {
                // The reference takes a zero for the end, and what it cannot decode for an error.
                '\0' => break,
                char::REPLACEMENT_CHARACTER => return None,
                '*' if self.rest.next_if_eq(&'*').is_some() => self.out.push_str(".*"),
                '*' => self.out.push_str("[^/]*"),
                '?' => self.one("^/"),
                '{' => {
                    self.depth += 1;
                    if self.depth > MAX_NESTING {
                        return None;
                    }
                    self.out.push_str("(?:");
                }
                '}' if self.depth > 0 => {
                    self.depth -= 1;
                    self.out.push(')');
                }
                ',' if self.depth > 0 => self.out.push('|'),
                '[' => self.class()?,
                '\\' => match self.rest.next() {
                    Some(c) => self.literal(c),
                    None => break,
                },
                c => self.literal(c),
            }
        }
        // Braces need no end.
        self.out.extend(std::iter::repeat_n(')', self.depth));
        self.out.push_str("\\z");
        Some(self.out)
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    /// Writes a class for one character.
    fn one(&mut self, class: &str) {
        self.out.push_str(if self.wide { "[" } else { "[\\x00-\\x7f&&[" });
        self.out.push_str(class);
        self.out.push_str(if self.wide { "]" } else { "]]" });
    }

    /// Reads a class behind its bracket: either a range or a list, and nothing else.
    fn class(&mut self) -> Option<()> {
        let mut class = String::new();
        if self.rest.next_if_eq(&'!').is_some() {
            class.push('^');
        }
        let first = self.rest.next()?;
        if self.rest.next_if_eq(&'-').is_some() {
            let (low, high) = (first, self.rest.next()?);
            self.rest.next_if_eq(&']')?;
            if high < low || low == '\0' || high == '\0' {
                return None;
            }
            class.push_str(&format!(
                "\\x{{{:x}}}-\\x{{{:x}}}",
                u32::from(low),
                u32::from(high)
            ));
        } else {
            let listed = self.listed(first)?;
            listed
                .into_iter()
                .for_each(|c| class.push_str(&format!("\\x{{{:x}}}", u32::from(c))));
        }
        self.one(&class);
        Some(())
    }

    /// Reads the characters of a list, which has at least one, and its bracket.
    fn listed(&mut self, first: char) -> Option<Vec<char>> {
        let mut found = Vec::new();
        let mut next = first;
        loop {
            match next {
                ']' if found.is_empty() => return None,
                ']' => return Some(found),
                '\0' | char::REPLACEMENT_CHARACTER => return None,
                '\\' => found.push(self.rest.next()?),
                c => found.push(c),
            }
            next = self.rest.next()?;
        }
    }
}
