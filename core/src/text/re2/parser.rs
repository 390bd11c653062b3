//! Reads an expression from left to right, a part at a time.

use super::{
    Groups, MAX_NESTING, MAX_PATTERN, NOTHING, SyntaxError, Translated, beyond, classes, fault, push_char,
};

/// The largest count of a repetition, those inside it multiplied.
const MAX_REPEAT: i64 = 1000;

/// Flags that hold from where they are set to the end of the group.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) fold: bool,
    multi_line: bool,
    dot_all: bool,
    lazy: bool,
}

/// A counted repetition, and those inside it.
struct Repeat {
    count: i64,
    inside: Vec<Repeat>,
}

impl Repeat {
    /// Returns whether it makes no more than so many copies of what is innermost.
    fn is_within(&self, most: i64) -> bool {
        match self.count {
            0 => true,
            count if count > most => false,
            count => self.inside.iter().all(|one| one.is_within(most / count.max(1))),
        }
    }
}

/// What a repetition behind it repeats.
#[derive(Default)]
struct Atom {
    text: String,
    repeats: Vec<Repeat>,
}

/// A group that is not closed yet, or the whole expression.
#[derive(Default)]
struct Group {
    opening: &'static str,
    /// The flags to return to.
    outside: Flags,
    /// The alternatives that are done, each with a bar behind it.
    done: String,
    repeats: Vec<Repeat>,
    /// The parts of the alternative that is being read.
    atoms: Vec<Atom>,
}

impl Group {
    fn end_alternative(&mut self) {
        for mut atom in self.atoms.drain(..) {
            self.done.push_str(&atom.text);
            self.repeats.append(&mut atom.repeats);
        }
    }
}

pub(super) struct Parser<'p> {
    whole: &'p str,
    rest: &'p str,
    /// What a group with a number is opened by.
    group: &'static str,
    flags: Flags,
    groups: Vec<Group>,
    names: Vec<Option<String>>,
}

type Outcome<T> = Result<T, SyntaxError>;

