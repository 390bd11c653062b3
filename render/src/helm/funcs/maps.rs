//! Maps: sprig's `dict`, `get`, `set`, `merge` and their kin.

use std::collections::HashSet;
use std::rc::Rc;

use super::reflection::empty;
use super::{Function, pure, reading, text};
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::object::to_text;
use crate::helm::value::{Entries, List, MapKind, MapVal, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("dict", "a*", dict),
    reading("get", "ms", get),
    reading("set", "msa", set),
    reading("unset", "ms", unset),
    pure("hasKey", "ms", |args| {
        Ok(map(args, 0)
            .is_some_and(|map| map.get(text(args, 1)).is_some())
            .into())
    }),
    pure("pluck", "sm*", pluck),
    pure("keys", "m*", keys),
    pure("values", "m", |args| {
        Ok(Val::list(map(args, 0).map_or_else(Vec::new, |map| {
            map.entries.borrow().values().cloned().collect()
        })))
    }),
    pure("pick", "ms*", |args| Ok(filtered(args, true))),
    pure("omit", "ms*", |args| Ok(filtered(args, false))),
    reading("merge", "mm*", |interp, args| merge(interp, args, false)),
    reading("mustMerge", "mm*", |interp, args| merge(interp, args, false)),
    reading("mergeOverwrite", "mm*", |interp, args| merge(interp, args, true)),
    reading("mustMergeOverwrite", "mm*", |interp, args| {
        merge(interp, args, true)
    }),
    pure("deepCopy", "a", |args| deep_copy(&args[0], 0)),
    pure("mustDeepCopy", "a", |args| deep_copy(&args[0], 0)),
    reading("dig", "a*", dig),
];

fn map(args: &[Val], at: usize) -> Option<&MapVal> {
    match args.get(at) {
        Some(Val::Map(map)) => Some(map),
        _ => None,
    }
}

fn dict(args: &[Val]) -> Result<Val, String> {
    let mut entries = Entries::new();
    for pair in args.chunks(2) {
        let value = pair.get(1).cloned().map_or_else(|| Val::from(""), Val::held);
        entries.insert(to_text(&pair[0]), value);
    }
    Ok(Val::map(entries))
}

fn get(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    interp.reads.key(text(args, 1));
    Ok(map(args, 0)
        .and_then(|map| map.get(text(args, 1)))
        .unwrap_or_else(|| "".into()))
}

fn set(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let Some(map) = map(args, 0).filter(|map| !map.nil) else {
        return Err(ExecError::plain("assignment to entry in nil map".to_owned()));
    };
    put(interp, map, text(args, 1), args[2].clone().held())?;
    Ok(passed_on(args))
}

/// Sets a value in a map, which it may hold in turn: then the map is freed at the end of the rendering only.
fn put(interp: &mut Interp<'_>, map: &MapVal, key: &str, value: Val) -> Result<(), Box<ExecError>> {
    interp.make(key.len() + ENTRY_BYTES)?;
    copy_before_change(interp, map)?;
    if value.holds_others() {
        interp.holders.push(Rc::downgrade(&map.entries));
    }
    map.set(key, value);
    Ok(())
}

/// Takes what a change copies of a map: values that several charts have in the same place are the same until then.
fn copy_before_change(interp: &mut Interp<'_>, map: &MapVal) -> Result<(), Box<ExecError>> {
    let copied = map.entries.copied_by_change();
    if copied > 0 {
        interp.charge(1 + copied as u64 / 4)?;
        interp.make(copied * ENTRY_BYTES)?;
    }
    Ok(())
}

/// What an entry takes in memory, beside its key and its value.
const ENTRY_BYTES: usize = 64;

/// Returns the map that a function was given, by the type of its parameter.
fn passed_on(args: &[Val]) -> Val {
    match map(args, 0) {
        Some(map) => Val::Map(map.of_kind(MapKind::Any)),
        None => args[0].clone(),
    }
}

fn unset(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    if let Some(map) = map(args, 0) {
        // What is not there changes nothing.
        if map.get(text(args, 1)).is_some() {
            copy_before_change(interp, map)?;
            map.unset(text(args, 1));
        }
    }
    Ok(passed_on(args))
}

fn pluck(args: &[Val]) -> Result<Val, String> {
    let found = (1..args.len()).filter_map(|at| map(args, at)?.get(text(args, 0)));
    Ok(Val::list(found.collect()))
}

fn keys(args: &[Val]) -> Result<Val, String> {
    let mut keys: Vec<Rc<str>> = Vec::new();
    for at in 0..args.len() {
        keys.extend(
            map(args, at)
                .into_iter()
                .flat_map(|map| map.entries.borrow().keys().cloned().collect::<Vec<_>>()),
        );
    }
    Ok(Val::strings(keys))
}

