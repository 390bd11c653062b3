//! Go's `index`, `slice` and `len`, which take lists, maps and texts alike.

use std::rc::Rc;

use super::maths::to_int;
use super::reflection::items;
use super::{Function, NIL, pure, reading};
use crate::helm::bytes;
use crate::helm::eval::Interp;
use crate::helm::exec_error::ExecError;
use crate::helm::value::{Items, List, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    reading("index", "vv*", index),
    pure("slice", "aa*", slice),
    pure("mustSlice", "aa*", slice),
    pure("len", "v", length),
];

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
        Val::Map(map) => key(at).map(|key| map.get(key).unwrap_or_else(|| map.zero())),
        Val::Str(text) => {
            let bytes = bytes::bytes(text);
            Ok(Val::Byte(bytes[position(at, bytes.len())?]))
        }
        Val::List(list) => Ok(list.items[position(at, list.items.len())?].clone()),
        Val::Object(object) => {
            if object.kind_name() == "map" {
                return key(at).map(|key| object.field(key).unwrap_or(Val::Nil));
            }
            match object.length() {
                Some(length) => {
                    let at = position(at, length)?;
                    Ok(object.item(at).unwrap_or_default())
                }
                None => Err(format!("can't index item of type {}", object.type_name())),
            }
        }
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

/// Returns the key of a map, which is text.
fn key(at: &Val) -> Result<&str, String> {
    match at {
        Val::Str(key) => Ok(key),
        Val::Invalid | Val::Nil => Err("value is nil; should be of type string".to_owned()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
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
            Val::Object(object) => object
                .length()
                .ok_or_else(|| format!("len of type {}", object.type_name()))?,
            other => return Err(format!("len of type {}", other.type_name())),
        },
    };
    Ok(Val::Int(length as i64))
}
