//! Prints values as Go's fmt does: `%v` for actions and `print`, and every verb for `printf`.

mod floats;

use std::fmt::Write;
use std::rc::Rc;

use super::bytes;
use super::funcs::MAX_TEXT;
use super::object::Object;
use super::quote::{can_backquote, quote, quote_char};
use super::value::Val;
use crate::yaml::number::shortest;
use floats::{binary, exponent, fixed, general, hexadecimal, scientific};

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
        Val::Object(object) => object.print(out),
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

/// The flags, width and precision of one verb.
#[derive(Default, Clone)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    /// `%#v`: as Go source.
    syntax: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// No width or precision may ask for more; Go's limit is the same.
const MAX_WIDTH: i64 = 1_000_000;

/// Returns `format` with its verbs replaced, as Go's `Sprintf`. What is longer than [`MAX_TEXT`] is cut off, so
/// that the caller can tell.
pub(super) fn sprintf(format: &str, args: &[Val]) -> String {
    Formatter {
        args,
        next: 0,
        reordered: false,
        good_index: true,
        out: String::new(),
    }
    .run(format)
}

struct Formatter<'a> {
    args: &'a [Val],
    next: usize,
    reordered: bool,
    good_index: bool,
    out: String,
}

impl Formatter<'_> {
    fn run(mut self, format: &str) -> String {
        let mut rest = format;
        let mut any_reordered = false;
        while let Some(at) = rest.find('%') {
            self.out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            self.reordered = false;
            self.good_index = true;
            rest = self.verb(rest);
            if self.out.len() > MAX_TEXT {
                return self.out;
            }
            any_reordered |= self.reordered;
        }
        self.out.push_str(rest);
        if !any_reordered && self.next < self.args.len() {
            self.out.push_str("%!(EXTRA ");
            for (at, value) in self.args[self.next..].iter().enumerate() {
                if at > 0 {
                    self.out.push_str(", ");
                }
                if value.is_nil() {
                    self.out.push_str("<nil>");
                } else {
                    let _ = write!(self.out, "{}=", value.type_name());
                    append(value, &mut self.out);
                }
            }
            self.out.push(')');
        }
        self.out
    }

    /// Reads one verb with its flags, writes its argument, and returns what follows it.
    fn verb<'f>(&mut self, mut rest: &'f str) -> &'f str {
        let mut spec = Spec::default();
        while let Some(flag) = rest.chars().next() {
            match flag {
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                ' ' => spec.space = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        rest = self.index(rest);
        if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            match self.star() {
                Some(width) => {
                    spec.minus |= width < 0;
                    spec.width = Some(width.unsigned_abs() as usize);
                }
                None => self.out.push_str("%!(BADWIDTH)"),
            }
        } else {
            let (width, after) = digits(rest);
            spec.width = width;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = self.index(after);
            if let Some(after) = rest.strip_prefix('*') {
                rest = after;
                match self.star() {
                    Some(precision) => spec.precision = usize::try_from(precision).ok(),
                    None => self.out.push_str("%!(BADPREC)"),
                }
            } else {
                let (precision, after) = digits(rest);
                spec.precision = Some(precision.unwrap_or(0));
                rest = after;
            }
        }
        rest = self.index(rest);
        let Some(verb) = rest.chars().next() else {
            self.out.push_str("%!(NOVERB)");
            return rest;
        };
        rest = &rest[verb.len_utf8()..];
        if verb == '%' {
            self.out.push('%');
        } else if !self.good_index {
            let _ = write!(self.out, "%!{verb}(BADINDEX)");
        } else if let Some(value) = self.args.get(self.next) {
            self.next += 1;
            let value = value.clone();
            if verb == 'v' {
                // For %v these flags ask for more of the value, not for a sign or a prefix.
                spec.plus = false;
                spec.syntax = std::mem::take(&mut spec.sharp);
            }
            format_value(&value, verb, &spec, &mut self.out);
        } else {
            let _ = write!(self.out, "%!{verb}(MISSING)");
        }
        rest
    }

    /// Reads an explicit argument index.
    fn index<'f>(&mut self, rest: &'f str) -> &'f str {
        let Some(inner) = rest.strip_prefix('[') else {
            return rest;
        };
        self.reordered = true;
        let Some(end) = inner.find(']') else {
            self.good_index = false;
            return inner;
        };
        match inner[..end].parse::<usize>() {
            Ok(index) if (1..=self.args.len()).contains(&index) => self.next = index - 1,
            _ => self.good_index = false,
        }
        &inner[end + 1..]
    }

    fn star(&mut self) -> Option<i64> {
        let value = self.args.get(self.next)?;
        self.next += 1;
        value.as_signed().filter(|number| number.abs() <= MAX_WIDTH)
    }
}