fn filtered(args: &[Val], keep: bool) -> Val {
    let names: HashSet<&str> = args[1..].iter().filter_map(Val::as_str).collect();
    let entries = map(args, 0).map_or_else(Entries::new, |map| {
        let entries = map.entries.borrow();
        entries
            .iter()
            .filter(|(key, _)| names.contains(&***key) == keep)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    });
    Val::map(entries)
}

fn merge(interp: &mut Interp<'_>, args: &[Val], overwrite: bool) -> Result<Val, Box<ExecError>> {
    let Some(into) = map(args, 0) else {
        return Ok(args[0].clone());
    };
    let mut into = into.of_kind(MapKind::Any);
    for at in 1..args.len() {
        if let Some(from) = map(args, at) {
            // Where there is no map, one is made for what another has.
            into.nil &= from.nil;
            merge_maps(interp, &into, from, overwrite, 0)?;
        }
    }
    Ok(Val::Map(into))
}

/// Fills what is absent or empty in `into`; with `overwrite` replaces all that `from` has. Lists and scalars
/// are taken whole, and what is taken is shared.
fn merge_maps(
    interp: &mut Interp<'_>,
    into: &MapVal,
    from: &MapVal,
    overwrite: bool,
    depth: usize,
) -> Result<(), Box<ExecError>> {
    if depth > 200 {
        return Err(ExecError::plain(
            "maps are nested too deep to be merged".to_owned(),
        ));
    }
    if Rc::ptr_eq(&into.entries, &from.entries) {
        return Ok(());
    }
    interp.charge(1 + from.entries.borrow().len() as u64)?;
    let source: Vec<_> = from
        .entries
        .borrow()
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in source {
        interp.reads.key(&key);
        if value.is_nil() {
            if overwrite {
                copy_before_change(interp, into)?;
                into.set(&key, Val::Nil);
            }
            continue;
        }
        let present = into.get(&key);
        if let (Val::Map(value), Some(Val::Map(present))) = (&value, &present) {
            merge_maps(interp, present, value, overwrite, depth + 1)?;
        }
        let kept = present.as_ref().filter(|present| !empty(present));
        let taken = match (&value, kept) {
            (_, None) => true,
            (Val::List(_), Some(_)) | (Val::Map(_), Some(Val::Map(_))) => {
                // A list over something that stays was decided by whether the target map was empty.
                matches!(value, Val::List(_)) && overwrite
            }
            (_, Some(_)) => overwrite,
        };
        if taken {
            put(interp, into, &key, value)?;
        }
    }
    Ok(())
}

/// How deep a value may be that is copied.
const MAX_COPY_DEPTH: usize = 1000;

fn deep_copy(value: &Val, depth: usize) -> Result<Val, String> {
    if depth > MAX_COPY_DEPTH {
        return Err(too_deep());
    }
    Ok(match value {
        Val::List(list) => {
            let items = list
                .items
                .iter()
                .map(|item| deep_copy(item, depth + 1))
                .collect::<Result<Vec<_>, _>>()?;
            Val::List(List {
                items: Rc::new(items.into()),
                of: list.of,
                nil: list.nil,
            })
        }
        Val::Map(map) => {
            // Copying the tree as it is, and then what is inside it, takes less than to build it key by key.
            let mut entries = map.entries.borrow().clone();
            for item in entries.values_mut() {
                match item {
                    Val::List(_) | Val::Map(_) | Val::Invalid => *item = deep_copy(item, depth + 1)?,
                    _ if depth >= MAX_COPY_DEPTH => return Err(too_deep()),
                    _ => {}
                }
            }
            Val::Map(MapVal {
                kind: map.kind,
                ..MapVal::new(entries)
            })
        }
        // The reference panics when it is given nothing at all.
        Val::Invalid => Val::Nil,
        other => other.clone(),
    })
}

fn too_deep() -> String {
    "value is nested too deep to be copied".to_owned()
}

fn dig(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let [keys @ .., default, last] = args else {
        return Err(ExecError::plain("dig needs at least three arguments".to_owned()));
    };
    if keys.is_empty() {
        return Err(ExecError::plain("dig needs at least three arguments".to_owned()));
    }
    let wrong = |value: &Val, wanted: &str| {
        let got = value.clone().unwrapped().type_name();
        let got = if got == "<nil>" { "nil" } else { got };
        ExecError::plain(format!(
            "interface conversion: interface {{}} is {got}, not {wanted}"
        ))
    };
    let mut current = last.clone();
    for key in keys {
        let map = match &current {
            Val::Map(map) if map.kind == MapKind::Any => map,
            _ => return Err(wrong(&current, "map[string]interface {}")),
        };
        let Some(key) = key.as_str() else {
            return Err(wrong(key, "string"));
        };
        interp.reads.key(key);
        match map.get(key) {
            Some(value) => current = value,
            None => return Ok(default.clone()),
        }
    }
    Ok(current)
}
