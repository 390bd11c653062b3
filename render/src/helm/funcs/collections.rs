//! Lists and maps: sprig's, and Go's `index`, `slice` and `len`.

use std::rc::Rc;

use super::maths::to_int;
use super::reflection::{deep_equal, empty, items};
use super::{Function, NIL, int, pure, reading, text};
use crate::helm::bytes;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::object::to_text;
use crate::helm::value::{Entries, Items, List, MapKind, MapVal, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("list", "a*", list),
    pure("tuple", "a*", list),
    pure("dict", "a*", dict),
    reading("get", "ms", get),
    reading("set", "msa", set),
    pure("unset", "ms", unset),
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
    reading("index", "vv*", index),
    pure("slice", "aa*", slice),
    pure("mustSlice", "aa*", slice),
    pure("len", "v", length),
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
    pure("uniq", "a", uniq),
    pure("mustUniq", "a", uniq),
    pure("compact", "a", compact),
    pure("mustCompact", "a", compact),
    pure("without", "aa*", without),
    pure("mustWithout", "aa*", without),
    pure("has", "aa", has),
    pure("mustHas", "aa", has),
    pure("concat", "a*", concat),
    pure("chunk", "ia", chunk),
    pure("mustChunk", "ia", chunk),
    pure("sortAlpha", "a", sort_alpha),
];

fn map(args: &[Val], at: usize) -> Option<&MapVal> {
    match args.get(at) {
        Some(Val::Map(map)) => Some(map),
        _ => None,
    }
}

fn of(args: &[Val], at: usize, message: &str) -> Result<Vec<Val>, String> {
    if args[at].is_nil() {
        return Err(NIL.to_owned());
    }
    items(&args[at]).ok_or_else(|| format!("{message} {}", args[at].kind_name()))
}

fn list(args: &[Val]) -> Result<Val, String> {
    Ok(Val::list(args.iter().cloned().map(Val::held).collect()))
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
    put(interp, map, text(args, 1), args[2].clone().held());
    Ok(passed_on(args))
}