impl<'p> Parser<'p> {
    pub(super) fn new(whole: &'p str, groups: Groups) -> Self {
        Self {
            whole,
            rest: whole,
            group: match groups {
                Groups::Captured => "(",
                Groups::Uncaptured => "(?:",
            },
            flags: Flags::default(),
            groups: vec![Group::default()],
            names: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Outcome<Translated> {
        if self.whole.len() > MAX_PATTERN {
            return beyond("expression too large", self.whole);
        }
        // The repetition just read, which none may follow.
        let mut last_repeat = None;
        while let Some(first) = self.rest.chars().next() {
            let before = self.rest;
            let repeated = match first {
                '*' | '+' | '?' => {
                    self.rest = &before[1..];
                    self.repeat(before, last_repeat, (first, None))?;
                    true
                }
                '{' => match count(before) {
                    Some((least, most, after)) => {
                        self.rest = after;
                        self.counted(before, last_repeat, least, most)?;
                        true
                    }
                    None => {
                        self.rest = &before[1..];
                        self.literal(u32::from('{'));
                        false
                    }
                },
                _ => {
                    self.part(first)?;
                    false
                }
            };
            last_repeat = repeated.then_some(before);
        }
        match self.groups.pop() {
            Some(mut root) if self.groups.is_empty() => {
                root.end_alternative();
                Ok(Translated {
                    pattern: root.done,
                    names: self.names,
                })
            }
            _ => fault("missing closing )", self.whole),
        }
    }

    /// Reads anything but a repetition.
    fn part(&mut self, first: char) -> Outcome<()> {
        let after = &self.rest[first.len_utf8()..];
        match first {
            '(' if after.starts_with('?') => return self.flagged(),
            '(' => {
                self.rest = after;
                self.names.push(None);
                return self.open(self.group);
            }
            ')' => return self.close(),
            '|' => {
                if let Some(group) = self.groups.last_mut() {
                    group.end_alternative();
                    group.done.push('|');
                }
            }
            '^' => self.push(if self.flags.multi_line { "(?m:^)" } else { "^" }),
            '$' => self.push(if self.flags.multi_line { "(?m:$)" } else { "$" }),
            '.' => self.push(if self.flags.dot_all { "(?s:.)" } else { "[^\\n]" }),
            '[' => {
                let (class, rest) = classes::class(self.rest, self.flags.fold)?;
                self.push_text(class);
                self.rest = rest;
                return Ok(());
            }
            '\\' => return self.escape(),
            c => self.literal(u32::from(c)),
        }
        self.rest = after;
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.push_text(text.to_owned());
    }

    fn push_text(&mut self, text: String) {
        if let Some(group) = self.groups.last_mut() {
            let repeats = Vec::new();
            group.atoms.push(Atom { text, repeats });
        }
    }

    fn literal(&mut self, c: u32) {
        let mut text = String::new();
        match char::from_u32(c) {
            None => text.push_str(NOTHING),
            Some(c) if self.flags.fold && (c.is_alphabetic() || !c.is_ascii()) => {
                text.push_str("(?i:");
                text.push(c);
                text.push(')');
            }
            Some(_) => push_char(c, &mut text),
        }
        self.push_text(text);
    }

    fn open(&mut self, opening: &'static str) -> Outcome<()> {
        if self.groups.len() > MAX_NESTING as usize {
            return beyond("expression nests too deeply", self.whole);
        }
        self.groups.push(Group {
            opening,
            outside: self.flags,
            ..Group::default()
        });
        Ok(())
    }

    fn close(&mut self) -> Outcome<()> {
        if self.groups.len() < 2 {
            return fault("unexpected )", self.whole);
        }
        if let Some(mut group) = self.groups.pop() {
            group.end_alternative();
            self.flags = group.outside;
            let atom = Atom {
                text: format!("{}{})", group.opening, group.done),
                repeats: group.repeats,
            };
            if let Some(outer) = self.groups.last_mut() {
                outer.atoms.push(atom);
            }
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// Reads what begins with `(?`: a name, flags, or a group that counts for none.
    fn flagged(&mut self) -> Outcome<()> {
        let start = self.rest;
        let named = start.strip_prefix("(?P<").or_else(|| start.strip_prefix("(?<"));
        if let Some(name) = named.filter(|name| !name.is_empty()) {
            return self.named(start, name);
        }
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        let mut rest = &start[2..];
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'U' => flags.lazy = on,
                '-' if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                ':' | ')' if on || seen => {
                    self.rest = rest;
                    if c == ':' {
                        self.open("(?:")?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen = true;
        }
        fault(
            "invalid or unsupported Perl syntax",
            &start[..start.len() - rest.len()],
        )
    }

    fn named(&mut self, start: &str, name: &'p str) -> Outcome<()> {
        let Some((name, rest)) = name.split_once('>') else {
            return fault("invalid named capture", start);
        };
        let part = &start[..start.len() - rest.len()];
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(letter) {
            return fault("invalid named capture", part);
        }
        self.names.push(Some(name.to_owned()));
        self.rest = rest;
        self.open(self.group)
    }

    fn escape(&mut self) -> Outcome<()> {
        let start = self.rest;
        let mut after = start[1..].chars();
        match after.next() {
            Some('A') => self.push("^"),
            Some('b') => self.push("(?-u:\\b)"),
            Some('B') => self.push("(?-u:\\B)"),
            Some('z') => self.push("$"),
            Some('C') => return fault("invalid escape sequence", &start[..2]),
            Some('Q') => {
                let (literal, rest) = start[2..].split_once("\\E").unwrap_or((&start[2..], ""));
                literal.chars().for_each(|c| self.literal(u32::from(c)));
                self.rest = rest;
                return Ok(());
            }
            _ => {
                let mut set = String::new();
                if let Some(rest) = classes::group(start, self.flags.fold, &mut set)? {
                    self.push_text(classes::bracketed(&set, false, self.flags.fold));
                    self.rest = rest;
                    return Ok(());
                }
                let (c, rest) = classes::escaped(start)?;
                self.literal(c);
                self.rest = rest;
                return Ok(());
            }
        }
        self.rest = after.as_str();
        Ok(())
    }

    fn counted(&mut self, before: &'p str, last: Option<&str>, least: i64, most: Option<i64>) -> Outcome<()> {
        let part = &before[..before.len() - self.rest.len()];
        let reversed = most.is_some_and(|most| most < least);
        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT) || reversed {
            return fault("invalid repeat count", part);
        }
        self.repeat(before, last, ('{', Some((least, most))))
    }

    /// Repeats the part that was read last.
    fn repeat(
        &mut self,
        before: &'p str,
        last: Option<&str>,
        (sign, counts): (char, Option<(i64, Option<i64>)>),
    ) -> Outcome<()> {
        let mut lazy = self.flags.lazy;
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = rest;
            lazy = !lazy;
        }
        if let Some(last) = last {
            return fault(
                "invalid nested repetition operator",
                &last[..last.len() - self.rest.len()],
            );
        }
        let part = &before[..before.len() - self.rest.len()];
        let Some(atom) = self.groups.last_mut().and_then(|group| group.atoms.last_mut()) else {
            return fault("missing argument to repetition operator", part);
        };
        match counts {
            None => atom.text.push(sign),
            Some((least, None)) => atom.text.push_str(&format!("{{{least},}}")),
            Some((least, Some(most))) => atom.text.push_str(&format!("{{{least},{most}}}")),
        }
        if lazy {
            atom.text.push('?');
        }
        // The text may be repeated in its turn, once it is in a group.
        if let Some((least, most)) = counts {
            let repeat = Repeat {
                count: most.unwrap_or(least),
                inside: std::mem::take(&mut atom.repeats),
            };
            let is_valid = (least < 2 && most.is_none_or(|most| most < 2)) || repeat.is_within(MAX_REPEAT);
            atom.repeats.push(repeat);
            if !is_valid {
                return fault("invalid repeat count", part);
            }
        }
        Ok(())
    }
}

/// Reads `{least,most}`; a brace of any other shape stands for itself. No further than its digits is looked, since there
/// may be as many braces as characters.
fn count(text: &str) -> Option<(i64, Option<i64>, &str)> {
    let (least, rest) = number(&text[1..])?;
    let (most, rest) = match rest.strip_prefix(',') {
        None => (Some(least), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (most, rest) = number(rest)?;
            (Some(most), rest)
        }
    };
    Some((least, most, rest.strip_prefix('}')?))
}

/// Reads a number without zeros in front of it, and returns what is behind it; one that is too large stays so.
fn number(text: &str) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    let padded = length > 1 && digits.starts_with('0');
    (length > 0 && !padded).then(|| (digits.parse().unwrap_or(i64::MAX), rest))
}
