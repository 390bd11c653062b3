//! Regular expressions in RE2's syntax, which `core` reads.

use std::ops::Range;

use flotilla_core::text::re2::{CaptureRegex, Regex, SyntaxError};

use super::{Function, MAX_ITEMS, int, pure, reading, room, text};
use crate::helm::bytes;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::quote::{can_backquote, quote};
use crate::helm::value::{Items, Val};

mod expand;
mod reach;

use expand::Template;
use reach::Searches;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("regexMatch", "ss", |interp, args| {
        // What the reference cannot read matches nothing there; what it can read and this engine cannot is no answer.
        match compiled(text(args, 0)) {
            Ok(regex) => is_match(interp, &regex, args),
            Err(cause) if cause.is_bound => Err(ExecError::plain(cause.to_string())),
            Err(_) => Ok(false.into()),
        }
    }),
    reading("mustRegexMatch", "ss", |interp, args| {
        is_match(interp, &regex(args, worded)?, args)
    }),
    reading("regexFind", "ss", |interp, args| find(interp, args, certain)),
    reading("mustRegexFind", "ss", |interp, args| find(interp, args, worded)),
    reading("regexFindAll", "ssi", |interp, args| {
        find_all(interp, args, certain)
    }),
    reading("mustRegexFindAll", "ssi", |interp, args| {
        find_all(interp, args, worded)
    }),
    reading("regexReplaceAll", "sss", |interp, args| {
        replace(interp, args, certain)
    }),
    reading("mustRegexReplaceAll", "sss", |interp, args| {
        replace(interp, args, worded)
    }),
    reading("regexReplaceAllLiteral", "sss", |interp, args| {
        replace_literal(interp, args, certain)
    }),
    reading("mustRegexReplaceAllLiteral", "sss", |interp, args| {
        replace_literal(interp, args, worded)
    }),
    reading("regexSplit", "ssi", |interp, args| split(interp, args, certain)),
    reading("mustRegexSplit", "ssi", |interp, args| {
        split(interp, args, worded)
    }),
    pure("regexQuoteMeta", "s", |args| Ok(quoted(text(args, 0)).into())),
];

type Outcome<T> = Result<T, Box<ExecError>>;
/// Tells what is wrong with an expression, as a function does.
type Worded = fn(&str, &SyntaxError) -> Box<ExecError>;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 2 << 20;
/// An expression may be so long.
const MAX_PATTERN: usize = 16 << 10;
/// How many states are gone through for one step, at each character of a text.
const STATES_PER_STEP: usize = 64;
/// How many bytes are searched in what a step takes elsewhere.
const BYTES_PER_STEP: usize = 64;

fn check(pattern: &str) -> Result<(), SyntaxError> {
    if pattern.len() > MAX_PATTERN {
        return Err(SyntaxError {
            code: "expression too large: more than 16 KiB",
            part: shortened(pattern),
            is_bound: true,
        });
    }
    if !bytes::is_utf8(pattern) {
        return Err(SyntaxError {
            code: "invalid UTF-8",
            part: pattern.to_owned(),
            is_bound: false,
        });
    }
    Ok(())
}

fn compiled(pattern: &str) -> Result<Regex, SyntaxError> {
    check(pattern)?;
    Regex::compile(pattern, MAX_COMPILED)
}

fn compiled_with_groups(pattern: &str) -> Result<CaptureRegex, SyntaxError> {
    check(pattern)?;
    CaptureRegex::compile(pattern, MAX_COMPILED)
}

/// Returns the beginning of an expression that is beyond a bound.
fn shortened(pattern: &str) -> String {
    pattern.chars().take(40).collect()
}

/// Words what is wrong for a function that has an error of its own.
fn worded(_: &str, cause: &SyntaxError) -> Box<ExecError> {
    ExecError::plain(cause.to_string())
}

/// Words what is wrong for a function without an error of its own, which panics in the reference.
fn certain(pattern: &str, cause: &SyntaxError) -> Box<ExecError> {
    if cause.is_bound {
        return ExecError::plain(format!(
            "regexp: Compile({}): {cause}",
            quote(&shortened(pattern))
        ));
    }
    let backquoted = can_backquote(pattern);
    let shown = if backquoted {
        format!("`{pattern}`")
    } else {
        quote(pattern)
    };
    ExecError::plain(format!("regexp: Compile({shown}): {cause}"))
}

/// Compiles the expression of a function, its first argument.
fn regex(args: &[Val], wording: Worded) -> Outcome<Regex> {
    let pattern = text(args, 0);
    compiled(pattern).map_err(|cause| wording(pattern, &cause))
}

/// Takes what compiling has cost, and what going through the whole text costs at worst.
fn charge(interp: &mut Interp<'_>, states: usize, ranges: usize, text: &str) -> Outcome<()> {
    let states = states.saturating_mul(text.len());
    let steps = (states / STATES_PER_STEP).saturating_add(ranges);
    interp.charge(steps as u64)
}

/// Takes what the search that found a match has cost, and lets the caller stop behind it. It may have gone to the end of
/// the text, however near its match is.
fn searched(interp: &mut Interp<'_>, searches: &mut Searches<'_>, text: &str, start: usize) -> Outcome<()> {
    interp.charge(searches.steps(text, start))?;
    interp.pause(1 + (text.len() / BYTES_PER_STEP) as u64)
}

