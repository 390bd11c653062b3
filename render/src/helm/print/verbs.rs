//! Writes a value under a verb.

use std::fmt::Write;
use std::rc::Rc;

use super::numbers::{float, integer};
use crate::helm::bytes;
use crate::helm::funcs::MAX_TEXT;
use crate::helm::object::Object;
use crate::helm::quote::{can_backquote, quote};
use crate::helm::value::Val;

/// The flags, width and precision of one verb.
#[derive(Default, Clone)]
pub(super) struct Spec {
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) sharp: bool,
    /// `%#v`: as Go source.
    pub(super) syntax: bool,
    /// `%+v`: structs with the names of their fields.
    pub(super) names: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
    /// Whether the value stands within another.
    pub(super) inner: bool,
    /// Whether a verb is being told that does not fit: methods are not asked then.
    pub(super) bad: bool,
}

pub(super) fn format_value(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    if out.len() > MAX_TEXT {
        return;
    }
    match value {
        Val::Invalid | Val::Nil if matches!(verb, 'v' | 'T') => return pad("<nil>", spec, out),
        Val::Invalid | Val::Nil => {
            let _ = write!(out, "%!{verb}(<nil>)");
            return;
        }
        _ => {}
    }
    match verb {
        'T' => return pad(cut(value.type_name(), spec), spec, out),
        'p' => return bad(value, verb, spec, out),
        // Only errors are wrapped, and a value is asked whether it is one before its items are looked at.
        'w' if value.holds_others() || is_other_object(value) => return bad(value, verb, spec, out),
        _ => {}
    }
    let inner = Spec {
        inner: true,
        ..spec.clone()
    };
    match value {
        Val::Bool(flag) if matches!(verb, 't' | 'v') => pad(if *flag { "true" } else { "false" }, spec, out),
        Val::Bool(_) => bad(value, verb, spec, out),
        Val::Int(number) | Val::Int64(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::UInt(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::Byte(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::Float(number) => float(value, *number, verb, spec, out),
        Val::Str(text) => string(value, text, verb, spec, out),
        Val::List(list) => {
            let items = list.items.iter();
            sequence(value, list.nil, items, spec, out, |item, out| {
                format_item(item, verb, &inner, out);
            });
        }
        Val::Map(map) => {
            let entries = map.entries.borrow();
            mapping(value, map.nil, entries.iter(), spec, out, |(key, item), out| {
                format_value(&Val::Str(key.clone()), verb, &inner, out);
                out.push(':');
                format_item(item, verb, &inner, out);
            });
        }
        Val::Object(object) => format_object(object, value, verb, spec, out),
        Val::Invalid | Val::Nil => {}
    }
}

/// Tells whether the value is an object that Go's fmt asks for its methods; it knows bytes by themselves.
fn is_other_object(value: &Val) -> bool {
    matches!(value, Val::Object(object) if !matches!(**object, Object::Bytes(_)))
}

/// Formats what a list or a map holds; nil within is no error of the verb.
fn format_item(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    if value.is_nil() {
        out.push_str(if spec.syntax { "interface {}(nil)" } else { "<nil>" });
    } else {
        format_value(value, verb, spec, out)
    }
}

/// Writes a list: `[a b]`, in Go's source `[]string{a, b}`.
fn sequence<T>(
    value: &Val,
    nil: bool,
    items: impl Iterator<Item = T>,
    spec: &Spec,
    out: &mut String,
    each: impl FnMut(T, &mut String),
) {
    if spec.syntax {
        return source(value, nil, items, out, each);
    }
    out.push('[');
    separated(items, " ", out, each);
    out.push(']');
}

/// Writes a map: `map[a:1 b:2]`, in Go's source `map[string]int{a:1, b:2}`.
fn mapping<T>(
    value: &Val,
    nil: bool,
    entries: impl Iterator<Item = T>,
    spec: &Spec,
    out: &mut String,
    each: impl FnMut(T, &mut String),
) {
    if spec.syntax {
        return source(value, nil, entries, out, each);
    }
    out.push_str("map[");
    separated(entries, " ", out, each);
    out.push(']');
}

fn source<T>(
    value: &Val,
    nil: bool,
    items: impl Iterator<Item = T>,
    out: &mut String,
    each: impl FnMut(T, &mut String),
) {
    out.push_str(value.type_name());
    if nil {
        return out.push_str("(nil)");
    }
    out.push('{');
    separated(items, ", ", out, each);
    out.push('}');
}

fn separated<T>(
    items: impl Iterator<Item = T>,
    between: &str,
    out: &mut String,
    mut each: impl FnMut(T, &mut String),
) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push_str(between);
        }
        each(item, out);
    }
}

