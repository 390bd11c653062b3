//! Text: cases, padding, quoting, splitting and joining.

use std::collections::HashSet;
use std::rc::Rc;

use flotilla_core::text::runes::{is_lower, is_space, is_title, is_upper, lower, title, upper};

use super::reflection::items;
use super::{Function, counted, int, pure, raw, room, text};
use crate::helm::object::to_text;
use crate::helm::print;
use crate::helm::quote::quote as go_quote;
use crate::helm::value::{Entries, MapKind, MapVal, Val};
use crate::helm::{bytes, case_conversion};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("print", "a*", |args| Ok(print::sprint(args).into())),
    pure("println", "a*", |args| Ok(print::sprintln(args).into())),
    pure("printf", "sa*", |args| {
        let printed = print::sprintf(text(args, 0), &args[1..]);
        room(Some(printed.len()))?;
        Ok(printed.into())
    }),
    pure("html", "a*", |args| Ok(escaped(args, html).into())),
    pure("js", "a*", |args| Ok(escaped(args, js).into())),
    pure("urlquery", "a*", |args| {
        Ok(crate::helm::url::query_escaped(&escaped(args, |text| text.to_owned())).into())
    }),
    pure("toString", "a", |args| Ok(Val::Str(to_text(&args[0])))),
    pure("toStrings", "a", |args| Ok(Val::strings(texts(&args[0])))),
    pure("quote", "a*", quote),
    pure("squote", "a*", squote),
    pure("cat", "a*", cat),
    pure("upper", "s", |args| Ok(changed(args, |text| mapped(text, upper)))),
    pure("lower", "s", |args| Ok(changed(args, |text| mapped(text, lower)))),
    pure("title", "s", |args| Ok(changed(args, |text| words(text, title)))),
    pure("untitle", "s", |args| Ok(changed(args, untitle))),
    pure("swapcase", "s", |args| Ok(changed(args, swap_case))),
    pure("snakecase", "s", |args| {
        Ok(Val::of_bytes(&case_conversion::separated(&raw(args, 0), '_')))
    }),
    pure("kebabcase", "s", |args| {
        Ok(Val::of_bytes(&case_conversion::separated(&raw(args, 0), '-')))
    }),
    pure("camelcase", "s", |args| {
        Ok(changed(args, case_conversion::pascal))
    }),
    pure("trim", "s", |args| {
        Ok(text(args, 0).trim_matches(is_space).into())
    }),
    pure("trimAll", "ss", trim_all),
    pure("trimall", "ss", trim_all),
    pure("trimPrefix", "ss", |args| {
        Ok(match raw(args, 1).strip_prefix(&*raw(args, 0)) {
            Some(rest) => Val::of_bytes(rest),
            None => args[1].clone(),
        })
    }),
    pure("trimSuffix", "ss", |args| {
        Ok(match raw(args, 1).strip_suffix(&*raw(args, 0)) {
            Some(rest) => Val::of_bytes(rest),
            None => args[1].clone(),
        })
    }),
    pure("nospace", "s", |args| Ok(without_space(args))),
    pure("initials", "s", |args| Ok(initials(&raw(args, 0)).into())),
    pure("contains", "ss", |args| {
        Ok(memchr::memmem::find(&raw(args, 1), &raw(args, 0))
            .is_some()
            .into())
    }),
    pure("hasPrefix", "ss", |args| {
        Ok(raw(args, 1).starts_with(&raw(args, 0)).into())
    }),
    pure("hasSuffix", "ss", |args| {
        Ok(raw(args, 1).ends_with(&raw(args, 0)).into())
    }),
    pure("replace", "sss", replace),
    pure("repeat", "is", repeat),
    pure("indent", "is", |args| indent(args, "")),
    pure("nindent", "is", |args| indent(args, "\n")),
    pure("trunc", "is", |args| Ok(trunc(int(args, 0), &raw(args, 1)))),
    pure("substr", "iis", substr),
    pure("abbrev", "is", |args| {
        Ok(abbreviated(&raw(args, 1), 0, int(args, 0)))
    }),
    pure("abbrevboth", "iis", |args| {
        Ok(abbreviated(&raw(args, 2), int(args, 0), int(args, 1)))
    }),
    pure("wrap", "is", |args| {
        wrap(&raw(args, 1), int(args, 0), b"\n", false)
    }),
    pure("wrapWith", "iss", |args| {
        wrap(&raw(args, 2), int(args, 0), &raw(args, 1), true)
    }),
    pure("plural", "ssi", |args| {
        Ok(args[usize::from(int(args, 2) != 1)].clone())
    }),
    pure("join", "sa", join),
    pure("split", "ss", |args| numbered(text(args, 1), text(args, 0), -1)),
    pure("splitn", "sis", |args| {
        numbered(text(args, 2), text(args, 0), int(args, 1))
    }),
    pure("splitList", "ss", |args| {
        pieces(text(args, 1), text(args, 0), -1).map(Val::strings)
    }),
];