fn is_match(interp: &mut Interp<'_>, regex: &Regex, args: &[Val]) -> Outcome<Val> {
    charge(interp, regex.states(), regex.ranges(), text(args, 1))?;
    Ok(regex.is_match(text(args, 1)).into())
}

fn find(interp: &mut Interp<'_>, args: &[Val], wording: Worded) -> Outcome<Val> {
    let regex = regex(args, wording)?;
    let text = text(args, 1);
    charge(interp, regex.states(), regex.ranges(), text)?;
    Ok(regex.find(text).map_or("", |found| &text[found]).into())
}

/// Returns the matches as Go finds them: an empty one right behind another match does not count.
fn matches(interp: &mut Interp<'_>, regex: &Regex, text: &str, most: i64) -> Outcome<Vec<Range<usize>>> {
    charge(interp, regex.states(), regex.ranges(), text)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut searches = Searches::of(regex.translated(), regex.states());
    for one in regex.find_iter(text) {
        if found.len() >= most {
            break;
        }
        searched(interp, &mut searches, text, one.start)?;
        let after_match = found
            .last()
            .is_some_and(|last| last.end == one.start && one.is_empty());
        if !after_match {
            found.push(one);
        }
        if found.len() > MAX_ITEMS {
            return Err(ExecError::plain(format!("more than {MAX_ITEMS} matches")));
        }
    }
    Ok(found)
}

fn find_all(interp: &mut Interp<'_>, args: &[Val], wording: Worded) -> Outcome<Val> {
    let regex = regex(args, wording)?;
    let text = text(args, 1);
    let found = matches(interp, &regex, text, int(args, 2))?;
    if found.is_empty() {
        return Ok(Val::nil_list(Items::Texts));
    }
    Ok(Val::strings(found.into_iter().map(|found| &text[found])))
}

/// How many bytes of a replacement are gone through for one step.
const REPLACEMENT_BYTES_PER_STEP: usize = 16;

fn replace(interp: &mut Interp<'_>, args: &[Val], wording: Worded) -> Outcome<Val> {
    let (pattern, replacement) = (text(args, 0), text(args, 2));
    // Without a name of a group none is asked for.
    if !replacement.contains('$') {
        return replace_literal(interp, args, wording);
    }
    let regex = compiled_with_groups(pattern).map_err(|cause| wording(pattern, &cause))?;
    let text = text(args, 1);
    charge(interp, regex.states(), regex.ranges(), text)?;
    let template = Template::read(replacement, regex.names());
    interp.charge((template.cost() / REPLACEMENT_BYTES_PER_STEP) as u64)?;
    let matches = regex.captures_iter(text).map(|groups| {
        let whole = groups.get_match().map_or(0..0, |whole| whole.range());
        (whole, groups)
    });
    let mut searches = Searches::of(regex.translated(), regex.states());
    let cost = template.cost();
    replaced(interp, &mut searches, text, cost, matches, |groups, out| {
        template.expand(text, groups, out)
    })
}

fn replace_literal(interp: &mut Interp<'_>, args: &[Val], wording: Worded) -> Outcome<Val> {
    let regex = regex(args, wording)?;
    let (text, replacement) = (text(args, 1), text(args, 2));
    charge(interp, regex.states(), regex.ranges(), text)?;
    let matches = regex.find_iter(text).map(|whole| (whole, ()));
    let mut searches = Searches::of(regex.translated(), regex.states());
    let cost = replacement.len();
    replaced(interp, &mut searches, text, cost, matches, |(), out| {
        room(out.len().checked_add(replacement.len()))?;
        out.push_str(replacement);
        Ok(())
    })
}

/// Replaces every match with what `put` appends for it, for which it goes through so many bytes.
fn replaced<G>(
    interp: &mut Interp<'_>,
    searches: &mut Searches<'_>,
    text: &str,
    cost: usize,
    matches: impl Iterator<Item = (Range<usize>, G)>,
    put: impl Fn(&G, &mut String) -> Result<(), String>,
) -> Outcome<Val> {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (whole, found) in matches {
        searched(interp, searches, text, whole.start)?;
        interp.charge((cost / REPLACEMENT_BYTES_PER_STEP) as u64)?;
        out.push_str(&text[end..whole.start]);
        put(&found, &mut out).map_err(ExecError::plain)?;
        end = whole.end;
        room(Some(out.len())).map_err(ExecError::plain)?;
    }
    out.push_str(&text[end..]);
    Ok(out.into())
}

fn split(interp: &mut Interp<'_>, args: &[Val], wording: Worded) -> Outcome<Val> {
    let regex = regex(args, wording)?;
    let (text, most) = (text(args, 1), int(args, 2));
    if most == 0 {
        return Ok(Val::nil_list(Items::Texts));
    }
    if !text_args_nonempty(args) {
        return Ok(Val::strings([text]));
    }
    let mut pieces: Vec<&str> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for found in matches(interp, &regex, text, most)? {
        if most > 0 && pieces.len() as i64 == most - 1 {
            break;
        }
        end = found.start;
        if found.end != 0 {
            pieces.push(&text[start..end]);
        }
        start = found.end;
    }
    if end != text.len() {
        pieces.push(&text[start..]);
    }
    Ok(Val::strings(pieces))
}

fn text_args_nonempty(args: &[Val]) -> bool {
    text(args, 0).is_empty() || !text(args, 1).is_empty()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