fn format_object(object: &Object, value: &Val, verb: char, spec: &Spec, out: &mut String) {
    // What says how it is written is asked first.
    if !spec.bad {
        if let (true, Some(source)) = (spec.syntax, object.source()) {
            return out.push_str(&source);
        }
        if let (true, Some(text)) = (
            !spec.syntax && matches!(verb, 'v' | 's' | 'q' | 'x' | 'X'),
            object.text(),
        ) {
            return string(&Val::from(text.as_str()), &text, verb, spec, out);
        }
    }
    let inner = Spec {
        inner: true,
        ..spec.clone()
    };
    match object {
        Object::Bytes(bytes) => return format_bytes(bytes, value, verb, spec, out),
        Object::Files(files) => {
            return mapping(value, false, files.iter(), spec, out, |(name, data), out| {
                format_value(&Val::Str(name.clone()), verb, spec, out);
                out.push(':');
                let file = Val::Object(Rc::new(Object::Bytes(data.clone())));
                format_bytes(data, &file, verb, &inner, out);
            });
        }
        Object::ApiVersions(capabilities) => {
            let names = capabilities.api_versions.iter();
            return sequence(value, false, names, spec, out, |name, out| {
                format_value(&name.as_str().into(), verb, spec, out);
            });
        }
        _ => {}
    }
    if let Some(number) = object.as_signed() {
        return integer(value, i128::from(number), verb, spec, out);
    }
    let Some(fields) = object.fields() else {
        // Of a time the fields tell how the machine keeps it.
        let text = object.text().unwrap_or_default();
        let _ = write!(out, "%!{verb}({}={text})", value.type_name());
        return;
    };
    let name = value.type_name();
    let (pointer, name) = match name.strip_prefix('*') {
        Some(name) => ("&", name),
        None => ("", name),
    };
    out.push_str(pointer);
    if spec.syntax {
        out.push_str(name);
    }
    out.push('{');
    let between = if spec.syntax { ", " } else { " " };
    separated(fields.into_iter(), between, out, |(name, field), out| {
        if spec.syntax || spec.names {
            let _ = write!(out, "{name}:");
        }
        format_value(&field, verb, &inner, out);
    });
    out.push('}');
}

/// Formats `[]byte`: as text under the verbs of text, else each byte as a number.
fn format_bytes(bytes: &[u8], value: &Val, verb: char, spec: &Spec, out: &mut String) {
    match verb {
        's' | 'q' | 'x' | 'X' => string(value, &bytes::text(bytes), verb, spec, out),
        'v' if spec.syntax => {
            out.push_str(if spec.inner { "[]uint8{" } else { "[]byte{" });
            separated(bytes.iter(), ", ", out, |byte, out| {
                let _ = write!(out, "0x{byte:x}");
            });
            out.push('}');
        }
        _ => {
            out.push('[');
            separated(bytes.iter(), " ", out, |byte, out| {
                if out.len() <= MAX_TEXT {
                    integer(&Val::Byte(*byte), i128::from(*byte), verb, spec, out);
                }
            });
            out.push(']');
        }
    }
}

/// Tells that a verb does not fit a value.
pub(super) fn bad(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    let _ = write!(out, "%!{verb}({}=", value.type_name());
    let spec = Spec {
        bad: true,
        ..spec.clone()
    };
    format_value(value, 'v', &spec, out);
    out.push(')');
}

pub(super) fn pad(text: &str, spec: &Spec, out: &mut String) {
    pad_with(text, spec, spec.zero && !spec.minus, out);
}

pub(super) fn pad_with(text: &str, spec: &Spec, zeros: bool, out: &mut String) {
    let width = spec.width.unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    let fill = if zeros { '0' } else { ' ' };
    if spec.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(fill, missing));
        out.push_str(text);
    }
}

/// Returns as many characters as the precision allows.
fn cut<'t>(text: &'t str, spec: &Spec) -> &'t str {
    let end = spec
        .precision
        .and_then(|precision| text.char_indices().nth(precision))
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn string(value: &Val, text: &str, verb: char, spec: &Spec, out: &mut String) {
    match verb {
        'v' if spec.syntax => pad(&quote(text), spec, out),
        'v' | 's' => pad(cut(text, spec), spec, out),
        'q' if spec.sharp && can_backquote(cut(text, spec)) => {
            pad(&format!("`{}`", cut(text, spec)), spec, out);
        }
        'q' if spec.plus => pad(&ascii(&quote(cut(text, spec))), spec, out),
        'q' => pad(&quote(cut(text, spec)), spec, out),
        'x' | 'X' => pad(&hexadecimal(text, verb, spec), spec, out),
        _ => bad(value, verb, spec, out),
    }
}

fn hexadecimal(text: &str, verb: char, spec: &Spec) -> String {
    let bytes = bytes::bytes(text);
    let bytes = &bytes[..spec.precision.unwrap_or(bytes.len()).min(bytes.len())];
    let prefix = match (spec.sharp && !bytes.is_empty(), verb) {
        (true, 'x') => "0x",
        (true, _) => "0X",
        (false, _) => "",
    };
    let mut hex = prefix.to_owned();
    for (at, byte) in bytes.iter().enumerate() {
        if spec.space && at > 0 {
            hex.push(' ');
            hex.push_str(prefix);
        }
        let _ = if verb == 'x' {
            write!(hex, "{byte:02x}")
        } else {
            write!(hex, "{byte:02X}")
        };
    }
    hex
}

/// Escapes what is not ASCII.
pub(super) fn ascii(quoted: &str) -> String {
    quoted.chars().fold(String::new(), |mut out, c| {
        let _ = match u32::from(c) {
            ..=0x7f => write!(out, "{c}"),
            code @ ..=0xffff => write!(out, "\\u{code:04x}"),
            code => write!(out, "\\U{code:08x}"),
        };
        out
    })
}
