//! Regular expressions in RE2's syntax, which `core` reads.

use flotilla_core::text::re2::{self, Compiled, SyntaxError};
use flotilla_core::text::runes::is_name;

use super::{Function, MAX_ITEMS, int, pure, reading, room, text};
use crate::helm::bytes;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::quote::{can_backquote, quote};
use crate::helm::value::{Items, Val};

mod reach;

use reach::Searches;

pub(super) const FUNCTIONS: &[Function] = &[
    reading("regexMatch", "ss", |interp, args| {
        // What the reference cannot read matches nothing there; what it can read and this engine cannot is no answer.
        match compiled(text(args, 0)) {
            Ok(compiled) => is_match(interp, &compiled, args),
            Err(cause) if cause.is_bound => Err(ExecError::plain(cause.to_string())),
            Err(_) => Ok(false.into()),
        }
    }),
    reading("mustRegexMatch", "ss", |interp, args| {
        is_match(interp, &worded(text(args, 0))?, args)
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
type Compile = fn(&str) -> Outcome<Compiled>;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 2 << 20;
/// An expression may be so long.
const MAX_PATTERN: usize = 16 << 10;
/// How many states are gone through for one step, at each character of a text.
const STATES_PER_STEP: usize = 64;
/// How many bytes are searched in what a step takes elsewhere.
const BYTES_PER_STEP: usize = 64;

fn compiled(pattern: &str) -> Result<Compiled, SyntaxError> {
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
    re2::compile(pattern, MAX_COMPILED)
}

/// Returns the beginning of an expression that is beyond a bound.
fn shortened(pattern: &str) -> String {
    pattern.chars().take(40).collect()
}

/// Compiles for a function that has an error of its own.
fn worded(pattern: &str) -> Outcome<Compiled> {
    compiled(pattern).map_err(|cause| ExecError::plain(cause.to_string()))
}

/// Takes what compiling has cost, and what going through the whole text costs at worst.
fn charge(interp: &mut Interp<'_>, compiled: &Compiled, text: &str) -> Outcome<()> {
    let states = compiled.states.saturating_mul(text.len());
    let steps = (states / STATES_PER_STEP).saturating_add(compiled.ranges);
    interp.charge(steps as u64)
}

/// Takes what the search that found a match has cost, and lets the caller stop behind it. It may have gone to the end of
/// the text, however near its match is.
fn searched(interp: &mut Interp<'_>, searches: &mut Searches<'_>, text: &str, start: usize) -> Outcome<()> {
    interp.charge(searches.steps(text, start))?;
    interp.pause(1 + (text.len() / BYTES_PER_STEP) as u64)
}

fn is_match(interp: &mut Interp<'_>, compiled: &Compiled, args: &[Val]) -> Outcome<Val> {
    charge(interp, compiled, text(args, 1))?;
    Ok(compiled.regex.is_match(text(args, 1)).into())
}

fn find(interp: &mut Interp<'_>, args: &[Val], compile: Compile) -> Outcome<Val> {
    let compiled = compile(text(args, 0))?;
    charge(interp, &compiled, text(args, 1))?;
    Ok(compiled
        .regex
        .find(text(args, 1))
        .map_or("", |found| found.as_str())
        .into())
}

/// Compiles for a function without an error of its own, which panics in the reference and words it so.
fn certain(pattern: &str) -> Outcome<Compiled> {
    compiled(pattern).map_err(|cause| {
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
    })
}

/// Returns the matches as Go finds them: an empty one right behind another match does not count.
fn matches(
    interp: &mut Interp<'_>,
    compiled: &Compiled,
    text: &str,
    most: i64,
) -> Outcome<Vec<(usize, usize)>> {
    charge(interp, compiled, text)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut searches = Searches::of(compiled);
    for one in compiled.regex.find_iter(text) {
        if found.len() >= most {
            break;
        }
        searched(interp, &mut searches, text, one.start())?;
        let after_match = found
            .last()
            .is_some_and(|(_, end)| *end == one.start() && one.is_empty());
        if !after_match {
            found.push((one.start(), one.end()));
        }
        if found.len() > MAX_ITEMS {
            return Err(ExecError::plain(format!("more than {MAX_ITEMS} matches")));
        }
    }
    Ok(found)
}

fn find_all(interp: &mut Interp<'_>, args: &[Val], compile: Compile) -> Outcome<Val> {
    let compiled = compile(text(args, 0))?;
    let text = text(args, 1);
    let found = matches(interp, &compiled, text, int(args, 2))?;
    if found.is_empty() {
        return Ok(Val::nil_list(Items::Texts));
    }
    Ok(Val::strings(
        found.into_iter().map(|(start, end)| &text[start..end]),
    ))
}

fn replace(interp: &mut Interp<'_>, args: &[Val], compile: Compile) -> Outcome<Val> {
    let compiled = compile(text(args, 0))?;
    let replacement = text(args, 2);
    replaced(
        interp,
        &compiled,
        text(args, 1),
        replacement.len(),
        |found, out| expand(replacement, found, &compiled.names, out),
    )
}

/// How many bytes of a replacement are gone through for one step.
const REPLACEMENT_BYTES_PER_STEP: usize = 16;

/// Replaces every match with what `put` appends for it, for which it goes through so many bytes.
fn replaced(
    interp: &mut Interp<'_>,
    compiled: &Compiled,
    text: &str,
    replacement: usize,
    put: impl Fn(&regex::Captures<'_>, &mut String) -> Result<(), String>,
) -> Outcome<Val> {
    charge(interp, compiled, text)?;
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    let mut searches = Searches::of(compiled);
    for found in compiled.regex.captures_iter(text) {
        let whole = found.get_match();
        searched(interp, &mut searches, text, whole.start())?;
        interp.charge((replacement / REPLACEMENT_BYTES_PER_STEP) as u64)?;
        out.push_str(&text[end..whole.start()]);
        put(&found, &mut out).map_err(ExecError::plain)?;
        end = whole.end();
        room(Some(out.len())).map_err(ExecError::plain)?;
    }
    out.push_str(&text[end..]);
    Ok(out.into())
}

/// Writes a replacement with the groups that it names after `$`: by number or name, in braces or as far as letters,
/// digits and underscores go. `$` before anything that is no name stays as it is.
fn expand(
    replacement: &str,
    found: &regex::Captures<'_>,
    names: &[Option<String>],
    out: &mut String,
) -> Result<(), String> {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = rest.starts_with('{');
        let inner = if braced { &rest[1..] } else { rest };
        let length = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let (name, after) = inner.split_at(length);
        let after = match (braced, after.strip_prefix('}')) {
            (true, Some(after)) => after,
            (true, None) => {
                out.push('$');
                continue;
            }
            (false, _) => after,
        };
        if name.is_empty() {
            out.push('$');
            continue;
        }
        let group = group(name, found, names);
        // One match may name a long group as often as it has room for.
        room(out.len().checked_add(group.len()))?;
        out.push_str(group);
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

/// Returns what the group of a number or a name matched; nothing where there is none.
fn group<'t>(name: &str, found: &regex::Captures<'t>, names: &[Option<String>]) -> &'t str {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let mut named = names
        .iter()
        .zip(1..)
        .filter(|(known, _)| known.as_deref() == Some(name));
    let group = match is_number {
        true => name.parse().ok().and_then(|number: usize| found.get(number)),
        // Several groups may have one name.
        false => named.find_map(|(_, number)| found.get(number)),
    };
    group.map_or("", |group| group.as_str())
}

fn replace_literal(interp: &mut Interp<'_>, args: &[Val], compile: Compile) -> Outcome<Val> {
    let compiled = compile(text(args, 0))?;
    replaced(interp, &compiled, text(args, 1), text(args, 2).len(), |_, out| {
        room(out.len().checked_add(text(args, 2).len()))?;
        out.push_str(text(args, 2));
        Ok(())
    })
}

fn split(interp: &mut Interp<'_>, args: &[Val], compile: Compile) -> Outcome<Val> {
    let compiled = compile(text(args, 0))?;
    let (text, most) = (text(args, 1), int(args, 2));
    if most == 0 {
        return Ok(Val::nil_list(Items::Texts));
    }
    if !text_args_nonempty(args) {
        return Ok(Val::strings([text]));
    }
    let mut pieces: Vec<&str> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (from, to) in matches(interp, &compiled, text, most)? {
        if most > 0 && pieces.len() as i64 == most - 1 {
            break;
        }
        end = from;
        if to != 0 {
            pieces.push(&text[start..end]);
        }
        start = to;
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