fn digits(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end]
        .parse()
        .ok()
        .filter(|number| *number <= MAX_WIDTH as usize);
    (number, &text[end..])
}

fn format_value(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    if out.len() > MAX_TEXT {
        return;
    }
    match verb {
        'T' => {
            return pad(
                if value.is_nil() {
                    "<nil>"
                } else {
                    value.type_name()
                },
                spec,
                out,
            );
        }
        'p' => return bad(value, verb, spec, out),
        _ => {}
    }
    match value {
        Val::Invalid | Val::Nil if verb == 'v' => pad("<nil>", spec, out),
        Val::Invalid | Val::Nil => _ = write!(out, "%!{verb}(<nil>)"),
        Val::Bool(flag) if matches!(verb, 't' | 'v') => pad(if *flag { "true" } else { "false" }, spec, out),
        Val::Int(number) | Val::Int64(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::UInt(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::Byte(number) => integer(value, i128::from(*number), verb, spec, out),
        Val::Float(number) => float(value, *number, verb, spec, out),
        Val::Str(text) => string(value, text, verb, spec, out),
        // Only errors are wrapped, and a value is asked whether it is one before its items are looked at.
        Val::List(_) | Val::Map(_) if verb == 'w' => bad(value, verb, spec, out),
        Val::List(list) if verb == 'v' && spec.syntax => {
            let _ = write!(out, "{}{{", value.type_name());
            separated(&list.items, ", ", out, |item, out| {
                format_item(item, verb, spec, out);
            });
            out.push('}');
        }
        Val::List(list) => {
            out.push('[');
            separated(&list.items, " ", out, |item, out| {
                format_item(item, verb, spec, out);
            });
            out.push(']');
        }
        Val::Map(map) => {
            let sharp = verb == 'v' && spec.syntax;
            if sharp {
                let _ = write!(out, "{}{{", value.type_name());
            } else {
                out.push_str("map[");
            }
            for (at, (key, item)) in map.entries.borrow().iter().enumerate() {
                if at > 0 {
                    out.push_str(if sharp { ", " } else { " " });
                }
                format_value(&Val::Str(key.clone()), verb, spec, out);
                out.push(':');
                format_item(item, verb, spec, out);
            }
            out.push(if sharp { '}' } else { ']' });
        }
        Val::Object(object) => format_object(object, value, verb, spec, out),
        Val::Bool(_) => bad(value, verb, spec, out),
    }
}

/// Formats what a list or a map holds; nil within is no error of the verb.
fn format_item(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    if value.is_nil() {
        let syntax = verb == 'v' && spec.syntax;
        out.push_str(if syntax { "interface {}(nil)" } else { "<nil>" });
    } else {
        format_value(value, verb, spec, out)
    }
}

fn format_object(object: &Object, value: &Val, verb: char, spec: &Spec, out: &mut String) {
    match object {
        Object::Bytes(bytes) => return format_bytes(bytes, value, verb, spec, out),
        Object::Files(files) if verb != 'w' => {
            let sharp = verb == 'v' && spec.syntax;
            out.push_str(if sharp { "engine.files{" } else { "map[" });
            for (at, (name, data)) in files.iter().enumerate() {
                if at > 0 {
                    out.push_str(if sharp { ", " } else { " " });
                }
                format_value(&Val::Str(name.clone()), verb, spec, out);
                out.push(':');
                let file = Val::Object(Rc::new(Object::Bytes(data.to_vec())));
                format_bytes(data, &file, verb, spec, out);
            }
            return out.push(if sharp { '}' } else { ']' });
        }
        Object::ApiVersions(capabilities) if verb != 'w' => {
            let sharp = verb == 'v' && spec.syntax;
            out.push_str(if sharp { "common.VersionSet{" } else { "[" });
            let names: Vec<Val> = capabilities
                .api_versions
                .iter()
                .map(|name| name.as_str().into())
                .collect();
            separated(&names, if sharp { ", " } else { " " }, out, |name, out| {
                format_value(name, verb, spec, out);
            });
            return out.push(if sharp { '}' } else { ']' });
        }
        _ => {}
    }
    let mut text = String::new();
    object.print(&mut text);
    match verb {
        'v' | 's' => pad(&text, spec, out),
        'q' => pad(&quote(&text), spec, out),
        'd' if object.as_signed().is_some() => {
            integer(
                value,
                i128::from(object.as_signed().unwrap_or_default()),
                verb,
                spec,
                out,
            );
        }
        _ => bad(value, verb, spec, out),
    }
}

/// Formats `[]byte`: as text under the verbs of text, else each byte as a number.
fn format_bytes(bytes: &[u8], value: &Val, verb: char, spec: &Spec, out: &mut String) {
    match verb {
        's' | 'q' | 'x' | 'X' => string(value, &bytes::text(bytes), verb, spec, out),
        'v' if spec.syntax => {
            out.push_str("[]byte{");
            for (at, byte) in bytes.iter().enumerate() {
                let _ = write!(out, "{}0x{byte:x}", if at > 0 { ", " } else { "" });
            }
            out.push('}');
        }
        _ => {
            out.push('[');
            for (at, byte) in bytes.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                integer(&Val::Byte(*byte), i128::from(*byte), verb, spec, out);
                if out.len() > MAX_TEXT {
                    break;
                }
            }
            out.push(']');
        }
    }
}

fn separated(items: &[Val], between: &str, out: &mut String, mut each: impl FnMut(&Val, &mut String)) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(between);
        }
        each(item, out);
    }
}