/// Returns the texts of a list, without nil; of one value, its text.
pub(super) fn texts(value: &Val) -> Vec<Rc<str>> {
    match (items(value), value) {
        (Some(items), _) => items.iter().filter(|item| !item.is_nil()).map(to_text).collect(),
        (None, Val::Invalid | Val::Nil) => Vec::new(),
        (None, value) => vec![to_text(value)],
    }
}

fn quote(args: &[Val]) -> Result<Val, String> {
    let quoted: Vec<String> = args
        .iter()
        .filter(|value| !value.is_nil())
        .map(|value| go_quote(&to_text(value)))
        .collect();
    Ok(quoted.join(" ").into())
}

fn squote(args: &[Val]) -> Result<Val, String> {
    let quoted: Vec<String> = args
        .iter()
        .filter(|value| !value.is_nil())
        .map(|value| format!("'{}'", print::text(value)))
        .collect();
    Ok(quoted.join(" ").into())
}

fn cat(args: &[Val]) -> Result<Val, String> {
    let shown: Vec<String> = args
        .iter()
        .filter(|value| !value.is_nil())
        .map(print::text)
        .collect();
    Ok(shown.join(" ").into())
}

/// Returns what becomes of a text whose characters are changed: U+FFFD stands for each byte that is none.
fn changed(args: &[Val], change: impl FnOnce(&str) -> String) -> Val {
    Val::of_bytes(change(&bytes::lossy(text(args, 0))).as_bytes())
}

fn mapped(text: &str, to: impl Fn(char) -> char) -> String {
    text.chars().map(to).collect()
}

