//! Regular expressions in RE2's syntax, which `core` reads.

use flotilla_core::text::re2::{self, Compiled, SyntaxError};
use flotilla_core::text::runes::is_name;
use regex::Regex;

use super::{Function, MAX_ITEMS, int, pure, room, text};
use crate::helm::bytes;
use crate::helm::quote::{can_backquote, quote};
use crate::helm::value::{Items, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("regexMatch", "ss", |args| {
        // What the reference cannot read matches nothing there; what it can read and this engine cannot is no answer.
        match compiled(text(args, 0)) {
            Ok(Compiled { regex, .. }) => Ok(regex.is_match(text(args, 1)).into()),
            Err(cause) if cause.is_bound => Err(cause.to_string()),
            Err(_) => Ok(false.into()),
        }
    }),
    pure("mustRegexMatch", "ss", |args| {
        let Compiled { regex, .. } = worded(text(args, 0))?;
        Ok(regex.is_match(text(args, 1)).into())
    }),
    pure("regexFind", "ss", |args| find(args, certain)),
    pure("mustRegexFind", "ss", |args| find(args, worded)),
    pure("regexFindAll", "ssi", |args| find_all(args, certain)),
    pure("mustRegexFindAll", "ssi", |args| find_all(args, worded)),
    pure("regexReplaceAll", "sss", |args| replace(args, certain)),
    pure("mustRegexReplaceAll", "sss", |args| replace(args, worded)),
    pure("regexReplaceAllLiteral", "sss", |args| {
        replace_literal(args, certain)
    }),
    pure("mustRegexReplaceAllLiteral", "sss", |args| {
        replace_literal(args, worded)
    }),
    pure("regexSplit", "ssi", |args| split(args, certain)),
    pure("mustRegexSplit", "ssi", |args| split(args, worded)),
    pure("regexQuoteMeta", "s", |args| Ok(quoted(text(args, 0)).into())),
];

type Compile = fn(&str) -> Result<Compiled, String>;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 2 << 20;
/// An expression may be so long.
const MAX_PATTERN: usize = 16 << 10;

fn compiled(pattern: &str) -> Result<Compiled, SyntaxError> {
    if pattern.len() > MAX_PATTERN {
        return Err(SyntaxError {
            code: "expression too large",
            part: pattern.chars().take(40).collect(),
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

/// Compiles for a function that has an error of its own.
fn worded(pattern: &str) -> Result<Compiled, String> {
    compiled(pattern).map_err(|cause| cause.to_string())
}

fn find(args: &[Val], compile: Compile) -> Result<Val, String> {
    let Compiled { regex, .. } = compile(text(args, 0))?;
    Ok(regex
        .find(text(args, 1))
        .map_or("", |found| found.as_str())
        .into())
}

/// Compiles for a function without an error of its own, which panics in the reference and words it so.
fn certain(pattern: &str) -> Result<Compiled, String> {
    compiled(pattern).map_err(|cause| {
        let backquoted = can_backquote(pattern);
        let shown = if backquoted {
            format!("`{pattern}`")
        } else {
            quote(pattern)
        };
        format!("regexp: Compile({shown}): {cause}")
    })
}

/// Returns the matches as Go finds them: an empty one right behind another match does not count.
fn matches(regex: &Regex, text: &str, most: i64) -> Result<Vec<(usize, usize)>, String> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found: Vec<(usize, usize)> = Vec::new();
    for one in regex.find_iter(text) {
        if found.len() >= most {
            break;
        }
        let after_match = found
            .last()
            .is_some_and(|(_, end)| *end == one.start() && one.is_empty());
        if !after_match {
            found.push((one.start(), one.end()));
        }
        if found.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} matches"));
        }
    }
    Ok(found)
}

fn find_all(args: &[Val], compile: Compile) -> Result<Val, String> {
    let Compiled { regex, .. } = compile(text(args, 0))?;
    let text = text(args, 1);
    let found = matches(&regex, text, int(args, 2))?;
    if found.is_empty() {
        return Ok(Val::nil_list(Items::Texts));
    }
    Ok(Val::strings(
        found.into_iter().map(|(start, end)| &text[start..end]),
    ))
}

fn replace(args: &[Val], compile: Compile) -> Result<Val, String> {
    let Compiled { regex, names } = compile(text(args, 0))?;
    let replacement = text(args, 2);
    replaced(&regex, text(args, 1), |found, out| {
        expand(replacement, found, &names, out);
    })
}

/// Replaces every match with what `put` appends for it.
fn replaced(
    regex: &Regex,
    text: &str,
    put: impl Fn(&regex::Captures<'_>, &mut String),
) -> Result<Val, String> {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for found in regex.captures_iter(text) {
        let whole = found.get_match();
        out.push_str(&text[end..whole.start()]);
        put(&found, &mut out);
        end = whole.end();
        room(Some(out.len()))?;
    }
    out.push_str(&text[end..]);
    Ok(out.into())
}

/// Writes a replacement with the groups that it names after `$`: by number or name, in braces or as far as letters,
/// digits and underscores go. `$` before anything that is no name stays as it is.
fn expand(replacement: &str, found: &regex::Captures<'_>, names: &[Option<String>], out: &mut String) {
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
        out.push_str(group(name, found, names));
        rest = after;
    }
    out.push_str(rest);
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

fn replace_literal(args: &[Val], compile: Compile) -> Result<Val, String> {
    let Compiled { regex, .. } = compile(text(args, 0))?;
    replaced(&regex, text(args, 1), |_, out| out.push_str(text(args, 2)))
}

fn split(args: &[Val], compile: Compile) -> Result<Val, String> {
    let Compiled { regex, .. } = compile(text(args, 0))?;
    let (text, most) = (text(args, 1), int(args, 2));
    if most == 0 {
        return Ok(Val::nil_list(Items::Texts));
    }
    if !text_args_nonempty(args) {
        return Ok(Val::strings([text]));
    }
    let mut pieces: Vec<&str> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (from, to) in matches(&regex, text, most)? {
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