fn bad(value: &Val, verb: char, spec: &Spec, out: &mut String) {
    let _ = write!(out, "%!{verb}({}=", value.type_name());
    format_value(value, 'v', spec, out);
    out.push(')');
}

fn pad(text: &str, spec: &Spec, out: &mut String) {
    pad_with(text, spec, spec.zero && !spec.minus, out);
}

fn pad_with(text: &str, spec: &Spec, zeros: bool, out: &mut String) {
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

fn integer(value: &Val, number: i128, verb: char, spec: &Spec, out: &mut String) {
    let magnitude = number.unsigned_abs();
    let digits = match verb {
        'v' | 'd' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        'c' => return pad(&character(number).to_string(), spec, out),
        'q' if spec.plus => return pad(&ascii(&quote_char(character(number))), spec, out),
        'q' => return pad(&quote_char(character(number)), spec, out),
        'U' => {
            // Go shows the bits of a negative number.
            let mut text = format!("U+{:04X}", number as u64);
            if spec.sharp {
                let _ = write!(text, " '{}'", character(number));
            }
            return pad_with(&text, spec, false, out);
        }
        _ => return bad(value, verb, spec, out),
    };
    let prefix = match verb {
        'O' => "0o",
        'o' if spec.sharp => "0",
        'x' if spec.sharp => "0x",
        'X' if spec.sharp => "0X",
        'b' if spec.sharp => "0b",
        _ => "",
    };
    let sign = if number < 0 {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    if spec.precision == Some(0) && number == 0 {
        return pad_with("", spec, false, out);
    }
    let mut least = spec.precision.unwrap_or(0);
    if spec.zero && !spec.minus && spec.precision.is_none() {
        least = spec.width.unwrap_or(0).saturating_sub(sign.len());
    }
    let zeros = "0".repeat(least.saturating_sub(digits.len()));
    pad_with(&format!("{sign}{prefix}{zeros}{digits}"), spec, false, out);
}

/// Escapes what is not ASCII.
fn ascii(quoted: &str) -> String {
    quoted.chars().fold(String::new(), |mut out, c| {
        let _ = match u32::from(c) {
            ..=0x7f => write!(out, "{c}"),
            code @ ..=0xffff => write!(out, "\\u{code:04x}"),
            code => write!(out, "\\U{code:08x}"),
        };
        out
    })
}

fn character(number: i128) -> char {
    u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}')
}

fn float(value: &Val, number: f64, verb: char, spec: &Spec, out: &mut String) {
    let text = match (verb, spec.precision) {
        ('v' | 'g', None) => shortest(number),
        ('G', None) => shortest(number).to_uppercase(),
        ('f' | 'F', precision) => fixed(number, precision.unwrap_or(6)),
        ('e', precision) => exponent(&scientific(number, precision.unwrap_or(6))),
        ('E', precision) => exponent(&scientific(number, precision.unwrap_or(6))).to_uppercase(),
        ('v' | 'g', Some(precision)) => general(number, precision),
        ('G', Some(precision)) => general(number, precision).to_uppercase(),
        ('x', precision) => hexadecimal(number, precision),
        ('X', precision) => hexadecimal(number, precision).to_uppercase(),
        ('b', _) => binary(number),
        _ => return bad(value, verb, spec, out),
    };
    let text = match text.as_str() {
        "inf" => "+Inf".to_owned(),
        "-inf" => "-Inf".to_owned(),
        _ => text,
    };
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if number.is_finite() || text.starts_with('-') || spec.plus => (&text[..1], digits),
        Some(digits) => ("", digits),
        None if spec.plus => ("+", text.as_str()),
        None if spec.space => (" ", text.as_str()),
        None => ("", text.as_str()),
    };
    let digits = if number.is_infinite() && sign.is_empty() {
        "+Inf"
    } else {
        digits
    };
    if spec.zero && !spec.minus && number.is_finite() {
        let least = spec.width.unwrap_or(0).saturating_sub(sign.len());
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        out.push_str(&format!("{sign}{zeros}{digits}"));
    } else {
        pad_with(&format!("{sign}{digits}"), spec, false, out);
    }
}

fn string(value: &Val, text: &str, verb: char, spec: &Spec, out: &mut String) {
    let cut = || match spec.precision {
        Some(precision) => text.chars().take(precision).collect::<String>(),
        None => text.to_owned(),
    };
    match verb {
        'v' if spec.syntax => pad(&quote(text), spec, out),
        'v' | 's' => pad(&cut(), spec, out),
        'q' if spec.sharp && can_backquote(&cut()) => pad(&format!("`{}`", cut()), spec, out),
        'q' if spec.plus => pad(&ascii(&quote(&cut())), spec, out),
        'q' => pad(&quote(&cut()), spec, out),
        'x' | 'X' => {
            let prefix = match (spec.sharp && !text.is_empty(), verb) {
                (true, 'x') => "0x",
                (true, _) => "0X",
                (false, _) => "",
            };
            let mut hex = prefix.to_owned();
            for (at, byte) in bytes::bytes(text)
                .iter()
                .take(spec.precision.unwrap_or(usize::MAX))
                .enumerate()
            {
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
            pad(&hex, spec, out);
        }
        _ => bad(value, verb, spec, out),
    }
}
