//! Comparisons, with the kinds of Go's templates: integers compare with integers, floats with floats.

use std::cmp::Ordering;
use std::rc::Rc;

use super::{Function, pure};
use crate::helm::bytes;
use crate::helm::object::Object;
use crate::helm::print;
use crate::helm::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("eq", "vv*", |args| equal(args).map(Val::Bool)),
    pure("ne", "vv", |args| equal(args).map(|same| Val::Bool(!same))),
    pure("lt", "vv", |args| less(args).map(Val::Bool)),
    pure("le", "vv", |args| Ok((less(args)? || equal(args)?).into())),
    pure("gt", "vv", |args| Ok((!(less(args)? || equal(args)?)).into())),
    pure("ge", "vv", |args| less(args).map(|less| Val::Bool(!less))),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Invalid,
    Bool,
    Int,
    Uint,
    Float,
    Text,
}

fn kind(value: &Val) -> Kind {
    match value {
        Val::Bool(_) => Kind::Bool,
        Val::Float(_) => Kind::Float,
        Val::Str(_) => Kind::Text,
        other if other.as_signed().is_some() => Kind::Int,
        other if other.as_unsigned().is_some() => Kind::Uint,
        _ => Kind::Invalid,
    }
}

const BAD: &str = "invalid type for comparison";

fn incompatible(a: &Val, b: &Val) -> String {
    format!(
        "incompatible types for comparison: {} and {}",
        a.type_name(),
        b.type_name()
    )
}

fn equal(args: &[Val]) -> Result<bool, String> {
    let [first, others @ ..] = args else {
        return Err("missing argument for comparison".to_owned());
    };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if same(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn same(a: &Val, b: &Val) -> Result<bool, String> {
    let kinds = (kind(a), kind(b));
    if kinds.0 != kinds.1 {
        return match kinds {
            (Kind::Int, Kind::Uint) | (Kind::Uint, Kind::Int) => Ok(integer(a) == integer(b)),
            _ if !a.is_nil() && !b.is_nil() => Err(incompatible(a, b)),
            _ => Ok(false),
        };
    }
    match (a, b) {
        (Val::Bool(a), Val::Bool(b)) => Ok(a == b),
        (Val::Float(a), Val::Float(b)) => Ok(a == b),
        (Val::Str(a), Val::Str(b)) => Ok(a == b),
        _ if kinds.0 != Kind::Invalid => Ok(integer(a) == integer(b)),
        _ if a.is_nil() || b.is_nil() => Ok(a.is_nil() == b.is_nil()),
        _ if a.kind_name() != b.kind_name() => Err(uncomparable(a, b)),
        _ => same_object(a, b).ok_or_else(|| uncomparable(a, b)),
    }
}

/// Tells whether two structs hold the same, or two pointers lead to the same; `None`: values of the type of the second are
/// not compared.
fn same_object(a: &Val, b: &Val) -> Option<bool> {
    let (Val::Object(first), Val::Object(second)) = (a, b) else {
        return None;
    };
    Some(match (&**first, &**second) {
        (_, Object::Files(_) | Object::Bytes(_) | Object::ApiVersions(_)) => return None,
        (Object::Time(a), Object::Time(b)) => a == b,
        (Object::VersionValue(a), Object::VersionValue(b)) => a == b,
        (Object::Capabilities(a), Object::Capabilities(b))
        | (Object::KubeVersion(a), Object::KubeVersion(b)) => Rc::ptr_eq(a, b),
        (Object::HelmVersion, Object::HelmVersion) => true,
        (
            Object::Certificate { certificate, key },
            Object::Certificate {
                certificate: other,
                key: other_key,
            },
        ) => (certificate, key) == (other, other_key),
        (Object::Version(_), Object::Version(_)) => Rc::ptr_eq(first, second),
        _ => false,
    })
}

fn uncomparable(a: &Val, b: &Val) -> String {
    let texts = |value: &Val| print::sprintf("%s", std::slice::from_ref(value));
    if a.kind_name() != b.kind_name() {
        let (left, right) = (texts(a), print::text(b));
        return format!(
            "non-comparable types {left}: {}, {}: {right}",
            a.type_name(),
            b.type_name()
        );
    }
    format!("non-comparable type {}: {}", texts(b), b.type_name())
}

fn integer(value: &Val) -> Option<i128> {
    value
        .as_signed()
        .map(i128::from)
        .or(value.as_unsigned().map(i128::from))
}

fn less(args: &[Val]) -> Result<bool, String> {
    let (a, b) = (&args[0], &args[1]);
    let kinds = (kind(a), kind(b));
    if kinds.0 == Kind::Invalid || kinds.1 == Kind::Invalid {
        return Err(BAD.to_owned());
    }
    let order = match (a, b) {
        (Val::Float(a), Val::Float(b)) => a.partial_cmp(b),
        (Val::Str(a), Val::Str(b)) => Some(bytes::bytes(a).cmp(&bytes::bytes(b))),
        (Val::Bool(_), Val::Bool(_)) => return Err(BAD.to_owned()),
        _ => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => return Err(incompatible(a, b)),
        },
    };
    Ok(order == Some(Ordering::Less))
}
