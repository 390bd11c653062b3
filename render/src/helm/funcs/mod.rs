//! The functions of templates: Go's own, sprig's and Helm's, by name.

mod compare;
mod convert;
mod crypto;
mod dates;
mod encode;
mod flow;
mod include;
mod indexing;
mod known;
mod lists;
mod lookup;
mod maps;
mod maths;
mod paths;
mod random;
mod reflection;
mod regexps;
#[cfg(test)]
mod tests;
mod texts;
mod tpl;
pub(super) mod values;
mod versions;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::bytes;
use super::eval::{Interp, Walk};
use super::exec_error::ExecError;
use super::value::Val;

pub(super) use convert::raw_data;

/// A function of templates.
#[derive(Debug)]
pub(crate) struct Function {
    /// The name in templates.
    pub(super) name: &'static str,
    /// A letter per parameter: `s` text, `i` int, `I` int64, `f` float, `b` boolean, `m` map, `u` uint32, `l`
    /// list, `t` time, `D` duration, `c` certificate, `V` version, `a` anything, `v` anything with its type; `*` behind the last means any number of it.
    pub(super) signature: &'static str,
    pub(super) run: Run,
    /// How far it looks into its arguments.
    pub(super) walk: Walk,
}

/// How a function runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run {
    /// Its arguments decide its result.
    Pure(fn(&[Val]) -> Result<Val, String>),
    /// It needs the rendering: other templates, the clock, the cluster.
    Reading(fn(&mut Interp<'_>, &[Val]) -> Result<Val, Box<ExecError>>),
    /// `call`, which no value of a chart can be given to: none is a function.
    Call,
    /// `and` and `or`, which evaluate as little as they can.
    Logic {
        /// The truth that ends it.
        stops_at: bool,
    },
}

/// Returns the signature; as the tables are compiled, refuses a letter that stands for no type.
const fn checked(signature: &'static str) -> &'static str {
    let letters = signature.as_bytes();
    let mut at = 0;
    while at < letters.len() {
        let is_last = at + 1 == letters.len();
        let is_known = match letters[at] {
            b's' | b'i' | b'I' | b'f' | b'b' | b'm' | b'u' | b'l' | b'S' | b't' | b'D' | b'c' | b'V'
            | b'a' | b'v' => true,
            b'*' => is_last && at > 0,
            _ => false,
        };
        assert!(is_known, "a letter of a signature stands for no type");
        at += 1;
    }
    signature
}

const fn pure(
    name: &'static str,
    signature: &'static str,
    run: fn(&[Val]) -> Result<Val, String>,
) -> Function {
    Function {
        name,
        signature: checked(signature),
        run: Run::Pure(run),
        walk: Walk::All,
    }
}

const fn reading(
    name: &'static str,
    signature: &'static str,
    run: fn(&mut Interp<'_>, &[Val]) -> Result<Val, Box<ExecError>>,
) -> Function {
    Function {
        name,
        signature: checked(signature),
        run: Run::Reading(run),
        walk: Walk::All,
    }
}

const TABLES: &[&[Function]] = &[
    compare::FUNCTIONS,
    convert::FUNCTIONS,
    crypto::FUNCTIONS,
    dates::FUNCTIONS,
    encode::FUNCTIONS,
    flow::FUNCTIONS,
    include::FUNCTIONS,
    indexing::FUNCTIONS,
    lists::FUNCTIONS,
    lookup::FUNCTIONS,
    maps::FUNCTIONS,
    maths::FUNCTIONS,
    paths::FUNCTIONS,
    random::FUNCTIONS,
    reflection::FUNCTIONS,
    regexps::FUNCTIONS,
    texts::FUNCTIONS,
    tpl::FUNCTIONS,
    versions::FUNCTIONS,
];

/// The functions, each with its walk, which its name decides.
static BY_NAME: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    TABLES
        .iter()
        .copied()
        .flatten()
        .map(|function| {
            let walk = Walk::of(function.name);
            (function.name, Function { walk, ..*function })
        })
        .collect()
});

/// Returns the function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    BY_NAME.get(name)
}

/// Returns the argument's text; the signature has made sure that it is one.
fn text(args: &[Val], at: usize) -> &str {
    let text = args.get(at).and_then(Val::as_str);
    debug_assert!(text.is_some(), "the signature has no text at {at}");
    text.unwrap_or_default()
}

/// Returns the bytes of the argument's text.
fn raw(args: &[Val], at: usize) -> Cow<'_, [u8]> {
    bytes::bytes(text(args, at))
}

/// Returns the argument's integer; the signature has made sure that it is one.
fn int(args: &[Val], at: usize) -> i64 {
    let number = args.get(at).and_then(Val::as_signed);
    debug_assert!(number.is_some(), "the signature has no integer at {at}");
    number.unwrap_or_default()
}

/// What Go says when it looks at the type of nil.
const NIL: &str = "runtime error: invalid memory address or nil pointer dereference";

/// No function returns more bytes of text than this; the reference would run out of memory.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// No function returns more items than this.
const MAX_ITEMS: usize = 1 << 20;

/// Returns a length when no text of a function is too long for it.
pub(super) fn room(length: Option<usize>) -> Result<usize, String> {
    length
        .filter(|length| *length <= MAX_TEXT)
        .ok_or_else(|| format!("text of more than {MAX_TEXT} bytes"))
}

/// Returns the items when they are not too many.
fn counted<T>(items: impl Iterator<Item = T>) -> Result<Vec<T>, String> {
    let found: Vec<T> = items.take(MAX_ITEMS + 1).collect();
    if found.len() > MAX_ITEMS {
        return Err(format!("more than {MAX_ITEMS} items"));
    }
    Ok(found)
}