fn words(text: &str, first: impl Fn(char) -> char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        // Go's old rule: letters, digits and underscores are within a word, and so is other text that is no
        // blank beyond ASCII.
        let separator = match before {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => false,
            _ if before.is_ascii() => true,
            _ => is_space(before),
        };
        if separator {
            out.push(first(c));
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

fn untitle(text: &str) -> String {
    let mut at_start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_space(c) {
            at_start = true;
            out.push(c);
        } else if std::mem::take(&mut at_start) {
            out.push(lower(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Swaps the cases of letters; the first of a word becomes a title, and a text begins with a word.
fn swap_case(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .map(|c| {
            let swapped = match c {
                _ if is_upper(c) || is_title(c) => lower(c),
                _ if is_lower(c) && at_start => title(c),
                _ if is_lower(c) => upper(c),
                _ => c,
            };
            at_start = is_space(c);
            swapped
        })
        .collect()
}

fn trim_all(args: &[Val]) -> Result<Val, String> {
    // However many there are, each character is looked up once.
    let cut: HashSet<char> = text(args, 0).chars().collect();
    // To the reference, all bytes that are no UTF-8 are one character.
    let is_none = |c: char| c == char::REPLACEMENT_CHARACTER || bytes::byte(c).is_some();
    let cuts_none = cut.iter().any(|c| is_none(*c));
    let is_cut = |c: char| cut.contains(&c) || (cuts_none && is_none(c));
    Ok(text(args, 1).trim_matches(is_cut).into())
}

/// Drops white space. Helm takes each byte for a character, and writes it as one where any of them was dropped.
fn without_space(args: &[Val]) -> Val {
    let text = raw(args, 0);
    let characters = || text.iter().copied().map(char::from);
    if characters().any(is_space) {
        let kept: String = characters().filter(|c| !is_space(*c)).collect();
        kept.into()
    } else {
        args[0].clone()
    }
}

fn initials(text: &[u8]) -> String {
    let mut gap = true;
    let mut out = String::new();
    for byte in text {
        let c = char::from(*byte);
        if is_space(c) {
            gap = true;
        } else if std::mem::take(&mut gap) {
            out.push(c);
        }
    }
    out
}

fn join(args: &[Val]) -> Result<Val, String> {
    let (texts, between) = (texts(&args[1]), text(args, 0));
    let length = texts.iter().map(|text| text.len()).sum::<usize>();
    room(
        texts
            .len()
            .checked_mul(between.len())
            .and_then(|all| all.checked_add(length)),
    )?;
    Ok(texts.join(between).into())
}

fn replace(args: &[Val]) -> Result<Val, String> {
    let (old, new, text) = (text(args, 0), text(args, 1), text(args, 2));
    if new.len() > old.len() {
        let longer = text.matches(old).count().checked_mul(new.len() - old.len());
        room(longer.and_then(|longer| longer.checked_add(text.len())))?;
    }
    Ok(text.replace(old, new).into())
}

fn repeat(args: &[Val]) -> Result<Val, String> {
    let Ok(count) = usize::try_from(int(args, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    room(text(args, 1).len().checked_mul(count))?;
    Ok(text(args, 1).repeat(count).into())
}

fn indent(args: &[Val], before: &str) -> Result<Val, String> {
    let Ok(spaces) = usize::try_from(int(args, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    let text = text(args, 1);
    let lines = 1 + memchr::memchr_iter(b'\n', text.as_bytes()).count();
    let pads = spaces.checked_mul(lines);
    let length = room(pads.and_then(|pads| pads.checked_add(text.len() + 1)))?;
    let pad = " ".repeat(spaces);
    let mut out = String::with_capacity(length);
    out.push_str(before);
    let mut rest = text;
    out.push_str(&pad);
    while let Some(at) = memchr::memchr(b'\n', rest.as_bytes()) {
        out.push_str(&rest[..=at]);
        out.push_str(&pad);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    Ok(out.into())
}

fn trunc(count: i64, text: &[u8]) -> Val {
    let length = text.len() as i64;
    Val::of_bytes(if count < 0 && length + count > 0 {
        &text[(length + count) as usize..]
    } else if count >= 0 && length > count {
        &text[..count as usize]
    } else {
        text
    })
}

fn substr(args: &[Val]) -> Result<Val, String> {
    let (start, end, text) = (int(args, 0), int(args, 1), raw(args, 2));
    let length = text.len() as i64;
    let (from, to) = match (start, end) {
        (..0, end) => (0, end),
        (start, end) if end < 0 || end > length => (start, length),
        both => both,
    };
    if from > to || to > length || to < 0 {
        return Err(format!("runtime error: slice bounds out of range [{from}:{to}]"));
    }
    Ok(Val::of_bytes(&text[from as usize..to as usize]))
}

/// Shortens text to a width with three dots at its end, and from an offset on at its start too.
fn abbreviated(text: &[u8], offset: i64, width: i64) -> Val {
    let (length, mut offset) = (text.len() as i64, offset);
    if width < 4 || (offset > 0 && width < 7) || length <= width {
        return Val::of_bytes(text);
    }
    let part = |from: i64, to: i64| &text[from.max(0) as usize..to.clamp(0, length) as usize];
    let dots = &b"..."[..];
    offset = offset.min(length);
    // It overflows as Go's numbers do.
    if length.wrapping_sub(offset) < width - 3 {
        offset = length - (width - 3);
    }
    if offset <= 4 {
        return Val::of_bytes(&[part(0, width - 3), dots].concat());
    }
    if offset + width - 3 < length {
        return Val::of_bytes(&[dots, part(offset, offset + width - 6), dots].concat());
    }
    Val::of_bytes(&[dots, part(length - (width - 3), length)].concat())
}

fn wrap(bytes: &[u8], width: i64, between: &[u8], long_words: bool) -> Result<Val, String> {
    let between = if between.is_empty() { b"\n" } else { between };
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while bytes.len() - at > width {
        if bytes[at] == b' ' {
            at += 1;
            continue;
        }
        let space = |from: usize, to: usize| bytes[from..to].iter().rposition(|byte| *byte == b' ');
        let end = if let Some(space) = space(at, at + width + 1) {
            Some((at + space, at + space + 1))
        } else if long_words {
            Some((at + width, at + width))
        } else {
            let next = bytes[at + width..].iter().position(|byte| *byte == b' ');
            next.map(|next| (at + width + next, at + width + next + 1))
        };
        let Some((end, next)) = end else { break };
        out.extend(&bytes[at..end]);
        out.extend(between);
        at = next;
        room(Some(out.len()))?;
    }
    out.extend(&bytes[at..]);
    Ok(Val::of_bytes(&out))
}

/// Splits as Go's `SplitN`: at most `count` pieces unless it is negative, characters when nothing separates.
pub(super) fn pieces<'t>(text: &'t str, separator: &str, count: i64) -> Result<Vec<&'t str>, String> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Vec::new());
    }
    if !separator.is_empty() {
        return counted(text.splitn(most, separator));
    }
    let mut starts = counted(text.char_indices().map(|(at, _)| at).take(most))?;
    starts.push(text.len());
    Ok(starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect())
}

fn numbered(text: &str, separator: &str, count: i64) -> Result<Val, String> {
    let entries: Entries = pieces(text, separator, count)?
        .into_iter()
        .enumerate()
        .map(|(at, piece)| (Rc::from(format!("_{at}")), Val::from(piece)))
        .collect();
    Ok(Val::Map(MapVal {
        kind: MapKind::Strings,
        ..MapVal::new(entries)
    }))
}

fn escaped(args: &[Val], escape: impl Fn(&str) -> String) -> String {
    match args {
        [Val::Str(text)] => escape(text),
        _ => escape(&evaluated(args)),
    }
}

/// Returns the arguments as Go's templates print them for their own functions: no value as an action prints it,
/// and nothing between two of which one is text.
fn evaluated(args: &[Val]) -> String {
    let shown: Vec<Val> = args
        .iter()
        .map(|value| match value {
            Val::Invalid | Val::Nil => "<no value>".into(),
            value => value.clone(),
        })
        .collect();
    print::sprint(&shown)
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            ' '..='~' => out.push(c),
            c if !c.is_ascii() && (flotilla_core::text::runes::is_print(c) || bytes::byte(c).is_some()) => {
                out.push(c)
            }
            c => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    out
}
