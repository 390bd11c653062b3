//! Prints values as Go's fmt does: `%v` for actions and `print`, and every verb for `printf`.

mod floats;
mod format;
mod numbers;
mod verbs;

use std::fmt::Write;

use super::object::Object;
use super::value::Val;
use crate::yaml::number::shortest;
pub(super) use format::sprintf;
use verbs::{Spec, format_value};

/// Appends what an action prints: a pointer is followed, and what stands behind one has the methods of a pointer.
pub(super) fn append_action(value: &Val, out: &mut String) {
    let Val::Object(object) = value else {
        return append(value, out);
    };
    match &**object {
        Object::KubeVersion(capabilities) => out.push_str(&capabilities.kube_version.normalized),
        Object::Capabilities(_) => out.push_str(text(value).trim_start_matches('&')),
        _ => append(value, out),
    }
}

/// Appends `value` as `%v`.
pub(super) fn append(value: &Val, out: &mut String) {
    match value {
        Val::Invalid | Val::Nil => out.push_str("<nil>"),
        Val::Str(text) => out.push_str(text),
        Val::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Val::Int(number) | Val::Int64(number) => _ = write!(out, "{number}"),
        Val::UInt(number) => _ = write!(out, "{number}"),
        Val::Byte(number) => _ = write!(out, "{number}"),
        Val::Float(number) => out.push_str(&shortest(*number)),
        Val::List(list) => {
            out.push('[');
            for (at, item) in list.items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                append(item, out);
            }
            out.push(']');
        }
        Val::Map(map) => {
            out.push_str("map[");
            for (at, (key, item)) in map.entries.borrow().iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                append(item, out);
            }
            out.push(']');
        }
        Val::Object(_) => format_value(value, 'v', &Spec::default(), out),
    }
}

/// Returns `value` as `%v`.
pub(super) fn text(value: &Val) -> String {
    let mut out = String::new();
    append(value, &mut out);
    out
}

/// Returns the operands with blanks between those of which neither is text, as Go's `Sprint`.
pub(super) fn sprint(args: &[Val]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        let texts = matches!(value, Val::Str(_)) || (at > 0 && matches!(args[at - 1], Val::Str(_)));
        if at > 0 && !texts {
            out.push(' ');
        }
        append(value, &mut out);
    }
    out
}

/// Returns the operands with blanks between them and a line break, as Go's `Sprintln`.
pub(super) fn sprintln(args: &[Val]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        append(value, &mut out);
    }
    out.push('\n');
    out
}
