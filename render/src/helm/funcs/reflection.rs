//! Functions about types and emptiness.

use std::borrow::Cow;

use super::{Function, pure, text};
use crate::helm::object::Object;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("typeOf", "a", |args| {
        Ok(args[0].clone().unwrapped().type_name().into())
    }),
    pure("typeIs", "sa", |args| {
        Ok((text(args, 0) == args[1].clone().unwrapped().type_name()).into())
    }),
    pure("typeIsLike", "sa", |args| {
        let name = args[1].clone().unwrapped().type_name();
        Ok((text(args, 0) == name || name.strip_prefix('*') == Some(text(args, 0))).into())
    }),
    pure("kindOf", "a", |args| Ok(args[0].kind_name().into())),
    pure("kindIs", "sa", |args| {
        Ok((text(args, 0) == args[1].kind_name()).into())
    }),
    pure("deepEqual", "aa", |args| {
        Ok(deep_equal(&args[0], &args[1], 0).into())
    }),
    pure("empty", "a", |args| Ok(empty(&args[0]).into())),
    pure("default", "aa*", |args| match args.get(1) {
        Some(given) if !empty(given) => Ok(given.clone()),
        _ => Ok(args[0].clone()),
    }),
    pure("coalesce", "a*", |args| {
        Ok(args
            .iter()
            .find(|value| !empty(value))
            .cloned()
            .unwrap_or(Val::Nil))
    }),
    pure("all", "a*", |args| Ok((!args.iter().any(empty)).into())),
    pure("any", "a*", |args| {
        Ok(args.iter().any(|value| !empty(value)).into())
    }),
    pure("ternary", "aab", |args| {
        Ok(if args[2].truth() {
            args[0].clone()
        } else {
            args[1].clone()
        })
    }),
];

/// Returns whether sprig takes the value for empty.
pub(super) fn empty(value: &Val) -> bool {
    match value {
        Val::Object(object) if !matches!(**object, Object::Duration(_)) => match &**object {
            Object::Files(_) | Object::Bytes(_) | Object::ApiVersions(_) => !object.truth(),
            _ => false,
        },
        value => !value.truth(),
    }
}

/// How deep values are compared.
pub(super) const MAX_DEPTH: usize = 1000;

/// Returns whether Go's `reflect.DeepEqual` holds: kinds count, so 1 and 1.0 differ.
pub(super) fn deep_equal(a: &Val, b: &Val, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match (a, b) {
        (Val::Invalid | Val::Nil, Val::Invalid | Val::Nil) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(a), Val::Int(b)) | (Val::Int64(a), Val::Int64(b)) => a == b,
        (Val::UInt(a), Val::UInt(b)) => a == b,
        (Val::Byte(a), Val::Byte(b)) => a == b,
        (Val::Float(a), Val::Float(b)) => a == b,
        (Val::Str(a), Val::Str(b)) => a == b,
        (Val::List(a), Val::List(b)) => {
            a.of == b.of
                && a.nil == b.nil
                && a.items.len() == b.items.len()
                && a.items
                    .iter()
                    .zip(b.items.iter())
                    .all(|(a, b)| deep_equal(a, b, depth + 1))
        }
        (Val::Map(a), Val::Map(b)) => {
            if std::rc::Rc::ptr_eq(&a.entries, &b.entries) {
                return true;
            }
            let (a_entries, b_entries) = (a.entries.borrow(), b.entries.borrow());
            a.kind == b.kind
                && a.nil == b.nil
                && a_entries.len() == b_entries.len()
                && a_entries.iter().all(|(key, value)| {
                    b_entries
                        .get(key)
                        .is_some_and(|other| deep_equal(value, other, depth + 1))
                })
        }
        (Val::Object(a), Val::Object(b)) => std::rc::Rc::ptr_eq(a, b),
        _ => false,
    }
}

/// Returns the items of a list of any type.
pub(super) fn items(value: &Val) -> Option<Cow<'_, [Val]>> {
    match value {
        Val::List(list) => Some(Cow::Borrowed(&list.items)),
        Val::Object(object) if object.kind_name() == "slice" => {
            Some((0..object.length()?).filter_map(|at| object.item(at)).collect())
        }
        _ => None,
    }
}
