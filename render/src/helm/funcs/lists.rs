//! Lists: sprig's `list`, `append`, `uniq` and their kin.

use std::borrow::Cow;
use std::rc::Rc;

use super::known::Known;
use super::reflection::{deep_equal, empty, items};
use super::{Function, NIL, int, pure, reading};
use crate::helm::bytes;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::value::{Items, List, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("list", "a*", list),
    pure("tuple", "a*", list),
    pure("append", "aa", append),
    pure("push", "aa", append),
    pure("mustAppend", "aa", append),
    pure("mustPush", "aa", append),
    pure("prepend", "aa", prepend),
    pure("mustPrepend", "aa", prepend),
    pure("first", "a", |args| {
        Ok(of(args, 0, "Cannot find first on type")?
            .first()
            .cloned()
            .unwrap_or(Val::Nil))
    }),
    pure("mustFirst", "a", |args| {
        Ok(of(args, 0, "Cannot find first on type")?
            .first()
            .cloned()
            .unwrap_or(Val::Nil))
    }),
    pure("last", "a", |args| {
        Ok(of(args, 0, "Cannot find last on type")?
            .last()
            .cloned()
            .unwrap_or(Val::Nil))
    }),
    pure("mustLast", "a", |args| {
        Ok(of(args, 0, "Cannot find last on type")?
            .last()
            .cloned()
            .unwrap_or(Val::Nil))
    }),
    pure("rest", "a", rest),
    pure("mustRest", "a", rest),
    pure("initial", "a", initial),
    pure("mustInitial", "a", initial),
    pure("reverse", "a", reverse),
    pure("mustReverse", "a", reverse),
    reading("uniq", "a", uniq),
    reading("mustUniq", "a", uniq),
    pure("compact", "a", compact),
    pure("mustCompact", "a", compact),
    reading("without", "aa*", without),
    reading("mustWithout", "aa*", without),
    pure("has", "aa", has),
    pure("mustHas", "aa", has),
    pure("concat", "a*", concat),
    pure("chunk", "ia", chunk),
    pure("mustChunk", "ia", chunk),
    pure("sortAlpha", "a", sort_alpha),
];

fn of<'a>(args: &'a [Val], at: usize, message: &str) -> Result<Cow<'a, [Val]>, String> {
    if args[at].is_nil() {
        return Err(NIL.to_owned());
    }
    items(&args[at]).ok_or_else(|| format!("{message} {}", args[at].kind_name()))
}

fn list(args: &[Val]) -> Result<Val, String> {
    Ok(Val::list(args.iter().cloned().map(Val::held).collect()))
}

fn append(args: &[Val]) -> Result<Val, String> {
    let mut items = of(args, 0, "Cannot push on type")?.into_owned();
    items.push(args[1].clone().held());
    Ok(Val::list(items))
}

fn prepend(args: &[Val]) -> Result<Val, String> {
    let mut items = of(args, 0, "Cannot prepend on type")?.into_owned();
    items.insert(0, args[1].clone().held());
    Ok(Val::list(items))
}

fn rest(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot find rest on type")?;
    Ok(match items.split_first() {
        None => Val::nil_list(Items::Any),
        Some((_, rest)) => Val::list(rest.to_vec()),
    })
}

fn initial(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot find initial on type")?;
    Ok(match items.split_last() {
        None => Val::nil_list(Items::Any),
        Some((_, before)) => Val::list(before.to_vec()),
    })
}

fn reverse(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot find reverse on type")?;
    Ok(Val::list(items.iter().rev().cloned().collect()))
}

fn uniq(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let items = of(args, 0, "Cannot find uniq on type").map_err(ExecError::plain)?;
    let mut known = Known::default();
    let mut kept = Vec::new();
    for item in items.iter() {
        if known.insert(interp, item)? {
            kept.push(item.clone());
        }
    }
    Ok(Val::list(kept))
}

fn compact(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot compact on type")?;
    Ok(Val::list(
        items.iter().filter(|item| !empty(item)).cloned().collect(),
    ))
}

fn without(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let items = of(args, 0, "Cannot find without on type").map_err(ExecError::plain)?;
    let mut known = Known::default();
    for value in &args[1..] {
        known.insert(interp, value)?;
    }
    let mut kept = Vec::new();
    for item in items.iter() {
        if !known.holds(interp, item)? {
            kept.push(item.clone());
        }
    }
    Ok(Val::list(kept))
}

fn has(args: &[Val]) -> Result<Val, String> {
    if args[1].is_nil() {
        return Ok(false.into());
    }
    let items = of(args, 1, "Cannot find has on type")?;
    Ok(items.iter().any(|item| deep_equal(item, &args[0], 0)).into())
}

fn concat(args: &[Val]) -> Result<Val, String> {
    let mut all = Vec::new();
    for value in args {
        if value.is_nil() {
            return Err(NIL.to_owned());
        }
        match items(value) {
            Some(items) => all.extend_from_slice(&items),
            None => return Err(format!("Cannot concat type {} as list", value.kind_name())),
        }
    }
    // Go appends to no list, which stays none when nothing is appended.
    Ok(if all.is_empty() {
        Val::nil_list(Items::Any)
    } else {
        Val::list(all)
    })
}

fn chunk(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 1, "Cannot chunk type")?;
    let Some(size) = usize::try_from(int(args, 0)).ok().filter(|size| *size > 0) else {
        return Err("runtime error: makeslice: len out of range".to_owned());
    };
    let chunks = items
        .chunks(size)
        .map(|chunk| Val::list(chunk.to_vec()))
        .collect::<Vec<_>>();
    Ok(Val::List(List {
        items: Rc::new(chunks.into()),
        of: Items::Lists,
        nil: false,
    }))
}

fn sort_alpha(args: &[Val]) -> Result<Val, String> {
    if args[0].is_nil() {
        return Ok(Val::strings(["<nil>"]));
    }
    let mut texts = super::texts::texts(&args[0]);
    texts.sort_by(|a, b| bytes::bytes(a).cmp(&bytes::bytes(b)));
    Ok(Val::strings(texts))
}