/// Sets a value in a map, which it may hold in turn: then the map is freed at the end of the rendering only.
fn put(interp: &mut Interp<'_>, map: &MapVal, key: &str, value: Val) {
    interp.made += key.len() + ENTRY_BYTES;
    if value.holds_others() {
        interp.holders.push(Rc::downgrade(&map.entries));
    }
    map.set(key, value);
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

fn unset(args: &[Val]) -> Result<Val, String> {
    if let Some(map) = map(args, 0) {
        map.entries.borrow_mut().remove(text(args, 1));
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
    let named = |key: &str| args[1..].iter().any(|name| name.as_str() == Some(key));
    let entries = map(args, 0).map_or_else(Entries::new, |map| {
        let entries = map.entries.borrow();
        entries
            .iter()
            .filter(|(key, _)| named(key) == keep)
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
            put(interp, into, &key, value);
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

fn index(interp: &mut Interp<'_>, args: &[Val]) -> Result<Val, Box<ExecError>> {
    let mut item = args[0].clone();
    if item.is_nil() {
        return Err(ExecError::plain("index of untyped nil".to_owned()));
    }
    for at in &args[1..] {
        if let Some(key) = at.as_str() {
            interp.reads.key(key);
        }
        item = step(&item, at).map_err(ExecError::plain)?;
    }
    Ok(item)
}

fn step(item: &Val, at: &Val) -> Result<Val, String> {
    match item {
        Val::Invalid | Val::Nil => Err("index of nil pointer".to_owned()),
        Val::Map(map) => match at {
            Val::Str(key) => Ok(map.get(key).unwrap_or_else(|| map.zero())),
            Val::Invalid | Val::Nil => Err("value is nil; should be of type string".to_owned()),
            other => Err(format!("value has type {}; should be string", other.type_name())),
        },
        Val::Str(text) => {
            let bytes = bytes::bytes(text);
            Ok(Val::Byte(bytes[position(at, bytes.len())?]))
        }
        Val::List(list) => Ok(list.items[position(at, list.items.len())?].clone()),
        Val::Object(object) => {
            if let (Some(key), "map") = (at.as_str(), object.kind_name()) {
                return Ok(object.field(key).unwrap_or(Val::Nil));
            }
            match object.entries() {
                Some(entries) => Ok(entries[position(at, entries.len())?].1.clone()),
                None => Err(format!("can't index item of type {}", object.type_name())),
            }
        }
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn position(at: &Val, length: usize) -> Result<usize, String> {
    let number = match at {
        Val::Invalid | Val::Nil => return Err("cannot index slice/array with nil".to_owned()),
        other => other
            .as_signed()
            .or(other.as_unsigned().map(|number| number as i64)),
    };
    let Some(number) = number else {
        return Err(format!("cannot index slice/array with type {}", at.type_name()));
    };
    usize::try_from(number)
        .ok()
        .filter(|number| *number < length)
        .ok_or_else(|| {
            format!("error calling index: index out of range: {number}").replace("error calling index: ", "")
        })
}

fn slice(args: &[Val]) -> Result<Val, String> {
    if args[0].is_nil() {
        return Err(NIL.to_owned());
    }
    let Some(items) = items(&args[0]) else {
        return Err(format!(
            "list should be type of slice or array but {}",
            args[0].kind_name()
        ));
    };
    if items.is_empty() {
        return Ok(Val::Nil);
    }
    let start = args.get(1).map_or(0, to_int);
    let end = args.get(2).map_or(items.len() as i64, to_int);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let Some((start, end)) = range.filter(|(start, end)| start <= end && *end <= items.len()) else {
        return Err("reflect.Value.Slice: slice index out of bounds".to_owned());
    };
    let of = match &args[0] {
        Val::List(list) => list.of,
        _ => Items::Any,
    };
    Ok(Val::List(List {
        items: Rc::new(items[start..end].to_vec().into()),
        of,
        nil: false,
    }))
}

fn length(args: &[Val]) -> Result<Val, String> {
    let length = match &args[0] {
        Val::Invalid | Val::Nil => return Err("len of nil pointer".to_owned()),
        Val::Str(text) => bytes::bytes(text).len(),
        Val::List(list) => list.items.len(),
        Val::Map(map) => map.entries.borrow().len(),
        other => match other {
            Val::Object(object) if object.entries().is_some() => {
                object.entries().map_or(0, |entries| entries.len())
            }
            other => return Err(format!("len of type {}", other.type_name())),
        },
    };
    Ok(Val::Int(length as i64))
}

fn append(args: &[Val]) -> Result<Val, String> {
    let mut items = of(args, 0, "Cannot push on type")?;
    items.push(args[1].clone().held());
    Ok(Val::list(items))
}

fn prepend(args: &[Val]) -> Result<Val, String> {
    let mut items = of(args, 0, "Cannot prepend on type")?;
    items.insert(0, args[1].clone().held());
    Ok(Val::list(items))
}

fn rest(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot find rest on type")?;
    Ok(match items.is_empty() {
        true => Val::nil_list(Items::Any),
        false => Val::list(items.into_iter().skip(1).collect()),
    })
}

fn initial(args: &[Val]) -> Result<Val, String> {
    let mut items = of(args, 0, "Cannot find initial on type")?;
    Ok(match items.pop() {
        None => Val::nil_list(Items::Any),
        Some(_) => Val::list(items),
    })
}

fn reverse(args: &[Val]) -> Result<Val, String> {
    Ok(Val::list(
        of(args, 0, "Cannot find reverse on type")?
            .into_iter()
            .rev()
            .collect(),
    ))
}

fn contains(items: &[Val], needle: &Val) -> bool {
    items.iter().any(|item| deep_equal(item, needle, 0))
}

fn uniq(args: &[Val]) -> Result<Val, String> {
    let mut seen: Vec<Val> = Vec::new();
    for item in of(args, 0, "Cannot find uniq on type")? {
        if !contains(&seen, &item) {
            seen.push(item);
        }
    }
    Ok(Val::list(seen))
}

fn compact(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot compact on type")?;
    Ok(Val::list(items.into_iter().filter(|item| !empty(item)).collect()))
}

fn without(args: &[Val]) -> Result<Val, String> {
    let items = of(args, 0, "Cannot find without on type")?;
    Ok(Val::list(
        items
            .into_iter()
            .filter(|item| !contains(&args[1..], item))
            .collect(),
    ))
}

fn has(args: &[Val]) -> Result<Val, String> {
    if args[1].is_nil() {
        return Ok(false.into());
    }
    Ok(contains(&of(args, 1, "Cannot find has on type")?, &args[0]).into())
}

fn concat(args: &[Val]) -> Result<Val, String> {
    let mut all = Vec::new();
    for value in args {
        if value.is_nil() {
            return Err(NIL.to_owned());
        }
        match items(value) {
            Some(items) => all.extend(items),
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
