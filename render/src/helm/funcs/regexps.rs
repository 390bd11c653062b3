//! Regular expressions in RE2's syntax. Rust's crate has the same semantics, leftmost-first in linear time;
//! what little of the syntax differs is translated.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::{Function, MAX_ITEMS, int, pure, room, text};
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("regexMatch", "ss", |args| {
        Ok(compiled(text(args, 0))
            .is_ok_and(|regex| regex.is_match(text(args, 1)))
            .into())
    }),
    pure("mustRegexMatch", "ss", |args| {
        Ok(compiled(text(args, 0))?.is_match(text(args, 1)).into())
    }),
    pure("regexFind", "ss", |args| find(args, certain)),
    pure("mustRegexFind", "ss", |args| find(args, compiled)),
    pure("regexFindAll", "ssi", |args| find_all(args, certain)),
    pure("mustRegexFindAll", "ssi", |args| find_all(args, compiled)),
    pure("regexReplaceAll", "sss", |args| replace(args, certain)),
    pure("mustRegexReplaceAll", "sss", |args| replace(args, compiled)),
    pure("regexReplaceAllLiteral", "sss", |args| {
        replace_literal(args, certain)
    }),
    pure("mustRegexReplaceAllLiteral", "sss", |args| {
        replace_literal(args, compiled)
    }),
    pure("regexSplit", "ssi", |args| split(args, certain)),
    pure("mustRegexSplit", "ssi", |args| split(args, compiled)),
    pure("regexQuoteMeta", "s", |args| Ok(quoted(text(args, 0)).into())),
];

type Compile = fn(&str) -> Result<Regex, String>;

/// A compiled expression may take so many bytes.
const MAX_COMPILED: usize = 2 << 20;
/// An expression may be so long.
const MAX_PATTERN: usize = 16 << 10;

fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err("error parsing regexp: expression too large".to_owned());
    }
    RegexBuilder::new(&translated(pattern))
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(100)
        .build()
        .map_err(|cause| format!("error parsing regexp: {}: `{pattern}`", reason(&cause)))
}

fn reason(cause: &regex::Error) -> &'static str {
    match cause {
        regex::Error::CompiledTooBig(_) => "expression too large",
        regex::Error::Syntax(text) if text.contains("unclosed group") => "missing closing )",
        regex::Error::Syntax(text) if text.contains("unopened group") => "unexpected )",
        _ => "invalid expression",
    }
}

/// Turns what RE2 writes in its own way into Rust's: `\z` for the end, `\Q..\E`, and ASCII classes.
fn translated(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(['\\', '[', '(', '{', '$', '&', '~', '-']) {
        return pattern.into();
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    let mut class = 0usize;
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let named = matches!(rest.peek(), Some('p' | 'P' | 'x'));
                escape(&mut rest, class > 0, &mut out);
                if named && rest.next_if_eq(&'{').is_some() {
                    out.push('{');
                }
            }
            '{' if class == 0 && !is_repetition(rest.clone()) => out.push_str("\\{"),
            '[' if class == 0 => {
                class = 1;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            // Within a class these have a meaning in Rust's syntax only.
            '[' | '&' | '~' if class > 0 => out.extend(['\\', c]),
            '-' if class > 0 && rest.peek() == Some(&'-') => out.push_str("\\-"),
            ']' if class > 0 => {
                class = 0;
                out.push(']');
            }
            '$' if class == 0 && !pattern.contains("(?") => out.push_str("\\z"),
            c => out.push(c),
        }
    }
    out.into()
}

/// Returns whether what follows a brace is a count: another brace stands for itself.
fn is_repetition(rest: impl Iterator<Item = char>) -> bool {
    let count: String = rest.take_while(|c| *c != '}').take(16).collect();
    let (least, most) = count.split_once(',').unwrap_or((&count, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

fn escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, in_class: bool, out: &mut String) {
    let Some(c) = rest.next() else {
        return out.push('\\');
    };
    let class = |positive: &str, outer: &str| {
        if in_class {
            positive.to_owned()
        } else {
            outer.to_owned()
        }
    };
    match c {
        'd' => out.push_str(&class("0-9", "[0-9]")),
        'w' => out.push_str(&class("0-9A-Za-z_", "[0-9A-Za-z_]")),
        's' => out.push_str(&class("\\t\\n\\x0c\\r ", "[\\t\\n\\x0c\\r ]")),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str("[^\\t\\n\\x0c\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        'C' => out.push_str("(?s:.)"),
        'Q' => {
            let mut literal = String::new();
            while let Some(c) = rest.next() {
                if c == '\\' && rest.next_if_eq(&'E').is_some() {
                    break;
                }
                literal.push(c);
            }
            out.push_str(&regex::escape(&literal));
        }
        '0'..='7' if c == '0' => out.push_str("\\x00"),
        c => out.extend(['\\', c]),
    }
}

fn find(args: &[Val], compile: Compile) -> Result<Val, String> {
    let regex = compile(text(args, 0))?;
    Ok(regex
        .find(text(args, 1))
        .map_or("", |found| found.as_str())
        .into())
}

/// Compiles for a function without an error of its own, which panics in the reference and words it so.
fn certain(pattern: &str) -> Result<Regex, String> {
    compiled(pattern).map_err(|cause| {
        let backquoted = !pattern.contains(|c: char| c == '`' || (c.is_control() && c != '\t'));
        let shown = if backquoted {
            format!("`{pattern}`")
        } else {
            crate::helm::quote::quote(pattern)
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
    let regex = compile(text(args, 0))?;
    let text = text(args, 1);
    Ok(Val::strings(
        matches(&regex, text, int(args, 2))?
            .into_iter()
            .map(|(start, end)| &text[start..end]),
    ))
}

fn replace(args: &[Val], compile: Compile) -> Result<Val, String> {
    let regex = compile(text(args, 0))?;
    let replacement = expansion(text(args, 2));
    replaced(&regex, text(args, 1), |found, out| {
        found.expand(&replacement, out)
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

/// Go's `$1x` names the group `1x`, as Rust's does; but `$` before anything that is no name stays as it is.
fn expansion(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('{').map_or(rest, |inner| inner);
        let length = name
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .unwrap_or(name.len());
        let closed = !rest.starts_with('{') || name[length..].starts_with('}');
        if rest.starts_with('$') {
            out.push_str("$$");
            rest = &rest[1..];
        } else if length > 0 && closed {
            out.push('$');
        } else {
            out.push_str("$$");
        }
    }
    out.push_str(rest);
    out
}

fn replace_literal(args: &[Val], compile: Compile) -> Result<Val, String> {
    let regex = compile(text(args, 0))?;
    replaced(&regex, text(args, 1), |_, out| out.push_str(text(args, 2)))
}

fn split(args: &[Val], compile: Compile) -> Result<Val, String> {
    let regex = compile(text(args, 0))?;
    let (text, most) = (text(args, 1), int(args, 2));
    if most == 0 {
        return Ok(Val::strings(Vec::<&str>::new()));
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
