//! Writes numbers under a verb.

use std::fmt::Write;

use super::floats::{binary, exponent, fixed, general, hexadecimal, scientific};
use super::verbs::{Spec, ascii, bad, pad, pad_with};
use crate::helm::quote::quote_char;
use crate::helm::value::Val;
use crate::yaml::number::shortest;

pub(super) fn integer(value: &Val, number: i128, verb: char, spec: &Spec, out: &mut String) {
    let magnitude = number.unsigned_abs();
    // In Go's source, numbers without a sign are hexadecimal.
    let prefixed = verb == 'v' && spec.syntax && value.as_unsigned().is_some();
    let mut digits = match verb {
        'v' if prefixed => format!("{magnitude:x}"),
        'v' | 'd' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        'c' => return pad(&character(number).to_string(), spec, out),
        'q' if spec.plus => return pad(&ascii(&quote_char(character(number))), spec, out),
        'q' => return pad(&quote_char(character(number)), spec, out),
        'U' => return code_point(number, spec, out),
        _ => return bad(value, verb, spec, out),
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
    digits.insert_str(0, &"0".repeat(least.saturating_sub(digits.len())));
    let prefix = match verb {
        'O' => "0o",
        'o' if spec.sharp && !digits.starts_with('0') => "0",
        'x' if spec.sharp => "0x",
        'X' if spec.sharp => "0X",
        'b' if spec.sharp => "0b",
        'v' if prefixed => "0x",
        _ => "",
    };
    pad_with(&format!("{sign}{prefix}{digits}"), spec, false, out);
}

fn code_point(number: i128, spec: &Spec, out: &mut String) {
    let width = spec.precision.unwrap_or(4).max(4);
    // Go shows the bits of a negative number.
    let mut text = format!("U+{:0width$X}", number as u64);
    let shown = u32::try_from(number).ok().and_then(char::from_u32);
    if let Some(c) = shown.filter(|c| spec.sharp && quote_char(*c).chars().count() == 3) {
        let _ = write!(text, " '{c}'");
    }
    pad_with(&text, spec, false, out);
}

fn character(number: i128) -> char {
    u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}')
}

pub(super) fn float(value: &Val, number: f64, verb: char, spec: &Spec, out: &mut String) {
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
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("+", text.as_str()),
    };
    let sign = match sign {
        "+" if spec.plus => "+",
        "+" if spec.space => " ",
        "+" => "",
        minus => minus,
    };
    if number.is_nan() {
        return pad_with(&format!("{sign}NaN"), spec, false, out);
    }
    if number.is_infinite() {
        let sign = if sign.is_empty() { "+" } else { sign };
        return pad_with(&format!("{sign}Inf"), spec, false, out);
    }
    let mut digits = digits.to_owned();
    if spec.sharp && verb != 'b' {
        digits = with_point(&digits, verb, spec.precision);
    }
    if spec.zero && !spec.minus {
        let least = spec.width.unwrap_or(0).saturating_sub(sign.len());
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let _ = write!(out, "{sign}{zeros}{digits}");
    } else {
        pad_with(&format!("{sign}{digits}"), spec, false, out);
    }
}

/// Gives a number its point, and where its digits are counted the zeros at its end.
fn with_point(number: &str, verb: char, precision: Option<usize>) -> String {
    let is_hexadecimal = matches!(verb, 'x' | 'X');
    let tail = number.find(|c| matches!(c, 'p' | 'P') || (!is_hexadecimal && matches!(c, 'e' | 'E')));
    let (mantissa, tail) = number.split_at(tail.unwrap_or(number.len()));
    let mut missing = match verb {
        'v' | 'g' | 'G' | 'x' => precision.unwrap_or(6),
        _ => 0,
    };
    let significant = mantissa
        .chars()
        .filter(|c| *c != '.')
        .skip_while(|c| *c == '0')
        .count();
    missing = missing.saturating_sub(significant);
    let mut out = mantissa.to_owned();
    if !mantissa.contains('.') {
        if mantissa == "0" {
            missing = missing.saturating_sub(1);
        }
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', missing));
    out.push_str(tail);
    out
}
