//! Reads the formats of `printf`.

use std::fmt::Write;

use super::append;
use super::verbs::{Spec, format_value};
use crate::helm::funcs::MAX_TEXT;
use crate::helm::value::Val;

/// A width or precision beyond this is none.
const MAX_WIDTH: i64 = 1_000_000;

/// Returns `format` with its verbs replaced, as Go's `Sprintf`. What is longer than [`MAX_TEXT`] is cut off, so
/// that the caller can tell.
pub(in crate::helm) fn sprintf(format: &str, args: &[Val]) -> String {
    Formatter {
        args,
        next: 0,
        reordered: false,
        good_index: true,
        out: String::new(),
    }
    .run(format)
}

struct Formatter<'a> {
    args: &'a [Val],
    next: usize,
    /// Whether any verb named its argument: what is left over is told otherwise.
    reordered: bool,
    /// Whether the verb at hand names an argument that exists, if it names one.
    good_index: bool,
    out: String,
}

impl Formatter<'_> {
    fn run(mut self, format: &str) -> String {
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            self.out.push_str(&rest[..at]);
            self.good_index = true;
            rest = self.verb(&rest[at + 1..]);
            if self.out.len() > MAX_TEXT {
                return self.out;
            }
        }
        self.out.push_str(rest);
        if !self.reordered && self.next < self.args.len() {
            self.extra();
        }
        self.out
    }

    /// Tells of arguments that no verb took.
    fn extra(&mut self) {
        self.out.push_str("%!(EXTRA ");
        for (at, value) in self.args[self.next..].iter().enumerate() {
            if at > 0 {
                self.out.push_str(", ");
            }
            if value.is_nil() {
                self.out.push_str("<nil>");
            } else {
                let _ = write!(self.out, "{}=", value.type_name());
                append(value, &mut self.out);
            }
        }
        self.out.push(')');
    }

    /// Reads one verb with its flags, writes its argument, and returns what follows it.
    fn verb<'f>(&mut self, mut rest: &'f str) -> &'f str {
        let mut spec = Spec::default();
        while let Some(flag) = rest.chars().next() {
            match flag {
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                ' ' => spec.space = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let (rest, indexed) = self.index(rest);
        let (rest, indexed) = self.width(rest, indexed, &mut spec);
        let (rest, indexed) = self.precision(rest, indexed, &mut spec);
        let rest = if indexed { rest } else { self.index(rest).0 };
        let Some(verb) = rest.chars().next() else {
            self.out.push_str("%!(NOVERB)");
            return rest;
        };
        if verb == '%' {
            self.out.push('%');
        } else if !self.good_index {
            let _ = write!(self.out, "%!{verb}(BADINDEX)");
        } else if let Some(value) = self.args.get(self.next) {
            self.next += 1;
            if matches!(verb, 'v' | 'w') {
                // For %v these flags ask for more of the value, not for a sign or a prefix.
                spec.names = std::mem::take(&mut spec.plus);
                spec.syntax = std::mem::take(&mut spec.sharp);
            }
            format_value(value, verb, &spec, &mut self.out);
        } else {
            let _ = write!(self.out, "%!{verb}(MISSING)");
        }
        &rest[verb.len_utf8()..]
    }

    fn width<'f>(&mut self, rest: &'f str, indexed: bool, spec: &mut Spec) -> (&'f str, bool) {
        if let Some(rest) = rest.strip_prefix('*') {
            match self.star() {
                Some(width) => {
                    spec.minus |= width < 0;
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => self.out.push_str("%!(BADWIDTH)"),
            }
            return (rest, false);
        }
        let (width, rest) = digits(rest);
        spec.width = width;
        self.good_index &= !(indexed && width.is_some());
        (rest, indexed)
    }

    fn precision<'f>(&mut self, rest: &'f str, indexed: bool, spec: &mut Spec) -> (&'f str, bool) {
        let Some(after) = rest.strip_prefix('.').filter(|after| !after.is_empty()) else {
            return (rest, indexed);
        };
        self.good_index &= !indexed;
        let (rest, indexed) = self.index(after);
        if let Some(rest) = rest.strip_prefix('*') {
            spec.precision = self.star().and_then(|precision| usize::try_from(precision).ok());
            if spec.precision.is_none() {
                self.out.push_str("%!(BADPREC)");
            }
            return (rest, false);
        }
        let (precision, rest) = digits(rest);
        spec.precision = Some(precision.unwrap_or(0));
        (rest, indexed)
    }

    /// Reads an explicit argument index; returns what follows it, and whether it was one.
    fn index<'f>(&mut self, rest: &'f str) -> (&'f str, bool) {
        let Some(inner) = rest.strip_prefix('[') else {
            return (rest, false);
        };
        self.reordered = true;
        let Some(end) = inner.find(']').filter(|_| rest.len() > 2) else {
            self.good_index = false;
            return (inner, false);
        };
        let after = &inner[end + 1..];
        let number = match digits(&inner[..end]) {
            (number, "") => number,
            _ => None,
        };
        match number {
            Some(number) if (1..=self.args.len()).contains(&number) => self.next = number - 1,
            _ => self.good_index = false,
        }
        (after, number.is_some())
    }

    fn star(&mut self) -> Option<i64> {
        let value = self.args.get(self.next)?;
        self.next += 1;
        let number = value
            .as_signed()
            .or_else(|| i64::try_from(value.as_unsigned()?).ok());
        number.filter(|number| (-MAX_WIDTH..=MAX_WIDTH).contains(number))
    }
}

/// Reads a number; one that goes on beyond the bound takes the rest of the format with it.
fn digits(text: &str) -> (Option<usize>, &str) {
    let mut number = None;
    for (at, byte) in text.bytes().enumerate() {
        if !byte.is_ascii_digit() {
            return (number, &text[at..]);
        }
        let before = number.unwrap_or(0);
        if before > MAX_WIDTH as usize {
            return (None, "");
        }
        number = Some(before * 10 + usize::from(byte - b'0'));
    }
    (number, "")
}
